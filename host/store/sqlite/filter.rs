//! A page of the tasks that pass a filter.

use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{Connection, ToSql};

use super::columns::{self, COLUMNS};
use super::rows::{self, many};
use crate::store::Filter;
use crate::store::filter::{Bound, Conditions};
use crate::task::{Status, Task};

/// Whether a member of the metadata is a text, a number or a truth value that is written so.
pub const MEMBER: &str =
    "exists (select 1 from json_each(metadata) where key = :member and case type
  when 'true' then 'true' when 'false' then 'false' else cast(atom as text) end = :value)";

impl ToSql for Bound {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Bound::Text(text) => text.to_sql(),
            Bound::Id(id) => Ok(ToSqlOutput::Owned(Value::Integer(id.to_i64()))),
            Bound::Number(rows) => {
                let rows = i64::try_from(*rows).unwrap_or(i64::MAX);
                Ok(ToSqlOutput::Owned(Value::Integer(rows)))
            }
        }
    }
}

/// What is bound to the conditions of a filter.
pub fn bound(conditions: &Conditions) -> Vec<(&str, &dyn ToSql)> {
    let bound = conditions.bound().iter();
    bound
        .map(|(name, bound)| (*name, bound as &dyn ToSql))
        .collect()
}

/// The statement that finds a page of the tasks that pass a filter.
fn statement(filter: &Filter) -> (Conditions, String) {
    let mut conditions = Conditions::of(filter, MEMBER);
    let order = match filter.parent {
        None => "id desc",
        Some(_) => "sequence, id",
    };
    if let Some(after) = filter.after {
        conditions.after(after, filter.parent.is_some());
    }
    // Few run: to sort them is less than to look through all that ever did. SQLite thinks otherwise.
    let only_running = filter.statuses == [Status::Running].into_iter().collect();
    let table = match only_running && filter.parent.is_none() {
        true => "tasks indexed by tasks_running",
        false => "tasks",
    };
    let page = conditions.page(filter);
    let sql = format!(
        "select {COLUMNS} from {table} where {} order by {order} {page}",
        conditions.text()
    );
    (conditions, sql)
}

/// Tasks that pass a filter, a page of them.
pub fn list(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Task>> {
    let (conditions, sql) = statement(filter);
    let found = many(
        connection,
        &sql,
        bound(&conditions).as_slice(),
        columns::task,
    )?;
    let mut room = filter.bytes_max.unwrap_or(u64::MAX);
    let mut page = Vec::with_capacity(found.len());
    for (mut task, spilled) in found {
        if filter.brief {
            rows::fill_group(connection, &mut task, spilled)?;
        } else {
            rows::fill(connection, &mut task, spilled)?;
        }
        room = room.saturating_sub(task.payload_bytes());
        page.push(task);
        if room == 0 {
            break;
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GroupKind;
    use crate::store::sqlite::schema::tests::migrated;

    #[test]
    fn a_name_is_looked_up_in_an_index_and_not_in_all_groups() {
        let connection = migrated();
        let filter = Filter {
            group: Some(GroupKind::Workflow),
            group_name: Some("nightly".to_owned()),
            limit: 4,
            ..Filter::default()
        };
        let (conditions, sql) = statement(&filter);
        let mut plan = connection
            .prepare(&format!("explain query plan {sql}"))
            .unwrap();
        let steps = plan.query_map(bound(&conditions).as_slice(), |row| row.get(3));
        let steps: Vec<String> = steps.unwrap().map(Result::unwrap).collect();
        let steps = steps.join("\n");
        assert!(
            steps.contains("INDEX groups_named (name=? AND kind=?)"),
            "{steps}"
        );
        assert!(!steps.contains("SCAN"), "{steps}");
    }
}
