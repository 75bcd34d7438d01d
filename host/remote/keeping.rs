//! Deletion on another machine's host.

use serde::Deserialize;
use serde_json::json;

use super::Remote;
use crate::client::bulk::Verb;
use crate::store::{StoreError, Sweep};
use crate::task::{StatusSet, TaskId};
use crate::wire::{ChangedTasksJson, SelectionJson};

impl Remote {
    /// Delete an ended task and, unless `only`, all below it; how many tasks are gone.
    pub async fn delete_task(
        &self,
        id: TaskId,
        only: bool,
        cancel_children: bool,
    ) -> Result<u64, StoreError> {
        #[derive(Deserialize)]
        struct Answer {
            deleted: u64,
        }
        let path = format!("/v1/tasks/{id}?only={only}&cancel_children={cancel_children}");
        let asking = self.asking.clone();
        let asked = tokio::task::spawn_blocking(move || asking.delete::<Answer>(&path)).await;
        Ok(asked.map_err(|_| StoreError::Closed)??.deleted)
    }

    /// Cancel, retry or delete the next page of tasks that pass a filter.
    pub async fn bulk(
        &self,
        verb: Verb,
        tasks: &SelectionJson,
        after: Option<&str>,
    ) -> Result<ChangedTasksJson, StoreError> {
        let now = verb == Verb::Cancel { now: true };
        let body = serde_json::json!({ "tasks": tasks, "now": now, "after": after });
        let path = format!("/v1/bulk/{}", verb.as_str());
        self.post(path, body.to_string()).await
    }

    /// Delete what ended so long ago, or count it; how many tasks, and whether that is all.
    pub async fn prune(
        &self,
        statuses: StatusSet,
        older_ms: u64,
        dry: bool,
    ) -> Result<(u64, bool), StoreError> {
        #[derive(Deserialize)]
        struct Answer {
            tasks: u64,
            complete: bool,
        }
        let words = crate::task::Status::ALL.into_iter();
        let words = words.filter(|status| statuses.contains(*status));
        let words: Vec<&str> = words.map(|status| status.as_str()).collect();
        let body = json!({
            "older_than": format!("{older_ms}ms"),
            "statuses": words,
            "dry_run": dry,
        });
        let mut deleted = 0;
        loop {
            let path = "/v1/prune".to_owned();
            let answer: Answer = self.post(path, body.to_string()).await?;
            deleted += answer.tasks;
            // A request ends before a long deletion does.
            if answer.complete || dry {
                return Ok((deleted, answer.complete));
            }
        }
    }

    /// A deletion that the client has begun: of a tree, in one request.
    pub(super) async fn sweep_tree(&self, sweep: Sweep) -> Result<Sweep, StoreError> {
        let Some((id, only)) = sweep.tree() else {
            return Err(super::local("deleting by a rule"));
        };
        let deleted = self.delete_task(id, only, false).await?;
        Ok(sweep.ended(deleted))
    }
}
