//! Pools: groups that several sources fill.

use std::sync::Arc;

use super::Turn;
use crate::group::{Group, PoolOptions};
use crate::journal::{Answer, RefusedCall};
use crate::store::rows::Source;
use crate::store::{CallBy, StoreError, Submitted};
use crate::task::state::Event;
use crate::task::{Failure, FailureKind, NewTask, Options, Spawner, Status, Task, TaskId};

/// The handler that a pool has in the columns that speak of handlers.
pub(super) const POOL: &str = "pool";

impl Turn<'_> {
    /// Make a new task a member of the group that is its parent. Tells which ended member it
    /// takes the place of.
    pub(super) fn join(&mut self, task: &mut Task) -> Result<Option<Status>, StoreError> {
        let now_ms = self.now_ms;
        let replaced = match task.retry_of {
            None => None,
            Some(earlier) => self
                .find(earlier)?
                .filter(|earlier| earlier.parent == task.parent)
                .map(|earlier| earlier.status),
        };
        let parent = match task.parent {
            None => None,
            Some(parent) => self.find(parent)?,
        };
        let group = parent.and_then(|parent| parent.group.as_deref().zip(Some(parent)));
        let open = match group {
            None => None,
            Some((group, pool)) => {
                task.sequence = group.spawned + 1;
                task.depth = pool.depth + 1;
                task.gate = group.concurrency.map(|_| pool.id);
                (!group.closed && !pool.status.is_terminal()).then_some(())
            }
        };
        if open.is_none() && !task.status.is_terminal() {
            // Whoever spawned it was told of it before the pool was closed.
            task.status = Status::Cancelled;
            task.blocked_by = 0;
            task.run_at_ms = None;
            task.ended_at_ms = Some(now_ms);
            let why = "its pool was closed before it could join";
            task.failure = Some(Failure::new(FailureKind::Members, why, true));
        }
        Ok(replaced)
    }

    /// Count a new member.
    pub(super) fn joined(
        &mut self,
        group: TaskId,
        replaces: Option<Status>,
        status: Status,
    ) -> Result<(), StoreError> {
        // The group may be gone; its member is not.
        if self.find(group)?.is_none() {
            return Ok(());
        }
        self.drive(group, Event::MemberAdded { replaces })?;
        if status.is_terminal() {
            self.drive(
                group,
                Event::MemberEnded {
                    status,
                    optional: false,
                    entry_bytes: 0,
                },
            )?;
        }
        Ok(())
    }

    fn new_pool(
        &mut self,
        scope: TaskId,
        name: &str,
        options: &PoolOptions,
    ) -> Result<TaskId, StoreError> {
        let id = self.ids.next(self.now_ms);
        let root = self.find(scope)?.map(|root| (root.id, root.depth));
        let sequence = match root {
            Some((root, _)) => self.rows.last_sequence(root)? + 1,
            None => 0,
        };
        let spawner = root.map(|(parent, depth)| Spawner {
            parent,
            sequence,
            depth: depth + 1,
            scope,
            member: false,
            place: None,
        });
        let new = NewTask {
            spawner,
            ..NewTask::root(POOL, "null", Options::default())
        };
        let mut task = new.into_task(id, self.now_ms, 0, None);
        task.scope = scope;
        task.status = Status::Running;
        task.group = Some(Box::new(Group::pool(name.into(), options)));
        self.insert(task)?;
        Ok(id)
    }
}

/// See [`Store::open_pool`](crate::store::Store::open_pool).
pub fn open_pool(
    turn: &mut Turn<'_>,
    by: &CallBy,
    name: &Arc<str>,
    options: &PoolOptions,
) -> Result<Result<TaskId, RefusedCall>, StoreError> {
    let caller = turn.claimed(by.token)?;
    let (caller, run, scope) = (caller.id, caller.run, caller.scope);
    let opened = open(turn, caller, run, scope, name, options)?;
    let answer = match &opened {
        Ok(pool) => Answer::Tasks(vec![*pool]),
        Err(refusal) => Answer::Refused(refusal.clone()),
    };
    turn.keep_answer(by, answer)?;
    Ok(opened)
}

