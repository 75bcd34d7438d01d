//! Fishway: a host that turns a directory of WebAssembly components into durable, sandboxed task
//! handlers.
//!
//! Three bands, and an import never points upward: nouns are pure, agents act, doors talk to
//! people. `docs/ARCHITECTURE.md` walks one task through them.

#![deny(unsafe_code, missing_docs)]

// Nouns.
pub mod escape;
pub mod group;
pub mod job;
pub mod journal;
pub mod lease;
pub mod limits;
pub mod queue;
pub mod schedule;
pub mod task;
pub mod types;
pub mod workflow;

// Agents.
pub mod blocking;
pub mod builder;
pub mod bus;
pub mod client;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod disk;
pub mod exchange;
pub mod executor;
pub mod loader;
pub mod memory;
pub mod metrics;
pub mod panics;
pub mod remote;
pub mod retention;
pub mod scheduler;
pub mod secrets;
pub mod store;
pub mod telemetry;
pub mod throttle;
pub mod watch;
pub mod wire;

// Doors.
pub mod cli;
pub mod http;
pub mod mcp;
