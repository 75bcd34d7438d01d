//! Changes to tasks that exist: cancel, retry, signal.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::present;
use crate::mcp::Door;
use crate::mcp::answer::Trouble;
use crate::mcp::tool::{Call, Known, tool};
use crate::task::TaskId;
use crate::wire;

/// Tasks that one call cancels or retries.
const AT_ONCE: usize = 100;

/// The tools of this file.
pub fn tools() -> Vec<Known> {
    vec![
        Known::of::<Cancel>(),
        Known::of::<Retry>(),
        Known::of::<Signal>(),
    ]
}

/// What to cancel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelInput {
    /// Ids, unique beginnings of ids, or WORKFLOW:KEY; 1 to 100.
    ids: Vec<String>,
    /// Leave the tasks below them alone.
    #[serde(default)]
    only: bool,
    /// End what waits without telling it.
    #[serde(default)]
    now: bool,
}

/// The result for one task.
#[derive(Debug, Serialize)]
pub struct DoneJson {
    /// As it was named.
    id: String,
    /// Whether it was done.
    done: bool,
    /// Tasks that end by a cancel, the named one among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<u64>,
    /// Whether these are not all: what is below was too much for one transaction, and the rest ends soon.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
    /// Why not, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl DoneJson {
    fn done(id: TaskId) -> DoneJson {
        DoneJson {
            id: id.to_string(),
            done: true,
            tasks: None,
            more: false,
            problem: None,
        }
    }
}

/// The result for each task.
#[derive(Debug, Serialize)]
pub struct DoneOutput {
    /// In the order of the ids.
    results: Vec<DoneJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl DoneOutput {
    /// Where one thing was asked for and was not done, that is the answer.
    fn of(mut results: Results, note: Option<String>) -> Result<DoneOutput, Trouble> {
        if results.len() == 1
            && let Some(Err(_)) = results.first()
            && let Some(Err((_, trouble))) = results.pop()
        {
            return Err(trouble);
        }
        let told = |result| match result {
            Ok(done) => done,
            Err((id, trouble)) => DoneJson {
                id,
                done: false,
                tasks: None,
                more: false,
                problem: Some(Trouble::into_note(trouble)),
            },
        };
        Ok(DoneOutput {
            results: results.into_iter().map(told).collect(),
            note,
        })
    }
}

fn at_once(ids: &[String]) -> Result<(), Trouble> {
    match ids.len() {
        1..=AT_ONCE => Ok(()),
        many => Err(Trouble::new(format!(
            "{many} ids: one call has 1 to {AT_ONCE}"
        ))),
    }
}

tool!(
    Cancel,
    "cancel",
    "Cancel tasks",
    Ends,
    CancelInput => DoneOutput,
    cancel,
    "End tasks, workflows or jobs, and all below them unless `only`. What runs is asked to stop. `retry` runs \
     them again. To let a batch rest use `job_stop`."
);

async fn cancel(door: Arc<Door>, input: CancelInput, _call: Call) -> Result<DoneOutput, Trouble> {
    let (only, now) = (input.only, input.now);
    let results = each(&door, input.ids, |door, id| async move {
        let cancelled = door.client.end(id, only, now).await?;
        Ok(DoneJson {
            tasks: Some(cancelled.tasks),
            more: cancelled.more,
            ..DoneJson::done(id)
        })
    });
    DoneOutput::of(results.await?, None)
}

/// What to retry.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryInput {
    /// Ids, unique beginnings of ids, or WORKFLOW:KEY; 1 to 100.
    ids: Vec<String>,
}

tool!(
    Retry,
    "retry",
    "Run ended tasks again",
    Adds,
    RetryInput => DoneOutput,
    retry,
    "Retry tasks that failed, were cancelled, expired or were skipped, with all their attempts. Of a \
     workflow, a pool or a job, only what did not complete runs again. Then use `wait`."
);

async fn retry(door: Arc<Door>, input: RetryInput, _call: Call) -> Result<DoneOutput, Trouble> {
    let results = each(&door, input.ids, |door, id| async move {
        Ok(DoneJson::done(door.client.retry(id).await?.id))
    });
    DoneOutput::of(results.await?, door.host_note())
}

/// The result of each task, or the name that was given for it and why it has none.
type Results = Vec<Result<DoneJson, (String, Trouble)>>;

/// Change each of the tasks with these names.
async fn each<F: Future<Output = Result<DoneJson, Trouble>>>(
    door: &Arc<Door>,
    ids: Vec<String>,
    change: impl Fn(Arc<Door>, TaskId) -> F,
) -> Result<Results, Trouble> {
    at_once(&ids)?;
    let mut results = Vec::new();
    for name in ids {
        let named = name.clone();
        let done = async {
            let id = door.read(move |client| client.resolve(&named)).await?;
            change(door.clone(), id).await
        };
        results.push(done.await.map_err(|trouble| (name, trouble)));
    }
    Ok(results)
}

/// What to send.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalInput {
    /// Id, unique beginning of an id, unique name, or WORKFLOW:KEY.
    id: String,
    /// Name by which the task asks for it: `awaited_signal` of a task that waits for one.
    name: String,
    /// Its value. For one that is no object use `value_json`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(schema_with = "crate::mcp::schemas::object")]
    value: Option<Box<RawValue>>,
    /// In place of `value`: any JSON as text, such as `true`. null when both are absent.
    value_json: Option<String>,
}

/// What was sent.
#[derive(Debug, Serialize)]
pub struct SignalOutput {
    /// The task.
    id: String,
    /// The name.
    name: String,
    /// Whether the task was waiting for it; else it is kept until the task asks for it.
    awaited: bool,
    /// When.
    sent_at: String,
}

tool!(
    Signal,
    "signal",
    "Send a task a signal",
    Adds,
    SignalInput => SignalOutput,
    signal,
    "Send a message to a task that has not ended: an approval, an answer. It is kept until the task asks for it by name."
);

async fn signal(door: Arc<Door>, input: SignalInput, _call: Call) -> Result<SignalOutput, Trouble> {
    let name = input.id;
    let id = door.read(move |client| client.resolve(&name)).await?;
    let value = match (input.value, input.value_json) {
        (Some(_), Some(_)) => {
            return Err(Trouble::new("`value` and `value_json` exclude each other")
                .hint("give one of the two"));
        }
        (value, None) => value.map_or_else(|| "null".to_owned(), |value| value.get().to_owned()),
        (None, Some(text)) => text,
    };
    let sent = door.client.signal(id, &input.name, &value).await?;
    Ok(SignalOutput {
        id: id.to_string(),
        name: input.name,
        awaited: sent.awaited,
        sent_at: wire::time(sent.at_ms),
    })
}
