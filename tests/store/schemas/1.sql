-- A database of schema 1, with something of everything that it knew, as a host left it that died.
pragma application_id = 1181315944;
pragma user_version = 1;
CREATE TABLE attempts (
  task_id integer not null,
  run integer not null,
  phase text not null,
  attempt integer not null,
  started_at_ms integer not null,
  ended_at_ms integer not null,
  failure text not null,
  primary key (task_id, run)
) strict, without rowid;
INSERT INTO "attempts" VALUES(130,0,'ingest',1,1790000000001,1790000000002,'{"kind":"handler","message":"no luck","retryable":true}');
CREATE TABLE checkpoints (
  task_id integer not null,
  name text not null,
  value text not null,
  primary key (task_id, name)
) strict, without rowid;
INSERT INTO "checkpoints" VALUES(120,'place','7');
CREATE TABLE edges (
  upstream_id integer not null,
  downstream_id integer not null,
  primary key (upstream_id, downstream_id)
) strict, without rowid;
INSERT INTO "edges" VALUES(112,111);
CREATE TABLE handlers (
  name text primary key,
  digest text not null,
  description text
) strict, without rowid;
INSERT INTO "handlers" VALUES('h','sha256:h',NULL);
CREATE TABLE host (
  only_row integer primary key check (only_row = 1),
  directory text not null
) strict;
INSERT INTO "host" VALUES(1,'handlers');
CREATE TABLE journal (
  task_id integer not null,
  run integer not null,
  number integer not null,
  call text not null,
  answer text not null,
  at_ms integer not null,
  primary key (task_id, run, number)
) strict, without rowid;
INSERT INTO "journal" VALUES(120,0,1,'{"function":"sleep","subject":"","content":0}','"done"',1790000000001);
CREATE TABLE logs (
  task_id integer not null,
  run integer not null,
  line integer not null,
  at_ms integer not null,
  level text not null,
  message text not null,
  primary key (task_id, run, line)
) strict, without rowid;
INSERT INTO "logs" VALUES(120,0,1,1790000000001,'info','half way');
CREATE TABLE payloads (
  task_id integer not null,
  kind integer not null check (kind in (1, 2, 4)),
  body text not null,
  primary key (task_id, kind)
) strict;
INSERT INTO "payloads" VALUES(100,4,'"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"');
CREATE TABLE tasks (
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
INSERT INTO "tasks" VALUES(100,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','sha256:h',NULL,'default',0,'{}',NULL,NULL,4,NULL,NULL,NULL,NULL,'completed','ingest',1,0,1,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,1790000000001,1790000000001,1790000000002,0);
INSERT INTO "tasks" VALUES(101,100,NULL,0,1,0,7,1,NULL,1,'h','',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0);
INSERT INTO "tasks" VALUES(110,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','sha256:h',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'waiting','ingest',1,0,1,0,0,NULL,NULL,0,'{"call":3,"remaining":1,"since_ms":1790000000001,"until_ms":null,"woken":null}',NULL,NULL,1790000000000,1790000000001,1790000000001,NULL,0);
INSERT INTO "tasks" VALUES(111,110,NULL,0,1,0,7,1,NULL,1,'h','',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,1,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0);
INSERT INTO "tasks" VALUES(112,110,NULL,0,2,0,7,2,NULL,1,'h','',NULL,'default',5,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0);
INSERT INTO "tasks" VALUES(120,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','sha256:h',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'running','ingest',1,0,1,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,1790000000001,1790000000001,NULL,0);
INSERT INTO "tasks" VALUES(130,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','',NULL,'default',0,'{}',NULL,NULL,0,'{"kind":"handler","message":"no luck","retryable":true}',NULL,NULL,NULL,'pending','ingest',1,0,1,1,0,1790000060001,NULL,0,NULL,NULL,NULL,1790000000000,1790000000001,NULL,NULL,0);
INSERT INTO "tasks" VALUES(140,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','sha256:h',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'waiting','ingest',1,0,1,0,0,NULL,NULL,0,'{"call":1,"remaining":1,"since_ms":1790000000001,"until_ms":1790000060001,"woken":null}',1790000060001,NULL,1790000000000,1790000000001,1790000000001,NULL,0);
INSERT INTO "tasks" VALUES(150,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','sha256:h','first','default',0,'{}',NULL,NULL,0,'{"kind":"handler","message":"no luck","retryable":true}',NULL,NULL,NULL,'failed','ingest',1,0,1,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,1790000000001,1790000000001,1790000000002,0);
CREATE TABLE waits (
  target_id integer not null,
  waiter_id integer not null,
  stamp integer not null,
  wanted integer not null,
  primary key (target_id, waiter_id)
) strict, without rowid;
INSERT INTO "waits" VALUES(111,110,3,248);
CREATE INDEX tasks_ready on tasks (queue, handler, digest, priority desc, id)
  where status = 'pending' and blocked_by = 0 and run_at_ms is null;
CREATE INDEX tasks_running on tasks (id) where status = 'running';
CREATE INDEX tasks_waiting on tasks (id) where status = 'waiting';
CREATE INDEX tasks_unusual on tasks (status, id) where status in ('failed', 'cancelled', 'expired', 'skipped');
CREATE INDEX tasks_scheduled on tasks (run_at_ms) where status = 'pending' and run_at_ms is not null;
CREATE INDEX tasks_expiring on tasks (expires_at_ms)
  where status = 'pending' and expires_at_ms is not null and started_at_ms is null;
CREATE INDEX tasks_wait_until on tasks (wait_until_ms) where status = 'waiting' and wait_until_ms is not null;
CREATE INDEX tasks_children on tasks (parent_id, sequence) where parent_id is not null;
CREATE INDEX tasks_key on tasks (key, parent_id) where key is not null;
CREATE INDEX tasks_retry_of on tasks (retry_of) where retry_of is not null;
CREATE INDEX edges_downstream on edges (downstream_id);
