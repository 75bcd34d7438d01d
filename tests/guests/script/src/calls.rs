//! Steps that call the host. `O` stands for `"options": {...}`, whose keys are the contract's.
//!
//! | step | gives |
//! |---|---|
//! | `spawn` `submit` `{handler, input, O}`, `spawn-raw` `{handler, text}` | id |
//! | `spawn-told` `{handler, input, O}` | `{id, created}` |
//! | `spawn-all` `{handler, inputs, O}` | ids |
//! | `fan-out` `{handler, count, O}` | how many ended |
//! | `call` `{handler, input, O}` | `{output}`, `{failure, child}` or `{error}` |
//! | `wait-all` `{ids, timeout, statuses}`, `children` | outcomes |
//! | `wait-any` `{ids, timeout, statuses}`, `get` ID | outcome |
//! | `cancel` ID | whether it did |
//! | `sleep` MS, `reschedule` MS, `retry-after` MS, `next-phase` `{phase, after, timeout}` | null |
//! | `progress` `{done, total, message}`, `log` `{level, message}`, `set-output` X | null |
//! | `context`, `dependencies`, `should-stop` | what it is |
//! | `until-stop` | `"stopped"`, once the host asks for it |
//! | `add-signals` `{signal, name, handler}` | adds what signals of a name bring, until there is none; how many |
//! | `load` NAME, `save` `{name, value}` | the checkpoint, null |
//! | `step-begin` NAME, `step-complete` `{name, value}` or `{name, text}` | `{value}` or null, null |
//! | `step` `{name, do, value}` | a step that does these and has a value, or that of the last of them; the value |
//! | `signal-send` `{to, name, value}`, or `text` in the place of `value` | null |
//! | `signal-receive` `{name, timeout}` | the value, or null |
//! | `pool-open` NAME or `{name, on-failure, concurrency}`, `pool-start-drain` NAME | null |
//! | `pool-spawn` `{name, handler, input, O}` | id |
//! | `pool-wait` NAME or `{name, timeout}`, `pool-status` NAME | status |
//! | `workflow` `{definition}` or `{text}`, with `{key, input, metadata}` | `{id, jobs: {key: id}}` |
//! | `fail` `{message, retryable, details}`, `return` X | ends the task |
//! | `return-if` X | ends the task with X, unless that is null or an empty text |
//! | `fail-unless-attempt` N | fails before attempt N, to be tried again; then the attempt |

use serde_json::{Value, json};

use crate::Stop;
use crate::exports::fishway::task::handler::Failure;
use crate::fishway::task::types::{Error, Outcome, Status};
use crate::fishway::task::{checkpoints, context, pools, signals, steps, tasks, workflows};

