//! Guests, built once for all tests.
//!
//! Where they cannot be built, the tests that need them fail with the builder's own sentence.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fishway::builder::{Language, Request, build, examples, project};

/// The examples that show a pattern, and those that they spawn.
pub const PATTERNS: [&str; 14] = [
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
    "fetch-json",
    "payment",
    "agent",
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

/// The three handlers that there are in each language.
pub const SAME: [&str; 3] = ["hello", "summarise", "fan-out"];

/// A directory with the handlers in all languages, their manifests and the table that these grant.
/// Each `hello` is built from a new project, which has the files of the example and no others.
pub fn language_handlers() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/languages");
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let lock = File::create(place.join("languages.lock")).unwrap();
        lock.lock().unwrap();
        let fresh = place.join("new-projects");
        let _ = std::fs::remove_dir_all(&fresh);
        let mut directory = PathBuf::new();
        for language in Language::ALL {
            for name in SAME.map(|name| format!("{name}-{}", language.name())) {
                let project = if name.starts_with("hello-") {
                    project::create(&fresh, &name, language).unwrap();
                    fresh.join(&name)
                } else {
                    root.join(&name)
                };
                directory = built_at(&project, &name, "language-handlers");
            }
        }
        place_table(&directory);
        directory
    })
}

/// Put the handlers in all languages into a handlers directory.
pub fn place_languages(handlers: &Path) {
    std::fs::create_dir_all(handlers).unwrap();
    let built = language_handlers();
    for language in Language::ALL {
        for name in SAME.map(|name| format!("{name}-{}", language.name())) {
            for file in [format!("{name}.wasm"), format!("{name}.toml")] {
                std::fs::copy(built.join(&file), handlers.join(&file)).unwrap();
            }
        }
    }
    place_table(handlers);
}

/// The handlers that send requests. JavaScript uses the engine and the bundler of TypeScript.
pub const WEB: [&str; 5] = ["web-ts", "web-python", "web-go", "web-rust", "web-c"];

/// Put them into a handlers directory.
pub fn place_web(handlers: &Path) {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    std::fs::create_dir_all(handlers).unwrap();
    let built = BUILT.get_or_init(|| {
        let projects = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/languages");
        let built = WEB.map(|name| built_at(&projects.join(name), name, "web-handlers"));
        built[0].clone()
    });
    for file in WEB.map(|name| format!("{name}.wasm")) {
        std::fs::copy(built.join(&file), handlers.join(&file)).unwrap();
    }
}

/// The table, where the manifests look for it.
fn place_table(handlers: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/languages/data");
    let to = handlers.join("data");
    std::fs::create_dir_all(&to).unwrap();
    std::fs::copy(from.join("penguins.csv"), to.join("penguins.csv")).unwrap();
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
    built_at(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join(project),
        project,
        name,
    )
}

fn built_at(path: &Path, project: &str, name: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Another process may run the same tests.
    let lock = File::create(place.join("guests.lock")).unwrap();
    lock.lock().unwrap();
    let request = Request {
        project: path.to_owned(),
        out_dir: place.join(name),
        target_dir: Some(place.join("guests")),
        cache_dir: Some(place.join("tools")),
        install: true,
    };
    match build(&request, &mut |line| eprintln!("{project}: {line}")) {
        Ok(_) => request.out_dir,
        Err(error) => panic!("the guests of {project} cannot be built: {error}"),
    }
}
