//! The steps of a program, and what people do.

use std::sync::Arc;

use fishway::group::OnFailure;
use fishway::job::{NewJob, Unit, Units};
use fishway::journal::{Function, Logged, NewStep};
use fishway::queue::QueueChange;
use fishway::schedule::{Missed, Overlap, Plan, Target, Timing};
use fishway::store::kernel;
use fishway::store::{Alter, Keep, Record, Signal, Sweep, Until};
use fishway::task::{NewTask, Options, StatusSet, TaskId};
use fishway::workflow::NewWorkflow;

use super::shapes::{identity, nobody, workflow};
use super::{Expected, Machine, Said, Wrong};
use crate::simulation::step::{QUEUES, SIGNALS, Step};

impl Machine {
    pub(super) fn step(&mut self, step: &Step) -> Result<(), Wrong> {
        match step {
            Step::Submit {
                after,
                priority,
                delay_ms,
                expires_ms,
                queue,
                key,
                follow,
                outside,
            } => {
                let options = Options {
                    after: self.pick_some(after),
                    priority: Some(*priority),
                    delay_ms: *delay_ms,
                    expires_ms: *expires_ms,
                    queue: Some(QUEUES[*queue].into()),
                    key: key.map(|key| format!("key-{key}").into()),
                    on_complete: follow.then(|| "next".into()),
                    ..Options::default()
                };
                let new = vec![NewTask::root("h", "{}", options)];
                self.ask(*outside, None, Expected::Made, move |turn| {
                    kernel::submit(turn, &new).map(Said::Submitted)
                })
            }
            Step::Workflow(shape) => {
                let new = NewWorkflow {
                    workflow: Arc::new(workflow(*shape)),
                    spawner: None,
                    retry_of: None,
                    key: None,
                    metadata: None,
                };
                self.ask(false, None, Expected::Made, move |turn| {
                    let started = kernel::run_workflow(turn, &new, None)?;
                    let jobs = started.jobs.iter().map(|(_, id)| *id);
                    Ok(Said::Made(jobs.chain([started.id]).collect()))
                })
            }
            Step::Job {
                units,
                shape,
                at_once,
                whole,
            } => self.job(*units, OnFailure::ALL[*shape], *at_once, *whole),
            Step::Units(number) => {
                let many = self.half_made.len().max(1);
                match self.half_made.get(usize::from(*number) % many).copied() {
                    None => Ok(()),
                    Some((job, there, all)) => {
                        self.half_made.retain(|(id, ..)| *id != job);
                        self.add_units(job, there + 1, all)
                    }
                }
            }
            Step::PauseJob(number, paused) => {
                let (Some(job), paused) = (self.named(*number), *paused) else {
                    return Ok(());
                };
                self.ask(false, None, Expected::Made, move |turn| {
                    kernel::pause_job(turn, job, paused).map(|_| Said::Nothing)
                })
            }
            Step::Schedule(how) => self.schedule(*how),
            Step::Cancel {
                task,
                only,
                outside,
            } => {
                let (Some(task), only) = (self.named(*task), *only) else {
                    return Ok(());
                };
                self.ask(*outside, None, Expected::Made, move |turn| {
                    kernel::cancel(turn, task, only, None).map(|_| Said::Nothing)
                })
            }
            Step::Retry { task, outside } => {
                let Some(task) = self.named(*task) else {
                    return Ok(());
                };
                self.alone()?;
                self.again = true;
                self.ask(*outside, None, Expected::Again, move |turn| {
                    kernel::retry(turn, task).map(|_| Said::Nothing)
                })
            }
            Step::Delete(number, only) => match self.named(*number) {
                None => Ok(()),
                Some(task) => self.sweep(Sweep::of(task, *only)),
            },
            Step::Prune(ms) => {
                let keep = Keep::for_ever().with(StatusSet::terminal(), *ms);
                self.sweep(Sweep::old(keep, false))
            }
            Step::Send {
                task,
                name,
                outside,
            } => {
                let Some(to) = self.named(*task) else {
                    return Ok(());
                };
                let value = self.number().to_string();
                let signal = Signal {
                    to,
                    name: SIGNALS[*name].to_owned(),
                    value: value.clone(),
                };
                let expected = Expected::Sent(to, *name, value);
                self.ask(*outside, None, expected, move |turn| {
                    kernel::send(turn, &signal, None).map(|_| Said::Nothing)
                })
            }
            Step::SetQueue {
                queue,
                at_once,
                paused,
            } => {
                let name = QUEUES[*queue];
                let change = QueueChange {
                    concurrency: *at_once,
                    paused: *paused,
                };
                self.ask(false, None, Expected::Made, move |turn| {
                    kernel::set_queue(turn, name, change).map(|_| Said::Nothing)
                })
            }
            Step::Slots(slots) => {
                self.host().dispatch.offers().slots = *slots;
                Ok(())
            }
            Step::Tick => self.tick(),
            Step::Spawn {
                attempt,
                many,
                key,
                after,
            } => self.spawn(*attempt, *many, *key, after),
            Step::OpenPool(attempt, pool) => self.open_pool(*attempt, *pool),
            Step::AddMember {
                attempt,
                pool,
                key,
                again,
            } => self.add_member(*attempt, *pool, *key, *again),
            Step::Drain(attempt, pool) => {
                let pool = self.pool(*pool);
                if let (Some(pool), Some(attempt)) = (pool, self.attempt(*attempt)) {
                    let token = attempt.task.token();
                    self.record(token, vec![Record::Drain(pool)], Vec::new());
                }
                Ok(())
            }
            Step::Wait {
                attempt,
                targets,
                all,
                running,
                for_ms,
            } => {
                let targets = self.pick_some(targets);
                self.wait(*attempt, targets, *all, *running, *for_ms)
            }
            Step::WaitPool(attempt, pool) => {
                let Some(pool) = self.pool(*pool) else {
                    return Ok(());
                };
                if let Some(attempt) = self.attempt(*attempt) {
                    let token = attempt.task.token();
                    self.record(token, vec![Record::Drain(pool)], Vec::new());
                }
                self.wait(*attempt, vec![pool], true, false, None)
            }
            Step::Sleep(attempt, ms) => {
                let until_ms = Some(self.now_ms() + ms);
                self.suspend(*attempt, Until::Time, until_ms, nobody())
            }
            Step::AwaitSignal(attempt, name, ms) => {
                let until_ms = ms.map(|ms| self.now_ms() + ms);
                let until = Until::Signal(SIGNALS[*name].to_owned());
                self.suspend(*attempt, until, until_ms, nobody())
            }
            Step::Receive(attempt, name) => {
                let Some(by) = self.by(*attempt, Function::SignalReceive) else {
                    return Ok(());
                };
                let unread = self.signals.entry(by.token.task).or_default();
                // What is sent and received in one transaction comes in that order.
                let mut sent: Vec<(usize, String)> = unread.clone();
                for (_, asked) in &self.batch {
                    match &asked.expected {
                        Expected::Sent(to, name, value) if *to == by.token.task => {
                            sent.push((*name, value.clone()));
                        }
                        Expected::Received(token, Some(value)) if token.task == by.token.task => {
                            sent.retain(|(_, one)| one != value);
                        }
                        _ => {}
                    }
                }
                let oldest = sent.iter().find(|(one, _)| one == name);
                let value = oldest.map(|(_, value)| value.clone());
                let (token, name) = (by.token, SIGNALS[*name]);
                let expected = Expected::Received(token, value);
                self.ask(false, Some(token), expected, move |turn| {
                    let received = kernel::receive(turn, name, &by)?;
                    Ok(Said::Value(received.value))
                })
            }
            Step::KeepValue(attempt, step) => {
                let value = self.number();
                let Some(by) = self.by(*attempt, Function::StepComplete) else {
                    return Ok(());
                };
                let new = NewStep {
                    name: format!("step-{step}"),
                    value: value.to_string(),
                    began: by.number,
                    logged: Logged::default(),
                };
                let token = by.token;
                let expected = Expected::Completed(token, new.name.clone(), value);
                self.ask(false, Some(token), expected, move |turn| {
                    kernel::complete_step(turn, &new, &by)?;
                    Ok(Said::Nothing)
                })
            }
            Step::AwaitExchange(attempt, many, for_ms) => {
                self.await_exchange(*attempt, *many, *for_ms)
            }
            Step::Arrive {
                task,
                exchange,
                ends,
            } => match self.pick(*task) {
                Some(task) => self.arrive(task, *exchange, *ends),
                None => Ok(()),
            },
            Step::TakeArrival(attempt) => self.take_arrival(*attempt),
            Step::End(attempt, ending) => self.end(*attempt, ending),
            Step::NextHost => self.next_host(),
            Step::Beat(met) => self.beat(*met),
            Step::Die => self.die(),
            Step::ReadFails(attempt, why) => self.read_fails(*attempt, *why),
            Step::Unreadable(steps, why) => {
                self.unreadable = Some((*steps, *why));
                Ok(())
            }
            Step::Failover(steps) => self.stand_by(*steps),
            Step::Clock(by_ms) => {
                self.clock.turn(*by_ms);
                Ok(())
            }
            Step::Together(steps) => {
                self.gather = self.gather.max(*steps);
                Ok(())
            }
            Step::Crash(loss) => {
                self.crash = Some(loss.clone());
                Ok(())
            }
            Step::Takeover => self.take_over(),
            Step::Late(number, what) => self.write_late(*number, *what),
            Step::Rows(rows) => {
                self.alone()?;
                self.rows_max = Some(*rows).filter(|rows| *rows > 0);
                Ok(())
            }
            Step::GoOn => self.go_on(),
            Step::Busy(_) => self.busy(),
            Step::Full => {
                self.fill = true;
                Ok(())
            }
        }
    }

