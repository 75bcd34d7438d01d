//! Maps and generators: where their items come from, and the output that is made of theirs.

use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Turn;
use crate::group::{Each, Group, GroupKind, Items, OnFailure, error_entry};
use crate::limits;
use crate::store::StoreError;
use crate::store::rows::Source;
use crate::store::unfinished::{Kind, Unfinished};
use crate::task::state::{Event, FIRST_PAGE, Refusal};
use crate::task::{
    Failure, FailureKind, Json, NewTask, Options, Spawner, Status, Task, TaskId, Token,
};

/// The key of the task that tells the items of a generator, among what that contains.
const SOURCE: &str = "source";

/// Outputs that are read at once when the output of a group is made of them.
const OUTPUTS_AT_ONCE: usize = 200;

impl Turn<'_> {
    /// A map has started: make its items. A generator has: make the task that tells them.
    pub(super) fn expand(
        &mut self,
        task: &Task,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<(), StoreError> {
        let Some(group) = task.group.as_deref() else {
            return Ok(());
        };
        let Some(each) = group.each.clone() else {
            return Ok(());
        };
        let lost = match &each.items {
            Items::Array { .. } => return self.begin_items(task.id, group.spawned, caused),
            Items::Pages { source, .. } => self.add_source(task, group, source, caused)?,
        };
        caused.extend(lost.map(|failure| (task.id, Event::SourceLost { failure })));
        Ok(())
    }

    /// A map makes its items, behind those that it has.
    fn begin_items(
        &mut self,
        map: TaskId,
        there: u64,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<(), StoreError> {
        let known = self.rows.unfinished_of(map)?;
        if known.iter().any(|work| work.kind == Kind::Items) {
            return Ok(());
        }
        let begin = (there, TaskId::from_i64(0));
        let work = Unfinished::new(map, Kind::Items).done_until(begin);
        self.spread(work, caused)
    }

    /// Make more items of a map, as far as the transaction has room. It is a source of itself until it has
    /// all of them, so it does not end before.
    pub(super) fn more_items(
        &mut self,
        work: Unfinished,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<Option<Unfinished>, StoreError> {
        let Some(task) = self.find(work.subject)?.cloned() else {
            return Ok(None);
        };
        let group = task.group.as_deref();
        let Some(group) = group.filter(|_| !task.status.is_terminal()) else {
            return Ok(None);
        };
        if group.closed {
            // It was cancelled, or has failed already, and needs no more of them.
            caused.push((task.id, Event::Released { sources: 1 }));
            return Ok(None);
        }
        let Some(each) = group.each.clone().filter(|_| !group.sealed) else {
            return Ok(None);
        };
        let Items::Array { over } = &each.items else {
            return Ok(None);
        };
        let there = work.after.0;
        match self.add_elements(&task, &each, over.as_deref(), there)? {
            Err(failure) => {
                caused.push((task.id, Event::SourceLost { failure }));
                Ok(None)
            }
            Ok((items, all)) => {
                caused.push((task.id, Event::ItemsAdded { items }));
                if there + items < all {
                    return Ok(Some(work.done_until((there + items, work.after.1))));
                }
                caused.push((task.id, Event::SourceDrained));
                Ok(None)
            }
        }
    }

    /// Items of a map, behind those that are there, as many as there is room for. Answers with how many, and
    /// with how many elements the array has; or with why there are none.
    fn add_elements(
        &mut self,
        task: &Task,
        each: &Each,
        over: Option<&str>,
        there: u64,
    ) -> Result<Result<(u64, u64), Failure>, StoreError> {
        let found = match over {
            None => self
                .filled(task.id)?
                .map(|task| (Some(task.input), "its input".to_owned())),
            Some(key) => self.output_of(task.id, key)?,
        };
        let (array, what) = match found {
            Ok(found) => found,
            Err(failure) => return Ok(Err(failure)),
        };
        let page = Page {
            skip: there as usize,
            take: self.rows_max.saturating_sub(self.rows_touched).max(1),
        };
        let (elements, all) = match elements(array.as_deref(), page) {
            Ok(found) => found,
            Err(found) => {
                let message = format!("expected array, got {found}: {what}");
                return Ok(Err(Failure::new(FailureKind::TypeMismatch, message, false)));
            }
        };
        if all > limits::MAP_ITEMS_MAX {
            let message = format!(
                "{what} has {all} elements, more than the {} that a map may have: a generator tells them page by page",
                limits::MAP_ITEMS_MAX
            );
            return Ok(Err(Failure::new(FailureKind::Limit, message, false)));
        }
        self.add_items(task, each, elements.iter().map(|element| element.get()))?;
        Ok(Ok((elements.len() as u64, all as u64)))
    }

    /// What the dependency of that key has returned, and what to call it in a message.
    fn output_of(
        &mut self,
        task: TaskId,
        over: &str,
    ) -> Result<Result<(Option<Json>, String), Failure>, StoreError> {
        for edge in self.rows.upstreams(task)? {
            let upstream = match self.filled(edge.upstream)? {
                Ok(upstream) => upstream,
                Err(failure) => return Ok(Err(failure)),
            };
            if edge.key.or(upstream.key.clone()).as_deref() == Some(over) {
                let what = match upstream.status {
                    Status::Completed => format!("the output of \"{over}\""),
                    status => format!("\"{over}\" {}", status.predicate()),
                };
                return Ok(Ok((upstream.output, what)));
            }
        }
        Ok(Ok((None, format!("it does not come after \"{over}\""))))
    }

    /// A task with all of its payloads, or that they are damaged.
    fn filled(&mut self, id: TaskId) -> Result<Result<Task, Failure>, StoreError> {
        // What changed in this turn is read as well.
        self.flush()?;
        let mut task = self.get(id)?.clone();
        self.rows.fill(&mut task)?;
        Ok(match task.damage {
            // One that has failed by that is known to have no output.
            Some(damage) if task.status != Status::Failed => Err(damage.failure(id)),
            _ => Ok(task),
        })
    }

    /// So many more members, in this order.
    fn add_items<'a>(
        &mut self,
        task: &Task,
        each: &Each,
        inputs: impl Iterator<Item = &'a str>,
    ) -> Result<(), StoreError> {
        let Some(group) = task.group.as_deref() else {
            return Ok(());
        };
        let handler: Arc<str> = each.handler.as_str().into();
        let options = Arc::new(Options {
            queue: Some(task.queue.clone()),
            priority: Some(task.priority),
            timeout_ms: task.timeout_ms,
            attempts_max: task.attempts_max,
            ..Options::default()
        });
        let mut sequence = group.spawned;
        for input in inputs {
            sequence += 1;
            let spawner = Spawner {
                parent: task.id,
                sequence,
                depth: task.depth + 1,
                scope: task.scope,
                member: true,
                place: None,
            };
            let new = NewTask {
                spawner: Some(spawner),
                ..NewTask::root(handler.clone(), input, options.clone())
            };
            let id = self.ids.next(self.now_ms);
            let mut item = new.into_task(id, self.now_ms, 0, None);
            item.gate = group.concurrency.map(|_| task.id);
            self.insert(item)?;
        }
        self.count_items(&task.handler, &handler, sequence - group.spawned);
        Ok(())
    }

    /// The task that tells the items of a generator, or why there is none.
    fn add_source(
        &mut self,
        task: &Task,
        group: &Group,
        handler: &str,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<Option<Failure>, StoreError> {
        let earlier = match self.rows.by_key(Some(task.id), SOURCE)? {
            Some(id) => self.find(id)?.cloned(),
            None => None,
        };
        let source = match earlier {
            // It ran when the generator alone was cancelled, and has not told its page yet.
            Some(source) if !source.status.is_terminal() => source,
            Some(source) if source.status == Status::Completed => {
                // All of its items are there.
                caused.push((task.id, Event::SourceDrained));
                return Ok(None);
            }
            Some(source) => return Ok(Some(source_failure(&source))),
            None if group.spawned > 0 => {
                let message = "the task that told its items was deleted, and with it the place where it stood";
                return Ok(Some(Failure::new(FailureKind::Members, message, false)));
            }
            None => match self.filled(task.id)? {
                Ok(whole) => self.new_source(&whole, handler)?,
                Err(failure) => return Ok(Some(failure)),
            },
        };
        self.open_source(task.id, &source)?;
        Ok(None)
    }

    fn open_source(&mut self, generator: TaskId, source: &Task) -> Result<(), StoreError> {
        let open = Source {
            run: source.run,
            drained: false,
            declared: false,
            producer: false,
        };
        self.rows.save_source(source.id, generator, open)
    }

    /// One of its items goes on, and with it a generator that had ended. Who tells its items may still
    /// run.
    pub(super) fn find_source(
        &mut self,
        task: &Task,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<(), StoreError> {
        let group = task.group.as_deref();
        if let Some(map) = group.filter(|group| group.kind == GroupKind::Map) {
            // It was cancelled before all of its items were there: it makes the others now.
            caused.push((task.id, Event::SourceOpened));
            return self.begin_items(task.id, map.spawned, caused);
        }
        let Some(id) = self.rows.by_key(Some(task.id), SOURCE)? else {
            return Ok(());
        };
        if let Some(source) = self.find(id)?.cloned()
            && !source.status.is_terminal()
        {
            self.open_source(task.id, &source)?;
            caused.push((task.id, Event::SourceOpened));
        }
        Ok(())
    }

    /// `task` has its payloads here.
    fn new_source(&mut self, task: &Task, handler: &str) -> Result<Task, StoreError> {
        let input = task.input.clone();
        let options = Options {
            key: Some(SOURCE.into()),
            queue: Some(task.queue.clone()),
            priority: Some(task.priority),
            ..Options::default()
        };
        let spawner = Spawner {
            parent: task.id,
            // Before all items.
            sequence: 0,
            depth: task.depth + 1,
            scope: task.scope,
            member: false,
            place: None,
        };
        let new = NewTask {
            spawner: Some(spawner),
            ..NewTask::root(handler, input, options)
        };
        let id = self.ids.next(self.now_ms);
        let mut source = new.into_task(id, self.now_ms, 0, None);
        source.phase = FIRST_PAGE.into();
        self.count_items(&task.handler, &source.handler, 1);
        self.insert(source.clone())?;
        Ok(source)
    }

    /// The generator whose items a task tells.
    pub(super) fn generator_of(&mut self, source: &Task) -> Result<Option<Task>, StoreError> {
        let Some(parent) = source.parent.filter(|_| !source.member) else {
            return Ok(None);
        };
        if self.rows.source(source.id, parent)?.is_none() {
            return Ok(None);
        }
        let parent = self.find(parent)?;
        let is_generator = |task: &&Task| {
            let group = task.group.as_deref();
            group.is_some_and(|group| group.kind == GroupKind::Generator)
        };
        Ok(parent.filter(is_generator).cloned())
    }

    /// A source that is retried is a source again.
    pub(super) fn source_retried(
        &mut self,
        source: &Task,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<(), StoreError> {
        if let Some(generator) = self.generator_of(source)? {
            self.open_source(generator.id, source)?;
            caused.push((generator.id, Event::SourceOpened));
        }
        Ok(())
    }

    /// What the source of a generator hears that is cancelled alone.
    pub(super) fn source_unneeded(
        &mut self,
        generator: &Task,
    ) -> Result<Option<(TaskId, Event)>, StoreError> {
        let kind = generator.group.as_deref().map(|group| group.kind);
        if kind != Some(GroupKind::Generator) || generator.status.is_terminal() {
            return Ok(None);
        }
        let source = self.rows.by_key(Some(generator.id), SOURCE)?;
        let message = format!(
            "the generator {}, whose items it tells, was cancelled",
            generator.id
        );
        let failure = Failure::new(FailureKind::Members, message, true);
        Ok(source.map(|source| (source, Event::Unneeded { failure })))
    }

    /// Whether a retry of a source would be of no use: its generator ends just now.
    pub(super) fn refuse_useless_source(&mut self, source: TaskId) -> Result<(), StoreError> {
        let task = self.get(source)?.clone();
        let Some(generator) = self.generator_of(&task)? else {
            return Ok(());
        };
        let closed = generator.group.is_some_and(|group| group.closed);
        match closed && !generator.status.is_terminal() {
            false => Ok(()),
            true => Err(StoreError::Refused(Refusal::Misplaced {
                id: generator.id,
                status: generator.status,
                event: "retry of its source while it ends",
            })),
        }
    }

    /// What a group hears when a source of it has ended.
    pub(super) fn source_ended(&mut self, source: &Task) -> Result<Event, StoreError> {
        Ok(match source.status {
            Status::Completed => Event::SourceDrained,
            _ if self.generator_of(source)?.is_none() => Event::SourceDrained,
            _ => Event::SourceLost {
                failure: source_failure(source),
            },
        })
    }

    /// More of the output of a group that has those of its members, as much as the transaction has room for. What is
    /// made so far is kept as its output, an array like the whole, until it ends.
    pub(super) fn more_outputs(
        &mut self,
        work: Unfinished,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<Option<Unfinished>, StoreError> {
        let id = work.subject;
        let Some(task) = self.find(id)?.cloned() else {
            return Ok(None);
        };
        let Some(group) = task.group.as_deref().filter(|_| !task.status.is_terminal()) else {
            return Ok(None);
        };
        let alone = group.live == 0 && group.sources == 1 && !group.closed;
        if !alone || task.failure.is_some() {
            // An item has another try, or it was cancelled: should it complete all the same, it begins anew.
            self.change(Task {
                output: None,
                ..task
            });
            caused.push((id, Event::Released { sources: 1 }));
            return Ok(None);
        }
        let made = match self.filled(id)? {
            Ok(whole) => self.add_outputs(id, group, work.after.0, whole.output)?,
            Err(failure) => Err(failure),
        };
        let output = match made {
            Ok((output, None)) => Ok(output),
            Ok((output, Some(last))) => {
                self.change(Task {
                    output: Some(output),
                    ..task
                });
                return Ok(Some(work.done_until((last, work.after.1))));
            }
            Err(failure) => Err(failure),
        };
        caused.push((id, Event::Assembled { output }));
        Ok(None)
    }

    /// The output of a group as far as `made` and what there is room for behind it, with the rank of the last that is
    /// in it where more follows; or why it can have none: one of its members is damaged.
    fn add_outputs(
        &mut self,
        id: TaskId,
        group: &Group,
        after: u64,
        made: Option<Json>,
    ) -> Result<Result<(Json, Option<u64>), Failure>, StoreError> {
        let errors = group.on_failure == OnFailure::Collect;
        let mut output = String::with_capacity(group.output_bytes as usize + 2);
        let mut last = 0;
        match made.as_deref().and_then(|made| made.strip_suffix(']')) {
            Some(made) if after > 0 => {
                output.push_str(made);
                last = after;
            }
            _ => output.push('['),
        }
        let push = |output: &mut String, entry: &str| {
            if output.len() > 1 {
                output.push(',');
            }
            output.push_str(entry);
        };
        let limit = OUTPUTS_AT_ONCE.min(self.together());
        loop {
            let items = self.rows.ended_items(id, last, limit, errors)?;
            let more = items.len() == limit;
            self.rows_touched += items.len();
            for item in items {
                if let Some(failure) = item.damage {
                    return Ok(Err(failure));
                }
                // One that was deleted alone keeps its place, so that the others keep theirs.
                for _ in last + 1..item.sequence {
                    if group.on_failure != OnFailure::Skip {
                        push(&mut output, "null");
                    }
                }
                last = item.sequence;
                match (item.status, &item.output) {
                    (Status::Completed, entry) => {
                        push(&mut output, entry.as_deref().unwrap_or("null"));
                    }
                    (status, _) if errors => {
                        push(&mut output, &error_entry(status, item.failure.as_ref()));
                    }
                    _ => {}
                }
            }
            let full = self.is_full();
            if !more || full {
                output.push(']');
                return Ok(Ok((output.into(), more.then_some(last))));
            }
        }
    }
}

/// See [`End::Page`](crate::store::End::Page).
pub fn page(
    turn: &mut Turn<'_>,
    token: Token,
    items: &[Json],
    cursor: Option<&str>,
    delay_ms: u64,
) -> Result<(), StoreError> {
    let source = turn.claimed(token)?.clone();
    let generator = turn.generator_of(&source)?;
    let open = generator.and_then(|task| {
        let group = task.group.as_deref()?;
        let open = !group.closed && !task.status.is_terminal() && !source.cancel_requested;
        let each = group.each.clone().filter(|_| open)?;
        Some((each, task))
    });
    let Some((each, generator)) = open else {
        let message = "its items are of no use any more: the generator that it told them to has ended, or is about to";
        let failure = Failure::new(FailureKind::Members, message, false);
        let backoff_ms = 0;
        return turn.drive(
            source.id,
            Event::Failed {
                failure,
                backoff_ms,
            },
        );
    };
    turn.add_items(&generator, &each, items.iter().map(|item| &**item))?;
    let added = Event::ItemsAdded {
        items: items.len() as u64,
    };
    turn.drive(generator.id, added)?;
    let group = turn.get(generator.id)?.group.as_deref();
    let (spawned, full) = group.map_or((0, false), |group| (group.spawned, group.is_full()));
    let event = match cursor {
        None => Event::Completed {
            output: format!(r#"{{"items":{spawned}}}"#).into(),
        },
        Some(cursor) => Event::PageEnded {
            cursor: serde_json::Value::from(cursor).to_string().into(),
            full,
            delay_ms,
        },
    };
    turn.drive(source.id, event)
}

/// Which elements of an array are asked for.
#[derive(Debug, Clone, Copy)]
struct Page {
    skip: usize,
    take: usize,
}

/// Elements of an array, as they stand in it, and how many it has; or what there is in its place. Those that
/// nobody asked for are passed over, and take no memory.
fn elements(text: Option<&str>, page: Page) -> Result<(Vec<&RawValue>, usize), &'static str> {
    let text = text.ok_or("nothing")?;
    let other = match text.trim_start().bytes().next() {
        Some(b'[') => {
            let mut json = serde_json::Deserializer::from_str(text);
            let found = page.deserialize(&mut json);
            let found = found.and_then(|found| json.end().map(|()| found));
            return found.map_err(|_| "no JSON");
        }
        Some(b'{') => "object",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    };
    Err(other)
}

impl<'de> DeserializeSeed<'de> for Page {
    type Value = (Vec<&'de RawValue>, usize);

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Page {
    type Value = (Vec<&'de RawValue>, usize);

    fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut all) = (Vec::new(), 0);
        loop {
            let there = if all < self.skip || found.len() >= self.take {
                array.next_element::<IgnoredAny>()?.is_some()
            } else {
                let element: Option<&RawValue> = array.next_element()?;
                found.extend(element);
                element.is_some()
            };
            if !there {
                return Ok((found, all));
            }
            all += 1;
        }
    }
}

fn source_failure(source: &Task) -> Failure {
    let why = match &source.failure {
        Some(failure) => format!(": {}", failure.message),
        None => String::new(),
    };
    let message = format!(
        "task {} ({}), which tells its items, {}{why}",
        source.id,
        source.handler,
        source.status.predicate()
    );
    Failure::new(FailureKind::Members, message, true)
}
