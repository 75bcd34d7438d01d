//! `pools`: named groups of tasks that several sources fill and anyone may wait for.
//!
//! Who may do what: a source that has not drained adds members; a member that runs adds members to
//! its own pool; anyone waits, but a member never for its own pool. A member without a key goes
//! with the next commit like any spawn; one with a key may name a member that another task added,
//! so the store answers.

use std::sync::Arc;

use super::spawn::{Spawned, answer_of, spawned};
use super::{tasks, types};
use crate::executor::bindings::fishway::task::pools::WaitError;
use crate::executor::bindings::fishway::task::tasks::{Options, Spawned as Given};
use crate::executor::bindings::fishway::task::{pools, types as wit};
use crate::executor::earlier::{Earlier, Found};
use crate::executor::guest::{Guest, call_of};
use crate::group::{GroupPhase, OnFailure, PoolOptions, PoolStatus};
use crate::journal::{self, Answer, Call, Function, RefusedCall, Snapshot, beginning};
use crate::limits::DURATION_MS_MAX;
use crate::loader::Version;
use crate::store::{Record, StoreError, Until, Urgency};
use crate::task::{
    NewTask, Options as TaskOptions, Place, Spawner, StatusSet, Task, TaskId, check_name,
};

type Answered<T> = wasmtime::Result<Result<T, RefusedCall>>;

/// A pool, as the guest stands to it.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    id: TaskId,
    /// Whether it is a source that has not drained.
    source: bool,
    member: bool,
}