/// Do one step, when it is one of these.
pub fn perform(name: &str, argument: &Value) -> Result<Option<Value>, Stop> {
    let handler = || argument["handler"].as_str().unwrap_or_default().to_owned();
    let input = || argument["input"].to_string();
    let options = || options(&argument["options"]);
    Ok(Some(match name {
        "spawn" => told(
            tasks::spawn(&handler(), &input(), options().as_ref()),
            |spawned| json!(spawned.id),
        ),
        "spawn-told" => told(
            tasks::spawn(&handler(), &input(), options().as_ref()),
            |spawned| json!({ "id": spawned.id, "created": spawned.created }),
        ),
        "spawn-all" => {
            let inputs: Vec<String> = argument["inputs"]
                .as_array()
                .into_iter()
                .flatten()
                .map(Value::to_string)
                .collect();
            told(
                tasks::spawn_all(&handler(), &inputs, options().as_ref()),
                |spawned| spawned.into_iter().map(|one| json!(one.id)).collect(),
            )
        }
        // Spawns and awaits very many, and makes no JSON of them.
        "fan-out" => {
            let count = argument["count"].as_u64().unwrap_or_default();
            let inputs: Vec<String> = (0..count).map(|index| index.to_string()).collect();
            let ids = tasks::spawn_all(&handler(), &inputs, options().as_ref());
            drop(inputs);
            told(ids, |spawned| {
                let ids: Vec<String> = spawned.into_iter().map(|one| one.id).collect();
                match tasks::wait_all(&ids, None) {
                    Ok(outcomes) => json!(outcomes.len()),
                    Err(error) => wait_error(error),
                }
            })
        }
        // Sends text that need not be JSON.
        "spawn-raw" => {
            let text = argument["text"].as_str().unwrap_or_default();
            told(tasks::spawn(&handler(), text, None), |spawned| {
                json!(spawned.id)
            })
        }
        "submit" => told(
            tasks::submit(&handler(), &input(), options().as_ref()),
            |submitted| json!(submitted.id),
        ),
        "call" => match tasks::call(&handler(), &input(), options().as_ref()) {
            Ok(output) => json!({ "output": parse(&output) }),
            Err(tasks::CallError::Ended(child)) => json!({
                "failure": child.failure.as_ref().map(failure_of), "child": outcome(&child)
            }),
            Err(tasks::CallError::Refused(error)) => json!({ "error": refusal(&error) }),
        },
        "wait-all" => {
            match tasks::wait_all(&ids(&argument["ids"]), wait_options(argument).as_ref()) {
                Ok(outcomes) => outcomes.iter().map(outcome).collect(),
                Err(error) => wait_error(error),
            }
        }
        "wait-any" => {
            match tasks::wait_any(&ids(&argument["ids"]), wait_options(argument).as_ref()) {
                Ok(first) => outcome(&first),
                Err(error) => wait_error(error),
            }
        }
        "get" => told(tasks::get(argument.as_str().unwrap_or_default()), |found| {
            outcome(&found)
        }),
        "children" => tasks::children().iter().map(outcome).collect(),
        "cancel" => told(
            tasks::cancel(argument.as_str().unwrap_or_default()),
            |changed| json!(changed),
        ),
        "sleep" => {
            let slept = tasks::sleep(argument.as_u64().unwrap_or_default());
            told(slept, |()| Value::Null)
        }
        "retry-after" => {
            context::retry_after(argument.as_u64().unwrap_or_default());
            Value::Null
        }
        "context" => {
            let info = context::current();
            json!({
                "id": info.id, "handler": info.handler, "attempt": info.attempt,
                "max-attempts": info.max_attempts, "phase": info.phase, "parent": info.parent,
                "workflow": info.workflow, "workflow-name": info.workflow_name,
                "key": info.key, "queue": info.queue, "now": info.now, "metadata": parse(&info.metadata),
                "deadline": info.deadline, "run-at": info.run_at,
                "wait-timed-out": info.wait_timed_out, "origin": info.origin,
            })
        }
        "dependencies" => {
            let dependency = |one: &context::Dependency| json!({ "key": one.key, "outcome": outcome(&one.outcome) });
            context::dependencies().iter().map(dependency).collect()
        }
        "next-phase" => {
            let phase = argument["phase"].as_str().unwrap_or_default();
            context::next_phase(
                phase,
                &ids(&argument["after"]),
                argument["timeout"].as_u64(),
            );
            Value::Null
        }
        "reschedule" => {
            context::reschedule(argument.as_u64().unwrap_or_default());
            Value::Null
        }
        "progress" => {
            let done = argument["done"].as_u64().unwrap_or_default();
            context::progress(
                done,
                argument["total"].as_u64(),
                argument["message"].as_str(),
            );
            Value::Null
        }
        "log" => {
            let level = match argument["level"].as_str() {
                Some("trace") => context::Level::Trace,
                Some("debug") => context::Level::Debug,
                None | Some("info") => context::Level::Info,
                Some("warn") => context::Level::Warn,
                Some("error") => context::Level::Error,
                Some(other) => panic!("there is no log level {other}"),
            };
            context::log(level, argument["message"].as_str().unwrap_or_default());
            Value::Null
        }
        "set-output" => {
            context::set_output(&argument.to_string());
            Value::Null
        }
        // A producer: each signal becomes a member, and the count of them is what it ends with.
        "add-signals" => {
            let mut added = 0;
            let signal = argument["signal"].as_str().unwrap();
            while let Ok(Some(value)) = signals::receive(signal, None) {
                let spawned = pools::spawn(&pool(argument), &handler(), &value, None);
                if let Err(error) = spawned {
                    return Ok(Some(json!({ "error": refusal(&error) })));
                }
                added += 1;
                context::set_output(&json!({ "added": added }).to_string());
            }
            json!(added)
        }
        "should-stop" => json!(context::should_stop()),
        // Computes until it is told to stop.
        "until-stop" => {
            while !context::should_stop() {
                std::hint::spin_loop();
            }
            json!("stopped")
        }
        "load" => match checkpoints::load(argument.as_str().unwrap_or_default()) {
            Some(value) => parse(&value),
            None => Value::Null,
        },
        "save" => {
            let name = argument["name"].as_str().unwrap_or_default();
            checkpoints::save(name, &argument["value"].to_string());
            Value::Null
        }
        "step-begin" => begun(argument.as_str().unwrap_or_default()),
        "step-complete" => {
            let name = argument["name"].as_str().unwrap_or_default();
            let value = match argument["text"].as_str() {
                Some(text) => text.to_owned(),
                None => argument["value"].to_string(),
            };
            completed(name, &value)
        }
        "step" => {
            let name = argument["name"].as_str().unwrap_or_default();
            let found = begun(name);
            if !found.is_null() {
                return Ok(Some(found.get("value").unwrap_or(&found).clone()));
            }
            let mut last = Value::Null;
            for step in argument["do"].as_array().into_iter().flatten() {
                last = crate::perform(step)?;
            }
            let value = argument.get("value").unwrap_or(&last);
            let refused = completed(name, &value.to_string());
            if refused.is_null() { value.clone() } else { refused }
        }
        "signal-send" => {
            let to = argument["to"].as_str().unwrap_or_default();
            let name = argument["name"].as_str().unwrap_or_default();
            let value = match argument["text"].as_str() {
                Some(text) => text.to_owned(),
                None => argument["value"].to_string(),
            };
            told(signals::send(to, name, &value), |()| Value::Null)
        }
        "signal-receive" => {
            let name = argument["name"].as_str().unwrap_or_default();
            match signals::receive(name, argument["timeout"].as_u64()) {
                Ok(Some(value)) => parse(&value),
                Ok(None) => Value::Null,
                Err(error) => json!({ "error": refusal(&error) }),
            }
        }
        "pool-open" => told(pools::open(&pool(argument), pool_options(argument)), |()| {
            Value::Null
        }),
        "pool-spawn" => {
            let spawned = pools::spawn(&pool(argument), &handler(), &input(), options().as_ref());
            told(spawned, |spawned| json!(spawned.id))
        }
        "pool-start-drain" => told(pools::start_drain(&pool(argument)), |()| Value::Null),
        "pool-wait" => match pools::wait(&pool(argument), argument["timeout"].as_u64()) {
            Ok(status) => pool_status(&status),
            Err(pools::WaitError::Ended(status)) => {
                json!({ "error": { "kind": "ended", "pool": pool_status(&status) } })
            }
            Err(pools::WaitError::TimedOut(status)) => {
                json!({ "error": { "kind": "timed-out", "pool": pool_status(&status) } })
            }
            Err(pools::WaitError::Refused(error)) => json!({ "error": refusal(&error) }),
        },
        "pool-status" => told(pools::status(&pool(argument)), |status| {
            pool_status(&status)
        }),
        "workflow" => {
            let definition = match argument["text"].as_str() {
                Some(text) => text.to_owned(),
                None => argument["definition"].to_string(),
            };
            let json = |name: &str| argument.get(name).map(Value::to_string);
            let options = workflows::Options {
                key: argument["key"].as_str().map(str::to_owned),
                input: json("input"),
                metadata: json("metadata"),
            };
            told(workflows::run(&definition, Some(&options)), |made| {
                let jobs: serde_json::Map<_, _> = made
                    .jobs
                    .into_iter()
                    .map(|(key, id)| (key, json!(id)))
                    .collect();
                json!({ "id": made.id, "jobs": jobs })
            })
        }
        "fail-unless-attempt" => {
            let attempt = context::current().attempt;
            if u64::from(attempt) < argument.as_u64().unwrap_or_default() {
                return Err(Stop::Fail(crate::failure(
                    &format!("attempt {attempt} fails"),
                    true,
                )));
            }
            json!(attempt)
        }
        "fail" => {
            return Err(Stop::Fail(Failure {
                message: argument["message"].as_str().unwrap_or("failed").to_owned(),
                retryable: argument["retryable"].as_bool().unwrap_or(false),
                details: argument.get("details").map(Value::to_string),
            }));
        }
        "return" => return Err(Stop::Return(argument.clone())),
        "return-if" if argument.is_null() || argument == "" => Value::Null,
        "return-if" => return Err(Stop::Return(argument.clone())),
        _ => return Ok(None),
    }))
}

