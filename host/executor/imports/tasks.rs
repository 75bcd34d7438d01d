//! `tasks`: spawn tasks and wait for them.

use super::spawn::{Spawned, answer_of, spawned};
use super::types;
use crate::executor::bindings::fishway::task::{tasks, types as wit};
use crate::executor::guest::{Guest, call_of};
use crate::journal::{Answer, Call, Function, RefusedCall, Snapshot, beginning, excerpt};
use crate::limits::{AWAITED_MAX, DURATION_MS_MAX};
use crate::store::{CallBy, Record, StoreError, Until, Urgency};
use crate::task::{NewTask, Options, Status, StatusSet, TaskId, check_payload};

/// What the host holds of an id in a list, as a number and as a text, in bytes.
pub(super) const ID_BYTES: u64 = 64;

/// What a host call answers, or why it is refused; an error ends the attempt.
pub(super) type Answered<T> = wasmtime::Result<Result<T, RefusedCall>>;

impl tasks::Host for Guest {
    async fn spawn(
        &mut self,
        handler: String,
        input: String,
        options: Option<tasks::Options>,
    ) -> wasmtime::Result<Result<tasks::Spawned, wit::Error>> {
        let options = types::options(options);
        let spawned = self
            .spawn_children(handler, vec![input], options, Urgency::Soon)
            .await?;
        Ok(spawned.map(|all| told(all[0])).map_err(types::error))
    }

    async fn spawn_all(
        &mut self,
        handler: String,
        inputs: Vec<String>,
        options: Option<tasks::Options>,
    ) -> wasmtime::Result<Result<Vec<tasks::Spawned>, wit::Error>> {
        let options = types::options(options);
        let spawned = self.spawn_all_children(handler, inputs, options).await?;
        Ok(spawned
            .map(|all| all.into_iter().map(told).collect())
            .map_err(types::error))
    }

    async fn submit(
        &mut self,
        handler: String,
        input: String,
        options: Option<tasks::Options>,
    ) -> wasmtime::Result<Result<tasks::Spawned, wit::Error>> {
        let options = types::options(options);
        let submitted = self.submit_root(handler, input, options).await?;
        Ok(submitted.map(told).map_err(types::error))
    }

    async fn call(
        &mut self,
        handler: String,
        input: String,
        options: Option<tasks::Options>,
    ) -> wasmtime::Result<Result<String, tasks::CallError>> {
        let options = types::options(options);
        Ok(match self.call_child(handler, input, options).await? {
            Ok(output) => Ok(output),
            Err(NoOutput::Ended(outcome)) => Err(tasks::CallError::Ended(*outcome)),
            Err(NoOutput::Refused(refusal)) => {
                Err(tasks::CallError::Refused(types::error(refusal)))
            }
        })
    }

    async fn wait_all(
        &mut self,
        ids: Vec<String>,
        options: Option<tasks::WaitOptions>,
    ) -> wasmtime::Result<Result<Vec<wit::Outcome>, tasks::WaitError>> {
        Ok(
            match self.wait_with(Function::WaitAll, ids, options).await? {
                Ok(Waited::Arrived(outcomes)) => Ok(outcomes),
                Ok(Waited::TimedOut(outcomes)) => Err(tasks::WaitError::TimedOut(outcomes)),
                Err(refusal) => Err(tasks::WaitError::Refused(types::error(refusal))),
            },
        )
    }

    async fn wait_any(
        &mut self,
        ids: Vec<String>,
        options: Option<tasks::WaitOptions>,
    ) -> wasmtime::Result<Result<wit::Outcome, tasks::WaitError>> {
        Ok(
            match self.wait_with(Function::WaitAny, ids, options).await? {
                Ok(Waited::Arrived(mut outcomes)) if !outcomes.is_empty() => {
                    Ok(outcomes.swap_remove(0))
                }
                Ok(Waited::Arrived(outcomes) | Waited::TimedOut(outcomes)) => {
                    Err(tasks::WaitError::TimedOut(outcomes))
                }
                Err(refusal) => Err(tasks::WaitError::Refused(types::error(refusal))),
            },
        )
    }

