//! A trace as one JSON object, in pieces.

use super::now_ms;
use super::walk::{Retries, Walk};
use crate::client::{Client, ClientError};
use crate::store::{History, JournalPosition, Node, StoreError};
use crate::task::TaskId;

/// Calls of each task that a trace looks at: it shows many tasks, and `history` shows all calls of one.
const CALLS_LOOKED_AT: usize = 200;

/// The text of the object, made as it is asked for. Children stand where they were spawned, those
/// that took the place of another as well: their `retry_of` names it.
pub struct JsonTree<'a> {
    client: &'a Client,
    /// Before the first piece.
    root: Option<Node>,
    walk: Walk<'a>,
    /// Objects that are still open.
    open: usize,
}

impl<'a> JsonTree<'a> {
    /// The object for `id`.
    pub fn of(client: &'a Client, id: TaskId) -> Result<JsonTree<'a>, ClientError> {
        let store = client.store();
        let root = store.node(id)?.ok_or(StoreError::UnknownTask(id))?;
        Ok(JsonTree {
            client,
            walk: Walk::below(&**store, &root, Retries::InPlace),
            root: Some(root),
            open: 0,
        })
    }

    /// The end of what lies between the node before and this one, and this one's beginning.
    fn piece(&mut self) -> Result<Option<String>, ClientError> {
        let (node, level) = match self.root.take() {
            Some(root) => (root, 0),
            None => match self.walk.step()? {
                Some(step) => (step.node, step.level),
                None if self.open == 0 => return Ok(None),
                None => return Ok(Some("]}".repeat(std::mem::take(&mut self.open)))),
            },
        };
        let mut text = "]}".repeat(self.open - level);
        if self.open > level {
            text.push(',');
        }
        self.open = level + 1;
        text.push_str(&object(self.client, &node, level == 0)?);
        text.pop();
        text.push_str(",\"children\":[");
        Ok(Some(text))
    }
}

impl Iterator for JsonTree<'_> {
    type Item = Result<String, ClientError>;

    fn next(&mut self) -> Option<Result<String, ClientError>> {
        self.piece().transpose()
    }
}

/// A task by itself, with all of its payloads; of the `top` it is told whether its parent was
/// deleted, as that of the others was not.
pub fn object(client: &Client, node: &Node, top: bool) -> Result<String, ClientError> {
    let id = node.task.id;
    let whole = client.store().tasks(&[id])?.into_iter().flatten().next();
    let task = whole.as_ref().unwrap_or(&node.task);
    let mut shown = super::shown(task, &client.holds([task])?, now_ms());
    if let (true, Some(parent)) = (top, task.parent) {
        shown.parent_deleted = client.store().statuses(&[parent])?[0].is_none();
    }
    if node.has_history {
        let calls = requests(client, id)?.calls;
        shown.requests = calls.iter().map(super::history::call).collect();
    }
    Ok(super::text(&shown))
}

/// HTTP requests of the last run of a task, among the first [`CALLS_LOOKED_AT`] calls.
pub fn requests(client: &Client, id: TaskId) -> Result<History, ClientError> {
    let from = JournalPosition::default();
    let mut page = client.history(id, None, from, CALLS_LOOKED_AT)?;
    page.calls.retain(|call| call.request.is_some());
    Ok(page)
}
