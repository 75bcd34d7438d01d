//! `fishway.toml`: settings of a place, read and checked for form.
//!
//! The keys are the long flags of `fishway serve` and of every command, and the values are what
//! stands behind the flag, so there is one name and one rule for each. What a value means is decided
//! where flags are: the doors call this, and treat what is in the file as the defaults.
//!
//! ```toml
//! handlers = "handlers"       # relative to this file, as `data` is
//! concurrency = 16
//! keep = "30d"
//! keep-failed = "90d"
//! ```

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::escape::without_mark;

/// The file that is read where none is named, in the current directory.
pub const FILE_NAME: &str = "fishway.toml";

/// Largest file that is read, in bytes: some hundred times what all settings take.
const BYTES_MAX: u64 = 64 << 10;

/// How alike a misspelt key is to the one that was meant, at least.
const ALIKE: f64 = 0.8;

/// A file of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What it sets, in its order.
    pub entries: Vec<Entry>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name: that of a long flag.
    pub key: String,
    /// Its value, as it would stand behind the flag.
    pub value: String,
    /// Its line, from 1.
    pub line: usize,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{} cannot be read: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// It is not TOML.
    #[error("{}:{line}: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        why: String,
    },
    /// No setting has that name.
    #[error("{}:{line}: there is no setting \"{key}\"", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        key: String,
        /// The setting that may be meant.
        nearest: Option<String>,
    },
    /// The value is not one that could stand behind a flag.
    #[error("{}:{line}: {key} is {found}, and is to be a text or a number", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The setting.
        key: String,
        /// What stands there.
        found: &'static str,
    },
}

impl ConfigError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ConfigError::Unreadable { .. } => Some(
                "name another file with --config or FISHWAY_CONFIG; there need be none".to_owned(),
            ),
            ConfigError::Syntax { .. } | ConfigError::WrongType { .. } => {
                Some("a line is KEY = VALUE, such as keep = \"30d\" or concurrency = 16".to_owned())
            }
            ConfigError::UnknownKey { nearest, .. } => Some(match nearest {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => "fishway config show shows all settings".to_owned(),
            }),
        }
    }
}

/// Read a file that sets some of the settings whose names are `known`.
pub fn read(path: &Path, known: &[&str]) -> Result<File, ConfigError> {
    let unreadable = |why: String| ConfigError::Unreadable {
        path: path.to_owned(),
        why,
    };
    let about = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if about.len() > BYTES_MAX {
        return Err(unreadable(format!(
            "it has {} bytes, more than the {BYTES_MAX} that may be",
            about.len()
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    parse(path, &text, known)
}

fn parse(path: &Path, text: &str, known: &[&str]) -> Result<File, ConfigError> {
    let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let text = without_mark(text);
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| line(span.start)),
        why: error.message().to_owned(),
    })?;
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        let (at, name) = (line(key.span().start), key.get_ref().to_string());
        if !known.contains(&name.as_str()) {
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                line: at,
                nearest: nearest(&name, known),
                key: name,
            });
        }
        let value = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            // As it is written, where that is a plain number.
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().replace('_', ""),
            // Where the flag is no switch, it is refused as every other value that does not do.
            DeValue::Boolean(on) => on.to_string(),
            other => {
                return Err(ConfigError::WrongType {
                    path: path.to_owned(),
                    line: at,
                    key: name,
                    found: kind(other),
                });
            }
        };
        entries.push(Entry {
            key: name,
            value,
            line: at,
        });
    }
    entries.sort_by_key(|entry| entry.line);
    let path = path.to_owned();
    Ok(File { path, entries })
}

fn nearest(name: &str, known: &[&str]) -> Option<String> {
    let likeness = |one: &&&str| strsim::jaro_winkler(name, one);
    let nearest = known
        .iter()
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(&nearest) > ALIKE).then(|| (*nearest).to_owned())
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number that is not decimal",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// An address as it may be seen: without its password, and without what in its query may be one.
pub fn without_password(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let place = match rest.rsplit_once('@') {
        Some((who, place)) => {
            let user = who.split(':').next().unwrap_or_default();
            format!("{user}@{place}")
        }
        None => rest.to_owned(),
    };
    let part = |part: &str| match part.split_once('=') {
        Some((name, _))
            if SECRET_WORDS
                .iter()
                .any(|word| name.to_lowercase().contains(word)) =>
        {
            format!("{name}=...")
        }
        _ => part.to_owned(),
    };
    let query = query.map(|query| query.split('&').map(part).collect::<Vec<_>>().join("&"));
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    format!("{scheme}://{place}{query}")
}

/// Words in the name of a parameter that has a secret.
const SECRET_WORDS: [&str; 5] = ["password", "token", "key", "secret", "auth"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_in_their_order_and_mistakes_named_by_their_line() {
        let check = |text: &str| match parse(Path::new("f"), text, &["keep", "keep-failed", "park"])
        {
            Ok(file) => file
                .entries
                .iter()
                .map(|entry| format!("{}:{}={}", entry.line, entry.key, entry.value))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => format!("{error} ({})", error.hint().unwrap_or_default()),
        };
        let line = "a line is KEY = VALUE, such as keep = \"30d\" or concurrency = 16";
        assert_eq!(check(""), "");
        assert_eq!(
            check("park = 1_000 # ms\n\nkeep-failed = \"90d\"\n"),
            "1:park=1000 3:keep-failed=90d"
        );
        assert_eq!(check("\u{feff}park = true"), "1:park=true");
        assert_eq!(
            check("park = 1\nkeep_faild = 1\n"),
            "f:2: there is no setting \"keep_faild\" (did you mean keep-failed?)"
        );
        assert_eq!(
            check("zebra = 1"),
            "f:1: there is no setting \"zebra\" (fishway config show shows all settings)"
        );
        for (value, found) in [
            ("[1]", "a list"),
            ("1.5", "a number with a fraction"),
            ("0x10", "a number that is not decimal"),
            ("1979-05-27", "a date"),
        ] {
            let expected =
                format!("f:1: park is {found}, and is to be a text or a number ({line})");
            assert_eq!(check(&format!("park = {value}")), expected);
        }
        assert_eq!(
            check("\n[park]\na = 1\n"),
            format!("f:2: park is a table, and is to be a text or a number ({line})")
        );
        let broken = check("park = 1\nkeep =\n");
        assert!(
            broken.starts_with("f:2: ") && broken.ends_with(&format!("({line})")),
            "{broken}"
        );
    }
}
