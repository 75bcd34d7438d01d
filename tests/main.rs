//! Every test that needs more than one module, in one binary.

mod store; // what every store promises, and what SQLite promises besides