    async fn get(&mut self, id: String) -> wasmtime::Result<Result<wit::Outcome, wit::Error>> {
        let call = call_of(Function::Get, id.clone(), [id.as_bytes()]);
        let snapshot = match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(types::error(refusal))),
            Some(Answer::Outcomes(snapshot)) => Some(snapshot),
            _ => None,
        };
        let id = match types::task_id(&id) {
            Ok(id) => id,
            Err(refusal) => return Ok(self.refuse(call, refusal).await?.map_err(types::error)),
        };
        let outcomes = match snapshot {
            Some(snapshot) => self.outcomes_then(&[id], &snapshot)?,
            None => {
                self.settle().await?;
                match self.outcomes_now(&[id])? {
                    Ok((outcomes, snapshot)) => {
                        self.answer(call, Answer::Outcomes(snapshot)).await?;
                        outcomes
                    }
                    Err(refusal) => {
                        return Ok(self.refuse(call, refusal).await?.map_err(types::error));
                    }
                }
            }
        };
        Ok(outcomes
            .into_iter()
            .next()
            .ok_or(wit::Error::UnknownTask(id.to_string())))
    }

    async fn children(&mut self) -> wasmtime::Result<Vec<wit::Outcome>> {
        let call = call_of(Function::Children, "", []);
        let outcomes = match self.step(&call)? {
            Some(Answer::Outcomes(snapshot)) => {
                let ids = snapshot.tasks.clone();
                self.outcomes_then(&ids, &snapshot)?
            }
            _ => {
                self.settle().await?;
                let store = self.store();
                let ids = store
                    .child_ids(self.task.id)
                    .map_err(|error| self.store_failed(&error))?;
                let (outcomes, snapshot) = self.outcomes_now(&ids)?.unwrap_or_default();
                let snapshot = Snapshot {
                    tasks: ids,
                    used: Vec::new(),
                    ..snapshot
                };
                self.answer(call, Answer::Outcomes(snapshot)).await?;
                outcomes
            }
        };
        Ok(outcomes)
    }

    async fn cancel(&mut self, id: String) -> wasmtime::Result<Result<bool, wit::Error>> {
        let call = call_of(Function::Cancel, id.clone(), [id.as_bytes()]);
        match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(types::error(refusal))),
            Some(Answer::Flag(changed)) => return Ok(Ok(changed)),
            _ => {}
        }
        let task = match types::task_id(&id) {
            Ok(task) => task,
            Err(refusal) => return Ok(self.refuse(call, refusal).await?.map_err(types::error)),
        };
        let by = CallBy {
            token: self.token(),
            number: self.cursor.number(),
            call: call.clone(),
        };
        let store = self.store();
        match store.cancel(task, false, Some(by)).await {
            Ok(cancelled) => {
                // The time of the record, so that a replay sees the same.
                self.clock
                    .fetch_max(cancelled.at_ms, std::sync::atomic::Ordering::Relaxed);
                Ok(Ok(cancelled.changed))
            }
            Err(StoreError::UnknownTask(_)) => {
                let refusal = RefusedCall::UnknownTask(id);
                Ok(self.refuse(call, refusal).await?.map_err(types::error))
            }
            Err(error) => Err(self.store_failed(&error)),
        }
    }

    async fn sleep(&mut self, duration: u64) -> wasmtime::Result<Result<(), wit::Error>> {
        Ok(self.sleep_for(duration).await?.map_err(types::error))
    }
}

/// Why a call has no output.
pub(super) enum NoOutput {
    /// The child did not complete.
    Ended(Box<wit::Outcome>),
    /// There is no child, or the wait for it ended early.
    Refused(RefusedCall),
}

/// What a wait found.
pub(super) enum Waited {
    /// All that was waited for, or the first of it.
    Arrived(Vec<wit::Outcome>),
    /// Everything, unfinished too.
    TimedOut(Vec<wit::Outcome>),
}

impl Guest {
    /// Children of one handler, and the memory for their ids.
    pub(super) async fn spawn_all_children(
        &mut self,
        handler: String,
        inputs: Vec<String>,
        options: Result<Options, RefusedCall>,
    ) -> Answered<Vec<Spawned>> {
        let spawned = self
            .spawn_children(handler, inputs, options, Urgency::Soon)
            .await?;
        if let Ok(all) = &spawned {
            self.hold(all.len() as u64 * ID_BYTES)?;
        }
        Ok(spawned)
    }

