//! The statements of writes that are gathered ([`super`]): what columns each has, and what it does with
//! them.

use std::sync::LazyLock;

/// Names for as many columns as any statement has.
pub const NAMES: [&str; 48] = [
    "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "c10", "c11", "c12", "c13", "c14",
    "c15", "c16", "c17", "c18", "c19", "c20", "c21", "c22", "c23", "c24", "c25", "c26", "c27",
    "c28", "c29", "c30", "c31", "c32", "c33", "c34", "c35", "c36", "c37", "c38", "c39", "c40",
    "c41", "c42", "c43", "c44", "c45", "c46", "c47",
];

/// A column and its type.
pub type Columns = &'static [(&'static str, &'static str)];

const B: &str = "bigint";
const T: &str = "text";
const YES: &str = "boolean";

pub const TASKS: Columns = &[
    ("id", B),
    ("parent_id", B),
    ("origin_id", B),
    ("place_run", B),
    ("place_call", B),
    ("place_index", B),
    ("content", B),
    ("sequence", B),
    ("retry_of", B),
    ("depth", B),
    ("handler", T),
    ("digest", T),
    ("key", T),
    ("queue", T),
    ("priority", B),
    ("input", T),
    ("spilled", B),
    ("failure", T),
    ("timeout_ms", B),
    ("attempts_max", B),
    ("on_complete", T),
    ("status", T),
    ("phase", T),
    ("attempt", B),
    ("restarts", B),
    ("fence", B),
    ("run", B),
    ("blocked_by", B),
    ("run_at_ms", B),
    ("expires_at_ms", B),
    ("cancel_requested", YES),
    ("created_at_ms", B),
    ("ended_at_ms", B),
    ("spent_ms", B),
    ("checksum", B),
    ("kind", T),
    ("scope_id", B),
    ("gate_id", B),
    ("member", YES),
    ("metadata", T),
    ("optional", YES),
    ("producer", T),
    ("ends_by_ms", B),
    ("terms", T),
];

pub const SAVES: Columns = &[
    ("id", B),
    ("checksum", B),
    ("digest", T),
    ("phase_input", T),
    ("output", T),
    ("spilled", B),
    ("failure", T),
    ("attempts_max", B),
    ("status", T),
    ("phase", T),
    ("attempt", B),
    ("restarts", B),
    ("fence", B),
    ("run", B),
    ("blocked_by", B),
    ("run_at_ms", B),
    ("expires_at_ms", B),
    ("cancel_requested", YES),
    ("wait", T),
    ("wait_until_ms", B),
    ("progress", T),
    ("started_at_ms", B),
    ("run_at_start_ms", B),
    ("secret_number", B),
    ("ended_at_ms", B),
    ("spent_ms", B),
    ("written", B),
    ("producer", T),
    ("ends_by_ms", B),
    ("terms", T),
    ("host", B),
];

pub const GROUPS: Columns = &[
    ("task_id", B),
    ("scope_id", B),
    ("kind", T),
    ("name", T),
    ("on_failure", T),
    ("concurrency", B),
    ("closed", YES),
    ("sources", B),
    ("live", B),
    ("spawned", B),
    ("completed", B),
    ("failed", B),
    ("cancelled", B),
    ("tolerated", B),
    ("skipped", B),
    ("spec", T),
    ("sealed", YES),
    ("output_bytes", B),
    ("expected", B),
    ("paused", YES),
    ("pace", T),
    ("checksum", B),
];

