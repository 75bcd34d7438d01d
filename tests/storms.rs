//! A mixed load while hosts are killed, servers crash, and standbys take over, at moments that chance
//! names. What the clients were answered is the ledger.
//!
//! `FISHWAY_STORM_KILLS`, `FISHWAY_STORM_CRASHES` and `FISHWAY_STORM_FAILOVERS` say how many there are,
//! `FISHWAY_STORM_SEED` chooses another order, and `FISHWAY_STORM_SECONDS` spreads them over that time at least.

mod load;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fishway::client::Client;
use fishway::store::Filter;
use fishway::store::sqlite::Role;
use fishway::task::StatusSet;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::failover::{address, socket};
use crate::support::place::{Place, Served};
use crate::support::postgres::{self, Cluster, Hung};
use crate::support::warm_guests;
use load::Ledger;

/// Clients, each with one task in flight.
const CLIENTS: usize = 8;

/// Tasks that end between two faults, at least: the load goes on.
const BETWEEN: usize = 5;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// A host is killed, and another one starts in its place.
    Kill,
    /// The server is stopped as by a crash, and started again.
    Crash,
    /// The primary dies and its connections break; the standby takes over.
    Failover,
    /// The primary says nothing any more, without an end of its connections; the standby takes over.
    Silence,
}

/// So many of each, in an order by chance.
fn faults(kills: u64, crashes: u64, failovers: u64) -> Vec<Fault> {
    let seed = number("FISHWAY_STORM_SEED", 1);
    let mut all = Vec::new();
    all.extend((0..kills).map(|_| Fault::Kill));
    all.extend((0..crashes).map(|_| Fault::Crash));
    all.extend((0..failovers).map(|one| [Fault::Silence, Fault::Failover][one as usize % 2]));
    all.shuffle(&mut StdRng::seed_from_u64(seed));
    all
}

/// When each fault comes.
struct Pace {
    began: Instant,
    /// The faults are spread over this time; they take longer where the load is slower.
    over: Duration,
    faults: u64,
}

impl Pace {
    fn of(faults: u64) -> Pace {
        Pace {
            began: Instant::now(),
            over: Duration::from_secs(number("FISHWAY_STORM_SECONDS", 0)),
            faults,
        }
    }

    /// The load goes on for some tasks, and until it is time for the fault of this number.
    fn until(&self, fault: u64, ledger: &Ledger) {
        let part = fault as f64 / self.faults.max(1) as f64;
        ledger.progress(BETWEEN);
        while self.began.elapsed() < self.over.mul_f64(part) {
            ledger.progress(1);
        }
    }
}

/// A directory whose handlers may write to the directory outside.
fn place(outside: &Path) -> Place {
    let place = Place::with_guests();
    let grant = format!("[grants]\nwrite = [\"{}\"]\n", outside.display());
    std::fs::write(place.path("handlers/script.toml"), grant).unwrap();
    warm_guests(&place.path(".fishway"));
    place
}

/// One that is started again whatever happens to it.
struct Hosts {
    places: Vec<Place>,
    served: Vec<Option<Served>>,
}

impl Hosts {
    fn new(hosts: usize, outside: &Path) -> Hosts {
        Hosts {
            places: (0..hosts).map(|_| place(outside)).collect(),
            served: (0..hosts).map(|_| None).collect(),
        }
    }

    /// Kill one, if it lives, and start it.
    fn again(&mut self, host: usize, url: Option<&str>) {
        self.served[host] = None;
        // A task that is hit by many kills is not what kills its hosts.
        let mut variables = vec![("FISHWAY_RESTARTS", "1000")];
        variables.extend(url.map(|url| ("FISHWAY_DATABASE", url)));
        self.served[host] = Some(self.places[host].serve_with(&variables));
    }
}

/// Run the load of the clients beside what is done to their hosts; then all has ended, and fits.
fn storm(ledger: &Arc<Ledger>, faults: impl FnOnce()) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let ledger = ledger.clone();
            runtime.spawn(async move { ledger.work().await })
        })
        .collect();
    let began = Instant::now();
    faults();
    ledger.stop();
    for client in clients {
        runtime.block_on(client).unwrap();
    }
    let all = ledger.client().list(&Filter {
        limit: 1_000_000,
        ..Filter::default()
    });
    let all = all.unwrap();
    let left: Vec<_> = all
        .iter()
        .filter(|task| !StatusSet::terminal().contains(task.status))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    ledger.close();
    let hit = all.iter().filter(|task| task.restarts > 0).count();
    println!(
        "{} tasks in {:?}, {} of them of clients; {hit} were hit by a fault; {} calls of clients failed and were made again",
        all.len(),
        began.elapsed(),
        ledger.ended(),
        ledger.again(),
    );
}