fn open(
    turn: &mut Turn<'_>,
    caller: TaskId,
    run: u32,
    scope: TaskId,
    name: &str,
    options: &PoolOptions,
) -> Result<Result<TaskId, RefusedCall>, StoreError> {
    let known = turn.rows.pool_named(scope, name)?;
    let source = match known {
        Some(pool) => turn.rows.source(caller, pool)?,
        None => None,
    };
    let known = match known {
        Some(pool) => turn.find(pool)?,
        None => None,
    };
    let pool = match known.and_then(|pool| pool.group.as_deref().zip(Some(pool))) {
        Some((group, pool)) if !pool.status.is_terminal() => {
            if group.closed {
                return Ok(Err(RefusedCall::PoolClosed(format!(
                    "pool \"{name}\" ({}) takes no more: it was cancelled, or a member failed",
                    pool.id
                ))));
            }
            if let Some(why) = options.differs(group) {
                return Ok(Err(RefusedCall::Invalid(why)));
            }
            pool.id
        }
        // Another attempt of whoever filled it: what failed is done again in the same pool.
        Some((_, pool))
            if pool.status != Status::Completed && source.is_some_and(|known| known.run < run) =>
        {
            pool.id
        }
        // The others mean the one that the workflow has.
        Some((_, pool)) if pool.member => {
            return Ok(Err(RefusedCall::PoolClosed(format!(
                "pool \"{name}\" ({}) of the workflow {} already",
                pool.id,
                pool.status.predicate()
            ))));
        }
        _ => turn.new_pool(scope, name, options)?,
    };
    let known = turn.rows.source(caller, pool)?;
    let producer = turn.get(caller)?.producer.is_some();
    let opens = known.is_none_or(|known| known.drained);
    if opens || turn.get(pool)?.status.is_terminal() {
        turn.drive(pool, Event::SourceOpened)?;
        super::again::restored(turn, pool)?;
    }
    let source = Source {
        run,
        drained: false,
        declared: known.is_some_and(|known| known.declared),
        producer,
    };
    turn.rows.save_source(caller, pool, source)?;
    if opens && producer {
        let hint = turn.producer_starts(caller)?;
        turn.drive_all(hint)?;
    }
    Ok(Ok(pool))
}

/// See [`Store::spawn_member`](crate::store::Store::spawn_member).
pub fn spawn_member(
    turn: &mut Turn<'_>,
    by: &CallBy,
    new: &NewTask,
) -> Result<Submitted, StoreError> {
    turn.claimed(by.token)?;
    for &upstream in &new.options.after {
        turn.get(upstream)?;
    }
    turn.producer_adds(by.token.task)?;
    let submitted = turn.add(new.clone())?;
    let tasks = vec![submitted.id];
    let answer = match submitted.created {
        true => Answer::Tasks(tasks),
        false => Answer::Spawned {
            tasks,
            found: vec![0],
        },
    };
    turn.keep_answer(by, answer)?;
    Ok(submitted)
}

/// A source adds no more. Again: nothing.
pub fn drain(turn: &mut Turn<'_>, source: TaskId, pool: TaskId) -> Result<(), StoreError> {
    let Some(known) = turn.rows.source(source, pool)? else {
        return Ok(());
    };
    if known.drained {
        return Ok(());
    }
    let mut caused = vec![(pool, Event::SourceDrained)];
    // One that has nothing more to add is a task like any other.
    if turn.close_source(source, pool, &mut caused)? {
        let open = turn.rows.open_groups(source, TaskId::from_i64(0), 1)?;
        if open.is_empty() {
            turn.producer_stops(source)?;
        }
    }
    turn.drive_all(caused)
}
