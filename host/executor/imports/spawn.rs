//! Spawning: the children of a task, and finding those of earlier runs again.
//!
//! Within a run a spawn is replayed from the child's own row. Across runs it is idempotent: a spawn
//! with the content of an earlier child (handler, input, options) takes that child up when it has
//! completed or still lives, and makes a successor of it when it failed. Children are taken up in
//! the order in which they were spawned, so the n-th spawn of some content finds the n-th such
//! child, wherever the calls in between have moved.

use std::sync::Arc;

use super::tasks::{ID_BYTES, check_input};
use crate::executor::earlier::{Earlier, Found};
use crate::executor::guest::Guest;
use crate::journal::{Answer, Call, RefusedCall, content};
use crate::loader::Handler;
use crate::store::{Rank, Record, Urgency};
use crate::task::{
    NewChild, NewChildren, Options, Spawner, Status, TaskId, check_after, check_name,
};
use crate::types;

/// A task that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spawned {
    pub id: TaskId,
    /// Whether it is new: it was not there by its key, or from an earlier attempt.
    pub created: bool,
}

/// What the spawns of one call have in common.
struct Alike<'a> {
    phase: &'a str,
    handler: &'a str,
    options: String,
}

impl Alike<'_> {
    fn new<'a>(phase: &'a str, handler: &'a str, options: Option<&Options>) -> Alike<'a> {
        Alike {
            phase,
            handler,
            // Once for all inputs: it names each task that they start after.
            options: options.map(Options::fingerprint).unwrap_or_default(),
        }
    }

    /// What makes the spawn with an input the same spawn.
    fn content(&self, input: &str) -> u64 {
        content([
            self.handler.as_bytes(),
            input.as_bytes(),
            self.phase.as_bytes(),
            self.options.as_bytes(),
        ])
    }
}

/// What the host holds of inputs until their children are made, in bytes.
fn bytes_of(inputs: &[String]) -> u64 {
    let bytes = |input: &String| input.len() as u64 + ID_BYTES;
    inputs.iter().map(bytes).sum()
}

fn spawn_call(handler: &str, inputs: &[String], contents: &[u64]) -> Call {
    Call::spawn(handler, inputs.first().map_or("", |input| input), contents)
}

/// What the record of a call says of the tasks that it asked for.
pub(super) fn spawned(answer: &Answer) -> Option<Vec<Spawned>> {
    let all = |ids: &[TaskId], found: &[u32]| {
        let spawned = ids.iter().zip(0_u32..);
        spawned
            .map(|(&id, at)| Spawned {
                id,
                created: found.binary_search(&at).is_err(),
            })
            .collect()
    };
    match answer {
        Answer::Tasks(ids) => Some(all(ids, &[])),
        Answer::Spawned { tasks, found } => Some(all(tasks, found)),
        _ => None,
    }
}

/// The record of such a call.
pub(super) fn answer_of(spawned: &[Spawned]) -> Answer {
    let tasks = spawned.iter().map(|spawned| spawned.id).collect();
    let found: Vec<u32> = (spawned.iter().zip(0..))
        .filter(|(spawned, _)| !spawned.created)
        .map(|(_, at)| at)
        .collect();
    if found.is_empty() {
        Answer::Tasks(tasks)
    } else {
        Answer::Spawned { tasks, found }
    }
}

impl Guest {
    /// Children of one handler, one for each input. What is more than one transaction may make is several
    /// host calls for the journal, each with a number and a record of its own: an attempt that was cut off
    /// between two of them goes on with the next.
    pub(super) async fn spawn_children(
        &mut self,
        handler: String,
        inputs: Vec<String>,
        checked: Result<Options, RefusedCall>,
        urgency: Urgency,
    ) -> wasmtime::Result<Result<Vec<Spawned>, RefusedCall>> {
        let options = checked.as_ref().ok();
        let alike = Alike::new(&self.task.phase, &handler, options);
        let contents: Vec<u64> = inputs.iter().map(|input| alike.content(input)).collect();
        let whole = spawn_call(&handler, &inputs, &contents);
        self.read_ahead()?;
        let options = match checked {
            // An older version made all of them in one call, whatever their number.
            Ok(options)
                if inputs.len() > self.part(&options, &inputs) && !self.cursor.has_next(&whole) =>
            {
                options
            }
            checked => {
                return self
                    .spawn_once(whole, contents, handler, inputs, checked, urgency)
                    .await;
            }
        };
        let spawned = self.spawn_in_parts(whole, &contents, &handler, inputs, options, urgency);
        spawned.await
    }

