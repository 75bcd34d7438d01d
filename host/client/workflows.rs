//! What people ask of workflows: run one, look at its jobs, at what a task depends on.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Client, ClientError};
use crate::group::{Group, GroupKind};
use crate::store::{Filter, HandlerRow, Rank, StoreError};
use crate::task::edge::{Link, Links};
use crate::task::producer::Clocks;
use crate::task::{Json, Options, StatusSet, Task, TaskId, check_new_name, same_document};
use crate::workflow::{Definition, NewWorkflow, Problem, Role, Started, Workflow, typed};

/// Open dependencies of one job that are named.
const NAMED: u64 = 3;

/// Keys that a wrong one is compared with.
const COMPARED: u64 = 500;

/// What somebody asks for who runs a workflow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// Running again under the same key gives the first workflow.
    pub key: Option<Arc<str>>,
    /// Return the earlier workflow of the key, even if its name, input or jobs are different.
    pub reuse: bool,
    /// In place of the document's own.
    pub metadata: Option<Json>,
}

/// Which jobs of a workflow to show.
#[derive(Debug, Clone, Default)]
pub struct Jobs {
    /// Of these statuses; empty: of any.
    pub statuses: StatusSet,
    /// Those that come after this one.
    pub after: Option<TaskId>,
    /// At most so many.
    pub limit: u64,
}

/// A job of a workflow, and what it still waits for.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its task.
    pub task: Task,
    /// The first of its dependencies that have not ended, while it is blocked.
    pub waits_for: Vec<Link>,
    /// The clocks of a producer.
    pub clocks: Option<Clocks>,
}

/// What a task comes after, and what comes after it.
#[derive(Debug, Clone)]
pub struct Dependencies {
    /// The first of what it comes after.
    pub depends_on: Vec<Link>,
    /// How many there are.
    pub depends_on_count: usize,
    /// The first of what comes after it.
    pub depended_on_by: Vec<Link>,
    /// How many there are.
    pub depended_on_by_count: usize,
}

/// The part in which an earlier workflow of the same key differs. The payloads of its jobs are not compared: there may be
/// 100,000 of them.
fn differs(workflow: &Workflow, started: &Started, earlier: &Task) -> Option<&'static str> {
    let keys = workflow.steps.iter().map(|step| &step.key);
    let name = earlier.group.as_ref().map(|group| &*group.name);
    if name != Some(&*workflow.name) {
        Some("name")
    } else if !same_document(&earlier.input, &workflow.input) {
        Some("input")
    } else if !started.jobs.iter().map(|(key, _)| key).eq(keys) {
        Some("list of jobs")
    } else {
        None
    }
}

impl Client {
    /// Make a workflow with all of its jobs in one transaction. Nothing is made when a handler of
    /// it is unknown.
    pub async fn run_workflow(
        &self,
        definition: Definition,
        run: Run,
    ) -> Result<Started, ClientError> {
        let options = Options {
            key: run.key.clone(),
            metadata: run.metadata.or(definition.metadata.clone()),
            ..Options::default()
        };
        let invalid = |what| ClientError::Invalid { what, line: None };
        options.check_new().map_err(invalid)?;
        check_new_name("workflow's name", &definition.workflow.name).map_err(invalid)?;
        let checked = self.look(move |client| client.check_workflow(&definition));
        let definition = match checked.await? {
            Ok(definition) => definition,
            Err(problems) => return Err(ClientError::Problems(problems)),
        };
        let new = NewWorkflow {
            workflow: definition.workflow.clone(),
            spawner: None,
            retry_of: None,
            key: options.key,
            metadata: options.metadata,
        };
        let started = self.store.run_workflow(new, None).await?;
        if let (Some(key), false, false) = (run.key, started.created, run.reuse) {
            let earlier = self.earlier(started.id).await?;
            if let Some(part) = differs(&definition.workflow, &started, &earlier) {
                return Err(ClientError::KeyUsed {
                    key: key.to_string(),
                    noun: "workflow",
                    id: started.id,
                    part,
                });
            }
        }
        Ok(started)
    }

    /// A workflow with the maps that its types ask for; or what is wrong with its handlers: those that
    /// nobody could run, else each job that cannot take what it is given.
    pub fn check_workflow(
        &self,
        definition: &Definition,
    ) -> Result<Result<Definition, Vec<Problem>>, ClientError> {
        let unknown = self.unknown_handlers(definition)?;
        if !unknown.is_empty() {
            return Ok(Err(unknown));
        }
        let names: BTreeSet<&str> = definition.handlers().map(|(_, name, _)| name).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let handlers = self.store.handlers_named(&names)?;
        let rows: HashMap<&str, &HandlerRow> = (handlers.iter())
            .map(|row| (row.name.as_str(), row))
            .collect();
        let known = |name: &str| rows.get(name).and_then(|row| row.function.clone());
        let checked = typed(definition, &known);
        if checked.is_ok() {
            return Ok(checked);
        }
        // Not by the word of a component that was replaced while no host ran.
        let mut current = HashMap::new();
        for row in handlers.iter().filter(|row| row.function.is_some()) {
            current.insert(row.name.as_str(), self.is_current(row)?);
        }
        let is_current = |name: &str| current.get(name).copied().unwrap_or(false);
        Ok(typed(definition, &|name| {
            known(name).filter(|_| is_current(name))
        }))
    }

