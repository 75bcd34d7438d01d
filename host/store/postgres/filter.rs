//! A page of the tasks that pass a filter.

use super::columns::{self, COLUMNS};
use super::rows;
use super::sql::{Link, Value};
use crate::store::filter::{Bound, Conditions};
use crate::store::{Filter, StoreError};
use crate::task::Task;

/// Whether a member of the metadata is a text, a number or a truth value that is written so. A text that this server cannot
/// hold would be an error of the whole page, so metadata with one is passed over.
pub const MEMBER: &str = r"case
  when strpos(metadata, '\u0000') = 0 and json_typeof(cast(metadata as json) -> :member) not in ('object', 'array')
  then cast(metadata as json) ->> :member end = :value";

/// What is bound to the conditions of a filter.
pub fn bound(conditions: &Conditions) -> Vec<(&str, Value)> {
    let value = |bound: &Bound| match bound {
        Bound::Text(text) => text.into(),
        Bound::Id(id) => (*id).into(),
        Bound::Number(rows) => (*rows).min(i64::MAX as u64).into(),
    };
    let bound = conditions.bound().iter();
    bound
        .map(|(name, bound)| (name.trim_start_matches(':'), value(bound)))
        .collect()
}

/// Tasks that pass a filter, a page of them.
pub fn list(link: &Link, filter: &Filter) -> Result<Vec<Task>, StoreError> {
    let mut conditions = Conditions::of(filter, MEMBER);
    let order = match filter.parent {
        None => "id desc",
        Some(_) => "sequence, id",
    };
    if let Some(after) = filter.after {
        conditions.after(after, filter.parent.is_some());
    }
    let page = conditions.page(filter);
    let sql = format!(
        "select {COLUMNS} from tasks where {} order by {order} {page}",
        conditions.text()
    );
    let mut found = link.many(&sql, &bound(&conditions), columns::task)?;
    if let (Some(bytes_max), false) = (filter.bytes_max, filter.brief) {
        let apart = rows::bytes_apart(link, &found)?;
        found.truncate(rows::until_full(&found, &apart, bytes_max));
    }
    rows::whole(link, found, filter.brief)
}
