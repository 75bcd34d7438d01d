//! The host is killed, a thousand times, at moments that chance names, with a ledger outside of it.
//!
//! Four directories side by side, each with hosts one after the other. Two of them have a client that
//! stays, so that SQLite's shared memory outlives each host; in the others every process ends, some of
//! the submits by a kill, too. What a client was told of a task is remembered, and the file that its
//! handler wrote is taken away: a task that has ended writes none again.
//!
//! `FISHWAY_KILLS` is how many there are in all.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use fishway::client::Client;
use fishway::store::Filter;
use fishway::task::{Status, StatusSet, Task, TaskId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Runtime;

use super::{CHILDREN, Scene, completed, go_on, number, program, sound, tasks};
use crate::support::{PATIENCE, options};

const LANES: u64 = 4;

/// One of so many hosts lives until every task has ended: a task whose host dies eleven times fails.
const CALM: u64 = 6;

/// Kills between two looks at what has ended.
const LOOK: u64 = 10;

/// A directory and what its clients know.
struct Lane {
    scene: Scene,
    random: StdRng,
    runtime: Runtime,
    /// One that is there from the first host to the last.
    client: Option<Client>,
    submitted: BTreeMap<String, TaskId>,
    names: Vec<String>,
    /// Tasks that a client has seen completed, as they were.
    ended: BTreeMap<TaskId, Task>,
}

impl Lane {
    fn new(lane: u64) -> Lane {
        let scene = Scene::fresh();
        let client = lane
            .is_multiple_of(2)
            .then(|| crate::crash::client(&scene.root().join(".fishway")));
        Lane {
            scene,
            random: StdRng::seed_from_u64(number("FISHWAY_POWER_SEED", 7) + lane),
            runtime: Runtime::new().unwrap(),
            client,
            submitted: BTreeMap::new(),
            names: Vec::new(),
            ended: BTreeMap::new(),
        }
    }

    /// Some more work, of which the last submit may not come to its end.
    fn submit(&mut self) {
        for _ in 0..self.random.random_range(0..3) {
            let number = self.names.len();
            let kind = ["family", "plain", "slow"][number % 3];
            let name = format!("{kind}-{number}");
            self.names.push(name.clone());
            let submit = ["submit", "script", &program(&name), "--key", &name];
            if let Some(client) = &self.client {
                let keyed = options(|options| options.key = Some(name.as_str().into()));
                let told = client.submit("script", vec![program(&name)], keyed);
                let told = self.runtime.block_on(told).unwrap();
                self.submitted.insert(name, told[0].id);
            } else if self.random.random_bool(0.3) {
                let dies = self.scene.started(&mut self.scene.command(&submit));
                self.rest(40);
                drop(dies);
            } else {
                let told = self.scene.command(&submit).stdout(Stdio::piped()).output();
                let told = String::from_utf8(told.unwrap().stdout).unwrap();
                self.submitted.insert(name, told.trim().parse().unwrap());
            }
        }
    }

    /// A moment by chance; at half of the moments a host has just begun.
    fn rest(&mut self, most_ms: u64) {
        let most_us = most_ms * 1_000 / if self.random.random() { 4 } else { 1 };
        std::thread::sleep(Duration::from_micros(self.random.random_range(0..most_us)));
    }

    /// Every task has ended, those included whose submit was killed before it was answered.
    fn wait(&self) {
        let data = self.scene.root().join(".fishway");
        let fresh = self.client.is_none().then(|| crate::crash::client(&data));
        let client = self.client.as_ref().or(fresh.as_ref()).unwrap();
        let all = Filter {
            limit: 100_000,
            ..Filter::default()
        };
        let tasks = client.list(&all).unwrap();
        let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
        let ended = client.wait(&ids, false, StatusSet::terminal(), Some(PATIENCE));
        assert!(self.runtime.block_on(ended).unwrap().is_some());
    }

    /// See what has ended, as it is for good.
    fn look(&mut self) {
        let found = tasks(&self.scene.root().join(".fishway")).unwrap();
        for (name, id) in &self.submitted {
            assert!(
                found.contains_key(id),
                "{name} was acknowledged and is lost"
            );
        }
        for (id, task) in &self.ended {
            assert_eq!(found.get(id), Some(task), "it had ended and has changed");
        }
        for (id, task) in found {
            let Some(name) = task.key.clone().filter(|_| task.status.is_terminal()) else {
                continue;
            };
            let file = self.scene.path("outside").join(&*name);
            assert_eq!(task.status, Status::Completed, "{name}: {:?}", task.failure);
            if self.ended.insert(id, task).is_none() {
                let wrote = std::fs::read_to_string(&file).expect("it has run");
                assert_eq!(wrote, id.to_string());
                std::fs::remove_file(&file).unwrap();
            }
            assert!(!file.exists(), "{name} had ended and has run again");
        }
    }

    fn run(mut self, kills: u64) -> (usize, usize, usize) {
        for kill in 1..=kills {
            let mut serve = self.scene.command(&["serve", "--parked", "1"]);
            let mut host = self.scene.started(serve.stderr(Stdio::piped()));
            self.submit();
            // Every other one is let come as far as it may.
            let ready = host.0.stderr.take().filter(|_| kill.is_multiple_of(2));
            if let Some(said) = ready {
                let mut lines = BufReader::new(said).lines();
                lines.find(|line| {
                    line.as_ref()
                        .is_ok_and(|line| line.starts_with("fishway is ready"))
                });
            }
            if kill.is_multiple_of(CALM) {
                self.wait();
            }
            self.rest(60);
            drop(host);
            if kill.is_multiple_of(LOOK) {
                self.look();
            }
        }
        self.look();
        let before = self.ended.len();
        self.client = None;
        let host = self.scene.started(&mut self.scene.command(&["serve"]));
        let data = self.scene.root().join(".fishway");
        let all = go_on(&data, &self.submitted, &self.names);
        self.runtime.block_on(all).unwrap();
        drop(host);
        self.look();
        let all = tasks(&data).unwrap();
        for name in &self.names {
            let mut of_name = all
                .values()
                .filter(|task| task.key.as_deref() == Some(&**name));
            let task = of_name.next().unwrap();
            completed(name, task).unwrap();
            assert!(of_name.next().is_none(), "{name} is there twice");
            let children = all.values().filter(|child| child.parent == Some(task.id));
            let expected = if name.starts_with("family") {
                CHILDREN
            } else {
                0
            };
            assert_eq!(children.count(), expected, "{name}");
        }
        for task in all.values() {
            assert_eq!(
                (task.status, task.attempt),
                (Status::Completed, 1),
                "{task:?}"
            );
        }
        sound(&self.scene).unwrap();
        let again = all.values().filter(|task| task.restarts > 0).count();
        (self.names.len(), again, before)
    }
}

#[test]
fn a_host_that_is_killed_over_and_over_loses_nothing_that_it_told_and_does_nothing_twice() {
    let kills = number("FISHWAY_KILLS", 1_000);
    let began = std::time::Instant::now();
    let lanes = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| scope.spawn(move || Lane::new(lane).run(kills / LANES)))
            .collect();
        let ended = lanes.into_iter().map(|lane| lane.join().unwrap());
        ended.collect::<Vec<_>>()
    });
    let took = began.elapsed();
    println!(
        "{kills} kills in {took:?}; of each lane its tasks, those hit by a kill, and those that ended before the last host: {lanes:?}"
    );
    assert!(
        lanes.iter().any(|(_, hit, _)| *hit > 0),
        "no kill hit a task that ran"
    );
}
