//! The signals that tasks have not received: rows of the table `signals`.

use super::columns;
use super::rows::PgRows;
use super::sql::{Link, Step, named};
use crate::store::rows::{Cleared, SignalRows};
use crate::store::{Signal, StoreError, checksum};
use crate::task::{Damage, TaskId};

impl SignalRows for PgRows<'_> {
    fn add_signal(
        &mut self,
        signal: &Signal,
        number: u64,
        sent_at_ms: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into signals (task_id, number, name, value, sent_at_ms, checksum)
            values (:task, :number, :name, :value, :sent_at_ms, :sum)";
        if let Some(known) = self.state.records.get_mut(&signal.to) {
            known.signals += 1;
        }
        self.run(
            SQL,
            named! {
                "task": signal.to.to_i64(),
                "number": number as i64,
                "name": &signal.name,
                "value": &signal.value,
                "sent_at_ms": sent_at_ms as i64,
                "sum": checksum::of_signal(signal, number, sent_at_ms),
            },
        )
    }

    fn take_signal(&mut self, task: TaskId, name: &str) -> Result<Option<String>, StoreError> {
        // It is looked at before it goes: one that is damaged is left where it is.
        const FIRST: &str = "\
            select number, value, sent_at_ms, checksum
            from signals
            where task_id = :task and name = :name
            order by number
            limit 1
            for update";
        const REMOVE: &str = "delete from signals where task_id = :task and number = :number";
        let values = named! { "task": task.to_i64(), "name": name };
        let first = self.one(FIRST, values, |row| {
            let number: i64 = columns::get(row, 0)?;
            let signal = Signal {
                to: task,
                name: name.to_owned(),
                value: columns::get(row, 1)?,
            };
            let sent_at_ms = columns::get::<i64>(row, 2)? as u64;
            let sum = || checksum::of_signal(&signal, number as u64, sent_at_ms);
            match checksum::fits(columns::get(row, 3)?, sum) {
                true => Ok((number, signal.value)),
                false => Err(StoreError::DamagedTask {
                    id: task,
                    damage: Damage::Signal,
                }),
            }
        })?;
        let Some((number, value)) = first else {
            return Ok(None);
        };
        let gone = named! { "task": task.to_i64(), "number": number };
        self.later(Step::query(REMOVE, gone));
        Ok(Some(value))
    }

    fn has_signal(&mut self, task: TaskId, name: &str) -> Result<bool, StoreError> {
        has(self.settle()?, task, name)
    }

    fn signal_numbers(&mut self, task: TaskId) -> Result<Option<(u64, u64)>, StoreError> {
        // Two seeks; asked for together in one select, they would be one walk over all rows.
        const SQL: &str = "\
            select *
            from (
              select
                (select min(number) from signals where task_id = :task) as lowest,
                (select max(number) from signals where task_id = :task)) numbers
            where lowest is not null";
        self.one(SQL, named! { "task": task.to_i64() }, |row| {
            Ok((columns::unsigned(row, 0)?, columns::unsigned(row, 1)?))
        })
    }

    fn signals_unread(&mut self, task: TaskId) -> Result<u64, StoreError> {
        unread(self.settle()?, task)
    }

    fn drop_signals(&mut self, task: TaskId, limit: usize) -> Result<Cleared, StoreError> {
        super::rows::drop_signals(self, task, limit)
    }
}

/// Whether a task has an unread signal of that name.
pub fn has(link: &Link, task: TaskId, name: &str) -> Result<bool, StoreError> {
    const SQL: &str = "\
        select 1
        from signals
        where task_id = :task and name = :name
        limit 1";
    let found = link.one(SQL, named! { "task": task, "name": name }, |_| Ok(()))?;
    Ok(found.is_some())
}

/// How many unread signals a task has.
pub fn unread(link: &Link, task: TaskId) -> Result<u64, StoreError> {
    const SQL: &str = "\
        select count(*)
        from signals
        where task_id = :task";
    let unread = link.one(SQL, named! { "task": task }, |row| {
        columns::unsigned(row, 0)
    })?;
    Ok(unread.unwrap_or(0))
}
