//! The HTTP door: a JSON API for every verb of the command line, a feed of changes, and metrics.
//!
//! `serve --http ADDRESS` opens it in the host's own process, so that it hears of a commit at once and
//! nothing here polls. Answers have the shapes of [`crate::wire`], as `--json` has. Every request comes
//! through [`guard`] first; every body is bounded by [`given`]. The description of all of it is made of
//! this code ([`openapi`]).

mod bounds;
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
mod schedules;
mod server;
mod shown;
mod tasks;
mod waiting;
mod workflows;

pub use bounds::Bounds;
pub use openapi::document;
pub use server::{Http, HttpError};

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use self::feed::Feed;
use self::guard::Guard;
use self::problem::{Kind, Problem};
use crate::client::{Client, ClientError};
use crate::limits::{PAGE_PAYLOAD_BYTES, PAYLOAD_BYTES_MAX};
use crate::loader::Loader;
use crate::metrics::Live;

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

/// What an answer takes while it is made: the page, and the payloads of the task that ends it, once as tasks,
/// once as what is shown of them, and once as text.
const ANSWER_BYTES: u64 = 3 * (PAGE_PAYLOAD_BYTES + 3 * PAYLOAD_BYTES_MAX as u64);

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
            Err(_) => Err(Problem::new(Kind::Failed, "the look at the store panicked")),
        }
    }

    /// Read an answer that has payloads in it. Its room in memory is taken before, and given back when the
    /// last byte is sent; who finds none waits for a while.
    async fn answer<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Client) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, Problem> {
        let time = self.bounds.body_time;
        let taking = self.bounds.memory.answers.take(ANSWER_BYTES);
        let room = tokio::time::timeout(time, taking).await.map_err(|_| {
            let what = format!("the memory for answers was in use by other requests for {time:?}");
            Problem::new(Kind::TooMany, what)
                .hint("ask again, for smaller pages, or give the host more with --memory")
        })?;
        held::hold_answer(room);
        self.read(read).await
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
