//! What lies in a handlers directory and is no file: a problem each, and nobody waits for any.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::{Shelf, scan};
use crate::support::place::Place;

/// A named pipe that nobody writes to.
fn pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

/// Things with the names of components, and what is said of each.
fn put_all(place: &Path) -> [(&'static str, &'static str); 7] {
    pipe(&place.join("a-pipe.wasm"));
    drop(UnixListener::bind(place.join("a-socket.wasm")).unwrap());
    std::fs::create_dir(place.join("a-directory.wasm")).unwrap();
    symlink("/dev/zero", place.join("a-device.wasm")).unwrap();
    symlink("nowhere", place.join("a-link-to-nothing.wasm")).unwrap();
    symlink("a-link-loop.wasm", place.join("a-link-loop.wasm")).unwrap();
    let sparse = std::fs::File::create(place.join("a-sparse-file.wasm")).unwrap();
    sparse.set_len(4 << 30).unwrap();
    [
        ("a-device.wasm", "it is not a file, but a device"),
        ("a-directory.wasm", "it is not a file, but a directory"),
        ("a-link-loop.wasm", "it cannot be read: Too many levels"),
        ("a-link-to-nothing.wasm", "it cannot be read: No such file"),
        ("a-pipe.wasm", "it is not a file, but a named pipe"),
        ("a-socket.wasm", "it is not a file, but a socket"),
        ("a-sparse-file.wasm", "it has 4294967296 bytes, more than"),
    ]
}

#[test]
fn what_is_no_file_is_a_problem_and_keeps_nobody_waiting() {
    let shelf = Shelf::new();
    shelf.guest("echo", "one.wasm");
    let expected = put_all(&shelf.path(""));
    let loader = shelf.loader();
    let told = scan(&loader);
    assert_eq!(told[0], "loaded one");
    for ((file, words), line) in expected.iter().zip(&told[1..]) {
        assert!(line.starts_with(&format!("{file}: {words}")), "{line}");
    }
    assert_eq!(told.len(), 8);
    // Nothing is reported twice, and a component that replaces one of them is loaded.
    assert_eq!(scan(&loader), [""; 0]);
    std::fs::remove_file(shelf.path("a-pipe.wasm")).unwrap();
    shelf.guest("echo", "a-pipe.wasm");
    assert_eq!(scan(&loader), ["loaded a-pipe"]);
}

#[test]
fn a_handler_whose_manifest_is_no_file_is_not_loaded_without_its_limits() {
    let shelf = Shelf::new();
    for name in ["one", "two", "three"] {
        shelf.guest("echo", &format!("{name}.wasm"));
    }
    pipe(&shelf.path("one.toml"));
    std::fs::create_dir(shelf.path("two.toml")).unwrap();
    symlink("nowhere", shelf.path("three.toml")).unwrap();
    let told = scan(&shelf.loader());
    assert_eq!(told.len(), 3, "{told:?}");
    let starts = [
        "one.toml: it is not a file, but a named pipe",
        "three.toml: it cannot be read: No such file",
        "two.toml: it is not a file, but a directory",
    ];
    for (line, start) in told.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn commands_say_what_is_no_file_and_come_back() {
    let place = Place::with_guests();
    let expected = put_all(&place.path("handlers"));
    pipe(&place.path("handlers/echo.toml"));
    let listed = place.run(&["handler", "list", "handlers"]);
    assert_eq!(listed.code, 1);
    assert!(listed.out.starts_with("script "), "{}", listed.out);
    let manifest = ("echo.toml", "it is not a file, but a named pipe");
    for (file, words) in expected.into_iter().chain([manifest]) {
        let line = format!("problem: {file}: {words}");
        assert!(listed.err.contains(&line), "{line}\n{}", listed.err);
    }
    let checked = place.run(&["handler", "check", "handlers/a-pipe.wasm"]);
    assert_eq!(checked.code, 1);
    assert!(checked.err.contains("a named pipe"), "{}", checked.err);
}
