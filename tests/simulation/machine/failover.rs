//! A standby takes over that has not received the last commits, while hosts and people go on who remember
//! them.

use std::collections::{BTreeMap, HashSet};

use fishway::task::TaskId;

use super::{Machine, Wrong, hold};
use crate::simulation::mirror::{Known, Waiting};

/// What a standby has received, and what was in the memory of hosts then.
pub(super) struct Standby {
    /// Steps until it takes over.
    left: u8,
    tasks: BTreeMap<TaskId, Known>,
    waits: Waiting,
    revived: HashSet<TaskId>,
    /// Attempts and parked instances, by their serial numbers.
    known: HashSet<u64>,
}

impl Machine {
    /// A standby has all that there is, and receives nothing more.
    pub(super) fn stand_by(&mut self, steps: u8) -> Result<(), Wrong> {
        self.alone()?;
        self.base.copy();
        let attempts = self.attempts.iter().filter(|one| !one.lost);
        let attempts = attempts.map(|one| one.serial);
        let parked = self.parked.iter().filter(|one| !one.lost);
        let parked = parked.map(|one| one.serial);
        self.standby = Some(Standby {
            left: steps,
            tasks: self.tasks.clone(),
            waits: self.waits.clone(),
            revived: self.revived.clone(),
            known: attempts.chain(parked).collect(),
        });
        Ok(())
    }

    /// A step is done.
    pub(super) fn time_passes(&mut self) -> Result<(), Wrong> {
        if let Some((left, _)) = &mut self.unreadable {
            *left -= 1;
            if *left == 0 {
                self.unreadable = None;
            }
        }
        match &mut self.standby {
            Some(standby) if standby.left == 0 => self.fail_over(),
            Some(standby) => {
                standby.left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// It takes over.
    fn fail_over(&mut self) -> Result<(), Wrong> {
        self.alone()?;
        let Some(standby) = self.standby.take() else {
            return Ok(());
        };
        self.base.go_back();
        self.tally.failovers += 1;
        let remembered = std::mem::take(&mut self.ids);
        // What was counted since is lost, too.
        self.ends = 0;
        self.look_again()?;
        hold!(
            self.tasks == standby.tasks,
            "the standby has something else than it received"
        );
        self.waits = standby.waits;
        self.revived = standby.revived;
        self.gone.extend(remembered);
        self.gone.retain(|id| !self.tasks.contains_key(id));
        // What was lost since it received anything is not lost any more.
        for one in &mut self.attempts {
            one.lost = !standby.known.contains(&one.serial);
        }
        for one in &mut self.parked {
            one.lost = !standby.known.contains(&one.serial);
        }
        self.find_orphans();
        self.look_through()
    }
}
