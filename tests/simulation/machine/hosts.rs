//! Hosts begin, say that they live, lose their place and die; and others write beside them.

use std::collections::HashMap;
use std::sync::Arc;

use fishway::lease::{HEARTBEAT_MS, Lease, LeaseKey};
use fishway::limits::RESTARTS_MAX;
use fishway::store::kernel::{self, Turn};
use fishway::store::sqlite::Role;
use fishway::store::writer::{Ask, Job};
use fishway::store::{Attempts, Beat, StoreError};
use fishway::task::{Fence, NewTask, Options, Task, TaskId, Token};
use tokio::sync::oneshot;

use super::exchanges;
use super::reads::Met;
use super::shapes::identity;
use super::{Asked, Expected, Machine, Said, Wrong, hold};
use crate::simulation::host::{Host, SimDispatch};
use crate::simulation::step::{QUEUES, Unread};

/// How far the clocks of hosts are before that of their database, by their numbers.
const SKEWS_MS: [i64; 3] = [0, 3_000, -2_000];

/// Heartbeats after which every host that says nothing is known to be dead, and what it ran is put back.
const BEATS_ENOUGH: usize = 6;

/// What a host says that it runs: of each task the newest claim, and what it was given in this very moment.
struct Holds {
    attempts: HashMap<TaskId, Fence>,
    dispatch: Arc<SimDispatch>,
}

impl Attempts for Holds {
    fn holds(&self, token: Token) -> bool {
        let given = |task: &Task| task.token() == token;
        self.attempts.get(&token.task) == Some(&token.fence)
            || self.dispatch.offers().claimed.iter().any(given)
    }

    fn holds_exchange(&self, _task: TaskId, _run: u32, number: u32) -> bool {
        exchanges::held(number)
    }
}

type Heard = oneshot::Receiver<Result<Said, StoreError>>;

impl Machine {
    /// Another process, in a transaction of its own.
    pub(super) fn do_outside(&mut self, job: Box<dyn Job>, asked: Asked) -> Result<(), Wrong> {
        let (again, deletes) = (self.again, self.deletes);
        self.gather = 0;
        self.commit()?;
        (self.again, self.deletes) = (again, deletes);
        let mut visitor = self.take_visitor()?;
        visitor.turn(vec![job]);
        let touched = visitor.process.touched();
        // On a server each command is a process of its own.
        self.visitor = Some(visitor).filter(|_| self.base.hosts_max() == 1);
        self.answered(vec![asked], touched, Vec::new())
    }

    pub(super) fn take_visitor(&mut self) -> Result<Host, Wrong> {
        match self.visitor.take() {
            Some(visitor) => Ok(visitor),
            None => self.open(Role::Visitor),
        }
    }

    fn open(&mut self, role: Role) -> Result<Host, Wrong> {
        let opened = self.base.open(role, &self.clock);
        let opened = opened.map_err(|error| format!("open: {error}"))?;
        self.processes += 1;
        let number = self.processes;
        Ok(Host {
            number,
            lease: None,
            skew_ms: SKEWS_MS[number as usize % SKEWS_MS.len()],
            process: opened.process,
            dispatch: opened.dispatch,
            ids: opened.ids,
        })
    }

    /// A host begins, and takes a lease of the number that is next.
    pub(super) fn open_host(&mut self) -> Result<Host, Wrong> {
        // No two of them begin in the same millisecond: it takes longer to connect.
        self.clock.turn(1);
        let mut host = self.open(Role::Host)?;
        let now_ms = self.now_ms();
        let lease = Lease {
            number: host.eye().newest_lease() + 1,
            holder: identity(),
            version: "0".to_owned(),
            grace_ms: 0,
            since_ms: now_ms,
            heartbeat_at_ms: now_ms,
            stopping_at_ms: None,
            ended_at_ms: None,
            error: None,
        };
        host.lease = Some(lease.key());
        let (job, mut answer) = Ask::new(None, move |turn| kernel::take_lease(turn, &lease));
        host.turn(vec![Box::new(job)]);
        let taken = answer.try_recv().unwrap();
        hold!(
            matches!(taken, Ok(true)),
            "a lease that nobody has cannot be had: {taken:?}"
        );
        self.tally.hosts += 1;
        Ok(host)
    }

    /// A process of this number, should it live.
    pub(super) fn process(&mut self, number: u64) -> Option<&mut Host> {
        let hosts = [&mut self.host, &mut self.old].into_iter().flatten();
        let mut hosts = hosts.chain(&mut self.others);
        hosts.find(|host| host.number == number)
    }

