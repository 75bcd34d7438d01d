//! Exchanges: runs wait for them, hosts report arrivals, and lose some.

use fishway::journal::{Arrival, Function, Visible};
use fishway::store::kernel;
use fishway::store::{StoreError, Until};
use fishway::task::{TaskId, Token};

use super::shapes::nobody;
use super::{Expected, Machine, Said, Wrong, hold};
use crate::simulation::mirror::{Known, Mailboxes};

/// Whether hosts hold exchanges of this number for as long as they live. They lose the others.
pub(super) fn held(number: u32) -> bool {
    !number.is_multiple_of(2)
}

/// The arrivals in the database.
fn text(what: &Visible) -> String {
    serde_json::to_string(what).unwrap()
}

impl Machine {
    /// An attempt waits for this many exchanges, which its host holds.
    pub(super) fn await_exchange(
        &mut self,
        attempt: u16,
        many: u32,
        for_ms: Option<u64>,
    ) -> Result<(), Wrong> {
        let until_ms = for_ms.map(|ms| self.now_ms() + ms);
        let exchanges = (1..=many).collect();
        self.suspend_holding(attempt, Until::Exchange, until_ms, nobody(), exchanges)
    }

    /// The host reports an arrival of an exchange of a task, if it holds that.
    pub(super) fn arrive(&mut self, task: TaskId, exchange: u32, ends: bool) -> Result<(), Wrong> {
        let Some(run) = self.tasks.get(&task).map(|known| known.run) else {
            return Ok(());
        };
        let number = self.number();
        let what = match ends {
            true => Visible::Failed {
                code: number.to_string(),
                detail: String::new(),
            },
            false => Visible::Chunk(number.to_string().into_bytes().into()),
        };
        let expected = Expected::Arrived(task, run, text(&what));
        let arrivals = vec![Arrival { exchange, what }];
        let finished = if ends { vec![exchange] } else { Vec::new() };
        self.ask(false, None, expected, move |turn| {
            kernel::arrive(turn, task, run, &arrivals, &finished).map(|()| Said::Nothing)
        })
    }

    /// An attempt takes the oldest arrival.
    pub(super) fn take_arrival(&mut self, attempt: u16) -> Result<(), Wrong> {
        let Some(by) = self.by(attempt, Function::HttpWait) else {
            return Ok(());
        };
        let token = by.token;
        // A failover may have lost the task, and the attempt does not know that yet.
        let run = self.tasks.get(&token.task).map_or(0, |known| known.run);
        let of = (token.task, run);
        // Arrivals that come and are taken in one transaction keep that order.
        let mut there = self.mailboxes.get(&of).cloned().unwrap_or_default();
        for (_, asked) in &self.batch {
            match &asked.expected {
                Expected::Arrived(to, run, value) if (*to, *run) == of => there.push(value.clone()),
                Expected::Taken(by, _, Some(value)) if *by == token => {
                    there.retain(|one| one != value);
                }
                _ => {}
            }
        }
        let oldest = there.into_iter().next();
        let expected = Expected::Taken(token, of.1, oldest);
        self.ask(false, Some(token), expected, move |turn| {
            let taken = kernel::take_arrivals(turn, &by, 0)?.arrivals;
            Ok(Said::Value(taken.first().map(|one| text(&one.what))))
        })
    }

    /// A host got the answer to its report.
    pub(super) fn has_arrived(
        &mut self,
        of: (TaskId, u32),
        value: String,
        said: Result<Said, StoreError>,
    ) -> Result<(), Wrong> {
        match said {
            Ok(_) => {
                let goes_on = |known: &&Known| known.lives() && known.run == of.1;
                if self.tasks.get(&of.0).filter(goes_on).is_some() {
                    self.mailboxes.entry(of).or_default().push(value);
                }
                Ok(())
            }
            // Only its host reports on an exchange.
            Err(StoreError::Stale(_)) => Ok(()),
            Err(error) => Err(format!("what comes for {} is refused: {error}", of.0)),
        }
    }

    /// An attempt got the arrivals that it has taken.
    pub(super) fn has_taken(
        &mut self,
        token: Token,
        run: u32,
        value: Option<String>,
        said: Result<Said, StoreError>,
    ) -> Result<(), Wrong> {
        let id = token.task;
        let found = match said {
            Ok(Said::Value(found)) => found,
            other => return Err(format!("{id} takes {other:?}")),
        };
        hold!(found == value, "{id} takes {found:?}, not {value:?}");
        let unread = self.mailboxes.entry((id, run)).or_default();
        unread.retain(|one| Some(one) != value.as_ref());
        Ok(())
    }

    /// The arrivals of runs in progress in the database.
    pub(super) fn look_into_mailboxes(&mut self) {
        let goes_on = |(id, run): &(TaskId, u32)| {
            let known = self.tasks.get(id);
            known.is_some_and(|known| known.lives() && known.run == *run)
        };
        let mut found: Mailboxes = crate::simulation::mirror::mailboxes(self.host().eye());
        found.retain(|of, _| goes_on(of));
        self.mailboxes = found;
    }

    /// Exchanges that tasks wait for: the task, the number, and the host.
    fn awaited(&self) -> Vec<(TaskId, u32, u64)> {
        let sql = "\
            select task_id, number, exchanges.host
            from exchanges
            join tasks on id = task_id and tasks.run = exchanges.run
            where status = 'waiting' and (json(wait) ->> 'exchange') is not null
            order by task_id, number";
        let rows = self.host().eye().rows(sql).into_iter();
        rows.map(|row| {
            let number = |at: usize| row[at].as_deref().unwrap().parse::<i64>().unwrap();
            (
                TaskId::from_i64(number(0)),
                number(1) as u32,
                number(2) as u64,
            )
        })
        .collect()
    }

    /// After enough heartbeats, no task waits for an exchange that no host holds.
    pub(super) fn check_awaited(&self) -> Result<(), Wrong> {
        let leases = self.host().eye().leases();
        let awaited = self.awaited();
        let lost = awaited.iter().find(|(_, number, host)| {
            !held(*number) || leases.iter().all(|lease| lease.number != *host)
        });
        hold!(
            lost.is_none(),
            "a task waits for an exchange that no host holds: {lost:?}"
        );
        Ok(())
    }

    /// Everything that tasks wait for arrives.
    pub(super) fn answer_all(&mut self) -> Result<(), Wrong> {
        for (task, number, _) in self.awaited() {
            self.arrive(task, number, true)?;
        }
        Ok(())
    }
}
