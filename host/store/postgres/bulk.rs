//! Writes that are gathered and go to the server as few statements: a thousand finished tasks are one
//! update of a thousand rows.
//!
//! Each kind of write is a table of columns, which a statement takes apart (`unnest`). Two writes of
//! one row become one, or the earlier goes first. What is gathered is sent before anything is asked
//! that could see it, and before the commit.

mod statements;

use std::collections::{HashMap, HashSet};

use self::statements::*;
use super::columns::{self, INPUT, OUTPUT, PHASE_INPUT, inline, spill, to_json};
use super::sql::{Step, Value};
use crate::group::Group;
use crate::job::Pace;
use crate::journal::{CompletedStep, Entry};
use crate::store::exchanges::ArrivalRow;
use crate::store::rows::Source;
use crate::store::{Counter, LogLine, checksum, phases};
use crate::task::producer::Stage;
use crate::task::state::Attempt;
use crate::task::{Edge, Json, PhaseWait, StatusSet, Task, TaskId};

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
    steps: HashMap<(TaskId, String), Vec<Value>>,
    steps_dropped: HashSet<TaskId>,
    phase_waits: HashMap<TaskId, Vec<Value>>,
    phase_waits_dropped: HashSet<TaskId>,
    signals_dropped: HashSet<TaskId>,
    arrivals: Vec<Vec<Value>>,
    exchanges: HashMap<(TaskId, u32, u32), Option<u64>>,
    counters: HashMap<(String, String), f64>,
}

impl Bulk {
    /// A new task.
    pub fn insert(&mut self, task: &Task) {
        let place = task.place;
        let failure = task.failure.as_ref().map(to_json);
        let terms = columns::terms(task);
        let texts = checksum::Texts {
            failure: failure.as_deref(),
            terms: terms.as_deref(),
            ..checksum::Texts::default()
        };
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
            failure.as_deref().into(),
            task.timeout_ms.into(),
            task.attempts_max.into(),
            task.on_complete.as_deref().into(),
            task.status.as_str().into(),
            (&task.phase).into(),
            task.attempt.into(),
            task.restarts.into(),
            task.fence.to_i64().into(),
            task.run.into(),
            task.blocked_by.into(),
            task.run_at_ms.into(),
            task.expires_at_ms.into(),
            task.cancel_requested.into(),
            task.created_at_ms.into(),
            task.ended_at_ms.into(),
            0_i64.into(),
            checksum::of_task(task, task.group.is_some(), &texts).into(),
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
            task.ends_by_ms.into(),
            terms.into(),
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
        let failure = after.failure.as_ref().map(to_json);
        let wait = after.wait.as_ref().map(to_json);
        let progress = after.progress.as_ref().map(to_json);
        let terms = columns::terms(after);
        let texts = checksum::Texts {
            failure: failure.as_deref(),
            wait: wait.as_deref(),
            progress: progress.as_deref(),
            terms: terms.as_deref(),
        };
        // A damaged row stays damaged: a change does not make a new checksum.
        let sum = (after.damage.is_none())
            .then(|| checksum::of_task(after, after.group.is_some(), &texts));
        let row = vec![
            after.id.into(),
            sum.into(),
            after.digest.as_deref().unwrap_or("").into(),
            inline(phase_input),
            inline(output),
            spilled.into(),
            failure.into(),
            after.attempts_max.into(),
            after.status.as_str().into(),
            (&after.phase).into(),
            after.attempt.into(),
            after.restarts.into(),
            after.fence.to_i64().into(),
            after.run.into(),
            after.blocked_by.into(),
            after.run_at_ms.into(),
            after.expires_at_ms.into(),
            after.cancel_requested.into(),
            wait.into(),
            after.wait.as_ref().and_then(|wait| wait.until_ms).into(),
            progress.into(),
            after.started_at_ms.into(),
            after.run_at_start_ms.into(),
            after.secret.into(),
            after.ended_at_ms.into(),
            after.spent_ms.into(),
            written.into(),
            after.producer.map(Stage::as_str).into(),
            after.ends_by_ms.into(),
            terms.into(),
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
        let spec = group.each.as_deref().map(to_json);
        let sum = checksum::of_group(task.id, group, spec.as_deref(), pace.as_deref());
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
            group.cancelled.into(),
            group.tolerated.into(),
            group.skipped.into(),
            spec.into(),
            group.sealed.into(),
            group.output_bytes.into(),
            group.expected.into(),
            group.paused.into(),
            pace.into(),
            sum.into(),
        ];
        self.groups.insert(task.id, row);
    }

