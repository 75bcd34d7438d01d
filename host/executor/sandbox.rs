//! The engine, the host functions, and prepared components.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};

use super::bindings::generator::{PageGenerator, PageGeneratorPre};
use super::bindings::{TaskHandler, TaskHandlerPre};
use super::guest::Guest;
use super::imports::others;
use super::{ExecutorError, engine, network, opening};
use crate::loader::{Check, Digest, GENERATOR, Handler, functions, is_handler};

/// Where guests run.
pub struct Sandbox {
    engine: Engine,
    linker: Linker<Guest>,
    /// What page generators may ask for, which is less.
    generators: Linker<Guest>,
    prepared: Mutex<HashMap<Digest, Prepared>>,
}

/// A component, linked.
#[derive(Clone)]
pub struct Prepared {
    /// To make instances of.
    pub instance: InstancePre<Guest>,
    /// The same, where it exports the contract's `handler`.
    pub run: Option<TaskHandlerPre<Guest>>,
    /// The same, where it exports the contract's `generator`.
    pub pages: Option<PageGeneratorPre<Guest>>,
}

impl Sandbox {
    /// A sandbox on an engine of [`engine`].
    pub fn new(engine: Engine) -> Result<Arc<Sandbox>, ExecutorError> {
        let (mut linker, mut generators) = (Linker::new(&engine), Linker::new(&engine));
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)
            .and_then(|()| wasmtime_wasi::p2::add_to_linker_async(&mut generators))
            .and_then(|()| network::add_to_linker(&mut linker))
            .and_then(|()| network::add_to_linker(&mut generators))
            .and_then(|()| opening::add_to_linker(&mut linker))
            .and_then(|()| opening::add_to_linker(&mut generators))
            .and_then(|()| {
                TaskHandler::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)
            })
            .and_then(|()| {
                PageGenerator::add_to_linker::<_, HasSelf<Guest>>(&mut generators, |guest| guest)
            })
            .map_err(|error| ExecutorError::Engine {
                why: format!("{error:#}"),
            })?;
        Ok(Arc::new(Sandbox {
            engine,
            linker,
            generators,
            prepared: Mutex::default(),
        }))
    }

    /// A sandbox for at most `instances` at once.
    pub fn pooled(instances: u32) -> Result<Arc<Sandbox>, ExecutorError> {
        Sandbox::new(engine::engine(instances)?)
    }

    /// A sandbox to check components with.
    pub fn plain() -> Result<Arc<Sandbox>, ExecutorError> {
        Sandbox::new(engine::plain_engine()?)
    }

    /// The engine that components are compiled for.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Says whether a component can run here, and what it lacks if not.
    pub fn check(self: &Arc<Sandbox>) -> Check {
        let sandbox = self.clone();
        Arc::new(move |component| sandbox.link(component).map(|_| ()))
    }

    /// A handler's component, linked; kept for the next time.
    pub(super) fn prepared(&self, handler: &Handler) -> Result<Prepared, String> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = prepared.get(&handler.digest) {
            return Ok(known.clone());
        }
        let linked = self.link(&handler.component)?;
        prepared.insert(handler.digest.clone(), linked.clone());
        Ok(linked)
    }

    /// Forget the prepared components that `needed` does not name.
    pub fn keep_prepared(&self, needed: impl Fn(&Digest) -> bool) {
        self.prepared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|digest, _| needed(digest));
    }

    fn link(&self, component: &Component) -> Result<Prepared, String> {
        let failed = |error: wasmtime::Error| {
            let causes = error.chain().map(|cause| cause.to_string());
            causes.collect::<Vec<_>>().join(": ")
        };
        let wanted = functions::wanted(component)?;
        let generator = component.get_export_index(None, GENERATOR).is_some();
        let instance = if generator {
            self.generators.instantiate_pre(component)
        } else if wanted.is_empty() {
            self.linker.instantiate_pre(component)
        } else {
            // Its own linker: another component may mean something else by the same interface.
            let mut linker = self.linker.clone();
            others::add_to_linker(&mut linker, &wanted)
                .and_then(|()| linker.instantiate_pre(component))
        };
        let instance = instance.map_err(failed)?;
        let run = match is_handler(component) {
            true => Some(TaskHandlerPre::new(instance.clone()).map_err(failed)?),
            false => None,
        };
        let pages = match generator {
            true => Some(PageGeneratorPre::new(instance.clone()).map_err(failed)?),
            false => None,
        };
        Ok(Prepared {
            instance,
            run,
            pages,
        })
    }
}
