//! Verbs on all tasks that pass a filter: counted first, asked for on a terminal, done page by page.

use std::collections::BTreeMap;

use indicatif::{ProgressBar, ProgressDrawTarget};

use super::confirm::{self, Answer};
use super::{Done, Global, Refused, now_ms, print_json, print_line};
use crate::client::bulk::Verb;
use crate::store::Filter;
use crate::task::{StatusFilter, TaskId};
use crate::wire::selection::LEFT_MAX;
use crate::wire::{self, ChangedTasksJson, LeftJson, SelectionJson};

/// Tasks that could not be changed and are named one by one: a person reads no more of them.
const NAMED: usize = 20;

/// Which tasks, in place of ids.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "In place of ids")]
pub struct FilterArgs {
    /// All of this status; may be given several times
    #[arg(long, value_name = "STATUS")]
    status: Vec<StatusFilter>,
    /// All of this handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// All in this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    #[command(flatten)]
    more: MoreArgs,
    /// Do not ask before more than one task is changed
    #[arg(long)]
    yes: bool,
    /// Say how many tasks match, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

/// The filters that `list` has, too, under the same names.
#[derive(Debug, Default, clap::Args)]
pub struct MoreArgs {
    /// Only with this text in the failure
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// Only those created since then: a time, or a duration before now
    #[arg(long, value_name = "TIME|DURATION", value_parser = moment)]
    since: Option<u64>,
    /// Only those created before then: a time, or a duration before now
    #[arg(long, value_name = "TIME|DURATION", value_parser = moment)]
    before: Option<u64>,
    /// Only with this member in the metadata
    #[arg(long, value_name = "NAME=VALUE", value_parser = member)]
    metadata: Option<(String, String)>,
}

/// A time, or so long before now, in milliseconds since the Unix epoch.
fn moment(text: &str) -> Result<u64, String> {
    wire::time_ms(text).or_else(|no_time| match super::duration_ms(text) {
        Ok(ms) => Ok(now_ms().saturating_sub(ms)),
        Err(_) => Err(format!("{no_time}, or how long ago as 2h")),
    })
}

fn member(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| "write NAME=VALUE".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

impl MoreArgs {
    /// Add them to what is asked for.
    pub fn add_to(&self, filter: Filter) -> Filter {
        Filter {
            error: self.error.clone(),
            created_from_ms: self.since,
            created_before_ms: self.before,
            metadata: self.metadata.clone(),
            ..filter
        }
    }
}

impl FilterArgs {
    /// Whether any of it was said. With ids `--dry-run` would be left out in silence, so it counts as said.
    pub fn is_given(&self) -> bool {
        self.dry_run || *self.selection() != SelectionJson::default()
    }

    fn selection(&self) -> Box<SelectionJson> {
        let status = |filter: &StatusFilter| match filter.reason {
            Some(reason) => reason.to_string(),
            None => filter.status.to_string(),
        };
        let member = self.more.metadata.clone();
        Box::new(SelectionJson {
            status: self.status.iter().map(status).collect(),
            handler: self.handler.clone(),
            queue: self.queue.clone(),
            key: None,
            error: self.more.error.clone(),
            since: self.more.since.map(wire::time),
            before: self.more.before.map(wire::time),
            metadata: member.into_iter().collect::<BTreeMap<_, _>>(),
        })
    }
}

/// Ids or a filter, and not both: whether it is the filter.
pub fn by_filter(ids: &[String], filter: &FilterArgs, verb: Verb) -> anyhow::Result<bool> {
    let verb = verb.as_str();
    let what = match (ids.is_empty(), filter.is_given()) {
        (false, false) => return Ok(false),
        (true, true) => return Ok(true),
        (false, true) => "ids and a filter exclude each other".to_owned(),
        (true, false) => format!("{verb} of which tasks?"),
    };
    let hint = format!(
        "fishway {verb} ID names tasks; fishway {verb} --status failed --handler NAME finds them (fishway list takes the same)"
    );
    Err(Refused::usage(what, hint).into())
}

/// Do it, after a count and a question.
pub async fn run(global: &Global, args: FilterArgs, verb: Verb) -> anyhow::Result<Done> {
    let selection = *args.selection();
    let client = global.existing_client(false)?;
    // What is made from now on was not counted.
    let now = wire::time(now_ms().saturating_add(1));
    let selection = SelectionJson {
        before: Some(selection.before.unwrap_or(now)),
        ..selection
    };
    let filter = verb.filter(selection.filter()?)?;
    let matched = client.count(&filter)?;
    let word = verb.as_str();
    if args.dry_run {
        if global.json {
            print_json(&ChangedTasksJson {
                matched: Some(matched),
                ..ChangedTasksJson::default()
            })?;
        } else {
            print_line(&format!(
                "{matched} {} match; nothing was changed",
                if matched == 1 { "task" } else { "tasks" }
            ))?;
        }
        return Ok(Done::OK);
    }
    if matched == 0 {
        global.say("no tasks match");
    }
    if matched > 1 && !args.yes {
        match confirm::ask(format!("{word} {matched} tasks?")).await? {
            Answer::Yes => {}
            Answer::No => {
                return Err(Refused::new("nothing was changed", "fishway list shows them").into());
            }
            Answer::Nobody => {
                let what = format!("{matched} tasks match; nothing was changed");
                let hint = format!("--yes does it: fishway {word} ... --yes");
                return Err(Refused::new(what, hint).into());
            }
        }
    }
    let mut all = ChangedTasksJson {
        matched: Some(matched),
        ..ChangedTasksJson::default()
    };
    let bar = bar(global, matched);
    let mut after = None;
    let mut more = matched > 0;
    while more {
        let page = match global.remote(false)? {
            Some(remote) => remote.bulk(verb, &selection, after.as_deref()).await?,
            None => {
                let filter = Filter {
                    after: after.as_deref().map(str::parse::<TaskId>).transpose()?,
                    limit: crate::client::bulk::PAGE,
                    ..filter.clone()
                };
                ChangedTasksJson::of(client.bulk(verb, filter).await?)
            }
        };
        bar.inc(page.changed + page.moved + page.unchanged);
        all.changed += page.changed;
        all.moved += page.moved;
        all.unchanged += page.unchanged;
        all.left.extend(page.left);
        all.left.truncate(LEFT_MAX);
        after = page.next;
        more = after.is_some();
    }
    bar.finish_and_clear();
    if global.json {
        print_json(&all)?;
        return Ok(Done::OK);
    }
    tell(global, verb, &all);
    Ok(Done::OK)
}

fn tell(global: &Global, verb: Verb, all: &ChangedTasksJson) {
    let done = match verb {
        Verb::Cancel { .. } => "cancelled",
        Verb::Retry => "retried",
        Verb::Delete => "deleted",
    };
    let moved = match all.moved {
        0 => String::new(),
        many => format!("; {many} had changed meanwhile"),
    };
    let left = match all.unchanged {
        0 => String::new(),
        many => format!("; {many} could not be changed"),
    };
    let tasks = if all.changed == 1 { "task" } else { "tasks" };
    global.say(format!("{} {tasks} {done}{moved}{left}", all.changed));
    for LeftJson { problem, .. } in all.left.iter().take(NAMED) {
        global.say(format!("  {problem}"));
    }
    if all.unchanged > NAMED as u64 {
        global.say(format!("  and {} more", all.unchanged - NAMED as u64));
    }
}

/// Shown on a terminal, for what takes its time.
fn bar(global: &Global, matched: u64) -> ProgressBar {
    let target = if global.quiet || global.json || matched < 2 {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    ProgressBar::with_draw_target(Some(matched), target)
}
