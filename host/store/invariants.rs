//! What holds of every database, whatever has happened to it: each invariant with the query that
//! finds what breaks it.
//!
//! One text for every engine: flags are conditions as they stand (`where member`), numbers in JSON
//! are read by `cast(json(x) ->> 'name' as bigint)`. `fishway doctor --deep` asks them of a live
//! database, and so do tests after whatever they did. They read, and mend nothing: where one is
//! broken, the program was wrong, or the disk.

use crate::task::TaskId;

/// Ids that a violation names; it counts the others.
pub const NAMED_MAX: u64 = 5;

/// Something that holds of every database.
#[derive(Debug, Clone, Copy)]
pub struct Invariant {
    /// Its name.
    pub name: &'static str,
    /// What holds, as a sentence.
    pub holds: &'static str,
    /// Finds the ids of the tasks of which it does not hold.
    pub sql: &'static str,
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub name: &'static str,
    /// What should hold, or what the engine says of its file.
    pub says: String,
    /// Of how many tasks it does not hold.
    pub count: u64,
    /// The first of them.
    pub tasks: Vec<TaskId>,
}

impl Invariant {
    /// Counts what breaks it.
    pub fn counting(&self) -> String {
        format!("select count(*) from ({}) as broken", self.sql)
    }

    /// Names the first of what breaks it.
    pub fn naming(&self) -> String {
        let sql = self.sql;
        format!("select id from ({sql}) as broken order by id limit {NAMED_MAX}")
    }

    /// It does not hold of these.
    pub fn broken(&self, count: u64, tasks: Vec<TaskId>) -> Violation {
        Violation {
            name: self.name,
            says: self.holds.to_owned(),
            count,
            tasks,
        }
    }
}

