//! What transactions have left to later ones: the table `unfinished`.

use tokio_postgres::Row;

use super::columns;
use super::rows::PgRows;
use super::sql::{Step, named};
use crate::store::StoreError;
use crate::store::rows::UnfinishedRows;
use crate::store::unfinished::{Kind, Unfinished};
use crate::task::{Status, TaskId};

impl UnfinishedRows for PgRows<'_> {
    fn unfinished_of(&mut self, subject: TaskId) -> Result<Vec<Unfinished>, StoreError> {
        const SQL: &str = "\
            select subject_id, number, kind, after_rank, after_id, bound, status
            from unfinished
            where subject_id = :subject
            order by number";
        // Whoever has locked the task knows whether there is any, and nobody else adds to it.
        if self.has_nothing_unfinished(subject) {
            return Ok(Vec::new());
        }
        self.many(SQL, named! { "subject": subject }, work)
    }

    fn oldest_unfinished(&mut self, limit: usize) -> Result<Vec<Unfinished>, StoreError> {
        const SQL: &str = "\
            select subject_id, number, kind, after_rank, after_id, bound, status
            from unfinished
            order by kind in ('journal', 'exchanges', 'signals', 'steps'), subject_id, number
            limit :limit";
        if !self.has_unfinished()? {
            return Ok(Vec::new());
        }
        // One host goes on with it at a time, and nobody changes what it is about meanwhile.
        self.only_alone()?;
        self.many(SQL, named! { "limit": limit }, work)
    }

    fn has_unfinished(&mut self) -> Result<bool, StoreError> {
        const SQL: &str = "select 1 from unfinished limit 1";
        Ok(self.one(SQL, named! {}, |_| Ok(()))?.is_some())
    }

    fn save_unfinished(&mut self, work: &Unfinished) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into unfinished (subject_id, number, kind, after_rank, after_id, bound, status)
            values (:subject, :number, :kind, :rank, :id, :bound, :status)
            on conflict (subject_id, number) do update
            set after_rank = excluded.after_rank, after_id = excluded.after_id";
        let values = named! {
            "subject": work.subject,
            "number": work.number,
            "kind": work.kind.as_str(),
            "rank": work.after.0,
            "id": work.after.1,
            "bound": work.bound,
            "status": work.status.map(Status::as_str)
        };
        self.later(Step::query(SQL, values));
        self.has_something_unfinished(work.subject);
        Ok(())
    }

    fn drop_unfinished(&mut self, subject: TaskId, number: u64) -> Result<(), StoreError> {
        const SQL: &str = "\
            delete from unfinished
            where subject_id = :subject and number = :number";
        let values = named! { "subject": subject, "number": number };
        self.later(Step::query(SQL, values));
        Ok(())
    }
}

fn work(row: &Row) -> Result<Unfinished, StoreError> {
    let word = columns::get::<&str>(row, 2)?;
    let kind = Kind::from_word(word)
        .ok_or_else(|| columns::damaged(format!("{word} is no kind of unfinished work")))?;
    let status: Option<&str> = columns::get(row, 6)?;
    Ok(Unfinished {
        subject: columns::id(row, 0)?,
        number: columns::unsigned(row, 1)?,
        kind,
        after: (columns::unsigned(row, 3)?, columns::id(row, 4)?),
        bound: columns::unsigned(row, 5)?,
        status: match status {
            Some(_) => Some(columns::status(row, 6)?),
            None => None,
        },
    })
}
