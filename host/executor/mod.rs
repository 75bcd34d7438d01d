//! Runs attempts: a fresh store and instance for each, and what an attempt asks of its host.
//!
//! The scheduler hands over claimed tasks, each with a slot. The executor gives a claim to the
//! instance that waits for it, if that is still parked, or starts an instance and replays the
//! journal of the run. How the attempt ended goes to the store. Nothing that a guest does is an
//! error here.

mod attempt;
mod bindings;
mod control;
mod draws;
mod earlier;
mod ended;
pub mod engine;
mod guest;
mod http;
mod imports;
mod invoke;
mod limiter;
mod log;
mod network;
mod opening;
mod outbound;
mod pages;
mod parking;
mod randomness;
mod sandbox;
mod slots;
mod turns;
mod values;
mod wasi;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use sandbox::Sandbox;
pub use slots::Slots;

use self::control::{Control, Interrupt};
use self::parking::{Claim, Parking};
use crate::clock::Clock;
use crate::exchange::{Client, ClientError, ClientSettings, Exchanges, RunKey};
use crate::limits;
use crate::loader::Loader;
use crate::memory::{self, Memory};
use crate::secrets::Secrets;
use crate::store::{Attempts, Store};
use crate::task::{Task, TaskId, Token};

/// What a host may set.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Attempts that run at once.
    pub slots: usize,
    /// Waiting instances that stay in memory.
    pub parked_max: usize,
    /// How long a waiting instance stays in memory.
    pub park: Duration,
    /// How long an attempt may go on after it was asked to stop: its task was cancelled, a clock of the task ran out, or
    /// the host stops.
    pub grace: Duration,
    /// How often a run is begun again because its host died or lost it; then its task fails.
    pub restarts_max: u32,
    /// The memory of the host, in bytes: what instances, answers and bodies may take together.
    pub memory_bytes: u64,
    /// The client for requests of guests.
    pub http: ClientSettings,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Settings {
            slots: (cores * 4).max(8),
            parked_max: 256,
            park: Duration::from_secs(10),
            grace: Duration::from_secs(10),
            restarts_max: limits::RESTARTS_MAX,
            memory_bytes: memory::default_bytes(),
            http: ClientSettings::default(),
        }
    }
}

impl Settings {
    /// Instances that may be alive at once, by which the pool is sized.
    pub fn instances_max(&self) -> u32 {
        // Some are claimed again and wait for a start, and one that is dropped may still be on its way
        // out when the next one comes.
        let instances = self.slots + self.parked_max + slots::AHEAD_MAX + 16;
        u32::try_from(instances).unwrap_or(u32::MAX)
    }
}

/// What attempts work with.
pub struct Agents {
    store: Arc<dyn Store>,
    loader: Arc<Loader>,
    sandbox: Arc<Sandbox>,
    clock: Arc<dyn Clock>,
    parking: Arc<Parking>,
    random_secrets: randomness::RandomSecrets,
    secrets: Arc<Secrets>,
    exchanges: Arc<Exchanges>,
    settings: Settings,
}

/// Why the executor cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The engine or its threads cannot be had.
    #[error("the WebAssembly engine cannot start: {why}")]
    Engine {
        /// What it says.
        why: String,
    },
    /// The client for requests of guests could not be created.
    #[error(transparent)]
    Http(#[from] ClientError),
}

/// Runs claimed tasks.
pub struct Executor {
    agents: Arc<Agents>,
    slots: Arc<Slots>,
    /// Guests have threads of their own, so that they never keep the host from its work.
    guests: tokio::runtime::Handle,
    /// And those that compute have others.
    apart: tokio::runtime::Handle,
    running: Arc<Running>,
    /// Attempts that have not written their end yet, or whose instance is still there.
    live: Arc<watch::Sender<usize>>,
    _runtimes: [Runtime; 2],
}

/// The reins of the attempts of this host, the newest of each task.
#[derive(Default)]
struct Running(Mutex<Reins>);

#[derive(Default)]
struct Reins {
    controls: HashMap<TaskId, Arc<Control>>,
    /// Whether the host stops. A claim that was committed just before may come after that.
    closed: bool,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, Reins> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt is entered before its claim is handed over, and leaves after its end is on disk. The writer thread does
/// both. So when the writer thread does not find an attempt here, no part of this host runs it.
impl Attempts for Attempting {
    fn holds(&self, token: Token) -> bool {
        let running = self.running.lock();
        let control = running.controls.get(&token.task);
        control.is_some_and(|control| control.claim() == Some(token.fence))
    }

