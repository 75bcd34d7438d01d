//! Links the host functions under the names of each version of the contract.
//!
//! One function implements an interface in all versions with the same types.

use wasmtime::component::{HasSelf, Linker, LinkerInstance};

use crate::executor::bindings::fishway::task::{
    checkpoints, context, pools, signals, steps, tasks, types, workflows,
};
use crate::executor::guest::Guest;
use crate::loader::Version;

type Of = HasSelf<Guest>;

/// A function that links one interface.
type Link = fn(&mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()>;

const BOTH: &[Version] = &Version::ALL;

const CONTEXT: &[(&str, &[Version], Link)] = &[
    ("types", BOTH, |to| {
        types::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("context", BOTH, |to| {
        context::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("checkpoints", BOTH, |to| {
        checkpoints::add_to_linker_instance::<_, Of>(to, itself)
    }),
];

const TASKS: &[(&str, &[Version], Link)] = &[
    ("tasks", BOTH, |to| {
        tasks::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("pools", BOTH, |to| {
        pools::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("workflows", BOTH, |to| {
        workflows::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("signals", BOTH, |to| {
        signals::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("steps", &[Version::V0_2], |to| {
        steps::add_to_linker_instance::<_, Of>(to, itself)
    }),
];

/// The interfaces of the contract for handlers.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    link(linker, CONTEXT)?;
    link(linker, TASKS)
}

/// The interfaces of the contract for page generators.
pub fn add_to_generators(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    link(linker, CONTEXT)
}

fn link(
    linker: &mut Linker<Guest>,
    interfaces: &[(&str, &[Version], Link)],
) -> wasmtime::Result<()> {
    for (name, versions, link) in interfaces {
        for version in *versions {
            link(&mut linker.instance(&version.interface(name))?)?;
        }
    }
    Ok(())
}

fn itself(guest: &mut Guest) -> &mut Guest {
    guest
}
