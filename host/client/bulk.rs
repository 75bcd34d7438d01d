//! What people do with all tasks that pass a filter: cancel, retry or delete them, page by page.
//!
//! Each task changes in a transaction of its own, so it changes as a whole or not at all; many of them share a commit. One
//! that cannot be changed is told with its reason, and does not end the rest.

use futures_util::{StreamExt, stream};

use super::{Client, ClientError};
use crate::store::{Filter, StoreError};
use crate::task::{Status, StatusSet, Task, TaskId};

/// Tasks of one page: what is read together, and what a request of a person waits for.
pub const PAGE: u64 = 500;

/// Tasks that change at the same time. The store puts them into few commits.
const TOGETHER: usize = 64;

/// What is done with each task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// It is cancelled, with all below it; with `now` what waits ends at once.
    Cancel {
        /// See [`Client::end`].
        now: bool,
    },
    /// It runs again.
    Retry,
    /// It is deleted, with all below it.
    Delete,
}

/// What was done with a page of tasks.
#[derive(Debug, Default)]
pub struct Page {
    /// Tasks that were changed.
    pub changed: u64,
    /// Tasks that had changed by themselves meanwhile, so that there was nothing to do.
    pub moved: u64,
    /// Tasks that could not be changed, and why.
    pub left: Vec<(TaskId, String)>,
    /// After which task the next page begins; none after the last.
    pub next: Option<TaskId>,
}

impl Verb {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Cancel { .. } => "cancel",
            Verb::Retry => "retry",
            Verb::Delete => "delete",
        }
    }

    /// Of which statuses tasks are that it does something to.
    pub fn applies_to(self) -> StatusSet {
        let applies = |status: &Status| match self {
            Verb::Cancel { .. } => !status.is_terminal(),
            Verb::Retry => status.is_terminal() && *status != Status::Completed,
            Verb::Delete => status.is_terminal(),
        };
        Status::ALL.into_iter().filter(applies).collect()
    }

    /// The filter of what it is to be done to: with the statuses that it applies to, where no other are named. At least one
    /// other thing has to be asked for, or a status: nobody means all tasks by saying nothing.
    pub fn filter(self, filter: Filter) -> Result<Filter, ClientError> {
        let invalid = |what: String| ClientError::Invalid { what, line: None };
        let verb = self.as_str();
        let says_nothing = Filter {
            limit: filter.limit,
            after: filter.after,
            ..Filter::default()
        };
        if filter == says_nothing {
            return Err(invalid(format!(
                "{verb} of all tasks there are: say which, by a status, a handler, a queue, a time or an error"
            )));
        }
        let applies = self.applies_to();
        let wanted = filter.statuses;
        if wanted.is_empty() {
            return Ok(Filter {
                statuses: applies,
                ..filter
            });
        }
        let other = Status::ALL
            .into_iter()
            .find(|status| wanted.contains(*status) && !applies.contains(*status));
        match other {
            None => Ok(filter),
            Some(status) => {
                let words: Vec<&str> = Status::ALL
                    .into_iter()
                    .filter(|status| applies.contains(*status))
                    .map(Status::as_str)
                    .collect();
                Err(invalid(format!(
                    "{verb} does nothing to tasks that are {status}: it takes {}",
                    words.join(", ")
                )))
            }
        }
    }
}

impl Client {
    /// How many tasks pass a filter.
    pub fn count(&self, filter: &Filter) -> Result<u64, ClientError> {
        let counts = self.store.tally(filter)?;
        Ok(counts.into_iter().map(|(_, count)| count).sum())
    }

    /// Do this to the next page of tasks that pass a filter, which is one of [`Verb::filter`].
    pub async fn bulk(&self, verb: Verb, filter: Filter) -> Result<Page, ClientError> {
        let filter = Filter {
            brief: true,
            limit: filter.limit.clamp(1, PAGE),
            ..filter
        };
        let limit = filter.limit;
        let tasks = self.look(move |client| client.list(&filter)).await?;
        let mut page = Page {
            next: (tasks.len() as u64 >= limit)
                .then(|| tasks.last().map(|task| task.id))
                .flatten(),
            ..Page::default()
        };
        let changes = tasks.into_iter().map(|task| self.change(verb, task));
        let mut changes = stream::iter(changes).buffered(TOGETHER);
        while let Some(changed) = changes.next().await {
            match changed? {
                Change::Done => page.changed += 1,
                Change::Moved => page.moved += 1,
                Change::Left(id, why) => page.left.push((id, why)),
            }
        }
        Ok(page)
    }

    async fn change(&self, verb: Verb, task: Task) -> Result<Change, ClientError> {
        let id = task.id;
        let done = match verb {
            Verb::Cancel { now } => self.end(id, false, now).await.map(drop),
            Verb::Retry => self.retry(id).await.map(drop),
            Verb::Delete => self.delete(id, false, false).await.map(drop),
        };
        match done {
            Ok(()) => Ok(Change::Done),
            Err(ClientError::Store(StoreError::UnknownTask(_))) => Ok(Change::Moved),
            Err(error) if is_about_the_task(&error) => {
                let now = self.look(move |client| client.status(id)).await;
                Ok(match now {
                    Ok(status) if verb.applies_to().contains(status) => {
                        Change::Left(id, error.to_string())
                    }
                    _ => Change::Moved,
                })
            }
            Err(error) => Err(error),
        }
    }
}

enum Change {
    Done,
    Moved,
    Left(TaskId, String),
}

/// Whether an error is the refusal of one task, and not the store's.
fn is_about_the_task(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Stopping { .. }
            | ClientError::UnknownTask(_)
            | ClientError::Store(
                StoreError::Refused(_)
                    | StoreError::Lives { .. }
                    | StoreError::Needed { .. }
                    | StoreError::UpstreamDeleted { .. }
            )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_has_to_be_told_what_it_is_for_and_takes_what_it_can_change() {
        let why = |verb: Verb, filter: Filter| verb.filter(filter).unwrap_err().to_string();
        assert!(why(Verb::Retry, Filter::default()).contains("say which, by a status"));
        let of = |status: Status| Filter {
            statuses: [status].into_iter().collect(),
            ..Filter::default()
        };
        assert_eq!(
            why(Verb::Retry, of(Status::Completed)),
            "retry does nothing to tasks that are completed: it takes failed, cancelled, expired, skipped"
        );
        let cancel = Verb::Cancel { now: false };
        assert!(why(cancel, of(Status::Failed)).ends_with("it takes pending, running, waiting"));
        assert!(why(Verb::Delete, of(Status::Waiting)).contains("it takes completed, failed"));
        let handler = Filter {
            handler: Some("h".to_owned()),
            ..Filter::default()
        };
        let filter = Verb::Delete.filter(handler).unwrap();
        assert_eq!(filter.statuses, StatusSet::terminal());
    }
}
