//! A trace as people read it: a line for each task, and below it why it failed or what it gave.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;

use crate::cli::now_ms;
use crate::cli::view::{cut, duration, style};
use crate::client::Client;
use crate::journal::HistoryCall;
use crate::store::{Node, StoreError};
use crate::task::edge::{Link, Links};
use crate::task::{FIRST_PHASE, Status, Task, TaskId};
use crate::wire::walk::{Retries, Step, Walk};

/// Levels that are drawn beside each other. Below them the drawing begins at the left again: else
/// a line would be as long as the tree is deep.
const LEVELS_DRAWN: usize = 20;

/// Ancestors that are named from the task upward; between them and the root others may be left out.
const ANCESTORS_NAMED: usize = 8;

/// Dependencies of a job that are named.
const AFTER_NAMED: u64 = 5;

/// Requests of a task that have lines, unless all is shown.
const REQUESTS_SHOWN: usize = 10;

/// Characters of what came of a request, besides its address.
const REQUEST_STATE_MAX: usize = 60;

/// Characters of a message or a result.
const NOTE_MAX: usize = 100;

/// The lines of a trace: what contains the task, the task, and all below it. They are made as they
/// are asked for, so that the first is there at once and the last may be far away.
pub struct Tree<'a> {
    client: &'a Client,
    full: bool,
    walk: Walk<'a>,
    /// For each level down to the last node: whether it was the last one below its parent.
    lasts: Vec<bool>,
    ready: VecDeque<String>,
    told: Option<&'a mut HashMap<TaskId, Status>>,
}

impl<'a> Tree<'a> {
    /// The lines for `id`; with `full` nothing is cut or left out.
    pub fn of(client: &'a Client, id: TaskId, full: bool) -> anyhow::Result<Tree<'a>> {
        Tree::telling(client, id, full, None)
    }

    /// As [`Tree::of`]; as it goes, it notes in `told` with which status each task was shown.
    pub fn telling(
        client: &'a Client,
        id: TaskId,
        full: bool,
        mut told: Option<&'a mut HashMap<TaskId, Status>>,
    ) -> anyhow::Result<Tree<'a>> {
        let store = client.store();
        let root = store.node(id)?.ok_or(StoreError::UnknownTask(id))?;
        if let Some(told) = &mut told {
            told.insert(id, root.task.status);
        }
        let mut tree = Tree {
            client,
            full,
            walk: Walk::below(&**store, &root, Retries::Below),
            lasts: Vec::new(),
            ready: VecDeque::new(),
            told,
        };
        tree.ready.extend(lineage(client, &root.task, full)?);
        let begins = line(&root.task) + &comes_after(client, &root.task)?;
        tree.ready.push_back(begins);
        tree.notes(&root, true)?;
        Ok(tree)
    }

    fn step(&mut self, step: &Step) -> anyhow::Result<()> {
        self.lasts.truncate(step.level - 1);
        let begin = self.margin(step.level);
        self.lasts.push(step.last);
        if let Some(told) = &mut self.told {
            told.insert(step.node.task.id, step.node.task.status);
        }
        let branch = if step.last { "└──" } else { "├──" };
        let line = if step.retry {
            retried(&step.node.task)
        } else {
            line(&step.node.task) + &comes_after(self.client, &step.node.task)?
        };
        self.ready.push_back(format!("{begin}{branch} {line}"));
        self.notes(&step.node, false)
    }

    /// What is said below the node that was come to last.
    fn notes(&mut self, node: &Node, root: bool) -> anyhow::Result<()> {
        let mut notes = requests(self.client, node, self.full)?;
        notes.extend(self::notes(self.client, &node.task, self.full, root)?);
        let begin = self.margin(self.lasts.len().max(1));
        let begin = if root { begin } else { begin + self.bar() };
        let deeper = self.walk.goes_deeper();
        let count = notes.len();
        for (index, note) in notes.iter().enumerate() {
            let (branch, bar) = if deeper || index + 1 < count {
                ("├──", "│  ")
            } else {
                ("└──", "   ")
            };
            for (index, part) in note.lines().enumerate() {
                let mark = if index == 0 { branch } else { bar };
                self.ready.push_back(format!("{begin}{mark} {part}"));
            }
        }
        Ok(())
    }

