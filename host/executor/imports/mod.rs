//! The host functions, one file for each interface of the guest contract, and for the WASI interfaces that concern a
//! task.
//!
//! They translate between the contract and our nouns and call [`Guest`](super::guest::Guest). An
//! error that they return as a Rust error ends the attempt; what a guest may handle is a value.

mod checkpoints;
pub(super) mod config;
mod context;
pub(super) mod contract;
pub(super) mod logging;
pub(super) mod others;
mod outcomes;
pub(super) mod pools;
mod signals;
mod spawn;
pub(super) mod steps;
mod tasks;
mod types;
mod v0_1;
mod workflows;

pub(super) use context::refused;
