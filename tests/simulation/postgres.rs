//! PostgreSQL in the simulation: a database of its own on a real server, with hosts that are real writers
//! over the real engine, without threads.
//!
//! A standby is a copy of the database, and takes over by coming in its place: every connection is lost with
//! that, as in a failover.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fishway::lease::LeaseKey;
use fishway::store::invariants::{INVARIANTS, Violation};
use fishway::store::moving::TABLES;
use fishway::store::postgres::{Address, Opening};
use fishway::store::sqlite::Role;
use fishway::store::writer::{Engine, Job, Writer};
use fishway::store::{Dispatch, StoreError};
use fishway::task::TaskId;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::host::{Base, Opened, Process, SimClock, SimDispatch};
use super::mirror::{self, COLUMNS, Cells, Eye, Known};
use super::sqlite::{lease_key, number};
use crate::support::postgres::{Cluster, cluster};

/// Hosts of one database.
const HOSTS: usize = 3;

/// A database of the cluster of this run.
pub struct Server {
    cluster: &'static Cluster,
    name: String,
    eye: Rc<ServerEye>,
}

impl Server {
    pub fn new() -> Server {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let cluster = cluster();
        let name = format!("sim_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let create = format!("create database {name} template fishway_template");
        cluster.run("postgres", &create);
        let url = cluster.url(&name);
        Server {
            cluster,
            name,
            eye: Rc::new(ServerEye::new(&url)),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.eye.close();
        for name in [self.name.clone(), format!("{}_copy", self.name)] {
            let drop = format!("drop database if exists {name} with (force)");
            self.cluster.run("postgres", &drop);
        }
    }
}

impl Base for Server {
    fn open(&self, role: Role, clock: &Arc<SimClock>) -> Result<Opened, StoreError> {
        let opening = Opening {
            address: Address::parse(&self.cluster.url(&self.name))?,
            role,
            watch: false,
            clock: Some(clock.clone()),
        };
        let mut writer = opening.writer()?;
        let dispatch: Arc<SimDispatch> = Arc::default();
        if role == Role::Host {
            writer.dispatch = Some(dispatch.clone() as Arc<dyn Dispatch>);
        }
        let ids = writer.ids.clone();
        let eye = self.eye.clone();
        Ok(Opened {
            process: Box::new(ServerProcess { writer, eye }),
            dispatch,
            ids,
        })
    }

    fn hosts_max(&self) -> usize {
        HOSTS
    }

    fn copy(&self) {
        // A database that somebody is connected to is not copied.
        self.eye.close();
        let name = &self.name;
        for statement in [
            format!("drop database if exists {name}_copy with (force)"),
            format!(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
            ),
            format!("create database {name}_copy template {name}"),
        ] {
            self.cluster.run("postgres", &statement);
        }
    }

    fn go_back(&self) {
        self.eye.close();
        let name = &self.name;
        for statement in [
            format!("drop database {name} with (force)"),
            format!("alter database {name}_copy rename to {name}"),
        ] {
            self.cluster.run("postgres", &statement);
        }
    }
}

struct ServerProcess<E> {
    writer: Writer<E>,
    eye: Rc<ServerEye>,
}

impl<E: Engine> Process for ServerProcess<E> {
    fn turn(&mut self, batch: Vec<Box<dyn Job>>) {
        self.writer.turn(batch);
    }

    fn touched(&self) -> Option<Vec<TaskId>> {
        None
    }

    fn eye(&self) -> &dyn Eye {
        &*self.eye
    }
}

/// A connection of its own, that only looks.
struct ServerEye {
    runtime: Runtime,
    url: String,
    client: RefCell<Option<Client>>,
}

impl ServerEye {
    fn new(url: &str) -> ServerEye {
        ServerEye {
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
            url: url.replace("?sslmode=disable", ""),
            client: RefCell::default(),
        }
    }

    fn close(&self) {
        *self.client.borrow_mut() = None;
    }

    fn connect(&self) -> Client {
        self.runtime.block_on(async {
            let (client, line) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
            tokio::spawn(line);
            let path = "set search_path = fishway";
            client.batch_execute(path).await.unwrap();
            client
        })
    }
}

impl Eye for ServerEye {
    fn rows(&self, sql: &str) -> Vec<Cells> {
        let mut client = self.client.borrow_mut();
        let client = client.get_or_insert_with(|| self.connect());
        let found = self.runtime.block_on(client.simple_query(sql)).unwrap();
        let mut rows = Vec::new();
        for message in found {
            if let SimpleQueryMessage::Row(row) = message {
                let cells = (0..row.len()).map(|at| row.get(at).map(str::to_owned));
                rows.push(cells.collect());
            }
        }
        rows
    }

    fn tasks(&self, ids: Option<&[TaskId]>) -> BTreeMap<TaskId, Known> {
        let mut sql = COLUMNS.to_owned();
        if let Some(ids) = ids {
            let ids: Vec<String> = ids.iter().map(|id| id.to_i64().to_string()).collect();
            sql.push_str(&format!(" where id = any('{{{}}}')", ids.join(",")));
        }
        self.rows(&sql).iter().map(|row| Known::of(row)).collect()
    }

    fn fingerprint(&self) -> u64 {
        let of_table = |table: &&str| {
            format!(
                "select coalesce(sum(hashtextextended({table}::text, 0)), 0)::text from {table}"
            )
        };
        let all: Vec<String> = TABLES.iter().map(of_table).collect();
        let found = self.rows(&all.join(" union all "));
        mirror::digest(format!("{found:?}").as_bytes())
    }

    fn violations(&self) -> Vec<Violation> {
        let mut broken = Vec::new();
        for invariant in INVARIANTS {
            let tasks = mirror::ids(self, &invariant.naming());
            if !tasks.is_empty() {
                broken.push(invariant.broken(tasks.len() as u64, tasks));
            }
        }
        broken
    }

    fn leases(&self) -> Vec<LeaseKey> {
        let found = self.rows("select number, since_ms from hosts where ended_at_ms is null");
        found.iter().map(|row| lease_key(row)).collect()
    }

    fn running(&self) -> Vec<(TaskId, u64)> {
        let sql = "\
            select id, coalesce(host, 0)
            from tasks
            where status = 'running' and kind = 'handler'";
        let number = |cell: &Option<String>| cell.as_deref().unwrap().parse::<i64>().unwrap();
        let rows = self.rows(sql).into_iter();
        rows.map(|row| (TaskId::from_i64(number(&row[0])), number(&row[1]) as u64))
            .collect()
    }

    fn newest_lease(&self) -> u64 {
        number(&self.rows("select coalesce(max(number), 0) from hosts"))
    }

    fn last_beat_ms(&self) -> u64 {
        number(&self.rows("select coalesce(max(heartbeat_at_ms), 0) from hosts"))
    }
}