impl Guest {
    pub(super) async fn open_pool(&mut self, name: String, options: PoolOptions) -> Answered<()> {
        let asked = format!("{options:?}");
        let call = call_of(
            Function::PoolOpen,
            name.clone(),
            [name.as_bytes(), asked.as_bytes()],
        );
        match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(refusal)),
            Some(Answer::Tasks(ids)) if ids.len() == 1 => {
                self.is_source_of(name, ids[0]);
                return Ok(Ok(()));
            }
            _ => {}
        }
        let checked = check_name("pool's name", &name).and_then(|()| options.check());
        if let Err(why) = checked {
            return self.refuse(call, RefusedCall::Invalid(why)).await;
        }
        let by = self.by(call);
        let store = self.store();
        let opened = store.open_pool(by, name.as_str().into(), options).await;
        match opened.map_err(|error| self.store_failed(&error))? {
            Err(refusal) => Ok(Err(refusal)),
            Ok(pool) => {
                self.is_source_of(name, pool);
                Ok(Ok(()))
            }
        }
    }

    pub(super) async fn spawn_into(
        &mut self,
        name: String,
        handler: String,
        input: String,
        checked: Result<TaskOptions, RefusedCall>,
    ) -> Answered<Spawned> {
        let plain = self.content(&handler, &input, checked.as_ref().ok());
        let content = journal::content([name.as_bytes(), &plain.to_le_bytes()]);
        let call = Call {
            function: Function::PoolSpawn,
            subject: journal::excerpt(&format!("{name}, {handler}, {}", beginning(&input))),
            content,
        };
        match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(refusal)),
            Some(answer) => {
                if let Some([spawned]) = spawned(&answer).as_deref() {
                    self.children.fresh.insert(spawned.id);
                    return Ok(Ok(*spawned));
                }
            }
            None => {}
        }
        let checked = checked.and_then(|options| {
            self.acceptable(&handler, &input, &options)?;
            Ok(options)
        });
        let options = match checked {
            Ok(options) => options,
            Err(refusal) => return self.refuse(call, refusal).await,
        };
        let mut pool = match self.pool(&name)? {
            Ok(pool) => pool,
            Err(refusal) => return self.refuse(call, refusal).await,
        };
        if pool.source && self.control.stopping() {
            // A clock that ran out has closed its sources from outside.
            let store = self.store();
            let still = store.is_source(self.task.id, pool.id);
            pool.source = still.map_err(|error| self.store_failed(&error))?;
            self.pools.insert(name.clone(), pool);
        }
        if !pool.source && !pool.member {
            let why = format!(
                "task {} may not add to pool \"{name}\": it is no source that has not drained, and no member",
                self.task.id
            );
            return self.refuse(call, RefusedCall::PoolClosed(why)).await;
        }
        if let Some(refusal) = self.unknown_upstream(&options.after)? {
            return self.refuse(call, refusal).await;
        }
        self.settle_before(&options).await?;
        if let Some(refusal) = self.not_retried(&options, pool.id)? {
            return self.refuse(call, refusal).await;
        }
        let most = self.handler.manifest.limits.children_max;
        if self.children.added >= most {
            let why = format!("the task would add more than {most} members (limits.children)");
            return self.refuse(call, RefusedCall::Limit(why)).await;
        }
        let retry_of = match self.earlier_member(content)? {
            Found::Same(id) => {
                let found = Spawned { id, created: false };
                self.answer(call, answer_of(&[found])).await?;
                return Ok(Ok(found));
            }
            Found::Failed(id) => Some(id),
            Found::None => options.retry_of,
        };
        self.children.added += 1;
        let new = self.member(pool.id, handler.into(), input, options, content, retry_of);
        let spawned = if new.options.key.is_some() {
            self.settle().await?;
            let store = self.store();
            let spawned = store.spawn_member(self.by(call), new).await;
            let spawned = spawned.map_err(|error| self.store_failed(&error))?;
            Spawned {
                id: spawned.id,
                created: spawned.created,
            }
        } else {
            let id = new.id.unwrap_or(pool.id);
            let entry = self.entry(call, Answer::Tasks(vec![id]));
            let records = vec![Record::Task(Box::new(new)), Record::Entry(Box::new(entry))];
            self.record(records, Urgency::Soon).await?;
            Spawned { id, created: true }
        };
        self.children.fresh.insert(spawned.id);
        Ok(Ok(spawned))
    }

    fn member(
        &mut self,
        pool: TaskId,
        handler: Arc<str>,
        input: String,
        options: TaskOptions,
        content: u64,
        retry_of: Option<TaskId>,
    ) -> NewTask {
        let place = Place {
            run: self.task.run,
            call: self.cursor.number(),
            index: 0,
            content,
        };
        // Rank and depth are the pool's to give.
        let spawner = Spawner {
            parent: pool,
            sequence: 0,
            depth: 0,
            scope: self.task.scope,
            member: true,
            place: Some(place),
        };
        NewTask {
            id: Some(self.agents.store.ids().next(self.agents.clock.now_ms())),
            spawner: Some(spawner),
            origin: Some(self.task.id),
            retry_of,
            created_at_ms: Some(self.durable_now_ms()),
            ..NewTask::root(handler, input, options)
        }
    }

    pub(super) async fn drain_pool(&mut self, name: String) -> Answered<()> {
        let call = call_of(Function::PoolStartDrain, name.clone(), [name.as_bytes()]);
        match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(refusal)),
            Some(_) => {
                if let Some(known) = self.pools.get_mut(&name) {
                    known.source = false;
                }
                return Ok(Ok(()));
            }
            None => {}
        }
        let pool = match self.pool(&name)? {
            Ok(pool) => pool,
            Err(refusal) => return self.refuse(call, refusal).await,
        };
        let entry = Record::Entry(Box::new(self.entry(call, Answer::Done)));
        let mut records = self.drained(&name, pool);
        records.push(entry);
        self.record(records, Urgency::Soon).await?;
        Ok(Ok(()))
    }

    /// Wait until a pool has ended. When the time is over before, that is its status in 0.2, and its task in 0.1.
    pub(super) async fn wait_for_pool(
        &mut self,
        name: String,
        timeout_ms: Option<u64>,
        version: Version,
    ) -> Answered<Result<PoolStatus, Task>> {
        let timeout_ms = timeout_ms.map(|timeout_ms| timeout_ms.min(DURATION_MS_MAX));
        let timeout = timeout_ms.map_or([0xff; 8], u64::to_le_bytes);
        let subject = match timeout_ms {
            Some(timeout_ms) => format!("{name}, {timeout_ms} ms"),
            None => name.clone(),
        };
        let call = call_of(
            Function::PoolWait,
            subject,
            [name.as_bytes(), timeout.as_slice()],
        );
        match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(refusal)),
            Some(Answer::Document(Some(status))) => return Ok(Ok(Ok(recorded(&status)?))),
            Some(Answer::TimedOut(snapshot)) => return self.recorded_pool(&snapshot),
            _ => {}
        }
        let pool = match self.pool(&name)? {
            Ok(pool) => pool,
            Err(refusal) => return self.refuse(call, refusal).await,
        };
        if let Some(id) = self.deadlock(&[pool.id])? {
            let why = format!(
                "task {} is a member of pool \"{name}\" ({id}), which cannot end before it",
                self.task.id
            );
            return self.refuse(call, RefusedCall::WouldDeadlock(why)).await;
        }
        // A source that waits has nothing more to add.
        let records = self.drained(&name, pool);
        if !records.is_empty() {
            self.record(records, Urgency::Lazy).await?;
        }
        let until = Until::All(vec![pool.id], StatusSet::terminal());
        let woken = match timeout_ms {
            // Looks once.
            Some(0) => None,
            timeout_ms => match self.wait(&call, until, timeout_ms).await? {
                Ok(woken) => Some(woken),
                Err(refusal) => return self.refuse(call, refusal).await,
            },
        };
        let task = self.pool_task(pool.id).await?;
        let over = task.status.is_terminal();
        let timed_out = !over && woken.is_none_or(|woken| woken.timed_out);
        if timed_out && version == Version::V0_1 {
            let mut snapshot = Snapshot {
                tasks: vec![task.id],
                ..Snapshot::default()
            };
            snapshot.add(&task.outcome(), true);
            self.answer(call, Answer::TimedOut(snapshot)).await?;
            return Ok(Ok(Err(task)));
        }
        let status = status_of(&task);
        self.answer(call, Answer::Document(Some(to_json(&status))))
            .await?;
        Ok(Ok(Ok(status)))
    }

    pub(super) async fn pool_status(&mut self, name: String) -> Answered<PoolStatus> {
        let call = call_of(Function::PoolStatus, name.clone(), [name.as_bytes()]);
        match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(refusal)),
            Some(Answer::Document(Some(status))) => return Ok(Ok(recorded(&status)?)),
            _ => {}
        }
        let pool = match self.pool(&name)? {
            Ok(pool) => pool,
            Err(refusal) => return self.refuse(call, refusal).await,
        };
        let status = status_of(&self.pool_task(pool.id).await?);
        self.answer(call, Answer::Document(Some(to_json(&status))))
            .await?;
        Ok(Ok(status))
    }

    fn is_source_of(&mut self, name: String, pool: TaskId) {
        let known = Known {
            id: pool,
            source: true,
            member: self.is_member_of(pool),
        };
        self.pools.insert(name, known);
    }

    fn is_member_of(&self, pool: TaskId) -> bool {
        self.task.member && self.task.parent == Some(pool)
    }

    /// The pool of that name in this run: the one that was opened here, or the newest.
    fn pool(&mut self, name: &str) -> Answered<Known> {
        if let Some(known) = self.pools.get(name) {
            return Ok(Ok(*known));
        }
        let store = self.store();
        let found = store
            .pool_named(self.task.scope, name)
            .map_err(|error| self.store_failed(&error))?;
        let Some(id) = found else {
            return Ok(Err(RefusedCall::UnknownPool(journal::excerpt(name))));
        };
        // Opened in an earlier phase, perhaps.
        let source = store
            .is_source(self.task.id, id)
            .map_err(|error| self.store_failed(&error))?;
        let known = Known {
            id,
            source,
            member: self.is_member_of(id),
        };
        self.pools.insert(name.to_owned(), known);
        Ok(Ok(known))
    }

    /// What is to be kept when the guest adds no more from outside.
    fn drained(&mut self, name: &str, pool: Known) -> Vec<Record> {
        if !pool.source {
            return Vec::new();
        }
        let known = Known {
            source: false,
            ..pool
        };
        self.pools.insert(name.to_owned(), known);
        vec![Record::Drain(pool.id)]
    }

    /// The pool's task as it is, all that this attempt did included.
    async fn pool_task(&mut self, pool: TaskId) -> wasmtime::Result<Task> {
        self.settle().await?;
        let store = self.store();
        let found = store
            .tasks(&[pool])
            .map_err(|error| self.store_failed(&error))?;
        let unknown = StoreError::UnknownTask(pool);
        let task = found.into_iter().flatten().next();
        task.ok_or_else(|| self.store_failed(&unknown))
    }

    fn recorded_pool(&mut self, snapshot: &Snapshot) -> Answered<Result<PoolStatus, Task>> {
        let store = self.store();
        let found = store
            .tasks(&snapshot.tasks)
            .map_err(|error| self.store_failed(&error))?;
        let Some(mut task) = found.into_iter().flatten().next() else {
            return Ok(Err(RefusedCall::UnknownPool(String::new())));
        };
        // It may have ended since.
        if let Some(mark) = snapshot.others.first() {
            task.status = mark.status;
            task.output = None;
            task.failure = mark.failure.clone();
        }
        Ok(Ok(Err(task)))
    }

    /// A member that an earlier run added with the same content.
    fn earlier_member(&mut self, content: u64) -> wasmtime::Result<Found> {
        if self.task.run == 0 {
            return Ok(Found::None);
        }
        if self.children.earlier_members.is_none() {
            let store = self.store();
            let members = store
                .earlier_members(self.task.id)
                .map_err(|error| self.store_failed(&error))?;
            let fresh = &self.children.fresh;
            let earlier = Earlier::new(members, |id| fresh.contains(&id));
            self.children.earlier_members = Some(earlier);
        }
        let earlier = self.children.earlier_members.as_mut();
        Ok(earlier.map_or(Found::None, |earlier| earlier.take(content)))
    }
}

