//! What Fishway promises, as tests. Names are sentences; each file is one part of the promise.

/// Guests that are built once, hosts on directories of their own, programs as data.
mod support;

/// Imports never point upward; nouns are pure.
mod architecture;
/// `fishway build`: which compiler, which errors.
mod builder;
/// The program itself: output, exit codes, hints.
mod cli;
/// A host that is killed at every point that can be named.
mod crash;
/// The examples of `docs/patterns.md`, each run on a host.
mod examples;
/// The host as a process: detached, stopped, lost; its lease, settings, backups.
mod hosting;
/// The handlers directory.
mod loader;
/// Pools, from inside a guest.
mod pools;
/// Old tasks, and a clock that deletes them.
mod retention;
/// Bounds and grants: what a guest cannot do.
mod sandbox;
/// The guest that most tests are programs for.
mod script;
/// Messages to tasks: sent, kept, received, refused.
mod signals;
/// What every store promises, and what SQLite adds.
mod store;
/// Host functions: spawn, wait, retry, replay.
mod tasks;
/// `fishway trace`: trees of any shape and size, and what changes in them.
mod trace;
