//! Whatever was done, from here on everything ends.

use fishway::store::kernel;
use fishway::store::{Alter, Signal};
use fishway::task::{Status, TaskId};

use super::shapes::completed;
use super::{Expected, Machine, Said, Wrong, hold};
use crate::simulation::mirror::{self, Known};
use crate::simulation::step::{QUEUES, SIGNALS, Step};

impl Machine {
    /// Whatever was done, from here on everything ends: nothing is lost, and nobody waits for ever.
    pub(super) fn drive(&mut self) -> Result<(), Wrong> {
        self.fill = false;
        self.unreadable = None;
        self.standby = None;
        self.settle_hosts()?;
        self.look_through()?;
        self.finish_parts()?;
        // From here on a heartbeat has room for everything that is lost.
        self.beat(None)?;
        self.commit()?;
        self.check_awaited()?;
        let ends = mirror::counted_ends(self.host().eye());
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

    /// A transaction of what others have left unfinished: ended tasks may live again by it.
    pub(super) fn go_on(&mut self) -> Result<(), Wrong> {
        self.alone()?;
        self.again = true;
        self.tally.parts += 1;
        self.ask(false, None, Expected::Made, |turn| {
            kernel::go_on(turn).map(|_| Said::Nothing)
        })
    }

    /// Nothing is left unfinished, and from here on transactions have room.
    fn finish_parts(&mut self) -> Result<(), Wrong> {
        for _ in 0..10_000 {
            let left = self.host().eye().rows("select 1 from unfinished limit 1");
            if left.is_empty() {
                self.rows_max = None;
                return self.look_through();
            }
            self.go_on()?;
            self.commit()?;
        }
        Err("what is unfinished has no end".to_owned())
    }

    pub(super) fn living(&self) -> Vec<TaskId> {
        let lives = self.tasks.iter().filter(|(_, task)| task.lives());
        lives.map(|(id, _)| *id).collect()
    }

    /// Claim all that is ready, and let all that runs complete.
    pub(super) fn round(&mut self) -> Result<(), Wrong> {
        self.host().dispatch.offers().slots = 1_000;
        self.commit()?;
        for attempt in self.attempts.clone() {
            // After a failover a task may have two: one that its host has yet to hear is lost, and the one that counts.
            let token = attempt.task.token();
            let mut there = self.attempts.iter_mut();
            if let Some(one) = there.find(|one| one.task.token() == token && !one.leaves) {
                one.leaves = true;
                self.finish(token, completed(&attempt.task, false))?;
            }
        }
        self.commit()
    }

    /// Nothing moves by itself: clocks, signals and at last people do.
    pub(super) fn unstick(&mut self, living: &[TaskId]) -> Result<(), Wrong> {
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
        self.answer_all()?;
        // What was asked for together is done before the clock moves.
        self.commit()?;
        // For a second, only its last host may claim a woken task. That host may be gone.
        self.clock.turn(2_000);
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

    pub(super) fn cancel(&mut self, id: TaskId, only: bool) -> Result<(), Wrong> {
        self.ask(false, None, Expected::Made, move |turn| {
            kernel::cancel(turn, id, only, None).map(|_| Said::Nothing)
        })?;
        self.commit()
    }

    pub(super) fn half_made_one(&self) -> Option<TaskId> {
        let half = mirror::half_made(self.host().eye());
        half.first().map(|(job, ..)| *job)
    }

    pub(super) fn blocked(&self, id: TaskId) -> bool {
        let sql = format!(
            "select id from tasks where id = {} and blocked_by > 0",
            id.to_i64()
        );
        !mirror::ids(self.host().eye(), &sql).is_empty()
    }
}
