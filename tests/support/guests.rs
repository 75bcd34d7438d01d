//! Guests, built once for all tests.
//!
//! Where they cannot be built, the tests that need them fail with the builder's own sentence.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fishway::builder::{Request, build, examples};

/// A test guest, as the compiler made it.
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let directory = BUILT.get_or_init(|| built("tests/guests", "test-guests"));
    directory.join(format!("{name}.wasm"))
}

/// A directory with the example handlers, their manifests and the text.
pub fn example_handlers() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let directory = built("guest-examples", "example-handlers");
        examples::place_texts(&directory).unwrap();
        directory
    })
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
