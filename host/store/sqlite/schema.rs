//! The tables, and how an older database becomes one of today's.
//!
//! Migrations only go forward, each in a transaction of its own with its number in
//! `user_version`. A database with a higher number is left as it is.

use std::path::Path;

use rusqlite::Connection;

use super::moved::{MOVED_ID, is_moved};
use super::{explain, randomness, secrets};
use crate::store::StoreError;

/// Marks the file as ours: "Fish" in ASCII.
pub const APPLICATION_ID: i64 = 0x4669_7368;

const MIGRATIONS: &[&str] = &[
    FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH, SEVENTH, LEASE, NINTH, TENTH, ELEVENTH, TWELFTH,
    EXCHANGES, HISTORIES, CANCELLED,
];

/// No foreign keys: a child outlives a parent that was deleted, and keeps its name.
///
/// `input`, `phase_input` and `output` hold small payloads; a large one is a row of `payloads`,
/// so that a change of status does not copy it, and its bit is set in `spilled`.
const FIRST: &str = "
create table tasks (
  id integer primary key,
  parent_id integer,
  origin_id integer,
  place_run integer,
  place_call integer,
  place_index integer,
  content integer,
  sequence integer not null,
  retry_of integer,
  depth integer not null,
  handler text not null,
  digest text not null,
  key text,
  queue text not null,
  priority integer not null,
  input text,
  phase_input text,
  output text,
  spilled integer not null,
  failure text,
  timeout_ms integer,
  attempts_max integer,
  on_complete text,
  status text not null check (status in
    ('pending', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'expired', 'skipped')),
  phase text not null,
  attempt integer not null check (attempt >= 0),
  restarts integer not null check (restarts >= 0),
  fence integer not null check (fence >= 0),
  run integer not null check (run >= 0),
  blocked_by integer not null check (blocked_by >= 0),
  run_at_ms integer,
  expires_at_ms integer,
  cancel_requested integer not null check (cancel_requested in (0, 1)),
  wait text,
  wait_until_ms integer,
  progress text,
  created_at_ms integer not null,
  started_at_ms integer,
  run_at_start_ms integer,
  ended_at_ms integer,
  spent_ms integer not null,
  check ((status in ('pending', 'running', 'waiting')) = (ended_at_ms is null)),
  check (status <> 'waiting' or wait is not null),
  check (status <> 'running' or (digest <> '' and run_at_start_ms is not null))
) strict;

-- Ready work, and nothing but ready work: its cost does not grow with history.
create index tasks_ready on tasks (queue, handler, digest, priority desc, id)
  where status = 'pending' and blocked_by = 0 and run_at_ms is null;
create index tasks_running on tasks (id) where status = 'running';
create index tasks_waiting on tasks (id) where status = 'waiting';
create index tasks_unusual on tasks (status, id) where status in ('failed', 'cancelled', 'expired', 'skipped');
create index tasks_scheduled on tasks (run_at_ms) where status = 'pending' and run_at_ms is not null;
create index tasks_expiring on tasks (expires_at_ms)
  where status = 'pending' and expires_at_ms is not null and started_at_ms is null;
create index tasks_wait_until on tasks (wait_until_ms) where status = 'waiting' and wait_until_ms is not null;
create index tasks_children on tasks (parent_id, sequence) where parent_id is not null;
create index tasks_key on tasks (key, parent_id) where key is not null;
create index tasks_retry_of on tasks (retry_of) where retry_of is not null;

create table payloads (
  task_id integer not null,
  kind integer not null check (kind in (1, 2, 4)),
  body text not null,
  primary key (task_id, kind)
) strict;

-- A waiter's row names the wait by its stamp; a row whose stamp is not the waiter's means nothing.
create table waits (
  target_id integer not null,
  waiter_id integer not null,
  stamp integer not null,
  wanted integer not null,
  primary key (target_id, waiter_id)
) strict, without rowid;

create table edges (
  upstream_id integer not null,
  downstream_id integer not null,
  primary key (upstream_id, downstream_id)
) strict, without rowid;
create index edges_downstream on edges (downstream_id);

