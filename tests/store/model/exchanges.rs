//! The exchanges of tasks: their arrivals and holders.

use std::collections::BTreeSet;

use fishway::journal::{Arrival, Function, Visible};
use fishway::store::{CallBy, Suspension, Until};
use fishway::task::{Status, Task, TaskId};

use super::{Model, Snapshot, Waits};
use crate::store::world::{World, call};

impl Model {
    pub(super) async fn await_exchange(
        &mut self,
        world: &World,
        task: &Task,
        many: u32,
        until_ms: Option<u64>,
    ) {
        let waits = Waits {
            targets: Vec::new(),
            all: false,
            only_ends: false,
        };
        self.waits.insert(task.id, waits);
        self.calls += 1;
        let wait = Suspension {
            made: None,
            number: self.calls,
            until: Until::Exchange,
            until_ms,
            spent_ms: 0,
            exchanges: (1..=many).collect(),
            hears_cancel: false,
            grace_until_ms: None,
        };
        world.store().suspend(task.token(), wait).await.unwrap();
        let held = (1..=many).collect();
        self.held.insert((task.id, task.run), held);
    }

    pub(super) async fn arrive(&mut self, world: &World, task: &Task, exchange: u32, ends: bool) {
        self.calls += 1;
        let what = match ends {
            true => Visible::Again {
                tries: self.calls,
                at_ms: 0,
            },
            false => Visible::Chunk(self.calls.to_string().into_bytes().into()),
        };
        let arrival = Arrival { exchange, what };
        let finished = if ends { vec![exchange] } else { Vec::new() };
        let (id, run) = (task.id, task.run);
        let arrivals = vec![arrival.clone()];
        let told = world.store().arrive(id, run, arrivals, finished).await;
        let held = self.held.entry((id, run)).or_default();
        let runs = task.status == Status::Running && task.group.is_none();
        let alive = !task.status.is_terminal();
        assert_eq!(told.is_ok(), alive && (runs || held.contains(&exchange)));
        if told.is_ok() {
            let mailbox = self.mailboxes.entry((id, run)).or_default();
            mailbox.push_back(arrival);
            if ends {
                held.remove(&exchange);
            }
        }
    }

    pub(super) async fn take_arrivals(&mut self, world: &World, task: &Task, all: bool) {
        self.calls += 1;
        let by = CallBy {
            token: task.token(),
            number: self.calls,
            call: call(Function::HttpWait, "it"),
        };
        let most_bytes = if all { usize::MAX } else { 0 };
        let taken = world.store().take_arrivals(by, most_bytes).await.unwrap();
        let mailbox = self.mailboxes.entry((task.id, task.run)).or_default();
        let many = if all { mailbox.len() } else { 1 };
        let expected: Vec<Arrival> = mailbox.drain(..many.min(mailbox.len())).collect();
        assert_eq!(taken.arrivals, expected);
        if let Some(held) = self.held.get_mut(&(task.id, task.run)) {
            for arrival in expected.iter().filter(|arrival| arrival.what.ends()) {
                held.remove(&arrival.exchange);
            }
        }
    }

    /// Everything of a run is deleted with it.
    pub(super) fn forget_exchanges(&mut self, after: &Snapshot) {
        let goes_on = |(id, run): &(TaskId, u32)| {
            let task = after.get(id);
            task.is_some_and(|task| task.run == *run && !task.status.is_terminal())
        };
        self.mailboxes.retain(|of, _| goes_on(of));
        self.held.retain(|of, _| goes_on(of));
    }

    /// Invariants of the exchanges of a task, in any state.
    pub(super) fn check_exchanges(&self, world: &World, task: &Task) {
        let of = (task.id, task.run);
        let unread = self.mailboxes.get(&of).is_some_and(|all| !all.is_empty());
        let found = world.store().has_arrivals(task.id, task.run).unwrap();
        assert_eq!(found, unread, "{task:#?}");
        let held = world.store().exchanges(task.id, task.run).unwrap();
        let held: BTreeSet<u32> = held.iter().map(|one| one.number).collect();
        let expected = self.held.get(&of).cloned().unwrap_or_default();
        assert_eq!(held, expected, "{task:#?}");
        let waits = task.awaits_exchange();
        assert!(!waits || (!unread && !held.is_empty()), "{task:#?}");
    }
}
