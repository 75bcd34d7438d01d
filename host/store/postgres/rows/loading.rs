//! Tasks are locked and read many at a time, with what their end asks for, before the kernel asks.

use tokio_postgres::Row;

use super::records::RECORDS;
use super::{PgRows, missing};
use crate::store::StoreError;
use crate::store::postgres::columns::{self, COLUMNS, GROUP_COLUMNS};
use crate::store::postgres::edges;
use crate::store::postgres::sql::{Step, named};
use crate::store::rows::{Brief, Standing};
use crate::store::unfinished::TOGETHER;
use crate::task::{StatusSet, Task, TaskId};

impl PgRows<'_> {
    /// Lock tasks and read them, with all that the end of one asks for: one way there and back,
    /// however many they are.
    pub fn load(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        let mut steps = self.gathered();
        let before = steps.len();
        steps.extend(loading(ids, false, "for update"));
        let found = self.link.together(steps)?;
        self.keep(ids, &found[before..])
    }

    /// Keep what [`loading`] has found.
    pub fn keep(&mut self, ids: &[TaskId], found: &[Vec<Row>]) -> Result<(), StoreError> {
        let [
            tasks,
            kin,
            groups,
            waits,
            downstreams,
            sources,
            unfinished,
            records,
        ] = found
        else {
            return Err(columns::damaged("an answer is missing".to_owned()));
        };
        self.keep_records(ids, records)?;
        let state = &mut *self.state;
        for &id in ids {
            state.is_locked(id, None);
        }
        for row in tasks.iter().chain(kin) {
            let (task, spilled) = columns::task(row)?;
            state.spilled.insert(task.id, spilled);
            state.is_locked(task.id, Some(task));
        }
        for row in groups {
            if let Some(Some(task)) = state.tasks.get_mut(&columns::id(row, 0)?) {
                columns::set_group(task, columns::group(row)?);
            }
        }
        for row in waits {
            let waits = state.waits.entry(columns::id(row, 0)?).or_default();
            waits.push(wait(row, 1)?);
        }
        for row in downstreams {
            let (downstream, edge) = edges::downstream(row)?;
            let known = state.downstreams.entry(edge.upstream).or_default();
            known.push((downstream, edge));
        }
        for row in sources {
            state.sources.insert(columns::id(row, 0)?, true);
        }
        for row in unfinished {
            state.unfinished.insert(columns::id(row, 0)?, true);
        }
        // There may be more than were read.
        state.waits.retain(|_, waits| waits.len() < TOGETHER);
        state.downstreams.retain(|_, known| known.len() < TOGETHER);
        Ok(())
    }

    fn load_standings(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        const SQL: &str = "\
            select id, status, blocked_by, kind, ended_at_ms, parent_id, origin_id
            from tasks
            where id = any(:ids)
            order by id
            for share";
        let found = self.many(SQL, named! { "ids": ids }, |row| {
            let status = columns::status(row, 1)?;
            let standing = Standing {
                status,
                blocked_by: columns::small(row, 2)?,
                group: columns::get::<&str>(row, 3)? != columns::HANDLER,
            };
            let brief = Brief {
                status,
                ended_at_ms: columns::optional_unsigned(row, 4)?,
                parent: columns::optional_id(row, 5)?,
                origin: columns::optional_id(row, 6)?,
            };
            Ok((columns::id(row, 0)?, (standing, brief)))
        })?;
        let standings = &mut self.state.standings;
        standings.extend(ids.iter().map(|&id| (id, None)));
        standings.extend(found.into_iter().map(|(id, found)| (id, Some(found))));
        Ok(())
    }

    pub(super) fn looked_at(
        &mut self,
        id: TaskId,
    ) -> Result<Option<(Standing, Brief)>, StoreError> {
        if let Some(known) = self.state.standings.get(&id) {
            return Ok(*known);
        }
        if let Some(known) = self.state.tasks.get(&id) {
            return Ok(known.as_ref().map(looks));
        }
        self.load_standings(&[id])?;
        Ok(self.state.standings.get(&id).copied().flatten())
    }
}

/// It will be asked where these stand.
pub fn expect(rows: &mut PgRows<'_>, ids: &[TaskId]) -> Result<(), StoreError> {
    let state = &*rows.state;
    let known = |id: &&TaskId| !state.standings.contains_key(id) && !state.tasks.contains_key(id);
    let unknown: Vec<TaskId> = ids.iter().filter(known).copied().collect();
    match unknown.len() {
        0 => Ok(()),
        _ => rows.load_standings(&unknown),
    }
}

