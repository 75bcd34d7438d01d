//! Requests of tasks whose host is killed or stopped while another one serves. The server's log is the ledger.

use std::collections::BTreeMap;

use fishway::client::Client;
use fishway::task::{Options, Status, TaskId};
use serde_json::{Value, json};

use super::{client, whole};
use crate::crash::until;
use crate::support::http_server::{Answer, Gate, Seen, Server, Step};
use crate::support::place::{Place, Served};
use crate::support::{PATIENCE, guests, postgres, results};

/// Tasks whose requests are in progress when their host ends.
const TASKS: usize = 6;

/// Two directories with a handler that may send requests to the server, on one database; tasks wait for it at the first
/// host.
struct Scene {
    server: Server,
    /// Holds back the answers to the second request of each task.
    gate: Gate,
    url: String,
    client: Client,
    places: [Place; 2],
    tasks: Vec<TaskId>,
}

impl Scene {
    /// The first host serves, and every task waits for the second of its three responses.
    async fn waiting(grace: &str) -> (Scene, Served) {
        let gate = Gate::new();
        let door = gate.clone();
        let server = Server::start(move |seen| {
            let answer = Answer::status(200);
            let answer = match seen.path.ends_with("/second") {
                true => answer.first(Step::Wait(door.clone())),
                false => answer,
            };
            answer.then(Step::Send(format!("{} is done", seen.path).into()))
        });
        let url = postgres::database();
        let places = [(); 2].map(|()| {
            let place = Place::new();
            std::fs::copy(guests::guest("script"), place.path("handlers/web.wasm")).unwrap();
            // As many as there are tasks: the other host needs the places of the dead one.
            let limits = format!("rate = \"1000/1s\"\nconcurrency = {TASKS}\n");
            let manifest = format!("[[grants.http]]\nto = \"{}\"\n{limits}", server.url());
            std::fs::write(place.path("handlers/web.toml"), manifest).unwrap();
            place
        });
        let mut scene = Scene {
            client: client(&url),
            server,
            gate,
            url,
            places,
            tasks: Vec::new(),
        };
        let first = scene.serve(0, grace);
        let inputs = (0..TASKS).map(|task| scene.program(task).to_string());
        let submitted = scene
            .client
            .submit("web", inputs.collect(), Options::default())
            .await;
        scene.tasks = submitted.unwrap().iter().map(|one| one.id).collect();
        scene.server.has_seen(2 * TASKS).await;
        for &id in &scene.tasks {
            until(&scene.client, id, |detail| detail.task.awaits_exchange()).await;
        }
        (scene, first)
    }

    fn serve(&self, place: usize, grace: &str) -> Served {
        // No instance stays in memory, so the host has to keep the response.
        let variables = [
            ("FISHWAY_DATABASE", self.url.as_str()),
            ("FISHWAY_GRACE", grace),
            ("FISHWAY_PARKED", "0"),
        ];
        self.places[place].serve_with(&variables)
    }

    fn program(&self, task: usize) -> Value {
        let post = |name: &str, headers: Value| {
            let url = format!("{}/{task}/{name}", self.server.url());
            json!({ "http": { "method": "POST", "url": url, "headers": headers, "body": "x" } })
        };
        let own = match task % 2 {
            0 => json!({}),
            _ => json!({ "Idempotency-Key": format!("own-{task}") }),
        };
        let steps = [
            post("first", json!({})),
            post("second", own),
            post("third", json!({ "x-saw": "$1.body" })),
            json!({ "sleep": 1 }),
        ];
        json!({ "steps": steps })
    }

    /// Every task completes at its first attempt with the server's answers. The ledger has every first and third
    /// request once, and every second one as often as given, always with the same key.
    async fn ends_with(&self, seconds: usize) {
        for (number, &id) in self.tasks.iter().enumerate() {
            until(&self.client, id, |_| false).await;
            let task = self.client.task(id).unwrap();
            assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
            assert_eq!((task.attempt, task.restarts), (1, 0));
            let found = results(&task);
            for (at, name) in ["first", "second", "third"].iter().enumerate() {
                assert_eq!(found[at]["body"], format!("/{number}/{name} is done"));
            }
        }
        let mut by_path: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
        for seen in self.server.seen() {
            by_path.entry(seen.path.clone()).or_default().push(seen);
        }
        assert_eq!(by_path.len(), 3 * TASKS);
        for (path, seen) in &by_path {
            let expected = if path.ends_with("second") { seconds } else { 1 };
            assert_eq!(seen.len(), expected, "{path}");
            let key = |seen: &Seen| seen.headers["idempotency-key"].clone();
            assert!(seen.iter().all(|one| key(one) == key(&seen[0])), "{path}");
        }
        whole(&self.url);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_killed_host_are_sent_again_by_another_with_the_same_keys() {
    let (scene, first) = Scene::waiting("0s").await;
    let _second = scene.serve(1, "0s");
    drop(first);
    // The other host detects that, and sends unanswered requests again.
    scene.server.has_seen(3 * TASKS).await;
    scene.gate.open();
    scene.ends_with(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_stopped_keeps_what_is_answered_in_its_grace_and_another_goes_on() {
    let (scene, mut first) = Scene::waiting("60s").await;
    let _second = scene.serve(1, "0s");
    terminate(&first);
    until_stopping(&scene.client).await;
    scene.gate.open();
    assert!(first.0.wait().unwrap().success());
    scene.ends_with(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_answered_in_the_grace_of_a_host_is_asked_for_again_by_another() {
    let (scene, mut first) = Scene::waiting("10ms").await;
    let _second = scene.serve(1, "0s");
    terminate(&first);
    assert!(first.0.wait().unwrap().success());
    scene.server.has_seen(3 * TASKS).await;
    scene.gate.open();
    scene.ends_with(2).await;
}

/// Wait until a host reports that it stops.
async fn until_stopping(client: &Client) {
    let mut commits = client.store().bus().commits();
    let stops = async {
        loop {
            commits.mark_unchanged();
            let leases = client.store().leases().unwrap();
            if leases.iter().any(|lease| lease.stopping_at_ms.is_some()) {
                return;
            }
            commits.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, stops).await.unwrap();
}

/// Ask a host to stop in an orderly way.
fn terminate(host: &Served) {
    let pid = host.0.id().to_string();
    let asked = std::process::Command::new("kill").arg(pid).status();
    assert!(asked.unwrap().success());
}
