//! What Fishway promises, as tests. Names are sentences; each file is one part of the promise.

/// Guests that are built once, hosts on directories of their own, programs as data.
mod support;

/// Imports never point upward; nouns are pure.
mod architecture;
/// `fishway build`: which compiler, which errors.
mod builder;
/// The program itself: output, exit codes, hints.
mod cli;
/// Versions of the guest contract, and components that were built against the first.
mod contract;
/// What handlers of version 0.2 have to coordinate others.
mod coordination;
/// A host that is killed at every point that can be named.
mod crash;
/// Rows that are no longer what was written, by every door.
mod damaged;
/// The dashboard, in a real browser.
mod dashboard;
/// Replays that do not do what their record says.
mod divergence;
/// The examples of the documentation: settings, manifests, workflows, commands.
mod documents;
/// Encrypted lines to a database.
mod encrypted;

/// The examples of `docs/patterns.md`, each run on a host.
mod examples;
mod exchanges;
/// Servers that are silent, standbys, and those that nobody is let into.
mod failover;
/// Inputs that nobody meant, by chance and by rule.
mod fuzz;
/// What a task did: its history, requests in traces, metrics and spans.
mod history;
/// Handlers that mean harm.
mod hostile;
/// The host as a process: detached, stopped, lost; its lease, settings, backups.
mod hosting;
/// The HTTP door: its API, its feed, who may come in, and the command line that asks it.
mod http;
/// Requests of handlers: sent, received and refused.
mod http_out;
/// What an idle host asks of PostgreSQL.
mod idle;
/// Batch jobs, and a host that is killed fifty times in one of them.
mod jobs;
/// Handlers in every language: new, built, run, replayed.
mod languages;
/// The handlers directory.
mod loader;
/// Attempts that their host cannot go on with, or has lost.
mod lost;
/// The door for assistants, by the official client and by raw lines.
mod mcp;
/// The memory of a host: what its parts may take, and that they keep to it.
mod memory;
/// Steps of handlers, which run once.
mod once;
/// Payloads reach handlers as they were written, by every door.
mod payloads;
/// Pools, from inside a guest.
mod pools;
/// The power goes, at every moment that chance names.
mod power;
/// Long-running sources with clocks, and the pools of workflows.
mod producers;
/// Queues that are paused or limited, while a host runs.
mod queues;
/// What handlers draw, and the secret that it is made from.
mod randomness;
/// Old tasks, and a clock that deletes them.
mod retention;
/// Bounds and grants: what a guest cannot do.
mod sandbox;
/// Several hosts on one PostgreSQL, and what may happen to them and to the server.
mod scaling;
/// Schedules, on a host that runs and over its end.
mod schedules;
/// The guest that most tests are programs for.
mod script;
/// Secrets: set by people, stored encrypted, and never seen by a handler.
mod secrets;
/// Examples that call other services.
mod services;
/// Handlers that hosts share through their database.
mod sharing;
/// Messages to tasks: sent, kept, received, refused.
mod signals;
/// Whatever may happen, in any order, from a seed.
mod simulation;
/// Steps of workflows that run a handler for each of many items.
mod steps;
/// What every store promises, and what SQLite adds.
mod store;
/// Kills, crashes and failovers beside a mixed load.
mod storms;
/// Host functions: spawn, wait, retry, replay.
mod tasks;
/// `fishway trace`: trees of any shape and size, and what changes in them.
mod trace;
/// Plain functions as task types, and calls of them between handlers.
mod typed;
/// HTTP requests with the usual client of each language.
mod web;
/// Workflows: from inside a guest, and as they run on a host.
mod workflows;
