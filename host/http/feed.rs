//! What changes, as events with numbers: kept for a while, and handed to any number of readers.
//!
//! Commits are told here by the bus, and made into a piece of text once, however many read it. Between
//! two pieces is a rest, so that a busy host writes a few large pieces; the first change after a
//! quiet time goes out at once. A reader holds nothing but its place: one that is too slow loses it,
//! and is told so by a `reset`.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use serde::Serialize;
use tokio::sync::{Notify, broadcast};
use utoipa::ToSchema;

use super::Bounds;
use crate::bus::{All, Bus, Notice};
use crate::task::{Status, TaskId};
use crate::wire;

/// The shortest rest between two pieces.
const REST_MIN: Duration = Duration::from_millis(20);

/// Readers for each further millisecond of rest: a hundred make it 40 ms, a thousand 220, so that they take no more
/// than a small part of a busy host.
const READERS_PER_MS: usize = 5;

/// Events of one piece that are told one by one to whoever asks for all; more are told as one.
const TOLD_MAX: usize = 200;

/// The place of an event: the number of the host's lease, and its number among the events of that host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which host.
    pub host: u64,
    /// Which event.
    pub number: u64,
}

impl Place {
    /// As [`Place`] is written in the id of an event.
    pub fn of_text(text: &str) -> Option<Place> {
        let (host, number) = text.split_once('-')?;
        Some(Place {
            host: host.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.host, self.number)
    }
}

/// A task that changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskEventJson {
    /// Its id.
    #[schema(value_type = String)]
    id: TaskId,
    /// Its status now.
    #[schema(value_type = wire::StatusJson)]
    status: Status,
    /// The handler that runs it.
    #[schema(value_type = String)]
    task_type: Arc<str>,
    /// The queue that it is in.
    #[schema(value_type = String)]
    queue: Arc<str>,
    /// Its parent.
    #[schema(value_type = Option<String>)]
    parent_task_id: Option<TaskId>,
    /// The root of its tree.
    #[schema(value_type = String)]
    root_task_id: TaskId,
}

/// Something besides a single task that changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedEventJson {
    /// `queues`, `schedules`, `handlers`, `jobs`, or `tasks` that are not listed one by one.
    #[schema(value_type = String)]
    what: &'static str,
    /// How many, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
}

/// Where a reader stands in the stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlaceEventJson {
    /// The id to send as Last-Event-ID.
    pub id: String,
}

/// One event of the stream: the line `event` says which, the line `data` has the object.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "event", content = "data", rename_all = "lowercase")]
pub enum EventJson {
    /// The first event of a stream.
    Hello(PlaceEventJson),
    /// Events are missing: look at everything again.
    Reset(PlaceEventJson),
    /// A task changed.
    Task(TaskEventJson),
    /// Something else changed.
    Changed(ChangedEventJson),
}

impl EventJson {
    /// Append it as the stream has it.
    pub fn write(&self, text: &mut String, place: Place) {
        let (kind, data) = match self {
            EventJson::Hello(data) => ("hello", wire::text(data)),
            EventJson::Reset(data) => ("reset", wire::text(data)),
            EventJson::Task(data) => ("task", wire::text(data)),
            EventJson::Changed(data) => ("changed", wire::text(data)),
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "event: {kind}\nid: {place}\ndata: {data}\n\n");
    }
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what comes next.
    Now,
    /// After this event.
    After(Place),
    /// After an event that this host never sent: the reader has missed an unknown number of events.
    Unknown,
}

/// Some events, as text.
#[derive(Debug)]
pub struct Piece {
    /// The number of the last.
    last: u64,
    /// For whoever wants all of them.
    whole: Bytes,
    /// Each by itself.
    text: Bytes,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Event {
    number: u64,
    /// The task that moved; none when it is something else that changed.
    notice: Option<Notice>,
    range: Range<usize>,
}

/// Which events a reader wants. All that are set have to fit.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this task.
    pub task: Option<TaskId>,
    /// Of this workflow and its jobs.
    pub workflow: Option<TaskId>,
    /// Of the tree that has this root.
    pub root: Option<TaskId>,
    /// Of these statuses; empty: of any.
    pub statuses: Vec<Status>,
    /// Of this handler.
    pub handler: Option<String>,
    /// In this queue.
    pub queue: Option<String>,
}

impl Wanted {
    fn is_all(&self) -> bool {
        self.task.is_none()
            && self.workflow.is_none()
            && self.root.is_none()
            && self.statuses.is_empty()
            && self.handler.is_none()
            && self.queue.is_none()
    }

    fn wants(&self, notice: &Notice) -> bool {
        let fits = |wanted: Option<TaskId>, found: &[Option<TaskId>]| {
            wanted.is_none() || found.contains(&wanted)
        };
        fits(self.task, &[Some(notice.task)])
            && fits(self.workflow, &[Some(notice.task), notice.parent])
            && fits(self.root, &[Some(notice.root)])
            && (self.statuses.is_empty() || self.statuses.contains(&notice.status))
            && self
                .handler
                .as_deref()
                .is_none_or(|name| *notice.handler == *name)
            && self
                .queue
                .as_deref()
                .is_none_or(|name| *notice.queue == *name)
    }
}

