//! What the phase of a task began after: the statements and the text that both engines share.

use crate::task::TaskId;

/// That of a task.
pub const FIND: &str = "\
    select after, timeout_ms, timed_out, checksum
    from phase_waits
    where task_id = :task";

/// Ids as they are stored: one after another, with a space between.
pub fn to_text(ids: &[TaskId]) -> String {
    let mut text = String::with_capacity(ids.len() * 14);
    for id in ids {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&id.to_string());
    }
    text
}

/// The ids of such a text; none where something else is in it.
pub fn from_text(text: &str) -> Option<Vec<TaskId>> {
    text.split_ascii_whitespace()
        .map(|id| id.parse().ok())
        .collect()
}
