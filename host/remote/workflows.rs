//! Workflows of another machine's host, with what their jobs wait for.

use serde::Deserialize;

use serde_json::value::RawValue;

use super::asking::nonsense;
use super::{PAGE, Remote, nouns};
use crate::client::{Job, Jobs};
use crate::store::StoreError;
use crate::task::{Status, Task, TaskId};
use crate::wire::{LinkJson, ProducerJson, TaskJson};

impl Remote {
    /// Jobs of a workflow in their order, after the one with the key `after`, with all that the host tells of
    /// them: in one request for each page, and not in some for each job.
    pub fn jobs_of(
        &self,
        workflow: TaskId,
        jobs: &Jobs,
        after: Option<&str>,
    ) -> Result<Vec<Job>, StoreError> {
        #[derive(Deserialize)]
        struct Page {
            jobs: Vec<Box<RawValue>>,
        }
        let words = Status::ALL.into_iter();
        let words = words.filter(|status| jobs.statuses.contains(*status));
        let words: Vec<&str> = words.map(|status| status.as_str()).collect();
        let mut after = after.map(str::to_owned);
        let mut found = Vec::new();
        while (found.len() as u64) < jobs.limit {
            let most = (jobs.limit - found.len() as u64).min(PAGE);
            let mut query = vec![("limit", most.to_string()), ("status", words.join(","))];
            query.extend(after.take().map(|key| ("after", key)));
            let page: Page = (self.asking).get(&format!("/v1/workflows/{workflow}"), &query)?;
            for one in &page.jobs {
                found.push(job(one)?);
            }
            let last = found.last().and_then(|job| job.task.key.as_deref());
            after = last.map(str::to_owned);
            if (page.jobs.len() as u64) < most || after.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

/// What a job of a workflow has besides what every task has.
#[derive(Deserialize)]
struct More {
    producer: Option<ProducerJson>,
    blocked_by: u32,
    waits_for: Vec<LinkJson>,
}

fn job(text: &RawValue) -> Result<Job, StoreError> {
    // Read twice: payloads come through as text, which serde cannot do where fields are mixed.
    let unread = |error| nonsense(&error);
    let json: More = serde_json::from_str(text.get()).map_err(unread)?;
    let task: TaskJson = serde_json::from_str(text.get()).map_err(unread)?;
    let producer = json.producer.as_ref().map(nouns::producer).transpose()?;
    let (producer, clocks) = producer.unzip();
    let waits_for: Result<Vec<_>, _> = json.waits_for.iter().map(nouns::link).collect();
    Ok(Job {
        task: Task {
            blocked_by: json.blocked_by,
            producer,
            ..nouns::task(&task)?
        },
        waits_for: waits_for?,
        clocks,
    })
}
