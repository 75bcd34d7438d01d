//! Stores: one suite for every engine, a model, and what only SQLite has.
//!
//! A second engine is one more factory and one more line of `conformance!`.

#[macro_use]
mod conformance; // the promises, spoken to `dyn Store`
mod bits; // single bits of a file that flip
mod exchanges; // what one of two hosts holds for tasks that run on the other
mod hosts; // two hosts on one PostgreSQL, and what they do at once
mod invariants; // each of what holds of every database, broken on purpose
mod model; // random sequences of verbs, and what holds after each
mod producers; // random things that happen to producers, their pools and their clocks
mod published; // what hosts publish for each other, and what is kept of it
mod races; // two hosts again, one of them held just before its commit
mod sharing; // what one transaction takes on, and what does not wait for it
mod sqlite; // files: other processes, full disks, foreign and newer databases
mod steps; // the same for maps and generators
mod unfinished; // consequences for very many, in transactions of bounded size
mod upgrade; // a database of each schema that there ever was
mod world; // a store, a clock turned by hand, a dispatch that does as it is told

conformance!(on_sqlite, world::SqliteEngine::new());
conformance!(on_postgres, world::PostgresEngine::new());
