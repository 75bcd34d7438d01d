//! Guests, built once for all tests.
//!
//! Where they cannot be built, the tests that need them fail with the builder's own sentence.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fishway::builder::{Request, build, examples};

/// The examples that show a pattern, and those that they spawn.
pub const PATTERNS: [&str; 11] = [
    "pipeline",
    "fan-out",
    "fan-in",
    "process-item",
    "saga",
    "shop",
    "scatter-gather",
    "two-phase",
    "crawl",
    "reindex",
    "index-op",
];

/// The examples with typed functions.
const TYPED: [&str; 2] = ["orders", "checkout"];

/// A test guest, as the compiler made it.
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let directory = BUILT.get_or_init(|| built("tests/guests", "test-guests"));
    directory.join(format!("{name}.wasm"))
}

/// A directory with the example handlers, their manifests and what these grant.
pub fn example_handlers() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let directory = built("guest-examples", "example-handlers");
        examples::place_texts(&directory).unwrap();
        place_pages(&directory);
        directory
    })
}

/// Put the test guests into a handlers directory.
pub fn place_guests(handlers: &Path) {
    std::fs::create_dir_all(handlers).unwrap();
    for name in ["script", "echo"] {
        std::fs::copy(guest(name), handlers.join(format!("{name}.wasm"))).unwrap();
    }
}

/// Put the guests with typed functions, and those that call them, into a handlers directory.
pub fn place_typed(handlers: &Path) {
    place_guests(handlers);
    for name in ["typed", "caller"] {
        std::fs::copy(guest(name), handlers.join(format!("{name}.wasm"))).unwrap();
        std::fs::write(handlers.join(format!("{name}.toml")), "retry.attempts = 1").unwrap();
    }
}

/// Put the examples of `docs/patterns.md` into a handlers directory.
pub fn place_patterns(handlers: &Path) {
    std::fs::create_dir_all(handlers).unwrap();
    let built = example_handlers();
    for name in PATTERNS.into_iter().chain(TYPED) {
        for file in [format!("{name}.wasm"), format!("{name}.toml")] {
            std::fs::copy(built.join(&file), handlers.join(&file)).unwrap();
        }
    }
    place_pages(handlers);
}

/// The pages that `crawl` reads, where its manifest looks for them.
fn place_pages(handlers: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/pages");
    let to = handlers.join("pages");
    std::fs::create_dir_all(&to).unwrap();
    for page in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(page.path(), to.join(page.file_name())).unwrap();
    }
}

fn built(project: &str, name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Another process may run the same tests.
    let lock = File::create(place.join("guests.lock")).unwrap();
    lock.lock().unwrap();
    let request = Request {
        project: root.join(project),
        out_dir: place.join(name),
        target_dir: Some(place.join("guests")),
        install: true,
    };
    match build(&request, &mut |line| eprintln!("{project}: {line}")) {
        Ok(_) => request.out_dir,
        Err(error) => panic!("the guests of {project} cannot be built: {error}"),
    }
}
