//! A machine with a host on it, guests that do as the program says, and everything that may go wrong.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fishway::clock::Clock;
use fishway::group::{Each, Items, OnFailure, PoolOptions, Results};
use fishway::job::{NewJob, Unit, Units};
use fishway::journal::{Call, Function};
use fishway::queue::QueueChange;
use fishway::schedule::{Missed, Overlap, Plan, Target, Timing};
use fishway::store::invariants::INVARIANTS;
use fishway::store::kernel::{self, Turn};
use fishway::store::sqlite::{Role, violations};
use fishway::store::writer::{Ask, Job, Tell};
use fishway::store::{
    Alter, CallBy, End, Keep, Record, Signal, StoreError, Submitted, Suspension, Sweep, Until,
};
use fishway::task::edge::On;
use fishway::task::{
    Failure, FailureKind, Json, NewChild, NewChildren, NewTask, Options, Place, Producer, Spawner,
    Status, StatusSet, Task, TaskId, Token,
};
use fishway::workflow::{After, NewWorkflow, Work, Workflow};
use tokio::sync::oneshot;

use super::host::{Disk, Host, SimClock};
use super::mirror::{self, Known, Waiting, Waits};
use super::step::{Ending, Loss, QUEUES, SIGNALS, Step};

/// When every program begins.
const START_MS: u64 = 1_790_000_000_000;

/// Transactions between two looks at all invariants.
const LOOK_EVERY: u32 = 100;

/// What is wrong, as a sentence.
pub type Wrong = String;

macro_rules! hold {
    ($holds:expr, $($says:tt)*) => {
        if !$holds {
            return Err(format!($($says)*));
        }
    };
}

/// An attempt that runs, or thinks so.
#[derive(Debug, Clone)]
struct Attempt {
    task: Task,
    calls: u32,
    /// It has said how it ends, in the transaction that is being gathered.
    leaves: bool,
}

/// What a job answers.
#[derive(Debug)]
enum Said {
    Nothing,
    Submitted(Vec<Submitted>),
    Made(Vec<TaskId>),
    Value(Option<String>),
}

/// What has to come of a job.
#[derive(Debug)]
enum Expected {
    /// It may be refused; where it is not, these tasks are there.
    Made,
    /// The attempt has ended so, and its claim holds.
    Ended(Token, End),
    /// The attempt waits, or is told that this could never end.
    Waits(Token, Waits),
    /// What an attempt may do while its claim holds.
    Done(Token),
    /// The oldest unread signal.
    Received(Token, Option<String>),
    /// A signal is kept.
    Sent(TaskId, usize, String),
    /// Tasks that have ended begin again.
    Again,
}

struct Asked {
    expected: Expected,
    /// None where nobody is told.
    answer: Option<oneshot::Receiver<Result<Said, StoreError>>>,
    /// Tasks that are there when it is done.
    children: Vec<TaskId>,
}

/// What was done, in all programs together.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub steps: u64,
    pub transactions: u64,
    pub claims: u64,
    pub crashes: u64,
    pub lost: u64,
    pub takeovers: u64,
    pub stale: u64,
    pub busy: u64,
    pub full: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.transactions += other.transactions;
        self.claims += other.claims;
        self.crashes += other.crashes;
        self.lost += other.lost;
        self.takeovers += other.takeovers;
        self.stale += other.stale;
        self.busy += other.busy;
        self.full += other.full;
    }
}

pub struct Machine {
    directory: PathBuf,
    clock: Arc<SimClock>,
    host: Option<Host>,
    /// A host that lost its place to another one, and does not know yet.
    old: Option<Host>,
    visitor: Option<Host>,
    tasks: BTreeMap<TaskId, Known>,
    /// The same in order of their numbers, for those who choose.
    ids: Vec<TaskId>,
    attempts: Vec<Attempt>,
    late: Vec<Attempt>,
    waits: Waiting,
    /// Tasks that had ended and live again: who waited for them had seen them end.
    revived: HashSet<TaskId>,
    signals: HashMap<TaskId, Vec<(usize, String)>>,
    batch: Vec<(Box<dyn Job>, Asked)>,
    gather: u8,
    /// Whether the transaction may undo ends, delete, or both.
    again: bool,
    deletes: bool,
    crash: Option<Loss>,
    fill: bool,
    half_made: Vec<(TaskId, u64, u64)>,
    ends: u64,
    hidden: u64,
    numbers: u32,
    since_look: u32,
    pub tally: Tally,
}

impl Machine {
    /// A machine with an empty database, which is copied from `template`.
    pub fn new(directory: &Path, template: &Disk) -> Machine {
        template.write(directory);
        let clock = Arc::new(SimClock::at(START_MS));
        let host = Host::open(directory, Role::Host, &clock).unwrap();
        Machine {
            directory: directory.to_owned(),
            clock,
            host: Some(host),
            old: None,
            visitor: None,
            tasks: BTreeMap::new(),
            ids: Vec::new(),
            attempts: Vec::new(),
            late: Vec::new(),
            waits: HashMap::new(),
            revived: HashSet::new(),
            signals: HashMap::new(),
            batch: Vec::new(),
            gather: 0,
            again: false,
            deletes: false,
            crash: None,
            fill: false,
            half_made: Vec::new(),
            ends: 0,
            hidden: 0,
            numbers: 0,
            since_look: 0,
            tally: Tally::default(),
        }
    }

    /// Do the whole program, and then let everything come to its end.
    pub fn run(&mut self, program: &[Step]) -> Result<(), Wrong> {
        for (number, step) in program.iter().enumerate() {
            self.tally.steps += 1;
            let done = self.step(step).and_then(|()| match self.gather {
                0 => self.commit(),
                _ => {
                    self.gather -= 1;
                    Ok(())
                }
            });
            done.map_err(|wrong| format!("after step {number}: {wrong}"))?;
        }
        self.gather = 0;
        let end = self.commit().and_then(|()| self.drive());
        end.map_err(|wrong| format!("at the end: {wrong}"))
    }

