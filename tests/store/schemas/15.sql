-- A database of schema 15, with something of everything that it knew, as a host left it that died.
pragma application_id = 1181315944;
pragma user_version = 15;
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
INSERT INTO "checkpoints" VALUES(98,'left','1');
INSERT INTO "checkpoints" VALUES(120,'place','7');
CREATE TABLE counters (
  name text not null,
  labels text not null,
  value real not null,
  primary key (name, labels)
) strict, without rowid;
INSERT INTO "counters" VALUES('fishway_tasks_ended_total','{"status":"completed","task_type":"h"}',1.0);
CREATE TABLE edges (
  upstream_id integer not null,
  downstream_id integer not null, position integer not null default 0, key text, condition text not null default 'success'
  check (condition in ('success', 'failure', 'any')), optional integer not null default 0 check (optional in (0, 1)),
  primary key (upstream_id, downstream_id)
) strict, without rowid;
INSERT INTO "edges" VALUES(112,111,0,NULL,'success',0);
INSERT INTO "edges" VALUES(501,502,0,NULL,'success',0);
INSERT INTO "edges" VALUES(502,503,0,NULL,'success',0);
CREATE TABLE groups (
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
, kind text not null default 'pool' check (kind in ('pool', 'workflow', 'map', 'generator', 'job')), spec text, sealed integer not null default 0 check (sealed in (0, 1)), output_bytes integer not null default 0 check (output_bytes >= 0), tolerated integer not null default 0 check (tolerated >= 0), expected integer not null default 0 check (expected >= 0), paused integer not null default 0 check (paused in (0, 1)), pace text) strict;
INSERT INTO "groups" VALUES(201,200,'crawl','fail',1,0,1,1,1,0,0,0,'pool',NULL,0,0,0,0,0,NULL);
INSERT INTO "groups" VALUES(500,500,'w','fail',NULL,0,0,3,3,0,0,0,'workflow',NULL,0,0,0,0,0,NULL);
INSERT INTO "groups" VALUES(502,500,'map','fail',NULL,0,0,0,0,0,0,0,'map','{"handler":"h","results":"list","items":{"array":{"over":"list"}}}',0,0,0,0,0,NULL);
INSERT INTO "groups" VALUES(510,510,'j','collect',1,0,0,2,2,0,0,0,'job',NULL,0,0,0,2,0,NULL);
CREATE TABLE handlers (
  name text primary key,
  digest text not null,
  description text
, generator integer not null default 0 check (generator in (0, 1)), function text) strict, without rowid;
INSERT INTO "handlers" VALUES('h','sha256:h',NULL,0,NULL);
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
CREATE TABLE lease (
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
INSERT INTO "lease" VALUES(1,3,4,NULL,NULL,NULL,'0.1.0',1000,1790000000001,1790000000001,NULL,1790000000001,NULL);
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
CREATE TABLE producers (
  task_id integer primary key,
  idle_ms integer,
  drain_ms integer,
  idle_at_ms integer,
  drain_at_ms integer,
  next_ms integer
) strict;
CREATE TABLE queues (
  name text primary key,
  concurrency integer check (concurrency > 0),
  paused integer not null check (paused in (0, 1))
) strict, without rowid;
INSERT INTO "queues" VALUES('default',2,0);
CREATE TABLE remainders (
  task_id integer primary key,
  completed integer not null check (completed in (0, 1))
) strict;
INSERT INTO "remainders" VALUES(98,1);
CREATE TABLE schedules (
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
INSERT INTO "schedules" VALUES('nightly','handler','h','{}',NULL,NULL,3600000,0,'once','skip',NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,1790000600001,NULL,NULL,NULL,0,0,1790000000001);
CREATE TABLE signals (
  task_id integer not null,
  number integer not null,
  name text not null,
  value text not null,
  sent_at_ms integer not null,
  primary key (task_id, number)
) strict, without rowid;
INSERT INTO "signals" VALUES(200,1,'go','1',1790000000001);
CREATE TABLE sources (
  task_id integer not null,
  group_id integer not null,
  run integer not null,
  drained integer not null check (drained in (0, 1)), declared integer not null default 0 check (declared in (0, 1)), producer integer not null default 0 check (producer in (0, 1)),
  primary key (task_id, group_id)
) strict, without rowid;
INSERT INTO "sources" VALUES(200,201,0,0,0,0);
CREATE TABLE "tasks" (
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
INSERT INTO "tasks" VALUES(100,'handler',100,0,0,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','sha256:h',NULL,'default',0,'{}',NULL,NULL,4,NULL,NULL,NULL,NULL,'completed','ingest',1,0,1,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,1790000000001,1790000000001,1790000000002,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(101,'handler',100,0,0,100,NULL,0,1,0,7,1,NULL,1,'h','',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(110,'handler',110,0,0,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','sha256:h',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'waiting','ingest',1,0,1,0,0,NULL,NULL,0,'{"call":3,"remaining":1,"since_ms":1790000000001,"until_ms":null,"woken":null}',NULL,NULL,1790000000000,1790000000001,1790000000001,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(111,'handler',110,0,0,110,NULL,0,1,0,7,1,NULL,1,'h','',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,1,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(112,'handler',110,0,0,110,NULL,0,2,0,7,2,NULL,1,'h','',NULL,'default',5,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(120,'handler',120,0,0,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','sha256:h',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'running','ingest',1,0,1,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,1790000000001,1790000000001,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(130,'handler',130,0,0,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','',NULL,'default',0,'{}',NULL,NULL,0,'{"kind":"handler","message":"no luck","retryable":true}',NULL,NULL,NULL,'pending','ingest',1,0,1,1,0,1790000060001,NULL,0,NULL,NULL,NULL,1790000000000,1790000000001,NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(140,'handler',140,0,0,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','sha256:h',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'waiting','ingest',1,0,1,0,0,NULL,NULL,0,'{"call":1,"remaining":1,"since_ms":1790000000001,"until_ms":1790000060001,"woken":null}',1790000060001,NULL,1790000000000,1790000000001,1790000000001,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(150,'handler',150,0,0,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','sha256:h','first','default',0,'{}',NULL,NULL,0,'{"kind":"handler","message":"no luck","retryable":true}',NULL,NULL,NULL,'failed','ingest',1,0,1,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,1790000000001,1790000000001,1790000000002,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(200,'handler',200,0,0,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','sha256:h',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'running','ingest',1,0,1,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,1790000000001,1790000000001,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(201,'group',200,0,0,200,NULL,NULL,NULL,NULL,NULL,1,NULL,1,'pool','',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'running','ingest',0,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,1790000000001,NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(202,'handler',200,201,1,201,200,0,2,0,7,1,NULL,2,'h','',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(300,'handler',300,0,0,99,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0,1,NULL,0,NULL);
INSERT INTO "tasks" VALUES(400,'handler',400,0,0,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'h','',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0,0,'{"team":"blue"}',0,NULL);
INSERT INTO "tasks" VALUES(500,'group',500,0,0,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'workflow','',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(501,'handler',500,0,1,500,NULL,NULL,NULL,NULL,NULL,1,NULL,1,'h','','list','default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(502,'group',500,0,1,500,NULL,NULL,NULL,NULL,NULL,2,NULL,1,'map','','map','default',0,'null',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,1,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(503,'handler',500,0,1,500,NULL,NULL,NULL,NULL,NULL,3,NULL,1,'h','','last','default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,1,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(510,'group',510,0,0,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'job','',NULL,'default',0,'{}',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(511,'handler',511,510,1,510,NULL,NULL,NULL,NULL,NULL,1,NULL,1,'h','',NULL,'default',0,'1',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0,0,NULL,0,NULL);
INSERT INTO "tasks" VALUES(512,'handler',512,510,1,510,NULL,NULL,NULL,NULL,NULL,2,NULL,1,'h','',NULL,'default',0,'2',NULL,NULL,0,NULL,NULL,NULL,NULL,'pending','ingest',0,0,0,0,0,NULL,NULL,0,NULL,NULL,NULL,1790000000000,NULL,NULL,NULL,0,0,NULL,0,NULL);
CREATE TABLE waits (
  target_id integer not null,
  waiter_id integer not null,
  stamp integer not null,
  wanted integer not null,
  primary key (target_id, waiter_id)
) strict, without rowid;
INSERT INTO "waits" VALUES(111,110,3,248);
CREATE INDEX edges_downstream on edges (downstream_id);
CREATE INDEX groups_name on groups (scope_id, name);
CREATE INDEX sources_group on sources (group_id) where drained = 0;
CREATE INDEX signals_name on signals (task_id, name, number);
CREATE INDEX waits_waiter on waits (waiter_id);
CREATE INDEX sources_of on sources (group_id);
CREATE INDEX groups_kind on groups (kind, task_id);
CREATE INDEX sources_producers on sources (group_id) where drained = 0 and producer = 1;
CREATE INDEX producers_next on producers (next_ms) where next_ms is not null;
CREATE INDEX schedules_next on schedules (next_at_ms) where next_at_ms is not null;
CREATE INDEX tasks_ready on tasks (queue, handler, gate_id, digest, priority desc, id)
  where status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler';
CREATE INDEX tasks_running on tasks (kind, queue) where status = 'running';
CREATE INDEX tasks_waiting on tasks (id) where status = 'waiting';
CREATE INDEX tasks_unusual on tasks (status, id)
  where status = 'failed' or status = 'cancelled' or status = 'expired' or status = 'skipped';
CREATE INDEX tasks_blocked on tasks (queue) where status = 'pending' and blocked_by > 0;
CREATE INDEX tasks_scheduled on tasks (run_at_ms) where status = 'pending' and run_at_ms is not null;
CREATE INDEX tasks_expiring on tasks (expires_at_ms)
  where status = 'pending' and expires_at_ms is not null and started_at_ms is null;
CREATE INDEX tasks_wait_until on tasks (wait_until_ms) where status = 'waiting' and wait_until_ms is not null;
CREATE INDEX tasks_children on tasks (parent_id, sequence) where parent_id is not null;
CREATE INDEX tasks_key on tasks (key, parent_id) where key is not null;
CREATE INDEX tasks_retry_of on tasks (retry_of) where retry_of is not null;
CREATE INDEX tasks_origin on tasks (origin_id) where origin_id is not null;
CREATE INDEX tasks_tops on tasks (status, ended_at_ms, id)
  where ended_at_ms is not null and (parent_id is null or orphan = 1);
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
insert into broken_handlers values ('bad', 'bad.wasm', 'it is damaged', 'build it again');
create table secrets (
  number integer primary key check (number > 0),
  secret text not null check (length(secret) = 64),
  made_at_ms integer not null
) strict;
alter table tasks add column secret_number integer not null default 0 check (secret_number >= 0);
INSERT INTO "secrets" VALUES(1,'6b2e0f6f9d4c1a7788f05b3c2d1e4f60718293a4b5c6d7e8f90123456789abcd',1790000000000);
UPDATE tasks SET secret_number = 1 WHERE run_at_start_ms IS NOT NULL;
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
create index sources_finite on sources (group_id) where producer = 0;
create index sources_finite_open on sources (group_id) where drained = 0 and producer = 0;
alter table tasks add column checksum integer;
alter table groups add column checksum integer;
alter table payloads add column checksum integer;
alter table journal add column checksum integer;
alter table attempts add column checksum integer;
alter table logs add column checksum integer;
alter table checkpoints add column checksum integer;
alter table signals add column checksum integer;
alter table schedules add column checksum integer;
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
INSERT INTO "steps" VALUES(98,'left','1',0,1,2,1790000000001,0,0,null);
INSERT INTO "steps" VALUES(120,'charge','8',0,1,2,1790000000001,0,0,null);
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
INSERT INTO named_secrets VALUES('github','env','GITHUB_TOKEN',NULL,2,1790000000000,1790000001000,'',3589413370);
INSERT INTO secret_state VALUES(1,'0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0',NULL);
-- A task that waits for an HTTP request of a host that died, and one that has not taken the response of another.
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
INSERT INTO tasks (id, kind, scope_id, handler, digest, queue, input, status, phase, attempt, fence, wait,
  created_at_ms, started_at_ms, run_at_start_ms, secret_number)
VALUES(210,'handler',210,'h','sha256:h','default','{}','waiting','ingest',1,1,'{"call":2,"remaining":1,"exchange":true,"since_ms":1790000000001,"until_ms":null,"woken":null}',1790000000000,1790000000001,1790000000001,1);
INSERT INTO tasks (id, kind, scope_id, handler, digest, queue, input, status, phase, attempt, fence, wait,
  created_at_ms, started_at_ms, run_at_start_ms, secret_number)
VALUES(211,'handler',211,'h','sha256:h','default','{}','pending','ingest',1,1,'{"call":2,"remaining":0,"exchange":true,"since_ms":1790000000001,"until_ms":null,"woken":{"at_ms":1790000000002,"timed_out":false}}',1790000000000,1790000000001,1790000000001,1);
INSERT INTO "exchanges" VALUES(210,0,1,1);
INSERT INTO "arrivals" VALUES(211,0,1,1,'{"whole":{"status":200,"headers":[],"body":"aXQ="}}',0,51,NULL);
-- The journal of a run that is over, which is kept for people.
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
INSERT INTO history_keep VALUES(1,86400000);
INSERT INTO histories VALUES(100,0,1790000000001);
INSERT INTO "journal" VALUES(100,0,1,'{"function":"sleep","subject":"","content":0}','"done"',1790000000001,NULL);
-- Cancelled members of groups are not counted as failed.
alter table groups add column cancelled integer not null default 0 check (cancelled >= 0);
create index groups_named on groups (name, kind, task_id);
-- What the phase of a task began after.
create table phase_waits (
  task_id integer primary key,
  after text not null,
  timeout_ms integer check (timeout_ms >= 0),
  timed_out integer not null check (timed_out in (0, 1)),
  checksum integer
) strict;
insert into phase_waits values (120, '', 1000, 0, null);
-- Deadlines, and what else few tasks have.
alter table tasks add column ends_by_ms integer;
alter table tasks add column terms text;
create index tasks_ending on tasks (ends_by_ms)
  where ends_by_ms is not null;