    fn lease_of(&self, number: u64) -> Option<LeaseKey> {
        let hosts = [&self.host, &self.old].into_iter().flatten();
        let mut hosts = hosts.chain(&self.others);
        hosts.find(|host| host.number == number)?.lease
    }

    /// Whether a host has its lease: that one, and not another of the same number.
    pub(super) fn has_lease(&self, number: u64) -> bool {
        let leases = self.host().eye().leases();
        self.lease_of(number)
            .is_some_and(|key| leases.contains(&key))
    }

    /// From here on the next one does what comes.
    pub(super) fn next_host(&mut self) -> Result<(), Wrong> {
        if self.others.is_empty() {
            return Ok(());
        }
        self.alone()?;
        // It may have died of what it committed, and with it the last of the others.
        if !self.others.is_empty() {
            let next = self.others.remove(0);
            self.others.extend(self.host.replace(next));
        }
        Ok(())
    }

    /// A second host begins: beside the first, or in its place, as that is thought to be dead, and is not.
    pub(super) fn take_over(&mut self) -> Result<(), Wrong> {
        self.alone()?;
        let most = self.base.hosts_max();
        if most > 1 && self.others.len() + 1 >= most {
            return Ok(());
        }
        let new = self.open_host()?;
        let before = self.host.replace(new).expect("a host");
        before.dispatch.offers().slots = 0;
        self.tally.takeovers += 1;
        if most > 1 {
            self.others.push(before);
        } else if let Some(older) = self.old.replace(before) {
            self.forget(older.number);
        }
        self.recover()
    }

    /// Put back what runs on hosts that have no lease, as every host does when it begins.
    pub(super) fn recover(&mut self) -> Result<(), Wrong> {
        self.ask(false, None, Expected::Made, |turn| {
            kernel::recover(turn, RESTARTS_MAX).map(|_| Said::Nothing)
        })?;
        self.commit()?;
        let eye = self.host().eye();
        let leases = eye.leases();
        let mut running = eye.running().into_iter();
        let gone = running.find(|(_, host)| leases.iter().all(|lease| lease.number != *host));
        hold!(
            gone.is_none(),
            "a task still runs on a host that is gone: {gone:?}"
        );
        hold!(
            self.base.hosts_max() > 1 || self.orphans.is_empty(),
            "tasks still run on a host that is gone: {:?}",
            self.orphans
        );
        Ok(())
    }

    /// The process of the host ends without a word. Where it was the only one, another one begins.
    pub(super) fn die(&mut self) -> Result<(), Wrong> {
        self.alone()?;
        self.tally.deaths += 1;
        let dead = self.host.take().expect("a host");
        let number = dead.number;
        drop(dead);
        if self.others.is_empty() {
            self.host = Some(self.open_host()?);
            self.forget(number);
            return self.recover();
        }
        self.host = Some(self.others.remove(0));
        self.forget(number);
        Ok(())
    }