/// The state of a step: its value, nothing, or why it may not begin.
fn begun(name: &str) -> Value {
    match steps::begin(name) {
        Ok(Some(value)) => json!({ "value": parse(&value) }),
        Ok(None) => Value::Null,
        Err(error) => step_refused(error),
    }
}

fn completed(name: &str, value: &str) -> Value {
    match steps::complete(name, value) {
        Ok(()) => Value::Null,
        Err(error) => step_refused(error),
    }
}

fn step_refused(error: steps::Error) -> Value {
    let (kind, message) = match error {
        steps::Error::Invalid(why) => ("invalid", why),
        steps::Error::Limit(why) => ("limit", why),
    };
    json!({ "error": { "kind": kind, "message": message } })
}

fn told<T>(result: Result<T, Error>, value: impl FnOnce(T) -> Value) -> Value {
    match result {
        Ok(found) => value(found),
        Err(error) => json!({ "error": refusal(&error) }),
    }
}

fn refusal(error: &Error) -> Value {
    let (kind, message) = match error {
        Error::UnknownTask(what) => ("unknown-task", what.as_str()),
        Error::UnknownHandler(what) => ("unknown-handler", what.as_str()),
        Error::UnknownPool(what) => ("unknown-pool", what.as_str()),
        Error::Invalid(what) => ("invalid", what.as_str()),
        Error::PoolClosed(what) => ("pool-closed", what.as_str()),
        Error::WouldDeadlock(what) => ("would-deadlock", what.as_str()),
        Error::Limit(what) => ("limit", what.as_str()),
        Error::Cancelled => ("cancelled", ""),
    };
    json!({ "kind": kind, "message": message })
}

