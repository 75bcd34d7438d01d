//! A database that comes from elsewhere: all of it, in one transaction, into one that has no tasks.

use std::collections::HashMap;

use super::address::Address;
use super::settings::Session;
use super::sql::{Link, Names, Value, named};
use super::{columns, engine, schema};
use crate::store::StoreError;
use crate::store::moving::{Cell, Origin, Page, TABLES};
use crate::store::text::storable;

/// Rows that one statement brings.
const PAGE: usize = 2_000;

/// Fill an empty database with all that another has; `told` hears how many rows have come.
pub fn fill(address: &Address, from: &dyn Origin, told: &dyn Fn(u64)) -> Result<u64, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StoreError::Failed {
            why: error.to_string(),
        })?;
    let link = engine::connect(
        address,
        &runtime.into(),
        &Names::default(),
        engine::AWAY_VISITOR,
        Session::Moving,
    )?;
    schema::migrate(&link, &address.place)?;
    link.plain("begin isolation level read committed")?;
    let filled = fill_locked(&link, address, from, told);
    match &filled {
        Ok(_) => link.plain("commit")?,
        Err(_) => {
            let _ = link.plain("rollback");
        }
    }
    filled
}

fn fill_locked(
    link: &Link,
    address: &Address,
    from: &dyn Origin,
    told: &dyn Fn(u64),
) -> Result<u64, StoreError> {
    link.plain(engine::ALONE)?;
    if link
        .one("select 1 from tasks limit 1", named! {}, |_| Ok(()))?
        .is_some()
    {
        return Err(StoreError::Server {
            what: format!("{} has tasks already", address.place),
            hint: Some("name another database: one moves into an empty one only".to_owned()),
            passing: false,
        });
    }
    // Its own has not been drawn from. Runs in progress go on with those that come along.
    link.change("delete from secrets", named! {})?;
    // Placeholders stay the same, and so does the key of named secrets.
    for table in ["named_secrets", "secret_state"] {
        link.change(&format!("delete from {table}"), named! {})?;
    }
    let mut moved = 0;
    for table in TABLES {
        let types = types(link, table)?;
        // What is new there has its default; what is gone here is not missed.
        let known: Vec<String> = (from.columns(table)?.into_iter())
            .filter(|column| types.contains_key(column))
            .collect();
        let sql = insert(table, &known, &types);
        for turn in 0.. {
            let rows = from.page(table, &known, turn * PAGE, PAGE)?;
            let count = rows.len();
            if count > 0 {
                put(link, &sql, known.len(), rows)?;
            }
            moved += count as u64;
            told(moved);
            if count < PAGE {
                break;
            }
        }
    }
    Ok(moved)
}

fn types(link: &Link, table: &str) -> Result<HashMap<String, String>, StoreError> {
    const SQL: &str = "\
        select column_name::text, data_type::text
        from information_schema.columns
        where table_schema = :schema and table_name = :table";
    let values = named! { "schema": schema::SCHEMA, "table": table };
    let found = link.many(SQL, values, |row| {
        Ok((columns::get(row, 0)?, columns::get(row, 1)?))
    })?;
    Ok(found.into_iter().collect())
}

fn insert(table: &str, known: &[String], types: &HashMap<String, String>) -> String {
    let arrays: Vec<String> = (known.iter().enumerate())
        .map(|(at, column)| format!(":c{at}::{}[]", types[column]))
        .collect();
    let (mut into, mut select) = (known.join(", "), "*");
    // Those that counted there are one to those that count here.
    if table == "counters" {
        into = format!("node, {into}");
        select = "0, *";
    }
    format!(
        "insert into {table} ({into})
         select {select} from unnest({})",
        arrays.join(", ")
    )
}

fn put(link: &Link, sql: &str, width: usize, rows: Page) -> Result<(), StoreError> {
    let mut lists: Vec<Vec<Value>> = vec![Vec::with_capacity(rows.len()); width];
    for row in rows {
        for (list, cell) in lists.iter_mut().zip(row) {
            list.push(match cell {
                Cell::Null => Value::Null,
                Cell::Int(value) => Value::Int(value),
                Cell::Real(value) => Value::Real(value),
                // A log of earlier versions may have the one character that is not kept.
                Cell::Text(text) => (&*storable(&text)).into(),
            });
        }
    }
    let names: Vec<String> = (0..width).map(|at| format!("c{at}")).collect();
    let values: Vec<(&str, Value)> = (names.iter())
        .map(String::as_str)
        .zip(lists.into_iter().map(Value::List))
        .collect();
    link.change(sql, &values).map(|_| ())
}