    /// Spawn a child and wait for it.
    pub(super) async fn call_child(
        &mut self,
        handler: String,
        input: String,
        options: Result<Options, RefusedCall>,
    ) -> wasmtime::Result<Result<String, NoOutput>> {
        // Lazy: it goes with the wait that follows at once, in one commit.
        let spawned = self
            .spawn_children(handler, vec![input], options, Urgency::Lazy)
            .await?;
        let id = match spawned {
            Ok(spawned) => spawned[0].id,
            Err(refusal) => return Ok(Err(NoOutput::Refused(refusal))),
        };
        let outcome = match self.outcome_of(id).await? {
            Ok(outcome) => outcome,
            Err(refusal) => return Ok(Err(NoOutput::Refused(refusal))),
        };
        let completed = types::our_status(outcome.status) == Status::Completed;
        Ok(match outcome.output {
            Some(output) if completed => Ok(output),
            _ => Err(NoOutput::Ended(Box::new(outcome))),
        })
    }

    /// Rest, without a slot.
    pub(super) async fn sleep_for(&mut self, duration: u64) -> Answered<()> {
        let duration = duration.min(DURATION_MS_MAX);
        let bytes = duration.to_le_bytes();
        let call = call_of(
            Function::Sleep,
            format!("{duration} ms"),
            [bytes.as_slice()],
        );
        match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(refusal)),
            Some(_) => return Ok(Ok(())),
            None => {}
        }
        match self.wait(&call, Until::Time, Some(duration)).await? {
            Err(refusal @ RefusedCall::Cancelled) => self.refuse(call, refusal).await,
            _ => {
                self.answer(call, Answer::Done).await?;
                Ok(Ok(()))
            }
        }
    }

    /// Wait for one task, for as long as it takes.
    pub(super) async fn outcome_of(&mut self, id: TaskId) -> Answered<wit::Outcome> {
        let waited = self
            .wait_for(Function::WaitAll, vec![id], None, StatusSet::default())
            .await?;
        let outcome = match waited {
            Ok(Waited::Arrived(outcomes)) => outcomes.into_iter().next(),
            Ok(Waited::TimedOut(_)) => None,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(outcome.ok_or_else(|| RefusedCall::UnknownTask(id.to_string())))
    }

    async fn wait_with(
        &mut self,
        function: Function,
        ids: Vec<String>,
        options: Option<tasks::WaitOptions>,
    ) -> Answered<Waited> {
        let (timeout_ms, statuses) = match options {
            None => (None, Vec::new()),
            Some(options) => (options.timeout, options.statuses),
        };
        let wanted = statuses.into_iter().map(types::our_status).collect();
        self.wait_call(function, ids, timeout_ms, wanted).await
    }

    pub(super) async fn wait_call(
        &mut self,
        function: Function,
        texts: Vec<String>,
        timeout_ms: Option<u64>,
        wanted: StatusSet,
    ) -> Answered<Waited> {
        let timeout_ms = timeout_ms.map(|timeout_ms| timeout_ms.min(DURATION_MS_MAX));
        match types::task_ids(&texts) {
            Ok(ids) => {
                // There may be very many, and the wait may be long.
                drop(texts);
                self.wait_for(function, ids, timeout_ms, wanted).await
            }
            Err(refusal) => {
                let parts = texts.iter().map(|id| id.as_bytes());
                let call = call_of(function, format!("{} tasks", texts.len()), parts);
                match self.step(&call)? {
                    Some(Answer::Refused(refusal)) => Ok(Err(refusal)),
                    _ => self.refuse(call, refusal).await,
                }
            }
        }
    }

    /// Wait for tasks. A task that has ended ends the wait for it, whatever is wanted.
    async fn wait_for(
        &mut self,
        function: Function,
        ids: Vec<TaskId>,
        timeout_ms: Option<u64>,
        wanted: StatusSet,
    ) -> Answered<Waited> {
        let call = wait_call(function, &ids, timeout_ms, wanted);
        let any = function == Function::WaitAny;
        match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(refusal)),
            Some(Answer::TimedOut(snapshot)) => {
                return Ok(Ok(Waited::TimedOut(self.outcomes_then(&ids, &snapshot)?)));
            }
            Some(Answer::Outcomes(snapshot)) => {
                let ids = if any { snapshot.tasks.clone() } else { ids };
                return Ok(Ok(Waited::Arrived(self.outcomes_then(&ids, &snapshot)?)));
            }
            _ => {}
        }
        let waited = match self.woken() {
            Some(woken) if woken.cancelled => Err(RefusedCall::Cancelled),
            Some(woken) => Ok((woken.timed_out, woken.by)),
            None => self.await_now(&call, &ids, timeout_ms, wanted, any).await?,
        };
        let (timed_out, first) = match waited {
            Ok(waited) => waited,
            Err(refusal) => return self.refuse(call, refusal).await,
        };
        // A wait of no length looks once, and so does not see what is only on its way to the disk.
        self.settle().await?;
        let first_only = any && !timed_out;
        let ids = match (first_only, first) {
            (false, _) => ids,
            // Whoever got there: it may have gone on since, and stand elsewhere now.
            (true, Some(first)) => vec![first],
            // A wait that an older version ended, which did not say by whom.
            (true, None) => self.first_of(&ids, wanted)?.into_iter().collect(),
        };
        let (outcomes, mut snapshot) = match self.outcomes_now(&ids)? {
            Ok(found) => found,
            Err(refusal) => return self.refuse(call, refusal).await,
        };
        if first_only {
            snapshot.tasks = ids;
        }
        Ok(Ok(if timed_out {
            self.answer(call, Answer::TimedOut(snapshot)).await?;
            Waited::TimedOut(outcomes)
        } else {
            self.answer(call, Answer::Outcomes(snapshot)).await?;
            Waited::Arrived(outcomes)
        }))
    }

    /// Why these cannot be waited for.
    fn unwaitable(&mut self, ids: &[TaskId], any: bool) -> wasmtime::Result<Option<RefusedCall>> {
        if let Err(why) = check_awaited(ids.len()) {
            return Ok(Some(RefusedCall::Limit(why)));
        }
        if any && ids.is_empty() {
            let why = "wait-any of no tasks would never end".to_owned();
            return Ok(Some(RefusedCall::Invalid(why)));
        }
        if let Some(id) = self.deadlock(ids)? {
            let who = if id == self.task.id {
                "itself"
            } else {
                "a task that contains it"
            };
            let why = format!("task {} cannot wait for {id}: that is {who}", self.task.id);
            return Ok(Some(RefusedCall::WouldDeadlock(why)));
        }
        let store = self.store();
        let unknown: Vec<TaskId> = ids
            .iter()
            .copied()
            .filter(|id| !self.children.fresh.contains(id))
            .collect();
        let statuses = store
            .statuses(&unknown)
            .map_err(|error| self.store_failed(&error))?;
        let missing = unknown
            .iter()
            .zip(statuses)
            .find(|(_, status)| status.is_none());
        Ok(missing.map(|(id, _)| RefusedCall::UnknownTask(id.to_string())))
    }

    /// Wait for the first time in this call. Tells whether the time was over, and who of several came first.
    async fn await_now(
        &mut self,
        call: &Call,
        ids: &[TaskId],
        timeout_ms: Option<u64>,
        wanted: StatusSet,
        any: bool,
    ) -> Answered<(bool, Option<TaskId>)> {
        if let Some(refusal) = self.unwaitable(ids, any)? {
            return Ok(Err(refusal));
        }
        let there = match any {
            false => None,
            true => self.first_of(ids, wanted)?,
        };
        if there.is_some() || !any && self.all_arrived(ids, wanted)? {
            return Ok(Ok((false, there)));
        }
        if timeout_ms == Some(0) {
            return Ok(Ok((true, None)));
        }
        let until = match any {
            true => Until::Any(ids.to_vec(), wanted),
            false => Until::All(ids.to_vec(), wanted),
        };
        let woken = self.wait(call, until, timeout_ms).await?;
        Ok(woken.map(|woken| (woken.timed_out, woken.by)))
    }

    /// Whether the wait for all of them is over before it begins.
    fn all_arrived(&mut self, ids: &[TaskId], wanted: StatusSet) -> wasmtime::Result<bool> {
        let store = self.store();
        let statuses = store
            .statuses(ids)
            .map_err(|error| self.store_failed(&error))?;
        let mut there = statuses
            .iter()
            .map(|status| status.is_some_and(|status| is_there(status, wanted)));
        Ok(there.all(|there| there))
    }

    pub(super) async fn submit_root(
        &mut self,
        handler: String,
        input: String,
        checked: Result<Options, RefusedCall>,
    ) -> Answered<Spawned> {
        let content = self.content(&handler, &input, checked.as_ref().ok());
        let call = Call {
            function: Function::Submit,
            subject: excerpt(&format!("{handler}, {}", beginning(&input))),
            content,
        };
        match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(refusal)),
            Some(answer) => {
                if let Some([submitted]) = spawned(&answer).as_deref() {
                    return Ok(Ok(*submitted));
                }
            }
            None => {}
        }
        let checked = checked.and_then(|options| {
            self.acceptable(&handler, &input, &options)?;
            let of_children = [
                ("retry-of", options.retry_of.is_some()),
                ("on-parent-failure", options.ends_with_parent),
            ];
            match of_children.into_iter().find(|(_, is_set)| *is_set) {
                Some((name, _)) => Err(RefusedCall::Invalid(format!(
                    "{name} is for children, and a task that is submitted has no parent: spawn it"
                ))),
                None => Ok(options),
            }
        });
        let options = match checked {
            Ok(options) => options,
            Err(refusal) => return self.refuse(call, refusal).await,
        };
        if let Some(refusal) = self.unknown_upstream(&options.after)? {
            return self.refuse(call, refusal).await;
        }
        let id = self.agents.store.ids().next(self.agents.clock.now_ms());
        let new = NewTask {
            id: Some(id),
            origin: Some(self.task.id),
            created_at_ms: Some(self.durable_now_ms()),
            ..NewTask::root(handler, input, options)
        };
        if new.options.key.is_some() {
            // The key may name an earlier task, so the store has to say which.
            self.settle().await?;
            let store = self.store();
            return match store.submit(vec![new]).await {
                Ok(submitted) => {
                    let submitted = Spawned {
                        id: submitted[0].id,
                        created: submitted[0].created,
                    };
                    self.answer(call, answer_of(&[submitted])).await?;
                    Ok(Ok(submitted))
                }
                Err(error @ StoreError::KeyTaken { .. }) => {
                    self.refuse(call, RefusedCall::Invalid(error.to_string()))
                        .await
                }
                Err(error) => Err(self.store_failed(&error)),
            };
        }
        let entry = self.entry(call, Answer::Tasks(vec![id]));
        self.record(
            vec![Record::Task(Box::new(new)), Record::Entry(Box::new(entry))],
            Urgency::Soon,
        )
        .await?;
        Ok(Ok(Spawned { id, created: true }))
    }
}

