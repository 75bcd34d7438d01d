//! The program: everything is in the library.

use std::process::ExitCode;

// What one thread makes another lets go, which leaves the system's allocator full of holes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    fishway::cli::main()
}
