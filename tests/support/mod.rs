//! A host in this process, on a directory of its own, with the test guests or the examples.

pub mod browser;
pub mod guests;
pub mod http_server;
pub mod leaks;
pub mod limited;
pub mod line;
pub mod nginx;
pub mod place;
pub mod postgres;
pub mod python;
pub mod workflows;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fishway::client::{Client, Detail};
use fishway::clock::{Clock, HandClock, SystemClock};
use fishway::daemon::{Broken, Host, HostError, Setup};
use fishway::executor::Settings;
use fishway::store::Keep;
use fishway::task::{Options, Status, StatusSet, Task, TaskId};
use serde_json::{Value, json};

/// Nothing here takes that long; a test that would hang fails instead.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A host that serves `script` and `echo`, or the examples.
pub struct World {
    pub directory: tempfile::TempDir,
    pub client: Client,
    pub settings: Settings,
    keep: Keep,
    clock: Arc<dyn Clock>,
    host: Option<Host>,
}

impl World {
    /// On the machine's clock.
    pub async fn start() -> World {
        World::with(Settings::default(), Arc::new(SystemClock)).await
    }

    /// With other settings.
    pub async fn set(settings: Settings) -> World {
        World::with(settings, Arc::new(SystemClock)).await
    }

    /// On a clock that stands still, keeping ended tasks for so long.
    pub async fn keeping(keep: Keep) -> (World, Arc<HandClock>) {
        let (mut world, clock) = World::by_hand().await;
        world.stop().await;
        world.keep = keep;
        world.restart().await;
        (world, clock)
    }

    /// On a clock that stands still until it is turned.
    pub async fn by_hand() -> (World, Arc<HandClock>) {
        World::set_by_hand(Settings::default()).await
    }

    /// The same, with other settings.
    pub async fn set_by_hand(settings: Settings) -> (World, Arc<HandClock>) {
        let clock = Arc::new(HandClock::at(1_790_000_000_000));
        (World::with(settings, clock.clone()).await, clock)
    }

    /// One that serves the examples of `docs/patterns.md`.
    pub async fn of_examples(settings: Settings, clock: Arc<dyn Clock>) -> World {
        static COMPILED: OnceLock<PathBuf> = OnceLock::new();
        World::serving(guests::place_patterns, &COMPILED, settings, clock).await
    }

    /// One that serves handlers with typed functions, too.
    pub async fn of_typed(settings: Settings, clock: Arc<dyn Clock>) -> World {
        static COMPILED: OnceLock<PathBuf> = OnceLock::new();
        World::serving(guests::place_typed, &COMPILED, settings, clock).await
    }

    /// One that serves the handlers in all languages.
    pub async fn of_languages(settings: Settings, clock: Arc<dyn Clock>) -> World {
        static COMPILED: OnceLock<PathBuf> = OnceLock::new();
        World::serving(guests::place_languages, &COMPILED, settings, clock).await
    }

    async fn with(settings: Settings, clock: Arc<dyn Clock>) -> World {
        World::serving(guests::place_guests, &GUESTS, settings, clock).await
    }

