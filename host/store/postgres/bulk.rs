//! Writes that are gathered and go to the server as few statements: a thousand finished tasks are one
//! update of a thousand rows.
//!
//! Each kind of write is a table of columns, which a statement takes apart (`unnest`). Two writes of
//! one row become one, or the earlier goes first. What is gathered is sent before anything is asked
//! that could see it, and before the commit.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::columns::{self, INPUT, OUTPUT, PHASE_INPUT, inline, spill, to_json};
use super::sql::{Step, Value};
use crate::group::Group;
use crate::job::Pace;
use crate::journal::Entry;
use crate::store::rows::Source;
use crate::store::{Counter, LogLine};
use crate::task::producer::Stage;
use crate::task::state::Attempt;
use crate::task::{Edge, Json, StatusSet, Task, TaskId};

/// Names for as many columns as any statement has.
const NAMES: [&str; 48] = [
    "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "c10", "c11", "c12", "c13", "c14",
    "c15", "c16", "c17", "c18", "c19", "c20", "c21", "c22", "c23", "c24", "c25", "c26", "c27",
    "c28", "c29", "c30", "c31", "c32", "c33", "c34", "c35", "c36", "c37", "c38", "c39", "c40",
    "c41", "c42", "c43", "c44", "c45", "c46", "c47",
];

/// A column and its type.
type Columns = &'static [(&'static str, &'static str)];

const B: &str = "bigint";
const T: &str = "text";
const YES: &str = "boolean";

const TASKS: Columns = &[
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
    ("kind", T),
    ("scope_id", B),
    ("gate_id", B),
    ("member", YES),
    ("metadata", T),
    ("optional", YES),
    ("producer", T),
];

const SAVES: Columns = &[
    ("id", B),
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
    ("ended_at_ms", B),
    ("spent_ms", B),
    ("written", B),
    ("producer", T),
    ("host", B),
];

const GROUPS: Columns = &[
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
    ("tolerated", B),
    ("skipped", B),
    ("spec", T),
    ("sealed", YES),
    ("output_bytes", B),
    ("expected", B),
    ("paused", YES),
    ("pace", T),
];

