//! What a transaction has done, and whether that is so.

use std::collections::BTreeMap;

use fishway::store::{End, StoreError};
use fishway::task::{Status, Task, TaskId, Token};

use super::power::set_pages;
use super::{Asked, Attempt, Expected, LOOK_EVERY, Machine, Parked, Said, Wrong, hold};
use crate::simulation::mirror::{self, Known, Waits};

impl Machine {
    pub(super) fn commit(&mut self) -> Result<(), Wrong> {
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
        let fill = std::mem::take(&mut self.fill) && host.process.file().is_some();
        if fill {
            let pages = host.eye().rows("pragma page_count");
            let pages = pages[0][0].as_deref().unwrap();
            set_pages(&host, pages.parse().unwrap());
        }
        let met = |asked: &Asked| matches!(asked.expected, Expected::Beat { met: true, .. });
        let met = asked.iter().any(met);
        host.dispatch.offers().rows_max = self.rows_max;
        host.turn(jobs);
        self.tally.transactions += 1;
        let touched = host.process.touched();
        let (claimed, broken) = {
            let mut offers = host.dispatch.offers();
            offers.slots = 0;
            (std::mem::take(&mut offers.claimed), offers.broken.take())
        };
        if fill {
            set_pages(&host, i64::from(u32::MAX - 1));
        }
        self.host = Some(host);
        match broken {
            None => {}
            Some(StoreError::Full { .. }) if fill => {
                self.tally.full += 1;
                return self.filled(asked);
            }
            // It has met an error that it was to meet.
            Some(_) if met => self.dies = true,
            Some(error) => return Err(format!("the host cannot go on: {error}")),
        }
        self.answered(asked, touched, claimed)?;
        if std::mem::take(&mut self.dies) {
            return self.die();
        }
        Ok(())
    }

    pub(super) fn look_through(&mut self) -> Result<(), Wrong> {
        self.since_look = 0;
        let broken = self.host().eye().violations();
        hold!(broken.is_empty(), "{broken:#?}");
        Ok(())
    }

