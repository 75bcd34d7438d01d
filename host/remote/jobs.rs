//! Batch jobs of another machine's host.

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::{NOTHING, PAGE, Remote, nouns, options, with_metadata};
use crate::job::{NewJob, UnitResult, Units};
use crate::store::StoreError;
use crate::task::TaskId;
use crate::wire;
use crate::wire::job::{JobJson, UnitJson};

impl Remote {
    /// Make a job that has no units yet.
    pub(super) async fn make_job(&self, new: &NewJob) -> Result<TaskId, StoreError> {
        let mut body = json!({
            "handler": &*new.handler,
            "name": &*new.name,
            "total": new.units,
            "source": new.inputs,
            "on_failure": new.on_failure.as_str(),
            "concurrency": new.concurrency,
        });
        options(&mut body, &new.options);
        let body = with_metadata(body.to_string(), new.options.metadata.as_deref());
        let made: JobJson = self.post("/v1/jobs".to_owned(), body).await?;
        nouns::id(&made.job_id)
    }

    /// Add units to it. What they are run by and with, the host has kept.
    pub(super) async fn send_units(&self, job: TaskId, units: &Units) -> Result<(), StoreError> {
        #[derive(Serialize)]
        struct Body {
            units: Vec<One>,
        }
        #[derive(Serialize)]
        struct One {
            line: u64,
            input: Box<RawValue>,
        }
        let one = |unit: &crate::job::Unit| One {
            line: unit.line,
            input: wire::raw(&unit.input),
        };
        let units = units.units.iter().map(one).collect();
        let path = format!("/v1/jobs/{job}/units");
        let _: JobJson = self.post(path, wire::text(&Body { units })).await?;
        Ok(())
    }

    /// Stop it, or let it go on; whether that changed anything.
    pub(super) async fn hold_job(&self, job: TaskId, paused: bool) -> Result<bool, StoreError> {
        #[derive(Deserialize)]
        struct Answer {
            changed: bool,
        }
        let verb = if paused { "stop" } else { "resume" };
        let path = format!("/v1/jobs/{job}/{verb}");
        let answer: Answer = self.post(path, NOTHING.to_owned()).await?;
        Ok(answer.changed)
    }

    /// What became of its units.
    pub(super) fn results(
        &self,
        job: TaskId,
        after_line: u64,
        failed: bool,
        limit: u64,
    ) -> Result<Vec<UnitResult>, StoreError> {
        #[derive(Deserialize)]
        struct Answer {
            results: Vec<UnitJson>,
        }
        let query = [
            ("after", after_line.to_string()),
            ("failed", failed.to_string()),
            ("limit", limit.clamp(1, PAGE).to_string()),
        ];
        let answer: Answer = (self.asking).get(&format!("/v1/jobs/{job}/results"), &query)?;
        answer.results.iter().map(nouns::unit).collect()
    }

    /// How many of its units run now.
    pub(super) fn units_running(&self, job: TaskId) -> Result<u64, StoreError> {
        let job: JobJson = self.asking.get(&format!("/v1/jobs/{job}"), &[])?;
        Ok(job.progress.running)
    }
}