    pub(super) fn tick(&mut self) -> Result<(), Wrong> {
        // A producer's clock may end a group, and what it ends may be many.
        self.ask(false, None, Expected::Made, |turn| {
            kernel::tick(turn).map(|_| Said::Nothing)
        })
    }

    pub(super) fn sweep(&mut self, sweep: Sweep) -> Result<(), Wrong> {
        self.alone()?;
        let mut sweep = sweep;
        while !sweep.over() {
            self.deletes = true;
            let now = sweep.clone();
            let heard: Arc<std::sync::Mutex<Option<Sweep>>> = Arc::default();
            let tell = heard.clone();
            self.ask(false, None, Expected::Made, move |turn| {
                let next = kernel::sweep(turn, now.clone())?;
                *tell.lock().unwrap() = Some(next);
                Ok(Said::Nothing)
            })?;
            self.commit()?;
            let next = heard.lock().unwrap().take();
            match next {
                Some(next) => sweep = next,
                None => break,
            }
        }
        Ok(())
    }

    pub(super) fn job(
        &mut self,
        units: u64,
        on_failure: OnFailure,
        concurrency: Option<u32>,
        whole: bool,
    ) -> Result<(), Wrong> {
        let new = NewJob {
            name: "job".into(),
            handler: "h".into(),
            options: Arc::default(),
            on_failure,
            concurrency,
            units,
            inputs: String::new(),
            by: identity(),
        };
        let heard: Arc<std::sync::Mutex<Option<TaskId>>> = Arc::default();
        let tell = heard.clone();
        self.ask(false, None, Expected::Made, move |turn| {
            let job = kernel::start_job(turn, &new)?;
            *tell.lock().unwrap() = Some(job);
            Ok(Said::Made(vec![job]))
        })?;
        // The units come to the job by its id, which comes with the answer.
        self.alone()?;
        let job = heard.lock().unwrap().take();
        // After a loss of power there may be no such job, and whoever made it is gone.
        match job.filter(|job| self.tasks.contains_key(job) && !self.is_half_made(*job)) {
            Some(job) if units > 0 => match whole {
                true => self.add_units(job, 1, units),
                false => {
                    let first = units / 2;
                    self.half_made.push((job, first, units));
                    self.add_units(job, 1, first)
                }
            },
            _ => Ok(()),
        }
    }