    pub async fn serving(
        place_handlers: fn(&Path),
        compiled: &OnceLock<PathBuf>,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> World {
        let directory = tempfile::tempdir().unwrap();
        place_handlers(&directory.path().join("handlers"));
        warm(&directory.path().join("data"), place_handlers, compiled);
        let keep = Keep::for_ever();
        let host = start(directory.path(), &settings, keep, &clock)
            .await
            .unwrap();
        World {
            client: host.client(),
            directory,
            settings,
            keep,
            clock,
            host: Some(host),
        }
    }

    pub fn handlers(&self) -> PathBuf {
        self.directory.path().join("handlers")
    }

    pub fn host(&mut self) -> &mut Host {
        self.host.as_mut().unwrap()
    }

    /// Stop the host in an orderly way, without any grace.
    pub async fn stop(&mut self) {
        self.stop_within(Duration::ZERO).await;
    }

    /// Stop it, and let what runs come to its end.
    pub async fn stop_within(&mut self, grace: Duration) {
        self.host.take().unwrap().stop(grace).await;
    }

    /// Let go of it as of one that cannot go on.
    pub async fn fail(&mut self, broken: &Broken) {
        self.host.take().unwrap().fail(broken).await;
    }

    /// Start it again on the same directory.
    pub async fn restart(&mut self) {
        let host = start(
            self.directory.path(),
            &self.settings,
            self.keep,
            &self.clock,
        )
        .await
        .unwrap();
        self.client = host.client();
        self.host = Some(host);
    }

    /// Write a manifest for the script guest, under another name, and wait until it is loaded.
    pub async fn handler(&mut self, name: &str, manifest: &str) {
        std::fs::copy(
            guests::guest("script"),
            self.handlers().join(format!("{name}.wasm")),
        )
        .unwrap();
        std::fs::write(self.handlers().join(format!("{name}.toml")), manifest).unwrap();
        self.stop().await;
        self.restart().await;
        self.host().loader().through().await;
        assert!(
            self.host().loader().get(name).is_some(),
            "{:?}",
            self.host().loader().problems()
        );
    }

    /// Put another test guest beside the others.
    pub async fn place(&mut self, guest: &str) {
        let to = self.handlers().join(format!("{guest}.wasm"));
        std::fs::copy(guests::guest(guest), to).unwrap();
        self.stop().await;
        self.restart().await;
        self.host().loader().through().await;
        let problems = self.host().loader().problems();
        assert!(self.host().loader().get(guest).is_some(), "{problems:?}");
    }

    /// Submit a script of steps.
    pub async fn submit(&self, steps: Value) -> TaskId {
        self.submit_to("script", json!({ "steps": steps }), Options::default())
            .await
    }

    pub async fn submit_to(&self, handler: &str, input: Value, options: Options) -> TaskId {
        self.client
            .submit(handler, vec![input.to_string()], options)
            .await
            .unwrap()[0]
            .id
    }

    /// Submit a script and wait for its end.
    pub async fn run(&self, steps: Value) -> Task {
        let id = self.submit(steps).await;
        self.end(id).await
    }

    /// The results of a script that completes.
    pub async fn results(&self, steps: Value) -> Value {
        results(&self.run(steps).await)
    }

    /// Wait for the end of a task.
    pub async fn end(&self, id: TaskId) -> Task {
        self.reach(id, StatusSet::terminal()).await
    }

    /// Wait until a task has one of these statuses, or has ended.
    pub async fn reach(&self, id: TaskId, wanted: StatusSet) -> Task {
        let found = self
            .client
            .wait(&[id], false, wanted, Some(PATIENCE))
            .await
            .unwrap();
        match found {
            Some(mut tasks) => tasks.remove(0),
            None => panic!("task {id} hangs: {:?}", self.client.task(id)),
        }
    }

    pub async fn reach_status(&self, id: TaskId, status: Status) -> Task {
        let task = self.reach(id, [status].into_iter().collect()).await;
        assert_eq!(task.status, status, "{:?}", task.failure);
        task
    }

    pub fn detail(&self, id: TaskId) -> Detail {
        self.client.detail(id).unwrap()
    }

    /// Wait until `look` finds something, looking after each commit.
    pub async fn until<T>(&self, mut look: impl FnMut(&Client) -> Option<T>) -> T {
        let mut commits = self.client.store().bus().commits();
        let looking = async {
            loop {
                commits.mark_unchanged();
                if let Some(found) = look(&self.client) {
                    return found;
                }
                commits.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .expect("what was waited for has not come")
    }
}

/// Every wait parked, and every wait dropped and replayed.
pub fn both_ways() -> [Settings; 2] {
    let dropped = Settings {
        parked_max: 0,
        ..Settings::default()
    };
    [Settings::default(), dropped]
}

/// The results of a script that has completed, or the output of any other task.
pub fn results(task: &Task) -> Value {
    assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
    let output: Value = serde_json::from_str(task.output.as_deref().unwrap()).unwrap();
    output.get("results").cloned().unwrap_or(output)
}

/// The message of a task that has failed.
pub fn failure(task: &Task) -> String {
    assert_eq!(task.status, Status::Failed, "{:?}", task.output);
    task.failure.as_ref().unwrap().message.clone()
}

async fn start(
    directory: &Path,
    settings: &Settings,
    keep: Keep,
    clock: &Arc<dyn Clock>,
) -> Result<Host, HostError> {
    Host::start(Setup {
        handlers_dir: directory.join("handlers"),
        data_dir: directory.join("data"),
        settings: settings.clone(),
        database: None,
        database_bytes_max: None,
        keep,
        clock: clock.clone(),
    })
    .await
}

/// Where the compiled code of the test guests is.
static GUESTS: OnceLock<PathBuf> = OnceLock::new();

/// Give a new data directory the compiled code of the test guests.
pub fn warm_guests(data: &Path) {
    warm(data, guests::place_guests, &GUESTS);
}

/// Give a new data directory the compiled code of its handlers, so that only the first test compiles
/// them.
fn warm(data: &Path, place_handlers: fn(&Path), compiled: &OnceLock<PathBuf>) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let compiled = compiled.get_or_init(|| {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Those in all languages take minutes, and are kept for the next process; one compiles at a time.
        let large = [
            (guests::place_languages as fn(&Path), "compiled-languages"),
            (guests::place_web, "compiled-web"),
        ];
        let large = large
            .iter()
            .find(|(place, _)| std::ptr::fn_addr_eq(*place, place_handlers));
        let lock = large.map(|_| std::fs::File::create(place.join("compiled.lock")).unwrap());
        if let Some(lock) = &lock {
            lock.lock().unwrap();
        }
        let directory = match large {
            Some((_, name)) => place.join(name),
            None => place.join(format!("compiled-{}-{count}", std::process::id())),
        };
        let handlers = directory.join("handlers");
        place_handlers(&handlers);
        let sandbox =
            fishway::executor::Sandbox::pooled(Settings::default().instances_max()).unwrap();
        let loader = fishway::loader::Loader::open(
            sandbox.engine().clone(),
            sandbox.check(),
            &handlers,
            &directory.join("data"),
        );
        loader.unwrap().scan(|_| {});
        directory.join("data").join("compiled")
    });
    let to = data.join("compiled");
    std::fs::create_dir_all(&to).unwrap();
    for file in std::fs::read_dir(compiled).unwrap().flatten() {
        let place = to.join(file.file_name());
        // Nobody writes into one; those of large guests together are half a gigabyte.
        if std::fs::hard_link(file.path(), &place).is_err() {
            std::fs::copy(file.path(), place).unwrap();
        }
    }
}

/// The options of a submit, most of them absent.
pub fn options(change: impl FnOnce(&mut Options)) -> Options {
    let mut options = Options::default();
    change(&mut options);
    options
}
