//! Trees that are written by hand.

use fishway::store::sqlite::FILE_NAME;
use rusqlite::Connection;

use crate::support::place::Place;

/// A database of which the rows are written by hand. The ids are small numbers: task 1 is called
/// `0000000000001`.
pub struct Rows {
    pub place: Place,
    pub connection: Connection,
    columns: Vec<String>,
}

/// The columns of a task that completed.
pub const COMPLETED: &[(&str, &str)] = &[
    ("status", "'completed'"),
    ("started_at_ms", "0"),
    ("ended_at_ms", "45000"),
];

/// The columns of a task that failed.
pub const FAILED: &[(&str, &str)] = &[
    ("status", "'failed'"),
    ("started_at_ms", "0"),
    ("ended_at_ms", "150000"),
    (
        "failure",
        r#"'{"kind":"handler","message":"Connection timeout","retryable":false}'"#,
    ),
];

impl Rows {
    pub fn new() -> Rows {
        let place = Place::new();
        // All other rows are this one with other values.
        place.run(&["submit", "item", "1"]).ok();
        let connection = Connection::open(place.path(".fishway").join(FILE_NAME)).unwrap();
        let columns = connection
            .prepare("select name from pragma_table_info('tasks')")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        Rows {
            place,
            connection,
            columns,
        }
    }

    /// Add `count` tasks. The values are SQL, in which `i` counts from 1.
    pub fn add(&self, count: u32, values: &[&[(&str, &str)]]) {
        // They are made by hand, so none has the checksum of what it was copied from.
        let values = [&[("checksum", "null")], &values.concat()[..]].concat();
        let value = |column: &String| {
            let given = values.iter().rev().find(|(name, _)| name == column);
            given.map_or(format!("tasks.{column}"), |(_, sql)| (*sql).to_owned())
        };
        let names = self.columns.join(", ");
        let chosen: Vec<String> = self.columns.iter().map(value).collect();
        let sql = format!(
            "with recursive numbers (i) as (
               select 1 union all select i + 1 from numbers where i < {count}
             )
             insert into tasks ({names})
             select {} from numbers, (select * from tasks order by id desc limit 1) tasks",
            chosen.join(", ")
        );
        self.connection.execute(&sql, []).unwrap();
    }

    /// Add a child of a task.
    pub fn child(&self, id: &str, parent: &str, values: &[&[(&str, &str)]]) {
        let kin = [("id", id), ("parent_id", parent), ("sequence", id)];
        self.add(1, &[values, &[&kin[..]]].concat());
    }

    /// A root with so many children.
    pub fn wide(count: u32) -> Rows {
        let rows = Rows::new();
        rows.add(1, &[&[("id", "1")]]);
        let child = [("id", "1 + i"), ("parent_id", "1"), ("sequence", "i")];
        rows.add(count, &[&child, &[("depth", "1"), ("scope_id", "1")]]);
        rows
    }

    /// A root, its child, the child of that, and so on.
    pub fn deep(count: u32) -> Rows {
        let rows = Rows::new();
        rows.add(1, &[&[("id", "1")]]);
        let child = [("id", "1 + i"), ("parent_id", "i"), ("sequence", "1")];
        rows.add(count, &[&child, &[("depth", "i"), ("scope_id", "1")]]);
        rows
    }

    pub fn trace(&self, id: &str, arguments: &[&str]) -> String {
        self.place.run(&[&["trace", id], arguments].concat()).ok()
    }
}
