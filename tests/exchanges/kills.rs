//! The host is killed over and over while tasks send requests of all kinds. The server's own log is the ledger.
//!
//! Each response has a unique number in its headers, and each request says which number its task has seen before it. So
//! the ledger shows which responses a task has acted on: a request that is followed by another one is never sent again.
//! Each request also identifies the host that sent it, by a secret with a different value on each host.
//!
//! `FISHWAY_KILLS` is the number of kills in all tests of this kind together; three in ten happen here. Without it there
//! are few.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fishway::task::{Options, Status, StatusSet, TaskId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::support::http_server::{Answer, Gate, Seen, Server, Step};
use crate::support::place::Place;
use crate::support::{PATIENCE, guests, results, warm_guests};

/// Kills in a plain run.
const KILLS: u64 = 20;

/// Tasks that are submitted before each host.
const TASKS: usize = 3;

/// Requests, or groups of them, that a task sends one after the other.
const LINKS: usize = 8;

/// Most requests that a host may send before it is killed: fewer than one task makes.
const SENT_MAX: usize = 8;

/// Responses that are held back until their host is dead. One of its tasks continues in any case.
const HELD_MAX: usize = TASKS - 1;

/// One in this many hosts lives until every task has ended.
const CALM: u64 = 10;

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Get,
    Post,
    OwnKey,
    LongRequest,
    LongResponse,
    Stream,
    Busy,
    /// Three at once.
    Three,
}

const KINDS: [Kind; LINKS] = [
    Kind::Get,
    Kind::Post,
    Kind::Stream,
    Kind::OwnKey,
    Kind::Three,
    Kind::LongRequest,
    Kind::Busy,
    Kind::LongResponse,
];

/// A request as the task intends it: the number of the task, of the link, and the position among concurrent requests.
type Meant = (usize, usize, usize);

impl Kind {
    fn of((task, link, _): Meant) -> Kind {
        KINDS[(task + link) % LINKS]
    }

    fn at_once(self) -> usize {
        match self {
            Kind::Three => 3,
            _ => 1,
        }
    }

    /// The body of its response, in parts. It is the same for each repetition.
    fn parts(self, meant: Meant) -> [Vec<u8>; 2] {
        let text = |part: &str| format!("{part} of {meant:?}; ").into_bytes();
        match self {
            Kind::LongResponse => {
                let seed = meant.0 * 31 + meant.1;
                let bytes = (0..700_000).map(|at: usize| ((at * 131 + seed) >> 3) as u8);
                [bytes.collect(), Vec::new()]
            }
            Kind::Stream => [text("the first part"), text("the second part")],
            _ => [text("all"), Vec::new()],
        }
    }
}

/// A request as received.
struct Asked {
    meant: Meant,
    host: u64,
    /// The number of its response.
    number: u64,
    status: u16,
    /// Whether no part of its response was sent before its host was dead.
    held: bool,
    key: Option<String>,
    saw: String,
    body: (usize, u64),
}

#[derive(Default)]
struct Ledger {
    asked: Vec<Asked>,
    /// How often each got the answer that the server is busy.
    busy: BTreeMap<Meant, u32>,
    held: usize,
}

/// What the server shares with the test.
struct Shared {
    ledger: Mutex<Ledger>,
    random: Mutex<StdRng>,
    /// Opened when the host is dead; `None` where no response is held back.
    dead: Mutex<Option<Gate>>,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    fn chance(&self, of: f64) -> bool {
        self.random.lock().unwrap().random_bool(of)
    }