/// It will be asked what these cannot end without.
pub fn look_ahead(rows: &mut PgRows<'_>, ids: &[TaskId]) -> Result<(), StoreError> {
    const AWAITED: &str = "\
        select waiter_id, target_id, stamp, wanted
        from waits
        where waiter_id = any(:ids)";
    // Two that begin to wait for each other at once would both see nothing.
    rows.only_alone()?;
    rows.load(ids)?;
    let steps = vec![
        Step::query(edges::UPSTREAMS, named! { "ids": ids }),
        Step::query(AWAITED, named! { "ids": ids }),
    ];
    let found = rows.link.together(steps)?;
    let [upstreams, awaited] = found.as_slice() else {
        return Err(missing());
    };
    let state = &mut *rows.state;
    for &id in ids {
        state.upstreams.insert(id, Vec::new());
        state.awaited.insert(id, Vec::new());
    }
    for row in upstreams {
        let (downstream, edge) = edges::downstream(row)?;
        state.upstreams.entry(downstream).or_default().push(edge);
    }
    for row in awaited {
        let known = state.awaited.entry(columns::id(row, 0)?).or_default();
        known.push(wait(row, 1)?);
    }
    Ok(())
}

/// Lock a group and read it, unless another host has it.
pub fn reach(rows: &mut PgRows<'_>, group: TaskId) -> Result<bool, StoreError> {
    const THERE: &str = "select 1 from tasks where id = :id";
    if rows.alone || rows.state.tasks.contains_key(&group) {
        return Ok(true);
    }
    let mut steps = rows.gathered();
    let before = steps.len();
    steps.extend(loading(&[group], false, "for update skip locked"));
    let found = rows.link.together(steps)?;
    let unseen = found.get(before).is_none_or(Vec::is_empty);
    // One that is gone is not waited for.
    if unseen
        && rows
            .one(THERE, named! { "id": group }, |_| Ok(()))?
            .is_some()
    {
        rows.pass_by();
        return Ok(false);
    }
    rows.keep(&[group], &found[before..])?;
    Ok(true)
}

/// Statements that lock tasks and read them, with all that the end of one asks for. What is read
/// after the lock is changed by nobody else until the commit. With `kin` the same for those that
/// wait for them and the groups that they are members of: all hosts lock those in one order.
pub fn loading(ids: &[TaskId], kin: bool, lock: &str) -> Vec<Step> {
    // Of very many that wait for one task the others are locked when their turn comes.
    let waiters = first_waits("array(select unnest(:ids::bigint[]))");
    let of_all = format!(
        "select waiter_id
         from ({waiters}) first
         where stamp >= 0
         union
         select parent_id
         from tasks
         where id = any(:ids) and member"
    );
    let none = "select null::bigint where false";
    let kin = if kin { of_all.as_str() } else { none };
    let all = format!("select unnest(:ids::bigint[]) union {kin}");
    let sqls = [
        format!("select {COLUMNS} from tasks where id = any(:ids) order by id {lock}"),
        format!(
            "select {COLUMNS} from tasks
             where id = any(array({kin})) and not id = any(:ids)
             order by id
             for update"
        ),
        format!("select {GROUP_COLUMNS} from groups where task_id = any(array({all}))"),
        first_waits(&format!("array({all})")),
        edges::downstreams_of(&format!("array({all})")),
        format!(
            "select task_id
             from sources
             where task_id = any(array({all})) and not drained"
        ),
        format!("select subject_id from unfinished where subject_id = any(array({all}))"),
        RECORDS.to_owned(),
    ];
    let step = |sql: &String| Step::query(sql, named! { "ids": ids });
    sqls.iter().map(step).collect()
}

/// The first that wait for tasks, by age; at most as many for each as are read together.
pub fn first_waits(ids: &str) -> String {
    format!(
        "select first.*
         from unnest({ids}) as one (id)
         cross join lateral (
           select target_id, waiter_id, stamp, wanted
           from waits
           where target_id = one.id
           order by waiter_id
           limit {TOGETHER}) first
         order by target_id, waiter_id"
    )
}

fn looks(task: &Task) -> (Standing, Brief) {
    let standing = Standing {
        status: task.status,
        blocked_by: task.blocked_by,
        group: task.group.is_some(),
    };
    let brief = Brief {
        status: task.status,
        ended_at_ms: task.ended_at_ms,
        parent: task.parent,
        origin: task.origin,
    };
    (standing, brief)
}

/// A wait, from the three columns of its row that begin at one.
pub fn wait(row: &Row, at: usize) -> Result<(TaskId, i64, StatusSet), StoreError> {
    let wanted: i64 = columns::get(row, at + 2)?;
    Ok((
        columns::id(row, at)?,
        columns::get(row, at + 1)?,
        StatusSet::from_bits(wanted as u8),
    ))
}
