//! Workflows that programs run, and what handlers return.

use std::sync::Arc;

use fishway::group::{Each, Items, OnFailure, PoolOptions, Results};
use fishway::store::End;
use fishway::task::edge::On;
use fishway::task::{Json, Options, Producer, Task};
use fishway::workflow::{After, Work, Workflow};

use crate::simulation::mirror::Waits;

pub(super) fn nobody() -> Waits {
    Waits {
        targets: Vec::new(),
        all: false,
        only_ends: false,
        tasks: false,
    }
}

/// What a task returns: an array, the next page, or something that no other attempt returns.
pub(super) fn completed(task: &Task, long: bool) -> End {
    if task.key.as_deref() == Some("list") {
        return End::Completed("[0,1,2]".into());
    }
    if &*task.handler == "pages" {
        let cursor: Option<String> =
            (task.phase_input.as_deref()).and_then(|cursor| serde_json::from_str(cursor).ok());
        let page: u64 = cursor.map_or(0, |cursor| cursor.parse().unwrap_or(9));
        return End::Page {
            items: (0..3).map(|item| Json::from(item.to_string())).collect(),
            cursor: (page < 2).then(|| (page + 1).to_string()),
            delay_ms: 0,
        };
    }
    let more = if long {
        "x".repeat(3_000)
    } else {
        String::new()
    };
    End::Completed(format!("\"{}.{}{more}\"", task.id, task.fence.number).into())
}

/// A few shapes of workflows: edges of every kind, a pool with sources and a producer, a map, a generator.
pub(super) fn workflow(shape: usize) -> Workflow {
    let run = || Work::Run {
        handler: "h".into(),
    };
    let step = |key: &str, work: Work, after: &[(usize, On, bool)]| fishway::workflow::Step {
        key: key.into(),
        work,
        input: "{}".into(),
        options: Options::default(),
        after: after
            .iter()
            .map(|(step, on, optional)| After {
                step: *step,
                key: None,
                on: *on,
                optional: *optional,
            })
            .collect(),
        sources_of: Vec::new(),
        producer: None,
        optional: false,
    };
    let each = |on_failure, items| Work::Each {
        options: PoolOptions {
            on_failure: Some(on_failure),
            concurrency: Some(2),
        },
        each: Arc::new(Each {
            handler: "item".to_owned(),
            results: Results::List,
            items,
        }),
    };
    let over = || Items::Array {
        over: Some("list".to_owned()),
    };
    let pages = || Items::Pages {
        source: "pages".to_owned(),
        window: 4,
    };
    let (success, failure, any) = (On::Success, On::Failure, On::Any);
    let mut steps = match shape {
        0 => vec![
            step("a", run(), &[]),
            step("b", run(), &[(0, success, false)]),
            step("c", run(), &[(0, failure, false)]),
            step("d", run(), &[(1, any, false), (2, any, false)]),
            step("e", run(), &[(1, success, true), (3, success, false)]),
        ],
        1 | 2 => vec![
            step("s", run(), &[]),
            step("t", run(), &[(0, success, false)]),
            step("l", run(), &[]),
            step("p", Work::Pool(PoolOptions::default()), &[]),
            step(
                "c",
                run(),
                &[(0, success, false), (2, any, false), (3, success, false)],
            ),
        ],
        3 => vec![
            step("list", run(), &[]),
            step(
                "map",
                each(OnFailure::Collect, over()),
                &[(0, success, false)],
            ),
            step("last", run(), &[(1, success, false)]),
        ],
        _ => vec![
            step("list", run(), &[]),
            step("map", each(OnFailure::Fail, over()), &[(0, success, false)]),
            step("pages", each(OnFailure::FailFast, pages()), &[]),
            step("last", run(), &[(1, success, false), (2, success, true)]),
        ],
    };
    if shape == 0 {
        steps[1].optional = true;
    }
    if let 1 | 2 = shape {
        for source in &mut steps[..3] {
            source.sources_of = vec![3];
        }
        steps[2].producer = Some(Producer {
            idle_ms: Some(300),
            drain_ms: Some(900),
        });
    }
    Workflow {
        name: "w".into(),
        on_failure: OnFailure::ALL[shape % OnFailure::ALL.len()],
        input: "null".into(),
        steps,
    }
}

pub(super) fn identity() -> fishway::lease::Identity {
    fishway::lease::Identity {
        pid: 1,
        started_ticks: None,
        boot: None,
        namespace: None,
    }
}