    /// How many of these, from the first, the next call for the journal makes. A replay goes by its record: the version
    /// that wrote it may have known another bound.
    fn part(&self, options: &Options, inputs: &[String]) -> usize {
        let recorded = self.cursor.next_tasks();
        let recorded = recorded.filter(|many| (1..=inputs.len()).contains(many));
        recorded.unwrap_or_else(|| options.first_part(inputs))
    }

    async fn spawn_in_parts(
        &mut self,
        whole: Call,
        contents: &[u64],
        handler: &str,
        all: Vec<String>,
        options: Options,
        urgency: Urgency,
    ) -> wasmtime::Result<Result<Vec<Spawned>, RefusedCall>> {
        let (options, shared) = (Arc::new(options), Arc::from(handler));
        let all_bytes = bytes_of(&all);
        let mut spawned = Vec::with_capacity(all.len());
        while spawned.len() < all.len() {
            let left = &all[spawned.len()..];
            let inputs = &left[..self.part(&options, left)];
            let contents = &contents[spawned.len()..][..inputs.len()];
            let call = spawn_call(handler, inputs, contents);
            match self.spawned_before(&call, inputs.len(), Some(&options))? {
                Some(Ok(before)) => {
                    spawned.extend(before);
                    continue;
                }
                Some(Err(refusal)) => return Ok(Err(refusal)),
                None => {}
            }
            self.hold(all_bytes)?;
            self.settle_before(&options).await?;
            // With the first part all of them are judged.
            if spawned.is_empty()
                && let Err(refusal) = self.judge(handler, &all, &options)?
            {
                // Of a refusal nobody could tell which part it was about.
                return self.refuse(whole, refusal).await;
            }
            let made = self.make(call, contents, &shared, inputs.to_vec(), &options, urgency);
            spawned.extend(made.await?);
        }
        Ok(Ok(spawned))
    }

    /// Children in one call that is one call for the journal, too.
    pub(super) async fn spawn_once(
        &mut self,
        call: Call,
        contents: Vec<u64>,
        handler: String,
        inputs: Vec<String>,
        checked: Result<Options, RefusedCall>,
        urgency: Urgency,
    ) -> wasmtime::Result<Result<Vec<Spawned>, RefusedCall>> {
        let options = checked.as_ref().ok();
        if let Some(spawned) = self.spawned_before(&call, inputs.len(), options)? {
            return Ok(spawned);
        }
        self.hold(bytes_of(&inputs))?;
        self.spawn_new(call, contents, handler, inputs, checked, urgency)
            .await
    }

    /// What the call that is made now has spawned before, when this is a replay.
    pub(super) fn spawned_before(
        &mut self,
        call: &Call,
        count: usize,
        options: Option<&Options>,
    ) -> wasmtime::Result<Option<Result<Vec<Spawned>, RefusedCall>>> {
        Ok(match self.step(call)? {
            Some(Answer::Refused(refusal)) => Some(Err(refusal)),
            Some(answer) => spawned(&answer)
                .filter(|spawned| spawned.len() == count)
                .map(|spawned| Ok(self.replayed(options, spawned))),
            _ => None,
        })
    }

