//! What became of the units of a job, read in pages: a job of a million units is read in the memory of
//! one page.

use std::sync::LazyLock;

use rusqlite::{Connection, named_params};

use super::columns::{self, COLUMNS};
use super::rows::fill;
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
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "select {COLUMNS}
             from tasks
             where parent_id = :job and sequence > :after and member = 1 and ended_at_ms is not null
               and not (:failed and status = 'completed')
             order by sequence
             limit :limit"
        )
    });
    let mut statement = connection.prepare_cached(&SQL)?;
    let mut rows = statement.query(named_params! {
        ":job": job.to_i64(), ":after": after_line as i64, ":failed": failed, ":limit": limit as i64
    })?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES
        && let Some(row) = rows.next()?
    {
        let (mut task, spilled) = columns::task(row)?;
        fill(connection, &mut task, spilled & columns::OUTPUT)?;
        let result = UnitResult::of(task);
        bytes += result.output.as_ref().map_or(0, |output| output.len());
        page.push(result);
    }
    Ok(page)
}