/// All of them.
pub const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "ended",
        holds: "a task has the time of its end when it has ended, and then nothing that it starts by",
        sql: "\
            select id
            from tasks
            where (status in ('pending', 'running', 'waiting')) <> (ended_at_ms is null)
               or (ended_at_ms is not null and (run_at_ms is not null or blocked_by > 0))",
    },
    Invariant {
        name: "result",
        holds: "a completed task has its output, and one that failed or was skipped says why",
        sql: "\
            select id
            from tasks
            where (status = 'completed' and output is null and (spilled & 4) = 0)
               or (status in ('failed', 'skipped') and failure is null)
               or (status in ('failed', 'skipped', 'cancelled', 'expired') and kind = 'handler'
                 and (output is not null or (spilled & 4) <> 0))",
    },
    Invariant {
        name: "input",
        holds: "a task has its input",
        sql: "\
            select id
            from tasks
            where input is null and (spilled & 1) = 0",
    },
    Invariant {
        name: "payloads",
        holds: "what a task keeps apart because it is long is there",
        sql: "\
            select id
            from tasks
            where ((spilled & 1) <> 0
                and not exists (select 1 from payloads where task_id = tasks.id and kind = 1))
               or ((spilled & 2) <> 0
                and not exists (select 1 from payloads where task_id = tasks.id and kind = 2))
               or ((spilled & 4) <> 0
                and not exists (select 1 from payloads where task_id = tasks.id and kind = 4))",
    },
    Invariant {
        name: "secret",
        holds: "a run in progress draws its random numbers from a secret that the database has",
        sql: "\
            select id
            from tasks
            where secret_number > 0 and ended_at_ms is null and run_at_start_ms is not null
              and not exists (select 1 from secrets where number = tasks.secret_number)",
    },
    Invariant {
        name: "claim",
        holds: "a task that runs was claimed: it has a token, an attempt, a component and the times of its start",
        sql: "\
            select id
            from tasks
            where status = 'running' and kind = 'handler'
              and (fence = 0 or attempt = 0 or digest = '' or started_at_ms is null or run_at_start_ms is null)",
    },
    Invariant {
        name: "attempts",
        holds: "no task has more attempts than it may have",
        sql: "\
            select id
            from tasks
            where attempts_max is not null and attempt > attempts_max",
    },
    Invariant {
        name: "component",
        holds: "a task that goes on with a run knows the component of that run",
        sql: "\
            select id
            from tasks
            where status in ('pending', 'running', 'waiting') and kind = 'handler'
              and run_at_start_ms is not null and digest = ''",
    },
    Invariant {
        name: "stopped",
        holds: "a task that was asked to stop runs, or has ended",
        sql: "\
            select id
            from tasks
            where status in ('pending', 'waiting') and kind = 'handler'
              and (cancel_requested or producer = 'closing')",
    },
    Invariant {
        name: "blocked",
        holds: "a task that has not started is held back by exactly those upstreams of whose end it has not heard",
        sql: "\
            select id
            from tasks
            where status = 'pending' and started_at_ms is null
              and (blocked_by > 0 or exists (select 1 from edges where downstream_id = tasks.id))
              and blocked_by <> (
                select count(*)
                from edges
                join tasks upstream on upstream.id = edges.upstream_id
                where edges.downstream_id = tasks.id
                  and (exists (
                      select 1
                      from unfinished
                      where subject_id = upstream.id and kind = 'dependents' and after_id < tasks.id)
                    or upstream.ended_at_ms is null)
                  and not exists (
                    select 1
                    from unfinished
                    where subject_id = upstream.id and kind = 'reopened'
                      and after_id < tasks.id and tasks.id <= bound
                      and (edges.optional or edges.condition = 'any'
                        or (edges.condition = 'success' and unfinished.status = 'completed')
                        or (edges.condition = 'failure'
                          and unfinished.status in ('failed', 'expired', 'cancelled')))))
            union all
            select id
            from tasks
            where blocked_by > 0 and (status <> 'pending' or started_at_ms is not null)",
    },
    Invariant {
        name: "lost",
        holds: "no task waits to start after one that ended in another way than it needs",
        sql: "\
            select tasks.id
            from tasks
            join edges on edges.downstream_id = tasks.id
            join tasks upstream on upstream.id = edges.upstream_id
            where tasks.status = 'pending' and tasks.started_at_ms is null
              and upstream.ended_at_ms is not null and not edges.optional
              and not exists (
                select 1
                from unfinished
                where subject_id = upstream.id and kind in ('dependents', 'reopened') and after_id < tasks.id)
              and ((edges.condition = 'success' and upstream.status <> 'completed')
                or (edges.condition = 'failure' and upstream.status not in ('failed', 'expired', 'cancelled')))",
    },
    Invariant {
        name: "wait-over",
        holds: "no task waits for one that is there already",
        sql: "\
            select waiter.id
            from tasks waiter
            join waits on waits.waiter_id = waiter.id
            left join tasks target on target.id = waits.target_id
            where waiter.status = 'waiting'
              and waits.stamp = ((waiter.run << 32) | coalesce(cast(json(waiter.wait) ->> 'call' as bigint), 0))
              and (target.id is null or target.ended_at_ms is not null
                or (waits.wanted & (case target.status
                  when 'pending' then 1 when 'running' then 2 else 4 end)) <> 0)
              and not exists (
                select 1
                from unfinished
                where subject_id = waits.target_id and kind = 'waiters' and after_id < waiter.id
                  and waiter.id <= bound)",
    },
    Invariant {
        name: "wait-lost",
        holds: "whatever a task waits for knows of it: each that is missing, or room for a page of items, or a wait that is still being renewed",
        sql: "\
            select id
            from (
              select id, wait_until_ms,
                cast(json(wait) ->> 'remaining' as bigint) as remaining,
                (select count(*)
                 from waits
                 where waiter_id = tasks.id
                   and stamp = ((run << 32) | coalesce(cast(json(wait) ->> 'call' as bigint), 0))) as known
              from tasks
              where status = 'waiting' and (json(wait) ->> 'signal') is null
                and (json(wait) ->> 'exchange') is null) as waiting
            where remaining < 1
               or (remaining > known and (remaining > 1 or wait_until_ms is null)
                 and not exists (
                   select 1
                   from unfinished
                   where subject_id = waiting.id and unfinished.kind = 'renew')
                 and not exists (
                   select 1
                   from sources
                   join groups on groups.task_id = sources.group_id
                   where sources.task_id = waiting.id and groups.kind = 'generator'
                     and ((not sources.drained and groups.live > 0)
                       or (groups.closed and exists (
                         select 1
                         from unfinished
                         where (subject_id = waiting.id and unfinished.kind = 'cancel')
                           or (subject_id = groups.task_id and unfinished.kind in ('below', 'members')))))))",
    },
    Invariant {
        name: "wait-signal",
        holds: "no task waits for a signal that it has been sent",
        sql: "\
            select id
            from tasks
            where status = 'waiting' and exists (
              select 1
              from signals
              where task_id = tasks.id and name = (json(tasks.wait) ->> 'signal'))",
    },
    Invariant {
        name: "wait-exchange",
        holds: "a task that waits for its exchanges has taken all arrivals, and more can come",
        sql: "\
            select id
            from tasks
            where status = 'waiting' and (json(wait) ->> 'exchange') is not null
              and (exists (select 1 from arrivals where task_id = tasks.id and run = tasks.run)
                or not exists (select 1 from exchanges where task_id = tasks.id and run = tasks.run))",
    },
    Invariant {
        name: "wait-clock",
        holds: "the clock of a wait is the one that is looked at",
        sql: "\
            select id
            from tasks
            where status = 'waiting'
              and wait_until_ms is distinct from cast(json(wait) ->> 'until_ms' as bigint)",
    },
    Invariant {
        name: "group-rows",
        holds: "groups, and no others, have the counts of a group",
        sql: "\
            select id
            from tasks
            where kind = 'group' and not exists (select 1 from groups where task_id = tasks.id)
            union all
            select id
            from groups
            join tasks on tasks.id = groups.task_id
            where tasks.kind <> 'group'",
    },
    Invariant {
        name: "group-live",
        holds: "a group counts as many members that have not ended as there are",
        sql: "\
            select task_id as id
            from groups
            where live <> (
              select count(*)
              from tasks
              where parent_id = groups.task_id and member and ended_at_ms is null)
              and exists (select 1 from tasks where id = groups.task_id)",
    },
    Invariant {
        name: "group-sum",
        holds: "each member of a group is counted once, whatever became of it",
        sql: "\
            select task_id as id
            from groups
            where spawned <> live + completed + failed + cancelled + skipped
               or tolerated > failed + cancelled
               or spawned < (select count(*) from tasks where parent_id = groups.task_id and member)",
    },
    Invariant {
        name: "group-ends",
        holds: "a group counts its members by their ends",
        sql: "\
            select id
            from (
              select groups.task_id as id, groups.completed, groups.failed, groups.cancelled,
                groups.skipped, groups.tolerated, groups.spawned,
                count(*) as members,
                count(*) filter (where status = 'completed') as are_completed,
                count(*) filter (where status = 'skipped') as are_skipped,
                count(*) filter (where status in ('failed', 'expired')) as have_failed,
                count(*) filter (where status = 'cancelled') as are_cancelled,
                count(*) filter (where status in ('failed', 'expired', 'cancelled') and optional) as may_fail,
                count(*) filter (where retry_of is not null) as tries
              from groups
              join tasks on tasks.parent_id = groups.task_id and tasks.member
              group by groups.task_id, groups.completed, groups.failed, groups.cancelled,
                groups.skipped, groups.tolerated, groups.spawned) as counted
            where members = spawned and tries = 0
              and (completed <> are_completed or skipped <> are_skipped or failed <> have_failed
                or cancelled <> are_cancelled or tolerated <> may_fail)",
    },
    Invariant {
        name: "group-sources",
        holds: "a group counts as many open sources as there are, and what it has to do before it may end",
        sql: "\
            select task_id as id
            from groups
            where sources <> (select count(*) from sources where group_id = groups.task_id and not drained)
                + (select count(*)
                   from unfinished
                   where subject_id = groups.task_id
                     and (kind in ('items', 'outputs') or (kind = 'retry' and bound = 1)))
                + (select count(*)
                   from unfinished
                   join tasks member on member.id = subject_id
                   where unfinished.kind = 'restore' and bound = 1 and member.member
                     and member.parent_id = groups.task_id)
              and exists (select 1 from tasks where id = groups.task_id)",
    },
    Invariant {
        name: "group-over",
        holds: "a group to which nothing can come any more has ended",
        sql: "\
            select id
            from groups
            join tasks on tasks.id = groups.task_id
            where tasks.ended_at_ms is null and (groups.spec is null or tasks.status = 'running')
              and groups.sources = 0 and groups.live = 0
              and (groups.kind <> 'job' or groups.spawned >= groups.expected or groups.closed)",
    },
    Invariant {
        name: "group-ended",
        holds: "a group that has ended has no open source, and no member that lives unless it completed",
        sql: "\
            select id
            from groups
            join tasks on tasks.id = groups.task_id
            where tasks.ended_at_ms is not null
              and (groups.sources > 0 or (groups.live > 0 and tasks.status <> 'completed'))",
    },
    Invariant {
        name: "group-begun",
        holds: "a map or a generator that nothing holds back has begun",
        sql: "\
            select id
            from groups
            join tasks on tasks.id = groups.task_id
            where groups.spec is not null and tasks.status = 'pending' and tasks.blocked_by = 0
              and tasks.run_at_ms is null",
    },
    Invariant {
        name: "group-limit",
        holds: "no more members of a group run at once than it allows",
        sql: "\
            select groups.task_id as id
            from groups
            join tasks on tasks.gate_id = groups.task_id
            where tasks.status = 'running' and tasks.kind = 'handler' and groups.concurrency is not null
            group by groups.task_id, groups.concurrency
            having count(*) > groups.concurrency",
    },
    Invariant {
        name: "sources",
        holds: "a source that has ended, or whose group has, adds no more",
        sql: "\
            select sources.task_id as id
            from sources
            left join tasks source on source.id = sources.task_id
            left join tasks pool on pool.id = sources.group_id
            where not sources.drained
              and ((source.ended_at_ms is not null
                  and not exists (
                    select 1
                    from unfinished
                    where subject_id = source.id and kind = 'groups' and after_id < sources.group_id))
                or (pool.ended_at_ms is not null
                  and not exists (
                    select 1
                    from unfinished
                    where subject_id = pool.id and kind = 'sources' and after_id < sources.task_id)))",
    },
    Invariant {
        name: "producers",
        holds: "the clock of a producer that is looked at is its next, and runs while it lives",
        sql: "\
            select task_id as id
            from producers
            left join tasks on tasks.id = producers.task_id
            where next_ms is distinct from (case
                when idle_at_ms is null then drain_at_ms
                when drain_at_ms is null or idle_at_ms < drain_at_ms then idle_at_ms
                else drain_at_ms end)
               or (next_ms is not null and (tasks.ended_at_ms is not null or tasks.producer is null))",
    },
    Invariant {
        name: "signals",
        holds: "only tasks that live, and are no groups, have signals",
        sql: "\
            select distinct tasks.id
            from signals
            join tasks on tasks.id = signals.task_id
            where (tasks.ended_at_ms is not null
                and not exists (select 1 from unfinished where subject_id = tasks.id and kind = 'signals'))
               or tasks.kind <> 'handler'",
    },
    Invariant {
        name: "journal",
        holds: "only the run that goes on has a journal",
        sql: "\
            select distinct tasks.id
            from journal
            join tasks on tasks.id = journal.task_id
            where (tasks.ended_at_ms is not null or journal.run <> tasks.run)
              and not exists (
                select 1
                from unfinished
                where subject_id = tasks.id and kind = 'journal' and journal.run <= bound)
              and not exists (
                select 1
                from histories
                where histories.task_id = tasks.id and histories.run = journal.run)",
    },
    Invariant {
        name: "histories",
        holds: "histories are only kept for ended runs",
        sql: "\
            select distinct tasks.id
            from histories
            join tasks on tasks.id = histories.task_id
            where histories.run > tasks.run or (histories.run = tasks.run and tasks.ended_at_ms is null)",
    },
    Invariant {
        name: "steps",
        holds: "only tasks that have not completed have steps, and none is from a later run",
        sql: "\
            select distinct tasks.id
            from steps
            join tasks on tasks.id = steps.task_id
            where (tasks.status = 'completed' or tasks.kind <> 'handler' or steps.run > tasks.run)
              and not exists (
                select 1
                from unfinished
                where subject_id = tasks.id and kind = 'steps' and steps.run <= bound)",
    },
    Invariant {
        name: "exchanges",
        holds: "only the run that goes on has exchanges and arrivals",
        sql: "\
            select distinct tasks.id
            from (
              select task_id, run from arrivals
              union
              select task_id, run from exchanges) as of_run
            join tasks on tasks.id = of_run.task_id
            where (tasks.ended_at_ms is not null or of_run.run <> tasks.run)
              and not exists (
                select 1
                from unfinished
                where subject_id = tasks.id and kind in ('journal', 'exchanges') and of_run.run <= bound)",
    },
    Invariant {
        name: "keys",
        holds: "a key names one task among those without a parent",
        sql: "\
            select min(id) as id
            from tasks
            where key is not null and parent_id is null
            group by key
            having count(*) > 1",
    },
    Invariant {
        name: "parents",
        holds: "a task whose parent was deleted is known to stand alone",
        sql: "\
            select id
            from tasks
            where parent_id is not null and not orphan
              and not exists (select 1 from tasks parent where parent.id = tasks.parent_id)
              and not exists (select 1 from remainders where remainders.task_id = tasks.parent_id)",
    },
    Invariant {
        name: "remainders",
        holds: "what is left of a deleted task is either known to be left, or nothing",
        sql: "\
            select left_over.id
            from (
              select task_id as id from payloads
              union select task_id from journal
              union select task_id from attempts
              union select task_id from logs
              union select task_id from checkpoints
              union select task_id from steps
              union select task_id from phase_waits
              union select task_id from signals
              union select task_id from arrivals
              union select task_id from exchanges
              union select task_id from histories
              union select task_id from producers
              union select task_id from groups
              union select task_id from sources
              union select group_id from sources
              union select target_id from waits
              union select waiter_id from waits
              union select downstream_id from edges) as left_over
            where not exists (select 1 from tasks where tasks.id = left_over.id)
              and not exists (select 1 from remainders where remainders.task_id = left_over.id)
            union all
            select task_id
            from remainders
            join tasks on tasks.id = remainders.task_id",
    },
];