impl Piece {
    /// What a reader is to get of it that has had all up to `after`.
    pub fn read(&self, wanted: &Wanted, after: u64) -> Bytes {
        let first = self.events.first().map_or(0, |event| event.number);
        if wanted.is_all() && after < first {
            return self.whole.clone();
        }
        let mut text = Vec::new();
        for event in &self.events {
            // What is no task's may matter to anybody.
            let fits = (event.notice.as_ref()).is_none_or(|notice| wanted.wants(notice));
            if event.number > after && fits {
                text.extend_from_slice(&self.text[event.range.clone()]);
            }
        }
        text.into()
    }
}

/// The feed of one host.
pub struct Feed {
    host: u64,
    kept: Mutex<Kept>,
    pieces: broadcast::Sender<Arc<Piece>>,
    said: Mutex<Vec<&'static str>>,
    bell: Notify,
    kept_bytes_max: usize,
}

struct Kept {
    /// The number of the last event.
    last: u64,
    /// The number of the last event that is not kept any more.
    gone: u64,
    pieces: VecDeque<Arc<Piece>>,
    bytes: usize,
}

/// A reader's place in the feed.
pub struct Reading {
    /// What it has missed and is still kept.
    pub missed: Vec<Arc<Piece>>,
    /// Whether more than that is missing.
    pub reset: bool,
    /// After which event it goes on.
    pub after: u64,
    /// What comes.
    pub coming: broadcast::Receiver<Arc<Piece>>,
}

impl Feed {
    /// A feed whose events bear the number of a host's lease.
    pub fn new(host: u64, bounds: &Bounds) -> Feed {
        Feed {
            host,
            kept: Mutex::new(Kept {
                last: 0,
                gone: 0,
                pieces: VecDeque::new(),
                bytes: 0,
            }),
            pieces: broadcast::Sender::new(bounds.behind),
            said: Mutex::default(),
            bell: Notify::new(),
            kept_bytes_max: bounds.kept_bytes,
        }
    }

    /// Something else than a task has changed: `queues`, `schedules`, `handlers`, `jobs`.
    pub fn say(&self, what: &'static str) {
        lock(&self.said).push(what);
        self.bell.notify_one();
    }

    /// How many read.
    pub fn readers(&self) -> usize {
        self.pieces.receiver_count()
    }

    /// The place of an event.
    pub fn place(&self, number: u64) -> Place {
        Place {
            host: self.host,
            number,
        }
    }

    /// Read on after a place, or from now on.
    pub fn read(&self, from: Start) -> Reading {
        let kept = lock(&self.kept);
        let coming = self.pieces.subscribe();
        let from = match from {
            Start::Now => kept.last,
            Start::After(place)
                if place.host == self.host && (kept.gone..=kept.last).contains(&place.number) =>
            {
                place.number
            }
            Start::After(_) | Start::Unknown => {
                return Reading {
                    missed: Vec::new(),
                    reset: true,
                    after: kept.last,
                    coming,
                };
            }
        };
        let missed = kept.pieces.iter().filter(|piece| piece.last > from);
        Reading {
            missed: missed.cloned().collect(),
            reset: false,
            after: from,
            coming,
        }
    }

    /// Tell what happens, for as long as the host lives.
    pub async fn run(self: Arc<Feed>, bus: Arc<Bus>) {
        let mut follow = bus.follow();
        loop {
            let all = tokio::select! {
                all = follow.next() => all,
                () = self.bell.notified() => All::default(),
            };
            let said = std::mem::take(&mut *lock(&self.said));
            self.tell(all, said);
            let readers = u64::try_from(self.readers() / READERS_PER_MS).unwrap_or(u64::MAX);
            tokio::time::sleep(REST_MIN + Duration::from_millis(readers)).await;
        }
    }