create table journal (
  task_id integer not null,
  run integer not null,
  number integer not null,
  call text not null,
  answer text not null,
  at_ms integer not null,
  primary key (task_id, run, number)
) strict, without rowid;

create table attempts (
  task_id integer not null,
  run integer not null,
  phase text not null,
  attempt integer not null,
  started_at_ms integer not null,
  ended_at_ms integer not null,
  failure text not null,
  primary key (task_id, run)
) strict, without rowid;

create table logs (
  task_id integer not null,
  run integer not null,
  line integer not null,
  at_ms integer not null,
  level text not null,
  message text not null,
  primary key (task_id, run, line)
) strict, without rowid;

create table checkpoints (
  task_id integer not null,
  name text not null,
  value text not null,
  primary key (task_id, name)
) strict, without rowid;

create table handlers (
  name text primary key,
  digest text not null,
  description text
) strict, without rowid;

create table host (
  only_row integer primary key check (only_row = 1),
  directory text not null
) strict;
";

/// Groups: tasks that contain tasks and have no code. A task gets its scope (the root of its tree:
/// within it a pool's name means one pool) and its gate (the group whose limit it runs under).
/// Signals, and counts that outlive the tasks that they count.
const SECOND: &str = "
create table tasks_2 (
  id integer primary key,
  kind text not null check (kind in ('handler', 'pool')),
  scope_id integer not null,
  gate_id integer not null,
  member integer not null check (member in (0, 1)),
  parent_id integer,
  origin_id integer,
  place_run integer,
  place_call integer,
  place_index integer,
  content integer,
  sequence integer not null,
  retry_of integer,
  depth integer not null,
  handler text not null,
  digest text not null,
  key text,
  queue text not null,
  priority integer not null,
  input text,
  phase_input text,
  output text,
  spilled integer not null,
  failure text,
  timeout_ms integer,
  attempts_max integer,
  on_complete text,
  status text not null check (status in
    ('pending', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'expired', 'skipped')),
  phase text not null,
  attempt integer not null check (attempt >= 0),
  restarts integer not null check (restarts >= 0),
  fence integer not null check (fence >= 0),
  run integer not null check (run >= 0),
  blocked_by integer not null check (blocked_by >= 0),
  run_at_ms integer,
  expires_at_ms integer,
  cancel_requested integer not null check (cancel_requested in (0, 1)),
  wait text,
  wait_until_ms integer,
  progress text,
  created_at_ms integer not null,
  started_at_ms integer,
  run_at_start_ms integer,
  ended_at_ms integer,
  spent_ms integer not null,
  check ((status in ('pending', 'running', 'waiting')) = (ended_at_ms is null)),
  check (status <> 'waiting' or wait is not null),
  check (status <> 'running' or kind <> 'handler' or (digest <> '' and run_at_start_ms is not null))
) strict;

with recursive scopes (id, scope_id) as (
  select id, id
  from tasks
  where parent_id is null or parent_id not in (select id from tasks)
  union all
  select tasks.id, scopes.scope_id
  from scopes
  join tasks on tasks.parent_id = scopes.id
)
insert into tasks_2 (kind, scope_id, gate_id, member,
  id, parent_id, origin_id, place_run, place_call, place_index, content, sequence, retry_of, depth, handler,
  digest, key, queue, priority, input, phase_input, output, spilled, failure, timeout_ms, attempts_max,
  on_complete, status, phase, attempt, restarts, fence, run, blocked_by, run_at_ms, expires_at_ms,
  cancel_requested, wait, wait_until_ms, progress, created_at_ms, started_at_ms, run_at_start_ms, ended_at_ms,
  spent_ms)
select 'handler', (select scope_id from scopes where scopes.id = tasks.id), 0, 0,
  id, parent_id, origin_id, place_run, place_call, place_index, content, sequence, retry_of, depth, handler,
  digest, key, queue, priority, input, phase_input, output, spilled, failure, timeout_ms, attempts_max,
  on_complete, status, phase, attempt, restarts, fence, run, blocked_by, run_at_ms, expires_at_ms,
  cancel_requested, wait, wait_until_ms, progress, created_at_ms, started_at_ms, run_at_start_ms, ended_at_ms,
  spent_ms
