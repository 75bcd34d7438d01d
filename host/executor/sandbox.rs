//! The engine, the host functions, and prepared components.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use super::bindings::generator::PageGeneratorPre;
use super::bindings::{TaskHandlerPre, v0_1};
use super::guest::Guest;
use super::imports::{config, contract, logging, others};
use super::{ExecutorError, engine, http, network, opening};
use crate::loader::{Check, Digest, Export, Handler, Version, exported, functions};

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
    pub run: Option<Run>,
    /// The same, where it exports the contract's `generator`.
    pub pages: Option<Pages>,
}

/// A component whose `handler` runs tasks, by the version of the contract.
#[derive(Clone)]
pub enum Run {
    /// 0.1
    V0_1(v0_1::TaskHandlerPre<Guest>),
    /// 0.2
    V0_2(TaskHandlerPre<Guest>),
}

/// A component whose `generator` lists items, by the version of the contract.
#[derive(Clone)]
pub enum Pages {
    /// 0.1
    V0_1(v0_1::generator::PageGeneratorPre<Guest>),
    /// 0.2
    V0_2(PageGeneratorPre<Guest>),
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
            .and_then(|()| contract::add_to_linker(&mut linker))
            .and_then(|()| contract::add_to_generators(&mut generators))
            .and_then(|()| http::add_to_linker(&mut linker))
            .and_then(|()| http::add_to_linker(&mut generators))
            .and_then(|()| {
                for linker in [&mut linker, &mut generators] {
                    config::add_to_linker(linker)?;
                    logging::add_to_linker(linker)?;
                }
                Ok(())
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
        let generator = exported(component, Export::Generator);
        let instance = if generator.is_some() {
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
        let run = exported(component, Export::Handler).map(|version| -> wasmtime::Result<Run> {
            let instance = instance.clone();
            Ok(match version {
                Version::V0_1 => Run::V0_1(v0_1::TaskHandlerPre::new(instance)?),
                Version::V0_2 => Run::V0_2(TaskHandlerPre::new(instance)?),
            })
        });
        let pages = generator.map(|version| -> wasmtime::Result<Pages> {
            let instance = instance.clone();
            Ok(match version {
                Version::V0_1 => Pages::V0_1(v0_1::generator::PageGeneratorPre::new(instance)?),
                Version::V0_2 => Pages::V0_2(PageGeneratorPre::new(instance)?),
            })
        });
        Ok(Prepared {
            instance,
            run: run.transpose().map_err(failed)?,
            pages: pages.transpose().map_err(failed)?,
        })
    }
}
