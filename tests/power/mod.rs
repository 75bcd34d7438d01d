//! The power goes, at every moment that chance names.
//!
//! The real program is run with real handlers while `shim.c` writes down what it does to its files,
//! and what it tells the outside: ids of submitted tasks, results of waits, and what handlers wrote to a granted
//! directory. From one such record a disk is made for each of many moments, as `disk` says what is
//! left of what was not synced; the program starts on it, and finishes all work. What had been told
//! is there, whatever else is lost.
//!
//! `FISHWAY_POWER_CUTS` is how many moments there are for each record, and `FISHWAY_POWER_SEED` chooses others.

mod disk;
mod kills;
mod unsynced;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, OnceLock};

use fishway::client::Client;
use fishway::store::Filter;
use fishway::store::sqlite::FILE_NAME;
use fishway::task::{Status, StatusSet, Task, TaskId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::support::{PATIENCE, guests, options};
use disk::{Disk, Record};

/// Tasks of one record, and what each of some of them spawns.
const TASKS: usize = 30;
const CHILDREN: usize = 4;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// The shim, compiled once.
fn shim() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let name = format!("power-{}.so", std::process::id());
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/shim.c");
        let compiled = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .args([&to, &source])
            .args(["-ldl", "-lpthread"])
            .status();
        assert!(compiled.unwrap().success());
        to
    })
}

/// A directory in which the program is run, a directory beside it that handlers write to, and the
/// record.
struct Scene {
    directory: tempfile::TempDir,
}

/// What the clients of a record have done.
#[derive(Default)]
struct Progress {
    state: Mutex<Done>,
    changed: Condvar,
}

#[derive(Default)]
struct Done {
    /// Tasks that were submitted and have ended.
    done: usize,
    /// Clients that have come to an end, well or not.
    over: usize,
}

impl Progress {
    fn change(&self, change: impl FnOnce(&mut Done)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Wait until so many tasks have ended, or both clients have.
    fn until(&self, many: usize) {
        let state = self.state.lock().unwrap();
        let waits = |state: &mut Done| state.done < many && state.over < 2;
        drop(self.changed.wait_while(state, waits).unwrap());
    }
}

/// A client, which may panic.
struct Over<'a>(&'a Progress);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.over += 1);
    }
}

/// A process that is killed at the end, in no change of a file.
struct Running(Child, PathBuf);

impl Drop for Running {
    fn drop(&mut self) {
        // Each record stands for what was done, since nobody is in the middle of one.
        let journal = File::options().create(true).append(true).open(&self.1);
        let journal = journal.unwrap();
        journal.lock().unwrap();
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let scene = Scene { directory };
        std::fs::create_dir(scene.path("outside")).unwrap();
        std::fs::create_dir(scene.root()).unwrap();
        scene
    }

    /// With handlers, and nothing done yet.
    fn fresh() -> Scene {
        let scene = Scene::new();
        guests::place_guests(&scene.root().join("handlers"));
        scene.grant();
        scene
    }

