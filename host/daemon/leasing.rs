//! The lease of this host: how it is taken, and its heartbeats.
//!
//! Called by the host when it starts, and while it serves. The store decides which host has a lease.

use std::sync::Arc;

use super::standing::{self, last_host};
use super::{HostError, Setup, process};
use crate::blocking;
use crate::clock::Clock;
use crate::lease::{HEARTBEAT_MS, Identity, Lease, LeaseKey, Life, Sign};
use crate::schedule::Schedule;
use crate::store::{Alter, Beat, Store, StoreError};

/// Become the host of the data directory. This process has the lock already, but when somebody has removed the
/// lock file, two processes can have a lock each.
pub async fn take_lease(
    store: &dyn Store,
    setup: &Setup,
    own: Identity,
) -> Result<LeaseKey, HostError> {
    let served = |pid| HostError::AlreadyServed {
        pid,
        data_dir: setup.data_dir.clone(),
    };
    if setup.database.is_some() {
        return take_one_of_many(store, setup, own).await;
    }
    let last = last_host(store, &setup.data_dir, &*setup.clock)?;
    // Of one in another container the lock says more than its last sign of life.
    if let Some(last) = &last
        && last.standing.serves()
        && last.lease.holder != own
        && process::life(&last.lease.holder) == Life::Lives
    {
        return Err(served(Some(last.lease.holder.pid)));
    }
    let number = last.map_or(1, |last| last.lease.number + 1);
    let lease = new_lease(setup, own, number);
    let key = lease.key();
    match store.take_lease(lease).await? {
        true => Ok(key),
        false => Err(served(None)),
    }
}

/// Become one of the hosts of a shared database. A host of this machine whose process has ended is over, even if
/// its lease is not; hosts of other machines are judged by their leases.
async fn take_one_of_many(
    store: &dyn Store,
    setup: &Setup,
    own: Identity,
) -> Result<LeaseKey, HostError> {
    loop {
        let leases = store.leases()?;
        for lease in leases.iter().filter(|lease| lease.ended_at_ms.is_none()) {
            let here = lease.holder.boot.is_some() && lease.holder.boot == own.boot;
            if here && process::life(&lease.holder) == Life::Ended {
                let died = Sign::Ended(Some("its process ended without a message".to_owned()));
                store.sign_lease(lease.key(), died).await?;
            }
        }
        let number = leases.first().map_or(1, |lease| lease.number + 1);
        let lease = new_lease(setup, own.clone(), number);
        let key = lease.key();
        // Another may just have taken that number.
        if store.take_lease(lease).await? {
            return Ok(key);
        }
    }
}

fn new_lease(setup: &Setup, holder: Identity, number: u64) -> Lease {
    let now_ms = setup.clock.now_ms();
    Lease {
        number,
        holder,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        grace_ms: u64::try_from(setup.settings.grace.as_millis()).unwrap_or(u64::MAX),
        since_ms: now_ms,
        heartbeat_at_ms: now_ms,
        stopping_at_ms: None,
        ended_at_ms: None,
        error: None,
    }
}

/// Write heartbeats, for processes that cannot see the process of the host, and compare the tasks that are running on
/// this host in the database with those that it runs. Each heartbeat calls `say`, which writes the rest of the host's
/// state. Also notices when the clock was set back.
pub async fn beat(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    sign: Beat,
    mut next_ms: u64,
    mut say: impl FnMut(),
) -> Result<(), StoreError> {
    let (mut seen_ms, mut made_ms) = (clock.now_ms(), store.ids().last_ms());
    set_schedules_right(&store, seen_ms).await?;
    loop {
        say();
        let (now_ms, made_now_ms) = (clock.now_ms(), store.ids().last_ms());
        // A clock that was ahead for less than a heartbeat was perhaps seen by the tasks alone that it has started.
        let was_ahead = now_ms < made_now_ms && made_ms < made_now_ms;
        if now_ms < seen_ms || was_ahead {
            set_schedules_right(&store, now_ms).await?;
        }
        (seen_ms, made_ms) = (now_ms, made_now_ms);
        // Those that a sleeping machine has missed are not made up for, and a clock that was set back puts none off.
        next_ms = next_ms.clamp(now_ms, now_ms + HEARTBEAT_MS);
        let sleeping = clock.sleep_until(next_ms);
        // A clock that is set back from here on ends the sleep.
        if clock.now_ms() >= now_ms {
            sleeping.await;
        }
        let Some(lost) = store.beat(sign.clone()).await? else {
            let (store, number) = (store.clone(), sign.lease.number);
            return Err(blocking::run(move || standing::lease_lost(&*store, number)).await);
        };
        for task in lost {
            tracing::warn!(%task, "the task was running on this host in the database, but the host did not run it; it was put back");
        }
        next_ms += HEARTBEAT_MS;
    }
}

/// A schedule that fired under a clock that was ahead would not fire again until that time. Let it go on from now,
/// and log that.
async fn set_schedules_right(store: &Arc<dyn Store>, now_ms: u64) -> Result<(), StoreError> {
    let read = store.clone();
    let schedules = blocking::run(move || read.schedules()).await?;
    let ahead = |one: &Schedule| one.is_ahead(now_ms) && !one.damaged;
    for schedule in schedules.into_iter().filter(ahead) {
        let name = schedule.plan.name.to_string();
        match store.alter_schedule(name.clone(), Alter::SetRight).await {
            Ok(_) => tracing::warn!(
                schedule = name,
                "it fired or was added under a clock that was ahead of the present one; it goes on from now"
            ),
            // Removed meanwhile, or damaged.
            Err(StoreError::UnknownSchedule(_) | StoreError::DamagedSchedule(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
