//! The state-by-event table, as text for `docs/state-machine.md`.
//!
//! Made by asking [`apply`](super::apply) itself, so the page cannot differ from the code. A test
//! compares the page in `docs/` with what this makes.

use std::fmt::Write;
use std::sync::Arc;

use super::{Effect, Event, Loss, apply};
use crate::group::{Each, Group, Items, OnFailure, PoolOptions, Results};
use crate::task::producer::Stage;
use crate::task::{Failure, FailureKind, NewTask, Options, Status, Task, TaskId, Wait};

const NOW_MS: u64 = 1_000_000;

/// A task in one status, in one of the situations that make a difference there.
fn situations() -> Vec<(Status, &'static str, Task)> {
    let id = TaskId::from_i64(1);
    let fresh = NewTask::root("handler", "{}", Options::default()).into_task(id, NOW_MS, 0, None);
    let of = |status, name, change: &dyn Fn(&mut Task)| {
        let mut task = Task {
            status,
            ..fresh.clone()
        };
        if task.status != Status::Pending {
            task.attempt = 1;
            task.attempts_max = Some(3);
            task.started_at_ms = Some(NOW_MS);
            task.run_at_start_ms = Some(NOW_MS);
        }
        change(&mut task);
        (status, name, task)
    };
    let wait = |remaining| {
        Some(Wait {
            call: Some(1),
            made: None,
            remaining,
            signal: None,
            exchange: false,
            hears_cancel: false,
            told_of_cancel: false,
            since_ms: NOW_MS,
            claim: None,
            until_ms: Some(NOW_MS),
            woken: None,
        })
    };
    vec![
        of(Status::Pending, "ready", &|task| {
            task.expires_at_ms = Some(NOW_MS)
        }),
        of(Status::Pending, "blocked", &|task| task.blocked_by = 1),
        of(Status::Pending, "scheduled", &|task| {
            task.run_at_ms = Some(NOW_MS)
        }),
        of(Status::Pending, "its deadline has passed", &|task| {
            task.ends_by_ms = Some(NOW_MS)
        }),
        of(
            Status::Pending,
            "a producer between two attempts",
            &|task| {
                task.producer = Some(Stage::Open);
                (task.attempt, task.attempts_max) = (1, Some(3));
                task.started_at_ms = Some(NOW_MS);
                task.run_at_ms = Some(NOW_MS);
            },
        ),
        of(Status::Running, "attempts left", &|_| {}),
        of(Status::Running, "last attempt", &|task| task.attempt = 3),
        of(Status::Running, "cancel requested", &|task| {
            task.cancel_requested = true
        }),
        of(Status::Running, "told of a cancel", &|task| {
            task.cancel_requested = true;
            task.wait = wait(1);
            if let Some(wait) = task.wait.as_mut() {
                wait.told_of_cancel = true;
            }
        }),
        of(Status::Running, "its deadline has passed", &|task| {
            task.ends_by_ms = Some(NOW_MS)
        }),
        of(Status::Running, "restarted ten times", &|task| {
            task.restarts = 10
        }),
        of(Status::Running, "a producer", &|task| {
            task.producer = Some(Stage::Open)
        }),
        of(Status::Running, "a producer that a clock ends", &|task| {
            task.producer = Some(Stage::Closing)
        }),
        of(Status::Waiting, "for one", &|task| task.wait = wait(1)),
        of(Status::Waiting, "for more", &|task| task.wait = wait(2)),
        of(Status::Waiting, "a producer, for a signal", &|task| {
            task.producer = Some(Stage::Open);
            task.wait = wait(1);
            if let Some(wait) = task.wait.as_mut() {
                wait.signal = Some("change".to_owned());
            }
        }),
        of(Status::Waiting, "its handler hears of a cancel", &|task| {
            task.wait = wait(2);
            if let Some(wait) = task.wait.as_mut() {
                wait.hears_cancel = true;
            }
        }),
        of(Status::Waiting, "its deadline has passed", &|task| {
            task.wait = wait(2);
            task.ends_by_ms = Some(NOW_MS);
        }),
        of(Status::Waiting, "for an exchange", &|task| {
            task.wait = wait(1);
            if let Some(wait) = task.wait.as_mut() {
                wait.exchange = true;
            }
        }),
        of(Status::Completed, "", &|_| {}),
        of(Status::Failed, "", &|_| {}),
        of(Status::Cancelled, "", &|_| {}),
        of(Status::Expired, "", &|_| {}),
        of(Status::Skipped, "", &|_| {}),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let failure = |retryable| Failure::new(FailureKind::Handler, "a reason", retryable);
    let suspended = |remaining| Event::Suspended {
        call: 1,
        made: None,
        remaining,
        there: None,
        signal: None,
        exchange: false,
        until_ms: None,
        spent_ms: 0,
        hears_cancel: false,
        grace_until_ms: None,
    };
    let hearing = Event::Suspended {
        call: 1,
        made: None,
        remaining: 1,
        there: None,
        signal: None,
        exchange: false,
        until_ms: None,
        spent_ms: 0,
        hears_cancel: true,
        grace_until_ms: None,
    };
    let phase = |remaining| Event::PhaseEnded {
        phase: "aggregate".into(),
        input: "{}".into(),
        remaining,
        until_ms: None,
    };
    let page_ended = |full| Event::PageEnded {
        cursor: "\"2\"".into(),
        full,
        delay_ms: 0,
    };
    let lost = |loss| Event::AttemptLost {
        loss,
        restarts_max: crate::limits::RESTARTS_MAX,
    };
    let digest: Arc<str> = "sha256:0".into();
    vec![
        (
            "claimed",
            Event::Claimed {
                digest,
                attempts_max: 3,
                mark: 0,
                secret: 1,
            },
        ),
        (
            "completed",
            Event::Completed {
                output: "{}".into(),
            },
        ),
        (
            "failed, retryable",
            Event::Failed {
                failure: failure(true),
                backoff_ms: 1_000,
            },
        ),
        (
            "failed, not retryable",
            Event::Failed {
                failure: failure(false),
                backoff_ms: 1_000,
            },
        ),
        ("suspended", suspended(1)),
        ("suspended, its handler hears of a cancel", hearing),
        ("suspended, nothing to await", suspended(0)),
        ("rescheduled", Event::Rescheduled { delay_ms: 1_000 }),
        ("phase ended", phase(1)),
        ("phase ended, nothing to await", phase(0)),
        ("page ended, there is room", page_ended(false)),
        ("page ended, the window is full", page_ended(true)),
        ("awaited arrived", Event::AwaitedArrived { by: None }),
        ("exchange lost", Event::ExchangeLost),
        ("wait timed out", Event::WaitTimedOut),
        ("due", Event::Due),
        ("expired", Event::Expired),
        ("upstream opened", Event::UpstreamOpened),
        ("upstream shut", Event::UpstreamShut),
        (
            "upstream lost",
            Event::UpstreamLost {
                failure: failure(true),
            },
        ),
        ("cancel requested", Event::CancelRequested),
        (
            "unneeded",
            Event::Unneeded {
                failure: failure(true),
            },
        ),
        ("hinted", Event::Hinted),
        ("clock ran out", Event::ClockRanOut),
        ("interrupted", Event::Interrupted),
        ("attempt lost, its host died", lost(Loss::HostDied)),
        (
            "attempt lost, its host does not run it",
            lost(Loss::NotRunning),
        ),
        ("attempt lost, the database was away", lost(Loss::Away)),
        (
            "attempt lost, something could not be read",
            lost(Loss::Unread {
                why: "a reason".to_owned(),
            }),
        ),
        (
            "attempt lost, the machine is short of something",
            lost(Loss::Machine {
                why: "a reason".to_owned(),
            }),
        ),
        ("retried", Event::Retried { blocked_by: 0 }),
        ("end requested", Event::EndRequested),
        ("deadline passed", Event::DeadlinePassed),
        ("grace over", Event::GraceOver),
        ("wait renewed", Event::WaitRenewed { until_ms: None }),
        ("awaited added", Event::AwaitedAdded { many: 2 }),
    ]
}

/// A pool in one status, in one of the situations that make a difference there.
fn pool_situations() -> Vec<(Status, &'static str, Task)> {
    let id = TaskId::from_i64(1);
    let fresh = NewTask::root("pool", "null", Options::default()).into_task(id, NOW_MS, 0, None);
    let of = |status, name, on_failure, sources, live| {
        let options = PoolOptions {
            on_failure: Some(on_failure),
            concurrency: None,
        };
        let mut group = Group::pool("p".into(), &options);
        (group.sources, group.live) = (sources, live);
        (group.spawned, group.failed) = (live + 1, 1);
        if !matches!(status, Status::Failed | Status::Cancelled) {
            (group.completed, group.failed) = (1, 0);
        }
        let task = Task {
            status,
            ended_at_ms: status.is_terminal().then_some(NOW_MS),
            group: Some(Box::new(group)),
            ..fresh.clone()
        };
        (status, name, task)
    };
    use OnFailure::{Collect, Fail, FailFast};
    vec![
        of(Status::Running, "creating", Fail, 1, 0),
        of(Status::Running, "draining, one member lives", Fail, 0, 1),
        of(Status::Running, "the same, fail-fast", FailFast, 0, 2),
        of(Status::Running, "the same, collect", Collect, 0, 1),
        of(Status::Completed, "", Fail, 0, 0),
        of(Status::Failed, "", Fail, 0, 0),
        of(Status::Cancelled, "", Fail, 0, 0),
    ]
}

fn pool_events() -> Vec<(&'static str, Event)> {
    let added = |replaces| Event::MemberAdded { replaces };
    let ended = |status| Event::MemberEnded {
        status,
        optional: false,
        entry_bytes: 0,
    };
    vec![
        ("source opened", Event::SourceOpened),
        ("source drained", Event::SourceDrained),
        ("source retried", Event::SourceRetried),
        ("held", Event::Held),
        ("released", Event::Released { sources: 1 }),
        ("member added", added(None)),
        ("member completed", ended(Status::Completed)),
        ("member failed", ended(Status::Failed)),
        (
            "member retried",
            Event::MemberRetried {
                status: Status::Failed,
                optional: false,
                entry_bytes: 0,
            },
        ),
        ("cancel requested, of the pool", Event::CancelRequested),
        ("retried, of the pool", Event::Retried { blocked_by: 0 }),
    ]
}

/// A job in one status, in one of the situations that make a difference there.
fn job_situations() -> Vec<(Status, &'static str, Task)> {
    let id = TaskId::from_i64(1);
    let fresh = NewTask::root("job", "null", Options::default()).into_task(id, NOW_MS, 0, None);
    let of = |status, name: &'static str, spawned, live, paused| {
        let on_failure = match name.ends_with("fail-fast") {
            true => OnFailure::FailFast,
            false => OnFailure::Fail,
        };
        let group = Group {
            spawned,
            live,
            paused,
            ..Group::job("j".into(), on_failure, None, 3)
        };
        let task = Task {
            status,
            ended_at_ms: status.is_terminal().then_some(NOW_MS),
            group: Some(Box::new(group)),
            ..fresh.clone()
        };
        (status, name, task)
    };
    vec![
        of(Status::Pending, "two of three units there", 2, 2, false),
        of(
            Status::Pending,
            "one of three units there, fail-fast",
            1,
            1,
            false,
        ),
        of(Status::Pending, "all units there", 3, 3, false),
        of(Status::Running, "one unit lives", 3, 1, false),
        of(Status::Running, "the same, paused", 3, 1, true),
        of(Status::Completed, "", 3, 0, false),
        of(Status::Failed, "", 3, 0, false),
        of(Status::Cancelled, "", 3, 0, false),
    ]
}