    pub(super) fn is_half_made(&self, job: TaskId) -> bool {
        self.half_made.iter().any(|(id, ..)| *id == job)
    }

    pub(super) fn add_units(&mut self, job: TaskId, first: u64, last: u64) -> Result<(), Wrong> {
        let unit = |line: u64| Unit {
            line,
            input: line.to_string().into(),
        };
        let units = Units {
            handler: "h".into(),
            options: Arc::default(),
            units: (first..=last).map(unit).collect(),
        };
        self.ask(false, None, Expected::Made, move |turn| {
            kernel::add_units(turn, job, &units).map(|()| Said::Nothing)
        })
    }

    pub(super) fn schedule(&mut self, how: u8) -> Result<(), Wrong> {
        let name = if how.is_multiple_of(2) { "even" } else { "odd" };
        let plan = Plan {
            name: name.into(),
            target: Target::Handler {
                handler: "h".into(),
                input: "{}".into(),
            },
            options: Arc::default(),
            timing: Timing::every(60_000, 0).unwrap(),
            missed: [Missed::Once, Missed::Skip, Missed::All][usize::from(how) % 3],
            overlap: [Overlap::Allow, Overlap::Skip][usize::from(how) % 2],
        };
        self.ask(false, None, Expected::Made, move |turn| {
            match how {
                0..3 => kernel::add_schedule(turn, &plan, how == 2)?,
                3 => kernel::alter_schedule(turn, name, Alter::Trigger)?,
                4 => kernel::alter_schedule(turn, name, Alter::Pause)?,
                _ => kernel::alter_schedule(turn, name, Alter::Resume)?,
            };
            Ok(Said::Nothing)
        })
    }
}
