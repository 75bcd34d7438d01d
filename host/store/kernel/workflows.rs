//! Workflows: groups whose members, and the edges between them, are all there from the start.

use std::sync::Arc;

use super::Turn;
use super::pools::POOL;
use crate::group::{Group, GroupKind, Items};
use crate::journal::Answer;
use crate::store::rows::Source;
use crate::store::unfinished::TOGETHER;
use crate::store::{CallBy, StoreError};
use crate::task::producer::Stage;
use crate::task::state::Event;
use crate::task::{Edge, NewTask, Options, Spawner, Status, Task, TaskId};
use crate::workflow::{NewWorkflow, Started, Step, WORKFLOW, Work};

/// See [`Store::run_workflow`](crate::store::Store::run_workflow).
pub fn run_workflow(
    turn: &mut Turn<'_>,
    new: &NewWorkflow,
    by: Option<&CallBy>,
) -> Result<Started, StoreError> {
    if let Some(by) = by {
        turn.claimed(by.token)?;
    }
    let started = match earlier(turn, new)? {
        Some(started) => started,
        None => start(turn, new)?,
    };
    if let Some(by) = by {
        let ids = started.jobs.iter().map(|(_, id)| *id);
        let answer = std::iter::once(started.id).chain(ids).collect();
        turn.keep_answer(by, Answer::Tasks(answer))?;
    }
    Ok(started)
}

/// The workflow that the key names already.
fn earlier(turn: &mut Turn<'_>, new: &NewWorkflow) -> Result<Option<Started>, StoreError> {
    let parent = new.spawner.map(|spawner| spawner.parent);
    let (Some(key), None) = (&new.key, new.retry_of) else {
        return Ok(None);
    };
    let Some(id) = turn.rows.by_key(parent, key)? else {
        return Ok(None);
    };
    // One that is deleted at this moment has no key any more.
    let Some(found) = turn.find(id)? else {
        return Ok(None);
    };
    if &*found.handler != WORKFLOW {
        return Err(StoreError::KeyTaken {
            key: key.clone(),
            id,
            handler: found.handler.clone(),
        });
    }
    let (mut jobs, mut after, mut more) = (Vec::new(), (0, TaskId::from_i64(0)), true);
    while more {
        let page = turn.rows.children(id, after)?;
        more = page.len() >= TOGETHER;
        after = page.last().copied().unwrap_or(after);
        for (_, job) in page {
            turn.relieve()?;
            let job = turn.get(job)?;
            if let (true, Some(key)) = (job.member, &job.key) {
                jobs.push((key.clone(), job.id));
            }
        }
    }
    Ok(Some(Started {
        id,
        created: false,
        jobs,
        at_ms: turn.now_ms,
    }))
}

fn start(turn: &mut Turn<'_>, new: &NewWorkflow) -> Result<Started, StoreError> {
    let workflow = &*new.workflow;
    let id = turn.ids.next(turn.now_ms);
    let mut task = new.task().into_task(id, turn.now_ms, 0, None);
    // Within it, the name of a pool means one pool.
    task.scope = id;
    let steps = workflow.steps.len() as u64;
    let group = Group::workflow(workflow.name.clone(), workflow.on_failure, steps);
    task.group = Some(Box::new(group));
    if let Some(parent) = task.parent {
        turn.count_spawned(parent, &task.handler)?;
    }
    let depth = task.depth + 1;
    turn.insert(task)?;
    let ids: Vec<TaskId> = (workflow.steps.iter())
        .map(|_| turn.ids.next(turn.now_ms))
        .collect();
    let sources = sources(&workflow.steps);
    for (place, step) in workflow.steps.iter().enumerate() {
        let spawner = Spawner {
            parent: id,
            sequence: place as u64 + 1,
            depth,
            scope: id,
            member: true,
            place: None,
        };
        let task = turn.step_task(workflow.steps.as_slice(), place, &ids, spawner, &sources);
        turn.count_spawned(id, &task.handler)?;
        turn.insert(task)?;
        turn.rows_touched += step.after.len();
        for (after, position) in step.after.iter().zip(0..) {
            let edge = Edge {
                upstream: ids[after.step],
                key: after.key.clone(),
                on: after.on,
                optional: after.optional,
            };
            turn.rows.add_edge(&edge, ids[place], position)?;
        }
    }
    for (place, step) in workflow.steps.iter().enumerate() {
        for &pool in &step.sources_of {
            let source = Source {
                run: 0,
                drained: false,
                declared: true,
                producer: step.producer.is_some(),
            };
            turn.rows.save_source(ids[place], ids[pool], source)?;
        }
    }
    for &step in &ids {
        // All of them are there, with their edges: one may end as soon as it begins.
        let task = turn.get(step)?;
        let each = (task.group.as_deref()).is_some_and(|group| group.each.is_some());
        if each && task.blocked_by == 0 && task.run_at_ms.is_none() {
            turn.drive(step, Event::Begun)?;
        }
    }
    let keys = workflow.steps.iter().map(|step| step.key.clone());
    Ok(Started {
        id,
        created: true,
        jobs: keys.zip(ids).collect(),
        at_ms: turn.now_ms,
    })
}

/// How many sources each step has that is a pool.
fn sources(steps: &[Step]) -> Vec<u64> {
    let mut sources = vec![0; steps.len()];
    for pool in steps.iter().flat_map(|step| &step.sources_of) {
        sources[*pool] += 1;
    }
    sources
}

impl Turn<'_> {
    /// The task of one step.
    fn step_task(
        &mut self,
        steps: &[Step],
        place: usize,
        ids: &[TaskId],
        spawner: Spawner,
        sources: &[u64],
    ) -> Task {
        let step = &steps[place];
        let dependencies: Vec<(&str, TaskId)> = (step.after.iter())
            .map(|after| {
                let key = after.key.as_ref().unwrap_or(&steps[after.step].key);
                (&**key, ids[after.step])
            })
            .collect();
        let options = Arc::new(Options {
            key: Some(step.key.clone()),
            ..step.options.clone()
        });
        let handler: Arc<str> = match &step.work {
            Work::Run { handler } => handler.clone(),
            Work::Pool(_) => POOL.into(),
            Work::Each { each, .. } => match each.items {
                Items::Array { .. } => GroupKind::Map.as_str().into(),
                Items::Pages { .. } => GroupKind::Generator.as_str().into(),
            },
        };
        let new = NewTask {
            spawner: Some(spawner),
            ..NewTask::root(handler, step.input_with(&dependencies), options)
        };
        let blocked_by = step.after.len() as u32;
        let mut task = new.into_task(ids[place], self.now_ms, blocked_by, None);
        task.optional = step.optional;
        if let Some(producer) = step.producer {
            task.producer = Some(Stage::Open);
            self.new_producer(task.id, producer);
        }
        if let Work::Each { options, each } = &step.work {
            let group = Group::each(step.key.clone(), options, each.clone());
            task.group = Some(Box::new(group));
        }
        if let Work::Pool(options) = &step.work {
            let mut group = Group::pool(step.key.clone(), options);
            group.sources = sources[place];
            task.status = Status::Running;
            task.group = Some(Box::new(group));
        }
        task
    }
}