from tasks;

drop table tasks;
alter table tasks_2 rename to tasks;

-- Ready work, and nothing but ready work: its cost does not grow with history.
create index tasks_ready on tasks (queue, handler, gate_id, digest, priority desc, id)
  where status = 'pending' and blocked_by = 0 and run_at_ms is null;
create index tasks_running on tasks (id) where status = 'running';
create index tasks_waiting on tasks (id) where status = 'waiting';
create index tasks_unusual on tasks (status, id) where status in ('failed', 'cancelled', 'expired', 'skipped');
create index tasks_scheduled on tasks (run_at_ms) where status = 'pending' and run_at_ms is not null;
create index tasks_expiring on tasks (expires_at_ms)
  where status = 'pending' and expires_at_ms is not null and started_at_ms is null;
create index tasks_wait_until on tasks (wait_until_ms) where status = 'waiting' and wait_until_ms is not null;
create index tasks_children on tasks (parent_id, sequence) where parent_id is not null;
create index tasks_key on tasks (key, parent_id) where key is not null;
create index tasks_retry_of on tasks (retry_of) where retry_of is not null;

create index tasks_origin on tasks (origin_id) where origin_id is not null;

create table groups (
  task_id integer primary key,
  scope_id integer not null,
  name text not null,
  on_failure text not null check (on_failure in ('fail', 'fail-fast', 'collect', 'skip')),
  concurrency integer check (concurrency > 0),
  closed integer not null check (closed in (0, 1)),
  sources integer not null check (sources >= 0),
  live integer not null check (live >= 0),
  spawned integer not null check (spawned >= 0),
  completed integer not null check (completed >= 0),
  failed integer not null check (failed >= 0),
  skipped integer not null check (skipped >= 0)
) strict;
create index groups_name on groups (scope_id, name);

-- Who may add members from outside, until it has drained.
create table sources (
  task_id integer not null,
  group_id integer not null,
  run integer not null,
  drained integer not null check (drained in (0, 1)),
  primary key (task_id, group_id)
) strict, without rowid;
create index sources_group on sources (group_id) where drained = 0;

create table signals (
  task_id integer not null,
  number integer not null,
  name text not null,
  value text not null,
  sent_at_ms integer not null,
  primary key (task_id, number)
) strict, without rowid;
create index signals_name on signals (task_id, name, number);

-- Counts that outlive the tasks that they count; labels are JSON.
create table counters (
  name text not null,
  labels text not null,
  value real not null,
  primary key (name, labels)
) strict, without rowid;

create index waits_waiter on waits (waiter_id);
";

/// Deletion: which ended tasks stand at the top of a tree, and what is left of deleted ones.
const THIRD: &str = "
-- The row of its parent was deleted, and it was not.
alter table tasks add column orphan integer not null default 0 check (orphan in (0, 1));
update tasks set orphan = 1 where parent_id is not null and parent_id not in (select id from tasks);

create index tasks_tops on tasks (status, ended_at_ms, id)
  where ended_at_ms is not null and (parent_id is null or orphan = 1);

-- Tasks whose own row is gone, and of whose other rows and children some may be left: a large tree
-- is deleted in many transactions, and the next sweep goes on where a dead process stopped.
create table remainders (
  task_id integer primary key,
  completed integer not null check (completed in (0, 1))
) strict;

create index sources_of on sources (group_id);
";

/// What whoever submits a task wants to find again.
const FOURTH: &str = "alter table tasks add column metadata text";