    /// A transaction is on disk and was answered: what has it done?
    pub(super) fn answered(
        &mut self,
        asked: Vec<Asked>,
        touched: Option<Vec<TaskId>>,
        claimed: Vec<Task>,
    ) -> Result<(), Wrong> {
        let (again, deletes) = (
            std::mem::take(&mut self.again),
            std::mem::take(&mut self.deletes),
        );
        let (touched, before) = self.look_at(touched);
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
            let runs_on = |earlier: &Known, now: &Known| now.runs() && now.fence == earlier.fence;
            if !earlier
                .zip(now)
                .is_some_and(|(earlier, now)| runs_on(earlier, now))
            {
                self.orphans.remove(id);
            }
        }
        self.hidden += if again { 16 } else { 0 };
        for asked in asked {
            self.judge(asked, &before)?;
        }
        self.lose_claims()?;
        for task in claimed {
            self.take(task, &before)?;
        }
        let runs = self.tasks.values().filter(|task| task.runs()).count();
        let attempts = self.attempts.iter().filter(|one| !one.lost).count();
        hold!(
            runs == attempts + self.orphans.len(),
            "{runs} tasks run, there are {attempts} attempts, and {} are to be put back",
            self.orphans.len()
        );
        self.check_compared()?;
        self.since_look += 1;
        match self.since_look >= LOOK_EVERY {
            true => self.look_through(),
            false => Ok(()),
        }
    }

    /// Know what is there now of what a transaction has touched; answers with what that is, and what was
    /// there before.
    fn look_at(&mut self, touched: Option<Vec<TaskId>>) -> (Vec<TaskId>, BTreeMap<TaskId, Known>) {
        let mut now = self.host().eye().tasks(touched.as_deref());
        let touched = touched.unwrap_or_else(|| {
            let moved = |id: &&TaskId| self.tasks.get(id) != now.get(id);
            let gone = self.tasks.keys().filter(|id| !now.contains_key(id));
            now.keys().filter(moved).chain(gone).copied().collect()
        });
        let mut before: BTreeMap<TaskId, Known> = BTreeMap::new();
        for id in &touched {
            let earlier = match now.remove(id) {
                Some(now) => self.tasks.insert(*id, now),
                None => self.tasks.remove(id),
            };
            before.extend(earlier.map(|earlier| (*id, earlier)));
        }
        (touched, before)
    }

    /// Attempts whose task runs no more under their claim. Nobody takes that from a host that has its lease.
    fn lose_claims(&mut self) -> Result<(), Wrong> {
        let holds = |tasks: &BTreeMap<TaskId, Known>, one: &Attempt| {
            let task = tasks.get(&one.task.id).filter(|task| task.runs());
            task.is_some_and(|task| task.fence == one.task.fence.number)
        };
        let lost = |one: &&Attempt| !one.lost && !holds(&self.tasks, one);
        let lost: Vec<(u64, u64, TaskId)> = (self.attempts.iter().filter(lost))
            .map(|one| (one.serial, one.host, one.task.id))
            .collect();
        for (serial, host, id) in lost {
            hold!(
                !self.has_lease(host),
                "{id} was taken from a host that lives and runs it"
            );
            let attempt = self.attempts.iter_mut().find(|one| one.serial == serial);
            attempt.unwrap().lost = true;
        }
        Ok(())
    }

    /// A claim has come: nobody else has one of the same task, and it was ready.
    pub(super) fn take(
        &mut self,
        task: Task,
        before: &BTreeMap<TaskId, Known>,
    ) -> Result<(), Wrong> {
        self.tally.claims += 1;
        let id = task.id;
        let twice = |one: &Attempt| one.task.id == id && !one.lost;
        let twice = self.attempts.iter().any(twice);
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
        let host = self.host().number;
        self.resume(&task, host)?;
        let (serial, token) = (self.serial(), task.token());
        self.attempts.push(Attempt {
            serial,
            host,
            task,
            calls: calls.max(self.numbers),
            lost: false,
            leaves: false,
        });
        self.begin_reading(token)
    }

    /// The instance that waits for this claim in the memory of its host goes on, if its past is that of the
    /// database; those of other hosts have had their time.
    fn resume(&mut self, task: &Task, host: u64) -> Result<(), Wrong> {
        for one in self.parked.iter_mut().filter(|one| one.task == task.id) {
            let goes_on = one.host == host && task.ends_wait_of(one.run, one.fence);
            hold!(
                !(goes_on && one.lost),
                "an instance of {} goes on from a past that was lost",
                task.id
            );
            one.lost = true;
        }
        let here = |one: &Parked| one.task == task.id && one.host == host;
        self.parked.retain(|one| !here(one));
        Ok(())
    }

    /// An attempt waits: half of them stay in memory.
    fn park(&mut self, token: Token) {
        let Some(at) = (self.attempts.iter()).position(|one| one.task.token() == token) else {
            return;
        };
        let attempt = self.attempts.remove(at);
        let serial = self.serial();
        if attempt.serial.is_multiple_of(2) {
            self.tally.parked += 1;
            self.parked.push(Parked {
                serial,
                host: attempt.host,
                task: token.task,
                run: attempt.task.run,
                fence: token.fence,
                lost: false,
            });
        }
    }

    /// What a job said, and whether that is so.
    pub(super) fn judge(
        &mut self,
        asked: Asked,
        before: &BTreeMap<TaskId, Known>,
    ) -> Result<(), Wrong> {
        let said = match asked.answer {
            None => Ok(Said::Nothing),
            Some(mut answer) => answer.try_recv().map_err(|_| "a job was not answered")?,
        };
        let kept = !matches!(asked.expected, Expected::Unkept);
        for child in &asked.children {
            hold!(
                self.tasks.contains_key(child) == kept,
                "{child} was spawned, which {}",
                if kept {
                    "is not there"
                } else {
                    "nobody had a claim for"
                }
            );
        }
        match (asked.expected, said) {
            (Expected::Made | Expected::Again, Err(error)) => hold!(
                refusal(&error),
                "what nobody should be refused for: {error}"
            ),
            (Expected::Stale(token), said) => {
                hold!(
                    matches!(said, Err(StoreError::Stale(_))),
                    "an attempt at {} that has lost its claim is told {said:?}",
                    token.task
                );
                self.tally.stale += 1;
                self.attempts
                    .retain(|one| !(one.lost && one.task.token() == token));
            }
            (Expected::Unkept, _) => {}
            (Expected::Beat { host, leased, met }, said) => {
                self.hear_beat(host, leased, met, said)?
            }
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
                    self.park(token);
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
            (Expected::Completed(token, name, value), said) => {
                hold!(said.is_ok(), "{} completes a step: {said:?}", token.task);
                self.holds_step(token, &name, value)?;
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
            (Expected::Arrived(task, run, value), said) => {
                self.has_arrived((task, run), value, said)?;
            }
            (Expected::Taken(token, run, value), said) => {
                self.has_taken(token, run, value, said)?;
            }
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

    /// A complete step exists for as long as its attempt runs, and is not from a later run.
    fn holds_step(&self, token: Token, name: &str, value: u32) -> Result<(), Wrong> {
        let id = token.task;
        let known = self.tasks.get(&id);
        let Some(known) = known.filter(|one| one.runs() && one.fence == token.fence.number) else {
            return Ok(());
        };
        let sql = format!(
            "select value, run from steps where task_id = {} and name = '{name}'",
            id.to_i64()
        );
        let rows = self.host().eye().rows(&sql);
        let Some(row) = rows.first() else {
            return Err(format!("{name} of {id} is complete, and is not there"));
        };
        let number = |at: usize| row[at].as_deref().and_then(|text| text.parse::<u32>().ok());
        hold!(
            number(0) >= Some(value) && number(1) == Some(known.run),
            "{name} of {id} is {row:?}, and was completed with {value}"
        );
        Ok(())
    }

    /// An attempt was told that its end is on disk.
    pub(super) fn ended(
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
    pub(super) fn check_waits(&self, id: TaskId, waits: &Waits) -> Result<(), Wrong> {
        let waiting = self
            .tasks
            .get(&id)
            .is_some_and(|task| task.status == Status::Waiting);
        // Where transactions are small, it may not have heard of that end yet; the invariants know.
        let in_parts = self.rows_max.is_some();
        if !waiting || !waits.tasks || waits.targets.is_empty() || in_parts {
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
    pub(super) fn check_wake(
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
}

/// What holds between two states of a task.
pub(super) fn check_move(
    id: TaskId,
    earlier: &Known,
    now: &Known,
    again: bool,
) -> Result<(), Wrong> {
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
pub(super) fn refusal(error: &StoreError) -> bool {
    // These two are for attempts.
    let of_attempts = matches!(error, StoreError::Stale(_) | StoreError::Deadlock { .. });
    error.is_refusal() && !of_attempts
}