/// The server that is the primary, the standby that follows it, and those that were.
struct Servers {
    primary: Cluster,
    standby: Option<Cluster>,
    /// Each lives on before it is stopped.
    hung: Vec<(Hung, Cluster)>,
}

impl Servers {
    fn new() -> Servers {
        let mut servers = Servers {
            primary: Cluster::start(&["fsync=off"]),
            standby: None,
            hung: Vec::new(),
        };
        servers.follow();
        servers
    }

    /// Give the primary a standby, which has all that anybody hears of from here on.
    fn follow(&mut self) {
        self.standby = Some(Cluster::standby(&self.primary));
        let configure = |sql| self.primary.run("postgres", sql);
        configure("alter system set synchronous_standby_names = '*'");
        configure("select pg_reload_conf()");
    }

    fn url(&self) -> String {
        let all = [Some(&self.primary), self.standby.as_ref()];
        let sockets: Vec<String> = all.into_iter().flatten().map(socket).collect();
        let sockets: Vec<&str> = sockets.iter().map(String::as_str).collect();
        address(&sockets, "postgres", "")
    }

    fn fail_over(&mut self, silent: bool) {
        let standby = self.standby.take().unwrap();
        let hung = silent.then(|| self.primary.hang());
        if !silent {
            self.primary.crash();
        }
        standby.promote();
        let old = std::mem::replace(&mut self.primary, standby);
        self.hung.extend(hung.map(|hung| (hung, old)));
    }
}

fn outside() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join("outside");
    std::fs::create_dir(&path).unwrap();
    (directory, path)
}

#[test]
fn a_storm_of_kills_crashes_and_failovers_loses_nothing_and_does_nothing_twice() {
    let mut servers = Servers::new();
    let (_kept, outside) = outside();
    let connect = |url: String| -> Arc<dyn Fn() -> Client + Send + Sync> {
        Arc::new(move || Client::new(Arc::new(postgres::open(&url, Role::Visitor))))
    };
    let mut hosts = Hosts::new(3, &outside);
    for host in 0..3 {
        hosts.again(host, Some(&servers.url()));
    }
    let ledger = Arc::new(Ledger::new(outside, connect(servers.url())));
    let all = faults(
        number("FISHWAY_STORM_KILLS", 6),
        number("FISHWAY_STORM_CRASHES", 1),
        number("FISHWAY_STORM_FAILOVERS", 2),
    );
    let mut random = StdRng::seed_from_u64(number("FISHWAY_STORM_SEED", 1));
    let pace = Pace::of(all.len() as u64);
    storm(&ledger, || {
        for (at, fault) in (0..).zip(all) {
            pace.until(at, &ledger);
            match fault {
                Fault::Kill => {
                    let host = *[0, 1, 2].choose(&mut random).unwrap();
                    hosts.again(host, Some(&servers.url()));
                }
                Fault::Crash => servers.primary.restart(),
                Fault::Failover | Fault::Silence => {
                    servers.fail_over(fault == Fault::Silence);
                    // The hosts and the clients find the new primary by themselves.
                    ledger.progress(BETWEEN);
                    servers.follow();
                    ledger.moved(connect(servers.url()));
                    for host in 0..3 {
                        hosts.again(host, Some(&servers.url()));
                    }
                }
            }
        }
        pace.until(pace.faults, &ledger);
    });
    let url = servers.url();
    let doctor = hosts.places[0].run_env(&["doctor", "--deep"], &[("FISHWAY_DATABASE", &url)]);
    doctor.ok();
}

#[test]
fn a_storm_of_kills_beside_a_mixed_load_on_sqlite_loses_nothing_and_does_nothing_twice() {
    let (_kept, outside) = outside();
    let mut hosts = Hosts::new(1, &outside);
    hosts.again(0, None);
    let data = hosts.places[0].path(".fishway");
    let connect = Arc::new(move || crate::crash::client(&data));
    let ledger = Arc::new(Ledger::new(outside, connect));
    storm(&ledger, || {
        let pace = Pace::of(number("FISHWAY_STORM_KILLS", 6));
        for at in 0..pace.faults {
            pace.until(at, &ledger);
            hosts.again(0, None);
        }
        pace.until(pace.faults, &ledger);
    });
    hosts.places[0].run(&["doctor", "--deep"]).ok();
}
