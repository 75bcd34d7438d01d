//! Filters: which tasks are meant, and a page of them.

use super::columns::{self, COLUMNS};
use super::rows;
use super::sql::{Link, Value};
use crate::store::{Filter, StoreError};
use crate::task::{PendingReason, Status, Task};

/// The conditions of a filter, each with its own index, and what is bound to them.
pub struct Conditions {
    words: Vec<String>,
    values: Vec<(&'static str, Value)>,
}

impl Conditions {
    /// All but the page.
    pub fn of(filter: &Filter) -> Conditions {
        let mut conditions: Vec<String> = Vec::new();
        let mut values: Vec<(&'static str, Value)> = Vec::new();
        if !filter.statuses.is_empty() {
            // The words are ours, so they need no binding; and so SQLite sees the partial indexes.
            let words: Vec<String> = Status::ALL
                .into_iter()
                .filter(|status| filter.statuses.contains(*status))
                .map(|status| format!("'{status}'"))
                .collect();
            conditions.push(match words.as_slice() {
                [word] => format!("status = {word}"),
                words => format!("status in ({})", words.join(", ")),
            });
        }
        if filter.reason.is_some() {
            conditions.push("status = 'pending'".to_owned());
        }
        match filter.reason {
            None => {}
            Some(PendingReason::Blocked) => conditions.push("blocked_by > 0".to_owned()),
            Some(PendingReason::Scheduled) => {
                conditions.push("blocked_by = 0 and run_at_ms is not null".to_owned());
            }
            Some(reason) => {
                let held = "(digest = '' and handler not in (select name from handlers) \
                     or queue in (select name from queues where paused))";
                let held = if reason == PendingReason::Held {
                    held.to_owned()
                } else {
                    format!("not {held}")
                };
                conditions.push(format!(
                    "kind = 'handler' and blocked_by = 0 and run_at_ms is null and {held}"
                ));
            }
        }
        if let Some(handler) = &filter.handler {
            conditions.push("handler = :handler".to_owned());
            values.push(("handler", (handler.clone()).into()));
        }
        if let Some(kind) = filter.group {
            conditions.push("id in (select task_id from groups where kind = :kind)".to_owned());
            values.push(("kind", (kind.as_str()).into()));
        }
        if let Some(name) = &filter.group_name {
            conditions.push("id in (select task_id from groups where name = :group)".to_owned());
            values.push(("group", (name.clone()).into()));
        }
        if let Some(queue) = &filter.queue {
            conditions.push("queue = :queue".to_owned());
            values.push(("queue", (queue.clone()).into()));
        }
        if let Some(key) = &filter.key {
            conditions.push("key >= :key and key < :key || chr(1114111)".to_owned());
            values.push(("key", (key.clone()).into()));
        }
        if let Some(parent) = filter.parent {
            conditions.push("parent_id = :parent".to_owned());
            values.push(("parent", (parent.to_i64()).into()));
        }
        Conditions {
            words: conditions,
            values,
        }
    }

    /// As one condition.
    pub fn text(&self) -> String {
        match self.words.is_empty() {
            true => "true".to_owned(),
            false => self.words.join(" and "),
        }
    }

    /// What is bound.
    pub fn bound(&self) -> &[(&'static str, Value)] {
        &self.values
    }
}

/// Tasks that pass a filter, a page of them.
pub fn list(link: &Link, filter: &Filter) -> Result<Vec<Task>, StoreError> {
    let mut conditions = Conditions::of(filter);
    let order = match filter.parent {
        None => "id desc",
        Some(_) => "sequence, id",
    };
    if let Some(after) = filter.after {
        conditions.words.push(match filter.parent {
            None => "id < :after".to_owned(),
            Some(_) => {
                "(sequence, id) > (select sequence, id from tasks where id = :after)".to_owned()
            }
        });
        conditions.values.push(("after", after.into()));
    }
    let sql = format!(
        "select {COLUMNS} from tasks where {} order by {order} limit {} offset {}",
        conditions.text(),
        filter.limit.min(i64::MAX as u64),
        filter.skip.min(i64::MAX as u64)
    );
    let found = link.many(&sql, conditions.bound(), columns::task)?;
    rows::whole(link, found, filter.brief)
}