    fn payload(&mut self, task: TaskId, kind: i64, body: &Json) {
        if body.len() > columns::INLINE_BYTES_MAX {
            let sum = checksum::of_payload(task, kind, body);
            let row = vec![task.into(), kind.into(), (&**body).into(), sum.into()];
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
        let (call, answer) = (to_json(&entry.call), to_json(&entry.answer));
        let sum = checksum::of_entry(task, run, (entry.number, entry.at_ms), &call, &answer);
        let row = vec![
            task.into(),
            run.into(),
            entry.number.into(),
            call.into(),
            answer.into(),
            entry.at_ms.into(),
            sum.into(),
        ];
        self.journal.push((task, row));
    }

    /// The journal of a task is to go.
    pub fn drop_journal(&mut self, task: TaskId) {
        self.journal.retain(|(of, _)| *of != task);
        self.journals_dropped.insert(task);
    }

    /// Whether the steps of a task will be deleted, and with them one that is completed now.
    pub fn drops_steps(&self, task: TaskId) -> bool {
        self.steps_dropped.contains(&task)
    }

    /// A complete step.
    pub fn step(&mut self, task: TaskId, step: &CompletedStep) {
        let row = vec![
            task.into(),
            step.name.as_str().into(),
            step.value.as_str().into(),
            step.run.into(),
            step.began.into(),
            step.completed.into(),
            step.at_ms.into(),
            step.logged.lines.into(),
            step.logged.bytes.into(),
            checksum::of_step(task, step).into(),
        ];
        self.steps.insert((task, step.name.clone()), row);
    }

    /// Delete the steps of a task.
    pub fn drop_steps(&mut self, task: TaskId) {
        self.steps.retain(|(of, _), _| *of != task);
        self.steps_dropped.insert(task);
    }

    /// What the phase of a task began after.
    pub fn phase_wait(&mut self, task: TaskId, wait: &PhaseWait) {
        let after = phases::to_text(&wait.after);
        let sum = checksum::of_phase_wait(task, &after, wait.timeout_ms, wait.timed_out);
        let row = vec![
            task.into(),
            after.as_str().into(),
            wait.timeout_ms.into(),
            wait.timed_out.into(),
            sum.into(),
        ];
        self.phase_waits_dropped.remove(&task);
        self.phase_waits.insert(task, row);
    }

    /// Delete that of a task.
    pub fn drop_phase_wait(&mut self, task: TaskId) {
        self.phase_waits.remove(&task);
        self.phase_waits_dropped.insert(task);
    }

    /// The signals of a task are to go.
    pub fn drop_signals(&mut self, task: TaskId) {
        self.signals_dropped.insert(task);
    }

    /// An arrival of an exchange.
    pub fn arrival(&mut self, task: TaskId, run: u32, row: ArrivalRow) {
        let sum = row.checksum(task, run);
        self.arrivals.push(vec![
            task.into(),
            run.into(),
            row.number.into(),
            row.exchange.into(),
            row.value.into(),
            row.start_bytes.into(),
            row.end_bytes.into(),
            sum.into(),
        ]);
    }

    /// An exchange of a run, and which host holds it, where one does.
    pub fn exchange(&mut self, task: TaskId, run: u32, number: u32, host: Option<u64>) {
        self.exchanges.insert((task, run, number), host);
    }

    /// What is left of an attempt.
    pub fn attempt(&mut self, task: TaskId, attempt: &Attempt) {
        let failure = to_json(&attempt.failure);
        let sum = checksum::of_attempt(task, attempt, &failure);
        self.attempts.push(vec![
            task.into(),
            attempt.run.into(),
            (&attempt.phase).into(),
            attempt.attempt.into(),
            attempt.started_at_ms.into(),
            attempt.ended_at_ms.into(),
            failure.into(),
            sum.into(),
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
            checksum::of_log(task, line).into(),
        ]);
    }

    /// A value under a name.
    pub fn checkpoint(&mut self, task: TaskId, name: &str, value: &str) {
        let sum = checksum::of_checkpoint(task, name, value);
        let row = vec![task.into(), name.into(), value.into(), sum.into()];
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
        add(&SAVE_STEPS, STEPS, bulk.steps.into_values().collect());
        add(
            &SAVE_PHASE_WAITS,
            PHASE_WAITS,
            bulk.phase_waits.into_values().collect(),
        );
        add(&ADD_ARRIVALS, ARRIVALS, bulk.arrivals);
        let (mut held, mut over) = (Vec::new(), Vec::new());
        for ((task, run, number), host) in bulk.exchanges {
            let mut row = vec![task.into(), run.into(), number.into()];
            match host {
                Some(host) => {
                    row.push(host.into());
                    held.push(row);
                }
                None => over.push(row),
            }
        }
        add(&SAVE_EXCHANGES, EXCHANGES, held);
        add(DROP_EXCHANGES, &EXCHANGES[..3], over);
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
        if !bulk.steps_dropped.is_empty() {
            steps.push(Step::Query(DROP_STEPS.to_owned(), ids(bulk.steps_dropped)));
        }
        if !bulk.phase_waits_dropped.is_empty() {
            steps.push(Step::Query(
                DROP_PHASE_WAITS.to_owned(),
                ids(bulk.phase_waits_dropped),
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
