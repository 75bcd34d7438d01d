//! Aborts the exchanges of tasks that ended, mostly by a cancel, while they waited. Their responses are no longer
//! needed.
//!
//! A running attempt aborts its exchanges itself. A suspended run may have no instance, so this follows the commits:
//! when this process ends a task, its exchanges are aborted with that commit. A commit of another process may have
//! changed anything, so then all suspended runs are checked, a few seconds later at most.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{RunKey, Shared};
use crate::bus::All;
use crate::task::TaskId;
use crate::{blocking, store::StoreError};

/// How long after a commit of another process all suspended runs are checked. Commits in the meantime share one check,
/// as each reads the status of every run.
const REST: Duration = Duration::from_secs(2);

/// Tasks whose status is read together.
const PAGE: usize = 1_000;

/// Abort the exchanges of tasks that end, for as long as the host lives.
pub async fn watch(shared: Arc<Shared>) {
    let mut follow = shared.store.bus().follow();
    let mut all_at: Option<Instant> = None;
    loop {
        let rest = async {
            match all_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let keys = tokio::select! {
            news = follow.next() => {
                if news.outside || news.missing > 0 {
                    all_at.get_or_insert_with(|| Instant::now() + REST);
                }
                ended(&shared, &news)
            }
            () = rest => {
                all_at = None;
                shared.suspended(None)
            }
        };
        for page in keys.chunks(PAGE) {
            if let Err(error) = give_up(&shared, page).await {
                // Their responses are read to the end, and are not kept.
                tracing::debug!(%error, "whether tasks with exchanges have ended is not known");
            }
        }
    }
}

/// The suspended runs of tasks that were reported to have ended.
fn ended(shared: &Shared, news: &All) -> Vec<RunKey> {
    let ended = (news.notices.iter()).filter(|notice| notice.status.is_terminal());
    let keys = ended.flat_map(|notice| shared.suspended(Some(notice.task)));
    keys.collect()
}

/// Abort the exchanges of those runs whose task has ended. It may have started again meanwhile.
async fn give_up(shared: &Arc<Shared>, keys: &[RunKey]) -> Result<(), StoreError> {
    let ids: Vec<TaskId> = keys.iter().map(|key| key.task).collect();
    let store = shared.store.clone();
    let statuses = blocking::run(move || store.statuses(&ids)).await?;
    for (key, status) in keys.iter().zip(statuses) {
        if status.is_some_and(|status| !status.is_terminal()) {
            continue;
        }
        let inbox = shared.inboxes().get(key).cloned();
        if let Some(inbox) = inbox.filter(|inbox| inbox.is_suspended()) {
            inbox.close();
            shared.forget(&inbox);
        }
    }
    Ok(())
}