fn job_events() -> Vec<(&'static str, Event)> {
    let ended = |status| Event::MemberEnded {
        status,
        optional: false,
        entry_bytes: 0,
    };
    vec![
        ("units added, one", Event::UnitsAdded { many: 1 }),
        ("unit started", Event::MemberStarted),
        ("paused", Event::Paused),
        ("resumed", Event::Resumed),
        ("unit completed", ended(Status::Completed)),
        ("unit cancelled", ended(Status::Cancelled)),
        ("cancel requested, of the job", Event::CancelRequested),
    ]
}

/// A map or a generator in one status, in one of the situations that make a difference there.
fn each_situations() -> Vec<(Status, &'static str, Task)> {
    let id = TaskId::from_i64(1);
    let fresh = NewTask::root("map", "[]", Options::default()).into_task(id, NOW_MS, 0, None);
    let of = |status, name, items, change: &dyn Fn(&mut Task, &mut Group)| {
        let each = Each {
            handler: "item".to_owned(),
            results: Results::List,
            items,
        };
        let mut group = Group::each("m".into(), &PoolOptions::default(), each.into());
        let mut task = Task {
            status,
            started_at_ms: (status != Status::Pending).then_some(NOW_MS),
            ended_at_ms: status.is_terminal().then_some(NOW_MS),
            ..fresh.clone()
        };
        change(&mut task, &mut group);
        task.group = Some(Box::new(group));
        (status, name, task)
    };
    let array = || Items::Array { over: None };
    let pages = || Items::Pages {
        source: "pages".to_owned(),
        window: 4,
    };
    let told = |group: &mut Group, live, sealed| {
        (group.spawned, group.live, group.sealed) = (3, live, sealed);
        group.completed = 3 - live;
    };
    vec![
        of(Status::Pending, "blocked by one", array(), &|task, _| {
            task.blocked_by = 1;
            task.expires_at_ms = Some(NOW_MS);
        }),
        of(Status::Pending, "blocked by more", array(), &|task, _| {
            task.blocked_by = 2
        }),
        of(Status::Pending, "scheduled", array(), &|task, _| {
            task.run_at_ms = Some(NOW_MS)
        }),
        of(Status::Pending, "at its beginning", array(), &|_, _| {}),
        of(
            Status::Running,
            "its items are to be told",
            array(),
            &|_, group| group.sources = 1,
        ),
        of(Status::Running, "one item lives", array(), &|_, group| {
            told(group, 1, true)
        }),
        of(
            Status::Running,
            "a generator, three items live",
            pages(),
            &|_, group| {
                told(group, 3, false);
                group.sources = 1;
            },
        ),
        of(Status::Completed, "", array(), &|_, group| {
            told(group, 0, true)
        }),
        of(Status::Failed, "items were told", array(), &|_, group| {
            told(group, 0, true);
            (group.completed, group.failed) = (2, 1);
        }),
        of(Status::Failed, "items were not told", array(), &|_, _| {}),
        of(
            Status::Cancelled,
            "items were not told",
            pages(),
            &|_, _| {},
        ),
        of(Status::Skipped, "", array(), &|_, _| {}),
    ]
}

