//! What every case stands on: a host of its own in a directory of its own, and a look at the process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fishway::builder::{Request, build};
use fishway::client::Client;
use fishway::clock::SystemClock;
use fishway::daemon::{Host, Setup};
use fishway::executor::Settings;
use fishway::store::Keep;
use fishway::store::sqlite::{Opening, Role, SqliteStore};
use fishway::task::{Options, Status, StatusSet, TaskId};

/// A directory with handlers, and data beside them; gone with its owner.
pub struct Ground {
    pub directory: PathBuf,
}

impl Ground {
    /// A fresh directory without handlers.
    pub fn empty(place: &Path, name: &str) -> Ground {
        let directory = place.join(format!("bench-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("handlers")).unwrap();
        Ground { directory }
    }

    /// A fresh directory with the guests of the tests: `script`, `pages`, and `echo` under nine names.
    pub fn new(place: &Path, name: &str) -> Ground {
        let ground = Ground::empty(place, name);
        let handlers = ground.handlers();
        let guests = place.join("test-guests");
        for name in ["script.wasm", "pages.wasm"] {
            std::fs::copy(guests.join(name), handlers.join(name)).unwrap();
        }
        for copy in 0..9 {
            let name = match copy {
                0 => "echo.wasm".to_owned(),
                _ => format!("echo-{copy}.wasm"),
            };
            std::fs::copy(guests.join("echo.wasm"), handlers.join(name)).unwrap();
        }
        ground
    }

    pub fn handlers(&self) -> PathBuf {
        self.directory.join("handlers")
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// A host that serves it.
    pub async fn host(&self) -> Host {
        self.host_keeping(Keep::for_ever()).await
    }

    /// One that deletes what is kept no longer.
    pub async fn host_keeping(&self, keep: Keep) -> Host {
        let setup = Setup {
            handlers_dir: self.handlers(),
            data_dir: self.data(),
            database: None,
            settings: Settings::default(),
            database_bytes_max: None,
            keep,
            clock: Arc::new(SystemClock),
        };
        Host::start(setup).await.unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The guests of the tests, built once.
pub fn guests(place: &Path) -> PathBuf {
    let request = Request {
        project: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests"),
        out_dir: place.join("test-guests"),
        target_dir: Some(place.join("guests")),
        cache_dir: None,
        install: true,
    };
    build(&request, &mut |line| println!("{line}")).unwrap();
    request.out_dir
}

/// The database of a directory.
pub fn open(directory: &Path, role: Role) -> SqliteStore {
    let opening = Opening {
        directory: directory.to_owned(),
        role,
        watch: false,
        bytes_max: None,
        clock: Arc::new(SystemClock),
    };
    SqliteStore::open(opening).unwrap()
}

/// One task from its submit to its result.
pub async fn one(client: &Client, handler: &str, input: String) -> Duration {
    let started = Instant::now();
    let submitted = client
        .submit(handler, vec![input], Options::default())
        .await;
    let tasks = client
        .wait(
            &[submitted.unwrap()[0].id],
            false,
            StatusSet::terminal(),
            None,
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(tasks[0].status, Status::Completed, "{:?}", tasks[0].failure);
    started.elapsed()
}

/// Go on when all have ended, without a look at what they returned.
pub async fn ended(client: &Client, ids: &[TaskId]) {
    client
        .arrived(ids, false, StatusSet::terminal())
        .await
        .unwrap();
}

/// Many tasks of one handler in one transaction.
pub async fn submitted(client: &Client, handler: &str, inputs: Vec<String>) -> Vec<TaskId> {
    let submitted = client.submit(handler, inputs, Options::default()).await;
    submitted.unwrap().iter().map(|one| one.id).collect()
}

/// What the process has in memory now.
pub fn resident_mb() -> f64 {
    status_kb("VmRSS:") / 1_024.0
}

/// Count the most that the process has from now on.
pub fn forget_peak() {
    // Where that cannot be done, it is the most that it ever had.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most that it has had since.
pub fn peak_mb() -> f64 {
    status_kb("VmHWM:") / 1_024.0
}

/// Processor time that the process has used so far.
pub fn processor_time() -> Duration {
    let all = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may have blanks.
    let fields: Vec<&str> = all
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |place: usize| {
        fields
            .get(place)
            .and_then(|field| field.parse::<u64>().ok())
    };
    // A tick is 10 ms on every Linux.
    Duration::from_millis(10 * (ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0)))
}

fn status_kb(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    kilobytes.unwrap_or(0.0)
}
