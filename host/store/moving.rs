//! Moving a database from one engine to another: what the two say to each other.

use super::StoreError;

/// A value, whatever it means.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A number, or yes and no.
    Int(i64),
    /// A number with a fraction.
    Real(f64),
    /// Text.
    Text(String),
}

/// Rows of one table.
pub type Page = Vec<Vec<Cell>>;

/// A database that is moved. Nobody writes to it meanwhile.
pub trait Origin {
    /// The columns of a table.
    fn columns(&self, table: &str) -> Result<Vec<String>, StoreError>;
    /// Rows of a table, by those of its columns: at most `limit`, after as many as `skip`.
    fn page(
        &self,
        table: &str,
        columns: &[String],
        skip: usize,
        limit: usize,
    ) -> Result<Page, StoreError>;
}

/// The tables that a database is moved by. Hosts, what they have loaded and their leases stay: they
/// begin anew where they serve next.
pub const TABLES: &[&str] = &[
    "tasks",
    "payloads",
    "waits",
    "edges",
    "journal",
    "attempts",
    "logs",
    "checkpoints",
    "steps",
    "phase_waits",
    "groups",
    "sources",
    "producers",
    "signals",
    "arrivals",
    "exchanges",
    "histories",
    "counters",
    "remainders",
    "unfinished",
    "queues",
    "schedules",
    "secrets",
    "named_secrets",
    "secret_state",
];