    /// What was in the memory of a host is gone with it.
    pub(super) fn forget(&mut self, number: u64) {
        let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.attempts)
            .into_iter()
            .partition(|one| one.host == number);
        self.attempts = stay;
        let ran = gone.into_iter().filter(|one| !one.lost);
        self.orphans.extend(ran.map(|one| one.task.id));
        self.parked.retain(|one| one.host != number);
    }

    /// What the database says that runs, and nobody runs.
    pub(super) fn find_orphans(&mut self) {
        let held = |id: &TaskId| {
            let mut attempts = self.attempts.iter();
            attempts.any(|one| one.task.id == *id && !one.lost)
        };
        let runs = self.tasks.iter().filter(|(_, task)| task.runs());
        let orphans = runs.map(|(id, _)| *id).filter(|id| !held(id));
        self.orphans = orphans.collect();
    }

    /// That a host lives, and what it runs.
    pub(super) fn sign_of_life(&self, host: &Host, met: Option<Unread>) -> (Box<dyn Job>, Heard) {
        let own = self.attempts.iter().filter(|one| one.host == host.number);
        let holds = Holds {
            attempts: own.map(|one| (one.task.id, one.task.fence)).collect(),
            dispatch: host.dispatch.clone(),
        };
        let beat = Beat {
            lease: host.lease.expect("a host has taken a lease"),
            restarts_max: RESTARTS_MAX,
            attempts: Arc::new(holds),
        };
        let run = move |turn: &mut Turn<'_>| kernel::beat(turn, &beat).map(Said::Beat);
        let (job, answer) = Ask::new(None, run);
        (Met::first(Box::new(job), met), answer)
    }

    /// The host says that it lives.
    pub(super) fn beat(&mut self, met: Option<Unread>) -> Result<(), Wrong> {
        if met.is_some() {
            // Some errors meet all that is done with it. What is committed here may claim tasks whose attempts end
            // at once, as they cannot read.
            self.alone()?;
            while !self.batch.is_empty() {
                self.alone()?;
            }
        }
        let host = self.host();
        let (job, answer) = self.sign_of_life(host, met);
        let expected = Expected::Beat {
            host: host.number,
            leased: self.has_lease(host.number),
            met: met.is_some(),
        };
        let asked = Asked {
            expected,
            answer: Some(answer),
            children: Vec::new(),
        };
        self.batch.push((job, asked));
        if met.is_some() { self.alone() } else { Ok(()) }
    }

    /// What a host does that was told this: without its lease, or without an answer, it ends.
    pub(super) fn hear_beat(
        &mut self,
        host: u64,
        leased: bool,
        met: bool,
        said: Result<Said, StoreError>,
    ) -> Result<(), Wrong> {
        self.tally.beats += 1;
        match said {
            Ok(Said::Beat(Some(put_back))) => {
                hold!(
                    leased,
                    "a host whose lease was lost says that it lives, and is heard"
                );
                self.tally.put_back += put_back.len() as u64;
                self.compared.push(host);
            }
            Ok(Said::Beat(None)) => {
                hold!(!leased, "a host has its lease, and is told that it has not");
                self.dies = true;
            }
            Err(_) if met => self.dies = true,
            said => return Err(format!("a host says that it lives, and hears {said:?}")),
        }
        Ok(())
    }

    /// A host that has compared what runs runs all that the database says.
    pub(super) fn check_compared(&mut self) -> Result<(), Wrong> {
        for number in std::mem::take(&mut self.compared) {
            let Some(lease) = self.lease_of(number) else {
                continue;
            };
            let running = self.host().eye().running().into_iter();
            let here = running.filter(|(_, host)| *host == lease.number);
            for (id, _) in here {
                let runs =
                    |one: &&super::Attempt| one.task.id == id && one.host == number && !one.lost;
                hold!(
                    self.attempts.iter().any(|one| runs(&one)),
                    "{id} runs by the word of the database on a host that does not run it, and was not put back"
                );
            }
        }
        Ok(())
    }

    /// The others are silent for too long, claim once more before they hear of it, and die.
    fn outlive_the_others(&mut self) -> Result<(), Wrong> {
        if self.base.hosts_max() == 1 {
            return Ok(());
        }
        if self.others.is_empty() {
            self.take_over()?;
        }
        for _ in 0..BEATS_ENOUGH {
            self.clock.turn(HEARTBEAT_MS as i64);
            self.beat(None)?;
            self.commit()?;
        }
        for queue in QUEUES {
            let options = Options {
                queue: Some(queue.into()),
                ..Options::default()
            };
            let new = vec![NewTask::root("h", "{}", options)];
            self.ask(false, None, Expected::Made, move |turn| {
                kernel::submit(turn, &new).map(Said::Submitted)
            })?;
        }
        // The one that has said that it lives is the last of them now.
        self.next_host()?;
        while !self.others.is_empty() {
            self.host().dispatch.offers().slots = 2;
            self.die()?;
        }
        Ok(())
    }

    /// All hosts but one end, and whatever is said to run and does not is put back by what that one does for
    /// as long as it lives.
    pub(super) fn settle_hosts(&mut self) -> Result<(), Wrong> {
        self.outlive_the_others()?;
        if let Some(old) = self.old.take() {
            self.forget(old.number);
        }
        // Where the clock was set back, the last word of a dead host is one of the future.
        let last_ms = self.host().eye().last_beat_ms();
        let behind_ms = last_ms.saturating_sub(self.now_ms());
        self.clock.turn(behind_ms as i64);
        for _ in 0..BEATS_ENOUGH {
            self.clock.turn(HEARTBEAT_MS as i64);
            self.beat(None)?;
            self.commit()?;
        }
        hold!(
            self.orphans.is_empty(),
            "nobody runs {:?}, which the database says to run, and nobody puts it back",
            self.orphans
        );
        Ok(())
    }
}
