//! A filter as a condition of SQL, which both engines understand.

use super::Filter;
use crate::task::{PendingReason, Status, TaskId};

/// Something that is bound to a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// Text.
    Text(String),
    /// The id of a task.
    Id(TaskId),
    /// A number of rows, or a time in milliseconds since the Unix epoch.
    Number(u64),
}

/// A text as it stands in a JSON text.
fn within_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// What a filter asks for, and what is bound to that.
pub struct Conditions {
    words: Vec<String>,
    values: Vec<(&'static str, Bound)>,
}

impl Conditions {
    /// All but the page. `member` is how the engine asks for a member of the metadata: what each says of JSON differs.
    pub fn of(filter: &Filter, member: &str) -> Conditions {
        let mut conditions: Vec<String> = Vec::new();
        let mut values: Vec<(&'static str, Bound)> = Vec::new();
        if !filter.statuses.is_empty() {
            // The words are ours, so they need no binding; and so an engine sees its partial indexes.
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
            values.push((":handler", Bound::Text(handler.clone())));
        }
        // Together they are one look at an index: of a name there are few, of a kind perhaps all.
        let mut of_group = Vec::new();
        if let Some(name) = &filter.group_name {
            of_group.push("name = :group");
            values.push((":group", Bound::Text(name.clone())));
        }
        if let Some(kind) = filter.group {
            of_group.push("kind = :kind");
            values.push((":kind", Bound::Text(kind.as_str().to_owned())));
        }
        if !of_group.is_empty() {
            let of_group = of_group.join(" and ");
            conditions.push(format!(
                "id in (select task_id from groups where {of_group})"
            ));
        }
        if let Some(queue) = &filter.queue {
            conditions.push("queue = :queue".to_owned());
            values.push((":queue", Bound::Text(queue.clone())));
        }
        if let Some(key) = &filter.key {
            // Nothing that begins with it comes after it with the last character of all.
            conditions.push("key >= :key and key < :beyond".to_owned());
            values.push((":key", Bound::Text(key.clone())));
            values.push((":beyond", Bound::Text(format!("{key}\u{10ffff}"))));
        }
        if let Some(error) = &filter.error {
            // Both engines have it, letters count as they are, and nothing in the text has a meaning of its own.
            conditions.push("replace(failure, :error, '') <> failure".to_owned());
            values.push((":error", Bound::Text(within_json(error))));
        }
        if let Some(from_ms) = filter.created_from_ms {
            conditions.push("created_at_ms >= :from".to_owned());
            values.push((":from", Bound::Number(from_ms)));
        }
        if let Some(before_ms) = filter.created_before_ms {
            conditions.push("created_at_ms < :before".to_owned());
            values.push((":before", Bound::Number(before_ms)));
        }
        if let Some((name, value)) = &filter.metadata {
            conditions.push(member.to_owned());
            values.push((":member", Bound::Text(name.clone())));
            values.push((":value", Bound::Text(value.clone())));
        }
        if let Some(parent) = filter.parent {
            conditions.push("parent_id = :parent".to_owned());
            values.push((":parent", Bound::Id(parent)));
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

    /// Only those that come after a task in the order of a list: the newest first, children in that in
    /// which they were spawned.
    pub fn after(&mut self, after: TaskId, of_parent: bool) {
        self.words.push(match of_parent {
            false => "id < :after".to_owned(),
            true => {
                "(sequence, id) > (select sequence, id from tasks where id = :after)".to_owned()
            }
        });
        self.values.push((":after", Bound::Id(after)));
    }

    /// The page that the filter asks for, as a clause. It is bound, too: a server keeps each text of a statement that it
    /// has seen for as long as the connection lives.
    pub fn page(&mut self, filter: &Filter) -> &'static str {
        self.values.push((":limit", Bound::Number(filter.limit)));
        self.values.push((":skip", Bound::Number(filter.skip)));
        "limit :limit offset :skip"
    }

    /// What is bound, each under its name with the colon.
    pub fn bound(&self) -> &[(&'static str, Bound)] {
        &self.values
    }
}