fn each_events() -> Vec<(&'static str, Event)> {
    let failure = Failure::new(FailureKind::Members, "a reason", true);
    let ended = |status| Event::MemberEnded {
        status,
        optional: false,
        entry_bytes: 2,
    };
    let assembled = |output| Event::Assembled { output };
    vec![
        ("begun", Event::Begun),
        ("upstream opened, of a map", Event::UpstreamOpened),
        ("upstream shut, of a map", Event::UpstreamShut),
        (
            "upstream lost, of a map",
            Event::UpstreamLost {
                failure: failure.clone(),
            },
        ),
        ("due, of a map", Event::Due),
        ("expired, of a map", Event::Expired),
        ("items added", Event::ItemsAdded { items: 2 }),
        ("source drained, of a map", Event::SourceDrained),
        (
            "source lost",
            Event::SourceLost {
                failure: failure.clone(),
            },
        ),
        ("source opened, of a map", Event::SourceOpened),
        ("assembled", assembled(Ok("[1]".into()))),
        ("assembled, of damaged items", assembled(Err(failure))),
        ("item completed", ended(Status::Completed)),
        ("item failed", ended(Status::Failed)),
        (
            "item retried",
            Event::MemberRetried {
                status: Status::Failed,
                optional: false,
                entry_bytes: 2,
            },
        ),
        ("cancel requested, of a map", Event::CancelRequested),
        ("retried, of a map", Event::Retried { blocked_by: 0 }),
        (
            "retried, of a map, blocked",
            Event::Retried { blocked_by: 1 },
        ),
    ]
}