/// Workflows, maps, generators and jobs: more kinds of groups. Edges say by which ends of the
/// upstream they open; a job can be paused, and tells how fast it is.
const FIFTH: &str = "
create table tasks_5 (
  id integer primary key,
  kind text not null check (kind in ('handler', 'group')),
  scope_id integer not null,
  gate_id integer not null,
  member integer not null check (member in (0, 1)),
  parent_id integer,
  origin_id integer,
  place_run integer,
  place_call integer,
  place_index integer,
  content integer,
  sequence integer not null,
  retry_of integer,
  depth integer not null,
  handler text not null,
  digest text not null,
  key text,
  queue text not null,
  priority integer not null,
  input text,
  phase_input text,
  output text,
  spilled integer not null,
  failure text,
  timeout_ms integer,
  attempts_max integer,
  on_complete text,
  status text not null check (status in
    ('pending', 'running', 'waiting', 'completed', 'failed', 'cancelled', 'expired', 'skipped')),
  phase text not null,
  attempt integer not null check (attempt >= 0),
  restarts integer not null check (restarts >= 0),
  fence integer not null check (fence >= 0),
  run integer not null check (run >= 0),
  blocked_by integer not null check (blocked_by >= 0),
  run_at_ms integer,
  expires_at_ms integer,
  cancel_requested integer not null check (cancel_requested in (0, 1)),
  wait text,
  wait_until_ms integer,
  progress text,
  created_at_ms integer not null,
  started_at_ms integer,
  run_at_start_ms integer,
  ended_at_ms integer,
  spent_ms integer not null,
  orphan integer not null default 0 check (orphan in (0, 1)),
  metadata text,
  optional integer not null default 0 check (optional in (0, 1)),
  producer text check (producer in ('open', 'hinted', 'closing')),
  check ((status in ('pending', 'running', 'waiting')) = (ended_at_ms is null)),
  check (status <> 'waiting' or wait is not null),
  check (status <> 'running' or kind <> 'handler' or (digest <> '' and run_at_start_ms is not null))
) strict;

insert into tasks_5 (kind, optional,
  id, scope_id, gate_id, member, parent_id, origin_id, place_run, place_call, place_index, content, sequence,
  retry_of, depth, handler, digest, key, queue, priority, input, phase_input, output, spilled, failure,
  timeout_ms, attempts_max, on_complete, status, phase, attempt, restarts, fence, run, blocked_by, run_at_ms,
  expires_at_ms, cancel_requested, wait, wait_until_ms, progress, created_at_ms, started_at_ms,
  run_at_start_ms, ended_at_ms, spent_ms, orphan, metadata)
select iif(kind = 'handler', 'handler', 'group'), 0,
  id, scope_id, gate_id, member, parent_id, origin_id, place_run, place_call, place_index, content, sequence,
  retry_of, depth, handler, digest, key, queue, priority, input, phase_input, output, spilled, failure,
  timeout_ms, attempts_max, on_complete, status, phase, attempt, restarts, fence, run, blocked_by, run_at_ms,
  expires_at_ms, cancel_requested, wait, wait_until_ms, progress, created_at_ms, started_at_ms,
  run_at_start_ms, ended_at_ms, spent_ms, orphan, metadata
from tasks;

drop table tasks;
alter table tasks_5 rename to tasks;

-- Ready work, and nothing but ready work: its cost does not grow with history.
create index tasks_ready on tasks (queue, handler, gate_id, digest, priority desc, id)
  where status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler';
create index tasks_running on tasks (id) where status = 'running';
create index tasks_waiting on tasks (id) where status = 'waiting';
create index tasks_unusual on tasks (status, id) where status in ('failed', 'cancelled', 'expired', 'skipped');
create index tasks_scheduled on tasks (run_at_ms) where status = 'pending' and run_at_ms is not null;
create index tasks_expiring on tasks (expires_at_ms)
  where status = 'pending' and expires_at_ms is not null and started_at_ms is null;
create index tasks_wait_until on tasks (wait_until_ms) where status = 'waiting' and wait_until_ms is not null;
create index tasks_children on tasks (parent_id, sequence) where parent_id is not null;
create index tasks_key on tasks (key, parent_id) where key is not null;
create index tasks_retry_of on tasks (retry_of) where retry_of is not null;

create index tasks_origin on tasks (origin_id) where origin_id is not null;
create index tasks_tops on tasks (status, ended_at_ms, id)
  where ended_at_ms is not null and (parent_id is null or orphan = 1);