    fn answer(&self, seen: &Seen) -> Answer {
        let parts: Vec<usize> = (seen.path.split('/').skip(1))
            .map(|part| part.parse().unwrap())
            .collect();
        let meant = (parts[0], parts[1], parts[2]);
        let kind = Kind::of(meant);
        let (hold, dead) = (self.chance(0.2), self.dead.lock().unwrap().clone());
        let mut ledger = self.ledger();
        let times_busy = ledger.busy.entry(meant).or_default();
        let busy = kind == Kind::Busy && *times_busy < 2;
        *times_busy += u32::from(busy);
        let gate = dead.filter(|_| hold && ledger.held < HELD_MAX);
        ledger.held += usize::from(gate.is_some());
        let number = ledger.asked.len() as u64;
        ledger.asked.push(Asked {
            meant,
            host: seen.headers["x-host"].parse().unwrap(),
            number,
            status: if busy { 503 } else { 200 },
            held: gate.is_some() && kind != Kind::Stream,
            key: seen.headers.get("idempotency-key").cloned(),
            saw: seen.headers["x-saw"].clone(),
            body: summary(&seen.body),
        });
        drop(ledger);
        let answer = Answer::status(if busy { 503 } else { 200 });
        let answer = answer.header("x-number", &number.to_string());
        let [first, second] = kind.parts(meant);
        let wait = gate.map(Step::Wait);
        match (kind, wait) {
            // Held back in the middle, so that a part of it is recorded.
            (Kind::Stream, Some(wait)) => answer
                .then(Step::Send(first.into()))
                .then(wait)
                .then(Step::Send(second.into())),
            (Kind::Stream, None) => answer
                .then(Step::Send(first.into()))
                .then(Step::Send(second.into())),
            (_, Some(wait)) => answer.first(wait).then(Step::Send(first.into())),
            (_, None) => answer.then(Step::Send(first.into())),
        }
    }
}

/// The guest's notation for bytes that are long or not text.
fn summary(bytes: &[u8]) -> (usize, u64) {
    let mut hash = DefaultHasher::new();
    hash.write(bytes);
    (bytes.len(), hash.finish())
}

/// The positions of a link's results among those of its task.
struct Link {
    /// Of each of its requests: the result with the head, and those that make up the body.
    requests: Vec<(usize, Vec<usize>)>,
}

/// The steps of a task, and where their results are.
fn program(url: &str, task: usize) -> (Value, Vec<Link>) {
    let (mut steps, mut links): (Vec<Value>, Vec<Link>) = (Vec::new(), Vec::new());
    // Requests so far, by the count of the guest.
    let mut sent = 0;
    for link in 0..LINKS {
        let kind = Kind::of((task, link, 0));
        let saw: Vec<String> = links.last().map_or(Vec::new(), |link| {
            let heads = link.requests.iter();
            heads
                .map(|(head, _)| format!("${head}.headers.x-number"))
                .collect()
        });
        let request = |which: usize| {
            let mut request = json!({
                "method": "POST", "url": format!("{url}/{task}/{link}/{which}"),
                "headers": { "x-saw": saw }, "body": format!("{task} {link} {which}"),
            });
            match kind {
                Kind::Get | Kind::LongResponse | Kind::Stream => {
                    request["method"] = json!("GET");
                    request["body"] = Value::Null;
                }
                Kind::OwnKey => {
                    request["headers"]["Idempotency-Key"] = json!(format!("own-{task}-{link}"))
                }
                Kind::LongRequest => request["body"] = json!({ "bytes": 150_000, "of": "b" }),
                Kind::Post | Kind::Busy | Kind::Three => {}
            }
            request
        };
        let at = steps.len();
        let requests = match kind {
            Kind::Stream => {
                steps.push(json!({ "http-send": request(0) }));
                steps.push(json!({ "http-response": sent }));
                steps.push(json!({ "http-read": { "of": sent, "length": 4_000 } }));
                steps.push(json!({ "http-body": sent }));
                vec![(at + 1, vec![at + 2, at + 3])]
            }
            Kind::Three => {
                let all: Vec<usize> = (sent..sent + 3).collect();
                steps.extend((0..3).map(|which| json!({ "http-send": request(which) })));
                steps.push(json!({ "http-order": all }));
                for number in all {
                    steps.push(json!({ "http-response": number }));
                    steps.push(json!({ "http-body": number }));
                }
                let places = (0..3).map(|which| at + 4 + 2 * which);
                places.map(|head| (head, vec![head + 1])).collect()
            }
            _ => {
                steps.push(json!({ "http": request(0) }));
                vec![(at, vec![at])]
            }
        };
        sent += kind.at_once();
        if link % 2 == 1 {
            steps.push(json!({ "sleep": 1 }));
        }
        links.push(Link { requests });
    }
    (json!({ "steps": steps }), links)
}