    /// The directory outside is this scene's.
    fn grant(&self) {
        let grant = format!(
            "[grants]\nwrite = [\"{}\"]\n",
            self.path("outside").display()
        );
        std::fs::write(self.root().join("handlers/script.toml"), grant).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fishway"));
        command
            .args(arguments)
            .current_dir(self.root())
            .env_remove("FISHWAY_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// One that is killed at the end.
    fn started(&self, command: &mut Command) -> Running {
        Running(command.spawn().unwrap(), self.path("journal"))
    }

    /// One that is written down; what it prints is told to the outside, under this name.
    fn recorded(&self, arguments: &[&str], label: Option<&str>) -> Command {
        let mut command = self.command(arguments);
        command
            .env("LD_PRELOAD", shim())
            .env("FISHWAY_POWER_LOG", self.path("journal"))
            .env("FISHWAY_POWER_ROOT", self.root())
            .env("FISHWAY_POWER_OUTSIDE", self.path("outside"));
        if let Some(label) = label {
            command
                .env("FISHWAY_POWER_LABEL", label)
                .stdout(Stdio::piped());
        }
        command
    }

    fn serve(&self) -> Running {
        self.started(&mut self.recorded(&["serve"], None))
    }

    /// What a command prints, which the record has, too.
    fn told(&self, arguments: &[&str], label: &str) -> String {
        let output = self.recorded(arguments, Some(label)).output().unwrap();
        assert!(output.status.success(), "{label}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Submit tasks of these names and wait for each, by two clients, while the host is killed twice
    /// and stopped once.
    fn run(&self, names: &[String]) -> Vec<Record> {
        let done = Progress::default();
        let client = &|names: &[String]| {
            for name in names {
                let id = self.told(
                    &["submit", "script", &program(name), "--key", name],
                    &format!("submit {name}"),
                );
                self.told(&["wait", &id], &format!("wait {name}"));
                done.change(|state| state.done += 1);
            }
        };
        std::thread::scope(|scope| {
            let (first, second) = names.split_at(names.len() / 2);
            for names in [first, second] {
                let done = &done;
                scope.spawn(move || {
                    let _over = Over(done);
                    client(names);
                });
            }
            let until = |many: usize| done.until(many);
            for share in [1, 2] {
                let host = self.serve();
                until(names.len() * share / 3);
                drop(host);
            }
            let mut host = self.serve();
            until(names.len());
            self.told(&["stop"], "stop");
            host.0.wait().unwrap();
        });
        self.records()
    }

    fn records(&self) -> Vec<Record> {
        disk::read(&std::fs::read(self.path("journal")).unwrap())
    }
}

/// What the task of a name does: it writes its id outside, may have children, and returns its name
/// with something of any size.
fn program(name: &str) -> String {
    let file = format!("/outside/{name}");
    let mut steps = vec![
        json!({ "context": {} }),
        json!({ "write-file": { "path": file, "text": "$0.id" }, "!": 1 }),
    ];
    if name.starts_with("family") {
        let inputs: Vec<usize> = (0..CHILDREN).collect();
        steps.push(json!({ "spawn-all": { "handler": "echo", "inputs": inputs } }));
        steps.push(json!({ "wait-all": { "ids": "$2" } }));
    }
    if name.starts_with("slow") {
        // Some twenty milliseconds.
        steps.push(json!({ "spin": 20_000_000 }));
    }
    steps.push(json!({ "return": result(name) }));
    json!({ "steps": steps }).to_string()
}

fn result(name: &str) -> String {
    // From a few bytes to twenty-five pages of the database, so that its log is emptied on the way.
    let number: usize = name.rsplit_once('-').unwrap().1.parse().unwrap();
    let filler = [0, 3_000, 100_000, 100_000][number % 4];
    format!("{name}{}", "x".repeat(filler))
}

fn names(of: &str) -> Vec<String> {
    let kind = |number| if number % 3 == 0 { "family" } else { "plain" };
    (0..TASKS)
        .map(|number| format!("{}-{of}-{number}", kind(number)))
        .collect()
}

/// What the outside has heard.
#[derive(Clone, Default)]
struct Ledger {
    submitted: BTreeMap<String, TaskId>,
    completed: BTreeMap<String, String>,
    /// Tasks whose handlers have written: under which name, which.
    ran: BTreeSet<(String, TaskId)>,
}

impl Ledger {
    fn hear(&mut self, record: &Record) {
        let Record::Told { by, text } = record else {
            return;
        };
        let text = text.trim();
        match by.split_once(' ') {
            Some(("submit", name)) => {
                self.submitted
                    .insert(name.to_owned(), text.parse().unwrap());
            }
            Some(("wait", name)) => {
                self.completed
                    .entry(name.to_owned())
                    .or_default()
                    .push_str(text);
            }
            _ if by.starts_with('/') => {
                let name = Path::new(by).file_name().unwrap().to_str().unwrap();
                self.ran.insert((name.to_owned(), text.parse().unwrap()));
            }
            _ => {}
        }
    }
}

/// Hold a directory that was left by a loss of power against what was told before.
fn check(scene: &Scene, ledger: &Ledger, again: &[String]) -> Result<(), String> {
    let data = scene.root().join(".fishway");
    if !data.join(FILE_NAME).exists() && ledger.submitted.is_empty() && ledger.ran.is_empty() {
        return Ok(());
    }
    // As somebody finds it who looks before any host has started.
    let found = tasks(&data)?;
    let of_name = |name: &str| {
        found
            .values()
            .find(|task| task.key.as_deref() == Some(name))
    };
    for (name, id) in &ledger.submitted {
        let task = found
            .get(id)
            .ok_or(format!("{name} was acknowledged and is lost"))?;
        if *task.input != *program(name) {
            return Err(format!("{name} has another input"));
        }
    }
    for name in ledger.completed.keys() {
        let task = of_name(name).ok_or(format!("{name} has completed and is lost"))?;
        completed(name, task)?;
    }
    for (name, id) in &ledger.ran {
        if !found.contains_key(id) {
            return Err(format!("{name} has run and is lost"));
        }
    }
    let ended: Vec<&Task> = found
        .values()
        .filter(|task| task.status.is_terminal())
        .collect();

    // And all of it goes on.
    let host = scene.started(&mut scene.command(&["serve"]));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(go_on(&data, &ledger.submitted, again))?;
    drop(host);
    let left = tasks(&data)?;
    for name in again {
        let mut of_name = left
            .values()
            .filter(|task| task.key.as_deref() == Some(&**name));
        let task = of_name.next().ok_or(format!("{name} is gone"))?;
        completed(name, task)?;
        let children = left.values().filter(|child| child.parent == Some(task.id));
        let children: Vec<&Task> = children.collect();
        let expected = if name.starts_with("family") {
            CHILDREN
        } else {
            0
        };
        let whole = children
            .iter()
            .all(|child| child.status == Status::Completed);
        if of_name.next().is_some() || children.len() != expected || !whole || task.attempt != 1 {
            return Err(format!("{name}: {task:?} {children:?}"));
        }
    }
    for task in ended {
        if left[&task.id] != *task {
            return Err(format!("{:?} had ended and has changed", task.id));
        }
        let name = task.key.as_deref().unwrap_or("none");
        if scene.path("outside").join(name).exists() {
            return Err(format!("{name} has completed and runs again"));
        }
    }
    sound(scene)
}

/// What holds of every database holds of this one.
fn sound(scene: &Scene) -> Result<(), String> {
    let mut doctor = scene.command(&["doctor", "--deep"]);
    let doctor = doctor.stdout(Stdio::piped()).output().unwrap();
    match doctor.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&doctor.stdout).into_owned()),
    }
}

/// Submit all again under their keys, and wait until they have completed.
async fn go_on(
    data: &Path,
    submitted: &BTreeMap<String, TaskId>,
    again: &[String],
) -> Result<(), String> {
    let client = crate::crash::client(data);
    let mut ids = Vec::new();
    for name in again {
        let keyed = options(|options| options.key = Some(name.as_str().into()));
        let told = client.submit("script", vec![program(name)], keyed).await;
        let id = told.map_err(|error| format!("{name} again: {error}"))?[0].id;
        if submitted.get(name).is_some_and(|known| *known != id) {
            return Err(format!("{name} is another task now"));
        }
        ids.push(id);
    }
    let ended = client.wait(&ids, false, StatusSet::default(), None);
    match tokio::time::timeout(PATIENCE, ended).await {
        Ok(ended) => ended.map(|_| ()).map_err(|error| error.to_string()),
        Err(_) => Err("the host does not come to an end".to_owned()),
    }
}

fn completed(name: &str, task: &Task) -> Result<(), String> {
    let output: Option<Value> = task
        .output
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok());
    match task.status == Status::Completed && output == Some(result(name).into()) {
        true => Ok(()),
        false => Err(format!(
            "{name} should have completed with its result, and is {:?}: {:?}",
            task.status, task.failure
        )),
    }
}