/// The page: every event in every situation, and what it does there.
pub fn page() -> String {
    let mut page = String::from(HEAD);
    section(&mut page, &situations(), events());
    page.push_str(POOLS);
    section(&mut page, &pool_situations(), pool_events());
    page.push_str(JOBS);
    section(&mut page, &job_situations(), job_events());
    page.push_str(EACH);
    section(&mut page, &each_situations(), each_events());
    page
}

fn section(
    page: &mut String,
    situations: &[(Status, &'static str, Task)],
    events: Vec<(&'static str, Event)>,
) {
    for (event_name, event) in events {
        let _ = writeln!(page, "\n## {event_name}\n");
        let mut refused = Vec::new();
        page.push_str("| status | becomes | and then |\n|---|---|---|\n");
        for (status, situation, task) in situations {
            let name = match *situation {
                "" => status.to_string(),
                situation => format!("{status}, {situation}"),
            };
            match apply(task, &event, NOW_MS) {
                Err(_) => refused.push(name),
                Ok(change) => {
                    let becomes = describe(task, &change.task);
                    let effects: Vec<&str> = change.effects.iter().map(effect_name).collect();
                    let _ = writeln!(page, "| {name} | {becomes} | {} |", effects.join(", "));
                }
            }
        }
        if !refused.is_empty() {
            let _ = writeln!(page, "\nRefused when {}.", refused.join("; "));
        }
    }
}

fn describe(before: &Task, after: &Task) -> String {
    let mut words = vec![after.status.to_string()];
    if after.status == before.status && after == before {
        words.push("unchanged".to_owned());
    }
    if after.run != before.run {
        words.push("new run".to_owned());
    }
    if after.attempt > before.attempt {
        words.push(format!("attempt {}", after.attempt));
    }
    if after.restarts > before.restarts {
        words.push(format!("restart {}", after.restarts));
    }
    if after.run_at_ms.is_some() && after.run_at_ms != before.run_at_ms {
        words.push("scheduled".to_owned());
    }
    if after.status == Status::Pending
        && after.status == before.status
        && after.run_at_ms.is_none()
        && after.group.is_none()
    {
        words.push("ready".to_owned());
    }
    if let (Some(before), Some(after)) = (&before.group, &after.group) {
        let counts = [
            ("sources", before.sources, after.sources),
            ("members", before.spawned, after.spawned),
            ("live", before.live, after.live),
            ("completed", before.completed, after.completed),
            ("failed", before.failed, after.failed),
            ("cancelled", before.cancelled, after.cancelled),
        ];
        for (name, before, after) in counts {
            if before != after {
                words.push(format!("{name} {after}"));
            }
        }
    }
    if let (Some(before), Some(after)) = (&before.group, &after.group) {
        match (before.at_once(), after.at_once()) {
            (Some(0), None) => words.push("units may start".to_owned()),
            (None, Some(0)) => words.push("no unit starts".to_owned()),
            _ => {}
        }
    }
    if after.producer != before.producer {
        let stage = after.producer.map_or("none", Stage::as_str);
        words.push(format!("producer {stage}"));
    }
    if after.blocked_by > 0 && after.blocked_by != before.blocked_by {
        words.push(format!("blocked by {}", after.blocked_by));
    }
    if after.cancel_requested && !before.cancel_requested {
        words.push("cancel requested".to_owned());
    }
    words.join(", ")
}

fn effect_name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Moved => "tell who waits for this status",
        Effect::Ended => "release or skip what comes after it",
        Effect::AttemptEnded(_) => "keep a record of the attempt",
        Effect::JournalEnded => "drop the journal",
        Effect::StepsEnded => "drop the steps",
        Effect::Continue { .. } => "spawn the continuation",
        Effect::Stop => "tell the attempt to stop",
        Effect::Hint => "let the attempt see that it should come to an end",
        Effect::Drain => "drain its pools",
        Effect::SourcesClosed => "close its sources",
        Effect::CancelMembers => "cancel its members",
        Effect::Expand => "make its items, or the task that tells them",
        Effect::FindSource => "take its source back, if that lives",
        Effect::Assemble => "make its output from those of its items",
        Effect::WakeSources => "let its source go on",
    }
}

const POOLS: &str = "
# Pools

A pool is a task that contains tasks and has no code. It runs while a source is open or a member lives;
what it becomes follows from its counts and from its `on-failure`. Members are counted whatever the pool
has become.
";

const EACH: &str = "
# Maps and generators

Groups that run one handler for each of many items. They come after other tasks like any task, and have one source: an
array that is there when they start, or a task that tells pages. One that ended before all of its items were told
tells them when it is retried.
";

const JOBS: &str = "
# Jobs

A job is a group whose units all come from outside, a few in each transaction, and start once all of them are
there. It ends as a pool does. Who stops it shuts the gate of its units again.
";

const HEAD: &str = "\
# The state machine of a task

Generated from `host/task/state.rs` by `host/task/state/table.rs`; a test fails when this page and the
code differ. To write it anew: `UPDATE_DOCS=1 cargo test the_state_machine`.

Each section is one event. A row says what the event does to a task in one situation: the status that it
takes, and what the same transaction does besides saving it. Where nothing follows, the event is allowed
and changes nothing that others could see.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_machine_page_says_what_the_code_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/state-machine.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            written,
            page(),
            "run: UPDATE_DOCS=1 cargo test the_state_machine"
        );
    }

    #[test]
    fn an_ended_task_only_moves_by_retry_and_a_completed_one_never() {
        for (status, _, task) in situations()
            .into_iter()
            .filter(|(status, ..)| status.is_terminal())
        {
            for (name, event) in events() {
                let allowed = apply(&task, &event, NOW_MS).is_ok();
                let expected = name == "retried" && status != Status::Completed;
                assert_eq!(allowed, expected, "{name} in {status}");
            }
        }
    }

    #[test]
    fn a_cancelled_attempt_ends_cancelled_however_it_ends() {
        let (.., task) = situations()
            .into_iter()
            .find(|(_, name, _)| *name == "cancel requested")
            .unwrap();
        for (name, event) in events() {
            let Ok(change) = apply(&task, &event, NOW_MS) else {
                continue;
            };
            let after = change.task;
            if name == "suspended, its handler hears of a cancel" {
                let woken = after.wait.and_then(|wait| wait.woken);
                assert!(after.status == Status::Pending && woken.unwrap().cancelled);
            } else if after.status != Status::Running {
                assert_eq!(after.status, Status::Cancelled, "{name}");
            }
        }
    }

    #[test]
    fn a_producer_that_a_clock_ends_completes_however_its_attempt_ends_unless_it_is_cancelled() {
        let (.., task) = situations()
            .into_iter()
            .find(|(_, name, _)| *name == "a producer that a clock ends")
            .unwrap();
        let mut cancelled = task.clone();
        cancelled.cancel_requested = true;
        let mut told = task.clone();
        told.output = Some("7".into());
        for (name, event) in events() {
            let ends = |task| {
                let after = apply(task, &event, NOW_MS).ok()?.task;
                (after.status != Status::Running).then_some((after.status, after.output))
            };
            let Some((status, output)) = ends(&told) else {
                continue;
            };
            let expected = if name == "completed" { "{}" } else { "7" };
            assert_eq!(
                (status, output.as_deref()),
                (Status::Completed, Some(expected)),
                "{name}"
            );
            let untold = if name == "completed" { "{}" } else { "null" };
            assert_eq!(ends(&task), Some((Status::Completed, Some(untold.into()))));
            assert_eq!(ends(&cancelled), Some((Status::Cancelled, None)), "{name}");
        }
    }

    #[test]
    fn every_end_tells_dependents_and_waiters() {
        for (.., task) in situations() {
            for (name, event) in events() {
                let Ok(change) = apply(&task, &event, NOW_MS) else {
                    continue;
                };
                let ends = change.task.status.is_terminal();
                assert_eq!(change.effects.contains(&Effect::Ended), ends, "{name}");
                let moves = change.task.status != task.status;
                assert!(!moves || change.effects.contains(&Effect::Moved), "{name}");
                assert_eq!(change.task.ended_at_ms.is_some(), ends, "{name}");
            }
        }
    }
}
