//! All that a file has, table by table, for whoever moves it elsewhere.

use rusqlite::types::ValueRef;

use super::SqliteStore;
use crate::store::StoreError;
use crate::store::moving::{Cell, Origin, Page};

impl Origin for SqliteStore {
    fn columns(&self, table: &str) -> Result<Vec<String>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare("select name from pragma_table_info(:table)")?;
            statement
                .query_map([table], |row| row.get(0))?
                .collect::<Result<_, _>>()
        })
    }

    fn page(
        &self,
        table: &str,
        columns: &[String],
        skip: usize,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let key = match columns.iter().any(|column| column == "task_id") {
            true => "task_id",
            false => columns.first().map_or("1", String::as_str),
        };
        let rest = columns.join(", ");
        let sql = format!(
            "select {rest} from {table} order by {key}, {rest} limit {limit} offset {skip}"
        );
        self.read(|connection| {
            let mut statement = connection.prepare(&sql)?;
            let cell = |value: ValueRef<'_>| match value {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(value) => Cell::Int(value),
                ValueRef::Real(value) => Cell::Real(value),
                ValueRef::Text(text) | ValueRef::Blob(text) => {
                    Cell::Text(String::from_utf8_lossy(text).into_owned())
                }
            };
            statement
                .query_map([], |row| {
                    (0..columns.len())
                        .map(|at| row.get_ref(at).map(cell))
                        .collect()
                })?
                .collect::<Result<_, _>>()
        })
    }
}