fn status_of(pool: &Task) -> PoolStatus {
    match &pool.group {
        Some(group) => group.status(pool.status),
        None => PoolStatus {
            phase: GroupPhase::Failed,
            spawned: 0,
            completed: 0,
            failed: 0,
            cancelled: 0,
            skipped: 0,
            in_flight: 0,
        },
    }
}

/// A status as the journal has it.
fn recorded(status: &str) -> wasmtime::Result<PoolStatus> {
    serde_json::from_str(status).map_err(wasmtime::Error::new)
}

fn to_json(status: &PoolStatus) -> String {
    serde_json::to_string(status).expect("plain data has a JSON form")
}

fn told(status: PoolStatus) -> pools::PoolStatus {
    pools::PoolStatus {
        phase: match status.phase {
            GroupPhase::Creating => pools::Phase::Creating,
            GroupPhase::Draining => pools::Phase::Draining,
            GroupPhase::Completed => pools::Phase::Completed,
            GroupPhase::Failed => pools::Phase::Failed,
            GroupPhase::Cancelled => pools::Phase::Cancelled,
        },
        spawned: status.spawned,
        completed: status.completed,
        failed: status.failed,
        cancelled: status.cancelled,
        skipped: status.skipped,
        in_flight: status.in_flight,
    }
}