/// A host that is killed at the end.
struct Host(Child);

impl Host {
    fn start(place: &Place, number: u64) -> Host {
        let mut command = place.command(&["serve", "--concurrency", "4", "--parked", "1"]);
        command
            .args(["--restarts", "1000"])
            .env("FISHWAY_TEST_HOST", number.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Host(command.spawn().unwrap())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn place(server: &Server) -> Place {
    let place = Place::new();
    std::fs::copy(guests::guest("script"), place.path("handlers/web.wasm")).unwrap();
    let manifest = format!(
        "[[grants.http]]\nto = \"{}\"\nheaders = {{ X-Host = \"${{host}}\" }}\n\
         retry = {{ attempts = 100, backoff = \"2ms\" }}\n",
        server.url()
    );
    std::fs::write(place.path("handlers/web.toml"), manifest).unwrap();
    warm_guests(&place.path(".fishway"));
    place
        .run(&["secret", "set", "host", "--from", "env:FISHWAY_TEST_HOST"])
        .ok();
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_killed_in_the_middle_of_requests_repeats_none_that_was_acted_on() {
    let kills = std::env::var("FISHWAY_KILLS").map_or(KILLS, |all| {
        let all: u64 = all.parse().unwrap();
        all * 3 / 10
    });
    let shared = Arc::new(Shared {
        ledger: Mutex::default(),
        random: Mutex::new(StdRng::seed_from_u64(19)),
        dead: Mutex::default(),
    });
    let answers = shared.clone();
    let server = Server::start(move |seen| answers.answer(seen));
    let place = place(&server);
    let client = crate::crash::client(&place.path(".fishway"));
    let mut random = StdRng::seed_from_u64(20);
    let mut tasks: Vec<(TaskId, Vec<Link>)> = Vec::new();
    let ended = async |tasks: &[(TaskId, Vec<Link>)]| {
        let ids: Vec<TaskId> = tasks.iter().map(|(id, _)| *id).collect();
        let ended = client.wait(&ids, false, StatusSet::terminal(), Some(PATIENCE));
        assert!(ended.await.unwrap().is_some(), "not every task ends");
    };
    for number in 1..=kills {
        let calm = number.is_multiple_of(CALM);
        let gate = Gate::new();
        *shared.dead.lock().unwrap() = (!calm).then(|| gate.clone());
        let before = {
            let mut ledger = shared.ledger();
            ledger.held = 0;
            ledger.asked.len()
        };
        for _ in 0..TASKS {
            let (steps, links) = program(&server.url(), tasks.len());
            let input = vec![steps.to_string()];
            let told = client.submit("web", input, Options::default()).await;
            tasks.push((told.unwrap()[0].id, links));
        }
        let host = Host::start(&place, number);
        if calm {
            ended(&tasks).await;
        }
        server
            .has_seen(before + random.random_range(1..=SENT_MAX))
            .await;
        // The delay after that is random, too.
        std::thread::sleep(Duration::from_micros(random.random_range(0..6_000)));
        drop(host);
        gate.open();
    }
    *shared.dead.lock().unwrap() = None;
    let host = Host::start(&place, kills + 1);
    ended(&tasks).await;
    drop(host);
    let outputs = tasks.iter().map(|(id, links)| {
        let task = client.task(*id).unwrap();
        assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
        assert_eq!(task.attempt, 1);
        (results(&task), links)
    });
    let ledger = shared.ledger();
    check(&ledger.asked, &outputs.collect::<Vec<_>>());
    let held = ledger.asked.iter().filter(|one| one.held).count();
    let meant: BTreeSet<Meant> = ledger.asked.iter().map(|one| one.meant).collect();
    let again = ledger.asked.len() - meant.len();
    println!(
        "{kills} kills, {} tasks, {} requests, of which {held} were never answered; {again} were sent again or met a busy server",
        tasks.len(),
        meant.len(),
    );
    assert!(held > 0 && again > held, "no kill met a request");
}

/// Compare the ledger with the results of the tasks.
fn check(asked: &[Asked], outputs: &[(Value, &Vec<Link>)]) {
    let mut by_meaning: BTreeMap<Meant, Vec<&Asked>> = BTreeMap::new();
    for one in asked {
        by_meaning.entry(one.meant).or_default().push(one);
    }
    let mut keys = BTreeSet::new();
    for (task, (found, links)) in outputs.iter().enumerate() {
        let mut saw = "[]".to_owned();
        for (link, places) in links.iter().enumerate() {
            let next = by_meaning.get(&(task, link + 1, 0));
            // The first host that has acted on the responses of this link.
            let acted_on = next.and_then(|next| next.iter().map(|one| one.host).min());
            let mut numbers = Vec::new();
            for (which, (head, body)) in places.requests.iter().enumerate() {
                let meant = (task, link, which);
                let sent = &by_meaning[&meant];
                once_for_each_host(meant, sent, acted_on);
                same_each_time(meant, sent, &saw);
                if let Some(key) = &sent[0].key {
                    assert!(keys.insert(key.clone()), "{meant:?}: {key} is another's");
                }
                let head = &found[*head];
                assert_eq!(head["status"], 200, "{meant:?}: {head}");
                let number = head["headers"]["x-number"].as_str().unwrap();
                let from = sent.iter().find(|one| one.number.to_string() == number);
                let from = from.expect("a response that the server gave to this request");
                assert!(from.status == 200 && !from.held, "{meant:?}");
                numbers.push(number.to_owned());
                same_body(meant, body.iter().map(|at| &found[*at]).collect());
            }
            saw = json!(numbers).to_string();
        }
    }
}

/// A host sends a request once, and once more for each time that the server was busy; but not if an earlier host has
/// acted on its response.
fn once_for_each_host(meant: Meant, sent: &[&Asked], acted_on: Option<u64>) {
    let mut by_host: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for one in sent {
        let (all, busy) = by_host.entry(one.host).or_default();
        *all += 1;
        *busy += usize::from(one.status == 503);
    }
    for (host, (all, busy)) in by_host {
        let shown = || {
            let one = |one: &&Asked| {
                format!(
                    "{} by {} ({}, held: {})",
                    one.number, one.host, one.status, one.held
                )
            };
            sent.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        assert!(
            all <= busy + 1,
            "{meant:?}: {all} times by host {host}: {}",
            shown()
        );
        assert!(
            acted_on.is_none_or(|acted_on| host <= acted_on),
            "{meant:?} was sent by host {host}, and its response had been acted on by {acted_on:?}"
        );
    }
}

/// Each time it had the same key, the same body, and came after the same responses.
fn same_each_time(meant: Meant, sent: &[&Asked], saw: &str) {
    let first = sent[0];
    for one in sent {
        assert_eq!((&one.key, one.body), (&first.key, first.body), "{meant:?}");
        assert_eq!(one.saw, saw, "{meant:?} has seen other responses");
    }
    let key = first.key.as_deref();
    match Kind::of(meant) {
        Kind::Get | Kind::LongResponse | Kind::Stream => assert_eq!(key, None, "{meant:?}"),
        Kind::OwnKey => assert!(key.unwrap().starts_with("own-"), "{meant:?}"),
        _ => assert!(key.unwrap().starts_with("fishway-"), "{meant:?}"),
    }
}

/// The final result of the task is exactly what the server has sent.
fn same_body(meant: Meant, found: Vec<&Value>) {
    let expected = Kind::of(meant).parts(meant).concat();
    if Kind::of(meant) == Kind::LongResponse {
        let (length, hash) = summary(&expected);
        let expected = json!({ "length": length, "hash": format!("{hash:016x}") });
        assert_eq!(found[0]["body"], expected, "{meant:?}");
        return;
    }
    let texts = found.iter().map(|part| match part {
        Value::Object(fields) => fields["body"].as_str().unwrap(),
        // There is no more.
        Value::Null => "",
        part => part.as_str().unwrap(),
    });
    let text: String = texts.collect();
    assert_eq!(text.as_bytes(), expected, "{meant:?}");
}