    fn holds_exchange(&self, task: TaskId, run: u32, number: u32) -> bool {
        self.exchanges.holds(RunKey { task, run }, number)
    }
}

/// The state for the heartbeat.
struct Attempting {
    running: Arc<Running>,
    exchanges: Arc<Exchanges>,
}

/// One attempt, which is counted and can be asked to stop until its end is written.
struct Live {
    task: TaskId,
    control: Arc<Control>,
    running: Arc<Running>,
    count: Arc<watch::Sender<usize>>,
}

impl Drop for Live {
    fn drop(&mut self) {
        // A dropped wait may be over already, and its task run in another instance.
        let mut running = self.running.lock();
        if running
            .controls
            .get(&self.task)
            .is_some_and(|other| Arc::ptr_eq(other, &self.control))
        {
            running.controls.remove(&self.task);
        }
        drop(running);
        self.count.send_modify(|live| *live -= 1);
    }
}

/// A runtime that does not wait for guests when it goes.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Executor {
    /// An executor for what `loader` has, inside `sandbox`.
    pub fn start(
        store: Arc<dyn Store>,
        loader: Arc<Loader>,
        sandbox: Arc<Sandbox>,
        clock: Arc<dyn Clock>,
        secrets: Arc<Secrets>,
        settings: Settings,
    ) -> Result<Executor, ExecutorError> {
        let failed = |error: std::io::Error| ExecutorError::Engine {
            why: error.to_string(),
        };
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("fishway-guest")
            // Guests that compute have a thread for a whole epoch at each turn: who comes from outside goes
            // before them, and clocks are looked at between a few turns, not dozens.
            .global_queue_interval(1)
            .event_interval(8)
            .enable_all()
            .build()
            .map_err(failed)?;
        let apart = turns::apart(threads).map_err(failed)?;
        let epoch = engine::EpochThread::start(sandbox.engine())?;
        let slots = Arc::new(Slots::new(settings.slots, epoch));
        let memory = Memory::new(settings.memory_bytes);
        let client = Client::new(&settings.http)?;
        let exchanges = Exchanges::new(
            client,
            store.clone(),
            secrets.clone(),
            memory.clone(),
            clock.clone(),
        );
        let parking = Parking::new(settings.parked_max, memory);
        let agents = Agents {
            store,
            loader,
            sandbox,
            clock,
            parking,
            random_secrets: randomness::RandomSecrets::default(),
            secrets,
            exchanges: Arc::new(exchanges),
            settings,
        };
        Ok(Executor {
            agents: Arc::new(agents),
            slots,
            guests: runtime.handle().clone(),
            apart: apart.handle().clone(),
            running: Arc::default(),
            live: Arc::new(watch::Sender::new(0)),
            _runtimes: [runtime, apart].map(|runtime| Runtime(Some(runtime))),
        })
    }

    /// Set the number of this host's lease.
    pub fn serve(&self, lease: u64) {
        self.agents.exchanges.serve(lease);
    }

    /// The slots, for whoever claims.
    pub fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// The memory of the host.
    pub fn memory(&self) -> &Arc<Memory> {
        self.agents.parking.memory()
    }

    /// Run a claimed task, or let it run on. Returns at once.
    pub fn run(&self, task: Task) {
        let slot = self.slots.take(&task.handler);
        let Some(mut claim) = self.agents.parking.resume(Claim { task, slot }) else {
            return;
        };
        let agents = self.agents.clone();
        let apart = self.apart.clone();
        let live = self.begin(claim.task.token());
        self.guests.spawn(async move {
            claim.slot.start().await;
            // Made here and in a place of its own: what is spawned is copied a few times, and this is large.
            let attempt = Box::pin(attempt::run(agents, claim, live));
            turns::taking_turns(attempt, &apart).await;
        });
    }

    /// An attempt of a task is to be. Before anyone can ask it to stop: the first thread that is free may be
    /// long in coming.
    fn begin(&self, token: Token) -> Live {
        let task = token.task;
        let control = Arc::new(Control::new(token.fence));
        let mut running = self.running.lock();
        let before = running.controls.insert(task, control.clone());
        if running.closed {
            control.stop(Interrupt::HostStops, Duration::ZERO);
        }
        drop(running);
        // An earlier attempt at the task has ended, or has lost its claim and does not know that yet.
        if let Some(before) = before {
            before.stop(Interrupt::Replaced, Duration::ZERO);
        }
        self.live.send_modify(|live| *live += 1);
        Live {
            task,
            control,
            running: self.running.clone(),
            count: self.live.clone(),
        }
    }

    /// The attempts of this host. The heartbeat compares them with the database.
    pub fn attempts(&self) -> Arc<dyn Attempts> {
        Arc::new(Attempting {
            running: self.running.clone(),
            exchanges: self.agents.exchanges.clone(),
        })
    }

    /// Ask the attempts of these tasks to stop; they are interrupted after the grace.
    pub fn stop(&self, tasks: &[TaskId]) {
        let running = self.running.lock();
        for task in tasks {
            if let Some(control) = running.controls.get(task) {
                control.stop(Interrupt::Asked, self.agents.settings.grace);
            }
        }
    }

    /// Let the attempts of these tasks know that they should come to an end.
    pub fn hint(&self, tasks: &[TaskId]) {
        let running = self.running.lock();
        for control in tasks.iter().filter_map(|task| running.controls.get(task)) {
            control.hint();
        }
    }

    /// Take no more, let what runs come to an end, and interrupt what has not after `grace`.
    /// Interrupted attempts are given back and count for nothing; so are claims that were on their way here.
    /// Drop waiting instances at once, also those that begin to wait meanwhile. Responses for suspended tasks get the
    /// same time. Ends when nothing runs.
    pub async fn drain(&self, grace: Duration) {
        let until = Instant::now() + grace;
        self.slots.close();
        self.agents.parking.close();
        {
            let mut running = self.running.lock();
            running.closed = true;
            for control in running.controls.values() {
                control.stop(Interrupt::HostStops, grace);
            }
        }
        // Not the slots: an attempt gives its slot back before its end is written.
        let mut live = self.live.subscribe();
        let _ = live.wait_for(|live| *live == 0).await;
        let rest = until.saturating_duration_since(Instant::now());
        self.agents.exchanges.drain(rest).await;
    }
}
