//! The job that a host serves for: `serve --until-done`.

use std::time::Duration;

use crate::client::Client;
use crate::task::{StatusSet, Task, TaskId};

/// Ends when a job has ended or was stopped, and never where there is none to wait for.
pub async fn end_of(client: &Client, job: Option<TaskId>) -> anyhow::Result<Task> {
    let Some(job) = job else {
        return std::future::pending().await;
    };
    let ids = [job];
    let ended = client.arrived(&ids, false, StatusSet::terminal());
    let stopped = async {
        let mut commits = client.store().bus().commits();
        loop {
            commits.mark_unchanged();
            if paused(&client.task(job)?) {
                return anyhow::Ok(());
            }
            commits.changed().await?;
            // There may be a thousand commits a second.
            tokio::time::sleep(STOPPED_REST).await;
        }
    };
    tokio::select! {
        ended = ended => drop(ended?),
        stopped = stopped => stopped?,
    }
    Ok(client.task(job)?)
}

/// The time between two looks at whether the job was stopped for which the host serves.
const STOPPED_REST: Duration = Duration::from_millis(100);

fn paused(job: &Task) -> bool {
    let group = job.group.as_ref();
    !job.status.is_terminal() && group.is_some_and(|group| group.paused)
}

/// How such a job is left, for people.
pub fn how(job: &Task) -> String {
    if paused(job) {
        "was stopped".to_owned()
    } else {
        job.status.predicate()
    }
}
