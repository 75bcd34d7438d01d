//! Every verb that a person can ask for, on a store: of this process or of a file that a host
//! serves. The doors call this; it never prints.

pub mod bulk;
mod error;
mod holds;
mod jobs;
mod known;
mod overview;
mod remembered;
mod waiting;
mod why;
mod workflows;

pub use error::ClientError;
pub use holds::{Holds, unusable};
pub use overview::{Moment, Of, Overview};
pub use why::{Reason, Why};
pub use workflows::{Dependencies, Job, Jobs, Run};

use known::mismatch;
use remembered::Remembered;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::blocking;
use crate::clock::Clock;
use crate::group::{Group, GroupKind};
use crate::limits::{CHILD_IDS_MAX, PAGE_PAYLOAD_BYTES};
use crate::queue::{self, Queue, QueueChange};
use crate::schedule::{Plan, Schedule, Target};
use crate::store::{
    Alter, Cancelled, Filter, History, JournalPosition, Keep, LogLine, LogPosition, QueueStanding,
    Sent, Signal, Store, StoreError, Submitted, Sweep,
};
use crate::task::state::Attempt;
use crate::task::{
    IdPrefix, NewTask, Options, Status, Task, TaskId, check_after, check_name, check_payload,
    same_document,
};

/// Tasks that one transaction of a bulk submit keeps at most.
pub const SUBMIT_BATCH: usize = 1_000;

/// Tasks that an ambiguous name is said to mean, at most of each kind.
const NAMESAKES: u64 = 4;

/// The verbs.
#[derive(Clone)]
pub struct Client {
    store: Arc<dyn Store>,
    /// See [`Client::looking_every`].
    look_every: Option<Duration>,
    /// Its reads, beside the async workers.
    reads: blocking::Lane,
    /// See [`Client::remembering_handlers`].
    remembered: Option<Arc<Remembered>>,
}

/// One task and what else people want to know of it.
#[derive(Debug, Clone)]
pub struct Detail {
    /// The task.
    pub task: Task,
    /// The first of its children, in the order in which they were spawned: see [`CHILD_IDS_MAX`].
    pub child_ids: Vec<TaskId>,
    /// How many of them are in each status.
    pub child_counts: Vec<(Status, u64)>,
    /// Its attempts that did not complete.
    pub attempts: Vec<Attempt>,
    /// Signals that it has been sent and has not received.
    pub signals_unread: u64,
    /// Whether it has a parent that was deleted.
    pub parent_deleted: bool,
    /// What keeps ready tasks from starting.
    pub holds: Holds,
}

impl Client {
    /// The verbs on a store.
    pub fn new(store: Arc<dyn Store>) -> Client {
        Client {
            reads: blocking::Lane::new(store.reads_at_once()),
            store,
            look_every: None,
            remembered: None,
        }
    }

    /// The same, with a cache of handlers. For the process of a host, which gets a notice when they change; an entry
    /// expires after a second of this clock.
    pub fn remembering_handlers(self, clock: Arc<dyn Clock>) -> Client {
        Client {
            remembered: Some(Arc::new(Remembered::new(clock))),
            ..self
        }
    }

    /// The same, but a wait looks at its tasks after this time at the latest, though nothing told
    /// of a change: for a data directory whose file system does not say what other machines do.
    pub fn looking_every(self, interval: Duration) -> Client {
        Client {
            look_every: Some(interval),
            ..self
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Read from the store, and from files, beside the async workers.
    async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Client) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let client = self.clone();
        self.reads.run(move || read(&client)).await
    }

