//! `checkpoints`: named values that outlive attempts.

use super::context::refused;
use crate::executor::bindings::fishway::task::checkpoints;
use crate::executor::guest::{Guest, call_of};
use crate::journal::{Answer, Call, Function, beginning, content};
use crate::store::{Record, Urgency};
use crate::task::{check_name, check_payload};

impl checkpoints::Host for Guest {
    async fn load(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        let call = call_of(Function::CheckpointLoad, name.clone(), [name.as_bytes()]);
        if let Some(answer) = self.step(&call)? {
            return Ok(match answer {
                Answer::Document(value) => value,
                _ => None,
            });
        }
        let value = match self.checkpoints.get(&name) {
            Some(value) => Some(value.clone()),
            None => {
                let store = self.store();
                store
                    .checkpoint(self.task.id, &name)
                    .map_err(|error| self.store_failed(&error))?
            }
        };
        if let Some(value) = &value {
            // The answer, and its record.
            self.hold(2 * value.len() as u64)?;
        }
        self.answer(call, Answer::Document(value.clone())).await?;
        Ok(value)
    }

    async fn save(&mut self, name: String, value: String) -> wasmtime::Result<()> {
        let call = self.save_call(&name, &value)?;
        if self.step(&call)?.is_some() {
            // The first value is on disk, and stays.
            return Ok(());
        }
        if let Err(why) = check_name("name", &name).and_then(|()| check_payload(&value)) {
            // The call has no way to say no, so the attempt says it.
            return Err(self.fail(refused("checkpoints.save", &why)));
        }
        self.checkpoints.insert(name.clone(), value.clone());
        let entry = self.entry(call, Answer::Done);
        self.record(
            vec![
                Record::Checkpoint { name, value },
                Record::Entry(Box::new(entry)),
            ],
            Urgency::Lazy,
        )
        .await
    }
}

impl Guest {
    /// Saves are compared only by name: a cached value may be computed differently in a replay. The value that was
    /// saved first counts.
    fn save_call(&mut self, name: &str, value: &str) -> wasmtime::Result<Call> {
        let subject = format!("{name}, {}", beginning(value));
        let call = call_of(Function::CheckpointSave, subject, [name.as_bytes()]);
        // An older version compared the values, too.
        let before = Call {
            content: content([name.as_bytes(), value.as_bytes()]),
            ..call.clone()
        };
        self.read_ahead()?;
        Ok(match self.cursor.has_next(&before) {
            true => before,
            false => call,
        })
    }
}