alter table groups add column kind text not null default 'pool' check (kind in ('pool', 'workflow', 'map', 'generator', 'job'));
alter table groups add column spec text;
alter table groups add column sealed integer not null default 0 check (sealed in (0, 1));
alter table groups add column output_bytes integer not null default 0 check (output_bytes >= 0);
alter table groups add column tolerated integer not null default 0 check (tolerated >= 0);
alter table groups add column expected integer not null default 0 check (expected >= 0);
alter table groups add column paused integer not null default 0 check (paused in (0, 1));
alter table groups add column pace text;
create index groups_kind on groups (kind, task_id);

alter table edges add column position integer not null default 0;
alter table edges add column key text;
alter table edges add column condition text not null default 'success'
  check (condition in ('success', 'failure', 'any'));
alter table edges add column optional integer not null default 0 check (optional in (0, 1));

-- Whether a source was one from the start, and whether it has no end of its own.
alter table sources add column declared integer not null default 0 check (declared in (0, 1));
alter table sources add column producer integer not null default 0 check (producer in (0, 1));
create index sources_producers on sources (group_id) where drained = 0 and producer = 1;

-- The clocks of producers; one that does not run is null, and so is the next to run out.
create table producers (
  task_id integer primary key,
  idle_ms integer,
  drain_ms integer,
  idle_at_ms integer,
  drain_at_ms integer,
  next_ms integer
) strict;
create index producers_next on producers (next_ms) where next_ms is not null;
alter table handlers add column generator integer not null default 0 check (generator in (0, 1));
";

/// What queues are set to, and schedules. Running tasks are counted by their queue, without a look at the pools,
/// which run for as long as they are open.
const SIXTH: &str = "
create table queues (
  name text primary key,
  concurrency integer check (concurrency > 0),
  paused integer not null check (paused in (0, 1))
) strict, without rowid;

drop index tasks_running;
create index tasks_running on tasks (kind, queue) where status = 'running';

-- `target` is the name of a handler, or a workflow's document.
create table schedules (
  name text primary key,
  kind text not null check (kind in ('handler', 'workflow')),
  target text not null,
  input text not null,
  cron text,
  zone text,
  every_ms integer check (every_ms > 0),
  from_ms integer,
  missed text not null check (missed in ('skip', 'once', 'all')),
  overlap text not null check (overlap in ('allow', 'skip')),
  queue text,
  priority integer,
  timeout_ms integer,
  expires_ms integer,
  attempts_max integer,
  on_complete text,
  metadata text,
  paused integer not null check (paused in (0, 1)),
  next_at_ms integer,
  last_task_id integer,
  last_for_ms integer,
  last_at_ms integer,
  runs integer not null check (runs >= 0),
  skipped integer not null check (skipped >= 0),
  created_at_ms integer not null,
  check ((cron is null) = (zone is null)),
  check ((every_ms is null) = (from_ms is null)),
  check ((cron is null) <> (every_ms is null)),
  check (paused = 0 or next_at_ms is null)
) strict;
create index schedules_next on schedules (next_at_ms) where next_at_ms is not null;
";

/// What the functions of handlers take, so that an input is checked before any host runs.
const SEVENTH: &str = "alter table handlers add column function text";

/// Who serves, and until when: one row that the hosts of a database have between them. And the
/// index that counts tasks that come after others, which those alone pay for.
const LEASE: &str = "
create table lease (
  only_row integer primary key check (only_row = 1),
  number integer not null check (number > 0),
  pid integer not null,
  started_ticks integer,
  boot text,
  namespace text,
  version text not null,
  grace_ms integer not null,
  since_ms integer not null,
  heartbeat_at_ms integer not null,
  stopping_at_ms integer,
  ended_at_ms integer,
  error text
) strict;

create index tasks_blocked on tasks (queue) where status = 'pending' and blocked_by > 0;
";

