//! The handlers directory while a host serves: looked at, told to the store, and what of it is needed no
//! more forgotten.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::executor::Sandbox;
use crate::loader::{Change, Handler, Loader};
use crate::store::{HandlerRow, Store};

/// Have the handlers directory looked at, by a thread of its own: it may load for minutes, and no end
/// of the host waits for that. What has changed is told to `told`; the answer ends when it was told
/// what needs no loading.
pub fn scan(
    loader: &Arc<Loader>,
    told: &mpsc::UnboundedSender<Vec<Change>>,
) -> oneshot::Receiver<()> {
    let (looked, answer) = oneshot::channel();
    let looked = Mutex::new(Some(looked));
    let (loader, told) = (loader.clone(), told.clone());
    let scanning = std::thread::Builder::new().name("fishway-scan".to_owned());
    let scanning = scanning.spawn(move || {
        loader.scan(|changes| {
            let _ = told.send(changes);
            let looked = looked.lock().unwrap_or_else(PoisonError::into_inner).take();
            let _ = looked.map(|looked| looked.send(()));
        });
    });
    if let Err(error) = scanning {
        tracing::warn!(%error, "the handlers directory cannot be looked at now");
    }
    answer
}

/// These changes and what has come after them.
pub fn all(
    mut changes: Vec<Change>,
    loaded: &mut mpsc::UnboundedReceiver<Vec<Change>>,
) -> Vec<Change> {
    while let Ok(more) = loaded.try_recv() {
        changes.extend(more);
    }
    changes
}

/// What is kept of handlers, for those who ask while no host runs.
pub fn rows(handlers: &[Arc<Handler>]) -> Vec<HandlerRow> {
    let mut rows = Vec::new();
    for handler in handlers {
        let row = |name, function| HandlerRow {
            name,
            digest: handler.digest.to_string(),
            description: handler.manifest.description.clone(),
            function,
            generator: handler.generator,
        };
        let types = handler.task_types();
        rows.extend(
            types.map(|(name, exported)| {
                row(name, exported.map(|exported| exported.function.clone()))
            }),
        );
        if handler.generator {
            rows.push(row(handler.name.clone(), None));
        }
    }
    rows
}

/// Let go of components that no unfinished task needs and that are not among the `handlers` that were
/// kept last: what was replaced since then, a claim may name that is not committed yet.
pub fn forget(store: &dyn Store, loader: &Loader, handlers: &[Arc<Handler>], sandbox: &Sandbox) {
    let mut needed = match store.digests_needed() {
        Ok(needed) => needed
            .iter()
            .filter_map(|digest| digest.parse().ok())
            .collect::<HashSet<_>>(),
        Err(error) => return tracing::warn!(%error, "kept components are not looked through"),
    };
    needed.extend(handlers.iter().map(|handler| handler.digest.clone()));
    if let Err(error) = loader.forget_kept(&needed) {
        tracing::warn!(%error, "a kept component cannot be removed");
    }
    let loaded: HashSet<_> = loader
        .handlers()
        .iter()
        .map(|handler| handler.digest.clone())
        .collect();
    sandbox.keep_prepared(|digest| needed.contains(digest) || loaded.contains(digest));
}
