//! Handlers that several hosts share through their database: what one has loaded, another serves
//! without a copy of its files.
//!
//! A host publishes what it loads from a directory of its own. One without such a directory mirrors
//! what the others publish: it takes over what is new or has changed, component or manifest, and lets
//! go of what is published no more. Of a name that several hosts publish, it runs what changed last.
//! And the component of a task in progress that is not here is fetched by its digest.

mod mirror;
mod publisher;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

pub use self::mirror::Mirror;
pub use self::publisher::Publisher;

use crate::blocking;
use crate::loader::{Digest, Loader, LoaderError};
use crate::store::{Store, StoreError};
use crate::task::check_handler_name;
use crate::throttle::Throttle;

/// How often a host looks whether others have published something. It reads one row.
const REST: Duration = Duration::from_secs(1);

/// How often a host says that it cannot look.
const SAID_AGAIN: Duration = Duration::from_secs(10);

/// Where the handlers of other hosts are, in the data directory of one that has none of its own.
/// Nothing else is in there.
pub const MIRROR: &str = "mirrored";

/// What a host has to do with the handlers of other hosts.
pub enum Sharing {
    /// Nothing: it has the database for itself.
    Alone,
    /// It publishes its own.
    Publishes(Mutex<Publisher>),
    /// It mirrors those of the others.
    Mirrors(Mutex<Mirror>),
}

impl Sharing {
    /// The handlers here were loaded, replaced or forgotten: let the others know.
    pub async fn handlers_changed(
        self: &Arc<Sharing>,
        store: &Arc<dyn Store>,
        loader: &Arc<Loader>,
    ) -> Result<(), StoreError> {
        self.beside(store, loader, |sharing, store, loader| async move {
            match &*sharing {
                Sharing::Publishes(publisher) => {
                    publisher.lock().await.publish(&*store, &loader).await
                }
                Sharing::Alone | Sharing::Mirrors(_) => Ok(()),
            }
        })
        .await
    }

    /// Follow what others share, for as long as this host serves.
    pub async fn follow(
        self: Arc<Sharing>,
        store: Arc<dyn Store>,
        loader: Arc<Loader>,
    ) -> Result<(), StoreError> {
        if matches!(*self, Sharing::Alone) {
            return Ok(());
        }
        let mut said = Throttle::new(SAID_AGAIN);
        loop {
            tokio::time::sleep(REST).await;
            let looked = self.beside(&store, &loader, |sharing, store, loader| async move {
                fetch(&*store, &loader)?;
                match &*sharing {
                    Sharing::Alone => Ok(()),
                    Sharing::Publishes(publisher) => {
                        publisher.lock().await.follow(&*store, &loader).await
                    }
                    // The watch of the directory loads what changes.
                    Sharing::Mirrors(mirror) => mirror.lock().await.follow(&*store),
                }
            });
            if let Err(error) = looked.await
                && let Some(left_out) = said.pass(Instant::now())
            {
                tracing::warn!(%error, left_out, "the handlers that other hosts publish cannot be read");
            }
        }
    }

    /// Do something on a thread that may wait for the database.
    async fn beside<Work>(
        self: &Arc<Sharing>,
        store: &Arc<dyn Store>,
        loader: &Arc<Loader>,
        work: impl FnOnce(Arc<Sharing>, Arc<dyn Store>, Arc<Loader>) -> Work + Send + 'static,
    ) -> Result<(), StoreError>
    where
        Work: Future<Output = Result<(), StoreError>>,
    {
        let (sharing, store, loader) = (self.clone(), store.clone(), loader.clone());
        let runtime = tokio::runtime::Handle::current();
        blocking::run(move || runtime.block_on(work(sharing, store, loader))).await
    }
}

/// Fetch what unfinished tasks go on with and is not here. Answers whether there was anything.
pub fn fetch(store: &dyn Store, loader: &Loader) -> Result<bool, StoreError> {
    let needed = store.digests_needed()?;
    if needed.is_empty() {
        return Ok(false);
    }
    // First what each handler may do: a component is run with the manifest of its own handler alone.
    let mut fetched = false;
    for (digest, name) in store.shared_names(&needed)? {
        let Ok(parsed) = digest.parse::<Digest>() else {
            continue;
        };
        // Of what is loaded here the own manifest counts.
        if loader.has_manifest(&parsed, &name) || check_name(&name).is_err() {
            continue;
        }
        if let Some(manifest) = store.shared_manifest(&digest, &name)? {
            let kept = loader.keep_manifest(&parsed, &name, manifest.as_deref());
            fetched |= told(kept);
        }
    }
    for digest in needed {
        let Ok(parsed) = digest.parse::<Digest>() else {
            continue;
        };
        if loader.has(&parsed) {
            continue;
        }
        if let Some(bytes) = store.shared_component(&digest)? {
            fetched |= told(loader.keep_component(&parsed, &bytes));
        }
    }
    Ok(fetched)
}

/// The name becomes that of a file. It is empty for the manifest that an older version has shared.
fn check_name(name: &str) -> Result<(), String> {
    match name.is_empty() {
        true => Ok(()),
        false => check_handler_name(name),
    }
}

/// Whether it was kept.
fn told(kept: Result<(), LoaderError>) -> bool {
    if let Err(error) = &kept {
        tracing::warn!(%error, "a component of another host cannot be kept");
    }
    kept.is_ok()
}