    fn host(&self) -> &Host {
        self.host.as_ref().expect("a host runs between two steps")
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn pick(&self, number: u16) -> Option<TaskId> {
        self.ids
            .get(usize::from(number) % self.ids.len().max(1))
            .copied()
    }

    fn pick_some(&self, numbers: &[u16]) -> Vec<TaskId> {
        numbers
            .iter()
            .filter_map(|number| self.pick(*number))
            .collect()
    }

    /// One that may call what handlers may call: who tells pages does that alone.
    fn attempt(&mut self, number: u16) -> Option<&mut Attempt> {
        self.attempt_of(number, false)
    }

    fn attempt_of(&mut self, number: u16, pages: bool) -> Option<&mut Attempt> {
        let may = |one: &&mut Attempt| !one.leaves && (pages || &*one.task.handler != "pages");
        let mut stays: Vec<&mut Attempt> = self.attempts.iter_mut().filter(may).collect();
        let many = stays.len().max(1);
        let at = usize::from(number) % many;
        (at < stays.len()).then(|| stays.swap_remove(at))
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    // Jobs.

    fn ask(
        &mut self,
        outside: bool,
        token: Option<Token>,
        expected: Expected,
        run: impl FnMut(&mut Turn<'_>) -> Result<Said, StoreError> + Send + 'static,
    ) -> Result<(), Wrong> {
        let (job, answer) = Ask::new(token, run);
        let asked = Asked {
            expected,
            answer: Some(answer),
            children: Vec::new(),
        };
        if outside {
            return self.do_outside(Box::new(job), asked);
        }
        self.batch.push((Box::new(job), asked));
        Ok(())
    }

    fn record(&mut self, token: Token, records: Vec<Record>, children: Vec<TaskId>) {
        let job = Tell {
            token,
            run: move |turn: &mut Turn<'_>| kernel::record(turn, token, &records),
        };
        let asked = Asked {
            expected: Expected::Done(token),
            answer: None,
            children,
        };
        self.batch.push((Box::new(job), asked));
    }

    /// Something that undoes ends or deletes has a transaction to itself: within one, nobody could tell
    /// what was before.
    fn alone(&mut self) -> Result<(), Wrong> {
        self.gather = 0;
        self.commit()
    }

    fn step(&mut self, step: &Step) -> Result<(), Wrong> {
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
                let (Some(job), paused) = (self.pick(*number), *paused) else {
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
                let (Some(task), only) = (self.pick(*task), *only) else {
                    return Ok(());
                };
                self.ask(*outside, None, Expected::Made, move |turn| {
                    kernel::cancel(turn, task, only, None).map(|_| Said::Nothing)
                })
            }
            Step::Retry { task, outside } => {
                let Some(task) = self.pick(*task) else {
                    return Ok(());
                };
                self.alone()?;
                self.again = true;
                self.ask(*outside, None, Expected::Again, move |turn| {
                    kernel::retry(turn, task).map(|_| Said::Nothing)
                })
            }
            Step::Delete(number, only) => match self.pick(*number) {
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
                let Some(to) = self.pick(*task) else {
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
            Step::End(attempt, ending) => self.end(*attempt, ending),
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
            Step::Busy(number) => self.busy(*number),
            Step::Full => {
                self.fill = true;
                Ok(())
            }
        }
    }

    fn tick(&mut self) -> Result<(), Wrong> {
        // A producer's clock may end a group, and what it ends may be many.
        self.ask(false, None, Expected::Made, |turn| {
            kernel::tick(turn).map(|_| Said::Nothing)
        })
    }

    fn sweep(&mut self, sweep: Sweep) -> Result<(), Wrong> {
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

    fn job(
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

    fn is_half_made(&self, job: TaskId) -> bool {
        self.half_made.iter().any(|(id, ..)| *id == job)
    }

    fn add_units(&mut self, job: TaskId, first: u64, last: u64) -> Result<(), Wrong> {
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

    fn schedule(&mut self, how: u8) -> Result<(), Wrong> {
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

    // What attempts do.

    fn by(&mut self, attempt: u16, function: Function) -> Option<CallBy> {
        let attempt = self.attempt(attempt)?;
        attempt.calls += 1;
        Some(CallBy {
            token: attempt.task.token(),
            number: attempt.calls,
            call: Call {
                function,
                subject: "it".to_owned(),
                content: 7,
            },
        })
    }

    /// A task below an attempt, or beside it.
    fn new_below(&mut self, attempt: &Attempt, parent: TaskId, member: bool) -> NewTask {
        let place = Place {
            run: attempt.task.run,
            call: attempt.calls,
            index: 0,
            content: 1,
        };
        NewTask {
            id: Some(self.host().ids.next(self.now_ms())),
            spawner: Some(Spawner {
                parent,
                sequence: u64::from(self.numbers),
                depth: attempt.task.depth + 1,
                scope: attempt.task.scope,
                member,
                place: Some(place),
            }),
            origin: member.then_some(attempt.task.id),
            ..NewTask::root("h", "{}", Options::default())
        }
    }

    fn spawn(
        &mut self,
        number: u16,
        many: u32,
        key: Option<u8>,
        after: &[u16],
    ) -> Result<(), Wrong> {
        let rank = u64::from(self.number());
        let Some(attempt) = self.attempt(number) else {
            return Ok(());
        };
        attempt.calls += 1;
        let attempt = attempt.clone();
        let mut after = self.pick_some(after);
        after.retain(|id| *id != attempt.task.id);
        let options = Options {
            after,
            // A key may name an earlier child, and then there is no other one.
            key: key.map(|key| format!("key-{key}").into()),
            ..Options::default()
        };
        let each: Vec<NewChild> = (0..many)
            .map(|index| NewChild {
                id: self.host().ids.next(self.now_ms()),
                input: "{}".into(),
                index,
                content: u64::from(index),
                retry_of: None,
            })
            .collect();
        let children = match key {
            None => each.iter().map(|child| child.id).collect(),
            Some(_) => Vec::new(),
        };
        let children_new = NewChildren {
            handler: "h".into(),
            options: Arc::new(options),
            created_at_ms: self.now_ms(),
            spawner: Spawner {
                parent: attempt.task.id,
                sequence: rank,
                depth: attempt.task.depth + 1,
                scope: attempt.task.scope,
                member: false,
                place: None,
            },
            run: attempt.task.run,
            call: attempt.calls,
            each,
        };
        let records = vec![Record::Children(Box::new(children_new))];
        self.record(attempt.task.token(), records, children);
        Ok(())
    }

    /// Pools that there are.
    fn pool(&self, number: u16) -> Option<TaskId> {
        let is_pool = |(_, task): &(&TaskId, &Known)| task.kind.as_deref() == Some("pool");
        let pools: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(is_pool)
            .map(|(id, _)| *id)
            .collect();
        pools.get(usize::from(number) % pools.len().max(1)).copied()
    }

    fn open_pool(&mut self, attempt: u16, pool: usize) -> Result<(), Wrong> {
        self.alone()?;
        // An ended pool may open again by it.
        self.again = true;
        let Some(by) = self.by(attempt, Function::PoolOpen) else {
            return Ok(());
        };
        let (name, on_failure, concurrency) = [
            ("strict", OnFailure::Fail, None),
            ("hasty", OnFailure::FailFast, Some(2)),
            ("patient", OnFailure::Collect, Some(1)),
        ][pool];
        let options = PoolOptions {
            on_failure: Some(on_failure),
            concurrency,
        };
        let (token, name) = (by.token, name.into());
        self.ask(false, Some(token), Expected::Done(token), move |turn| {
            kernel::open_pool(turn, &by, &name, &options).map(|_| Said::Nothing)
        })
    }

    fn add_member(
        &mut self,
        number: u16,
        pool: u16,
        key: Option<u8>,
        again: bool,
    ) -> Result<(), Wrong> {
        self.number();
        if again {
            // First of all: with what is committed here the attempt itself may be gone.
            self.alone()?;
        }
        let Some(attempt) = self.attempt(number).map(|one| {
            one.calls += 1;
            one.clone()
        }) else {
            return Ok(());
        };
        // Who may: a source of it, and a member.
        let id = attempt.task.id;
        let mut may: Vec<TaskId> = self.open_pools(id);
        may.extend(attempt.task.parent.filter(|_| attempt.task.member));
        may.retain(|pool| {
            (self.tasks.get(pool)).is_some_and(|pool| pool.kind.as_deref() == Some("pool"))
        });
        let Some(pool) = may.get(usize::from(pool) % may.len().max(1)).copied() else {
            return Ok(());
        };
        let mut new = self.new_below(&attempt, pool, true);
        if again {
            // Another try of a member that has failed takes its place.
            let tried: HashSet<TaskId> = self.tried();
            let failed = |(id, task): &(&TaskId, &Known)| {
                task.parent == Some(pool)
                    && task.member
                    && matches!(task.status, Status::Failed | Status::Expired)
                    && !tried.contains(id)
            };
            new.retry_of = self.tasks.iter().find(failed).map(|(id, _)| *id);
        }
        let token = attempt.task.token();
        match key {
            None => {
                let children = vec![new.id.unwrap()];
                self.record(token, vec![Record::Task(Box::new(new))], children);
                Ok(())
            }
            Some(key) => {
                new.options = Arc::new(Options {
                    key: Some(format!("key-{key}").into()),
                    ..Options::default()
                });
                let by = CallBy {
                    token,
                    number: attempt.calls,
                    call: Call {
                        function: Function::PoolSpawn,
                        subject: "it".to_owned(),
                        content: 7,
                    },
                };
                self.ask(false, Some(token), Expected::Done(token), move |turn| {
                    let submitted = kernel::spawn_member(turn, &by, &new)?;
                    Ok(Said::Submitted(vec![submitted]))
                })
            }
        }
    }

    /// Members whose place another took.
    fn tried(&self) -> HashSet<TaskId> {
        let sql = "select retry_of from tasks where retry_of is not null";
        let mut statement = self.host().connection().prepare_cached(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(|id| TaskId::from_i64(id.unwrap())).collect()
    }

    fn open_pools(&self, source: TaskId) -> Vec<TaskId> {
        let sql = "select group_id from sources where task_id = ?1 and drained = 0";
        let mut statement = self.host().connection().prepare_cached(sql).unwrap();
        let rows = statement
            .query_map([source.to_i64()], |row| row.get(0))
            .unwrap();
        rows.map(|id| TaskId::from_i64(id.unwrap())).collect()
    }

    fn wait(
        &mut self,
        attempt: u16,
        mut targets: Vec<TaskId>,
        all: bool,
        running: bool,
        for_ms: Option<u64>,
    ) -> Result<(), Wrong> {
        let Some(waiter) = self.attempt(attempt).map(|one| one.task.id) else {
            return Ok(());
        };
        // A handler cannot name itself, nor a pool that it is in.
        let above = self.above(waiter);
        targets.retain(|target| *target != waiter && !above.contains(target));
        let wanted = match running {
            true => [Status::Running].into_iter().collect(),
            false => StatusSet::terminal(),
        };
        let until = match all {
            true => Until::All(targets.clone(), wanted),
            false => Until::Any(targets.clone(), wanted),
        };
        let waits = Waits {
            targets,
            all,
            only_ends: !running,
            tasks: true,
        };
        let until_ms = for_ms.map(|ms| self.now_ms() + ms);
        // A wait for any of nothing never ends by itself.
        let until_ms = match all || !waits.targets.is_empty() {
            true => until_ms,
            false => until_ms.or(Some(self.now_ms() + 100)),
        };
        self.suspend(attempt, until, until_ms, waits)
    }

    fn above(&self, task: TaskId) -> HashSet<TaskId> {
        let mut above = HashSet::new();
        let mut next = self.tasks.get(&task).and_then(|task| task.parent);
        while let Some(id) = next {
            above.insert(id);
            next = self.tasks.get(&id).and_then(|task| task.parent);
        }
        above
    }

    fn suspend(
        &mut self,
        attempt: u16,
        until: Until,
        until_ms: Option<u64>,
        waits: Waits,
    ) -> Result<(), Wrong> {
        let Some(attempt) = self.attempt(attempt) else {
            return Ok(());
        };
        attempt.calls += 1;
        attempt.leaves = true;
        let token = attempt.task.token();
        let wait = Suspension {
            made: None,
            number: attempt.calls,
            until,
            until_ms,
            spent_ms: 0,
        };
        let expected = Expected::Waits(token, waits);
        self.ask(false, Some(token), expected, move |turn| {
            kernel::suspend(turn, token, &wait).map(|()| Said::Nothing)
        })
    }

    fn end(&mut self, number: u16, ending: &Ending) -> Result<(), Wrong> {
        let Some(attempt) = self.attempt_of(number, true) else {
            return Ok(());
        };
        let task = attempt.task.clone();
        attempt.leaves = true;
        let pages = &*task.handler == "pages";
        let end = match ending {
            Ending::Rescheduled(_) | Ending::PhaseEnded(..) if pages => completed(&task, false),
            Ending::Completed { long } => completed(&task, *long),
            Ending::Failed { again, rest_ms } => {
                let failure = Failure::new(FailureKind::Handler, "no luck", *again);
                End::Failed(failure, *rest_ms)
            }
            Ending::Rescheduled(ms) => End::Rescheduled(*ms),
            Ending::Interrupted => End::Interrupted,
            Ending::PhaseEnded(after, ms) => {
                let above = self.above(task.id);
                let mut after = self.pick_some(after);
                after.retain(|target| *target != task.id && !above.contains(target));
                End::PhaseEnded {
                    phase: "next".into(),
                    input: "1".into(),
                    after,
                    until_ms: ms.map(|ms| self.now_ms() + ms),
                }
            }
        };
        self.finish(task.token(), end)
    }

    fn finish(&mut self, token: Token, end: End) -> Result<(), Wrong> {
        let expected = Expected::Ended(token, end.clone());
        self.ask(false, Some(token), expected, move |turn| {
            kernel::finish(turn, token, &end).map(|()| Said::Nothing)
        })
    }

    // What goes wrong.

    /// Another process, in a transaction of its own.
    fn do_outside(&mut self, job: Box<dyn Job>, asked: Asked) -> Result<(), Wrong> {
        let (again, deletes) = (self.again, self.deletes);
        self.gather = 0;
        self.commit()?;
        (self.again, self.deletes) = (again, deletes);
        let mut visitor = match self.visitor.take() {
            Some(visitor) => visitor,
            None => self.open(Role::Visitor)?,
        };
        visitor.turn(vec![job]);
        let touched = visitor.touched();
        self.visitor = Some(visitor);
        self.answered(vec![asked], touched, Vec::new())
    }

    fn open(&self, role: Role) -> Result<Host, Wrong> {
        Host::open(&self.directory, role, &self.clock).map_err(|error| format!("open: {error}"))
    }

    /// Another process wants to write while one does, and does not wait.
    fn busy(&mut self, _number: u16) -> Result<(), Wrong> {
        self.alone()?;
        let mut visitor = match self.visitor.take() {
            Some(visitor) => visitor,
            None => self.open(Role::Visitor)?,
        };
        self.host()
            .connection()
            .execute_batch("begin immediate")
            .unwrap();
        let new = vec![NewTask::root("h", "{}", Options::default())];
        let (job, mut answer) = Ask::new(None, move |turn: &mut Turn<'_>| {
            kernel::submit(turn, &new).map(Said::Submitted)
        });
        visitor.turn(vec![Box::new(job)]);
        let said = answer.try_recv().unwrap();
        self.host().connection().execute_batch("rollback").unwrap();
        let touched = visitor.touched();
        self.visitor = Some(visitor);
        self.tally.busy += 1;
        hold!(
            matches!(said, Err(StoreError::Locked { .. })),
            "a writer that another one keeps out says {said:?}"
        );
        self.answered(Vec::new(), touched, Vec::new())
    }

    /// A second host begins, as the first is thought to be dead, and is not.
    fn take_over(&mut self) -> Result<(), Wrong> {
        self.alone()?;
        let new = self.open(Role::Host)?;
        let old = self.host.replace(new);
        if let Some(old) = &old {
            old.dispatch.offers().slots = 0;
        }
        self.old = old;
        self.late = std::mem::take(&mut self.attempts);
        self.tally.takeovers += 1;
        self.recover()
    }

    /// Put back what ran, as every host does when it begins.
    fn recover(&mut self) -> Result<(), Wrong> {
        self.ask(false, None, Expected::Made, |turn| {
            kernel::recover(turn, fishway::limits::RESTARTS_MAX).map(|_| Said::Nothing)
        })?;
        self.commit()?;
        let runs = self.tasks.iter().find(|(_, task)| task.runs());
        hold!(
            runs.is_none() || !self.attempts.is_empty(),
            "a task still runs on a host that is gone: {runs:?}"
        );
        Ok(())
    }

    /// An attempt of the host before says something.
    fn write_late(&mut self, number: u16, what: u8) -> Result<(), Wrong> {
        let at = usize::from(number) % self.late.len().max(1);
        let Some(attempt) = self.late.get(at).cloned() else {
            return Ok(());
        };
        self.gather = 0;
        self.commit()?;
        let Some(mut old) = self.old.take() else {
            return Ok(());
        };
        let token = attempt.task.token();
        let before = mirror::fingerprint(self.host().connection());
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
            4 => {
                let new = self.new_below(&attempt, attempt.task.id, false);
                let records = vec![Record::Task(Box::new(new))];
                Box::new(Tell {
                    token,
                    run: move |turn: &mut Turn<'_>| kernel::record(turn, token, &records),
                })
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
        old.turn(vec![job]);
        let touched = old.touched();
        let claimed = std::mem::take(&mut old.dispatch.offers().claimed);
        self.old = Some(old);
        self.tally.stale += 1;
        if let Some(mut answer) = answer {
            let said = answer.try_recv().unwrap();
            hold!(
                matches!(said, Err(StoreError::Stale(_))),
                "a stale attempt of {} is told {said:?}",
                token.task
            );
        }
        hold!(claimed.is_empty(), "a host that was replaced has claimed");
        hold!(
            before == mirror::fingerprint(self.host().connection()),
            "a stale attempt of {} has written",
            token.task
        );
        self.answered(Vec::new(), touched, Vec::new())
    }

    // Transactions.

    fn commit(&mut self) -> Result<(), Wrong> {
        let (jobs, asked): (Vec<_>, Vec<_>) = std::mem::take(&mut self.batch).into_iter().unzip();
        if let Some(loss) = self.crash.take() {
            return self.lose_power(jobs, &loss);
        }
        let Some(mut host) = self.host.take() else {
            return Ok(());
        };
        if jobs.is_empty() && host.dispatch.offers().slots == 0 {
            self.host = Some(host);
            return Ok(());
        }
        let fill = std::mem::take(&mut self.fill);
        if fill {
            let pages: i64 = host
                .connection()
                .query_row("pragma page_count", [], |row| row.get(0))
                .unwrap();
            set_pages(&host, pages);
        }
        host.turn(jobs);
        self.tally.transactions += 1;
        let touched = host.touched();
        let (claimed, broken) = {
            let mut offers = host.dispatch.offers();
            offers.slots = 0;
            (std::mem::take(&mut offers.claimed), offers.broken.take())
        };
        set_pages(&host, i64::from(u32::MAX - 1));
        self.host = Some(host);
        match broken {
            None => self.answered(asked, touched, claimed),
            Some(StoreError::Full { .. }) if fill => {
                self.tally.full += 1;
                self.filled(asked)
            }
            Some(error) => Err(format!("the host cannot go on: {error}")),
        }
    }

    /// The disk is full: what was answered stands, what was refused is not there, and the host ends.
    fn filled(&mut self, asked: Vec<Asked>) -> Result<(), Wrong> {
        // What was done of it is seen by what is there: the answers are heard as far as they are good.
        let good = |asked: &mut Asked| match &mut asked.answer {
            None => false,
            Some(answer) => match answer.try_recv() {
                // What an attempt could not keep takes what it did after with it.
                Ok(Err(StoreError::Full { .. } | StoreError::Stale(_))) => false,
                Ok(said) => {
                    *answer = already(said);
                    true
                }
                Err(_) => false,
            },
        };
        let mut asked = asked;
        asked.retain_mut(good);
        self.host = None;
        self.old = None;
        self.late.clear();
        self.again = true;
        self.deletes = true;
        self.host = Some(self.open(Role::Host)?);
        let before = self.tasks.clone();
        self.look_again()?;
        // Attempts that ended before it are gone, all others with their host.
        for asked in asked {
            self.judge(asked, &before)?;
        }
        self.attempts.clear();
        self.recover()
    }

    /// The machine loses its power while a transaction is under way; nobody has heard of it.
    fn lose_power(&mut self, jobs: Vec<Box<dyn Job>>, loss: &Loss) -> Result<(), Wrong> {
        self.fill = false;
        let before = Disk::read(&self.directory);
        let mut host = self.host.take().ok_or("no host")?;
        let print_before = mirror::fingerprint(host.connection());
        host.turn(jobs);
        let print_after = mirror::fingerprint(host.connection());
        let after = Disk::read(&self.directory);
        drop(host);
        self.old = None;
        self.visitor = None;
        let (left, may) = match loss {
            Loss::Before => (before, vec![print_before]),
            Loss::Torn(chance) => (
                before.torn(&after, *chance),
                vec![print_before, print_after],
            ),
            Loss::Copying(chance) => (before.copying(&after, *chance), vec![print_after]),
            Loss::Unheard => (after, vec![print_after]),
        };
        left.write(&self.directory);
        self.attempts.clear();
        self.late.clear();
        self.tally.crashes += 1;
        let host = self.open(Role::Host)?;
        let found = mirror::fingerprint(host.connection());
        self.tally.lost += u64::from(found != print_after);
        self.host = Some(host);
        hold!(
            may.contains(&found),
            "the power was lost in a transaction ({loss:?}), and what is there is neither what was before \
             nor what is after it"
        );
        self.look_again()?;
        self.look_through()?;
        self.recover()
    }

    /// Know what is there from what is there: nobody has heard what happened.
    fn look_again(&mut self) -> Result<(), Wrong> {
        let found = mirror::look_at_all(self.host().connection());
        self.tasks = found;
        self.ids = self.tasks.keys().copied().collect();
        self.again = false;
        self.deletes = false;
        let ends = mirror::counted_ends(self.host().connection());
        hold!(
            ends >= self.ends,
            "{} ends are counted no more",
            self.ends - ends
        );
        self.ends = ends;
        self.signals = signals(self.host());
        let expected = |job: &TaskId| {
            let sql = "select spawned, expected from groups where task_id = ?1";
            let mut statement = self.host().connection().prepare_cached(sql).unwrap();
            let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
            statement.query_row([job.to_i64()], row).ok()
        };
        let jobs = (self.tasks.iter()).filter(|(_, task)| task.kind.as_deref() == Some("job"));
        let half = jobs.filter_map(|(id, task)| {
            let (there, all) = expected(id)?;
            (there < all && task.lives()).then_some((*id, there as u64, all as u64))
        });
        self.half_made = half.collect();
        Ok(())
    }

    fn look_through(&mut self) -> Result<(), Wrong> {
        self.since_look = 0;
        let broken = violations(self.host().connection(), INVARIANTS).unwrap();
        hold!(broken.is_empty(), "{broken:#?}");
        Ok(())
    }

    /// A transaction is on disk and was answered: what has it done?
    fn answered(
        &mut self,
        asked: Vec<Asked>,
        touched: Vec<TaskId>,
        claimed: Vec<Task>,
    ) -> Result<(), Wrong> {
        let (again, deletes) = (
            std::mem::take(&mut self.again),
            std::mem::take(&mut self.deletes),
        );
        let mut before: BTreeMap<TaskId, Known> = BTreeMap::new();
        for id in &touched {
            let now = mirror::look(self.host().connection(), *id);
            let earlier = match now {
                Some(now) => self.tasks.insert(*id, now),
                None => self.tasks.remove(id),
            };
            before.extend(earlier.map(|earlier| (*id, earlier)));
        }
        for id in &touched {
            let (earlier, now) = (before.get(id), self.tasks.get(id));
            match (earlier, now) {
                (Some(_), None) => {
                    hold!(deletes, "{id} is lost");
                    self.ids.retain(|one| one != id);
                    self.signals.remove(id);
                }
                (None, Some(now)) => {
                    self.ids.push(*id);
                    self.ends += u64::from(!now.lives());
                }
                (Some(earlier), Some(now)) => {
                    check_move(*id, earlier, now, again)?;
                    self.check_wake(*id, earlier, now, again || deletes)?;
                    self.ends += u64::from(earlier.lives() && !now.lives());
                    if !earlier.lives() && now.lives() {
                        self.revived.insert(*id);
                    }
                }
                (None, None) => {}
            }
            if now.is_some_and(|now| !now.lives()) {
                self.signals.remove(id);
            }
        }
        self.hidden += if again { 16 } else { 0 };
        for asked in asked {
            self.judge(asked, &before)?;
        }
        for task in claimed {
            self.take(task, &before)?;
        }
        let runs = self.tasks.values().filter(|task| task.runs()).count();
        hold!(
            runs == self.attempts.len(),
            "{runs} tasks run, and there are {} attempts",
            self.attempts.len()
        );
        self.since_look += 1;
        match self.since_look >= LOOK_EVERY {
            true => self.look_through(),
            false => Ok(()),
        }
    }

    /// A claim has come: nobody else has one of the same task, and it was ready.
    fn take(&mut self, task: Task, before: &BTreeMap<TaskId, Known>) -> Result<(), Wrong> {
        self.tally.claims += 1;
        let id = task.id;
        let twice = self.attempts.iter().any(|one| one.task.id == id);
        hold!(!twice, "{id} was claimed while it runs");
        let known = self.tasks.get(&id).filter(|known| known.runs());
        let fence = known.map(|known| known.fence);
        hold!(
            fence == Some(task.fence.number),
            "{id} was claimed and does not run so"
        );
        let earlier = before.get(&id).map_or(0, |earlier| earlier.fence);
        hold!(
            task.fence.number == earlier + 1,
            "{id} was claimed more than once"
        );
        let calls = task.wait.as_ref().and_then(|wait| wait.call).unwrap_or(0);
        self.attempts.push(Attempt {
            task,
            calls: calls.max(self.numbers),
            leaves: false,
        });
        Ok(())
    }

    /// What a job said, and whether that is so.
    fn judge(&mut self, asked: Asked, before: &BTreeMap<TaskId, Known>) -> Result<(), Wrong> {
        let said = match asked.answer {
            None => Ok(Said::Nothing),
            Some(mut answer) => answer.try_recv().map_err(|_| "a job was not answered")?,
        };
        for child in &asked.children {
            hold!(
                self.tasks.contains_key(child),
                "{child} was spawned and is not there"
            );
        }
        match (asked.expected, said) {
            (Expected::Made | Expected::Again, Err(error)) => hold!(
                refusal(&error),
                "what nobody should be refused for: {error}"
            ),
            (_, Ok(Said::Submitted(submitted))) => {
                for one in submitted {
                    hold!(
                        self.tasks.contains_key(&one.id),
                        "{} was submitted and is not there",
                        one.id
                    );
                    hold!(
                        !one.created || !before.contains_key(&one.id),
                        "{} is new and was there",
                        one.id
                    );
                }
            }
            (_, Ok(Said::Made(ids))) => {
                for id in ids {
                    hold!(
                        self.tasks.contains_key(&id),
                        "{id} was made and is not there"
                    );
                }
            }
            (Expected::Ended(token, end), said) => {
                hold!(said.is_ok(), "{} cannot end: {said:?}", token.task);
                self.attempts.retain(|one| one.task.token() != token);
                self.ended(token, &end, before)?;
            }
            (Expected::Waits(token, waits), said) => match said {
                Ok(_) => {
                    self.attempts.retain(|one| one.task.token() != token);
                    self.waits.insert(token.task, waits.clone());
                    self.check_waits(token.task, &waits)?;
                }
                Err(StoreError::Deadlock { .. }) => {
                    for one in &mut self.attempts {
                        one.leaves &= one.task.token() != token;
                    }
                }
                Err(error) => return Err(format!("{} cannot wait: {error}", token.task)),
            },
            (Expected::Received(token, value), said) => {
                let found = match said {
                    Ok(Said::Value(found)) => found,
                    other => return Err(format!("{} receives {other:?}", token.task)),
                };
                hold!(
                    found == value,
                    "{} receives {found:?}, not {value:?}",
                    token.task
                );
                let unread = self.signals.entry(token.task).or_default();
                unread.retain(|(_, one)| Some(one) != value.as_ref());
            }
            (Expected::Sent(to, name, value), said) => match said {
                Ok(_) => {
                    if self.tasks.get(&to).is_some_and(Known::lives) {
                        self.signals.entry(to).or_default().push((name, value));
                    }
                }
                Err(error) => hold!(
                    refusal(&error),
                    "what nobody should be refused for: {error}"
                ),
            },
            (Expected::Done(token), said) => {
                let fine = match &said {
                    Ok(_) => true,
                    Err(error) => !matches!(error, StoreError::Stale(_)) && refusal(error),
                };
                hold!(fine, "an attempt of {} is told {said:?}", token.task);
            }
            (Expected::Made | Expected::Again, Ok(_)) => {}
        }
        Ok(())
    }

    /// An attempt was told that its end is on disk.
    fn ended(
        &self,
        token: Token,
        end: &End,
        before: &BTreeMap<TaskId, Known>,
    ) -> Result<(), Wrong> {
        let id = token.task;
        let (Some(now), Some(earlier)) = (self.tasks.get(&id), before.get(&id)) else {
            return Err(format!("{id} has ended and is not there"));
        };
        // Whoever asked for its end first has it.
        let stopped = earlier.cancel || now.status == Status::Cancelled;
        if let End::Completed(output) = end
            && !stopped
        {
            let output = mirror::digest(output.as_bytes());
            hold!(
                now.status == Status::Completed && now.output == Some(output),
                "{id} has completed, which was answered, and is {:?}",
                now.status
            );
        }
        if let End::PhaseEnded { after, .. } = end
            && now.status == Status::Waiting
        {
            let waits = Waits {
                targets: after.clone(),
                all: true,
                only_ends: true,
                tasks: true,
            };
            self.check_waits(id, &waits)?;
        }
        Ok(())
    }

    /// Whoever waits has something to wait for.
    fn check_waits(&self, id: TaskId, waits: &Waits) -> Result<(), Wrong> {
        let waiting = self
            .tasks
            .get(&id)
            .is_some_and(|task| task.status == Status::Waiting);
        if !waiting || !waits.tasks || waits.targets.is_empty() {
            return Ok(());
        }
        let lives = |target: &TaskId| self.tasks.get(target).is_some_and(Known::lives);
        let some = match waits.all {
            true => waits.targets.iter().any(lives),
            false => waits.targets.iter().all(lives),
        };
        hold!(some, "{id} waits for what has ended: {waits:?}");
        Ok(())
    }

    /// Whoever was woken has what it waited for.
    fn check_wake(
        &self,
        id: TaskId,
        earlier: &Known,
        now: &Known,
        unclear: bool,
    ) -> Result<(), Wrong> {
        let woken =
            earlier.status == Status::Waiting && now.status != Status::Waiting && now.lives();
        if !woken {
            return Ok(());
        }
        let wait = now.wait.as_ref().and_then(|wait| Some((wait, wait.woken?)));
        let Some((wait, woken)) = wait else {
            return Err(format!("{id} was woken by nothing"));
        };
        if woken.timed_out {
            let due = wait.until_ms.is_some_and(|until| until <= self.now_ms());
            hold!(due || now.producer, "{id} was woken before its time");
        } else if let Some(waits) = self.waits.get(&id).filter(|waits| waits.tasks)
            && wait.call.is_some()
            && waits.only_ends
            && !unclear
        {
            let ended = |target: &TaskId| {
                let lives = self.tasks.get(target).is_some_and(Known::lives);
                !lives || self.revived.contains(target)
            };
            let there = match waits.all {
                true => waits.targets.iter().all(ended),
                false => waits.targets.iter().any(ended),
            };
            hold!(there, "{id} was woken, and what it waits for has not ended");
        }
        Ok(())
    }

    // The end.

    /// Whatever was done, from here on everything ends: nothing is lost, and nobody waits for ever.
    fn drive(&mut self) -> Result<(), Wrong> {
        self.fill = false;
        self.look_through()?;
        let ends = mirror::counted_ends(self.host().connection());
        hold!(
            (self.ends..=self.ends + self.hidden).contains(&ends),
            "{ends} ends are counted, and there were {} (and at most {} more)",
            self.ends,
            self.hidden
        );
        for queue in 0..QUEUES.len() {
            let (at_once, paused) = (Some(None), Some(false));
            self.step(&Step::SetQueue {
                queue,
                at_once,
                paused,
            })?;
        }
        for name in ["even", "odd"] {
            self.ask(false, None, Expected::Made, move |turn| {
                kernel::alter_schedule(turn, name, Alter::Remove).map(|_| Said::Nothing)
            })?;
        }
        for (job, there, all) in std::mem::take(&mut self.half_made) {
            self.add_units(job, there + 1, all)?;
        }
        for id in self.ids.clone() {
            self.ask(false, None, Expected::Made, move |turn| {
                kernel::pause_job(turn, id, false).map(|_| Said::Nothing)
            })?;
        }
        self.commit()?;
        // Each round something ends, or a clock runs out, or there is nothing left to do.
        for _ in 0..10_000 {
            let living: Vec<TaskId> = self.living();
            if living.is_empty() {
                self.look_through()?;
                return Ok(());
            }
            self.round()?;
            if self.living() == living {
                self.unstick(&living)?;
            }
        }
        Err(format!("there is no end to {:?}", self.living()))
    }

    fn living(&self) -> Vec<TaskId> {
        let lives = self.tasks.iter().filter(|(_, task)| task.lives());
        lives.map(|(id, _)| *id).collect()
    }

    /// Claim all that is ready, and let all that runs complete.
    fn round(&mut self) -> Result<(), Wrong> {
        self.host().dispatch.offers().slots = 1_000;
        self.commit()?;
        for attempt in self.attempts.clone() {
            if let Some(one) =
                (self.attempts.iter_mut()).find(|one| one.task.id == attempt.task.id && !one.leaves)
            {
                one.leaves = true;
                self.finish(attempt.task.token(), completed(&attempt.task, false))?;
            }
        }
        self.commit()
    }

    /// Nothing moves by itself: clocks, signals and at last people do.
    fn unstick(&mut self, living: &[TaskId]) -> Result<(), Wrong> {
        self.clock.turn(86_400_000);
        self.tick()?;
        self.commit()?;
        let now_ms = self.now_ms();
        let late = |task: &Known| {
            let waits = task
                .wait
                .as_ref()
                .filter(|_| task.status == Status::Waiting);
            let until_ms = waits.and_then(|wait| wait.until_ms);
            let clocks = until_ms.into_iter().chain(task.pending_clock);
            task.lives() && clocks.into_iter().any(|at| at <= now_ms)
        };
        let late = self.tasks.iter().find(|(_, task)| late(task));
        hold!(
            late.is_none(),
            "a clock ran out, and nothing came of it: {late:?}"
        );
        let awaits: Vec<(TaskId, usize)> = (self.tasks.iter())
            .filter(|(_, task)| task.status == Status::Waiting)
            .filter_map(|(id, task)| {
                let signal = task.wait.as_ref()?.signal.as_deref()?;
                Some((*id, SIGNALS.iter().position(|name| *name == signal)?))
            })
            .collect();
        for (to, name) in awaits {
            let value = self.number().to_string();
            let signal = Signal {
                to,
                name: SIGNALS[name].to_owned(),
                value: value.clone(),
            };
            self.ask(false, None, Expected::Sent(to, name, value), move |turn| {
                kernel::send(turn, &signal, None).map(|_| Said::Nothing)
            })?;
        }
        self.round()?;
        self.round()?;
        if self.living() != living {
            return Ok(());
        }
        // All that could be made whole has been.
        let half_made = self.half_made_one();
        hold!(
            half_made.is_none(),
            "{half_made:?} takes no more units, and does not end"
        );
        // Waits that hold each other, by any of several or by phases: nobody looks for those.
        let hangs = |id: &&TaskId| {
            let task = &self.tasks[*id];
            task.group || task.status == Status::Waiting || self.blocked(**id)
        };
        let free = living.iter().find(|id| !hangs(id));
        hold!(
            free.is_none(),
            "{free:?} is ready and nobody gets it: {:?}",
            self.tasks.get(free.unwrap())
        );
        let waits = living
            .iter()
            .find(|id| self.tasks[id].status == Status::Waiting);
        let Some(id) = waits.copied() else {
            return Err(format!("nothing waits, and nothing moves: {living:?}"));
        };
        // One that tells pages waits for items, and for nothing else.
        let task = &self.tasks[&id];
        let item = |other: &Known| other.member && other.parent == task.parent && other.lives();
        hold!(
            task.handler != "pages" || self.tasks.values().any(item),
            "{id} waits to tell a page, and no item lives: {task:?}"
        );
        self.cancel(id, true)
    }

    fn cancel(&mut self, id: TaskId, only: bool) -> Result<(), Wrong> {
        self.ask(false, None, Expected::Made, move |turn| {
            kernel::cancel(turn, id, only, None).map(|_| Said::Nothing)
        })?;
        self.commit()
    }

    fn half_made_one(&self) -> Option<TaskId> {
        let sql = "\
            select id
            from groups
            join tasks on tasks.id = groups.task_id
            where groups.kind = 'job' and spawned < expected and ended_at_ms is null";
        let mut statement = self.host().connection().prepare_cached(sql).unwrap();
        let id = statement.query_row([], |row| row.get(0)).ok();
        id.map(TaskId::from_i64)
    }

    fn blocked(&self, id: TaskId) -> bool {
        let sql = "select blocked_by > 0 from tasks where id = ?1";
        let mut statement = self.host().connection().prepare_cached(sql).unwrap();
        statement
            .query_row([id.to_i64()], |row| row.get(0))
            .unwrap()
    }
}

fn nobody() -> Waits {
    Waits {
        targets: Vec::new(),
        all: false,
        only_ends: false,
        tasks: false,
    }
}

/// What holds between two states of a task.
fn check_move(id: TaskId, earlier: &Known, now: &Known, again: bool) -> Result<(), Wrong> {
    hold!(
        now.fence >= earlier.fence && now.run >= earlier.run,
        "{id} goes back: {earlier:?} {now:?}"
    );
    // A pool whose source has another go is filled on, however it had ended.
    if earlier.status == Status::Completed && !earlier.group {
        hold!(
            (now.status, now.output, now.fence) == (earlier.status, earlier.output, earlier.fence),
            "{id} had completed: {earlier:?} {now:?}"
        );
    }
    hold!(
        earlier.lives() || !now.lives() || again || earlier.group,
        "{id} had ended: {earlier:?} {now:?}"
    );
    Ok(())
}

/// Whether people may be told this: it says that nothing was done.
fn refusal(error: &StoreError) -> bool {
    // These two are for attempts.
    let of_attempts = matches!(error, StoreError::Stale(_) | StoreError::Deadlock { .. });
    error.is_refusal() && !of_attempts
}

/// What a task returns: an array, the next page, or something that no other attempt returns.
fn completed(task: &Task, long: bool) -> End {
    if task.key.as_deref() == Some("list") {
        return End::Completed("[0,1,2]".into());
    }
    if &*task.handler == "pages" {
        let cursor: Option<String> =
            (task.phase_input.as_deref()).and_then(|cursor| serde_json::from_str(cursor).ok());
        let page: u64 = cursor.map_or(0, |cursor| cursor.parse().unwrap_or(9));
        return End::Page {
            items: (0..3).map(|item| Json::from(item.to_string())).collect(),
            cursor: (page < 2).then(|| (page + 1).to_string()),
            delay_ms: 0,
        };
    }
    let more = if long {
        "x".repeat(3_000)
    } else {
        String::new()
    };
    End::Completed(format!("\"{}.{}{more}\"", task.id, task.fence.number).into())
}

/// One answer as if it had not been heard yet.
fn already(said: Result<Said, StoreError>) -> oneshot::Receiver<Result<Said, StoreError>> {
    let (tell, told) = oneshot::channel();
    let _ = tell.send(said);
    told
}

/// Unread signals as they are.
fn signals(host: &Host) -> HashMap<TaskId, Vec<(usize, String)>> {
    let sql = "select task_id, name, value from signals order by task_id, number";
    let mut statement = host.connection().prepare_cached(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut found: HashMap<TaskId, Vec<(usize, String)>> = HashMap::new();
    while let Some(row) = rows.next().unwrap() {
        let (id, name): (i64, String) = (row.get(0).unwrap(), row.get(1).unwrap());
        let name = SIGNALS.iter().position(|one| *one == name).unwrap();
        let unread = found.entry(TaskId::from_i64(id)).or_default();
        unread.push((name, row.get(2).unwrap()));
    }
    found
}

fn set_pages(host: &Host, pages: i64) {
    let sql = format!("pragma max_page_count = {pages}");
    let _: i64 = host
        .connection()
        .query_row(&sql, [], |row| row.get(0))
        .unwrap();
}

/// A few shapes of workflows: edges of every kind, a pool with sources and a producer, a map, a generator.
fn workflow(shape: usize) -> Workflow {
    let run = || Work::Run {
        handler: "h".into(),
    };
    let step = |key: &str, work: Work, after: &[(usize, On, bool)]| fishway::workflow::Step {
        key: key.into(),
        work,
        input: "{}".into(),
        options: Options::default(),
        after: after
            .iter()
            .map(|(step, on, optional)| After {
                step: *step,
                key: None,
                on: *on,
                optional: *optional,
            })
            .collect(),
        sources_of: Vec::new(),
        producer: None,
        optional: false,
    };
    let each = |on_failure, items| Work::Each {
        options: PoolOptions {
            on_failure: Some(on_failure),
            concurrency: Some(2),
        },
        each: Arc::new(Each {
            handler: "item".to_owned(),
            results: Results::List,
            items,
        }),
    };
    let over = || Items::Array {
        over: Some("list".to_owned()),
    };
    let pages = || Items::Pages {
        source: "pages".to_owned(),
        window: 4,
    };
    let (success, failure, any) = (On::Success, On::Failure, On::Any);
    let mut steps = match shape {
        0 => vec![
            step("a", run(), &[]),
            step("b", run(), &[(0, success, false)]),
            step("c", run(), &[(0, failure, false)]),
            step("d", run(), &[(1, any, false), (2, any, false)]),
            step("e", run(), &[(1, success, true), (3, success, false)]),
        ],
        1 | 2 => vec![
            step("s", run(), &[]),
            step("t", run(), &[(0, success, false)]),
            step("l", run(), &[]),
            step("p", Work::Pool(PoolOptions::default()), &[]),
            step(
                "c",
                run(),
                &[(0, success, false), (2, any, false), (3, success, false)],
            ),
        ],
        3 => vec![
            step("list", run(), &[]),
            step(
                "map",
                each(OnFailure::Collect, over()),
                &[(0, success, false)],
            ),
            step("last", run(), &[(1, success, false)]),
        ],
        _ => vec![
            step("list", run(), &[]),
            step("map", each(OnFailure::Fail, over()), &[(0, success, false)]),
            step("pages", each(OnFailure::FailFast, pages()), &[]),
            step("last", run(), &[(1, success, false), (2, success, true)]),
        ],
    };
    if shape == 0 {
        steps[1].optional = true;
    }
    if let 1 | 2 = shape {
        for source in &mut steps[..3] {
            source.sources_of = vec![3];
        }
        steps[2].producer = Some(Producer {
            idle_ms: Some(300),
            drain_ms: Some(900),
        });
    }
    Workflow {
        name: "w".into(),
        on_failure: OnFailure::ALL[shape % OnFailure::ALL.len()],
        input: "null".into(),
        steps,
    }
}

fn identity() -> fishway::lease::Identity {
    fishway::lease::Identity {
        pid: 1,
        started_ticks: None,
        boot: None,
        namespace: None,
    }
}