    /// Children that were not spawned before, one for each input; `contents` are what makes each the
    /// same again.
    pub(super) async fn spawn_new(
        &mut self,
        call: Call,
        contents: Vec<u64>,
        handler: String,
        inputs: Vec<String>,
        checked: Result<Options, RefusedCall>,
        urgency: Urgency,
    ) -> wasmtime::Result<Result<Vec<Spawned>, RefusedCall>> {
        if let Ok(options) = &checked {
            self.settle_before(options).await?;
        }
        let judged = match checked {
            Ok(options) => self.judge(&handler, &inputs, &options)?.map(|()| options),
            Err(refusal) => Err(refusal),
        };
        let options = match judged {
            Ok(options) => Arc::new(options),
            Err(refusal) => return self.refuse(call, refusal).await,
        };
        let handler = handler.into();
        let made = self.make(call, &contents, &handler, inputs, &options, urgency);
        Ok(Ok(made.await?))
    }

    /// Whether these children may be made. All of one call are judged before the first is made.
    fn judge(
        &mut self,
        handler: &str,
        inputs: &[String],
        options: &Options,
    ) -> wasmtime::Result<Result<(), RefusedCall>> {
        if let Err(refusal) = self.all_acceptable(handler, inputs, options) {
            return Ok(Err(refusal));
        }
        if let Some(refusal) = self.unknown_upstream(&options.after)? {
            return Ok(Err(refusal));
        }
        if let Some(refusal) = self.not_retried(options, self.task.id)? {
            return Ok(Err(refusal));
        }
        let children = self.last_sequence()? + inputs.len() as u64;
        let limits = &self.handler.manifest.limits;
        if children > limits.children_max {
            let most = limits.children_max;
            let why = format!(
                "the task would have {children} children, more than {most} (limits.children)"
            );
            return Ok(Err(RefusedCall::Limit(why)));
        }
        if self.task.depth + 1 > limits.depth_max {
            let why = format!(
                "the child would be {} levels deep (limits.depth)",
                self.task.depth + 1
            );
            return Ok(Err(RefusedCall::Limit(why)));
        }
        Ok(Ok(()))
    }

    fn all_acceptable(
        &self,
        handler: &str,
        inputs: &[String],
        options: &Options,
    ) -> Result<(), RefusedCall> {
        (options.check_many(inputs.len())).map_err(RefusedCall::Limit)?;
        for input in inputs {
            self.acceptable(handler, input, options)?;
        }
        if inputs.len() > 1 && options.key.is_some() {
            let why = "one key cannot name several tasks";
            return Err(RefusedCall::Invalid(why.to_owned()));
        }
        if inputs.len() > 1 && options.retry_of.is_some() {
            let why = "several tasks cannot take the place of one (retry-of)";
            return Err(RefusedCall::Invalid(why.to_owned()));
        }
        Ok(())
    }

    /// Make children, or take up those of an earlier run that are the same.
    async fn make(
        &mut self,
        call: Call,
        contents: &[u64],
        handler: &Arc<str>,
        inputs: Vec<String>,
        options: &Arc<Options>,
        urgency: Urgency,
    ) -> wasmtime::Result<Vec<Spawned>> {
        let sequence = self.last_sequence()?;
        let number = self.cursor.number();
        let mut ids = Vec::with_capacity(inputs.len());
        let mut each = Vec::with_capacity(inputs.len());
        // One time for the whole call: it is the time of its record.
        let now_ms = self.durable_now_ms();
        for (index, (input, &content)) in inputs.into_iter().zip(contents).enumerate() {
            let earlier = self.earlier(options, content)?;
            let retry_of = match earlier {
                Found::Same(id) => {
                    let created = false;
                    ids.push(Spawned { id, created });
                    continue;
                }
                Found::Failed(id) => Some(id),
                Found::None => options.retry_of,
            };
            let id = self.agents.store.ids().next(self.agents.clock.now_ms());
            each.push(NewChild {
                id,
                input: input.into(),
                index: index as u32,
                content,
                retry_of,
            });
            self.children.fresh.insert(id);
            if let Some(key) = &options.key {
                self.children.keys.insert(key.clone(), id);
            }
            ids.push(Spawned { id, created: true });
        }
        self.children.sequence = Some(sequence + each.len() as u64);
        let all_new = each.len() == ids.len();
        let mut records = Vec::new();
        if !each.is_empty() {
            let spawner = Spawner {
                parent: self.task.id,
                sequence: sequence + 1,
                depth: self.task.depth + 1,
                scope: self.task.scope,
                member: false,
                place: None,
            };
            records.push(Record::Children(Box::new(NewChildren {
                handler: handler.clone(),
                options: options.clone(),
                created_at_ms: now_ms,
                spawner,
                run: self.task.run,
                call: number,
                each,
            })));
        }
        if !all_new || ids.is_empty() {
            // The rows of the new children alone would not tell the whole answer; where there are none, they
            // would not tell that the call was made.
            let entry = self.entry(call, answer_of(&ids));
            records.push(Record::Entry(Box::new(entry)));
        }
        if !records.is_empty() {
            self.record(records, urgency).await?;
        }
        Ok(ids)
    }

