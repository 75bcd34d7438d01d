//! Exchanges in the store: who holds one, and its arrivals that the run has not taken.
//!
//! A run has one mailbox. The arrivals of its exchanges are kept there in order while it waits without an instance. The
//! row of an exchange says which host holds it for a waiting run.

use crate::journal::{Arrival, Visible};
use crate::store::rows::HeldExchange;
use crate::store::{StoreError, checksum};
use crate::task::{Damage, TaskId};

/// Arrivals that a run has taken from its mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrivalsTaken {
    /// In order; none if the mailbox was empty.
    pub arrivals: Vec<Arrival>,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// An exchange that a host holds for a run, or held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// The number of the call that made the request.
    pub number: u32,
    /// The number of the lease of that host.
    pub host: u64,
    /// Whether that host is alive by its lease. Exchanges that it no longer holds it detects itself, with its next
    /// heartbeat.
    pub held: bool,
}

impl From<HeldExchange> for Exchange {
    fn from(of: HeldExchange) -> Exchange {
        Exchange {
            number: of.number,
            host: of.host,
            held: of.lives,
        }
    }
}

/// The extent of a mailbox. The numbers are those of its rows, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mailbox {
    /// The number of the oldest.
    pub first: u64,
    /// The number of the newest.
    pub last: u64,
    /// Where the text of the oldest begins, counted since the mailbox was last empty; in bytes.
    pub start_bytes: u64,
    /// Where the text of the newest ends.
    pub end_bytes: u64,
}

/// An arrival as a row of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrivalRow {
    /// Its number in the mailbox.
    pub number: u64,
    /// Its exchange.
    pub exchange: u32,
    /// The arrival as JSON.
    pub value: String,
    /// Where that begins; see [`Mailbox`].
    pub start_bytes: u64,
    /// Where it ends.
    pub end_bytes: u64,
}

impl ArrivalRow {
    /// The row of an arrival at the end of a mailbox.
    pub fn behind(mailbox: Option<Mailbox>, arrival: &Arrival) -> ArrivalRow {
        let value = serde_json::to_string(&arrival.what).expect("what came has a JSON form");
        let start_bytes = mailbox.map_or(0, |mailbox| mailbox.end_bytes);
        ArrivalRow {
            number: mailbox.map_or(1, |mailbox| mailbox.last + 1),
            exchange: arrival.exchange,
            start_bytes,
            end_bytes: start_bytes + value.len() as u64,
            value,
        }
    }

    /// The extent of a mailbox with this appended.
    pub fn added_to(&self, mailbox: Option<Mailbox>) -> Mailbox {
        let (first, start_bytes) = mailbox.map_or((self.number, self.start_bytes), |mailbox| {
            (mailbox.first, mailbox.start_bytes)
        });
        Mailbox {
            first,
            last: self.number,
            start_bytes,
            end_bytes: self.end_bytes,
        }
    }

    /// The extent of a mailbox after this and everything before it was removed.
    pub fn taken_from(&self, mailbox: Mailbox) -> Option<Mailbox> {
        (self.number < mailbox.last).then_some(Mailbox {
            first: self.number + 1,
            start_bytes: self.end_bytes,
            ..mailbox
        })
    }

    /// Its checksum in a row of this run.
    pub fn checksum(&self, task: TaskId, run: u32) -> i64 {
        checksum::of_arrival(task, run, self)
    }

    /// The arrival, after the checksum of the row was verified.
    pub fn read(self, task: TaskId, run: u32, kept: Option<i64>) -> Result<Arrival, StoreError> {
        let fits = checksum::fits(kept, || self.checksum(task, run));
        let what: Option<Visible> = serde_json::from_str(&self.value).ok().filter(|_| fits);
        let exchange = self.exchange;
        what.map(|what| Arrival { exchange, what })
            .ok_or_else(|| damaged(task))
    }
}

/// A row of a mailbox does not match its checksum.
pub fn damaged(id: TaskId) -> StoreError {
    let damage = Damage::Arrival;
    StoreError::DamagedTask { id, damage }
}

/// Whether a run has arrivals in its mailbox. This and the following statements are the same for both engines.
pub const HAS: &str = "\
    select 1
    from arrivals
    where task_id = :task and run = :run
    limit 1";

/// The extent of a mailbox: two seeks.
pub const MAILBOX: &str = "\
    select oldest.number, newest.number, oldest.start_bytes, newest.end_bytes
    from (
      select number, start_bytes
      from arrivals
      where task_id = :task and run = :run
      order by number
      limit 1) oldest
    cross join (
      select number, end_bytes
      from arrivals
      where task_id = :task and run = :run
      order by number desc
      limit 1) newest";

/// The first rows of a mailbox: one, and more up to a number of bytes of text.
pub const ARRIVALS: &str = "\
    select number, exchange, value, start_bytes, end_bytes, checksum
    from arrivals
    where task_id = :task and run = :run and (number = :first or end_bytes <= :until)
    order by number";

/// Removes the first rows of a mailbox.
pub const REMOVE: &str = "\
    delete from arrivals
    where task_id = :task and run = :run and number <= :last";

/// The exchanges on a host that tasks wait for, after a position.
pub const AWAITED: &str = "\
    select exchanges.task_id, exchanges.run, exchanges.number
    from exchanges
    join tasks on tasks.id = exchanges.task_id
    where exchanges.host = :host and (exchanges.task_id, exchanges.number) > (:task, :number)
      and tasks.status = 'waiting' and tasks.run = exchanges.run
      and (json(tasks.wait) ->> 'exchange') is not null
    order by exchanges.task_id, exchanges.number
    limit :limit";

/// The hosts that have exchanges, as a table with the column `host`: a seek for each.
pub const HOLDERS: &str = "\
    with recursive holders (host) as (
      select min(host) from exchanges
      union all
      select (select min(host) from exchanges where host > holders.host)
      from holders
      where holders.host is not null)";
