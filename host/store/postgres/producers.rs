//! Producers and their clocks: rows of the table `producers`.

use super::columns;
use super::rows::PgRows;
use super::sql::{Link, named};
use crate::store::StoreError;
use crate::store::rows::ProducerRows;
use crate::task::producer::Clocks;
use crate::task::{Producer, TaskId};

/// The clocks of one producer, as [`read`] reads them.
const CLOCKS: &str = "\
    select idle_ms, drain_ms, idle_at_ms, drain_at_ms
    from producers
    where task_id = :task";

impl ProducerRows for PgRows<'_> {
    fn clocks(&mut self, producer: TaskId) -> Result<Option<Clocks>, StoreError> {
        self.only_alone()?;
        self.one(CLOCKS, named! { "task": producer.to_i64() }, read)
    }

    fn save_clocks(&mut self, producer: TaskId, clocks: &Clocks) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into producers (task_id, idle_ms, drain_ms, idle_at_ms, drain_at_ms, next_ms)
            values (:task, :idle, :drain, :idle_at, :drain_at, :next)
            on conflict (task_id) do update set
              idle_at_ms = excluded.idle_at_ms, drain_at_ms = excluded.drain_at_ms,
              next_ms = excluded.next_ms";
        let signed = |value: Option<u64>| value.map(|value| value as i64);
        self.run(
            SQL,
            named! {
                "task": producer.to_i64(),
                "idle": signed(clocks.producer.idle_ms),
                "drain": signed(clocks.producer.drain_ms),
                "idle_at": signed(clocks.idle_at_ms),
                "drain_at": signed(clocks.drain_at_ms),
                "next": signed(clocks.next_ms()),
            },
        )
    }

    fn open_producers(
        &mut self,
        group: TaskId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select task_id
            from sources
            where group_id = :group and not drained and producer and task_id > :after
            order by task_id
            limit :limit";
        let values = named! { "group": group, "after": after, "limit": limit };
        self.seldom(SQL, values)
    }

    fn has_finite_source(&mut self, producer: TaskId, open: bool) -> Result<bool, StoreError> {
        const OPEN: &str = "\
            select 1
            from sources mine
            join sources other on other.group_id = mine.group_id
            where mine.task_id = :task and not mine.drained and not other.drained and not other.producer
            limit 1";
        const EVER: &str = "\
            select 1
            from sources mine
            join sources other on other.group_id = mine.group_id
            where mine.task_id = :task and not mine.drained and not other.producer
            limit 1";
        let sql = if open { OPEN } else { EVER };
        let values = named! { "task": producer.to_i64() };
        self.only_alone()?;
        Ok(self.one(sql, values, |_| Ok(()))?.is_some())
    }
}

/// The clocks of a producer.
pub fn clocks(link: &Link, producer: TaskId) -> Result<Option<Clocks>, StoreError> {
    let values = named! { "task": producer.to_i64() };
    Ok(link.many(CLOCKS, values, read)?.pop())
}

fn read(row: &tokio_postgres::Row) -> Result<Clocks, StoreError> {
    Ok(Clocks {
        producer: Producer {
            idle_ms: columns::optional_unsigned(row, 0)?,
            drain_ms: columns::optional_unsigned(row, 1)?,
        },
        idle_at_ms: columns::optional_unsigned(row, 2)?,
        drain_at_ms: columns::optional_unsigned(row, 3)?,
    })
}