    fn tell(&self, all: All, said: Vec<&'static str>) {
        let mut kept = lock(&self.kept);
        let mut number = kept.last;
        let (mut text, mut events) = (String::new(), Vec::new());
        let mut add = |text: &mut String, event: &EventJson, notice: Option<Notice>| {
            number += 1;
            let start = text.len();
            event.write(text, self.place(number));
            events.push(Event {
                number,
                notice,
                range: start..text.len(),
            });
        };
        let tasks = last_of_each(all.notices);
        let many = tasks.len();
        for notice in tasks {
            let event = EventJson::Task(TaskEventJson {
                id: notice.task,
                status: notice.status,
                task_type: notice.handler.clone(),
                queue: notice.queue.clone(),
                parent_task_id: notice.parent,
                root_task_id: notice.root,
            });
            add(&mut text, &event, Some(notice));
        }
        let mut others: Vec<&'static str> = said;
        if all.outside || all.missing > 0 {
            others.push("tasks");
        }
        others.dedup();
        let before_others = text.len();
        for what in others {
            let event = EventJson::Changed(ChangedEventJson { what, count: None });
            add(&mut text, &event, None);
        }
        if events.is_empty() {
            return;
        }
        let text = Bytes::from(text);
        let whole = match many > TOLD_MAX {
            false => text.clone(),
            true => {
                let event = EventJson::Changed(ChangedEventJson {
                    what: "tasks",
                    count: Some(many),
                });
                let mut whole = String::new();
                event.write(&mut whole, self.place(number));
                let mut whole = whole.into_bytes();
                whole.extend_from_slice(&text[before_others..]);
                whole.into()
            }
        };
        let piece = Arc::new(Piece {
            last: number,
            whole,
            text,
            events,
        });
        kept.last = number;
        kept.bytes += piece.bytes();
        kept.pieces.push_back(piece.clone());
        while kept.bytes > self.kept_bytes_max {
            let Some(oldest) = kept.pieces.pop_front() else {
                break;
            };
            kept.bytes -= oldest.bytes();
            kept.gone = oldest.last;
        }
        // While the place is held, so that a reader who comes now gets it once. Nobody may read.
        let _ = self.pieces.send(piece);
    }
}

impl Piece {
    /// Memory that it takes, more or less.
    fn bytes(&self) -> usize {
        self.text.len() + self.whole.len() + self.events.len() * size_of::<Event>()
    }
}

/// A task that moved several times is told once: as it is now, where it moved last.
fn last_of_each(notices: Vec<Notice>) -> Vec<Notice> {
    let mut last: HashMap<TaskId, usize> = HashMap::with_capacity(notices.len());
    for (index, notice) in notices.iter().enumerate() {
        last.insert(notice.task, index);
    }
    let kept = |(index, notice): (usize, Notice)| (last[&notice.task] == index).then_some(notice);
    notices.into_iter().enumerate().filter_map(kept).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(task: i64, parent: Option<i64>, status: Status) -> Notice {
        Notice {
            task: TaskId::from_i64(task),
            status,
            parent: parent.map(TaskId::from_i64),
            root: TaskId::from_i64(parent.unwrap_or(task)),
            handler: "echo".into(),
            queue: "default".into(),
            created_at_ms: 0,
            started_at_ms: None,
            ended_at_ms: None,
        }
    }

    fn feed(pieces: &[&[i64]]) -> Feed {
        let feed = Feed::new(7, &Bounds::default());
        for piece in pieces {
            let all = All {
                notices: (piece.iter())
                    .map(|task| notice(*task, None, Status::Pending))
                    .collect(),
                ..All::default()
            };
            feed.tell(all, Vec::new());
        }
        feed
    }

    /// The numbers of the events that a reader gets who comes back to a place.
    fn told(feed: &Feed, host: u64, number: u64) -> Option<Vec<String>> {
        let reading = feed.read(Start::After(Place { host, number }));
        if reading.reset {
            return None;
        }
        let mut text = String::new();
        for piece in &reading.missed {
            let some = piece.read(&Wanted::default(), reading.after);
            text.push_str(&String::from_utf8_lossy(&some));
        }
        let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
        Some(ids.map(str::to_owned).collect())
    }

    #[test]
    fn a_reader_goes_on_behind_any_event_of_this_host_and_of_no_other() {
        let feed = feed(&[&[1, 2, 3], &[4], &[5, 6]]);
        let from = |number: u64| -> Option<Vec<String>> {
            Some((number + 1..=6).map(|one| format!("7-{one}")).collect())
        };
        // In the middle of a piece, too.
        for number in 0..=6 {
            assert_eq!(told(&feed, 7, number), from(number), "{number}");
        }
        assert_eq!(told(&feed, 7, 7), None);
        assert_eq!(told(&feed, 6, 3), None, "another host's");
    }

    #[test]
    fn a_task_that_moved_twice_within_a_piece_is_told_once_as_it_is() {
        let moved = vec![
            notice(1, None, Status::Pending),
            notice(2, None, Status::Pending),
            notice(1, None, Status::Running),
        ];
        let left = last_of_each(moved);
        let left: Vec<_> = left.iter().map(|one| (one.task, one.status)).collect();
        let one = |task, status| (TaskId::from_i64(task), status);
        assert_eq!(left, [one(2, Status::Pending), one(1, Status::Running)]);
    }

    #[test]
    fn a_workflows_reader_hears_of_its_jobs_and_of_nothing_below_them() {
        let wanted = Wanted {
            workflow: Some(TaskId::from_i64(1)),
            ..Wanted::default()
        };
        let hears = |task, parent| wanted.wants(&notice(task, parent, Status::Running));
        assert!(hears(1, None) && hears(2, Some(1)));
        assert!(!hears(3, Some(2)) && !hears(4, None));
    }
}
