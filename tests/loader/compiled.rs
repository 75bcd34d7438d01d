//! Compiled code that is found again: only what a host of this user wrote, and only whole.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fishway::loader::{Digest, Loader, Origin};
use serde_json::json;

use super::{Shelf, scan};
use crate::support::place::{Place, Served};

/// Whether the handler "one" was compiled or found.
fn compiled(loader: &Loader) -> bool {
    scan(loader);
    matches!(loader.get("one").unwrap().origin, Origin::Compiled(_))
}

/// The files of compiled code in a directory.
fn codes(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let code = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "cwasm");
    entries.map(|entry| entry.path()).filter(code).collect()
}

/// Replace a file by one that has this.
fn replace(file: &Path, bytes: &[u8]) {
    std::fs::remove_file(file).unwrap();
    std::fs::write(file, bytes).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn compiled_code_is_found_again_and_never_run_when_it_was_touched() {
    let shelf = Shelf::new();
    shelf.guest("echo", "one.wasm");
    assert!(compiled(&shelf.loader()));
    assert!(!compiled(&shelf.loader()));
    let directory = shelf.directory.path().join("data/compiled");
    let code = codes(&directory).remove(0);
    let bytes = std::fs::read(&code).unwrap();
    let mut damaged = Vec::new();
    damaged.push(("cut short", bytes[..bytes.len() - 100].to_vec()));
    damaged.push(("empty", Vec::new()));
    damaged.push(("longer", [&*bytes, b"more"].concat()));
    // One bit, wherever it is: the ends, the seal, and all that lies between.
    let places = (0..bytes.len()).step_by(bytes.len() / 20);
    for place in places.chain([bytes.len() - 33, bytes.len() - 1]) {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        damaged.push(("one bit", changed));
    }
    for (how, bytes) in damaged {
        replace(&code, &bytes);
        assert!(compiled(&shelf.loader()), "{how}");
        assert!(!compiled(&shelf.loader()), "it is whole again");
    }
    // Writable by others.
    std::fs::set_permissions(&code, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(compiled(&shelf.loader()));
    // Whole, and the code of another.
    shelf.guest("script", "two.wasm");
    assert!(!compiled(&shelf.loader()));
    let other = codes(&directory).into_iter().find(|path| *path != code);
    replace(&code, &std::fs::read(other.unwrap()).unwrap());
    assert!(compiled(&shelf.loader()));
    let mode = std::fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_file_of_an_earlier_version_with_its_seal_beside_it_is_made_anew() {
    let shelf = Shelf::new();
    shelf.guest("echo", "one.wasm");
    assert!(compiled(&shelf.loader()));
    let code = codes(&shelf.directory.path().join("data/compiled")).remove(0);
    let whole = std::fs::read(&code).unwrap();
    let before = &whole[..whole.len() - 32];
    let edges = [&before[..1_024], &before[before.len() - 1_024..]].concat();
    let digest = fishway::loader::Digest::of(&edges);
    replace(&code, before);
    let seal = code.with_extension("seal");
    std::fs::write(&seal, format!("{} {digest}", before.len())).unwrap();
    assert!(compiled(&shelf.loader()));
    assert!(!seal.exists());
    assert!(!compiled(&shelf.loader()));
}

/// What a host says when it has loaded the handler "echo", with its key in this directory of state.
fn says_of_echo(place: &Place, state: &Path) -> String {
    says(place, state, "loaded echo ")
}

/// The first line of a host with these words.
fn says(place: &Place, state: &Path, words: &str) -> String {
    let mut host = place
        .command(&["serve"])
        .env("FISHWAY_STATE", state)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(host.stderr.take().unwrap()).lines();
    let _host = Served(host);
    lines
        .find_map(|line| line.ok().filter(|line| line.contains(words)))
        .unwrap()
}

#[test]
fn code_that_was_sealed_with_another_secret_is_not_run() {
    let place = Place::with_guests();
    let (own, other) = (place.path("own-state"), place.path("other-state"));
    let check = |state: &Path, words: &str| {
        let said = says_of_echo(&place, state);
        assert!(said.contains(words), "{said}");
    };
    check(&own, "compiled in");
    check(&own, "cached");
    check(&other, "compiled in");
    check(&own, "compiled in");
    check(&own, "cached");
    // Where no secret can be kept, each start compiles.
    std::fs::write(place.path("a-file"), "").unwrap();
    check(&place.path("a-file/state"), "compiled in");
    check(&place.path("a-file/state"), "compiled in");
    // What was sealed with the secret stays, for the time when that can be read again.
    check(&own, "cached");
}

#[test]
fn code_of_another_engine_and_of_components_that_nobody_keeps_is_removed() {
    let shelf = Shelf::new();
    shelf.guest("echo", "one.wasm");
    assert!(compiled(&shelf.loader()));
    let directory = shelf.directory.path().join("data/compiled");
    let code = codes(&directory).remove(0);
    let name = code.file_stem().unwrap().to_str().unwrap();
    let (digest, engine) = name.split_once('-').unwrap();
    let other = "0123456789abcdef".repeat(4);
    let file = |digest: &str, engine: &str, ending: &str| {
        let file = directory.join(format!("{digest}-{engine}.{ending}"));
        std::fs::copy(&code, &file).unwrap();
        file
    };
    let of_others =
        ["cwasm", "refused", "own-cwasm"].map(|ending| file(digest, "00000000000000aa", ending));
    let orphans = [
        file(&other, engine, "cwasm"),
        file(digest, engine, "refused"),
    ];
    let loader = shelf.loader();
    assert!(!compiled(&loader));
    assert!(of_others.iter().all(|file| !file.exists()));
    // Somebody may just have uploaded it.
    loader.forget_kept(&Default::default()).unwrap();
    assert!(orphans.iter().all(|file| file.exists()));
    let hours = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 3_600);
    for file in [&orphans[0], &orphans[1], &code] {
        let open = std::fs::File::options().write(true).open(file).unwrap();
        open.set_modified(hours).unwrap();
    }
    loader.forget_kept(&Default::default()).unwrap();
    assert!(!orphans[0].exists());
    assert!(
        orphans[1].exists(),
        "a note belongs to no component that is kept"
    );
    assert!(code.exists());
}

#[test]
fn a_file_that_its_compiler_did_not_survive_is_tried_again_after_a_check_that_succeeds() {
    let place = Place::with_guests();
    let state = place.path("state");
    says_of_echo(&place, &state);
    let digest = Digest::of(&std::fs::read(place.path("handlers/echo.wasm")).unwrap());
    let its = |code: &PathBuf| code.to_string_lossy().contains(&digest.hex().to_string());
    let code = codes(&place.path(".fishway/compiled"))
        .into_iter()
        .find(its);
    let code = code.unwrap();
    std::fs::remove_file(&code).unwrap();
    let note = code.with_extension("refused");
    let version = env!("CARGO_PKG_VERSION");
    let text = json!({ "version": version, "what": "it brought the compiler down", "hint": "h" });
    std::fs::write(&note, text.to_string()).unwrap();
    let said = says(&place, &state, "echo.wasm: ");
    assert!(said.contains("it is not tried again"), "{said}");
    place.run(&["handler", "check", "handlers/echo.wasm"]).ok();
    assert!(!note.exists(), "a check that succeeds removes the note");
    let said = says_of_echo(&place, &state);
    assert!(said.contains("compiled in"), "{said}");
}