fn wait_error(error: tasks::WaitError) -> Value {
    match error {
        tasks::WaitError::TimedOut(outcomes) => {
            let outcomes: Value = outcomes.iter().map(outcome).collect();
            json!({ "error": { "kind": "timed-out", "outcomes": outcomes } })
        }
        tasks::WaitError::Refused(error) => json!({ "error": refusal(&error) }),
    }
}

fn outcome(outcome: &Outcome) -> Value {
    json!({
        "id": outcome.id,
        "handler": outcome.handler,
        "status": word(outcome.status),
        "output": outcome.output.as_deref().map(parse),
        "failure": outcome.failure.as_ref().map(failure_of),
        "attempts": outcome.attempts,
    })
}

fn failure_of(failure: &Failure) -> Value {
    json!({
        "message": failure.message,
        "retryable": failure.retryable,
        "details": failure.details.as_deref().map(parse),
    })
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Pending => "pending",
        Status::Running => "running",
        Status::Waiting => "waiting",
        Status::Completed => "completed",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
        Status::Expired => "expired",
        Status::Skipped => "skipped",
    }
}

fn ids(value: &Value) -> Vec<String> {
    let text = |id: &Value| id.as_str().unwrap_or_default().to_owned();
    value.as_array().into_iter().flatten().map(text).collect()
}

