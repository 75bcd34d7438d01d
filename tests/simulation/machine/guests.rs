//! What attempts do while their claim holds, and while they think so.

use std::collections::HashSet;
use std::sync::Arc;

use fishway::group::{OnFailure, PoolOptions};
use fishway::journal::{Call, Function};
use fishway::store::kernel;
use fishway::store::{CallBy, End, Record, Suspension, Until};
use fishway::task::{
    Failure, FailureKind, NewChild, NewChildren, NewTask, Options, Place, Spawner, Status,
    StatusSet, TaskId, Token,
};

use super::shapes::completed;
use super::{Attempt, Expected, Machine, Said, Wrong};
use crate::simulation::mirror::{self, Known, Waits};
use crate::simulation::step::Ending;

impl Machine {
    pub(super) fn by(&mut self, attempt: u16, function: Function) -> Option<CallBy> {
        let attempt = self.attempt(attempt)?;
        attempt.calls += 1;
        Some(CallBy {
            token: attempt.task.token(),
            number: attempt.calls,
            call: Call {
                function,
                subject: "it".to_owned(),
                content: 7,
            },
        })
    }

    /// A task below an attempt, or beside it.
    pub(super) fn new_below(&mut self, attempt: &Attempt, parent: TaskId, member: bool) -> NewTask {
        let place = Place {
            run: attempt.task.run,
            call: attempt.calls,
            index: 0,
            content: 1,
        };
        NewTask {
            id: Some(self.new_id()),
            spawner: Some(Spawner {
                parent,
                sequence: u64::from(self.numbers),
                depth: attempt.task.depth + 1,
                scope: attempt.task.scope,
                member,
                place: Some(place),
            }),
            origin: member.then_some(attempt.task.id),
            ..NewTask::root("h", "{}", Options::default())
        }
    }

    pub(super) fn spawn(
        &mut self,
        number: u16,
        many: u32,
        key: Option<u8>,
        after: &[u16],
    ) -> Result<(), Wrong> {
        let rank = u64::from(self.number());
        let Some(attempt) = self.attempt(number) else {
            return Ok(());
        };
        attempt.calls += 1;
        let attempt = attempt.clone();
        let mut after = self.pick_some(after);
        after.retain(|id| *id != attempt.task.id);
        let options = Options {
            after,
            // A key may name an earlier child, and then there is no other one.
            key: key.map(|key| format!("key-{key}").into()),
            ..Options::default()
        };
        let each: Vec<NewChild> = (0..many)
            .map(|index| NewChild {
                id: self.new_id(),
                input: "{}".into(),
                index,
                content: u64::from(index),
                retry_of: None,
            })
            .collect();
        let children = match key {
            None => each.iter().map(|child| child.id).collect(),
            Some(_) => Vec::new(),
        };
        let children_new = NewChildren {
            handler: "h".into(),
            options: Arc::new(options),
            created_at_ms: self.now_ms(),
            spawner: Spawner {
                parent: attempt.task.id,
                sequence: rank,
                depth: attempt.task.depth + 1,
                scope: attempt.task.scope,
                member: false,
                place: None,
            },
            run: attempt.task.run,
            call: attempt.calls,
            each,
        };
        let records = vec![Record::Children(Box::new(children_new))];
        self.record(attempt.task.token(), records, children);
        Ok(())
    }

    /// Pools that there are.
    pub(super) fn pool(&self, number: u16) -> Option<TaskId> {
        let is_pool = |(_, task): &(&TaskId, &Known)| task.kind.as_deref() == Some("pool");
        let pools: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(is_pool)
            .map(|(id, _)| *id)
            .collect();
        pools.get(usize::from(number) % pools.len().max(1)).copied()
    }

    pub(super) fn open_pool(&mut self, attempt: u16, pool: usize) -> Result<(), Wrong> {
        self.alone()?;
        // An ended pool may open again by it.
        self.again = true;
        let Some(by) = self.by(attempt, Function::PoolOpen) else {
            return Ok(());
        };
        let (name, on_failure, concurrency) = [
            ("strict", OnFailure::Fail, None),
            ("hasty", OnFailure::FailFast, Some(2)),
            ("patient", OnFailure::Collect, Some(1)),
        ][pool];
        let options = PoolOptions {
            on_failure: Some(on_failure),
            concurrency,
        };
        let (token, name) = (by.token, name.into());
        self.ask(false, Some(token), Expected::Done(token), move |turn| {
            kernel::open_pool(turn, &by, &name, &options).map(|_| Said::Nothing)
        })
    }

    pub(super) fn add_member(
        &mut self,
        number: u16,
        pool: u16,
        key: Option<u8>,
        again: bool,
    ) -> Result<(), Wrong> {
        self.number();
        if again {
            // First of all: with what is committed here the attempt itself may be gone.
            self.alone()?;
        }
        let Some(attempt) = self.attempt(number).map(|one| {
            one.calls += 1;
            one.clone()
        }) else {
            return Ok(());
        };
        // Who may: a source of it, and a member.
        let id = attempt.task.id;
        let mut may: Vec<TaskId> = self.open_pools(id);
        may.extend(attempt.task.parent.filter(|_| attempt.task.member));
        may.retain(|pool| {
            (self.tasks.get(pool)).is_some_and(|pool| pool.kind.as_deref() == Some("pool"))
        });
        let Some(pool) = may.get(usize::from(pool) % may.len().max(1)).copied() else {
            return Ok(());
        };
        let mut new = self.new_below(&attempt, pool, true);
        if again {
            // Another try of a member that has failed takes its place.
            let tried: HashSet<TaskId> = self.tried();
            let failed = |(id, task): &(&TaskId, &Known)| {
                task.parent == Some(pool)
                    && task.member
                    && matches!(task.status, Status::Failed | Status::Expired)
                    && !tried.contains(id)
            };
            new.retry_of = self.tasks.iter().find(failed).map(|(id, _)| *id);
        }
        let token = attempt.task.token();
        match key {
            None => {
                let children = vec![new.id.unwrap()];
                self.record(token, vec![Record::Task(Box::new(new))], children);
                Ok(())
            }
            Some(key) => {
                new.options = Arc::new(Options {
                    key: Some(format!("key-{key}").into()),
                    ..Options::default()
                });
                let by = CallBy {
                    token,
                    number: attempt.calls,
                    call: Call {
                        function: Function::PoolSpawn,
                        subject: "it".to_owned(),
                        content: 7,
                    },
                };
                self.ask(false, Some(token), Expected::Done(token), move |turn| {
                    let submitted = kernel::spawn_member(turn, &by, &new)?;
                    Ok(Said::Submitted(vec![submitted]))
                })
            }
        }
    }

