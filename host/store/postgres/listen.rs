//! Who tells whom: one small notice for each commit that others may want to hear of, and a look now
//! and then for what nobody told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::AsyncMessage;

use super::address::Address;
use super::engine::merged;
use super::fronts::{Rank, Told};
use super::gates::CHANNEL as GATES;
use super::servers::Connected;
use super::settings::Session;
use crate::store::writer::{Left, Message, Outside};
use crate::task::{IdGenerator, StatusSet};

/// Where notices go.
pub const CHANNEL: &str = "fishway";

/// How often to look where every commit is told.
const REST_TOLD: Duration = Duration::from_secs(2);

/// How often to look while nobody can tell.
const REST_UNTOLD: Duration = Duration::from_millis(250);

/// What others are to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Telling {
    any: bool,
    /// The first task that has become ready.
    ready: Option<Rank>,
    stops: bool,
    alarm: Option<u64>,
    ended: StatusSet,
}

impl Telling {
    /// Nothing.
    pub fn is_empty(&self) -> bool {
        *self == Telling::default()
    }

    /// What a commit leaves.
    pub fn add(&mut self, left: &Left<'_>) {
        self.any |= !left.notices.is_empty() || left.handlers;
        self.stops |= left.stops;
        self.alarm = left.alarm.into_iter().chain(self.alarm).min();
        let statuses = left.notices.iter().map(|notice| notice.status);
        let ended: StatusSet = statuses.filter(|status| status.is_terminal()).collect();
        self.ended = StatusSet::from_bits(self.ended.to_bits() | ended.to_bits());
    }

    /// The first task that has become ready by a commit.
    pub fn became_ready(&mut self, first: Option<Rank>) {
        self.ready = self.ready.into_iter().chain(first).min();
    }

    /// As a notice: who tells, and what.
    pub fn text(&self, node: u8) -> String {
        let stops = if self.stops { "s" } else { "-" };
        let alarm = self.alarm.map(|at| at.to_string()).unwrap_or_default();
        let ready = self.ready.map_or("-".to_owned(), |rank| {
            format!("{}:{}", rank.priority, rank.id)
        });
        format!("{node} {stops} {} {alarm} {ready}", self.ended.to_bits())
    }
}

/// What a notice says, unless it is of this node itself.
fn heard(text: &str, node: u8) -> Option<Outside> {
    let mut words = text.split(' ');
    let by: Option<u8> = words.next().and_then(|word| word.parse().ok());
    // Visitors have one node between them.
    if by == Some(node) && node != crate::task::id::NODE_VISITOR {
        return None;
    }
    let stops = words.next() == Some("s");
    let ended = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    Some(Outside {
        ids: false,
        stops,
        alarm: words.next().and_then(|word| word.parse().ok()),
        ended: StatusSet::from_bits(ended),
    })
}

/// What a notice says of ready work.
fn hear_ready(text: &str, told: &Told) {
    match text.split(' ').nth(4) {
        Some("-") => {}
        Some(rank) => match rank
            .split_once(':')
            .map(|(priority, id)| (priority.parse(), id.parse()))
        {
            Some((Ok(priority), Ok(id))) => told.ready(Some(Rank { priority, id })),
            _ => told.anything(),
        },
        // An earlier version does not say.
        None => told.anything(),
    }
}

/// Anything may have happened.
fn anything() -> Outside {
    Outside {
        ids: false,
        stops: true,
        alarm: Some(0),
        ended: StatusSet::terminal(),
    }
}

/// Hears what other processes tell, and nudges the writer.
pub struct Listener {
    pub address: Address,
    /// Has the node of this process, which may be another one after its line was broken.
    pub ids: Arc<IdGenerator>,
    pub outside: Arc<Mutex<Option<Outside>>>,
    pub told: Arc<Told>,
    pub nudged: Arc<AtomicBool>,
    pub queue: mpsc::Sender<Message>,
    /// Counts how often places of gates have changed, or may have.
    pub gates_moved: Arc<watch::Sender<u64>>,
}

impl Listener {
    /// Listen until the store is closed.
    pub async fn listen(self) {
        loop {
            self.listen_once().await;
            self.told.listens(false);
            if !self.nudge(anything()) {
                return;
            }
            tokio::time::sleep(REST_UNTOLD).await;
        }
    }

    /// Listen until the connection is lost.
    async fn listen_once(&self) {
        let Ok(Connected {
            client,
            mut line,
            watch,
        }) = self.address.connect().await
        else {
            return;
        };
        let (told, mut notices) = tokio::sync::mpsc::unbounded_channel();
        let driving = tokio::spawn(async move {
            let mut next = std::pin::pin!(futures_util::stream::poll_fn(move |context| {
                line.poll_message(context)
            }));
            use futures_util::StreamExt;
            while let Some(Ok(message)) = next.next().await {
                if let AsyncMessage::Notification(notice) = message
                    && told.send(notice).is_err()
                {
                    return;
                }
            }
        });
        let settings = Session::Listener.statements();
        let begin = format!("{settings}listen {CHANNEL}; listen {GATES}");
        let listening = client.batch_execute(&begin);
        let listening = watch.answer(super::sql::ANSWER, listening).await;
        self.told.listens(matches!(listening, Some(Ok(()))));
        // What was told before that was not heard.
        let mut open = matches!(listening, Some(Ok(()))) && self.nudge(anything());
        self.gates_moved.send_modify(|moved| *moved += 1);
        // A server that has fallen silent tells nothing any more, whatever the line looks like.
        while open && !watch.is_outdated() {
            open = match tokio::time::timeout(REST_TOLD, notices.recv()).await {
                Ok(Some(notice)) if notice.channel() == GATES => {
                    self.gates_moved.send_modify(|moved| *moved += 1);
                    true
                }
                Ok(Some(notice)) => match heard(notice.payload(), self.ids.node()) {
                    Some(outside) => {
                        hear_ready(notice.payload(), &self.told);
                        self.nudge(outside)
                    }
                    None => true,
                },
                Ok(None) => false,
                Err(_) => self.nudge(anything()),
            };
        }
        driving.abort();
    }

    /// Answers whether anybody is there to be nudged.
    fn nudge(&self, said: Outside) -> bool {
        let mut outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        *outside = merged(outside.take(), Some(said));
        drop(outside);
        // One nudge in the queue says as much as ten.
        match self.nudged.swap(true, Ordering::AcqRel) {
            true => true,
            false => self.queue.send(Message::Nudge).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Status;

    #[test]
    fn what_is_told_is_heard_by_all_but_who_tells() {
        let telling = Telling {
            any: true,
            ready: Some(Rank {
                priority: -1,
                id: 99,
            }),
            stops: true,
            alarm: Some(7),
            ended: [Status::Failed].into_iter().collect(),
        };
        let text = telling.text(3);
        assert_eq!(heard(&text, 3), None);
        let expected = Outside {
            ids: false,
            stops: true,
            alarm: Some(7),
            ended: telling.ended,
        };
        assert_eq!(heard(&text, 4), Some(expected));
        assert_eq!(text.split(' ').nth(4), Some("-1:99"));
    }

    #[test]
    fn others_are_told_that_handlers_have_changed() {
        let left = |handlers| Left {
            notices: &[],
            stops: false,
            alarm: None,
            handlers,
            asked: true,
        };
        let mut telling = Telling::default();
        telling.add(&left(false));
        assert!(telling.is_empty());
        telling.add(&left(true));
        assert!(heard(&telling.text(3), 4).is_some() && !telling.is_empty());
    }
}