/// All tasks that a database has.
fn tasks(data: &Path) -> Result<BTreeMap<TaskId, Task>, String> {
    let connection =
        rusqlite::Connection::open(data.join(FILE_NAME)).map_err(|error| error.to_string())?;
    let whole = connection.query_row("pragma integrity_check", [], |row| row.get::<_, String>(0));
    match whole {
        Ok(word) if word == "ok" => {}
        damaged => return Err(format!("the database is damaged: {damaged:?}")),
    }
    drop(connection);
    let client: Client = crate::crash::client(data);
    let all = Filter {
        limit: 100_000,
        ..Filter::default()
    };
    let tasks = client.list(&all).map_err(|error| error.to_string())?;
    Ok(tasks.into_iter().map(|task| (task.id, task)).collect())
}

/// A record, cut at one moment after the other.
struct Play {
    records: Vec<Record>,
    before: Disk,
    /// What had been told before it.
    told: Ledger,
    root: PathBuf,
    /// All that were ever submitted.
    names: Vec<String>,
}

impl Play {
    /// From nothing on.
    fn record() -> Play {
        Play::on(&Scene::fresh(), Ledger::default(), names("a"))
    }

    /// What is done in a directory that is left so, from the submission of these names on.
    fn on(scene: &Scene, told: Ledger, names: Vec<String>) -> Play {
        let before = Disk::load(&scene.root());
        let records = scene.run(&names);
        Play {
            records,
            before,
            told,
            root: scene.root(),
            names,
        }
    }

