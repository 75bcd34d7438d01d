//! What became of the units of a job, read in pages: a job of a million units is read in the memory of
//! one page.

use std::sync::LazyLock;

use super::columns::{self, COLUMNS};
use super::items::fill_outputs;
use super::sql::{Link, named};
use crate::job::UnitResult;
use crate::store::StoreError;
use crate::task::TaskId;

/// A page ends when its outputs are longer than this.
const PAGE_BYTES: usize = 1 << 20;

/// See [`Store::unit_results`](crate::store::Store::unit_results).
pub fn unit_results(
    link: &Link,
    job: TaskId,
    after_line: u64,
    failed: bool,
    limit: u64,
) -> Result<Vec<UnitResult>, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "select {COLUMNS}
             from tasks
             where parent_id = :job and sequence > :after and member and ended_at_ms is not null
               and not (:failed and status = 'completed')
             order by sequence
             limit :limit"
        )
    });
    let rows = link.rows(
        &SQL,
        named! {
            "job": job.to_i64(), "after": after_line as i64, "failed": failed, "limit": limit as i64
        },
    )?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    for row in &rows {
        if bytes >= PAGE_BYTES {
            break;
        }
        let mut found = [columns::task(row)?];
        fill_outputs(link, &mut found)?;
        let [(task, _)] = found;
        let result = UnitResult::of(task);
        bytes += result.output.as_ref().map_or(0, |output| output.len());
        page.push(result);
    }
    Ok(page)
}
