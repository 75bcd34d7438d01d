//! Links the host functions under the names of each version of the contract.
//!
//! One function implements an interface in all versions with the same types.

use wasmtime::component::{HasSelf, Linker, LinkerInstance};

use crate::executor::bindings::fishway::task::{
    checkpoints, context, pools, signals, steps, tasks, types, workflows,
};
use crate::executor::bindings::v0_1::fishway::task as v0_1;
use crate::executor::guest::Guest;
use crate::loader::Version;

type Of = HasSelf<Guest>;

/// A function that links one interface.
type Link = fn(&mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()>;

const ALL: &[Version] = &Version::ALL;
const OLD: &[Version] = &[Version::V0_1];
const NEW: &[Version] = &[Version::V0_2];

const CONTEXT: &[(&str, &[Version], Link)] = &[
    ("types", OLD, |to| {
        v0_1::types::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("types", NEW, |to| {
        types::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("context", OLD, |to| {
        v0_1::context::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("context", NEW, |to| {
        context::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("checkpoints", ALL, |to| {
        checkpoints::add_to_linker_instance::<_, Of>(to, itself)
    }),
];

const TASKS: &[(&str, &[Version], Link)] = &[
    ("tasks", OLD, |to| {
        v0_1::tasks::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("tasks", NEW, |to| {
        tasks::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("pools", OLD, |to| {
        v0_1::pools::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("pools", NEW, |to| {
        pools::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("workflows", OLD, |to| {
        v0_1::workflows::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("workflows", NEW, |to| {
        workflows::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("signals", OLD, |to| {
        v0_1::signals::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("signals", NEW, |to| {
        signals::add_to_linker_instance::<_, Of>(to, itself)
    }),
    ("steps", NEW, |to| {
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
