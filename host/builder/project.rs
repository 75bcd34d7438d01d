//! Begins a handler project: the files of an example, under another name.
//!
//! Called by `fishway new`. The examples are the `hello-*` of `guest-examples/languages`, which the tests
//! build and run; with each comes the contract that it is built against. Nothing that is there already
//! is changed.

use std::path::{Path, PathBuf};

use super::contract;
use super::language::Language;
use crate::task::check_handler_name;

/// Longest name of a project.
const NAME_MAX: usize = 64;

/// Names that a Rust package cannot have, since its crate cannot.
const NOT_IN_RUST: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// Why no project was made.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// The name will not do.
    #[error("\"{name}\" cannot be the name of a project: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is something already.
    #[error("{} is there and not empty", .0.display())]
    NotEmpty(PathBuf),
    /// A file cannot be written.
    #[error("{}: {why}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
}

impl NewError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            NewError::Name { .. } => {
                Some("take lower-case letters, digits and hyphens, such as send-mail".to_owned())
            }
            NewError::NotEmpty(_) => Some("take another name, or another directory".to_owned()),
            NewError::Io { .. } => None,
        }
    }
}

/// Make the project `name` in a directory of that name below `parent`: its files, by their places in it.
pub fn create(parent: &Path, name: &str, language: Language) -> Result<Vec<PathBuf>, NewError> {
    check_name(name, language)?;
    let directory = parent.join(name);
    let io = |path: &Path, error: std::io::Error| NewError::Io {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let taken = match std::fs::read_dir(&directory) {
        Ok(mut entries) => entries.next().is_some(),
        // A file, or a link to nowhere, is in the way, too.
        Err(_) => directory.symlink_metadata().is_ok(),
    };
    if taken {
        return Err(NewError::NotEmpty(directory));
    }
    let example = format!("hello-{}", language.name());
    let sources = template(language).iter().map(|(place, text)| {
        // Go and Rust name the project in their sources, too; where the contract lies differs.
        let text = text.replace(&example, name);
        (*place, text.replace("../../../wit/0.2", "wit"))
    });
    let contract = contract::files(language).iter();
    let contract = contract.map(|(place, text)| (*place, (*text).to_owned()));
    let mut written = Vec::new();
    let wit = Path::new("wit");
    for (place, text) in sources
        .map(|(place, text)| (PathBuf::from(place), text))
        .chain(contract.map(|(place, text)| (wit.join(place), text)))
    {
        let path = directory.join(&place);
        if let Some(above) = path.parent() {
            std::fs::create_dir_all(above).map_err(|error| io(above, error))?;
        }
        // Somebody may have put a file there since the look above.
        let mut file = std::fs::File::create_new(&path).map_err(|error| io(&path, error))?;
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(|error| io(&path, error))?;
        written.push(place);
    }
    Ok(written)
}

fn check_name(name: &str, language: Language) -> Result<(), NewError> {
    let why = |why: &str| {
        Err(NewError::Name {
            name: name.chars().take(NAME_MAX).collect(),
            why: why.to_owned(),
        })
    };
    let fits = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-';
    if name.len() > NAME_MAX {
        return why(&format!("it is longer than {NAME_MAX} letters"));
    }
    if !name.chars().all(fits) {
        return why("it has other signs than a-z, 0-9 and -");
    }
    if !name.starts_with(|one: char| one.is_ascii_lowercase()) || name.ends_with('-') {
        return why("it does not begin with a letter, or ends with a hyphen");
    }
    if language == Language::Rust && NOT_IN_RUST.contains(&name) {
        return why("Rust means something else by it");
    }
    // The rules above are narrower: a package has this name, too. The host has the last word.
    check_handler_name(name).or_else(|said| why(&said))
}

macro_rules! files {
    ($example:literal: $($place:literal),+ $(,)?) => {
        &[$(($place, include_str!(concat!("../../guest-examples/languages/", $example, "/", $place)))),+]
    };
}

/// The files of the example, by their places.
fn template(language: Language) -> &'static [(&'static str, &'static str)] {
    match language {
        Language::Rust => {
            files!("hello-rust": "Cargo.toml", "Cargo.lock", "src/lib.rs", "handler.toml", ".gitignore")
        }
        Language::JavaScript => {
            files!("hello-js": "package.json", "handler.js", "handler.toml", ".gitignore")
        }
        Language::TypeScript => {
            files!("hello-ts": "package.json", "tsconfig.json", "handler.ts", "handler.toml", ".gitignore")
        }
        Language::Python => {
            files!("hello-python": "pyproject.toml", "handler.py", "handler.toml", ".gitignore")
        }
        Language::C => {
            files!("hello-c": "handler.c", "json.c", "json.h", "handler.toml", ".gitignore")
        }
        Language::Go => files!(
            "hello-go": "go.mod", "main.go", "export_fishway_task_handler/handler.go", "handler.toml", ".gitignore"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_file_or_a_package_cannot_bear_is_refused_with_the_reason() {
        let check = |name: &str, language, expected: &str| {
            let said = check_name(name, language).map_err(|error| error.to_string());
            match expected {
                "" => assert_eq!(said, Ok(()), "{name}"),
                why => assert!(
                    said.clone().is_err_and(|said| said.contains(why)),
                    "{said:?}"
                ),
            }
        };
        check("send-mail2", Language::Rust, "");
        check("fn", Language::Go, "");
        check("fn", Language::Rust, "means something else");
        check("", Language::C, "begin with a letter");
        check("2fast", Language::C, "begin with a letter");
        check("mail-", Language::C, "ends with a hyphen");
        check("../mail", Language::Python, "other signs");
        check("Mail", Language::JavaScript, "other signs");
        check(&"a".repeat(65), Language::C, "longer than 64");
    }
}