    /// Submit a task for each input, a thousand in each transaction, or fewer when they are large or start
    /// after many others. All inputs are checked first. Where the key names an earlier task of the same handler and
    /// input, that one; of another input, an error.
    pub async fn submit(
        &self,
        handler: &str,
        inputs: Vec<String>,
        options: Options,
    ) -> Result<Vec<Submitted>, ClientError> {
        let (key, input) = (options.key.clone(), inputs.first().cloned());
        let made = self.submit_reusing(handler, inputs, options).await?;
        if let (Some(key), Some(input), [Submitted { id, created: false }]) = (key, input, &*made) {
            let earlier = self.earlier(*id).await?;
            if !same_document(&earlier.input, &input) {
                return Err(ClientError::KeyUsed {
                    key: key.to_string(),
                    noun: "task",
                    id: *id,
                    part: "input",
                });
            }
        }
        Ok(made)
    }

    /// A task that a key names, read where that may block.
    pub(in crate::client) async fn earlier(&self, id: TaskId) -> Result<Task, ClientError> {
        self.look(move |client| client.task(id)).await
    }

    /// As [`Client::submit`]; the earlier task of the key whatever its input.
    pub async fn submit_reusing(
        &self,
        handler: &str,
        inputs: Vec<String>,
        options: Options,
    ) -> Result<Vec<Submitted>, ClientError> {
        let invalid = |what, line| ClientError::Invalid { what, line };
        check_name("handler's name", handler).map_err(|what| invalid(what, None))?;
        options.check_new().map_err(|what| invalid(what, None))?;
        let known = self.known_handler(handler, &options).await?;
        (options.check_many(inputs.len())).map_err(|what| invalid(what, None))?;
        let many = inputs.len() > 1;
        if many && options.key.is_some() {
            return Err(invalid(
                "one key cannot name several tasks".to_owned(),
                None,
            ));
        }
        let mut judge = None;
        for (index, input) in inputs.iter().enumerate() {
            let line = many.then_some(index + 1);
            check_payload(input).map_err(|what| invalid(what, line))?;
            // What comes after other tasks may take some of its arguments from them.
            if options.after.is_empty() && mismatch(known.as_deref(), input).is_some() {
                let judge = match &judge {
                    Some(judge) => judge,
                    None => judge.insert(self.handler_now(handler).await?),
                };
                if let Some(mismatch) = mismatch(judge.as_ref(), input) {
                    return Err(ClientError::TypeMismatch {
                        function: handler.to_owned(),
                        mismatch,
                        line,
                    });
                }
            }
        }
        let handler: Arc<str> = handler.into();
        let options = Arc::new(options);
        let mut submitted = Vec::with_capacity(inputs.len());
        // A caller that submits one task usually waits for it.
        let noting = self.remembered.is_some() && inputs.len() == 1;
        let _noting = noting.then(|| self.store.bus().note());
        let mut left = inputs.as_slice();
        while !left.is_empty() {
            let part = options.first_part(left).min(SUBMIT_BATCH);
            let (batch, rest) = left.split_at(part);
            let batch = (batch.iter())
                .map(|input| NewTask::root(handler.clone(), input.as_str(), options.clone()))
                .collect();
            submitted.extend(self.store.submit(batch).await?);
            left = rest;
        }
        Ok(submitted)
    }

    /// The task of that name: an id, a unique beginning of one, the name of a job or workflow that no other has, or any of
    /// these followed by `:key` for its child with that key, and so on down. Where no child has the key `N`, it is the Nth child,
    /// from 0.
    pub fn resolve(&self, name: &str) -> Result<TaskId, ClientError> {
        let mut parts = name.split(':');
        let mut id = self.resolve_id(parts.next().unwrap_or_default())?;
        for key in parts {
            id = self.child(id, key)?;
        }
        Ok(id)
    }

    /// The tasks that another one is to start after, by their names. Their number is checked before the first
    /// is looked up.
    pub fn resolve_after(&self, names: &[String]) -> Result<Vec<TaskId>, ClientError> {
        let invalid = |what| ClientError::Invalid { what, line: None };
        check_after(names.len()).map_err(invalid)?;
        names.iter().map(|name| self.resolve(name)).collect()
    }

