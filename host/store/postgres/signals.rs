//! The signals that tasks have not received: rows of the table `signals`.

use super::columns;
use super::rows::PgRows;
use super::sql::{Link, named};
use crate::store::rows::SignalRows;
use crate::store::{Signal, StoreError};
use crate::task::TaskId;

impl SignalRows for PgRows<'_> {
    fn add_signal(
        &mut self,
        signal: &Signal,
        number: u64,
        sent_at_ms: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into signals (task_id, number, name, value, sent_at_ms)
            values (:task, :number, :name, :value, :sent_at_ms)";
        self.run(
            SQL,
            named! {
                "task": signal.to.to_i64(),
                "number": number as i64,
                "name": &signal.name,
                "value": &signal.value,
                "sent_at_ms": sent_at_ms as i64,
            },
        )
    }

    fn take_signal(&mut self, task: TaskId, name: &str) -> Result<Option<String>, StoreError> {
        const SQL: &str = "\
            delete from signals
            where task_id = :task and number = (
              select number
              from signals
              where task_id = :task and name = :name
              order by number
              limit 1)
            returning value";
        let values = named! { "task": task.to_i64(), "name": name };
        // At most one, but the statement is to run to its end.
        Ok(self.many(SQL, values, |row| columns::get(row, 0))?.pop())
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

    fn drop_signals(&mut self, task: TaskId) -> Result<(), StoreError> {
        self.state.bulk.drop_signals(task);
        Ok(())
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
