//! What the program is built of: where it comes from, and under which licences. `deny.toml` says what is
//! allowed; `cargo deny` reads the same file, and looks for known faults besides, which takes a database
//! that not every machine may reach.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn allowed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let deny: toml::Table = text.parse().unwrap();
    let allowed = deny["licenses"]["allow"].as_array().unwrap();
    let allowed = allowed.iter().map(|one| one.as_str().unwrap().to_owned());
    allowed.collect()
}

/// Whether one may choose licences that are all allowed: `A OR B`, `A AND (B OR C)`, and `A/B`, which is
/// how OR was written once.
fn permitted(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let found = either(&mut rest, allowed);
    assert!(
        rest.is_empty(),
        "{expression:?} is no expression of licences"
    );
    found
}

fn either(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut found = both(words, allowed);
    while words.first() == Some(&"OR") {
        *words = &words[1..];
        found |= both(words, allowed);
    }
    found
}

fn both(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut found = one(words, allowed);
    while words.first() == Some(&"AND") {
        *words = &words[1..];
        found &= one(words, allowed);
    }
    found
}

fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    if words.first() == Some(&"(") {
        *words = &words[1..];
        let found = either(words, allowed);
        assert_eq!(words.first(), Some(&")"));
        *words = &words[1..];
        return found;
    }
    let Some((licence, rest)) = words.split_first() else {
        return false;
    };
    *words = rest;
    match rest {
        ["WITH", exception, rest @ ..] => {
            *words = rest;
            allowed.contains(&format!("{licence} WITH {exception}"))
        }
        _ => allowed.contains(*licence),
    }
}

#[test]
fn an_expression_of_licences_is_permitted_when_a_choice_is() {
    let allowed = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"];
    let allowed = allowed.map(str::to_owned).into();
    let check = |expression: &str, expected: bool| {
        assert_eq!(permitted(expression, &allowed), expected, "{expression}");
    };
    check("MIT", true);
    check("GPL-3.0", false);
    check("MIT OR GPL-3.0", true);
    check("GPL-3.0/MIT", true);
    check("MIT AND GPL-3.0", false);
    check("MIT AND (GPL-3.0 OR Zlib)", true);
    check("(MIT OR Zlib) AND GPL-3.0", false);
    check("Apache-2.0 WITH LLVM-exception", true);
    check("Apache-2.0", false);
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let target = Command::new("rustc")
        .args(["--print", "host-tuple"])
        .output();
    let target = String::from_utf8(target.unwrap().stdout).unwrap();
    let platform = ["--filter-platform", target.trim()];
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .args(platform)
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&metadata.stderr);
    assert!(metadata.status.success(), "{said}");
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "{} packages", packages.len());
    let allowed = allowed();
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| {
            let licence = package["license"].as_str();
            !licence.is_some_and(|licence| permitted(licence, &allowed))
        })
        .map(|package| format!("{} ({})", package["name"], package["license"]))
        .collect();
    assert_eq!(
        refused, [""; 0],
        "deny.toml has the licences that are allowed"
    );
}

#[test]
fn every_dependency_comes_from_crates_io_with_its_checksum() {
    for place in [
        "Cargo.lock",
        "tests/guests/Cargo.lock",
        "tests/fuzz/guided/Cargo.lock",
    ] {
        let text = std::fs::read_to_string(root().join(place)).unwrap();
        let lock: toml::Table = text.parse().unwrap();
        for package in lock["package"].as_array().unwrap() {
            let Some(source) = package.get("source") else {
                // What is in this repository.
                continue;
            };
            let name = &package["name"];
            assert_eq!(source.as_str(), Some(CRATES_IO), "{name} of {place}");
            assert!(package.get("checksum").is_some(), "{name} of {place}");
        }
    }
}
