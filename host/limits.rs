//! What a handler may use, and how often it is tried: bounds, grants and retry policy.
//!
//! Pure values. `loader::manifest` reads them from `NAME.toml`, the executor enforces them, the
//! state machine asks them for the delay before the next attempt. Nothing here reads a file,
//! a clock or a random source.
//!
//! There is a bound on everything, and each bound has its reason beside it.

mod addresses;
mod gates;
mod http;
mod outbound;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use self::addresses::may_be_named;
pub use self::gates::{Holder, Share, share, turns};
pub use self::http::{
    HTTP_ATTEMPTS_MAX, HTTP_BACKOFF_MS_MAX, HTTP_GRANTS_MAX, HTTP_HEADERS_MAX, HTTP_LIVE_BYTES_MAX,
    HTTP_PATHS_MAX, HTTP_RATE_MS_MAX, HTTP_RATE_REQUESTS_MAX, HTTP_RECORDED_REQUEST_BYTES_MAX,
    HTTP_RECORDED_RESPONSE_BYTES_MAX, HTTP_TIMEOUT_MS_MAX, HTTP_WORDS_MAX, HeaderProblem,
    HostPattern, HttpGrant, HttpOrigin, HttpRate, HttpRetry, NoGrant, Target, is_secret_name,
    of_the_connection, secrets_of, wrong_header, wrong_prefix,
};
pub use self::outbound::{OutboundHost, WrongHost};

/// Largest JSON document that goes in or comes out of a task, in bytes. Larger data belongs in a
/// granted directory or an object store, with its name in the payload.
pub const PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// Deepest nesting of a JSON document. Deeper ones only serve to exhaust a parser's stack.
pub const JSON_DEPTH_MAX: usize = 128;

/// Longest failure message kept, in bytes; the rest is cut and the cut is said.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// Longest metadata of a task, in bytes.
pub const METADATA_BYTES_MAX: usize = 16 << 10;

/// Longest name of a handler, queue, phase or key, in bytes.
pub const NAME_BYTES_MAX: usize = 200;

/// Largest component or manifest that the loader reads, in bytes.
pub const COMPONENT_BYTES_MAX: u64 = 128 << 20;

/// Largest manifest that the loader reads, in bytes.
pub const MANIFEST_BYTES_MAX: u64 = 256 << 10;

/// Largest function of a component, in bytes of its code. What the compiler takes for one function
/// grows faster than its size, and cannot be interrupted; the largest in use, the interpreter loop of
/// CPython, has 430 KB.
pub const FUNCTION_BYTES_MAX: u64 = 1 << 20;

/// Largest handler as text, in bytes. The text takes some 60 times its size in memory while it is assembled.
pub const TEXT_BYTES_MAX: u64 = 8 << 20;

/// Longest processor time that compiling one component may take, in seconds. The largest that is allowed takes
/// about two minutes; a slow or busy machine counts for nothing.
pub const COMPILE_CPU_SECONDS_MAX: u64 = 300;

/// Longest time that compiling one component may take by the clock, in seconds: no computation, but a process
/// that is stopped, or a machine that does nothing but swap.
pub const COMPILE_WALL_SECONDS_MAX: u64 = 3_600;

/// Memory that compiling a component of no size may take, in bytes. CPython takes some 250 MiB beyond what its
/// size gives it.
pub const COMPILE_BYTES_MIN: u64 = 256 << 20;

/// More memory for each byte of the component. What compiles takes less than 20.
pub const COMPILE_BYTES_PER_BYTE: u64 = 32;

/// Most memory that compiling any component may take, in bytes.
pub const COMPILE_BYTES_MAX: u64 = 2 << 30;

/// Most compiled code of one component, in bytes: the host reads all of it into memory.
pub const CODE_BYTES_MAX: u64 = 512 << 20;

/// Core modules that one instance of a component may consist of. Python with all of numpy has some 40.
pub const CORE_INSTANCES_MAX: u32 = 500;

/// Linear memories of one instance. Each component has one; the engine reserves 4 GiB of address space for each.
pub const MEMORIES_MAX: u32 = 4;

