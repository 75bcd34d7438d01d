//! Whatever may happen, in any order, from a seed: random programs of guests and people on the real
//! kernel, the real writer and the real engine, with a clock that jumps, reads that fail, hosts that die and
//! write late, a standby that takes over without the last commits; on SQLite a disk that loses what was
//! not synced, and one that is full; on PostgreSQL several hosts.
//!
//! A failing seed is made short and printed with the command that runs it again:
//! `FISHWAY_SIM_SEED=7 cargo test --locked simulation::whatever -- --nocapture`. `FISHWAY_SIM_STEPS=1_000_000` asks
//! for more steps than a plain run has, `FISHWAY_SIM_SERVER_STEPS` for more on PostgreSQL.

mod host; // the writer without a thread, the clock, what is asked of a database
mod machine; // does the steps, and knows what has to come of each
mod mirror; // the tasks as they should be
mod postgres; // a database on a server, with several hosts
mod sqlite; // a file and its disk
mod step; // steps, and the program of a seed

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fishway::store::sqlite::Role;

use self::host::{Base, SimClock};
use self::machine::{Machine, Tally};
use self::sqlite::{Disk, File};
use self::step::{Step, program};

/// Steps of a run.
const STEPS: u64 = 200_000;

/// Steps of a run on PostgreSQL, where each commit is a conversation with a server.
const SERVER_STEPS: u64 = 4_000;

/// Steps of one program: few enough for the invariants to be quick, enough for things to meet.
const LENGTH: usize = 400;

/// Seeds of programs that failed once and that a plain run does not come to. Each run does them first.
///
/// 1451: the log began again in the transaction in which the power was lost. 323: a cancelled pool completed at once by a
/// retry, and opened an edge for the second time. 813: a phase named a task twice; its wait was renewed for two, and one came.
const HELD: [u64; 3] = [1451, 323, 813];

/// How long a failing program is made shorter.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn whatever_happens_nothing_is_lost_and_nothing_is_done_twice() {
    simulate(&Files {
        template: template(),
    });
}

#[test]
fn whatever_happens_to_several_hosts_and_their_server_nothing_is_lost_and_nothing_is_done_twice() {
    // The cluster of the run is started by one thread, before others want it.
    crate::support::postgres::cluster();
    simulate(&Servers);
}

/// What programs run on.
trait Ground: Sync {
    /// The database of one program.
    fn base(&self, directory: &Path) -> Box<dyn Base>;
    /// Steps of a run.
    fn steps(&self) -> u64;
    /// The name of the test, to run one program again.
    fn test(&self) -> &'static str;
    /// Seeds that each run does first.
    fn held(&self) -> &'static [u64] {
        &[]
    }
}

/// SQLite.
struct Files {
    template: Disk,
}

impl Ground for Files {
    fn base(&self, directory: &Path) -> Box<dyn Base> {
        Box::new(File::new(directory, &self.template))
    }

    fn steps(&self) -> u64 {
        given("STEPS").unwrap_or(STEPS)
    }

    fn test(&self) -> &'static str {
        "simulation::whatever_happens_nothing"
    }

    fn held(&self) -> &'static [u64] {
        &HELD
    }
}

/// PostgreSQL.
struct Servers;

impl Ground for Servers {
    fn base(&self, _directory: &Path) -> Box<dyn Base> {
        Box::new(postgres::Server::new())
    }

    fn steps(&self) -> u64 {
        given("SERVER_STEPS").unwrap_or(SERVER_STEPS)
    }

    fn test(&self) -> &'static str {
        "simulation::whatever_happens_to_several"
    }
}

/// What `FISHWAY_SIM_...` says, or else.
fn given(name: &str) -> Option<u64> {
    let value = std::env::var(format!("FISHWAY_SIM_{name}")).ok()?;
    Some(value.replace('_', "").parse().expect("a number"))
}