pub const PAYLOADS: Columns = &[("task_id", B), ("kind", B), ("body", T), ("checksum", B)];
pub const WAITS: Columns = &[
    ("target_id", B),
    ("waiter_id", B),
    ("stamp", B),
    ("wanted", B),
];
pub const EDGES: Columns = &[
    ("upstream_id", B),
    ("downstream_id", B),
    ("position", B),
    ("key", T),
    ("condition", T),
    ("optional", YES),
];
pub const SOURCES: Columns = &[
    ("task_id", B),
    ("group_id", B),
    ("run", B),
    ("drained", YES),
    ("declared", YES),
    ("producer", YES),
];
pub const JOURNAL: Columns = &[
    ("task_id", B),
    ("run", B),
    ("number", B),
    ("call", T),
    ("answer", T),
    ("at_ms", B),
    ("checksum", B),
];
pub const ATTEMPTS: Columns = &[
    ("task_id", B),
    ("run", B),
    ("phase", T),
    ("attempt", B),
    ("started_at_ms", B),
    ("ended_at_ms", B),
    ("failure", T),
    ("checksum", B),
];
pub const LOGS: Columns = &[
    ("task_id", B),
    ("run", B),
    ("line", B),
    ("at_ms", B),
    ("level", T),
    ("message", T),
    ("checksum", B),
];
pub const STEPS: Columns = &[
    ("task_id", B),
    ("name", T),
    ("value", T),
    ("run", B),
    ("began", B),
    ("completed", B),
    ("at_ms", B),
    ("log_lines", B),
    ("log_bytes", B),
    ("checksum", B),
];

pub const CHECKPOINTS: Columns = &[("task_id", B), ("name", T), ("value", T), ("checksum", B)];
pub const PHASE_WAITS: Columns = &[
    ("task_id", B),
    ("after", T),
    ("timeout_ms", B),
    ("timed_out", YES),
    ("checksum", B),
];
pub const ARRIVALS: Columns = &[
    ("task_id", B),
    ("run", B),
    ("number", B),
    ("exchange", B),
    ("value", T),
    ("start_bytes", B),
    ("end_bytes", B),
    ("checksum", B),
];
pub const EXCHANGES: Columns = &[("task_id", B), ("run", B), ("number", B), ("host", B)];
pub const COUNTERS: Columns = &[
    ("node", B),
    ("name", T),
    ("labels", T),
    ("value", "double precision"),
];

/// Inserts a row for each element of the arrays; `rest` is what follows.
fn insert(table: &str, columns: Columns, rest: &str) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    format!(
        "insert into {table} ({})
         select * from unnest({})
         {rest}",
        names.join(", "),
        arrays(columns)
    )
}

fn arrays(columns: Columns) -> String {
    let arrays = columns.iter().zip(NAMES);
    let arrays: Vec<String> = arrays
        .map(|((_, of), name)| format!(":{name}::{of}[]"))
        .collect();
    arrays.join(", ")
}

/// How long the host goes first on which a task has waited: its instance may still be in memory there.
const HOME_MS: u64 = 1_000;

pub static INSERT_TASKS: LazyLock<String> = LazyLock::new(|| insert("tasks", TASKS, ""));

pub static SAVE_TASKS: LazyLock<String> = LazyLock::new(|| {
    // Payloads are written when they are new; what else a task is made of never changes. One that
    // waits stays with the host that has its instance.
    let names: Vec<&str> = SAVES.iter().map(|(name, _)| *name).collect();
    format!(
        "update tasks set
           digest = new.digest, checksum = coalesce(new.checksum, tasks.checksum),
           phase_input = case when new.written & 2 <> 0 then new.phase_input else tasks.phase_input end,
           output = case when new.written & 4 <> 0 then new.output else tasks.output end,
           spilled = (tasks.spilled & ~new.written) | new.spilled,
           failure = new.failure, attempts_max = new.attempts_max, status = new.status,
           phase = new.phase, attempt = new.attempt, restarts = new.restarts, fence = new.fence,
           run = new.run, blocked_by = new.blocked_by, run_at_ms = new.run_at_ms,
           expires_at_ms = new.expires_at_ms, cancel_requested = new.cancel_requested,
           wait = new.wait, wait_until_ms = new.wait_until_ms, progress = new.progress,
           started_at_ms = new.started_at_ms, run_at_start_ms = new.run_at_start_ms,
           secret_number = new.secret_number,
           ended_at_ms = new.ended_at_ms, spent_ms = new.spent_ms, producer = new.producer,
           ends_by_ms = new.ends_by_ms, terms = new.terms,
           host = case
             when new.status = 'running' and tasks.status <> 'running' then new.host
             when new.status in ('running', 'waiting') then tasks.host
             when new.status = 'pending' and tasks.status = 'waiting' then tasks.host
           end,
           home_until_ms = case
             when new.status = 'pending' and tasks.status = 'waiting' and tasks.host is not null
             then :now::bigint + {HOME_MS}
           end
         from unnest({}) as new ({})
         where tasks.id = new.id",
        arrays(SAVES),
        names.join(", ")
    )
});