const PAYLOADS: Columns = &[("task_id", B), ("kind", B), ("body", T)];
const WAITS: Columns = &[
    ("target_id", B),
    ("waiter_id", B),
    ("stamp", B),
    ("wanted", B),
];
const EDGES: Columns = &[
    ("upstream_id", B),
    ("downstream_id", B),
    ("position", B),
    ("key", T),
    ("condition", T),
    ("optional", YES),
];
const SOURCES: Columns = &[
    ("task_id", B),
    ("group_id", B),
    ("run", B),
    ("drained", YES),
    ("declared", YES),
    ("producer", YES),
];
const JOURNAL: Columns = &[
    ("task_id", B),
    ("run", B),
    ("number", B),
    ("call", T),
    ("answer", T),
    ("at_ms", B),
];
const ATTEMPTS: Columns = &[
    ("task_id", B),
    ("run", B),
    ("phase", T),
    ("attempt", B),
    ("started_at_ms", B),
    ("ended_at_ms", B),
    ("failure", T),
];
const LOGS: Columns = &[
    ("task_id", B),
    ("run", B),
    ("line", B),
    ("at_ms", B),
    ("level", T),
    ("message", T),
];
const CHECKPOINTS: Columns = &[("task_id", B), ("name", T), ("value", T)];
const COUNTERS: Columns = &[
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

/// The arrays of a statement, from its rows.
fn transposed(columns: Columns, rows: Vec<Vec<Value>>) -> Vec<(&'static str, Value)> {
    let mut lists: Vec<Vec<Value>> = columns
        .iter()
        .map(|_| Vec::with_capacity(rows.len()))
        .collect();
    for row in rows {
        debug_assert_eq!(row.len(), columns.len());
        for (list, value) in lists.iter_mut().zip(row) {
            list.push(value);
        }
    }
    NAMES
        .into_iter()
        .zip(lists.into_iter().map(Value::List))
        .collect()
}

fn ids(ids: HashSet<TaskId>) -> Vec<(&'static str, Value)> {
    let ids: Vec<TaskId> = ids.into_iter().collect();
    vec![("ids", ids.as_slice().into())]
}

/// What is to be written.
#[derive(Default)]
pub struct Bulk {
    tasks: Vec<Vec<Value>>,
    saves: HashMap<TaskId, Vec<Value>>,
    groups: HashMap<TaskId, Vec<Value>>,
    payloads: HashMap<(TaskId, i64), Vec<Value>>,
    waits: HashMap<(TaskId, TaskId), Option<(i64, StatusSet)>>,
    edges: Vec<Vec<Value>>,
    sources: HashMap<(TaskId, TaskId), Source>,
    journal: Vec<(TaskId, Vec<Value>)>,
    journals_dropped: HashSet<TaskId>,
    attempts: Vec<Vec<Value>>,
    logs: Vec<Vec<Value>>,
    checkpoints: HashMap<(TaskId, String), Vec<Value>>,
    signals_dropped: HashSet<TaskId>,
    counters: HashMap<(String, String), f64>,
}

impl Bulk {
    /// A new task.
    pub fn insert(&mut self, task: &Task) {
        let place = task.place;
        self.tasks.push(vec![
            task.id.into(),
            task.parent.into(),
            task.origin.into(),
            place.map(|place| place.run).into(),
            place.map(|place| place.call).into(),
            place.map(|place| place.index).into(),
            place.map(|place| place.content).into(),
            task.sequence.into(),
            task.retry_of.into(),
            task.depth.into(),
            (&task.handler).into(),
            task.digest.as_deref().unwrap_or("").into(),
            task.key.as_deref().into(),
            (&task.queue).into(),
            task.priority.into(),
            inline(Some(&task.input)),
            spill(Some(&task.input), INPUT).into(),
            task.failure.as_ref().map(to_json).into(),
            task.timeout_ms.into(),
            task.attempts_max.into(),
            task.on_complete.as_deref().into(),
            task.status.as_str().into(),
            (&task.phase).into(),
            task.attempt.into(),
            task.restarts.into(),
            task.fence.into(),
            task.run.into(),
            task.blocked_by.into(),
            task.run_at_ms.into(),
            task.expires_at_ms.into(),
            task.cancel_requested.into(),
            task.created_at_ms.into(),
            task.ended_at_ms.into(),
            0_i64.into(),
            match task.group {
                Some(_) => columns::GROUP_KIND,
                None => columns::HANDLER,
            }
            .into(),
            task.scope.into(),
            task.gate.unwrap_or(columns::NO_GATE).into(),
            task.member.into(),
            task.metadata.as_deref().into(),
            task.optional.into(),
            task.producer.map(Stage::as_str).into(),
        ]);
        if let Some(group) = &task.group {
            self.group(task, group);
        }
        self.payload(task.id, INPUT, &task.input);
    }

    /// Whether a change of a task is gathered already: two of them do not go into one statement.
    pub fn saves(&self, id: TaskId) -> bool {
        self.saves.contains_key(&id)
    }

    /// A task that changed; answers with which payloads it has elsewhere by that, and which of them
    /// were written.
    pub fn save(&mut self, before: &Task, after: &Task, host: Option<u64>) -> (i64, i64) {
        let phase_input = after
            .phase_input
            .as_ref()
            .filter(|_| before.phase_input != after.phase_input);
        // The output may also go again: what a producer said that it completes with.
        let told = before.output != after.output;
        let output = after.output.as_ref().filter(|_| told);
        let written = phase_input.map_or(0, |_| PHASE_INPUT) | if told { OUTPUT } else { 0 };
        let spilled = spill(phase_input, PHASE_INPUT) | spill(output, OUTPUT);
        let row = vec![
            after.id.into(),
            after.digest.as_deref().unwrap_or("").into(),
            inline(phase_input),
            inline(output),
            spilled.into(),
            after.failure.as_ref().map(to_json).into(),
            after.attempts_max.into(),
            after.status.as_str().into(),
            (&after.phase).into(),
            after.attempt.into(),
            after.restarts.into(),
            after.fence.into(),
            after.run.into(),
            after.blocked_by.into(),
            after.run_at_ms.into(),
            after.expires_at_ms.into(),
            after.cancel_requested.into(),
            after.wait.as_ref().map(to_json).into(),
            after.wait.as_ref().and_then(|wait| wait.until_ms).into(),
            after.progress.as_ref().map(to_json).into(),
            after.started_at_ms.into(),
            after.run_at_start_ms.into(),
            after.ended_at_ms.into(),
            after.spent_ms.into(),
            written.into(),
            after.producer.map(Stage::as_str).into(),
            host.into(),
        ];
        self.saves.insert(after.id, row);
        if let Some(group) = &after.group
            && before.group != after.group
        {
            self.group(after, group);
        }
        for (payload, kind) in [(phase_input, PHASE_INPUT), (output, OUTPUT)] {
            if let Some(body) = payload {
                self.payload(after.id, kind, body);
            }
        }
        (spilled, written)
    }

    fn group(&mut self, task: &Task, group: &Group) {
        let pace = (group.pace != Pace::default()).then(|| to_json(&group.pace));
        let row = vec![
            task.id.into(),
            task.scope.into(),
            group.kind.as_str().into(),
            (&group.name).into(),
            group.on_failure.as_str().into(),
            group.concurrency.into(),
            group.closed.into(),
            group.sources.into(),
            group.live.into(),
            group.spawned.into(),
            group.completed.into(),
            group.failed.into(),
            group.tolerated.into(),
            group.skipped.into(),
            group.each.as_deref().map(to_json).into(),
            group.sealed.into(),
            group.output_bytes.into(),
            group.expected.into(),
            group.paused.into(),
            pace.into(),
        ];
        self.groups.insert(task.id, row);
    }

    fn payload(&mut self, task: TaskId, kind: i64, body: &Json) {
        if body.len() > columns::INLINE_BYTES_MAX {
            let row = vec![task.into(), kind.into(), (&**body).into()];
            self.payloads.insert((task, kind), row);
        }
    }

    /// A wait, or that there is none any more.
    pub fn wait(&mut self, target: TaskId, waiter: TaskId, wait: Option<(i64, StatusSet)>) {
        self.waits.insert((target, waiter), wait);
    }

    /// An edge.
    pub fn edge(&mut self, edge: &Edge, downstream: TaskId, position: u32) {
        self.edges.push(vec![
            edge.upstream.into(),
            downstream.into(),
            position.into(),
            edge.key.as_deref().into(),
            edge.on.as_str().into(),
            edge.optional.into(),
        ]);
    }

    /// A source of a group.
    pub fn source(&mut self, task: TaskId, group: TaskId, source: Source) {
        self.sources.insert((task, group), source);
    }

    /// Whether the journal of a task is to go, so that what is added now would go with it.
    pub fn drops_journal(&self, task: TaskId) -> bool {
        self.journals_dropped.contains(&task)
    }

    /// An answer.
    pub fn entry(&mut self, task: TaskId, run: u32, entry: &Entry) {
        let row = vec![
            task.into(),
            run.into(),
            entry.number.into(),
            to_json(&entry.call).into(),
            to_json(&entry.answer).into(),
            entry.at_ms.into(),
        ];
        self.journal.push((task, row));
    }

    /// The journal of a task is to go.
    pub fn drop_journal(&mut self, task: TaskId) {
        self.journal.retain(|(of, _)| *of != task);
        self.journals_dropped.insert(task);
    }

    /// The signals of a task are to go.
    pub fn drop_signals(&mut self, task: TaskId) {
        self.signals_dropped.insert(task);
    }

    /// What is left of an attempt.
    pub fn attempt(&mut self, task: TaskId, attempt: &Attempt) {
        self.attempts.push(vec![
            task.into(),
            attempt.run.into(),
            (&attempt.phase).into(),
            attempt.attempt.into(),
            attempt.started_at_ms.into(),
            attempt.ended_at_ms.into(),
            to_json(&attempt.failure).into(),
        ]);
    }

    /// A line of a log.
    pub fn log(&mut self, task: TaskId, line: &LogLine) {
        self.logs.push(vec![
            task.into(),
            line.position.run.into(),
            line.position.line.into(),
            line.at_ms.into(),
            line.level.as_str().into(),
            (&line.message).into(),
        ]);
    }

    /// A value under a name.
    pub fn checkpoint(&mut self, task: TaskId, name: &str, value: &str) {
        let row = vec![task.into(), name.into(), value.into()];
        self.checkpoints.insert((task, name.to_owned()), row);
    }

    /// Something was counted.
    pub fn count(&mut self, counter: &Counter) {
        let series = (counter.name.clone(), to_json(&counter.labels));
        *self.counters.entry(series).or_default() += counter.value;
    }

    /// All of it as statements, in an order in which each finds what it needs.
    pub fn take(&mut self, node: i64, now_ms: u64) -> Vec<Step> {
        let bulk = std::mem::take(self);
        let mut steps = Vec::new();
        if !bulk.tasks.is_empty() {
            steps.push(Step::Query(
                INSERT_TASKS.to_owned(),
                transposed(TASKS, bulk.tasks),
            ));
        }
        if !bulk.saves.is_empty() {
            let mut values = transposed(SAVES, sorted(bulk.saves));
            values.push(("now", now_ms.into()));
            steps.push(Step::Query(SAVE_TASKS.to_owned(), values));
        }
        let mut add = |sql: &str, columns: Columns, rows: Vec<Vec<Value>>| {
            if !rows.is_empty() {
                steps.push(Step::Query(sql.to_owned(), transposed(columns, rows)));
            }
        };
        add(&SAVE_GROUPS, GROUPS, sorted(bulk.groups));
        add(
            &SAVE_PAYLOADS,
            PAYLOADS,
            bulk.payloads.into_values().collect(),
        );
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for ((target, waiter), wait) in bulk.waits {
            match wait {
                Some((stamp, wanted)) => there.push(vec![
                    target.into(),
                    waiter.into(),
                    stamp.into(),
                    wanted.to_bits().into(),
                ]),
                None => gone.push(vec![target.into(), waiter.into()]),
            }
        }
        add(&SAVE_WAITS, WAITS, there);
        add(DROP_WAITS, &WAITS[..2], gone);
        add(&ADD_EDGES, EDGES, bulk.edges);
        let source = |((task, group), source): ((TaskId, TaskId), Source)| {
            vec![
                task.into(),
                group.into(),
                source.run.into(),
                source.drained.into(),
                source.declared.into(),
                source.producer.into(),
            ]
        };
        add(
            &SAVE_SOURCES,
            SOURCES,
            bulk.sources.into_iter().map(source).collect(),
        );
        let journal = bulk.journal.into_iter().map(|(_, row)| row);
        add(&ADD_JOURNAL, JOURNAL, journal.collect());
        add(&ADD_ATTEMPTS, ATTEMPTS, bulk.attempts);
        add(&ADD_LOGS, LOGS, bulk.logs);
        add(
            &SAVE_CHECKPOINTS,
            CHECKPOINTS,
            bulk.checkpoints.into_values().collect(),
        );
        let count = |((name, labels), value): ((String, String), f64)| {
            vec![node.into(), name.into(), labels.into(), value.into()]
        };
        add(
            &ADD_COUNTS,
            COUNTERS,
            bulk.counters.into_iter().map(count).collect(),
        );
        if !bulk.journals_dropped.is_empty() {
            steps.push(Step::Query(
                DROP_JOURNALS.to_owned(),
                ids(bulk.journals_dropped),
            ));
        }
        if !bulk.signals_dropped.is_empty() {
            steps.push(Step::Query(
                DROP_SIGNALS.to_owned(),
                ids(bulk.signals_dropped),
            ));
        }
        steps
    }
}

/// In the order of the ids, so that two that write the same rows do so in the same order.
fn sorted(rows: HashMap<TaskId, Vec<Value>>) -> Vec<Vec<Value>> {
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_unstable_by_key(|(id, _)| *id);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// How long the host goes first on which a task has waited: its instance may still be in memory there.
const HOME_MS: u64 = 1_000;

static INSERT_TASKS: LazyLock<String> = LazyLock::new(|| insert("tasks", TASKS, ""));

static SAVE_TASKS: LazyLock<String> = LazyLock::new(|| {
    // Payloads are written when they are new; what else a task is made of never changes. One that
    // waits stays with the host that has its instance.
    let names: Vec<&str> = SAVES.iter().map(|(name, _)| *name).collect();
    format!(
        "update tasks set
           digest = new.digest,
           phase_input = case when new.written & 2 <> 0 then new.phase_input else tasks.phase_input end,
           output = case when new.written & 4 <> 0 then new.output else tasks.output end,
           spilled = (tasks.spilled & ~new.written) | new.spilled,
           failure = new.failure, attempts_max = new.attempts_max, status = new.status,
           phase = new.phase, attempt = new.attempt, restarts = new.restarts, fence = new.fence,
           run = new.run, blocked_by = new.blocked_by, run_at_ms = new.run_at_ms,
           expires_at_ms = new.expires_at_ms, cancel_requested = new.cancel_requested,
           wait = new.wait, wait_until_ms = new.wait_until_ms, progress = new.progress,
           started_at_ms = new.started_at_ms, run_at_start_ms = new.run_at_start_ms,
           ended_at_ms = new.ended_at_ms, spent_ms = new.spent_ms, producer = new.producer,
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

static SAVE_GROUPS: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (task_id) do update set
      closed = excluded.closed, sources = excluded.sources, live = excluded.live,
      spawned = excluded.spawned, completed = excluded.completed, failed = excluded.failed,
      tolerated = excluded.tolerated, skipped = excluded.skipped, sealed = excluded.sealed,
      output_bytes = excluded.output_bytes, paused = excluded.paused, pace = excluded.pace";
    insert("groups", GROUPS, rest)
});

static SAVE_PAYLOADS: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (task_id, kind) do update set body = excluded.body";
    insert("payloads", PAYLOADS, rest)
});

static SAVE_WAITS: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (target_id, waiter_id) do update
      set stamp = excluded.stamp, wanted = excluded.wanted";
    insert("waits", WAITS, rest)
});

