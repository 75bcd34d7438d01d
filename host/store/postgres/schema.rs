//! The tables, and how an older database becomes one of today's.
//!
//! All of them lie in a schema of their own, `fishway`, so that the database may have other things in
//! it. Migrations only go forward, under an advisory lock, each in a transaction of its own. A
//! database with a higher number is left as it is.

use super::columns;
use super::engine::ALONE;
use super::randomness;
use super::secrets;
use super::sql::{Link, named};
use crate::store::StoreError;

/// Where our tables are.
pub const SCHEMA: &str = "fishway";

const MIGRATIONS: &[&str] = &[
    FIRST, SECOND, THIRD, FOURTH, FIFTH, EXCHANGES, HISTORIES, GATES, CANCELLED,
];

/// Text is compared by its bytes, as in the other engine, whatever the language of the database.
///
/// No foreign keys: a child outlives a parent that was deleted, and keeps its name. What is updated
/// often leaves room in its pages, so that a new version of a row lies beside the old one, and is
/// vacuumed early, by count and not by the share of a table that may be large.
const FIRST: &str = r#"
create table tasks (
  id bigint primary key,
  kind text collate "C" not null check (kind in ('handler', 'group')),
  scope_id bigint not null,
  gate_id bigint not null,
  member boolean not null,
  parent_id bigint,
  origin_id bigint,
  place_run bigint,
  place_call bigint,
  place_index bigint,
  content bigint,
  sequence bigint not null,
  retry_of bigint,
  depth bigint not null,
  handler text collate "C" not null,
  digest text collate "C" not null,
  key text collate "C",
  queue text collate "C" not null,
  priority bigint not null,
  input text,
  phase_input text,
  output text,
  spilled bigint not null,
  failure text,
  timeout_ms bigint,
  attempts_max bigint,
  on_complete text,
  status text collate "C" not null check (status in
    ('pending', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'expired', 'skipped')),
  phase text not null,
  attempt bigint not null check (attempt >= 0),
  restarts bigint not null check (restarts >= 0),
  fence bigint not null check (fence >= 0),
  run bigint not null check (run >= 0),
  blocked_by bigint not null check (blocked_by >= 0),
  run_at_ms bigint,
  expires_at_ms bigint,
  cancel_requested boolean not null,
  wait text,
  wait_until_ms bigint,
  progress text,
  created_at_ms bigint not null,
  started_at_ms bigint,
  run_at_start_ms bigint,
  ended_at_ms bigint,
  spent_ms bigint not null,
  orphan boolean not null default false,
  metadata text,
  optional boolean not null default false,
  producer text check (producer in ('open', 'hinted', 'closing')),
  -- The host that runs it, or on which its instance waits or waited; and until when that one goes first.
  host bigint,
  home_until_ms bigint,
  check ((status in ('pending', 'running', 'waiting')) = (ended_at_ms is null)),
  check (status <> 'waiting' or wait is not null),
  check (status <> 'running' or kind <> 'handler' or (digest <> '' and run_at_start_ms is not null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05);

-- Ready work, and nothing but ready work: its cost does not grow with history.
create index tasks_ready on tasks (queue, handler, gate_id, digest, priority desc, id)
  where status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler';
create index tasks_running on tasks (kind, queue) where status = 'running';
create index tasks_waiting on tasks (id) where status = 'waiting';
create index tasks_unusual on tasks (status, id) where status in ('failed', 'cancelled', 'expired', 'skipped');
create index tasks_blocked on tasks (queue) where status = 'pending' and blocked_by > 0;
create index tasks_scheduled on tasks (run_at_ms) where status = 'pending' and run_at_ms is not null;
create index tasks_expiring on tasks (expires_at_ms)
  where status = 'pending' and expires_at_ms is not null and started_at_ms is null;
create index tasks_wait_until on tasks (wait_until_ms) where status = 'waiting' and wait_until_ms is not null;
create index tasks_children on tasks (parent_id, sequence) where parent_id is not null;
create index tasks_key on tasks (key, parent_id) where key is not null;
create index tasks_retry_of on tasks (retry_of) where retry_of is not null;
create index tasks_origin on tasks (origin_id) where origin_id is not null;
create index tasks_tops on tasks (status, ended_at_ms, id)
  where ended_at_ms is not null and (parent_id is null or orphan);

create table payloads (
  task_id bigint not null,
  kind bigint not null check (kind in (1, 2, 4)),
  body text not null,
  primary key (task_id, kind)
);

-- A waiter's row names the wait by its stamp; a row whose stamp is not the waiter's means nothing.
create table waits (
  target_id bigint not null,
  waiter_id bigint not null,
  stamp bigint not null,
  wanted bigint not null,
  primary key (target_id, waiter_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
create index waits_waiter on waits (waiter_id);

create table edges (
  upstream_id bigint not null,
  downstream_id bigint not null,
  position bigint not null default 0,
  key text,
  condition text not null default 'success' check (condition in ('success', 'failure', 'any')),
  optional boolean not null default false,
  primary key (upstream_id, downstream_id)
);
create index edges_downstream on edges (downstream_id);

create table journal (
  task_id bigint not null,
  run bigint not null,
  number bigint not null,
  call text not null,
  answer text not null,
  at_ms bigint not null,
  primary key (task_id, run, number)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

create table attempts (
  task_id bigint not null,
  run bigint not null,
  phase text not null,
  attempt bigint not null,
  started_at_ms bigint not null,
  ended_at_ms bigint not null,
  failure text not null,
  primary key (task_id, run)
);

create table logs (
  task_id bigint not null,
  run bigint not null,
  line bigint not null,
  at_ms bigint not null,
  level text not null,
  message text not null,
  primary key (task_id, run, line)
);

create table checkpoints (
  task_id bigint not null,
  name text collate "C" not null,
  value text not null,
  primary key (task_id, name)
);

create table groups (
  task_id bigint primary key,
  scope_id bigint not null,
  kind text not null check (kind in ('pool', 'workflow', 'map', 'generator', 'job')),
  name text collate "C" not null,
  on_failure text not null check (on_failure in ('fail', 'fail-fast', 'collect', 'skip')),
  concurrency bigint check (concurrency > 0),
  closed boolean not null,
  sources bigint not null check (sources >= 0),
  live bigint not null check (live >= 0),
  spawned bigint not null check (spawned >= 0),
  completed bigint not null check (completed >= 0),
  failed bigint not null check (failed >= 0),
  skipped bigint not null check (skipped >= 0),
  spec text,
  sealed boolean not null default false,
  output_bytes bigint not null default 0 check (output_bytes >= 0),
  tolerated bigint not null default 0 check (tolerated >= 0),
  expected bigint not null default 0 check (expected >= 0),
  paused boolean not null default false,
  pace text
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index groups_name on groups (scope_id, name);
create index groups_kind on groups (kind, task_id);

-- Who may add members from outside, until it has drained; whether it was one from the start, and
-- whether it has no end of its own.
create table sources (
  task_id bigint not null,
  group_id bigint not null,
  run bigint not null,
  drained boolean not null,
  declared boolean not null default false,
  producer boolean not null default false,
  primary key (task_id, group_id)
);
create index sources_group on sources (group_id) where not drained;
create index sources_of on sources (group_id);
create index sources_producers on sources (group_id) where not drained and producer;

-- The clocks of producers; one that does not run is null, and so is the next to run out.
create table producers (
  task_id bigint primary key,
  idle_ms bigint,
  drain_ms bigint,
  idle_at_ms bigint,
  drain_at_ms bigint,
  next_ms bigint
);
create index producers_next on producers (next_ms) where next_ms is not null;

create table signals (
  task_id bigint not null,
  number bigint not null,
  name text collate "C" not null,
  value text not null,
  sent_at_ms bigint not null,
  primary key (task_id, number)
);
create index signals_name on signals (task_id, name, number);

-- Counts that outlive the tasks that they count; labels are JSON. Each process counts in rows of its
-- own, so that none waits for another.
create table counters (
  node bigint not null,
  name text collate "C" not null,
  labels text collate "C" not null,
  value double precision not null,
  primary key (node, name, labels)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Tasks whose own row is gone, and of whose other rows and children some may be left.
create table remainders (
  task_id bigint primary key,
  completed boolean not null
);

create table queues (
  name text collate "C" primary key,
  concurrency bigint check (concurrency > 0),
  paused boolean not null
);

-- `target` is the name of a handler, or a workflow's document.
create table schedules (
  name text collate "C" primary key,
  kind text not null check (kind in ('handler', 'workflow')),
  target text not null,
  input text not null,
  cron text,
  zone text,
  every_ms bigint check (every_ms > 0),
  from_ms bigint,
  missed text not null check (missed in ('skip', 'once', 'all')),
  overlap text not null check (overlap in ('allow', 'skip')),
  queue text,
  priority bigint,
  timeout_ms bigint,
  expires_ms bigint,
  attempts_max bigint,
  on_complete text,
  metadata text,
  paused boolean not null,
  next_at_ms bigint,
  last_task_id bigint,
  last_for_ms bigint,
  last_at_ms bigint,
  runs bigint not null check (runs >= 0),
  skipped bigint not null check (skipped >= 0),
  created_at_ms bigint not null,
  check ((cron is null) = (zone is null)),
  check ((every_ms is null) = (from_ms is null)),
  check ((cron is null) <> (every_ms is null)),
  check (not paused or next_at_ms is null)
);
create index schedules_next on schedules (next_at_ms) where next_at_ms is not null;

-- Who serves, or served: a row for each host.
create table hosts (
  number bigint primary key check (number > 0),
  pid bigint not null,
  started_ticks bigint,
  boot text,
  namespace text,
  version text not null,
  grace_ms bigint not null,
  since_ms bigint not null,
  heartbeat_at_ms bigint not null,
  stopping_at_ms bigint,
  ended_at_ms bigint,
  error text
) with (fillfactor = 50);

-- What each host has loaded, and from where. Number 0 is one that never took a lease.
create table directories (
  host bigint primary key,
  directory text not null
);
create table handlers (
  host bigint not null,
  name text collate "C" not null,
  digest text not null,
  description text,
  function text,
  generator boolean not null,
  primary key (host, name)
);

-- The files of handlers, by what is in them, so that a host serves what another has loaded.
create table components (
  digest text primary key,
  bytes bytea not null,
  manifest text
);
create table files (
  name text collate "C" primary key,
  digest text not null
);
"#;

/// The last transaction of each process that writes. No index but the key, so that a new version of a
/// row lies beside the old one.
const SECOND: &str = r#"
create table writers (
  writer bigint primary key,
  number bigint not null,
  at_ms bigint not null
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
"#;

/// Handlers by publisher, with their manifests: what one takes back, the others let go of. What was
/// shared before has no publisher that is known, and stays until it is published anew or taken out. And what
/// each host could not load, and how its handlers stand: totals are kept, so that nobody counts.
/// And what the random numbers of handlers are made from: a run that began before keeps number 0, as it has drawn
/// without a secret, and its replay has to draw the same.
const THIRD: &str = r#"
create table published (
  -- The data directory that published it, and the host that serves that directory, or did.
  publisher text collate "C" not null,
  name text collate "C" not null,
  digest text not null,
  manifest text,
  host bigint not null,
  directory text not null,
  -- Of several of one name, the one with the highest counts.
  revision bigint not null,
  changed_at_ms bigint not null,
  primary key (publisher, name)
);
create index published_name on published (name, revision);

-- Counts the changes, so that who follows them looks at one row.
create table publications (
  only_row boolean primary key check (only_row),
  revision bigint not null
);
insert into publications values (true, 1);

insert into published
select '', files.name, files.digest, components.manifest, 0, '', 1,
  (extract(epoch from clock_timestamp()) * 1000)::bigint
from files
join components on components.digest = files.digest;

-- The manifest of each handler that has a component: two may have the same one. The name is empty for what was
-- shared before that was told apart.
create table component_manifests (
  digest text not null references components (digest) on delete cascade,
  name text collate "C" not null,
  manifest text,
  primary key (digest, name)
);
insert into component_manifests
select digest, '', manifest from components
union all
select files.digest, files.name, components.manifest
from files
join components on components.digest = files.digest;
alter table components drop column manifest;
drop table files;

-- Since when nobody publishes it; it is kept for a while, for tasks that are just being claimed.
alter table components add column unpublished_at_ms bigint;
update components set unpublished_at_ms = 0
where digest not in (select digest from published);

create table broken_handlers (
  host bigint not null,
  name text collate "C" not null,
  file text not null,
  problem text not null,
  hint text not null,
  primary key (host, name)
);
create index broken_handlers_name on broken_handlers (name, host desc);
create index handlers_name on handlers (name, host desc);
alter table directories add column loaded bigint not null default 0;
alter table directories add column broken bigint not null default 0;
alter table directories add column loading bigint not null default 0;
alter table directories add column unwatched text;
update directories
set loaded = (select count(*) from handlers where handlers.host = directories.host);

-- What tasks go on with that have started and do not run: those alone whose component has to be there. A task
-- that runs through at its first attempt is never in it.
create index tasks_digests on tasks (digest)
  where digest <> '' and (status = 'pending' or status = 'waiting');

create table secrets (
  number bigint primary key check (number > 0),
  secret text collate "C" not null check (length(secret) = 64),
  made_at_ms bigint not null
);
alter table tasks add column secret_number bigint not null default 0 check (secret_number >= 0);

-- What a transaction has decided and left to later ones, since it concerns more rows than one may touch.
create table unfinished (
  subject_id bigint not null,
  number bigint not null check (number > 0),
  kind text not null,
  after_rank bigint not null,
  after_id bigint not null,
  bound bigint not null,
  status text,
  primary key (subject_id, number)
);

-- A group tells its sources in the order of their ids, some at a time.
drop index sources_group;
drop index sources_producers;
create index sources_group on sources (group_id, task_id) where not drained;
create index sources_producers on sources (group_id, task_id) where not drained and producer;
-- Whether a producer is left alone is asked for each of them.
create index sources_finite on sources (group_id) where not producer;
create index sources_finite_open on sources (group_id) where not drained and not producer;

-- Of what is read of a row; none of one that an earlier version wrote.
alter table tasks add column checksum bigint;
alter table groups add column checksum bigint;
alter table payloads add column checksum bigint;
alter table journal add column checksum bigint;
alter table attempts add column checksum bigint;
alter table logs add column checksum bigint;
alter table checkpoints add column checksum bigint;
alter table signals add column checksum bigint;
alter table schedules add column checksum bigint;
"#;

/// The values of steps of handlers.
const FOURTH: &str = r#"
create table steps (
  task_id bigint not null,
  name text collate "C" not null,
  value text not null,
  run bigint not null check (run >= 0),
  began bigint not null,
  completed bigint not null,
  at_ms bigint not null,
  log_lines bigint not null,
  log_bytes bigint not null,
  checksum bigint,
  primary key (task_id, name)
);
"#;

/// Named secrets and their shared state: the key that encrypts new values, and the salt of placeholders.
const FIFTH: &str = r#"
create table named_secrets (
  name text collate "C" primary key,
  kind text not null,
  reference text,
  key_id text,
  version bigint not null check (version > 0),
  created_at_ms bigint not null,
  updated_at_ms bigint not null,
  sealed text not null,
  checksum bigint not null,
  check ((kind = 'encrypted') = (key_id is not null)),
  check ((kind = 'encrypted') = (reference is null))
);

create table secret_state (
  only_row boolean primary key check (only_row),
  placeholder_salt text not null check (length(placeholder_salt) = 64),
  key_id text
);
"#;

/// Exchanges, which are HTTP requests of tasks: arrivals that the run has not taken, in order, and the host that holds
/// an exchange for a waiting task. The start and end of each arrival's text, counted since the mailbox was last empty,
/// give the size of a mailbox without a scan.
const EXCHANGES: &str = r#"
create table arrivals (
  task_id bigint not null,
  run bigint not null,
  number bigint not null check (number > 0),
  exchange bigint not null,
  value text not null,
  start_bytes bigint not null,
  end_bytes bigint not null,
  checksum bigint,
  primary key (task_id, run, number)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

create table exchanges (
  task_id bigint not null,
  run bigint not null,
  number bigint not null,
  host bigint not null,
  primary key (task_id, run, number)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
create index exchanges_host on exchanges (host, task_id, number);
"#;

/// Ended runs whose journal is kept for people, and for how long.
const HISTORIES: &str = r#"
create table histories (
  task_id bigint not null,
  run bigint not null,
  ended_at_ms bigint not null,
  primary key (task_id, run)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
create index histories_ended on histories (ended_at_ms, task_id, run);

create table history_keep (
  only_row bigint primary key check (only_row = 1),
  keep_ms bigint
);
"#;

/// Request limits that hosts share: one gate for each grant of a handler, and the places that hosts hold. Both change
/// often, and no statement reads more of them than one gate.
const GATES: &str = r#"
create table http_gates (
  gate text collate "C" primary key,
  handler text not null,
  full_at_us bigint not null check (full_at_us >= 0),
  used_at_us bigint not null
) with (fillfactor = 50);

create table http_places (
  gate text collate "C" not null,
  host bigint not null,
  held bigint not null check (held >= 0),
  want bigint not null check (want >= 0),
  since_ms bigint not null,
  primary key (gate, host)
) with (fillfactor = 50);
"#;

/// Cancelled members of groups, which were counted as failed ones. The checksum of such a group is of its earlier
/// counts, so it goes. An index for groups that are meant by their names. And what phases began after.
const CANCELLED: &str = r#"
alter table groups add column cancelled bigint not null default 0 check (cancelled >= 0);

-- Deadlines, and what else few tasks have.
alter table tasks add column ends_by_ms bigint;
alter table tasks add column terms text;
create index tasks_ending on tasks (ends_by_ms)
  where ends_by_ms is not null;

update groups
set cancelled = ends.many, failed = failed - ends.many, checksum = null
from (
  select parent_id, count(*) as many
  from tasks
  where status = 'cancelled' and member
    and not exists (select 1 from tasks later where later.retry_of = tasks.id and later.member)
  group by parent_id) as ends
where ends.parent_id = task_id and failed >= ends.many;

create index groups_named on groups (name, kind, task_id);

-- What the phase of a task began after, for a retry of it.
create table phase_waits (
  task_id bigint primary key,
  after text not null,
  timeout_ms bigint check (timeout_ms >= 0),
  timed_out boolean not null,
  checksum bigint
);
"#;

/// Bring the database to today's schema, whoever else is about to.
pub fn migrate(link: &Link, place: &str) -> Result<(), StoreError> {
    // Most of the time there is nothing to do, and nobody to wait for.
    if version(link, place)? == MIGRATIONS.len() as i64 {
        return Ok(());
    }
    // Each statement is to see what was committed before it: somebody else may be faster.
    link.plain("begin isolation level read committed")?;
    let migrated = migrate_locked(link, place);
    match &migrated {
        Ok(()) => link.plain("commit")?,
        Err(_) => {
            let _ = link.plain("rollback");
        }
    }
    migrated
}

fn migrate_locked(link: &Link, place: &str) -> Result<(), StoreError> {
    link.plain("select pg_advisory_xact_lock(hashtextextended('fishway schema', 0))")?;
    // What hosts of an older fishway are about to write is written before, and nothing after.
    link.plain(ALONE)?;
    // Another process may have been faster.
    let found = version(link, place)?;
    if found == 0 {
        link.plain(&format!(
            "create schema if not exists {SCHEMA};
             create table {SCHEMA}.version (only_row boolean primary key check (only_row), number bigint not null);
             insert into {SCHEMA}.version values (true, 0)"
        ))?;
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        link.plain(migration)?;
        let number = index as i64 + 1;
        link.change(
            "update version set number = :number",
            named! { "number": number },
        )?;
    }
    randomness::first(link)?;
    randomness::first(link)?;
    secrets::first(link)
}

/// The number of the database's schema, 0 when there is none of ours yet.
fn version(link: &Link, place: &str) -> Result<i64, StoreError> {
    const TABLES: &str = "\
        select count(*), count(*) filter (where tablename = 'version')
        from pg_tables
        where schemaname = :schema";
    let (tables, ours): (i64, i64) = link
        .one(TABLES, named! { "schema": SCHEMA }, |row| {
            Ok((columns::get(row, 0)?, columns::get(row, 1)?))
        })?
        .unwrap_or_default();
    if ours == 0 {
        return match tables {
            0 => Ok(0),
            _ => Err(StoreError::Foreign {
                path: place.into(),
                why: format!("another program made its schema \"{SCHEMA}\""),
            }),
        };
    }
    let found = link
        .one("select number from fishway.version", named! {}, |row| {
            columns::get(row, 0)
        })?
        .unwrap_or(0);
    refuse_newer(found, place)?;
    Ok(found)
}

/// Refuse a database that a newer fishway has brought up to its own schema.
pub fn refuse_newer(found: i64, place: &str) -> Result<(), StoreError> {
    let known = MIGRATIONS.len() as i64;
    match found > known {
        true => Err(StoreError::NewerSchema {
            path: place.into(),
            found,
            known,
        }),
        false => Ok(()),
    }
}
