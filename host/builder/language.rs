//! The languages that handlers are written in, and how a project of each is known.
//!
//! Called by [`super::build`] and by the command line. It looks at directories, and writes nothing.

use std::path::{Path, PathBuf};

use super::BuildError;

/// A language with a builder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    /// A package or workspace with a `Cargo.toml`.
    Rust,
    /// A `package.json` whose `main` is a `.js` file.
    JavaScript,
    /// A `package.json` whose `main` is a `.ts` file.
    TypeScript,
    /// A `pyproject.toml`.
    Python,
    /// A `handler.c`.
    C,
    /// A `go.mod`.
    Go,
}

impl Language {
    /// All of them.
    pub const ALL: [Language; 6] = [
        Language::Rust,
        Language::JavaScript,
        Language::TypeScript,
        Language::Python,
        Language::C,
        Language::Go,
    ];

    /// Its short name, as it is given on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::JavaScript => "js",
            Language::TypeScript => "ts",
            Language::Python => "python",
            Language::C => "c",
            Language::Go => "go",
        }
    }

    /// Its name, for people.
    pub fn title(self) -> &'static str {
        match self {
            Language::Rust => "Rust",
            Language::JavaScript => "JavaScript",
            Language::TypeScript => "TypeScript",
            Language::Python => "Python",
            Language::C => "C",
            Language::Go => "Go",
        }
    }
}

/// The language of the project that this directory is, if it is one.
pub fn of(directory: &Path) -> Option<Language> {
    let has = |file: &str| directory.join(file).is_file();
    if has("Cargo.toml") {
        return Some(Language::Rust);
    }
    if has("go.mod") {
        return Some(Language::Go);
    }
    if has("pyproject.toml") {
        return Some(Language::Python);
    }
    if has("package.json") {
        let text = std::fs::read_to_string(directory.join("package.json")).unwrap_or_default();
        let package: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let main = package["main"].as_str().unwrap_or_default();
        return Some(match main.ends_with(".ts") || main.ends_with(".mts") {
            true => Language::TypeScript,
            false => Language::JavaScript,
        });
    }
    has("handler.c").then_some(Language::C)
}

/// The projects that a directory stands for: itself, or those directly below it.
pub fn projects(directory: &Path) -> Result<Vec<(Language, PathBuf)>, BuildError> {
    if let Some(language) = of(directory) {
        return Ok(vec![(language, directory.to_owned())]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if let Some(language) = (path.is_dir() && !hidden).then(|| of(&path)).flatten() {
            found.push((language, path));
        }
    }
    found.sort();
    match found.is_empty() {
        false => Ok(found),
        true => Err(BuildError::NoProject {
            project: directory.to_owned(),
            why: "neither it nor a directory in it has a Cargo.toml, package.json, pyproject.toml, go.mod or handler.c".to_owned(),
        }),
    }
}