/// Tables of one instance. Each component has two; the engine reserves 8 MB of address space for each.
pub const TABLES_MAX: u32 = 8;

/// Most elements of one table, whatever a manifest says: the engine reserves room for that many.
pub const TABLE_ELEMENTS_MAX: usize = 1_000_000;

/// Largest linear memory, in bytes, whatever a manifest says.
pub const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// Memory of the host for one instance, besides its memories and tables, in bytes: functions, imports and globals
/// of its core modules. CPython has 1 MB.
pub const INSTANCE_BYTES_MAX: usize = 16 << 20;

/// Rows that one transaction makes or changes before it leaves the rest of its work to the next one. All
/// transactions of a database stand in one line, so this is what a task waits for that somebody else's
/// large request stands before: some tenths of a second. What follows from one transition for more tasks
/// than that is kept as unfinished work; a verb that cannot be cut in two may go beyond. No record depends on it: a
/// replay goes by what was recorded, so another version may have another number here.
pub const TRANSACTION_ROWS: usize = 10_000;

/// The same in bytes of inputs: what a disk takes in about that time, and what is in memory until then.
pub const TRANSACTION_BYTES: usize = 16 << 20;

/// Most tasks that one task may start after. Each is a row, and each is looked at when the task is made
/// and when its upstream ends. A workflow has a bound of its own, see [`WORKFLOW_DEPENDENCIES_MAX`].
pub const AFTER_MAX: usize = 1_000;

/// Most rows that one request or one host call may ask for: a task is one, and each task that it starts
/// after is one more. They are made in many transactions, but their ids are in one answer.
pub const REQUEST_ROWS_MAX: usize = 1_000_000;

/// Most inputs of one bulk request over HTTP: they and the ids that answer them are in memory at once.
pub const INPUTS_MAX: usize = 100_000;

/// Most tasks that one wait of a handler may name. Their rows are made in one transaction: a wait that is
/// only half written could miss an end.
pub const AWAITED_MAX: usize = 100_000;

/// Most tasks that one wait over HTTP may name: all of them are in its answer.
pub const AWAITED_PER_REQUEST_MAX: usize = 10_000;

/// Payloads of one page of tasks, in bytes: with the task that reaches this a page ends, though it may have
/// more tasks. Each is in memory three times while the answer is made.
pub const PAGE_PAYLOAD_BYTES: u64 = 4 << 20;

/// Outcomes that a host reads at once for a call of a handler, in bytes of their payloads: with the one that
/// reaches this a piece ends. What is read counts against the memory of the host before the next piece is.
pub const OUTCOMES_BYTES: u64 = 1 << 20;

/// Ids of child tasks that one look at a task names. It may have a million; the others are listed in pages.
pub const CHILD_IDS_MAX: u64 = 1_000;

/// Largest document of a workflow, in bytes.
pub const WORKFLOW_BYTES_MAX: usize = 64 << 20;

/// Most jobs of a workflow. All of them are made in one transaction, so that nobody sees half a workflow, and for so
/// long nothing else is written: as many as [`TRANSACTION_ROWS`]. What runs one handler for very many inputs is a
/// map, a generator or a batch job, whose parts are made in many transactions.
pub const WORKFLOW_JOBS_MAX: usize = 10_000;

/// Most dependencies of all jobs of a workflow together, for the same reason: each is a row, and a small one.
pub const WORKFLOW_DEPENDENCIES_MAX: usize = 50_000;

/// Most bytes in the payloads of all jobs of a workflow together. A payload that all of them share
/// counts for each: each has a row, and all of them are in memory until their transaction is on disk.
pub const WORKFLOW_INPUT_BYTES_MAX: usize = 64 << 20;

/// Most mistakes in one document that are told one by one.
pub const PROBLEMS_MAX: usize = 1_000;

/// Longest delay, timeout or wait, in milliseconds: ten years. Keeps sums of times from overflowing.
pub const DURATION_MS_MAX: u64 = 10 * 366 * 24 * 3_600_000;

/// The latest time that a task may be scheduled for: the end of the year 9999, in milliseconds since the Unix epoch.
/// Later ones have no four digits for people.
pub const TIME_MS_MAX: u64 = 253_402_300_799_999;