const DROP_WAITS: &str = "\
    delete from waits
    using unnest(:c0::bigint[], :c1::bigint[]) as old (target_id, waiter_id)
    where waits.target_id = old.target_id and waits.waiter_id = old.waiter_id";

static ADD_EDGES: LazyLock<String> =
    LazyLock::new(|| insert("edges", EDGES, "on conflict do nothing"));

static SAVE_SOURCES: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (task_id, group_id) do update
      set run = excluded.run, drained = excluded.drained";
    insert("sources", SOURCES, rest)
});

static ADD_JOURNAL: LazyLock<String> =
    LazyLock::new(|| insert("journal", JOURNAL, "on conflict do nothing"));

static ADD_ATTEMPTS: LazyLock<String> =
    LazyLock::new(|| insert("attempts", ATTEMPTS, "on conflict do nothing"));

static ADD_LOGS: LazyLock<String> =
    LazyLock::new(|| insert("logs", LOGS, "on conflict do nothing"));

static SAVE_CHECKPOINTS: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (task_id, name) do update set value = excluded.value";
    insert("checkpoints", CHECKPOINTS, rest)
});

static ADD_COUNTS: LazyLock<String> = LazyLock::new(|| {
    let rest = "on conflict (node, name, labels) do update
      set value = counters.value + excluded.value";
    insert("counters", COUNTERS, rest)
});

const DROP_JOURNALS: &str = "delete from journal where task_id = any(:ids)";

const DROP_SIGNALS: &str = "delete from signals where task_id = any(:ids)";