    /// What makes a spawn the same spawn.
    pub(super) fn content(&self, handler: &str, input: &str, options: Option<&Options>) -> u64 {
        Alike::new(&self.task.phase, handler, options).content(input)
    }

    /// Whether a task may be made of this.
    pub(super) fn acceptable(
        &self,
        handler: &str,
        input: &str,
        options: &Options,
    ) -> Result<(), RefusedCall> {
        check_name("handler's name", handler).map_err(RefusedCall::Invalid)?;
        check_after(options.after.len()).map_err(RefusedCall::Limit)?;
        check_input(input)?;
        if let Some(next) = options.on_complete.as_deref() {
            self.known(next)?;
        }
        let known = self.known(handler)?;
        // What comes after other tasks may take some of its arguments from them.
        if options.after.is_empty()
            && let Some(known) = known
            && let Some(exported) = known.function(handler)
        {
            types::check(&exported.function, input).map_err(|mismatch| {
                RefusedCall::Invalid(format!("{handler} does not take this input: {mismatch}"))
            })?;
        }
        Ok(())
    }

    /// The handler that runs tasks of that type; none when its file is still being loaded, which
    /// holds the task until then.
    fn known(&self, task_type: &str) -> Result<Option<Arc<Handler>>, RefusedCall> {
        let loader = &self.agents.loader;
        let component = types::component_of(task_type);
        let loads = loader.loads(component);
        if loader
            .get(task_type)
            .is_some_and(|handler| handler.generator)
        {
            return Err(RefusedCall::Invalid(format!(
                "\"{task_type}\" is a page generator, and runs no task by itself"
            )));
        }
        match (loader.get(task_type), loader.component(component)) {
            (Some(handler), _) => Ok(Some(handler)),
            (None, None) if loads => Ok(None),
            (None, None) => Err(RefusedCall::UnknownHandler(task_type.to_owned())),
            (None, Some(other)) => {
                let known: Vec<String> = other.task_types().map(|(name, _)| name).collect();
                Err(RefusedCall::Invalid(format!(
                    "there is no handler \"{task_type}\": {component} has {}",
                    known.join(", ")
                )))
            }
        }
    }

    /// A task to come after that there is not.
    pub(super) fn unknown_upstream(
        &mut self,
        after: &[TaskId],
    ) -> wasmtime::Result<Option<RefusedCall>> {
        let foreign: Vec<TaskId> = after
            .iter()
            .copied()
            .filter(|id| !self.children.fresh.contains(id))
            .collect();
        if foreign.is_empty() {
            return Ok(None);
        }
        let store = self.store();
        let statuses = store
            .statuses(&foreign)
            .map_err(|error| self.store_failed(&error))?;
        let missing = foreign
            .iter()
            .zip(statuses)
            .find(|(_, status)| status.is_none());
        Ok(missing.map(|(id, _)| RefusedCall::UnknownTask(id.to_string())))
    }

