-- A database of the first schema, as it was written then.
pragma application_id = 0x46697368;
pragma user_version = 1;

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

-- A parent that has ended, its child that is ready, and the child of a parent that was deleted.
insert into tasks (
  id, parent_id, place_run, place_call, place_index, content, sequence, depth, handler, digest, queue, priority, input,
  output, spilled, status, phase, attempt, restarts, fence, run, blocked_by, cancel_requested,
  created_at_ms, started_at_ms, run_at_start_ms, ended_at_ms, spent_ms)
values
  (100, null, null, null, null, null, 0, 0, 'h', 'd', 'default', 0, '1', '2', 0, 'completed', 'ingest', 1, 0, 1, 0, 0, 0, 1, 1, 1, 2, 0),
  (101, 100, 0, 1, 0, 7, 1, 1, 'h', '', 'default', 0, '3', null, 0, 'pending', 'ingest', 0, 0, 0, 0, 0, 0, 1, null, null, null, 0),
  (102, 99, 0, 1, 0, 7, 1, 1, 'h', '', 'other', 5, '4', null, 0, 'pending', 'ingest', 0, 0, 0, 0, 0, 0, 1, null, null, null, 0);
insert into waits (target_id, waiter_id, stamp, wanted) values (101, 100, 1, 8);