/// A task that was asked for, as the guest hears of it.
pub(super) fn told(spawned: Spawned) -> tasks::Spawned {
    tasks::Spawned {
        id: spawned.id.to_string(),
        created: spawned.created,
    }
}

/// Whether a task of that status ends a wait for the statuses of `wanted`.
pub(super) fn is_there(status: Status, wanted: StatusSet) -> bool {
    status.is_terminal() || wanted.contains(status)
}

fn wait_call(
    function: Function,
    ids: &[TaskId],
    timeout_ms: Option<u64>,
    wanted: StatusSet,
) -> Call {
    let numbers: Vec<[u8; 8]> = ids.iter().map(|id| id.to_i64().to_le_bytes()).collect();
    let timeout = timeout_ms.map_or([0xff; 8], u64::to_le_bytes);
    let wanted = [wanted.to_bits()];
    let parts = numbers
        .iter()
        .map(|number| number.as_slice())
        .chain([timeout.as_slice(), wanted.as_slice()]);
    let subject = match ids {
        [one] => one.to_string(),
        ids => format!("{} tasks", ids.len()),
    };
    call_of(function, subject, parts)
}

/// Whether one wait may be for so many tasks. The error is a sentence.
pub(super) fn check_awaited(many: usize) -> Result<(), String> {
    match many > AWAITED_MAX {
        true => Err(format!(
            "a wait for {many} tasks, more than {AWAITED_MAX}: wait for them in several calls"
        )),
        false => Ok(()),
    }
}

/// Whether an input may be given to a task.
pub(super) fn check_input(input: &str) -> Result<(), RefusedCall> {
    let too_large = input.len() > crate::limits::PAYLOAD_BYTES_MAX;
    check_payload(input).map_err(|why| match too_large {
        true => RefusedCall::Limit(why),
        false => RefusedCall::Invalid(why),
    })
}