/// How long a task that was cancelled in a wait may take until a host has begun to run it, in milliseconds. It undoes
/// its steps then. While its queue is paused, or no host serves, it cannot, and is not to hang for ever.
pub const CANCEL_HEARD_MS: u64 = 60_000;

/// Most units of one job: their rows are a database of several gigabytes.
pub const JOB_UNITS_MAX: u64 = 10_000_000;

/// Longest text that says where the units of a job come from, in bytes: as long as a path may be.
pub const SOURCE_BYTES_MAX: usize = 4 << 10;

/// Largest number of a line at which a unit of a job begins: what every reader of JSON can count to.
pub const JOB_LINE_MAX: u64 = (1 << 53) - 1;

/// Largest list of units that comes by standard input, which is kept in memory, in bytes. A larger one
/// is read from a file.
pub const JOB_STDIN_BYTES_MAX: usize = 1 << 30;

/// Most attempts that a task may ask for.
pub const ATTEMPTS_MAX: u32 = 1_000;

/// Most tasks of one queue that a limit may let run at once. More than any host has slots; a larger
/// number is a mistake.
pub const QUEUE_CONCURRENCY_MAX: u32 = 1_000_000;

/// Longest name of a schedule, in bytes: it is a part of the keys of its tasks.
pub const SCHEDULE_NAME_BYTES_MAX: usize = 100;

/// Largest document of a workflow that a schedule keeps, in bytes: its row is written at each of its
/// times.
pub const SCHEDULE_DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// Longest cron expression, in bytes.
pub const CRON_BYTES_MAX: usize = 200;

/// Shortest interval of a schedule, in milliseconds. What is to happen more often is no schedule, but
/// a loop of one task.
pub const SCHEDULE_EVERY_MS_MIN: u64 = 1_000;

/// A time that a host comes to no later than this is not missed, in milliseconds: a restart, a moment
/// of load.
pub const SCHEDULE_LATE_MS_MAX: u64 = 60_000;

/// Missed times of one schedule that are made up for, the latest of them: a host that was down for a
/// month is not to drown in what it finds.
pub const SCHEDULE_CATCH_UP_MAX: usize = 100;

/// Signals that a task may have and has not received. Whoever sends more sends to a task that does
/// not listen, and fills the disk.
pub const SIGNALS_UNREAD_MAX: u64 = 10_000;

/// Most steps of one phase of a task. They stay until the phase ends, and are deleted in parts; a task with more has to
/// continue in another phase.
pub const STEPS_MAX: u64 = 10_000;

/// Largest value of a step, in bytes. Each replay reads it; larger data belongs in a granted directory or an object
/// store, with its name in the value.
pub const STEP_BYTES_MAX: usize = 1 << 20;
/// Most arrivals of exchanges that a run has not taken. A task without a slot takes none, and must not fill the disk
/// meanwhile: the host stops reading from the servers.
pub const ARRIVALS_UNREAD_MAX: u64 = 10_000;

/// Their total bytes as text, if there is more than one.
pub const ARRIVALS_BYTES_MAX: u64 = 64 << 20;

/// Most exchanges of a run in flight: each is a row, and a connection or a part of one.
pub const EXCHANGES_MAX: usize = 1_000;

/// How often a run is begun again because its host died or lost it, where the host is not told
/// otherwise. Then the task is failed, not run for ever: it is likely to be what kills the host.
pub const RESTARTS_MAX: u32 = 10;

/// Rest of a task of which a host could not read what it needs because the database was away or in
/// somebody's hands, in milliseconds. The host has tried for a while already.
pub const READ_REST_MS: u64 = 5_000;

/// Rest of a task of which something cannot be read though the database is there, in milliseconds: twice
/// as long each time.
pub const UNREAD_REST_MS_MIN: u64 = 1_000;

/// The longest such rest, in milliseconds.
pub const UNREAD_REST_MS_MAX: u64 = 60_000;

/// Items of one map: what an array of four megabytes may have, more or less. More than that is the work of
/// a generator.
pub const MAP_ITEMS_MAX: usize = 1_000_000;

