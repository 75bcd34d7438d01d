//! The walls, held against the source itself.

use std::path::{Path, PathBuf};

const NOUNS: &[&str] = &[
    "task", "escape", "group", "job", "journal", "lease", "limits", "queue", "schedule", "types",
    "workflow",
];
const DOORS: &[&str] = &["cli", "http", "mcp"];

fn rooms() -> Vec<(String, Vec<PathBuf>)> {
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("host");
    let mut rooms = Vec::new();
    for entry in std::fs::read_dir(&host).unwrap().flatten() {
        let path = entry.path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name != "lib" && name != "main" {
            let mut files = Vec::new();
            collect(&path, &mut files);
            rooms.push((name, files));
        }
    }
    rooms
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap().flatten() {
            collect(&entry.path(), files);
        }
    } else if path.extension().is_some_and(|ending| ending == "rs") {
        files.push(path.to_owned());
    }
}

/// The rooms that a file names, comments left out.
fn named(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let joined = code.collect::<Vec<_>>().join("\n");
    joined
        .split("crate::")
        .skip(1)
        .map(|rest| {
            rest.chars()
                .take_while(|one| one.is_ascii_lowercase() || *one == '_')
                .collect()
        })
        .collect()
}

#[test]
fn every_room_is_declared_in_its_band() {
    let lib =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("host/lib.rs")).unwrap();
    let band = |name: &str| {
        let place = lib
            .find(&format!("pub mod {name};"))
            .unwrap_or_else(|| panic!("{name} is not in lib.rs"));
        ["// Nouns.", "// Agents.", "// Doors."]
            .into_iter()
            .rfind(|band| lib.find(band).unwrap() < place)
            .unwrap()
    };
    for (name, _) in rooms() {
        let expected = match name.as_str() {
            noun if NOUNS.contains(&noun) => "// Nouns.",
            door if DOORS.contains(&door) => "// Doors.",
            _ => "// Agents.",
        };
        assert_eq!(band(&name), expected, "{name}");
    }
}

#[test]
fn imports_never_point_upward() {
    let band = |room: &str| match room {
        noun if NOUNS.contains(&noun) => 0,
        door if DOORS.contains(&door) => 2,
        _ => 1,
    };
    let mut seen = 0;
    for (room, files) in rooms() {
        for file in files {
            for other in named(&file) {
                seen += 1;
                assert!(
                    band(&other) <= band(&room),
                    "{} imports {other}",
                    file.display()
                );
            }
        }
    }
    assert!(
        seen > 100,
        "only {seen} imports were found: the test looks in the wrong place"
    );
}

#[test]
fn nouns_know_no_engine_no_clock_and_no_terminal() {
    let foreign = [
        "tokio::",
        "rusqlite::",
        "tokio_postgres::",
        "wasmtime",
        "SystemTime",
        "Instant::",
        "println!",
        "std::fs",
        "std::env",
    ];
    for (room, files) in rooms() {
        if !NOUNS.contains(&room.as_str()) {
            continue;
        }
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            // Tests may read the page that they hold against the code.
            let code = text.split("#[cfg(test)]").next().unwrap();
            for word in foreign {
                assert!(!code.contains(word), "{} has {word}", file.display());
            }
        }
    }
}

#[test]
fn the_state_machine_is_called_by_the_kernel_alone() {
    for (room, files) in rooms() {
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let kernel = file.ends_with("store/kernel.rs");
            assert!(
                room == "task" || kernel || !text.contains("state::apply("),
                "{}",
                file.display()
            );
            assert!(
                room == "task" || kernel || !text.contains("::state::{Effect"),
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn unsafe_code_stands_in_one_place() {
    for (_, files) in rooms() {
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(
                !text.contains("unsafe {") || file.ends_with("loader/compiled.rs"),
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn the_terminal_is_written_to_in_one_place() {
    let words = [
        "print!(",
        "println!(",
        "io::stdout()",
        "io::stderr()",
        "stdout().lock",
        "anstream::print",
        "anstream::stdout",
        "anstream::stderr",
        "anstyle::Style",
    ];
    let mut seen = 0;
    for (_, files) in rooms() {
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            // There text is spelled out; a detached host moves the pipe to its parent; a child that compiles
            // answers the host by pipes.
            let may = file.to_str().unwrap().contains("cli/terminal")
                || file.ends_with("daemon/detached.rs")
                || file.ends_with("loader/compiler/child.rs");
            for word in words.iter().filter(|word| text.contains(**word)) {
                assert!(may, "{} has {word}", file.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 3, "the test looks in the wrong place");
}
