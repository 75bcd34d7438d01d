//! Waiting until tasks have ended, or have a certain status.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Client, ClientError};
use crate::bus::{News, Watch};
use crate::store::StoreError;
use crate::task::{Status, StatusSet, Task, TaskId};

impl Client {
    /// Wait until all of the tasks (or, with `any`, one) have a status of the set or have ended.
    /// The tasks in the order of the ids; `None` on timeout.
    pub async fn wait(
        &self,
        ids: &[TaskId],
        any: bool,
        wanted: StatusSet,
        timeout: Option<Duration>,
    ) -> Result<Option<Vec<Task>>, ClientError> {
        let watch = match *ids {
            [id] => self.store.bus().watch_for_end(id),
            _ => self.store.bus().watch(ids),
        };
        let waiting = self.arrives(watch, ids, any, wanted);
        let ended = match timeout {
            None => waiting.await?,
            Some(timeout) => match tokio::time::timeout(timeout, waiting).await {
                Ok(over) => over?,
                Err(_) => return Ok(None),
            },
        };
        if let Some(task) = ended {
            return Ok(Some(vec![Arc::unwrap_or_clone(task)]));
        }
        let (store, wanted_ids) = (self.store.clone(), ids.to_vec());
        let found = self.reads.run(move || store.tasks(&wanted_ids)).await?;
        let gone = ids.iter().zip(&found).find(|(_, task)| task.is_none());
        if let (Some((&id, _)), false) = (gone, any) {
            // It has ended, but was deleted before it was read.
            return Err(StoreError::UnknownTask(id).into());
        }
        Ok(Some(found.into_iter().flatten().collect()))
    }

    /// Wait like [`Client::wait`], without a timeout, and read only statuses.
    pub async fn arrived(
        &self,
        ids: &[TaskId],
        any: bool,
        wanted: StatusSet,
    ) -> Result<(), StoreError> {
        let watch = self.store.bus().watch(ids);
        self.arrives(watch, ids, any, wanted).await.map(|_| ())
    }

    /// The same with a watch on these tasks; returns the ended task if the notice contained it.
    async fn arrives(
        &self,
        // The watch began before the first read, so no change is missed.
        mut watch: Watch,
        ids: &[TaskId],
        any: bool,
        wanted: StatusSet,
    ) -> Result<Option<Arc<Task>>, StoreError> {
        let arrived = |status: Status| status.is_terminal() || wanted.contains(status);
        let mut missing: HashSet<TaskId> = ids.iter().copied().collect();
        let most = missing.len();
        let over = |missing: &HashSet<TaskId>| missing.is_empty() || any && missing.len() < most;
        let look = async |missing: &mut HashSet<TaskId>| {
            let open: Vec<TaskId> = missing.iter().copied().collect();
            let (store, asked) = (self.store.clone(), open.clone());
            let statuses = self.reads.run(move || store.statuses(&asked)).await?;
            for (status, id) in statuses.into_iter().zip(open) {
                if arrived(status.ok_or(StoreError::UnknownTask(id))?) {
                    missing.remove(&id);
                }
            }
            Ok::<_, StoreError>(())
        };
        let is_under_way = |id| watch.standing(id).is_some_and(|status| !arrived(status));
        if !ids.iter().copied().all(is_under_way) {
            look(&mut missing).await?;
        }
        let mut ended = None;
        while !over(&missing) {
            let news = match self.look_every {
                None => watch.news().await,
                Some(interval) => match tokio::time::timeout(interval, watch.news()).await {
                    Ok(news) => news,
                    Err(_) => News {
                        outside: true,
                        ..News::default()
                    },
                },
            };
            ended = news.ended;
            for (id, status) in news.moved {
                if arrived(status) {
                    missing.remove(&id);
                }
            }
            if news.outside {
                look(&mut missing).await?;
            }
        }
        Ok(ended)
    }
}
