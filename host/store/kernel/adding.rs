//! New tasks: kept, gated by what they come after, and handed on when an attempt says who goes on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Lost, Touched, Turn, clock_of};
use crate::bus::Notice;
use crate::store::{StoreError, Submitted};
use crate::task::edge::Gate;
use crate::task::state::upstream_failure;
use crate::task::{Edge, Failure, NewTask, Options, Spawner, Task, TaskId};

/// See [`Writes::submit`](crate::store::Writes::submit).
pub fn submit(turn: &mut Turn<'_>, tasks: &[NewTask]) -> Result<Vec<Submitted>, StoreError> {
    // All or none: what can be refused is looked at before the first is added.
    let mut keys: HashMap<&str, &str> = HashMap::new();
    for new in tasks {
        if let Some(key) = &new.options.key
            && **keys.entry(key).or_insert(&new.handler) != *new.handler
        {
            return Err(StoreError::KeyTwice { key: key.clone() });
        }
        for &upstream in &new.options.after {
            turn.get(upstream)?;
        }
        // One that is deleted at this moment has no key any more.
        if let Some(key) = &new.options.key
            && let Some(earlier) = turn.rows.by_key(None, key)?
            && let Some(found) = turn.find(earlier)?
            && found.handler != new.handler
        {
            return Err(StoreError::KeyTaken {
                key: key.clone(),
                id: earlier,
                handler: found.handler.clone(),
            });
        }
    }
    tasks.iter().map(|new| turn.add(new.clone())).collect()
}

impl Turn<'_> {
    /// The continuation of a completed task, as its child. Answers with why there is none: the output is damaged.
    pub(super) fn go_on(
        &mut self,
        task: &Task,
        handler: Arc<str>,
        output: &str,
    ) -> Result<Option<Failure>, StoreError> {
        let mut whole = task.clone();
        // What a producer has said may be kept apart, and then it is not here.
        if output.is_empty() {
            self.rows.fill(&mut whole)?;
        }
        if let Some(damage) = whole.damage {
            return Ok(Some(damage.failure(task.id)));
        }
        let output = match &whole.output {
            Some(kept) if output.is_empty() => kept,
            _ => output,
        };
        let input = format!(
            r#"{{"previous_task_id":"{}","previous_output":{output}}}"#,
            task.id
        );
        let spawner = Spawner {
            parent: task.id,
            sequence: self.rows.last_sequence(task.id)? + 1,
            depth: task.depth + 1,
            scope: task.scope,
            member: false,
            place: None,
        };
        let new = NewTask {
            spawner: Some(spawner),
            ..NewTask::root(handler, input, Options::default())
        };
        self.add(new).map(|_| None)
    }

    /// A new task, or the earlier one that its key names.
    pub(super) fn add(&mut self, new: NewTask) -> Result<Submitted, StoreError> {
        let parent = new.spawner.map(|spawner| spawner.parent);
        if let (Some(key), None) = (&new.options.key, new.retry_of)
            && let Some(earlier) = self.rows.by_key(parent, key)?
            && let Some(found) = self.find(earlier)?
        {
            if parent.is_none() && found.handler != new.handler {
                let (key, handler) = (key.clone(), found.handler.clone());
                return Err(StoreError::KeyTaken {
                    key,
                    id: earlier,
                    handler,
                });
            }
            return Ok(Submitted {
                id: earlier,
                created: false,
            });
        }
        let edges: Vec<Edge> = new.options.after.iter().copied().map(Edge::after).collect();
        let id = new.id.unwrap_or_else(|| self.ids.next(self.now_ms));
        let (blocked_by, lost) = self.upstreams(id, &edges)?;
        let mut task = new.into_task(id, self.now_ms, blocked_by, lost.map(|lost| lost.failure));
        let member_of = task.parent.filter(|_| task.member);
        let replaces = match member_of {
            Some(_) => self.join(&mut task)?,
            None => None,
        };
        let status = task.status;
        if let Some(parent) = parent {
            self.count_spawned(parent, &task.handler)?;
        }
        if status.is_terminal() {
            self.counts.ended(&task);
        }
        self.insert(task)?;
        if let Some(group) = member_of {
            self.joined(group, replaces, status)?;
        }
        self.rows_touched += edges.len();
        for (edge, position) in edges.iter().zip(0..) {
            self.rows.add_edge(edge, id, position)?;
        }
        Ok(Submitted { id, created: true })
    }

    pub(super) fn insert(&mut self, task: Task) -> Result<(), StoreError> {
        self.rows_touched += 1;
        self.relieve()?;
        self.rows.insert(&task)?;
        self.alarm = clock_of(&task).into_iter().chain(self.alarm).min();
        self.notices.push(Notice::of(&task));
        self.touched.insert(task.id, Touched::unchanged(task));
        Ok(())
    }

    /// How many of the edges to a task are still shut, and why one of them never opens.
    pub(super) fn upstreams(
        &mut self,
        downstream: TaskId,
        edges: &[Edge],
    ) -> Result<(u32, Option<Lost>), StoreError> {
        let (mut blocked_by, mut lost) = (0, None);
        let mut seen = HashSet::new();
        for edge in edges.iter().filter(|edge| seen.insert(edge.upstream)) {
            let status = self.get(edge.upstream)?.status;
            match self.told(edge, status, downstream)? {
                Gate::Shut => blocked_by += 1,
                Gate::Open => {}
                Gate::Lost => {
                    let upstream = self.get(edge.upstream)?;
                    lost = Some(Lost {
                        id: upstream.id,
                        status: upstream.status,
                        failure: upstream_failure(upstream, edge),
                    });
                }
            }
        }
        Ok((blocked_by, lost))
    }
}
