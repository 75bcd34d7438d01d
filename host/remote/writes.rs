//! What changes something on another machine's host: one request for each verb.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::nouns::{self, at_ms};
use super::{Input, Inputs, NOTHING, Remote, asking, local, options, with_metadata};
use crate::group::PoolOptions;
use crate::job::{NewJob, Units};
use crate::journal::{Arrival, NewStep, RefusedCall};
use crate::lease::{Lease, LeaseKey, Sign};
use crate::queue::{Queue, QueueChange};
use crate::schedule::{Plan, Schedule, Target, Timing};
use crate::store::{
    Alter, ArrivalsTaken, Beat, CallBy, Cancelled, Dispatch, End, HandlersChange, Heard,
    HistoriesDropped, Received, Record, Sent, Signal, StoreError, StoredSecret, Submitted,
    Suspension, Sweep, Urgency, Writes,
};
use crate::task::{NewTask, Task, TaskId, Token};
use crate::wire::{self, QueueJson, ScheduleJson, TaskJson};
use crate::workflow::{NewWorkflow, Started};

#[async_trait::async_trait]
impl Writes for Remote {
    async fn submit(&self, tasks: Vec<NewTask>) -> Result<Vec<Submitted>, StoreError> {
        #[derive(Deserialize)]
        struct Made {
            tasks: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            id: TaskId,
            created: bool,
        }
        // Those of one call are alike but for their inputs.
        let Some(first) = tasks.first() else {
            return Ok(Vec::new());
        };
        let inputs: Vec<Box<RawValue>> = tasks.iter().map(|task| wire::raw(&task.input)).collect();
        // Who asked looks by itself what an earlier task of the key was given.
        let mut body = json!({ "handler": &*first.handler });
        if first.options.key.is_some() {
            body["reuse"] = true.into();
        }
        options(&mut body, &first.options);
        let body = wire::text(&Inputs { body, inputs });
        let body = with_metadata(body, first.options.metadata.as_deref());
        let made: Made = self.post("/v1/tasks/bulk".to_owned(), body).await?;
        let made = made.tasks.into_iter().map(|one| Submitted {
            id: one.id,
            created: one.created,
        });
        Ok(made.collect())
    }

    async fn cancel(
        &self,
        task: TaskId,
        only: bool,
        _by: Option<CallBy>,
    ) -> Result<Cancelled, StoreError> {
        self.ask_to_end(task, json!({ "only": only })).await
    }

    async fn cancel_now(&self, task: TaskId, only: bool) -> Result<Cancelled, StoreError> {
        self.ask_to_end(task, json!({ "only": only, "now": true }))
            .await
    }

    async fn run_workflow(
        &self,
        _workflow: NewWorkflow,
        _by: Option<CallBy>,
    ) -> Result<Started, StoreError> {
        Err(local("running a workflow that is no document"))
    }

    async fn start_job(&self, job: NewJob) -> Result<TaskId, StoreError> {
        self.make_job(&job).await
    }

    async fn add_units(&self, job: TaskId, units: Units) -> Result<(), StoreError> {
        self.send_units(job, &units).await
    }

    async fn pause_job(&self, job: TaskId, paused: bool) -> Result<bool, StoreError> {
        self.hold_job(job, paused).await
    }

    async fn retry(&self, task: TaskId) -> Result<Task, StoreError> {
        let path = format!("/v1/tasks/{task}/retry");
        nouns::task(&self.post::<TaskJson>(path, NOTHING.to_owned()).await?)
    }

    async fn send(&self, signal: Signal, _by: Option<CallBy>) -> Result<Sent, StoreError> {
        #[derive(Deserialize)]
        struct Answer {
            awaited: bool,
            sent_at: String,
        }
        #[derive(Serialize)]
        struct Body {
            name: String,
            value: Box<RawValue>,
        }
        let path = format!("/v1/tasks/{}/signals", signal.to);
        let value = wire::raw(&signal.value);
        let name = signal.name;
        let body = wire::text(&Body { name, value });
        let answer: Answer = self.post(path, body).await?;
        Ok(Sent {
            awaited: answer.awaited,
            at_ms: at_ms(&answer.sent_at)?,
        })
    }

    async fn set_queue(&self, name: Arc<str>, change: QueueChange) -> Result<Queue, StoreError> {
        let mut body = json!({});
        if let Some(paused) = change.paused {
            body["paused"] = json!(paused);
        }
        if let Some(concurrency) = change.concurrency {
            body["concurrency"] = json!(concurrency);
        }
        let asking = self.asking.clone();
        let path = format!("/v1/queues/{}", asking::encoded(&name));
        let asked =
            tokio::task::spawn_blocking(move || asking.patch(&path, body.to_string())).await;
        let queue: QueueJson = asked.map_err(|_| StoreError::Closed)??;
        Ok(nouns::queue(&queue).queue)
    }

    async fn add_schedule(&self, plan: Plan, replace: bool) -> Result<Schedule, StoreError> {
        let mut body = json!({
            "name": &*plan.name,
            "missed": plan.missed.as_str(),
            "overlap": plan.overlap.as_str(),
            "replace": replace,
        });
        let input = match &plan.target {
            Target::Handler { handler, input } => {
                body["handler"] = json!(&**handler);
                Some(input)
            }
            Target::Workflow { document, input } => {
                body["document"] = json!(&**document);
                input.as_ref()
            }
        };
        match &plan.timing {
            Timing::Cron { expression, zone } => {
                body["cron"] = json!(&**expression);
                body["zone"] = json!(&**zone);
            }
            Timing::Every { every_ms, .. } => body["every_ms"] = json!(every_ms),
        }
        options(&mut body, &plan.options);
        let path = "/v1/schedules".to_owned();
        let body = match input {
            Some(input) => wire::text(&Input {
                body,
                input: wire::raw(input),
            }),
            None => body.to_string(),
        };
        let body = with_metadata(body, plan.options.metadata.as_deref());
        nouns::schedule(&self.post::<ScheduleJson>(path, body).await?)
    }

