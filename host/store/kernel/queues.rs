//! What queues are set to.

use super::Turn;
use crate::queue::{Queue, QueueChange};
use crate::store::StoreError;

/// See [`Store::set_queue`](crate::store::Store::set_queue).
pub fn set_queue(
    turn: &mut Turn<'_>,
    name: &str,
    change: QueueChange,
) -> Result<Queue, StoreError> {
    let before = turn.rows.queue(name)?;
    let after = before.unwrap_or_else(|| Queue::plain(name)).with(change);
    turn.rows.save_queue(&after)?;
    Ok(after)
}