    /// The power goes in the middle of it, and what was left is gone on with and recorded.
    fn again(&self, random: &mut StdRng) -> Play {
        let moment = random.random_range(self.records.len() / 3..self.records.len() * 2 / 3);
        let (mut disk, mut ledger) = (self.before.clone(), self.told.clone());
        for record in &self.records[..moment] {
            disk.happen(record);
            ledger.hear(record);
        }
        let scene = Scene::new();
        disk.fail(&self.root, &scene.root(), random);
        scene.grant();
        let mut play = Play::on(&scene, ledger, names("b"));
        play.names.extend(self.names.iter().cloned());
        play
    }

    /// Moments of which most are those in which something was just told, or is just to be synced.
    fn moments(&self, many: u64, random: &mut StdRng) -> Vec<usize> {
        let tells = |record: &Record| matches!(record, Record::Told { .. });
        let syncs = |record: &Record| matches!(record, Record::Synced { .. });
        let places = |of: &dyn Fn(&Record) -> bool, add: usize| -> Vec<usize> {
            let found = self
                .records
                .iter()
                .enumerate()
                .filter(|(_, record)| of(record));
            found.map(|(index, _)| index + add).collect()
        };
        let (told, synced) = (places(&tells, 1), places(&syncs, 0));
        let mut moments: Vec<usize> = (0..many)
            .map(|number| match number % 3 {
                0 => told[random.random_range(0..told.len())],
                1 => synced[random.random_range(0..synced.len())],
                _ => random.random_range(0..=self.records.len()),
            })
            .collect();
        moments.sort_unstable();
        moments
    }

    /// What is wrong after a loss of power at each of these moments.
    fn losses(&self, moments: &[usize], seed: u64, lies: bool) -> Vec<String> {
        let mut disk = self.before.clone();
        disk.lies = lies;
        let mut ledger = self.told.clone();
        let mut happened = 0;
        let mut wrong = Vec::new();
        for &moment in moments {
            for record in &self.records[happened..moment] {
                disk.happen(record);
                ledger.hear(record);
            }
            happened = moment;
            let scene = Scene::new();
            let mut random = StdRng::seed_from_u64(seed ^ moment as u64);
            disk.fail(&self.root, &scene.root(), &mut random);
            scene.grant();
            if let Err(what) = check(&scene, &ledger, &self.names) {
                println!("moment {moment} of {}: {what}", self.records.len());
                wrong.push(what);
            }
        }
        wrong
    }
}

fn play() -> &'static Play {
    static PLAY: OnceLock<Play> = OnceLock::new();
    PLAY.get_or_init(Play::record)
}

#[test]
fn what_was_told_before_the_power_went_is_there_afterwards_and_nothing_is_done_twice() {
    let seed = number("FISHWAY_POWER_SEED", 0x_f15_4a7);
    let many = number("FISHWAY_POWER_CUTS", 45);
    let mut random = StdRng::seed_from_u64(seed);
    let began = std::time::Instant::now();
    let first = play();
    // And once more, in what the first loss has left.
    let second = first.again(&mut random);
    let moments = [
        first.moments(many, &mut random),
        second.moments(many / 3, &mut random),
    ];
    let (first, second) = ((first, &moments[0]), (&second, &moments[1]));
    let wrong = std::thread::scope(|scope| {
        let part = |odd: usize| {
            let of = move |(play, moments): (&Play, &Vec<usize>)| {
                let mine = moments.iter().filter(|moment| **moment % 2 == odd);
                play.losses(&mine.copied().collect::<Vec<_>>(), seed, false)
            };
            scope.spawn(move || [of(first), of(second)].concat())
        };
        [0, 1].map(part).map(|part| part.join().unwrap()).concat()
    });
    println!("{many} and {} moments in {:?}", many / 3, began.elapsed());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The test above would tell: the same program on a disk that syncs nothing loses what it told.
#[test]
fn a_disk_that_lies_is_found_out() {
    let play = play();
    let told = |record: &Record| matches!(record, Record::Told { .. });
    let last = play.records.iter().rposition(told).unwrap();
    let lost = play.losses(&[last / 2, last * 3 / 4, last + 1], 1, true);
    assert!(!lost.is_empty());
}