/// The same table of tasks, whose checks and partial indexes no longer ask for one of a list of more
/// than two: for each such list SQLite makes a table of its own each time that a statement runs, which
/// was half of what a task's life cost. And what most tasks begin with is the default of its column.
const NINTH: &str = "
create table tasks_9 (
  id integer primary key,
  kind text not null check (kind in ('handler', 'group')),
  scope_id integer not null,
  gate_id integer not null default 0,
  member integer not null default 0 check (member in (0, 1)),
  parent_id integer,
  origin_id integer,
  place_run integer,
  place_call integer,
  place_index integer,
  content integer,
  sequence integer not null default 0,
  retry_of integer,
  depth integer not null default 0,
  handler text not null,
  digest text not null default '',
  key text,
  queue text not null,
  priority integer not null default 0,
  input text,
  phase_input text,
  output text,
  spilled integer not null default 0,
  failure text,
  timeout_ms integer,
  attempts_max integer,
  on_complete text,
  status text not null,
  phase text not null,
  attempt integer not null default 0 check (attempt >= 0),
  restarts integer not null default 0 check (restarts >= 0),
  fence integer not null default 0 check (fence >= 0),
  run integer not null default 0 check (run >= 0),
  blocked_by integer not null default 0 check (blocked_by >= 0),
  run_at_ms integer,
  expires_at_ms integer,
  cancel_requested integer not null default 0 check (cancel_requested in (0, 1)),
  wait text,
  wait_until_ms integer,
  progress text,
  created_at_ms integer not null,
  started_at_ms integer,
  run_at_start_ms integer,
  ended_at_ms integer,
  spent_ms integer not null default 0,
  orphan integer not null default 0 check (orphan in (0, 1)),
  metadata text,
  optional integer not null default 0 check (optional in (0, 1)),
  producer text check (producer = 'open' or producer = 'hinted' or producer = 'closing'),
  check (iif(ended_at_ms is null,
    status = 'pending' or status = 'running' or status = 'waiting',
    status = 'completed' or status = 'failed' or status = 'cancelled' or status = 'expired' or status = 'skipped')),
  check (status <> 'waiting' or wait is not null),
  check (status <> 'running' or kind <> 'handler' or (digest <> '' and run_at_start_ms is not null))
) strict;

insert into tasks_9 select * from tasks;
drop table tasks;
alter table tasks_9 rename to tasks;

create index tasks_ready on tasks (queue, handler, gate_id, digest, priority desc, id)
  where status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler';
create index tasks_running on tasks (kind, queue) where status = 'running';
create index tasks_waiting on tasks (id) where status = 'waiting';
create index tasks_unusual on tasks (status, id)
  where status = 'failed' or status = 'cancelled' or status = 'expired' or status = 'skipped';
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
  where ended_at_ms is not null and (parent_id is null or orphan = 1);
";

/// What a host could not load, and how its handlers stand: totals are kept, so that nobody counts.
/// And what the random numbers of handlers are made from: a run that began before keeps number 0, as it has drawn
/// without a secret, and its replay has to draw the same.
const TENTH: &str = "
create table broken_handlers (
  name text primary key,
  file text not null,
  problem text not null,
  hint text not null
) strict, without rowid;
alter table host add column loaded integer not null default 0;
alter table host add column broken integer not null default 0;
alter table host add column loading integer not null default 0;
alter table host add column unwatched text;
update host set loaded = (select count(*) from handlers);

create table secrets (
  number integer primary key check (number > 0),
  secret text not null check (length(secret) = 64),
  made_at_ms integer not null
) strict;
alter table tasks add column secret_number integer not null default 0 check (secret_number >= 0);

-- What a transaction has decided and left to later ones, since it concerns more rows than one may touch.
create table unfinished (
  subject_id integer not null,
  number integer not null check (number > 0),
  kind text not null,
  after_rank integer not null,
  after_id integer not null,
  bound integer not null,
  status text,
  primary key (subject_id, number)
) strict, without rowid;

-- Whether a producer is left alone is asked for each of them.
create index sources_finite on sources (group_id) where producer = 0;
create index sources_finite_open on sources (group_id) where drained = 0 and producer = 0;

