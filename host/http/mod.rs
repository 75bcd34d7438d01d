//! The HTTP door: a JSON API for every verb of the command line, a feed of changes, and metrics.
//!
//! `serve --http ADDRESS` opens it in the host's own process, so that it hears of a commit at once and
//! nothing here polls. Answers have the shapes of [`crate::wire`], as `--json` has. Every request comes
//! through [`guard`] first; every body is bounded by [`given`]. The description of all of it is made of
//! this code ([`openapi`]).

mod bounds;
mod bulk;
mod dashboard;
mod events;
mod feed;
mod given;
mod graph;
pub mod guard;
mod handlers;
mod held;
mod host;
mod jobs;
mod keeping;
mod openapi;
mod overview;
mod parts;
mod pools;
pub mod problem;
mod queues;
mod ready;
mod scans;
mod schedules;
mod server;
mod shown;
mod tasks;
mod waiting;
mod workflows;

pub use bounds::Bounds;
pub use openapi::document;
pub use scans::Keeping;
pub use server::{Http, HttpError};

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use self::feed::Feed;
use self::guard::Guard;
use self::problem::{Kind, Problem};
use self::scans::Scans;
use crate::client::{Client, ClientError};
use crate::limits::{PAGE_PAYLOAD_BYTES, PAYLOAD_BYTES_MAX};
use crate::loader::Loader;
use crate::metrics::Live;
use crate::store::StoreError;
use crate::task::TaskId;
use crate::wire::{self, TaskJson, now_ms};

/// What the door is opened with.
pub struct Setup {
    /// The verbs, on the store of this process.
    pub client: Client,
    /// What is loaded.
    pub loader: Arc<Loader>,
    /// Where the host keeps everything.
    pub data_dir: PathBuf,
    /// The number of the host's lease: the ids of its events begin with it.
    pub number: u64,
    /// Who may come in.
    pub guard: Guard,
    /// Whether handlers may be uploaded.
    pub allow_upload: bool,
    /// How much it takes on.
    pub bounds: Bounds,
}

/// What an answer is in memory while it is made: tasks, what is shown of them, and text.
const COPIES: u64 = 3;

/// What an answer takes while it is made: the page, and the payloads of the task that ends it.
const ANSWER_BYTES: u64 = COPIES * (PAGE_PAYLOAD_BYTES + 3 * PAYLOAD_BYTES_MAX as u64);

/// Answers with fewer bytes of payloads take no room: those of all connections together are what a few large
/// ones have.
const SMALL_ANSWER_BYTES: u64 = 16 << 10;

/// What all requests share.
pub struct Shared {
    client: Client,
    loader: Arc<Loader>,
    data_dir: PathBuf,
    /// The number of the host's lease.
    number: u64,
    ready: ready::Readiness,
    guard: Guard,
    allow_upload: bool,
    bounds: Bounds,
    scans: Scans,
    feed: Arc<Feed>,
    live: Arc<Live>,
    /// One upload at a time.
    uploading: tokio::sync::Mutex<()>,
    /// Units are added to jobs by one request at a time.
    adding: tokio::sync::Mutex<()>,
    /// Becomes true when the host stops: whoever waits is answered.
    closing: watch::Receiver<bool>,
}

/// See [`Shared`].
pub type State = Arc<Shared>;

/// What a look at a task has found.
enum Look {
    /// The task.
    Shown(Box<TaskJson>),
    /// More than there is room for: so many bytes.
    TooLarge(u64),
}

/// A task, where what it has apart from its row is no more than `bytes_max`.
fn look(client: &Client, id: TaskId, bytes_max: u64) -> Result<Look, ClientError> {
    let found = client.store().tasks_within(&[id], 0)?.pop().flatten();
    let (task, apart_bytes) = found.ok_or(StoreError::UnknownTask(id))?;
    if apart_bytes > bytes_max {
        return Ok(Look::TooLarge(apart_bytes));
    }
    let task = match apart_bytes {
        0 => task,
        _ => client.task(id)?,
    };
    let shown = wire::shown(&task, &client.holds([&task])?, now_ms());
    Ok(Look::Shown(Box::new(shown)))
}

impl Shared {
    /// Read from the store, where that may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Client) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, Problem> {
        let client = self.client.clone();
        let found = tokio::task::spawn_blocking(move || read(&client)).await;
        match found {
            Ok(found) => Ok(found?),
            Err(_) => Err(Problem::new(
                Kind::Failed,
                "the read from the store panicked",
            )),
        }
    }

    /// Count what costs a look at every task: now, or a moment ago where that takes long. `question` tells apart what
    /// is asked for.
    async fn scan<T: Clone + Send + Sync + 'static>(
        &self,
        question: &str,
        read: impl FnOnce(&Client) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, Problem> {
        let (client, store) = (self.client.clone(), self.client.store().clone());
        let has_tasks = move |many| {
            let (low, high) = (TaskId::from_i64(0), TaskId::from_i64(i64::MAX));
            let ids = store.ids_between(low, high, many);
            ids.is_ok_and(|ids| ids.len() as u64 >= many)
        };
        let answer = self
            .scans
            .answer(question, move || read(&client), has_tasks);
        match answer.await {
            Ok(found) => Ok(found?),
            Err(_) => Err(Problem::new(
                Kind::Failed,
                "the read from the store panicked",
            )),
        }
    }

    /// Read an answer that has payloads in it. Its room in memory is taken before, and given back when the
    /// last byte is sent; who finds none waits for a while.
    async fn answer<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Client) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.make_room(ANSWER_BYTES).await?;
        self.read(read).await
    }

    /// A task by itself, as the answer to a request that has made or changed it. Most tasks have so little that
    /// their answers need no room; what the others have is known before it is read.
    async fn task(&self, id: TaskId) -> Result<TaskJson, Problem> {
        let mut room_bytes = SMALL_ANSWER_BYTES;
        loop {
            let looked = self
                .read(move |client| look(client, id, room_bytes))
                .await?;
            match looked {
                Look::Shown(task) => return Ok(*task),
                Look::TooLarge(bytes) => {
                    self.make_room(COPIES * bytes).await?;
                    room_bytes = bytes;
                }
            }
        }
    }

    /// Take room in memory for the answer, of so many bytes, in place of what it has. It is given back when the
    /// last byte is sent; a request that finds none waits for a while.
    async fn make_room(&self, bytes: u64) -> Result<(), Problem> {
        held::drop_answer();
        let time = self.bounds.answer_time;
        let taking = self.bounds.memory.answers.take(bytes);
        let room = tokio::time::timeout(time, taking).await.map_err(|_| {
            let what = format!("the memory for answers was in use by other requests for {time:?}");
            Problem::new(Kind::TooMany, what)
                .hint("ask again, for smaller pages, or give the host more with --memory")
        })?;
        held::hold_answer(room);
        Ok(())
    }

    /// Tasks of a handler that run at once, where it says so.
    fn handler_max(&self, task_type: &str) -> Option<u32> {
        let handler = self.loader.get(task_type)?;
        handler.manifest.limits.concurrency
    }

    /// Ends when the host stops.
    async fn closed(&self) {
        let mut closing = self.closing.clone();
        let _ = closing.wait_for(|closing| *closing).await;
    }
}
