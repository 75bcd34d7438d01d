//! What became of the units of a job, read in pages: a job of a million units is read in the memory of
//! one page.

use rusqlite::{Connection, named_params};

use super::columns;
use super::rows::payload;
use crate::job::UnitResult;
use crate::task::TaskId;

/// A page ends when its outputs are longer than this.
const PAGE_BYTES: usize = 1 << 20;

/// See [`Store::unit_results`](crate::store::Store::unit_results).
pub fn unit_results(
    connection: &Connection,
    job: TaskId,
    after_line: u64,
    failed: bool,
    limit: u64,
) -> rusqlite::Result<Vec<UnitResult>> {
    const SQL: &str = "\
        select sequence, id, status, output, spilled, failure
        from tasks
        where parent_id = :job and sequence > :after and member = 1 and ended_at_ms is not null
          and not (:failed and status = 'completed')
        order by sequence
        limit :limit";
    let mut statement = connection.prepare_cached(SQL)?;
    let mut rows = statement.query(named_params! {
        ":job": job.to_i64(), ":after": after_line as i64, ":failed": failed, ":limit": limit as i64
    })?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES
        && let Some(row) = rows.next()?
    {
        let id = columns::id(row, 1)?;
        let output = match row.get::<_, i64>(4)? & columns::OUTPUT {
            0 => columns::optional_text(row, 3)?,
            _ => Some(payload(connection, id, columns::OUTPUT)?),
        };
        bytes += output.as_ref().map_or(0, |output| output.len());
        page.push(UnitResult {
            line: columns::unsigned(row, 0)?,
            id,
            status: columns::status(row, 2)?,
            output,
            failure: columns::json(row, 5)?,
        });
    }
    Ok(page)
}