/// Items of one page of a generator, for the same reason; a page may overshoot the window.
pub const PAGE_ITEMS_MAX: usize = 10_000;

/// Items of one page together, in bytes: they are in memory at once.
pub const PAGE_BYTES_MAX: usize = 16 << 20;

/// Longest cursor of a generator, in bytes. It names a place; it is not the data.
pub const CURSOR_BYTES_MAX: usize = 64 << 10;

/// Items of a generator that may live when the next page is asked for, where it does not say.
pub const WINDOW: u32 = 1_000;

/// Most that it may say.
pub const WINDOW_MAX: u32 = 1_000_000;

/// Handles of the host's own things (files, sockets, timers) that one instance may hold at once. Each
/// is memory of the host, and an open file is one that the host has not.
pub const HANDLES_MAX: usize = 1_000;

/// Bytes, from a text such as `64KiB`, `1 MB`, `2GiB` or `1024`.
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()?.saturating_mul(factor))
}

/// The running time of one attempt if neither its task nor the manifest of its handler sets one, in milliseconds.
pub const TIMEOUT_MS: u64 = 60_000;

/// How long one attempt may run, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningTime {
    /// In milliseconds; waiting does not count.
    pub ms: u64,
    /// Where that is set.
    pub set_by: SetBy,
}

/// Where a limit is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetBy {
    /// By the options of the task.
    Task,
    /// By the manifest of the handler.
    Manifest,
    /// Nowhere.
    Default,
}

impl RunningTime {
    /// What a task of that component says that has used it up.
    pub fn used_up(self, component: &str) -> String {
        let time = std::time::Duration::from_millis(self.ms);
        let set_by = match self.set_by {
            SetBy::Task => "the timeout of the task".to_owned(),
            SetBy::Manifest => format!("limits.timeout in {component}.toml"),
            SetBy::Default => format!(
                "the default; a timeout of the task or limits.timeout in {component}.toml allows more"
            ),
        };
        format!("it used up its running time of {time:?} ({set_by})")
    }
}

/// Bounds on one handler.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Linear memory of one instance, all its memories together, in bytes.
    pub memory_bytes: u64,
    /// Elements in all tables of one instance together.
    pub table_elements: u64,
    /// Running time of one attempt, in milliseconds; waiting does not count. `None`: as much as the task asks for, or
    /// [`TIMEOUT_MS`]. A task may ask for less than this, not for more.
    pub timeout_ms: Option<u64>,
    /// Tasks of this handler that run at once; `None`: as many as the host has slots.
    pub concurrency: Option<u32>,
    /// Children that one task may spawn, over all its attempts.
    pub children_max: u64,
    /// Levels of parents above a task of this handler.
    pub depth_max: u32,
    /// Host calls that one attempt may make.
    pub calls_max: u64,
    /// Log text kept of one attempt, in bytes; what comes after is dropped, and the drop is said.
    pub log_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_bytes: 256 << 20,
            table_elements: 100_000,
            timeout_ms: None,
            concurrency: None,
            children_max: 1_000_000,
            depth_max: 10_000,
            calls_max: 10_000_000,
            log_bytes: 1 << 20,
        }
    }
}

impl Limits {
    /// How long an attempt of a task may run that asks for so many milliseconds.
    pub fn running_time(&self, asked_ms: Option<u64>) -> RunningTime {
        let (ms, set_by) = match (asked_ms, self.timeout_ms) {
            (Some(asked), Some(most)) if asked > most => (most, SetBy::Manifest),
            (Some(asked), _) => (asked, SetBy::Task),
            (None, Some(most)) => (most, SetBy::Manifest),
            (None, None) => (TIMEOUT_MS, SetBy::Default),
        };
        RunningTime { ms, set_by }
    }
}

/// How often a failing task is tried, and how long it rests in between.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first among them; 1 means no retry.
    pub attempts_max: u32,
    /// Delay before the second attempt, in milliseconds.
    pub backoff_ms: u64,
    /// Factor from one delay to the next.
    pub backoff_factor: f64,
    /// No delay is longer than this, in milliseconds.
    pub backoff_max_ms: u64,
    /// Share of the delay that is left to chance, 0 to 1, so that a thousand tasks that failed
    /// together do not come back together.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            attempts_max: 3,
            backoff_ms: 1_000,
            backoff_factor: 2.0,
            backoff_max_ms: 60_000,
            jitter: 0.2,
        }
    }
}

