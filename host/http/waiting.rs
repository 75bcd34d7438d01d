//! Waits for tasks, as long polls: nothing looks again and again, the store tells.

use std::time::Duration;

use super::Shared;
use super::problem::{Kind, Problem};
use crate::task::{Status, StatusFilter, StatusSet, TaskId, duration_ms};

/// Longest that one request waits; whoever wants to wait longer asks again.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// A duration such as `30s` or `5m`; a bare number is seconds. Longer than five minutes is five minutes.
pub fn patience(text: &str) -> Result<Duration, Problem> {
    let seconds = text.parse::<u32>().ok();
    let seconds = seconds.map(|seconds| u64::from(seconds) * 1_000);
    match seconds.or_else(|| duration_ms(text)) {
        Some(ms) => Ok(Duration::from_millis(ms).min(WAIT_MAX)),
        None => Err(
            Problem::new(Kind::Usage, format!("\"{text}\" is no duration"))
                .hint("write 30s, 5m, or a number of seconds"),
        ),
    }
}

/// Words of statuses, with commas between them.
pub fn statuses(text: Option<&str>) -> Result<Vec<StatusFilter>, Problem> {
    let words = text.unwrap_or_default().split(',').map(str::trim);
    words
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.parse::<StatusFilter>()
                .map_err(|error| Problem::new(Kind::Usage, error.to_string()))
        })
        .collect()
}

/// The statuses of filters.
pub fn set(filters: &[StatusFilter]) -> StatusSet {
    filters.iter().map(|filter| filter.status).collect()
}

impl Shared {
    /// Wait until all of the tasks (or with `any` one) have a status of the set or have ended; whether
    /// they have. A host that stops ends the wait, too.
    pub async fn arrived(
        &self,
        ids: &[TaskId],
        any: bool,
        wanted: StatusSet,
        patience: Duration,
    ) -> Result<bool, Problem> {
        tokio::select! {
            arrived = self.client.arrived(ids, any, wanted) => {
                arrived?;
                Ok(true)
            }
            () = tokio::time::sleep(patience) => Ok(false),
            () = self.closed() => Ok(false),
        }
    }
}

/// Whether a task is where a wait wants it.
pub fn is_there(status: Status, wanted: StatusSet) -> bool {
    status.is_terminal() || wanted.contains(status)
}
