//! What a host asks for as it starts and as its clocks run out.

use super::{ALARMS_PER_TURN, Turn, exchanges, schedules};
use crate::lease::{Lease, LeaseKey, Sign};
use crate::store::rows::Alarm;
use crate::store::text::storable;
use crate::store::{
    Beat, ComponentChange, HandlersChange, Publication, RandomSecret, SharedComponent, StoreError,
};
use crate::task::TaskId;
use crate::task::state::{Event, Loss};

/// See [`Writes::recover`](crate::store::Writes::recover).
pub fn recover(turn: &mut Turn<'_>, restarts_max: u32) -> Result<u64, StoreError> {
    turn.flush()?;
    let put_back = put_back_all(turn, restarts_max)?;
    exchanges::wake_lost(turn)?;
    Ok(put_back)
}

/// Put back what runs on hosts that are gone.
fn put_back_all(turn: &mut Turn<'_>, restarts_max: u32) -> Result<u64, StoreError> {
    let running = turn.rows.running()?;
    for &id in &running {
        let loss = Loss::HostDied;
        turn.drive(id, Event::AttemptLost { loss, restarts_max })?;
    }
    Ok(running.len() as u64)
}

/// See [`Writes::beat`](crate::store::Writes::beat).
pub fn beat(turn: &mut Turn<'_>, beat: &Beat) -> Result<Option<Vec<TaskId>>, StoreError> {
    let number = beat.lease.number;
    // Who beats looks after those that do not; their tasks go on elsewhere.
    if turn.rows.end_silent(number, turn.now_ms)? {
        turn.flush()?;
        put_back_all(turn, beat.restarts_max)?;
    }
    if !turn.rows.sign_lease(beat.lease, None, turn.now_ms)? {
        return Ok(None);
    }
    turn.look_for_unfinished()?;
    exchanges::wake_lost(turn)?;
    exchanges::wake_unheld(turn, number, &*beat.attempts)?;
    put_back(turn, beat).map(Some)
}

/// Put back the tasks of which the database says that this host runs them, and the host does not. There
/// are no more than it could claim, so one transaction does for all of them.
fn put_back(turn: &mut Turn<'_>, beat: &Beat) -> Result<Vec<TaskId>, StoreError> {
    turn.flush()?;
    let mut lost = Vec::new();
    for token in turn.rows.running_on(beat.lease.number)? {
        if beat.attempts.holds(token) {
            continue;
        }
        match turn.claimed(token) {
            Ok(_) => {}
            // It has moved on since it was looked at.
            Err(StoreError::Stale(_)) => continue,
            Err(error) => return Err(error),
        }
        let event = Event::AttemptLost {
            loss: Loss::NotRunning,
            restarts_max: beat.restarts_max,
        };
        turn.drive(token.task, event)?;
        lost.push(token.task);
    }
    Ok(lost)
}

/// See [`Writes::take_lease`](crate::store::Writes::take_lease).
pub fn take_lease(turn: &mut Turn<'_>, lease: &Lease) -> Result<bool, StoreError> {
    turn.rows.take_lease(lease)
}

/// See [`Writes::sign_lease`](crate::store::Writes::sign_lease).
pub fn sign_lease(turn: &mut Turn<'_>, lease: LeaseKey, sign: &Sign) -> Result<bool, StoreError> {
    let sign = match sign {
        Sign::Ended(Some(error)) => &Sign::Ended(Some(storable(error).into_owned())),
        sign => sign,
    };
    turn.rows.sign_lease(lease, Some(sign), turn.now_ms)
}

/// See [`Store::share_component`](crate::store::Store::share_component).
pub fn share_component(turn: &mut Turn<'_>, component: &SharedComponent) -> Result<(), StoreError> {
    turn.rows.share_component(component)
}

/// See [`Store::publish`](crate::store::Store::publish).
pub fn publish(turn: &mut Turn<'_>, publication: &Publication) -> Result<(), StoreError> {
    turn.rows.publish(publication)
}

/// See [`Store::unpublish`](crate::store::Store::unpublish).
pub fn unpublish(turn: &mut Turn<'_>, names: Option<&[String]>) -> Result<u64, StoreError> {
    turn.rows.unpublish(names)
}

/// See [`Writes::tick`](crate::store::Writes::tick).
pub fn tick(turn: &mut Turn<'_>) -> Result<Option<u64>, StoreError> {
    for (id, alarm) in turn.rows.due(turn.now_ms, ALARMS_PER_TURN)? {
        // What is left is due still.
        if turn.is_full() {
            break;
        }
        let event = match alarm {
            Alarm::Start => Event::Due,
            Alarm::Expiry => Event::Expired,
            Alarm::Wait => Event::WaitTimedOut,
            Alarm::Deadline => Event::DeadlinePassed,
            Alarm::Producer => {
                turn.producer_due(id)?;
                continue;
            }
        };
        match turn.drive(id, event) {
            // Two clocks of one task may run out together; the first decides.
            Ok(()) | Err(StoreError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    schedules::fire(turn)?;
    turn.flush()?;
    turn.rows.next_due()
}

/// See [`Store::keep_handlers`](crate::store::Store::keep_handlers).
pub fn keep_handlers(turn: &mut Turn<'_>, change: &HandlersChange) -> Result<(), StoreError> {
    turn.handlers_changed = true;
    let standing = &change.standing;
    turn.rows.save_handlers_standing(standing)?;
    if change.whole {
        turn.rows.forget_handlers()?;
    }
    let components = change.components.iter().cloned().map(storable_component);
    let components: Vec<ComponentChange> = components.collect();
    turn.rows.save_components(&components, change.whole)
}

/// What a host says of a component, with text that every engine can keep.
fn storable_component(mut component: ComponentChange) -> ComponentChange {
    let rows = component.rows.iter_mut();
    let descriptions = rows.filter_map(|row| row.description.as_mut());
    let broken = component.broken.as_mut();
    let problem = broken.map(|broken| [&mut broken.problem, &mut broken.hint]);
    for text in descriptions.chain(problem.into_iter().flatten()) {
        *text = storable(text).into_owned();
    }
    component
}

/// See [`Writes::add_random_secret`](crate::store::Writes::add_random_secret).
pub fn add_random_secret(turn: &mut Turn<'_>, secret: &RandomSecret) -> Result<u32, StoreError> {
    turn.flush()?;
    turn.rows.add_random_secret(secret, turn.now_ms)
}

/// See [`Writes::drop_random_secrets`](crate::store::Writes::drop_random_secrets).
pub fn drop_random_secrets(turn: &mut Turn<'_>, numbers: &[u32]) -> Result<(), StoreError> {
    turn.flush()?;
    turn.rows.drop_random_secrets(numbers)
}