impl RetryPolicy {
    /// Delay after the failure of attempt number `attempt` (1 is the first), in milliseconds.
    ///
    /// `chance` is a number in 0..1 from whoever owns a random source: the delay lies in
    /// `[d * (1 - jitter), d]`, where `d` is the exponential delay cut at `backoff_max_ms`.
    pub fn delay_ms(&self, attempt: u32, chance: f64) -> u64 {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let full = (self.backoff_ms as f64 * self.backoff_factor.powi(exponent))
            .min(self.backoff_max_ms as f64);
        (full * (1.0 - self.jitter * chance.clamp(0.0, 1.0))).round() as u64
    }
}

/// What a handler may touch outside its sandbox. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grants {
    /// Environment variables that the guest sees, name to value.
    pub env: BTreeMap<String, String>,
    /// Environment variables with the placeholder of a secret: variable name to secret name.
    pub env_secrets: BTreeMap<String, String>,
    /// Directories of the host that the guest sees.
    pub directories: Vec<DirectoryGrant>,
    /// Hosts that the guest may connect to, by TCP.
    pub allowed_outbound_hosts: Vec<OutboundHost>,
    /// HTTP requests that the guest may send.
    pub http: Vec<HttpGrant>,
    /// The guest reads the machine's clocks instead of the time of the last durable event.
    pub real_clock: bool,
    /// The guest reads the machine's randomness instead of a generator seeded by a secret of the database, task and run.
    pub real_random: bool,
}

/// One directory of the host, as a guest sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectoryGrant {
    /// Where it is on the host; an absolute path once a manifest is loaded.
    pub host: PathBuf,
    /// What the guest calls it, such as `/data`.
    pub guest: String,
    /// Whether the guest may also create, change and remove files there.
    pub writable: bool,
}

/// All that `NAME.toml` says of a handler.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    /// One sentence for people, shown by `handler list`.
    pub description: Option<String>,
    /// Bounds.
    pub limits: Limits,
    /// Retries.
    pub retry: RetryPolicy,
    /// Grants.
    pub grants: Grants,
    /// Which handler answers the calls of an interface that it imports, by the interface's name.
    pub imports: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_nobody_wrote_never_beats_what_the_task_asks_for() {
        let written = |timeout_ms| Limits {
            timeout_ms,
            ..Limits::default()
        };
        for (manifest, asked, ms, words) in [
            (
                None,
                Some(3_600_000),
                3_600_000,
                "3600s (the timeout of the task)",
            ),
            (None, Some(300), 300, "300ms (the timeout of the task)"),
            (
                Some(60_000),
                Some(3_600_000),
                60_000,
                "60s (limits.timeout in shop.toml)",
            ),
            (
                Some(60_000),
                Some(1_000),
                1_000,
                "1s (the timeout of the task)",
            ),
            (
                Some(90_000),
                None,
                90_000,
                "90s (limits.timeout in shop.toml)",
            ),
            (
                None,
                None,
                TIMEOUT_MS,
                "60s (the default; a timeout of the task or limits.timeout in shop.toml allows more)",
            ),
        ] {
            let time = written(manifest).running_time(asked);
            assert_eq!(time.ms, ms);
            let said = format!("it used up its running time of {words}");
            assert_eq!(time.used_up("shop"), said);
        }
    }

    #[test]
    fn backoff_doubles_until_its_maximum_and_jitter_only_shortens_it() {
        let policy = RetryPolicy::default();
        let delays: Vec<u64> = (1..=8)
            .map(|attempt| policy.delay_ms(attempt, 0.0))
            .collect();
        assert_eq!(delays, [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        assert_eq!(policy.delay_ms(1, 1.0), 800);
        assert_eq!(policy.delay_ms(u32::MAX, 0.0), 60_000);
    }
}