    async fn alter_schedule(&self, name: String, how: Alter) -> Result<Schedule, StoreError> {
        let path = format!("/v1/schedules/{}", asking::encoded(&name));
        let schedule: ScheduleJson = match how {
            Alter::Pause => {
                self.post(format!("{path}/pause"), NOTHING.to_owned())
                    .await?
            }
            Alter::Resume => {
                self.post(format!("{path}/resume"), NOTHING.to_owned())
                    .await?
            }
            Alter::Trigger => {
                let _: TaskJson = self
                    .post(format!("{path}/trigger"), NOTHING.to_owned())
                    .await?;
                self.asking.get(&path, &[])?
            }
            Alter::Remove => self.asking.delete(&path)?,
            Alter::SetRight => {
                return Err(local("setting a schedule right after its clock was ahead"));
            }
        };
        nouns::schedule(&schedule)
    }

    async fn sweep(&self, sweep: Sweep) -> Result<Sweep, StoreError> {
        self.sweep_tree(sweep).await
    }

    // What only a host asks of its store.

    async fn keep_histories(&self, _keep_ms: Option<u64>) -> Result<(), StoreError> {
        Err(local("serving"))
    }

    async fn drop_histories(&self) -> Result<HistoriesDropped, StoreError> {
        Err(local("serving"))
    }

    fn serve(&self, _dispatch: Arc<dyn Dispatch>) {}

    async fn recover(&self, _restarts_max: u32) -> Result<u64, StoreError> {
        Err(local("recovering"))
    }

    async fn take_lease(&self, _lease: Lease) -> Result<bool, StoreError> {
        Err(local("serving"))
    }

    async fn sign_lease(&self, _lease: LeaseKey, _sign: Sign) -> Result<bool, StoreError> {
        Err(local("serving"))
    }

    async fn beat(&self, _beat: Beat) -> Result<Option<Vec<TaskId>>, StoreError> {
        Err(local("serving"))
    }

    async fn tick(&self) -> Result<Option<u64>, StoreError> {
        Err(local("serving"))
    }

    async fn add_random_secret(&self) -> Result<u32, StoreError> {
        Err(local("making a secret"))
    }

    async fn drop_random_secrets(&self, _numbers: Vec<u32>) -> Result<(), StoreError> {
        Err(local("deleting a secret"))
    }

    async fn put_secrets(&self, _secrets: Vec<StoredSecret>) -> Result<u64, StoreError> {
        Err(local("setting a secret"))
    }

    async fn remove_secret(&self, _name: String) -> Result<bool, StoreError> {
        Err(local("removing a secret"))
    }

    async fn use_secret_key(
        &self,
        _before: Option<String>,
        _key: String,
    ) -> Result<bool, StoreError> {
        Err(local("rotating the key of secrets"))
    }

    async fn keep_handlers(&self, _change: HandlersChange) -> Result<(), StoreError> {
        Err(local("serving"))
    }

    fn record(&self, _token: Token, _records: Vec<Record>, _urgency: Urgency) {}

    async fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn receive(&self, _name: String, _by: CallBy) -> Result<Received, StoreError> {
        Err(local("running a task"))
    }

    async fn complete_step(&self, _step: NewStep, _by: CallBy) -> Result<u64, StoreError> {
        Err(local("running a task"))
    }

    async fn take_arrivals(
        &self,
        _by: CallBy,
        _most_bytes: usize,
    ) -> Result<ArrivalsTaken, StoreError> {
        Err(local("running a task"))
    }

    async fn arrive(
        &self,
        _task: TaskId,
        _run: u32,
        _arrivals: Vec<Arrival>,
        _finished: Vec<u32>,
    ) -> Result<(), StoreError> {
        Err(local("running a task"))
    }

    async fn open_pool(
        &self,
        _by: CallBy,
        _name: Arc<str>,
        _options: PoolOptions,
    ) -> Result<Result<TaskId, RefusedCall>, StoreError> {
        Err(local("running a task"))
    }

    async fn spawn_member(&self, _by: CallBy, _task: NewTask) -> Result<Submitted, StoreError> {
        Err(local("running a task"))
    }

    async fn suspend(&self, _token: Token, _wait: Suspension) -> Result<(), StoreError> {
        Err(local("running a task"))
    }

    fn end(&self, _token: Token, _end: End, heard: Heard) {
        heard(Err(local("running a task")));
    }
}

impl Remote {
    /// Cancel a task.
    async fn ask_to_end(&self, task: TaskId, how: Value) -> Result<Cancelled, StoreError> {
        #[derive(Deserialize)]
        struct Answer {
            cancelled: bool,
            tasks: u64,
            stopping: u64,
            // An older host does all of it at once.
            #[serde(default)]
            more: bool,
        }
        let path = format!("/v1/tasks/{task}/cancel");
        let answer: Answer = self.post(path, how.to_string()).await?;
        Ok(Cancelled {
            changed: answer.cancelled,
            tasks: answer.tasks,
            stopping: answer.stopping,
            more: answer.more,
            at_ms: wire::now_ms(),
        })
    }
}