fn options(given: Option<pools::PoolOptions>) -> PoolOptions {
    let Some(given) = given else {
        return PoolOptions::default();
    };
    PoolOptions {
        on_failure: given.on_failure.map(|on_failure| match on_failure {
            pools::OnFailure::Fail => OnFailure::Fail,
            pools::OnFailure::FailFast => OnFailure::FailFast,
            pools::OnFailure::Collect => OnFailure::Collect,
            pools::OnFailure::Skip => OnFailure::Skip,
        }),
        concurrency: given.concurrency,
    }
}

impl pools::Host for Guest {
    async fn open(
        &mut self,
        name: String,
        given: Option<pools::PoolOptions>,
    ) -> wasmtime::Result<Result<(), wit::Error>> {
        let opened = self.open_pool(name, options(given)).await?;
        Ok(opened.map_err(types::error))
    }

    async fn spawn(
        &mut self,
        name: String,
        handler: String,
        input: String,
        options: Option<Options>,
    ) -> wasmtime::Result<Result<Given, wit::Error>> {
        let options = types::options(options);
        let spawned = self.spawn_into(name, handler, input, options).await?;
        Ok(spawned.map(tasks::told).map_err(types::error))
    }

    async fn start_drain(&mut self, name: String) -> wasmtime::Result<Result<(), wit::Error>> {
        Ok(self.drain_pool(name).await?.map_err(types::error))
    }

    async fn wait(
        &mut self,
        name: String,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<pools::PoolStatus, WaitError>> {
        let waited = self.wait_for_pool(name, timeout, Version::V0_2).await?;
        let status = match waited {
            Ok(status) => told(status.unwrap_or_else(|pool| status_of(&pool))),
            Err(refusal) => return Ok(Err(WaitError::Refused(types::error(refusal)))),
        };
        Ok(match status.phase {
            pools::Phase::Completed => Ok(status),
            pools::Phase::Failed | pools::Phase::Cancelled => Err(WaitError::Ended(status)),
            pools::Phase::Creating | pools::Phase::Draining => Err(WaitError::TimedOut(status)),
        })
    }

    async fn status(
        &mut self,
        name: String,
    ) -> wasmtime::Result<Result<pools::PoolStatus, wit::Error>> {
        let status = self.pool_status(name).await?;
        Ok(status.map(told).map_err(types::error))
    }
}