/// The name of a pool, given alone or among other things.
fn pool(argument: &Value) -> String {
    argument
        .as_str()
        .or(argument["name"].as_str())
        .expect("a pool has a name")
        .to_owned()
}

fn pool_options(argument: &Value) -> Option<pools::PoolOptions> {
    let on_failure = argument["on-failure"].as_str().map(|word| match word {
        "fail" => pools::OnFailure::Fail,
        "fail-fast" => pools::OnFailure::FailFast,
        "collect" => pools::OnFailure::Collect,
        "skip" => pools::OnFailure::Skip,
        other => panic!("there is no on-failure {other}"),
    });
    let concurrency = argument["concurrency"].as_u64().map(|count| count as u32);
    (on_failure.is_some() || concurrency.is_some()).then_some(pools::PoolOptions {
        on_failure,
        concurrency,
    })
}

fn pool_status(status: &pools::PoolStatus) -> Value {
    let phase = match status.phase {
        pools::Phase::Creating => "creating",
        pools::Phase::Draining => "draining",
        pools::Phase::Completed => "completed",
        pools::Phase::Failed => "failed",
        pools::Phase::Cancelled => "cancelled",
    };
    json!({
        "phase": phase, "spawned": status.spawned, "completed": status.completed,
        "failed": status.failed, "cancelled": status.cancelled, "skipped": status.skipped, "in-flight": status.in_flight,
    })
}

/// Every option; a misspelt one must not pass for none.
const OPTIONS: [&str; 13] = [
    "key",
    "queue",
    "priority",
    "delay",
    "timeout",
    "expires",
    "max-attempts",
    "on-complete",
    "schedule-at",
    "deadline",
    "retry-of",
    "on-parent-failure",
    "after",
];

fn options(given: &Value) -> Option<tasks::Options> {
    for name in given.as_object()?.keys() {
        assert!(
            OPTIONS.contains(&name.as_str()),
            "there is no option {name}"
        );
    }
    let text = |name: &str| given[name].as_str().map(str::to_owned);
    Some(tasks::Options {
        key: text("key"),
        queue: text("queue"),
        priority: given["priority"].as_i64().map(|priority| priority as i32),
        delay: given["delay"].as_u64(),
        schedule_at: given["schedule-at"].as_u64(),
        deadline: given["deadline"].as_u64(),
        retry_of: text("retry-of"),
        on_parent_failure: text("on-parent-failure").map(|word| match word.as_str() {
            "continue" => tasks::OnParentFailure::Continue,
            "cancel" => tasks::OnParentFailure::Cancel,
            other => panic!("there is no on-parent-failure {other}"),
        }),
        timeout: given["timeout"].as_u64(),
        expires: given["expires"].as_u64(),
        max_attempts: given["max-attempts"]
            .as_u64()
            .map(|attempts| attempts as u32),
        on_complete: text("on-complete"),
        after: ids(&given["after"]),
    })
}

fn wait_options(argument: &Value) -> Option<tasks::WaitOptions> {
    let status = |word: &Value| match word.as_str().unwrap_or_default() {
        "pending" => Status::Pending,
        "running" => Status::Running,
        "waiting" => Status::Waiting,
        "completed" => Status::Completed,
        "failed" => Status::Failed,
        "cancelled" => Status::Cancelled,
        "expired" => Status::Expired,
        "skipped" => Status::Skipped,
        other => panic!("there is no status {other}"),
    };
    let statuses = argument["statuses"]
        .as_array()
        .into_iter()
        .flatten()
        .map(status)
        .collect();
    Some(tasks::WaitOptions {
        timeout: argument["timeout"].as_u64(),
        statuses,
    })
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}
