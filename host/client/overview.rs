//! How the newest tasks fared: how many ended when, how long they took, which handlers fail.
//!
//! Made of a bounded look at the newest tasks, so that it costs the same however many there ever were;
//! where more than those ended within the time that is asked for, it says from when on it knows.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Client, ClientError};
use crate::store::{Filter, Recent};
use crate::task::Status;

/// Tasks that are looked at.
const LOOKED_AT: u64 = 20_000;

/// Handlers that are told one by one.
const HANDLERS_MAX: usize = 50;

/// A look at the recent past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// How many tasks there are in each status now.
    pub counts: Vec<(Status, u64)>,
    /// When the first moment begins, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// How long a moment is, in milliseconds.
    pub moment_ms: u64,
    /// Before this, not all is known.
    pub known_since_ms: u64,
    /// One after the other.
    pub moments: Vec<Moment>,
    /// By handler: those that failed most often come first.
    pub handlers: Vec<(Arc<str>, Moment)>,
}

/// What ended within a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    /// Tasks that completed.
    pub completed: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// Tasks that ended otherwise.
    pub others: u64,
    /// From the start of those that completed or failed to their end, in milliseconds.
    pub duration_ms: Option<Of>,
    /// From submit to start of those that started then and came after no other, in milliseconds.
    pub wait_ms: Option<Of>,
}

/// Some of many numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Of {
    /// Half are no larger.
    pub median: u64,
    /// Nineteen of twenty are no larger.
    pub p95: u64,
    /// None is larger.
    pub largest: u64,
}

impl Of {
    fn all(mut numbers: Vec<u64>) -> Option<Of> {
        numbers.sort_unstable();
        let largest = *numbers.last()?;
        let at = |share: usize| numbers[(numbers.len() * share).div_ceil(100).max(1) - 1];
        Some(Of {
            median: at(50),
            p95: at(95),
            largest,
        })
    }
}

#[derive(Default)]
struct Gathered {
    moment: Moment,
    durations: Vec<u64>,
    waits: Vec<u64>,
}

impl Gathered {
    fn end(&mut self, task: &Recent, ended_at_ms: u64) {
        match task.status {
            Status::Completed => self.moment.completed += 1,
            Status::Failed => self.moment.failed += 1,
            _ => self.moment.others += 1,
        }
        if let (Status::Completed | Status::Failed, Some(started)) =
            (task.status, task.started_at_ms)
        {
            self.durations.push(ended_at_ms.saturating_sub(started));
        }
    }

    fn start(&mut self, task: &Recent, started_at_ms: u64) {
        if !task.blocked {
            self.waits
                .push(started_at_ms.saturating_sub(task.created_at_ms));
        }
    }

    fn done(self) -> Moment {
        Moment {
            duration_ms: Of::all(self.durations),
            wait_ms: Of::all(self.waits),
            ..self.moment
        }
    }
}

impl Client {
    /// How tasks fared in `moments` moments of `moment_ms` up to now.
    pub fn overview(
        &self,
        now_ms: u64,
        moments: usize,
        moment_ms: u64,
    ) -> Result<Overview, ClientError> {
        let counts = self.store.tally(&Filter::default())?;
        let recent = self.store.recent(LOOKED_AT)?;
        let all = (recent.len() as u64) < LOOKED_AT;
        Ok(summary(&recent, all, counts, now_ms, moments, moment_ms))
    }
}