    /// Each handler of a workflow that nobody could run, with the first job that names it.
    fn unknown_handlers(&self, definition: &Definition) -> Result<Vec<Problem>, ClientError> {
        let mut order: Vec<(&str, Role)> = Vec::new();
        let mut users: HashMap<(&str, Role), (usize, usize)> = HashMap::new();
        let mut uses = |name, role, step| {
            let user = users.entry((name, role)).or_insert_with(|| {
                order.push((name, role));
                (step, 0)
            });
            user.1 += 1;
        };
        for (index, name, role) in definition.handlers() {
            uses(name, role, index);
        }
        let mut problems = Vec::new();
        for error in self.unknown(order.iter().copied())? {
            let (name, roles) = match &error {
                ClientError::UnknownHandler { name, .. } => (name, &[Role::Tasks, Role::Pages][..]),
                ClientError::IsGenerator { name } => (name, &[Role::Tasks][..]),
                ClientError::NoGenerator { name } => (name, &[Role::Pages][..]),
                _ => continue,
            };
            let mut users = roles
                .iter()
                .filter_map(|&role| users.get(&(name.as_str(), role)));
            let (first, count) = users.next().copied().unwrap_or_default();
            let key = &definition.workflow.steps[first].key;
            let others = match count {
                0 | 1 => String::new(),
                2 => " and another".to_owned(),
                many => format!(" and {} others", many - 1),
            };
            let (line, column) = definition.places[first];
            problems.push(Problem {
                line,
                column,
                what: format!("{error} (job \"{key}\"{others})"),
                hint: error.hint(),
            });
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems.dedup();
        Ok(problems)
    }

    /// The workflow of that id or beginning of an id.
    pub fn workflow(&self, name: &str) -> Result<(Task, Group), ClientError> {
        let task = self.task(self.resolve(name)?)?;
        let group = task.group.as_deref().cloned();
        match group.filter(|group| group.kind == GroupKind::Workflow) {
            Some(group) => Ok((task, group)),
            None => Err(ClientError::NoWorkflow {
                id: task.id,
                handler: task.handler.to_string(),
            }),
        }
    }

    /// Jobs of a workflow in their order, and whether each has what it starts after.
    pub fn jobs_of(&self, workflow: TaskId, jobs: &Jobs) -> Result<Vec<Job>, ClientError> {
        let filter = Filter {
            statuses: jobs.statuses,
            parent: Some(workflow),
            after: jobs.after,
            limit: jobs.limit,
            ..Filter::default()
        };
        let job = |task: Task| {
            let waits_for = match task.blocked_by {
                0 => Vec::new(),
                _ => self.store.links(task.id, Links::OpenUpstream, NAMED)?,
            };
            let clocks = match task.producer {
                None => None,
                Some(_) => self.store.clocks(task.id)?,
            };
            Ok(Job {
                task,
                waits_for,
                clocks,
            })
        };
        self.list(&filter)?.into_iter().map(job).collect()
    }

    /// What a task comes after, and what comes after it: at most `limit` of each.
    pub fn dependencies(&self, id: TaskId, limit: u64) -> Result<Dependencies, ClientError> {
        let depends_on = self.store.links(id, Links::Upstream, limit)?;
        let depended_on_by = self.store.links(id, Links::Downstream, limit)?;
        let all = |shown: usize, count: &dyn Fn() -> Result<usize, StoreError>| {
            if (shown as u64) < limit {
                Ok(shown)
            } else {
                count()
            }
        };
        Ok(Dependencies {
            depends_on_count: all(depends_on.len(), &|| Ok(self.store.upstreams(id)?.len()))?,
            depended_on_by_count: all(depended_on_by.len(), &|| {
                Ok(self.store.downstreams(id)?.len())
            })?,
            depends_on,
            depended_on_by,
        })
    }

    /// The child of a task that has that key, or that number among its siblings.
    pub(super) fn child(&self, parent: TaskId, key: &str) -> Result<TaskId, ClientError> {
        if let Some(child) = self.store.child_by_key(parent, key)? {
            return Ok(child);
        }
        if let Ok(index) = key.parse::<u64>() {
            let before = Rank {
                sequence: index,
                id: TaskId::from_i64(i64::MAX),
            };
            let next = self.store.child_nodes(parent, before, 1)?;
            let same = next.first().map(|node| &node.task);
            if let Some(child) = same.filter(|task| task.sequence == index.saturating_add(1)) {
                return Ok(child.id);
            }
        }
        let children = self.store.child_nodes(parent, Rank::START, COMPARED)?;
        Err(ClientError::UnknownKey {
            of: parent,
            key: key.to_owned(),
            known: (children.iter())
                .filter_map(|node| node.task.key.as_ref().map(ToString::to_string))
                .collect(),
        })
    }
}