pub static SAVE_GROUPS: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (task_id) do update set
      spec = excluded.spec, checksum = excluded.checksum, closed = excluded.closed, sources = excluded.sources, live = excluded.live,
      spawned = excluded.spawned, completed = excluded.completed, failed = excluded.failed,
      cancelled = excluded.cancelled, tolerated = excluded.tolerated, skipped = excluded.skipped, sealed = excluded.sealed,
      output_bytes = excluded.output_bytes, paused = excluded.paused, pace = excluded.pace";
    insert("groups", GROUPS, rest)
});

pub static SAVE_PAYLOADS: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (task_id, kind) do update
      set body = excluded.body, checksum = excluded.checksum";
    insert("payloads", PAYLOADS, rest)
});

pub static SAVE_WAITS: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (target_id, waiter_id) do update
      set stamp = excluded.stamp, wanted = excluded.wanted";
    insert("waits", WAITS, rest)
});

pub const DROP_WAITS: &str = "\
    delete from waits
    using unnest(:c0::bigint[], :c1::bigint[]) as old (target_id, waiter_id)
    where waits.target_id = old.target_id and waits.waiter_id = old.waiter_id";

pub static ADD_EDGES: LazyLock<String> =
    LazyLock::new(|| insert("edges", EDGES, "on conflict do nothing"));

pub static SAVE_SOURCES: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (task_id, group_id) do update
      set run = excluded.run, drained = excluded.drained";
    insert("sources", SOURCES, rest)
});

pub static ADD_JOURNAL: LazyLock<String> =
    LazyLock::new(|| insert("journal", JOURNAL, "on conflict do nothing"));

pub static ADD_ATTEMPTS: LazyLock<String> =
    LazyLock::new(|| insert("attempts", ATTEMPTS, "on conflict do nothing"));

pub static ADD_LOGS: LazyLock<String> =
    LazyLock::new(|| insert("logs", LOGS, "on conflict do nothing"));

pub static SAVE_CHECKPOINTS: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (task_id, name) do update
      set value = excluded.value, checksum = excluded.checksum";
    insert("checkpoints", CHECKPOINTS, rest)
});

pub static SAVE_STEPS: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (task_id, name) do update
      set value = excluded.value, run = excluded.run, began = excluded.began,
        completed = excluded.completed, at_ms = excluded.at_ms, log_lines = excluded.log_lines,
        log_bytes = excluded.log_bytes, checksum = excluded.checksum";
    insert("steps", STEPS, rest)
});

pub static SAVE_PHASE_WAITS: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (task_id) do update
      set after = excluded.after, timeout_ms = excluded.timeout_ms,
        timed_out = excluded.timed_out, checksum = excluded.checksum";
    insert("phase_waits", PHASE_WAITS, rest)
});

pub static ADD_ARRIVALS: LazyLock<String> = LazyLock::new(|| insert("arrivals", ARRIVALS, ""));

pub static SAVE_EXCHANGES: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (task_id, run, number) do update
      set host = excluded.host";
    insert("exchanges", EXCHANGES, rest)
});

pub const DROP_EXCHANGES: &str = "\
    delete from exchanges
    using unnest(:c0::bigint[], :c1::bigint[], :c2::bigint[]) as old (task_id, run, number)
    where exchanges.task_id = old.task_id and exchanges.run = old.run and exchanges.number = old.number";

pub static ADD_COUNTS: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (node, name, labels) do update
      set value = counters.value + excluded.value";
    insert("counters", COUNTERS, rest)
});

pub const DROP_JOURNALS: &str = "delete from journal where task_id = any(:ids)";

pub const DROP_STEPS: &str = "delete from steps where task_id = any(:ids)";

pub const DROP_PHASE_WAITS: &str = "delete from phase_waits where task_id = any(:ids)";

pub const DROP_SIGNALS: &str = "delete from signals where task_id = any(:ids)";
