//! What transactions have left to later ones: the table `unfinished`.

use rusqlite::{Row, named_params};

use super::columns;
use super::rows::SqliteRows;
use crate::store::StoreError;
use crate::store::rows::UnfinishedRows;
use crate::store::unfinished::{Kind, Unfinished};
use crate::task::{Status, TaskId};

impl UnfinishedRows for SqliteRows<'_> {
    fn unfinished_of(&mut self, subject: TaskId) -> Result<Vec<Unfinished>, StoreError> {
        const SQL: &str = "\
            select subject_id, number, kind, after_rank, after_id, bound, status
            from unfinished
            where subject_id = :subject
            order by number";
        self.many(SQL, named_params! { ":subject": subject.to_i64() }, work)
    }

    fn oldest_unfinished(&mut self, limit: usize) -> Result<Vec<Unfinished>, StoreError> {
        const SQL: &str = "\
            select subject_id, number, kind, after_rank, after_id, bound, status
            from unfinished
            order by kind in ('journal', 'exchanges', 'signals', 'steps'), subject_id, number
            limit :limit";
        self.many(SQL, named_params! { ":limit": limit as i64 }, work)
    }

    fn has_unfinished(&mut self) -> Result<bool, StoreError> {
        const SQL: &str = "select 1 from unfinished limit 1";
        Ok(self.one(SQL, [], |_| Ok(()))?.is_some())
    }

    fn save_unfinished(&mut self, work: &Unfinished) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into unfinished (subject_id, number, kind, after_rank, after_id, bound, status)
            values (:subject, :number, :kind, :rank, :id, :bound, :status)
            on conflict do update set after_rank = excluded.after_rank, after_id = excluded.after_id";
        let values = named_params! {
            ":subject": work.subject.to_i64(),
            ":number": work.number as i64,
            ":kind": work.kind.as_str(),
            ":rank": work.after.0 as i64,
            ":id": work.after.1.to_i64(),
            ":bound": work.bound as i64,
            ":status": work.status.map(Status::as_str),
        };
        self.run(SQL, values)
    }

    fn drop_unfinished(&mut self, subject: TaskId, number: u64) -> Result<(), StoreError> {
        const SQL: &str = "\
            delete from unfinished
            where subject_id = :subject and number = :number";
        let values = named_params! { ":subject": subject.to_i64(), ":number": number as i64 };
        self.run(SQL, values)
    }
}

fn work(row: &Row<'_>) -> rusqlite::Result<Unfinished> {
    let word = row.get_ref(2)?.as_str()?;
    let kind = Kind::from_word(word)
        .ok_or_else(|| columns::damaged(2, format!("{word} is no kind of unfinished work")))?;
    let status: Option<String> = row.get(6)?;
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
