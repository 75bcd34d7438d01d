//! Steps: kept with the record of the call that completes them.

use super::Turn;
use crate::journal::{Answer, CompletedStep, NewStep};
use crate::store::{CallBy, StoreError};

/// See [`Writes::complete_step`](crate::store::Writes::complete_step).
pub fn complete_step(turn: &mut Turn<'_>, new: &NewStep, by: &CallBy) -> Result<u64, StoreError> {
    let run = turn.claimed(by.token)?.run;
    let step = CompletedStep {
        name: new.name.clone(),
        value: new.value.clone(),
        run,
        began: new.began,
        completed: by.number,
        at_ms: turn.now_ms,
        logged: new.logged,
    };
    turn.rows.save_step(by.token.task, &step)?;
    turn.keep_answer(by, Answer::Done)?;
    Ok(turn.now_ms)
}
