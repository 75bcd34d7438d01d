//! What comes late: words of attempts and hosts that have lost their place.

use fishway::group::PoolOptions;
use fishway::journal::{Call, Function, Logged, NewStep};
use fishway::store::kernel::{self, Turn};
use fishway::store::writer::{Ask, Job, Tell};
use fishway::store::{CallBy, Record, StoreError, Suspension, Until};
use fishway::task::StatusSet;

use super::shapes::completed;
use super::{Attempt, Machine, Said, Wrong, hold};

impl Machine {
    /// An attempt that has lost its claim says something, and may change nothing by it.
    pub(super) fn write_late(&mut self, number: u16, what: u8) -> Result<(), Wrong> {
        self.alone()?;
        let lost: Vec<&Attempt> = self.attempts.iter().filter(|one| one.lost).collect();
        let at = usize::from(number) % lost.len().max(1);
        let Some(attempt) = lost.get(at).map(|one| (*one).clone()) else {
            return self.beat_late();
        };
        let token = attempt.task.token();
        let before = self.host().eye().fingerprint();
        let by = CallBy {
            token,
            number: attempt.calls + 1,
            call: Call {
                function: Function::SignalReceive,
                subject: "it".to_owned(),
                content: 7,
            },
        };
        let mut answer = None;
        type Work = Box<dyn FnMut(&mut Turn<'_>) -> Result<(), StoreError> + Send>;
        let mut asked = |run: Work| {
            let (job, told) = Ask::new(Some(token), run);
            answer = Some(told);
            Box::new(job) as Box<dyn Job>
        };
        let job: Box<dyn Job> = match what {
            0 => {
                let end = completed(&attempt.task, false);
                asked(Box::new(move |turn| kernel::finish(turn, token, &end)))
            }
            1 => {
                let wait = Suspension {
                    made: None,
                    number: attempt.calls + 1,
                    until: Until::All(
                        self.ids.iter().copied().take(2).collect(),
                        StatusSet::terminal(),
                    ),
                    until_ms: None,
                    spent_ms: 0,
                    exchanges: Vec::new(),
                    hears_cancel: false,
                    grace_until_ms: None,
                };
                asked(Box::new(move |turn| kernel::suspend(turn, token, &wait)))
            }
            2 => asked(Box::new(move |turn| {
                kernel::receive(turn, "go", &by).map(|_| ())
            })),
            3 => {
                let name = "strict".into();
                asked(Box::new(move |turn| {
                    kernel::open_pool(turn, &by, &name, &PoolOptions::default()).map(|_| ())
                }))
            }
            4 => asked(Box::new(move |turn| {
                kernel::take_arrivals(turn, &by, 0).map(|_| ())
            })),
            5 => {
                let new = self.new_below(&attempt, attempt.task.id, false);
                let records = vec![Record::Task(Box::new(new))];
                Box::new(Tell {
                    token,
                    run: move |turn: &mut Turn<'_>| kernel::record(turn, token, &records),
                })
            }
            6 => {
                let new = NewStep {
                    name: "late".to_owned(),
                    value: "1".to_owned(),
                    began: 1,
                    logged: Logged::default(),
                };
                asked(Box::new(move |turn| {
                    kernel::complete_step(turn, &new, &by).map(|_| ())
                }))
            }
            _ => {
                let records = vec![Record::Checkpoint {
                    name: "late".to_owned(),
                    value: "1".to_owned(),
                }];
                Box::new(Tell {
                    token,
                    run: move |turn: &mut Turn<'_>| kernel::record(turn, token, &records),
                })
            }
        };
        let process = self.process(attempt.host).expect("it lives");
        process.turn(vec![job]);
        let touched = process.process.touched();
        let claimed = std::mem::take(&mut process.dispatch.offers().claimed);
        self.tally.stale += 1;
        if let Some(mut answer) = answer {
            let said = answer.try_recv().unwrap();
            hold!(
                matches!(said, Err(StoreError::Stale(_))),
                "a stale attempt of {} is told {said:?}",
                token.task
            );
        }
        hold!(claimed.is_empty(), "a host without a slot has claimed");
        hold!(
            before == self.host().eye().fingerprint(),
            "a stale attempt of {} has written",
            token.task
        );
        self.answered(Vec::new(), touched, Vec::new())
    }

    /// A host that lost its place says that it lives, and is told that it does not; unless the lease of the
    /// one that took its place was lost in a failover.
    fn beat_late(&mut self) -> Result<(), Wrong> {
        let Some(mut old) = self.old.take() else {
            return Ok(());
        };
        let (job, mut answer) = self.sign_of_life(&old, None);
        let number = old.number;
        self.old = Some(old);
        let leased = self.has_lease(number);
        old = self.old.take().expect("it was there");
        old.turn(vec![job]);
        let touched = old.process.touched();
        let said = answer.try_recv().unwrap();
        match &said {
            Ok(Said::Beat(Some(_))) if leased => {
                self.old = Some(old);
                self.compared.push(number);
            }
            Ok(Said::Beat(None)) if !leased => self.forget(number),
            said => {
                return Err(format!(
                    "a host that another one has replaced says that it lives, and hears {said:?}"
                ));
            }
        }
        self.answered(Vec::new(), touched, Vec::new())
    }
}
