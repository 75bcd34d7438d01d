//! Handlers that several hosts share through their database, by digest: what one has loaded, another
//! serves without a copy of its files.
//!
//! A host publishes what it loads from a directory of its own. One without such a directory mirrors
//! what the others have published. And whatever a task goes on with that is not here is fetched.

use std::path::Path;
use std::time::Duration;

use crate::loader::{Digest, Loader};
use crate::store::{SharedComponent, Store, StoreError};

/// How often a host looks for what others have published. What it looks at is small.
pub const REST: Duration = Duration::from_secs(1);

/// Let the others have what is loaded here, as far as they have not.
pub async fn publish(store: &dyn Store, loader: &Loader) -> Result<(), StoreError> {
    let known = store.shared_components()?;
    for handler in loader.handlers() {
        let digest = handler.digest.to_string();
        let there = known
            .iter()
            .any(|(name, known)| *name == handler.name && *known == digest);
        let Some((bytes, manifest)) = (match there {
            true => None,
            false => loader.kept(&handler.digest),
        }) else {
            continue;
        };
        let component = SharedComponent {
            name: handler.name.clone(),
            digest,
            bytes,
            manifest,
        };
        store.share_component(component).await?;
    }
    Ok(())
}

/// Bring the directory to what the others have published. Answers whether that changed it.
pub fn mirror(store: &dyn Store, directory: &Path) -> Result<bool, StoreError> {
    let mut changed = false;
    for (name, digest) in store.shared_components()? {
        let file = directory.join(format!("{name}.wasm"));
        let here = std::fs::read(&file)
            .ok()
            .map(|bytes| Digest::of(&bytes).to_string());
        if here.as_ref() == Some(&digest) {
            continue;
        }
        let Some(component) = store.shared_component(&digest)? else {
            continue;
        };
        let manifest = directory.join(format!("{name}.toml"));
        let written = match &component.manifest {
            Some(text) => crate::loader::write_atomically(&manifest, text.as_bytes()),
            None => match std::fs::remove_file(&manifest) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        let written =
            written.and_then(|()| crate::loader::write_atomically(&file, &component.bytes));
        if let Err(error) = written {
            tracing::warn!(%error, file = %file.display(), "a handler of another host cannot be written");
            continue;
        }
        changed = true;
    }
    Ok(changed)
}

/// Fetch what unfinished tasks go on with and is not here. Answers whether there was anything.
pub fn fetch(store: &dyn Store, loader: &Loader) -> Result<bool, StoreError> {
    let mut fetched = false;
    for digest in store.digests_needed()? {
        let Ok(parsed) = digest.parse::<Digest>() else {
            continue;
        };
        if loader.has(&parsed) {
            continue;
        }
        if let Some(component) = store.shared_component(&digest)? {
            let kept = loader.keep(&parsed, &component.bytes, component.manifest.as_deref());
            match kept {
                Ok(()) => fetched = true,
                Err(error) => tracing::warn!(%error, "a component of another host cannot be kept"),
            }
        }
    }
    Ok(fetched)
}
