//! The publisher: publishes the handlers that are loaded here, and no others.
//!
//! A publisher is a data directory. It keeps its identity over restarts, so that it can withdraw handlers
//! that were removed while it did not run.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use crate::loader::{Loader, write_atomically};
use crate::store::{Publication, PublishedHandler, SharedComponent, Store, StoreError};

/// The file in the data directory that names it as a publisher.
const IDENTITY_FILE: &str = "publisher.id";

/// What this host lets the others have.
pub struct Publisher {
    /// The data directory, as the database knows it.
    id: String,
    data_dir: PathBuf,
    /// The number of this host, and its handlers directory.
    host: u64,
    handlers_dir: PathBuf,
    /// The count of changes when it was last compared with what is loaded here.
    seen: Option<i64>,
}

impl Publisher {
    /// The publisher of a data directory that this host serves: the same at each start.
    pub fn of(data_dir: &Path, host: u64, handlers_dir: &Path) -> std::io::Result<Publisher> {
        let file = data_dir.join(IDENTITY_FILE);
        let known = match std::fs::read_to_string(&file) {
            Ok(text) => Some(text.trim().to_owned()).filter(|id| !id.is_empty()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut publisher = Publisher {
            id: known.unwrap_or_default(),
            data_dir: data_dir.to_owned(),
            host,
            handlers_dir: handlers_dir.to_owned(),
            seen: None,
        };
        if publisher.id.is_empty() {
            publisher.take_new_identity()?;
        }
        Ok(publisher)
    }

    fn take_new_identity(&mut self) -> std::io::Result<()> {
        self.id = format!("{:032x}", rand::random::<u128>());
        write_atomically(&self.data_dir.join(IDENTITY_FILE), self.id.as_bytes())
    }

    /// Let the others have what is loaded here, and nothing else.
    pub async fn publish(&mut self, store: &dyn Store, loader: &Loader) -> Result<(), StoreError> {
        let revision = store.published_revision()?;
        let published = store.published()?;
        self.claim(store, &published).await?;
        let own: BTreeMap<&str, &PublishedHandler> = (published.iter())
            .filter(|one| one.publisher == self.id)
            .map(|one| (one.name.as_str(), one))
            .collect();
        let loaded = loader.handlers();
        for handler in &loaded {
            let digest = handler.digest.to_string();
            let same = own.get(handler.name.as_str()).is_some_and(|known| {
                known.digest == digest
                    && known.manifest.as_deref() == handler.manifest_text.as_deref()
            });
            let Some(bytes) = (match same {
                true => None,
                false => loader.kept(&handler.digest),
            }) else {
                continue;
            };
            let component = SharedComponent {
                digest,
                bytes,
                name: handler.name.clone(),
                manifest: handler.manifest_text.as_deref().map(str::to_owned),
            };
            // One at a time: a component may be large, and others write in between.
            self.change(store, vec![(handler.name.clone(), component)], Vec::new())
                .await?;
        }
        let here: HashSet<&str> = loaded.iter().map(|handler| &*handler.name).collect();
        // What is being loaded, as after a start, is on its way and not gone.
        let withdrawn: Vec<String> = (own.keys())
            .filter(|name| !here.contains(*name) && !loader.loads(name))
            .map(|&name| name.to_owned())
            .collect();
        if !withdrawn.is_empty() {
            self.change(store, Vec::new(), withdrawn).await?;
        }
        self.seen = Some(revision);
        Ok(())
    }

    /// Compare again where somebody has changed what is published.
    pub async fn follow(&mut self, store: &dyn Store, loader: &Loader) -> Result<(), StoreError> {
        if self.seen == Some(store.published_revision()?) {
            return Ok(());
        }
        self.publish(store, loader).await
    }

    /// What this data directory has published is this host's from now on. Where another host that serves
    /// says the same, one directory is a copy of the other: this one gets an identity of its own.
    async fn claim(
        &mut self,
        store: &dyn Store,
        published: &[PublishedHandler],
    ) -> Result<(), StoreError> {
        let of_others = |one: &&PublishedHandler| one.publisher == self.id && one.host != self.host;
        let Some(other) = published.iter().find(of_others) else {
            return Ok(());
        };
        if self.seen.is_none() || !other.serves {
            return self.change(store, Vec::new(), Vec::new()).await;
        }
        tracing::warn!(
            host = other.host,
            "the data directory of another host is a copy of this one; this one publishes under a new identity"
        );
        self.take_new_identity()
            .map_err(|error| StoreError::Failed {
                why: format!("{IDENTITY_FILE} cannot be written: {error}"),
            })
    }

    async fn change(
        &self,
        store: &dyn Store,
        changed: Vec<(String, SharedComponent)>,
        withdrawn: Vec<String>,
    ) -> Result<(), StoreError> {
        let directory = self.handlers_dir.to_string_lossy().into_owned();
        let publication = Publication {
            publisher: self.id.clone(),
            host: self.host,
            directory,
            changed,
            withdrawn,
        };
        store.publish(publication).await
    }
}