    /// What stands left of the branch to a node of a level: the bars of the levels above it.
    fn margin(&self, level: usize) -> String {
        let skipped = (level - 1) / LEVELS_DRAWN * LEVELS_DRAWN;
        let mut margin = String::new();
        if skipped > 0 {
            let _ = write!(margin, "+{skipped} ");
        }
        let drawn = self.lasts.iter().take(level - 1).skip(skipped);
        margin.extend(drawn.map(|last| bar(*last)));
        margin
    }

    fn bar(&self) -> &'static str {
        self.lasts.last().map_or("", |last| bar(*last))
    }
}

fn bar(last: bool) -> &'static str {
    if last { "    " } else { "│   " }
}

impl Iterator for Tree<'_> {
    type Item = anyhow::Result<String>;

    fn next(&mut self) -> Option<anyhow::Result<String>> {
        if self.ready.is_empty() {
            let went = match self.walk.step() {
                Ok(Some(step)) => self.step(&step),
                Ok(None) => return None,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = went {
                return Some(Err(error));
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

/// What contains a task, from the root down; nothing for a root.
fn lineage(client: &Client, task: &Task, full: bool) -> anyhow::Result<Option<String>> {
    let most = if full { usize::MAX } else { ANCESTORS_NAMED };
    let named = |id: TaskId| -> anyhow::Result<(String, Option<TaskId>)> {
        Ok(match client.store().node(id)? {
            Some(Node { task, .. }) => (name(&task), task.parent),
            None => (format!("{id} (deleted)"), None),
        })
    };
    let mut above = Vec::new();
    let mut parent = task.parent;
    while let Some(id) = parent
        && above.len() < most
    {
        let (name, its_parent) = named(id)?;
        above.push(name);
        parent = its_parent;
    }
    if let Some(id) = parent {
        let more = (task.depth as usize).saturating_sub(above.len() + 1);
        if id != task.scope && more > 0 {
            above.push(format!("... {more} more ..."));
        }
        above.push(named(task.scope)?.0);
    }
    above.reverse();
    Ok((!above.is_empty()).then(|| format!("in {}", above.join(" > "))))
}

/// What a task is called: its handler, or its kind and name when it is a group, and its id.
fn name(task: &Task) -> String {
    match &task.group {
        Some(group) => format!("{} \"{}\" ({})", task.handler, group.name, task.id),
        None => format!("{} ({})", task.handler, task.id),
    }
}

/// The line of a task, without what is drawn to its left.
pub fn line(task: &Task) -> String {
    let mut line = format!("{} {}", name(task), state(task));
    if let Some(key) = &task.key {
        let _ = write!(line, " key={key}");
    }
    if let Some(index) = task.index() {
        let _ = write!(line, " index={index}");
    }
    after(&mut line, task);
    line
}

/// What a task with a key starts after, by their keys: that of a job of a workflow, above all.
fn comes_after(client: &Client, task: &Task) -> Result<String, StoreError> {
    if task.key.is_none() || !task.member {
        return Ok(String::new());
    }
    let links = (client.store()).links(task.id, Links::Upstream, AFTER_NAMED + 1)?;
    let name = |link: &Link| match &link.key {
        Some(key) => key.to_string(),
        None => link.task.to_string(),
    };
    let mut names: Vec<String> = links.iter().map(name).collect();
    if names.len() as u64 > AFTER_NAMED {
        names.pop();
        names.push("...".to_owned());
    }
    Ok(match names.is_empty() {
        true => String::new(),
        false => format!(" after={}", names.join(",")),
    })
}

/// The line of a task below the one whose place it took.
fn retried(task: &Task) -> String {
    let mut line = format!("(retried as {}) {}", task.id, state(task));
    after(&mut line, task);
    line
}

fn state(task: &Task) -> String {
    let colour = style(task.status);
    let mut state = format!("[{colour}{}{colour:#}", task.status);
    // A group has no code that runs: only the whole time says something.
    if let Some(ms) = task.duration_ms(now_ms())
        && (task.group.is_none() || task.status.is_terminal())
    {
        let _ = write!(state, ", {}", duration(ms));
    }
    if let Some(group) = &task.group {
        let _ = write!(
            state,
            ", {} of {} completed",
            group.completed, group.spawned
        );
        for (many, what) in [(group.failed, "failed"), (group.cancelled, "cancelled")] {
            if many > 0 {
                let _ = write!(state, ", {many} {what}");
            }
        }
    }
    state.push(']');
    state
}

fn after(line: &mut String, task: &Task) {
    if &*task.phase != FIRST_PHASE {
        let _ = write!(line, " phase {}", task.phase);
    }
    if task.attempt > 1 {
        let _ = write!(line, " attempt {}", task.attempt);
    }
    if let (Some(progress), false) = (&task.progress, task.status.is_terminal()) {
        let _ = write!(line, " {}", progress.done);
        if let Some(total) = progress.total {
            let _ = write!(line, "/{total}");
        }
        if let Some(message) = &progress.message {
            let _ = write!(line, " {}", cut(message, NOTE_MAX));
        }
    }
}

/// The HTTP requests of a task, a line for each.
fn requests(client: &Client, node: &Node, full: bool) -> anyhow::Result<Vec<String>> {
    if !node.has_history || node.task.group.is_some() {
        return Ok(Vec::new());
    }
    let page = crate::wire::trace::requests(client, node.task.id)?;
    let most = if full { usize::MAX } else { REQUESTS_SHOWN };
    let mut lines: Vec<String> = page.calls.iter().take(most).map(request).collect();
    if page.calls.len() > most || (!lines.is_empty() && page.next.is_some()) {
        lines.push(format!("... fishway history {} shows more", node.task.id));
    }
    Ok(lines)
}

/// The line of a request, such as `POST api.example.com/v1/charge 200 132ms`.
fn request(call: &HistoryCall) -> String {
    let (method, url) = call.subject.split_once(' ').unwrap_or(("", &call.subject));
    let (_, place) = url.split_once("://").unwrap_or(("", url));
    let took = call.took_ms.map(|ms| format!(" {}", duration(ms)));
    let line = format!(
        "{method} {place} {}{}",
        call.answer,
        took.unwrap_or_default()
    );
    cut(&line, NOTE_MAX + REQUEST_STATE_MAX)
}

/// What is said below a task: why it failed, and its result where that is what people look for,
/// which is at the top and where several phases came to one result.
pub fn notes(
    client: &Client,
    task: &Task,
    full: bool,
    root: bool,
) -> Result<Vec<String>, StoreError> {
    let short = |text: &str| {
        if full {
            text.trim_end().to_owned()
        } else {
            cut(text, NOTE_MAX)
        }
    };
    let mut notes = Vec::new();
    if let (Some(failure), true) = (&task.failure, task.status != Status::Completed) {
        notes.push(format!("error: {}", short(&failure.message)));
    }
    let aggregate = task.group.is_none() && &*task.phase != FIRST_PHASE;
    // What a producer says before its end is no result yet.
    let told = task.status.is_terminal() && (full || root || aggregate);
    if let (Some(output), true) = (&task.output, told) {
        // A long one does not come with its node.
        let whole = match output.is_empty() {
            true => client
                .store()
                .tasks(&[task.id])?
                .into_iter()
                .flatten()
                .next(),
            false => None,
        };
        let output = whole.and_then(|task| task.output).unwrap_or(output.clone());
        notes.push(format!("result: {}", short(&output)));
    }
    Ok(notes)
}