/// Run programs until there are enough steps, or the one that is asked for.
fn simulate(ground: &dyn Ground) {
    let seed = given("SEED");
    let steps = ground.steps();
    // The one that is asked for; or those that are held, and then all.
    let held = ground.held().iter().copied();
    let seeds: Box<dyn Iterator<Item = u64> + Send> = match seed {
        Some(seed) => Box::new(std::iter::once(seed)),
        None => Box::new(held.chain(0..)),
    };
    let seeds = Mutex::new(seeds);
    let done = AtomicU64::new(0);
    let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let tally: Mutex<Tally> = Mutex::default();
    let work = || {
        let place = Place::new();
        while found.lock().unwrap().is_none()
            && (done.load(Ordering::Relaxed) < steps || seed.is_some())
        {
            let Some(number) = seeds.lock().unwrap().next() else {
                break;
            };
            let program = program(number, LENGTH);
            done.fetch_add(program.len() as u64, Ordering::Relaxed);
            match attempt(ground, &place.path, &program) {
                Ok(counts) => tally.lock().unwrap().add(&counts),
                Err(wrong) => *found.lock().unwrap() = Some((number, wrong)),
            }
        }
    };
    let hook = quiet();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let found = found.into_inner().unwrap();
    let report = found.map(|(seed, wrong)| report(seed, &wrong, ground));
    std::panic::set_hook(hook);
    if let Some(report) = report {
        panic!("{report}");
    }
    println!(
        "{:#?} in {:?}",
        tally.into_inner().unwrap(),
        started.elapsed()
    );
}

type Hook = Box<dyn Fn(&std::panic::PanicHookInfo<'_>) + Sync + Send + 'static>;

/// A program that is made shorter fails a hundred times; other tests of this process may still panic
/// aloud.
fn quiet() -> Hook {
    let hook: Arc<Hook> = Arc::new(std::panic::take_hook());
    let aloud = hook.clone();
    std::panic::set_hook(Box::new(move |panic| {
        if !IN_A_PROGRAM.get() {
            aloud(panic);
        }
    }));
    Box::new(move |panic| hook(panic))
}

thread_local! {
    static IN_A_PROGRAM: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// One program on a machine of its own. A panic is a failure like any other.
fn attempt(ground: &dyn Ground, directory: &Path, program: &[Step]) -> Result<Tally, String> {
    IN_A_PROGRAM.set(true);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut machine = Machine::new(ground.base(directory));
        machine.run(program).map(|()| machine.tally)
    }));
    IN_A_PROGRAM.set(false);
    ran.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
        Err(format!("panic: {}", said.unwrap_or_default()))
    })
}

/// What to read, and how to see it again.
fn report(seed: u64, wrong: &str, ground: &dyn Ground) -> String {
    let place = Place::new();
    let whole = program(seed, LENGTH);
    let short = shorter(whole, |program| {
        attempt(ground, &place.path, program).is_err()
    });
    let last = attempt(ground, &place.path, &short).err();
    let last = last.unwrap_or_else(|| "it does not fail again".to_owned());
    let steps: Vec<String> = (short.iter().enumerate())
        .map(|(number, step)| format!("{number:4}  {step}"))
        .collect();
    format!(
        "seed {seed}: {wrong}\n\nThe shortest program that fails:\n{}\n{last}\n\n\
         FISHWAY_SIM_SEED={seed} cargo test --locked {} -- --nocapture",
        steps.join("\n"),
        ground.test()
    )
}

/// As few of the steps as still fail: pieces are left out, large ones first.
fn shorter(mut program: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let until = Instant::now() + PATIENCE;
    let mut piece = program.len() / 2;
    while piece > 0 {
        let mut at = 0;
        let mut left_out = false;
        while at < program.len() && Instant::now() < until {
            let end = (at + piece).min(program.len());
            let rest = [&program[..at], &program[end..]].concat();
            if fails(&rest) {
                program = rest;
                left_out = true;
            } else {
                at = end;
            }
        }
        if !(left_out && piece == 1) {
            piece /= 2;
        }
        if Instant::now() >= until {
            break;
        }
    }
    program
}

/// A directory in memory, where the system has one.
struct Place {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let memory = Path::new("/dev/shm");
        let directory = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        Place {
            path: directory.path().to_owned(),
            _directory: directory,
        }
    }
}

/// An empty database, which every program begins with.
fn template() -> Disk {
    let place = Place::new();
    let clock = Arc::new(SimClock::at(1));
    drop(File::new(&place.path, &Disk::default()).open(Role::Host, &clock));
    Disk::read(&place.path)
}