    /// Another try of a task that was spawned a moment ago has to be on disk before it is looked for.
    pub(super) async fn settle_before(&mut self, options: &Options) -> wasmtime::Result<()> {
        match options.retry_of {
            Some(_) => self.settle().await,
            None => Ok(()),
        }
    }

    /// Why no task may take the place of the one that `retry-of` names among the children of `parent`.
    pub(super) fn not_retried(
        &mut self,
        options: &Options,
        parent: TaskId,
    ) -> wasmtime::Result<Option<RefusedCall>> {
        let Some(id) = options.retry_of else {
            return Ok(None);
        };
        let store = self.store();
        let found = store.tasks(&[id]);
        let found = found.map_err(|error| self.store_failed(&error))?;
        let Some(task) = found.into_iter().flatten().next() else {
            return Ok(Some(RefusedCall::UnknownTask(id.to_string())));
        };
        let status = task.status;
        let why = if task.parent != Some(parent) {
            "it is no child of this task, or no member of this pool".to_owned()
        } else if status == Status::Completed || !status.is_terminal() {
            format!("it {}", status.predicate())
        } else {
            let later = store.retry_nodes(id, Rank::START, 1);
            let later = later.map_err(|error| self.store_failed(&error))?;
            match later.first() {
                None => return Ok(None),
                Some(later) => format!("it was tried again as {}: name that one", later.task.id),
            }
        };
        let why = format!("retry-of: task {id} cannot be tried again: {why}");
        Ok(Some(RefusedCall::Invalid(why)))
    }

    /// Children that the journal knows of.
    fn replayed(&mut self, options: Option<&Options>, ids: Vec<Spawned>) -> Vec<Spawned> {
        for &Spawned { id, .. } in &ids {
            self.children.fresh.insert(id);
            if let Some(key) = options.and_then(|options| options.key.clone()) {
                self.children.keys.insert(key, id);
            }
        }
        ids
    }

    pub(super) fn last_sequence(&mut self) -> wasmtime::Result<u64> {
        if let Some(sequence) = self.children.sequence {
            return Ok(sequence);
        }
        let store = self.store();
        let last = store
            .last_sequence(self.task.id)
            .map_err(|error| self.store_failed(&error))?;
        self.children.sequence = Some(last);
        Ok(last)
    }

    /// A child that this spawn names again: by its key within the run, or one of an earlier run.
    fn earlier(&mut self, options: &Options, content: u64) -> wasmtime::Result<Found> {
        let key = options.key.as_ref().filter(|_| options.retry_of.is_none());
        if let Some(known) = key.and_then(|key| self.children.keys.get(key)) {
            return Ok(Found::Same(*known));
        }
        match self.earlier_of(content)? {
            Found::None => {}
            found => return Ok(found),
        }
        // Another input under the same key: the key decides. In the first run this only happens after a replay has
        // skipped calls.
        let others = self.task.run > 0 || self.children.left_out;
        if let (Some(key), true) = (key, others) {
            let store = self.store();
            let known = store
                .child_by_key(self.task.id, key)
                .map_err(|error| self.store_failed(&error))?;
            if let Some(id) = known {
                return Ok(Found::Same(id));
            }
        }
        Ok(Found::None)
    }

    /// A child of an earlier run with that content, which no other call of this run has taken up.
    pub(super) fn earlier_of(&mut self, content: u64) -> wasmtime::Result<Found> {
        // The first run of a task has nothing before it.
        if self.task.run == 0 {
            return Ok(Found::None);
        }
        if self.children.earlier.is_none() {
            let store = self.store();
            let children = store
                .earlier_children(self.task.id)
                .map_err(|error| self.store_failed(&error))?;
            let fresh = &self.children.fresh;
            let earlier = Earlier::new(children, |id| fresh.contains(&id));
            self.children.earlier = Some(earlier);
        }
        let earlier = self.children.earlier.as_mut();
        Ok(earlier.map_or(Found::None, |earlier| earlier.take(content)))
    }
}
