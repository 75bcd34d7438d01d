//! The host functions, one file for each interface of the guest contract.
//!
//! They translate between the contract and our nouns and call [`Guest`](super::guest::Guest). An
//! error that they return as a Rust error ends the attempt; what a guest may handle is a value.

mod checkpoints;
mod context;
pub(super) mod others;
mod outcomes;
pub(super) mod pools;
mod signals;
mod spawn;
mod tasks;
mod types;
mod workflows;

pub(super) use context::refused;
