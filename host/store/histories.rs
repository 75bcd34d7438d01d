//! Histories: journals of ended runs, which are kept for a while so that people can read them.
//!
//! The duration is one setting of the database, so that any process that ends a run keeps its journal, not only a host.
//! The host that started last has set it.

/// How long a history is kept, in milliseconds; none if none is. This and the following statements are the same for
/// both engines.
pub const KEEP: &str = "\
    select keep_ms
    from history_keep
    where only_row = 1";

/// Sets the duration.
pub const SET_KEEP: &str = "\
    insert into history_keep (only_row, keep_ms)
    values (1, :keep_ms)
    on conflict (only_row) do update set keep_ms = excluded.keep_ms";

/// Keeps the journal of a run from now on.
pub const ADD: &str = "\
    insert into histories (task_id, run, ended_at_ms)
    values (:task, :run, :now_ms)
    on conflict do nothing";

/// Runs that have ended before a time, the oldest first.
pub const ENDED: &str = "\
    select task_id, run
    from histories
    where ended_at_ms <= :before_ms
    order by ended_at_ms, task_id, run
    limit :limit";

/// The earliest end of a run whose journal is kept.
pub const FIRST: &str = "select min(ended_at_ms) from histories";

/// Forgets that the journal of a run is kept.
pub const FORGET: &str = "\
    delete from histories
    where task_id = :task and run = :run";

/// The histories that a transaction has deleted, and when to delete more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoriesDropped {
    /// How many runs have lost their history.
    pub runs: u64,
    /// When to delete more, in milliseconds since the Unix epoch: now, if the transaction had no room for all. None
    /// while no history is kept.
    pub next_ms: Option<u64>,
}