-- Of what is read of a row; none of one that an earlier version wrote.
alter table tasks add column checksum integer;
alter table groups add column checksum integer;
alter table payloads add column checksum integer;
alter table journal add column checksum integer;
alter table attempts add column checksum integer;
alter table logs add column checksum integer;
alter table checkpoints add column checksum integer;
alter table signals add column checksum integer;
alter table schedules add column checksum integer;
";

/// The values of steps of handlers.
const ELEVENTH: &str = "
create table steps (
  task_id integer not null,
  name text not null,
  value text not null,
  run integer not null check (run >= 0),
  began integer not null,
  completed integer not null,
  at_ms integer not null,
  log_lines integer not null,
  log_bytes integer not null,
  checksum integer,
  primary key (task_id, name)
) strict, without rowid;
";

/// Named secrets and their shared state: the key that encrypts new values, and the salt of placeholders.
const TWELFTH: &str = "
create table named_secrets (
  name text primary key,
  kind text not null,
  reference text,
  key_id text,
  version integer not null check (version > 0),
  created_at_ms integer not null,
  updated_at_ms integer not null,
  sealed text not null,
  checksum integer not null,
  check ((kind = 'encrypted') = (key_id is not null)),
  check ((kind = 'encrypted') = (reference is null))
) strict;

create table secret_state (
  only_row integer primary key check (only_row = 1),
  placeholder_salt text not null check (length(placeholder_salt) = 64),
  key_id text
) strict;
";

/// Exchanges, which are HTTP requests of tasks: arrivals that the run has not taken, in order, and the host that holds
/// an exchange for a waiting task. The start and end of each arrival's text, counted since the mailbox was last empty,
/// give the size of a mailbox without a scan.
const EXCHANGES: &str = "
create table arrivals (
  task_id integer not null,
  run integer not null,
  number integer not null check (number > 0),
  exchange integer not null,
  value text not null,
  start_bytes integer not null,
  end_bytes integer not null,
  checksum integer,
  primary key (task_id, run, number)
) strict, without rowid;

create table exchanges (
  task_id integer not null,
  run integer not null,
  number integer not null,
  host integer not null,
  primary key (task_id, run, number)
) strict, without rowid;
create index exchanges_host on exchanges (host, task_id, number);
";

/// Ended runs whose journal is kept for people, and for how long.
const HISTORIES: &str = "
create table histories (
  task_id integer not null,
  run integer not null,
  ended_at_ms integer not null,
  primary key (task_id, run)
) strict, without rowid;
create index histories_ended on histories (ended_at_ms, task_id, run);

create table history_keep (
  only_row integer primary key check (only_row = 1),
  keep_ms integer
) strict;
";

/// Cancelled members of groups, which were counted as failed ones. The checksum of such a group is of its earlier
/// counts, so it goes. An index for groups that are meant by their names. And what phases began after.
const CANCELLED: &str = "
alter table groups add column cancelled integer not null default 0 check (cancelled >= 0);

-- Deadlines, and what else few tasks have.
alter table tasks add column ends_by_ms integer;
alter table tasks add column terms text;
create index tasks_ending on tasks (ends_by_ms)
  where ends_by_ms is not null;

update groups
set cancelled = ends.many, failed = failed - ends.many, checksum = null
from (
  select parent_id, count(*) as many
  from tasks
  where status = 'cancelled' and member = 1
    and not exists (select 1 from tasks later where later.retry_of = tasks.id and later.member = 1)
  group by parent_id) as ends
where ends.parent_id = task_id and failed >= ends.many;

create index groups_named on groups (name, kind, task_id);

-- What the phase of a task began after, for a retry of it.
create table phase_waits (
  task_id integer primary key,
  after text not null,
  timeout_ms integer check (timeout_ms >= 0),
  timed_out integer not null check (timed_out in (0, 1)),
  checksum integer
) strict;
";

/// Leave a database that another program made, or a newer one of ours, as it is, before anything
/// touches it. Answers with its schema; 0 when it is empty.
pub fn refuse_others(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let (application, found, tables) =
        identity(connection).map_err(|error| explain(path, error))?;
    let known = MIGRATIONS.len() as i64;
    let path = path.to_owned();
    let ours = [APPLICATION_ID, MOVED_ID].contains(&application);
    if !ours && (application, found, tables) != (0, 0, 0) {
        let why = "another program made it".to_owned();
        Err(StoreError::Foreign { path, why })
    } else if found > known {
        Err(StoreError::NewerSchema { path, found, known })
    } else {
        Ok(found)
    }
}

