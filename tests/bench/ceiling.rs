//! What no host could be faster than: the rows alone, the instances alone, the disk alone.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use fishway::executor::{Sandbox, Settings};
use fishway::loader::Loader;
use fishway::store::sqlite::{FILE_NAME, Role};
use rusqlite::Connection;
use wasmtime::component::Linker;

use crate::ground::{Ground, open};
use crate::report::median;

const SUBMIT: &str = "\
    insert into tasks (id, sequence, depth, handler, digest, queue, priority, input, spilled, status, phase,
      attempt, restarts, fence, run, blocked_by, cancel_requested, created_at_ms, spent_ms,
      kind, scope_id, gate_id, member)
    values (?1, 0, 0, 'echo', '', 'default', 0, '1', 0, 'pending', '', 0, 0, 0, 0, 0, 0, 1, 0,
      'handler', ?1, 0, 0)";
const READY: &str = "\
    select id
    from tasks
    where status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler'
      and queue = 'default' and handler = 'echo' and gate_id = 0 and digest = ''
    order by priority desc, id
    limit ?1";
const CLAIM: &str = "\
    update tasks
    set status = 'running', digest = ?2, fence = 1, attempt = 1, started_at_ms = 1, run_at_start_ms = 1
    where id = ?1";
const FINISH: &str =
    "update tasks set status = 'completed', output = '1', ended_at_ms = 1 where id = ?1";

/// The tables of a store, without the store.
pub struct Tables {
    database: Connection,
    next: i64,
}

impl Tables {
    pub fn new(directory: &Path) -> Tables {
        std::fs::create_dir_all(directory).unwrap();
        drop(open(directory, Role::Visitor));
        let database = Connection::open(directory.join(FILE_NAME)).unwrap();
        database.set_prepared_statement_cache_capacity(64);
        database.execute_batch("pragma synchronous = full").unwrap();
        // Ids that a host makes begin with the time, so these are older than all of its own.
        let newest = "select ifnull(max(id), 0) + 1 from tasks where id < 1000000000";
        let next = database.query_row(newest, [], |row| row.get(0)).unwrap();
        Tables { database, next }
    }

    fn run(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) {
        let mut statement = self.database.prepare_cached(sql).unwrap();
        statement.execute(values).unwrap();
    }

    /// A task's life by two commits: kept and claimed, then completed.
    pub fn one(&mut self) -> Duration {
        let (id, digest) = (self.next, "0".repeat(64));
        self.next += 1;
        let started = Instant::now();
        self.run("begin immediate", &[]);
        self.run(SUBMIT, &[&id]);
        self.run(CLAIM, &[&id, &digest]);
        self.run("commit", &[]);
        self.run("begin immediate", &[]);
        self.run(FINISH, &[&id]);
        self.run("commit", &[]);
        started.elapsed()
    }

    /// The lives of many tasks: kept in one transaction, then so many at a time completed in that
    /// of the next claims.
    pub fn many(&mut self, many: usize, at_once: usize) -> Duration {
        let digest = "0".repeat(64);
        let started = Instant::now();
        self.run("begin immediate", &[]);
        for _ in 0..many {
            self.run(SUBMIT, &[&self.next]);
            self.next += 1;
        }
        self.run("commit", &[]);
        let mut claimed: Vec<i64> = Vec::new();
        loop {
            self.run("begin immediate", &[]);
            for id in &claimed {
                self.run(FINISH, &[id]);
            }
            let mut ready = self.database.prepare_cached(READY).unwrap();
            let found = ready.query_map([at_once as i64], |row| row.get(0)).unwrap();
            claimed = found.map(Result::unwrap).collect();
            drop(ready);
            for id in &claimed {
                self.run(CLAIM, &[id, &digest]);
            }
            self.run("commit", &[]);
            if claimed.is_empty() {
                return started.elapsed();
            }
        }
    }

    /// Tasks that ended long ago, which nobody has deleted.
    pub fn history(&mut self, many: usize) {
        const SQL: &str = "\
            with recursive numbers(number) as (select ?1 union all select number + 1 from numbers where number < ?2)
            insert into tasks (id, sequence, depth, handler, digest, queue, priority, input, output, spilled, status,
              phase, attempt, restarts, fence, run, blocked_by, cancel_requested, created_at_ms, started_at_ms,
              run_at_start_ms, ended_at_ms, spent_ms, kind, scope_id, gate_id, member)
            select number, 0, 0, 'echo', '0000000000000000', 'default', 0, '1', '1', 0, 'completed',
              '', 1, 0, 1, 0, 0, 0, number, number, number, number, 0, 'handler', number, 0, 0
            from numbers";
        self.database
            .execute_batch("pragma synchronous = off")
            .unwrap();
        self.run(SQL, &[&self.next, &(self.next + many as i64 - 1)]);
        self.next += many as i64;
        self.database
            .execute_batch("pragma synchronous = full; pragma wal_checkpoint(truncate)")
            .unwrap();
        // It ended long ago: nobody's commit is to wait until it is written out.
        let file = self.database.path().unwrap();
        std::fs::File::open(file).unwrap().sync_all().unwrap();
    }
}

/// That of the contract.
#[derive(wasmtime::component::ComponentType, wasmtime::component::Lift)]
#[component(record)]
struct Failure {
    message: String,
    retryable: bool,
    details: Option<String>,
}

/// One sync of the disk after 4 KB.
pub fn sync(directory: &Path) -> Duration {
    let mut file = std::fs::File::create(directory.join("sync")).unwrap();
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let started = Instant::now();
            file.write_all(&[0; 4_096]).unwrap();
            file.sync_data().unwrap();
            started.elapsed()
        })
        .collect();
    median(&mut times)
}

/// An instance made, called and dropped, in the engine of a host but without its host functions: a
/// guest that calls nothing, on one thread.
pub fn instance(ground: &Ground, handler: &str, calls: u32) -> Duration {
    let sandbox = Sandbox::pooled(Settings::default().instances_max()).unwrap();
    let engine = sandbox.engine().clone();
    let (handlers, data) = (ground.handlers(), ground.directory.join("instances"));
    let loader = Loader::open(engine.clone(), sandbox.check(), &handlers, &data).unwrap();
    loader.scan(|_| {});
    let component = &loader.get(handler).unwrap().component;
    let mut linker = Linker::<()>::new(&engine);
    linker.define_unknown_imports_as_traps(component).unwrap();
    let made = linker.instantiate_pre(component).unwrap();
    let interface = component
        .get_export_index(None, "fishway:task/handler@0.2.0")
        .unwrap();
    let place = component.get_export_index(Some(&interface), "run").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let started = Instant::now();
        for _ in 0..calls {
            let mut store = wasmtime::Store::new(&engine, ());
            store.set_epoch_deadline(u64::MAX / 2);
            let instance = made.instantiate_async(&mut store).await.unwrap();
            let run = instance
                .get_typed_func::<(&str,), (Result<String, Failure>,)>(&mut store, place)
                .unwrap();
            let (output,) = run.call_async(&mut store, ("1",)).await.unwrap();
            if let Err(failure) = output {
                panic!(
                    "{} {} {:?}",
                    failure.message, failure.retryable, failure.details
                );
            }
        }
        started.elapsed() / calls
    })
}
