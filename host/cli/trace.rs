use std::fmt::Write;

use super::view::{cut, duration, style};
use super::wire::{self, TaskJson};
use super::{Done, Global, now_ms, print_line};
use crate::client::Client;
use crate::store::Filter;
use crate::task::{Status, Task, TaskId};

/// Show a task and all below it
#[derive(clap::Args)]
pub struct Args {
    /// Id, or a unique beginning of one
    id: String,
    /// How to print it
    #[arg(long, default_value = "tree")]
    format: Format,
    /// Show results, and nothing cut
    #[arg(long)]
    full: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Tree,
    Json,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let id = client.resolve(&args.id)?;
    if global.json || args.format == Format::Json {
        print_line(&json(&client, id)?)?;
    } else {
        tree(&client, id, args.full, &mut |line| print_line(line))?;
    }
    Ok(Done::OK)
}

/// A node whose children are being printed. The depth of a trace is the guest's choice, so the way
/// down is kept here and not on the stack.
struct Open {
    children: std::vec::IntoIter<(Task, Option<Task>)>,
    indent: String,
}

/// Print the tree, line by line: what contains the task, the task, and all below it.
pub fn tree(
    client: &Client,
    id: TaskId,
    full: bool,
    print: &mut dyn FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let root = client.task(id)?;
    if let Some(lineage) = lineage(client, &root)? {
        print(&lineage)?;
    }
    print(&node(&root))?;
    let first = children(client, id)?;
    let mark = if first.is_empty() {
        "└──"
    } else {
        "├──"
    };
    for line in notes(&root, full, true) {
        print(&format!("{mark} {line}"))?;
    }
    let mut open = vec![Open {
        children: first.into_iter(),
        indent: String::new(),
    }];
    while let Some(top) = open.last_mut() {
        let Some((task, successor)) = top.children.next() else {
            open.pop();
            continue;
        };
        let last = top.children.as_slice().is_empty();
        let indent = top.indent.clone();
        print(&format!(
            "{indent}{} {}",
            if last { "└──" } else { "├──" },
            node(&task)
        ))?;
        let below = format!("{indent}{}", if last { "    " } else { "│   " });
        for line in notes(&task, full, false) {
            print(&format!("{below}└── {line}"))?;
        }
        let mut grandchildren = children(client, task.id)?;
        if let Some(successor) = successor {
            let colour = style(successor.status);
            let status = format!("{colour}{}{colour:#}", successor.status);
            print(&format!(
                "{below}└── (retried as {}) [{status}{}]",
                successor.id,
                took(&successor)
            ))?;
            grandchildren.extend(children(client, successor.id)?);
        }
        if !grandchildren.is_empty() {
            open.push(Open {
                children: grandchildren.into_iter(),
                indent: below,
            });
        }
    }
    Ok(())
}

/// The children of a task, each with the one that took its place when it failed.
fn children(client: &Client, parent: TaskId) -> anyhow::Result<Vec<(Task, Option<Task>)>> {
    let filter = Filter {
        parent: Some(parent),
        limit: u64::MAX,
        ..Filter::default()
    };
    let all = client.list(&filter)?;
    let mut found: Vec<(Task, Option<Task>)> = Vec::with_capacity(all.len());
    for task in all {
        let earlier = task.retry_of.and_then(|id| {
            // The last of a row of tries is what counts.
            found.iter().position(|(one, later)| {
                one.id == id || later.as_ref().is_some_and(|one| one.id == id)
            })
        });
        match earlier {
            Some(index) => found[index].1 = Some(task),
            None => found.push((task, None)),
        }
    }
    Ok(found)
}

fn lineage(client: &Client, task: &Task) -> anyhow::Result<Option<String>> {
    let mut above = Vec::new();
    let mut parent = task.parent;
    while let Some(id) = parent {
        match client.store().tasks(&[id])?.into_iter().flatten().next() {
            Some(task) => {
                above.push(format!("{} ({id})", task.handler));
                parent = task.parent;
            }
            None => {
                above.push(format!("{id} (deleted)"));
                parent = None;
            }
        }
    }
    above.reverse();
    Ok((!above.is_empty()).then(|| format!("in {}", above.join(" > "))))
}

fn node(task: &Task) -> String {
    let colour = style(task.status);
    let mut line = format!(
        "{} ({}) [{colour}{}{colour:#}{}]",
        task.handler,
        task.id,
        task.status,
        took(task)
    );
    if let Some(key) = &task.key {
        let _ = write!(line, " key={key}");
    }
    if task.attempt > 1 {
        let _ = write!(line, " attempt {}", task.attempt);
    }
    if let (Some(progress), false) = (&task.progress, task.status.is_terminal()) {
        let total = progress
            .total
            .map(|total| format!("/{total}"))
            .unwrap_or_default();
        let message = progress
            .message
            .as_deref()
            .map(|text| format!(" {text}"))
            .unwrap_or_default();
        let _ = write!(line, " {}{total}{message}", progress.done);
    }
    line
}

fn took(task: &Task) -> String {
    task.duration_ms(now_ms())
        .map(|ms| format!(", {}", duration(ms)))
        .unwrap_or_default()
}

/// What is said below a node: why it failed, and its result where results are wanted.
fn notes(task: &Task, full: bool, root: bool) -> Vec<String> {
    let most = if full { usize::MAX } else { 100 };
    let mut notes = Vec::new();
    if let (Some(failure), true) = (&task.failure, task.status != Status::Completed) {
        notes.push(format!("error: {}", cut(&failure.message, most)));
    }
    if let (Some(output), true) = (&task.output, full || root) {
        notes.push(format!("result: {}", cut(output, most)));
    }
    notes
}

/// The tree as one JSON object, written as it is walked.
fn json(client: &Client, id: TaskId) -> anyhow::Result<String> {
    let root = client.detail(id)?;
    let mut text = open_node(&TaskJson {
        parent_deleted: root.parent_deleted,
        ..wire::task(&root.task, now_ms())
    })?;
    let all = |parent| {
        client.list(&Filter {
            parent: Some(parent),
            limit: u64::MAX,
            ..Filter::default()
        })
    };
    let mut open = vec![all(id)?.into_iter()];
    let mut first = true;
    while let Some(top) = open.last_mut() {
        match top.next() {
            None => {
                text.push_str("]}");
                open.pop();
                first = false;
            }
            Some(task) => {
                if !first {
                    text.push(',');
                }
                text.push_str(&open_node(&wire::task(&task, now_ms()))?);
                open.push(all(task.id)?.into_iter());
                first = true;
            }
        }
    }
    Ok(text)
}

/// The object of a task up to the bracket of its children.
fn open_node(task: &TaskJson) -> anyhow::Result<String> {
    let mut text = serde_json::to_string(task)?;
    text.pop();
    text.push_str(",\"children\":[");
    Ok(text)
}