    /// The task whose id begins so; else the one job or workflow of that name.
    fn resolve_id(&self, text: &str) -> Result<TaskId, ClientError> {
        let found = match text.parse::<IdPrefix>() {
            Ok(prefix) => {
                let (low, high) = prefix.range();
                self.store.ids_between(low, high, NAMESAKES)?
            }
            Err(_) => Vec::new(),
        };
        match found.as_slice() {
            [] => self.resolve_name(text),
            [one] => Ok(*one),
            several => Err(ClientError::Ambiguous {
                prefix: text.to_owned(),
                some: several.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    fn resolve_name(&self, name: &str) -> Result<TaskId, ClientError> {
        let mut found = Vec::new();
        for kind in [GroupKind::Job, GroupKind::Workflow] {
            let named = self.list(&Filter {
                group: Some(kind),
                group_name: Some(name.to_owned()),
                brief: true,
                limit: NAMESAKES,
                ..Filter::default()
            })?;
            found.extend(named.into_iter().map(|task| task.id));
        }
        match found.as_slice() {
            [] => Err(ClientError::UnknownTask(name.to_owned())),
            [one] => Ok(*one),
            several => Err(ClientError::SeveralNamed {
                name: name.to_owned(),
                some: several.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    /// Make a new secret, and delete those that no run in progress draws from. Which those are is read beside
    /// everybody else: that looks at all tasks, and no transaction waits for it. Answers with the number of the new one.
    pub async fn rotate_randomness(&self) -> Result<u32, ClientError> {
        let newest = self.store.add_random_secret().await?;
        let store = self.store.clone();
        let secrets = blocking::run(move || store.random_secrets()).await?;
        let unused: Vec<u32> = secrets
            .iter()
            .filter(|secret| secret.made_at_ms.is_some() && secret.runs == 0)
            .map(|secret| secret.number)
            .filter(|number| *number < newest)
            .collect();
        if !unused.is_empty() {
            self.store.drop_random_secrets(unused).await?;
        }
        Ok(newest)
    }

    /// A task and what surrounds it.
    pub fn detail(&self, id: TaskId) -> Result<Detail, ClientError> {
        let task = self.task(id)?;
        Ok(Detail {
            child_ids: self.store.first_child_ids(id, CHILD_IDS_MAX)?,
            child_counts: self.store.counts(Some(id))?,
            attempts: self.store.attempts(id)?,
            signals_unread: self.store.signals_unread(id)?,
            parent_deleted: match task.parent {
                None => false,
                Some(parent) => self.store.statuses(&[parent])?[0].is_none(),
            },
            holds: self.holds([&task])?,
            task,
        })
    }

    /// A task.
    pub fn task(&self, id: TaskId) -> Result<Task, ClientError> {
        let found = self.store.tasks(&[id])?.into_iter().flatten().next();
        found.ok_or(ClientError::Store(StoreError::UnknownTask(id)))
    }

    /// Where a task stands.
    fn status(&self, id: TaskId) -> Result<Status, ClientError> {
        let found = self.store.statuses(&[id])?.into_iter().flatten().next();
        found.ok_or(ClientError::Store(StoreError::UnknownTask(id)))
    }

    /// The pool of that id or beginning of an id; else the newest of that name.
    pub fn pool(&self, id_or_name: &str) -> Result<(Task, Group), ClientError> {
        let found = self.group(GroupKind::Pool, id_or_name)?;
        found.ok_or_else(|| ClientError::UnknownPool(id_or_name.to_owned()))
    }

    /// The group of that kind and id, or beginning of an id; else the newest of that name.
    fn group(
        &self,
        kind: GroupKind,
        id_or_name: &str,
    ) -> Result<Option<(Task, Group)>, ClientError> {
        let task = match self.resolve(id_or_name) {
            Ok(id) => Some(self.task(id)?),
            Err(
                ClientError::UnknownTask(_)
                | ClientError::Ambiguous { .. }
                | ClientError::SeveralNamed { .. },
            ) => None,
            Err(error) => return Err(error),
        };
        let task = match task.filter(|task| is_group(task, kind)) {
            Some(task) => Some(task),
            None => self
                .list(&Filter {
                    group: Some(kind),
                    group_name: Some(id_or_name.to_owned()),
                    limit: 1,
                    ..Filter::default()
                })?
                .pop(),
        };
        Ok(task.and_then(|task| {
            let group = task.group.as_deref()?.clone();
            Some((task, group))
        }))
    }

    /// Tasks that pass a filter.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Task>, ClientError> {
        Ok(self.store.list(filter)?)
    }

    /// End a task and, unless `only`, all below it.
    pub async fn cancel(&self, id: TaskId, only: bool) -> Result<Cancelled, ClientError> {
        self.end(id, only, false).await
    }

    /// The same; with `now`, tasks that wait end at once, and their handlers are not told.
    pub async fn end(&self, id: TaskId, only: bool, now: bool) -> Result<Cancelled, ClientError> {
        let before = self.look(move |client| client.task(id)).await?;
        let cancelled = if now {
            self.store.cancel_now(id, only).await?
        } else {
            self.store.cancel(id, only, None).await?
        };
        if cancelled.tasks == 0 && !cancelled.more && before.status.is_terminal() {
            return Err(ClientError::Store(StoreError::Refused(
                crate::task::state::Refusal::Ended {
                    id,
                    status: before.status,
                    ended_at_ms: before.ended_at_ms.unwrap_or_default(),
                },
            )));
        }
        Ok(cancelled)
    }

    /// Give an ended task another go.
    pub async fn retry(&self, id: TaskId) -> Result<Task, ClientError> {
        Ok(self.store.retry(id).await?)
    }

    /// Keep a new schedule, or with `replace` another plan for the one of its name. A workflow is
    /// checked as [`Client::run_workflow`] does.
    pub async fn add_schedule(&self, plan: Plan, replace: bool) -> Result<Schedule, ClientError> {
        let invalid = |what| ClientError::Invalid { what, line: None };
        plan.check().map_err(invalid)?;
        let checked = plan.clone();
        self.look(move |client| client.check_plan(&checked)).await?;
        Ok(self.store.add_schedule(plan, replace).await?)
    }

    fn check_plan(&self, plan: &Plan) -> Result<(), ClientError> {
        match &plan.target {
            Target::Handler { handler, .. } => {
                self.check_handler(handler)?;
            }
            Target::Workflow { document, input } => {
                let found = match plan.definition(document, input) {
                    Ok(definition) => self.check_workflow(&definition)?,
                    Err(problems) => Err(problems),
                };
                found.map_err(ClientError::Problems)?;
            }
        }
        if let Some(next) = &plan.options.on_complete {
            self.check_handler(next)?;
        }
        Ok(())
    }

    /// Do something to a schedule; answers with what it is then, or was.
    pub async fn alter_schedule(&self, name: String, how: Alter) -> Result<Schedule, ClientError> {
        Ok(self.store.alter_schedule(name, how).await?)
    }

    /// A schedule.
    pub fn schedule(&self, name: &str) -> Result<Schedule, ClientError> {
        let found = self.store.schedule(name)?;
        Ok(found.ok_or_else(|| StoreError::UnknownSchedule(name.to_owned()))?)
    }

    /// A page of schedules by name, after one of that name; and whether there may be a next one.
    pub fn schedules_after(
        &self,
        name: &str,
        limit: u64,
    ) -> Result<(Vec<Schedule>, bool), ClientError> {
        let page = (self.store).schedules_after(name, limit, PAGE_PAYLOAD_BYTES)?;
        let full = Schedule::fill(&page, limit, PAGE_PAYLOAD_BYTES);
        Ok((page, full))
    }

    /// All schedules, by name.
    pub fn schedules(&self) -> Result<Vec<Schedule>, ClientError> {
        Ok(self.store.schedules()?)
    }

    /// Send a task a signal: kept until the task receives it or ends.
    pub async fn signal(&self, to: TaskId, name: &str, value: &str) -> Result<Sent, ClientError> {
        let invalid = |what| ClientError::Invalid { what, line: None };
        check_name("signal's name", name).map_err(invalid)?;
        check_payload(value).map_err(invalid)?;
        let (name, value) = (name.to_owned(), value.to_owned());
        Ok(self.store.send(Signal { to, name, value }, None).await?)
    }

    /// Delete an ended task and, unless `only`, all below it, which is cancelled first with
    /// `cancel_children`. Answers with the number of tasks that are gone.
    pub async fn delete(
        &self,
        id: TaskId,
        only: bool,
        cancel_children: bool,
    ) -> Result<u64, ClientError> {
        // Of its status alone: one that is damaged is deleted like any other.
        let status = self.look(move |client| client.status(id)).await?;
        if cancel_children && status.is_terminal() {
            // Whoever deletes them has no use for what they would undo.
            self.store.cancel_now(id, false).await?;
        }
        match self.sweep(Sweep::of(id, only)).await {
            Ok(sweep) => Ok(sweep.tasks()),
            Err(StoreError::Lives { live, .. }) if cancel_children && live != id => {
                Err(ClientError::Stopping { id, live })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Delete trees that `keep` keeps no longer; answers with the number of tasks that are gone or,
    /// with `dry`, that would be.
    pub async fn prune(&self, keep: Keep, dry: bool) -> Result<u64, ClientError> {
        Ok(self.sweep(Sweep::old(keep, dry)).await?.tasks())
    }

    /// The same for so long at most; and whether that was all.
    pub async fn prune_within(
        &self,
        keep: Keep,
        dry: bool,
        time: Duration,
    ) -> Result<(u64, bool), ClientError> {
        let began = Instant::now();
        let mut sweep = Sweep::old(keep, dry);
        loop {
            let turn = Instant::now();
            sweep = self.store.sweep(sweep).await?;
            if sweep.over() || began.elapsed() >= time {
                return Ok((sweep.tasks(), sweep.over()));
            }
            tokio::time::sleep(turn.elapsed()).await;
        }
    }

    /// Do a sweep to its end, resting after each of its transactions for as long as that took: one
    /// process that writes without a pause keeps the others from the file. One that is late rests
    /// a quarter of it.
    pub async fn sweep(&self, mut sweep: Sweep) -> Result<Sweep, StoreError> {
        loop {
            let began = Instant::now();
            sweep = self.store.sweep(sweep).await?;
            if sweep.over() {
                return Ok(sweep);
            }
            let took = began.elapsed();
            let rest = if sweep.is_late() { took / 4 } else { took };
            tokio::time::sleep(rest).await;
        }
    }

    /// What a task has printed and logged after a position.
    pub fn logs(
        &self,
        id: TaskId,
        after: LogPosition,
        limit: u64,
    ) -> Result<Vec<LogLine>, ClientError> {
        Ok(self.store.logs(id, after, limit)?)
    }

    /// The history of a run of a task after a position; without a `run`, of the last one.
    pub fn history(
        &self,
        id: TaskId,
        run: Option<u32>,
        from: JournalPosition,
        limit: usize,
    ) -> Result<History, ClientError> {
        Ok(self.store.history(id, run, from, limit)?)
    }

    /// The queues that have tasks or were set, and how their tasks stand.
    pub fn queues(&self) -> Result<Vec<QueueStanding>, ClientError> {
        Ok(self.store.queues()?)
    }

    /// Set a queue. Answers with what it is set to then, and whether it had tasks or settings
    /// before.
    pub async fn set_queue(
        &self,
        name: &str,
        change: QueueChange,
    ) -> Result<(Queue, bool), ClientError> {
        queue::check(name, change).map_err(|what| ClientError::Invalid { what, line: None })?;
        let (store, asked) = (self.store.clone(), name.to_owned());
        let known = blocking::run(move || store.queue_known(&asked)).await?;
        Ok((self.store.set_queue(name.into(), change).await?, known))
    }
}

fn is_group(task: &Task, kind: GroupKind) -> bool {
    let group = task.group.as_deref();
    group.is_some_and(|group| group.kind == kind)
}