    /// Members whose place another took.
    pub(super) fn tried(&self) -> HashSet<TaskId> {
        let sql = "select retry_of from tasks where retry_of is not null";
        mirror::ids(self.host().eye(), sql).into_iter().collect()
    }

    pub(super) fn open_pools(&self, source: TaskId) -> Vec<TaskId> {
        let sql = format!(
            "select group_id from sources where task_id = {} and not drained order by group_id",
            source.to_i64()
        );
        mirror::ids(self.host().eye(), &sql)
    }

    pub(super) fn wait(
        &mut self,
        attempt: u16,
        mut targets: Vec<TaskId>,
        all: bool,
        running: bool,
        for_ms: Option<u64>,
    ) -> Result<(), Wrong> {
        let Some(waiter) = self.attempt(attempt).map(|one| one.task.id) else {
            return Ok(());
        };
        // A handler cannot name itself, nor a pool that it is in.
        let above = self.above(waiter);
        targets.retain(|target| *target != waiter && !above.contains(target));
        let wanted = match running {
            true => [Status::Running].into_iter().collect(),
            false => StatusSet::terminal(),
        };
        let until = match all {
            true => Until::All(targets.clone(), wanted),
            false => Until::Any(targets.clone(), wanted),
        };
        let waits = Waits {
            targets,
            all,
            only_ends: !running,
            tasks: true,
        };
        let until_ms = for_ms.map(|ms| self.now_ms() + ms);
        // A wait for any of nothing never ends by itself.
        let until_ms = match all || !waits.targets.is_empty() {
            true => until_ms,
            false => until_ms.or(Some(self.now_ms() + 100)),
        };
        self.suspend(attempt, until, until_ms, waits)
    }

    pub(super) fn above(&self, task: TaskId) -> HashSet<TaskId> {
        let mut above = HashSet::new();
        let mut next = self.tasks.get(&task).and_then(|task| task.parent);
        while let Some(id) = next {
            above.insert(id);
            next = self.tasks.get(&id).and_then(|task| task.parent);
        }
        above
    }

    pub(super) fn suspend(
        &mut self,
        attempt: u16,
        until: Until,
        until_ms: Option<u64>,
        waits: Waits,
    ) -> Result<(), Wrong> {
        self.suspend_holding(attempt, until, until_ms, waits, Vec::new())
    }

    /// The same for an attempt whose host holds these exchanges.
    pub(super) fn suspend_holding(
        &mut self,
        attempt: u16,
        until: Until,
        until_ms: Option<u64>,
        waits: Waits,
        exchanges: Vec<u32>,
    ) -> Result<(), Wrong> {
        let Some(attempt) = self.attempt(attempt) else {
            return Ok(());
        };
        attempt.calls += 1;
        attempt.leaves = true;
        let token = attempt.task.token();
        let wait = Suspension {
            made: None,
            number: attempt.calls,
            until,
            until_ms,
            spent_ms: 0,
            exchanges,
            hears_cancel: false,
            grace_until_ms: None,
        };
        let expected = Expected::Waits(token, waits);
        self.ask(false, Some(token), expected, move |turn| {
            kernel::suspend(turn, token, &wait).map(|()| Said::Nothing)
        })
    }

    pub(super) fn end(&mut self, number: u16, ending: &Ending) -> Result<(), Wrong> {
        let Some(attempt) = self.attempt_of(number, true) else {
            return Ok(());
        };
        let task = attempt.task.clone();
        attempt.leaves = true;
        let pages = &*task.handler == "pages";
        let end = match ending {
            Ending::Rescheduled(_) | Ending::PhaseEnded(..) if pages => completed(&task, false),
            Ending::Completed { long } => completed(&task, *long),
            Ending::Failed { again, rest_ms } => {
                let failure = Failure::new(FailureKind::Handler, "no luck", *again);
                End::Failed(failure, *rest_ms)
            }
            Ending::Rescheduled(ms) => End::Rescheduled(*ms),
            Ending::Interrupted => End::Interrupted,
            Ending::PhaseEnded(after, ms) => {
                let above = self.above(task.id);
                let mut after = self.pick_some(after);
                after.retain(|target| *target != task.id && !above.contains(target));
                End::PhaseEnded {
                    phase: "next".into(),
                    input: "1".into(),
                    after,
                    until_ms: ms.map(|ms| self.now_ms() + ms),
                }
            }
        };
        self.finish(task.token(), end)
    }

    pub(super) fn finish(&mut self, token: Token, end: End) -> Result<(), Wrong> {
        let expected = Expected::Ended(token, end.clone());
        self.ask(false, Some(token), expected, move |turn| {
            kernel::finish(turn, token, &end).map(|()| Said::Nothing)
        })
    }
}