/// Refuse a file that a newer fishway has brought up to its own schema. Asked inside a transaction.
pub fn refuse_newer(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let known = MIGRATIONS.len() as i64;
    let found = user_version(connection).map_err(|error| explain(path, error))?;
    match found > known {
        true => Err(StoreError::NewerSchema {
            path: path.to_owned(),
            found,
            known,
        }),
        false => Ok(()),
    }
}

/// Whose it is, its schema and how much is in it: of one moment, as another process may be making
/// it just now.
fn identity(connection: &Connection) -> rusqlite::Result<(i64, i64, i64)> {
    let moment = connection.unchecked_transaction()?;
    let number = |sql| moment.query_row(sql, [], |row| row.get(0));
    Ok((
        number("pragma application_id")?,
        number("pragma user_version")?,
        number("select count(*) from sqlite_schema")?,
    ))
}

/// Bring the database to today's schema.
pub fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| explain(path, error);
    if refuse_others(connection, path)? == MIGRATIONS.len() as i64 {
        return Ok(());
    }
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(failed)?;
    // Another process may have been faster.
    let version = user_version(&transaction).map_err(failed)?;
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version as usize) {
        transaction.execute_batch(migration).map_err(failed)?;
        transaction
            .pragma_update(None, "user_version", index as i64 + 1)
            .map_err(failed)?;
    }
    randomness::first(&transaction).map_err(failed)?;
    randomness::first(&transaction).map_err(failed)?;
    secrets::first(&transaction).map_err(failed)?;
    if !is_moved(&transaction).map_err(failed)? {
        transaction
            .pragma_update(None, "application_id", APPLICATION_ID)
            .map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("pragma user_version", [], |row| row.get(0))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The tables, without rows.
    pub fn migrated() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        for migration in MIGRATIONS {
            connection.execute_batch(migration).unwrap();
        }
        connection
    }

    #[test]
    fn no_change_of_a_task_makes_a_table_for_its_checks_and_indexes() {
        let connection = migrated();
        for sql in [
            "insert into tasks (id, kind, scope_id, handler, queue, status, phase, created_at_ms)
             values (1, 'handler', 1, 'echo', 'default', 'pending', '', 1)",
            "update tasks set status = 'failed', producer = 'open', run_at_ms = 1, wait_until_ms = 1 where id = 1",
        ] {
            let mut program = connection.prepare(&format!("explain {sql}")).unwrap();
            let steps = program
                .query_map([], |row| row.get::<_, String>(1))
                .unwrap();
            let steps: Vec<String> = steps.map(Result::unwrap).collect();
            assert!(steps.iter().any(|step| step == "MakeRecord"), "{steps:?}");
            let tables = steps.iter().filter(|step| *step == "OpenEphemeral");
            assert_eq!(tables.count(), 0, "of {sql}");
        }
    }

    #[test]
    fn a_status_that_there_is_not_or_that_has_no_end_is_refused() {
        let connection = migrated();
        let insert = "insert into tasks (id, kind, scope_id, handler, queue, status, phase, created_at_ms, ended_at_ms)
            values (?1, 'handler', ?1, 'echo', 'default', ?2, '', 1, ?3)";
        let kept = |id: i64, status: &str, ended: Option<i64>| {
            connection.execute(insert, (id, status, ended)).is_ok()
        };
        for (id, status) in ["completed", "failed", "cancelled", "expired", "skipped"]
            .into_iter()
            .enumerate()
        {
            assert!(kept(id as i64, status, Some(1)), "{status}");
            assert!(!kept(100, status, None), "{status}");
        }
        assert!(kept(10, "pending", None));
        assert!(!kept(11, "pending", Some(1)));
        assert!(!kept(11, "finished", Some(1)));
        assert!(!kept(11, "finished", None));
    }
}