fn summary(
    recent: &[Recent],
    all: bool,
    counts: Vec<(Status, u64)>,
    now_ms: u64,
    moments: usize,
    moment_ms: u64,
) -> Overview {
    // Whole moments, so that they stay the same from look to look.
    let end_ms = (now_ms / moment_ms + 1) * moment_ms;
    let since_ms = end_ms.saturating_sub(moment_ms * moments as u64);
    let place = |at_ms: u64| {
        let place = at_ms.checked_sub(since_ms)? / moment_ms;
        usize::try_from(place).ok().filter(|place| *place < moments)
    };
    let mut gathered: Vec<Gathered> = Vec::new();
    gathered.resize_with(moments, Gathered::default);
    let mut handlers: HashMap<Arc<str>, Gathered> = HashMap::new();
    for task in recent {
        let ended = task.ended_at_ms.and_then(|at| Some((at, place(at)?)));
        let started = task.started_at_ms.and_then(|at| Some((at, place(at)?)));
        if ended.is_none() && started.is_none() {
            continue;
        }
        let handler = handlers.entry(task.handler.clone()).or_default();
        if let Some((at_ms, place)) = ended {
            gathered[place].end(task, at_ms);
            handler.end(task, at_ms);
        }
        if let Some((at_ms, place)) = started {
            gathered[place].start(task, at_ms);
            handler.start(task, at_ms);
        }
    }
    let oldest = recent.last().map_or(since_ms, |task| task.created_at_ms);
    let mut handlers: Vec<(Arc<str>, Moment)> = (handlers.into_iter())
        .map(|(name, gathered)| (name, gathered.done()))
        .collect();
    let ended = |moment: &Moment| moment.completed + moment.failed + moment.others;
    handlers.sort_by(|(a_name, a), (b_name, b)| {
        (b.failed, ended(b), a_name).cmp(&(a.failed, ended(a), b_name))
    });
    handlers.truncate(HANDLERS_MAX);
    Overview {
        counts,
        since_ms,
        moment_ms,
        known_since_ms: if all { since_ms } else { oldest.max(since_ms) },
        moments: gathered.into_iter().map(Gathered::done).collect(),
        handlers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(handler: &str, status: Status, times: [u64; 3], blocked: bool) -> Recent {
        Recent {
            handler: handler.into(),
            status,
            created_at_ms: times[0],
            started_at_ms: Some(times[1]),
            ended_at_ms: status.is_terminal().then_some(times[2]),
            blocked,
        }
    }

    #[test]
    fn ends_are_counted_in_the_moment_in_which_they_were() {
        let tasks = [
            recent("mail", Status::Failed, [10_100, 10_400, 12_500], false),
            recent("mail", Status::Completed, [9_000, 11_000, 11_250], true),
            recent("mail", Status::Running, [9_000, 12_010, 0], false),
            recent("print", Status::Completed, [1_000, 2_000, 11_999], false),
            recent("print", Status::Completed, [1_000, 2_000, 3_000], false),
        ];
        let overview = summary(&tasks, true, Vec::new(), 12_600, 3, 1_000);
        assert_eq!(overview.since_ms, 10_000);
        let of = |only: u64| {
            Some(Of {
                median: only,
                p95: only,
                largest: only,
            })
        };
        let expected = [
            Moment {
                wait_ms: of(300),
                ..Moment::default()
            },
            Moment {
                completed: 2,
                duration_ms: Some(Of {
                    median: 250,
                    p95: 9_999,
                    largest: 9_999,
                }),
                ..Moment::default()
            },
            Moment {
                failed: 1,
                duration_ms: of(2_100),
                wait_ms: of(3_010),
                ..Moment::default()
            },
        ];
        assert_eq!(overview.moments, expected);
        let names: Vec<&str> = overview.handlers.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["mail", "print"]);
        assert_eq!(overview.handlers[1].1.completed, 1);
        assert_eq!(overview.known_since_ms, 10_000);
    }

    #[test]
    fn of_very_many_handlers_those_that_fail_most_are_told() {
        let tasks: Vec<Recent> = (0..60)
            .map(|number| {
                let status = match number {
                    59 => Status::Failed,
                    _ => Status::Completed,
                };
                recent(
                    &format!("h{number:02}"),
                    status,
                    [10_100, 10_400, 10_500],
                    false,
                )
            })
            .collect();
        let overview = summary(&tasks, true, Vec::new(), 12_600, 3, 1_000);
        assert_eq!(overview.handlers.len(), HANDLERS_MAX);
        assert_eq!(&*overview.handlers[0].0, "h59");
        assert_eq!(&*overview.handlers[1].0, "h00");
    }

    #[test]
    fn what_was_not_looked_at_is_said_to_be_unknown() {
        let tasks = [recent(
            "mail",
            Status::Completed,
            [11_700, 11_800, 11_900],
            false,
        )];
        let overview = summary(&tasks, false, Vec::new(), 12_600, 3, 1_000);
        assert_eq!(overview.known_since_ms, 11_700);
    }
}
