//! Histories: which journals are kept after the end of their run, and until when.

use super::Turn;
use crate::store::StoreError;
use crate::store::histories::HistoriesDropped;
use crate::task::TaskId;

/// See [`Writes::keep_histories`](crate::store::Writes::keep_histories).
pub fn keep_histories(turn: &mut Turn<'_>, keep_ms: Option<u64>) -> Result<(), StoreError> {
    if turn.rows.history_keep()? != keep_ms {
        turn.rows.set_history_keep(keep_ms)?;
    }
    turn.history_keep = Some(keep_ms);
    Ok(())
}

/// See [`Writes::drop_histories`](crate::store::Writes::drop_histories).
pub fn drop_histories(turn: &mut Turn<'_>) -> Result<HistoriesDropped, StoreError> {
    let keep_ms = turn.history_keep()?;
    // If histories were turned off, existing ones are deleted at once.
    let before_ms = keep_ms.map_or(turn.now_ms, |keep_ms| turn.now_ms.saturating_sub(keep_ms));
    let limit = turn.together();
    let ended = turn.rows.ended_histories(before_ms, limit)?;
    let (mut runs, mut left) = (0, limit);
    let mut whole = ended.len() < limit;
    for (task, run) in ended {
        let cleared = turn.rows.drop_history(task, run, left)?;
        turn.rows_touched += 1 + cleared.rows;
        left = left.saturating_sub(1 + cleared.rows);
        runs += u64::from(cleared.whole);
        if !cleared.whole || left == 0 {
            whole = false;
            break;
        }
    }
    let first_ms = turn.rows.first_history()?;
    let next_ms = first_ms.map(|first_ms| match whole {
        true => first_ms.saturating_add(keep_ms.unwrap_or(0)),
        false => turn.now_ms,
    });
    Ok(HistoriesDropped { runs, next_ms })
}

impl Turn<'_> {
    /// Keep the journal of an ended run, if that is set. Returns whether it is.
    pub(super) fn keep_history(&mut self, task: TaskId, run: u32) -> Result<bool, StoreError> {
        if self.history_keep()?.is_none() {
            return Ok(false);
        }
        self.rows.add_history(task, run, self.now_ms)?;
        self.rows_touched += 1;
        Ok(true)
    }

    /// How long histories are kept, in milliseconds. Read once per transaction.
    fn history_keep(&mut self) -> Result<Option<u64>, StoreError> {
        match self.history_keep {
            Some(known) => Ok(known),
            None => {
                let keep_ms = self.rows.history_keep()?;
                self.history_keep = Some(keep_ms);
                Ok(keep_ms)
            }
        }
    }
}
