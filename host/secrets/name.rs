//! The names of secrets, and references to values outside the database.

use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{SecretError, SecretValue, VALUE_BYTES_MAX};

/// Longest name, in bytes: it is used in manifests and lists.
pub const NAME_BYTES_MAX: usize = 100;

/// A valid name: letters, digits, `-`, `_` and `.`, beginning with a letter or digit. It needs no quotes in a shell, in
/// TOML or in a URL.
pub fn checked_name(name: &str) -> Result<&str, SecretError> {
    let may = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let begins = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    match begins && name.len() <= NAME_BYTES_MAX && name.bytes().all(may) {
        true => Ok(name),
        false => Err(SecretError::BadName {
            name: name.to_owned(),
        }),
    }
}

/// Where a host finds the value of a secret that is not in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// In an environment variable.
    Env(String),
    /// In a file, by its absolute path.
    File(PathBuf),
}

impl std::str::FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Reference, String> {
        match text.split_once(':') {
            Some(("env", name)) => {
                let wrong = name.is_empty() || name.contains(['=', '\0']);
                match wrong || name.len() > 4_096 {
                    true => Err(format!("\"{name}\" is not a variable name")),
                    false => Ok(Reference::Env(name.to_owned())),
                }
            }
            Some(("file", path)) => {
                let wrong = !Path::new(path).is_absolute() || path.contains('\0');
                match wrong || path.len() > 4_096 {
                    true => Err(format!("\"{path}\" is not an absolute path")),
                    false => Ok(Reference::File(path.into())),
                }
            }
            _ => Err("write env:VARIABLE or file:/PATH".to_owned()),
        }
    }
}

impl Reference {
    /// Its value now, for the secret of this name.
    pub fn resolve(&self, name: &str) -> Result<SecretValue, SecretError> {
        let unresolved = |why: String| SecretError::Unresolved {
            name: name.to_owned(),
            reference: self.to_string(),
            why,
        };
        let bytes = match self {
            Reference::Env(variable) => match std::env::var_os(variable) {
                Some(value) => Zeroizing::new(value.into_encoded_bytes()),
                None => return Err(unresolved("the host does not have it".to_owned())),
            },
            Reference::File(path) => read(path).map_err(|error| unresolved(error.to_string()))?,
        };
        SecretValue::from_text(bytes).map_err(|why| unresolved(format!("what is there {why}")))
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reference::Env(name) => write!(f, "env:{name}"),
            Reference::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// The content of a file, up to one byte more than the largest value.
fn read(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // A pipe or a device could block the host, or never end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    // It may be followed by a line feed.
    let most = VALUE_BYTES_MAX + 3;
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    let file = std::fs::File::open(path)?;
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_needs_no_quotes_anywhere() {
        for good in ["stripe", "API_KEY", "a.b-c_d", "7"] {
            assert!(checked_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", "-a", ".a", "a b", "a/b", "é", "a\n", &long] {
            assert!(checked_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reference_names_a_variable_or_an_absolute_path() {
        let check = |text: &str| match text.parse::<Reference>() {
            Ok(reference) => reference.to_string(),
            Err(why) => why,
        };
        assert_eq!(check("env:TOKEN"), "env:TOKEN");
        assert_eq!(check("file:/run/secrets/a:b"), "file:/run/secrets/a:b");
        assert_eq!(check("env:"), "\"\" is not a variable name");
        assert_eq!(check("env:A=B"), "\"A=B\" is not a variable name");
        assert_eq!(check("file:a"), "\"a\" is not an absolute path");
        assert_eq!(check("vault:a"), "write env:VARIABLE or file:/PATH");
        assert_eq!(check("TOKEN"), "write env:VARIABLE or file:/PATH");
    }

    #[test]
    fn a_reference_is_read_when_it_is_used_and_says_what_is_wrong() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("token");
        let reference = Reference::File(path.clone());
        let told = || match reference.resolve("api") {
            Ok(value) => value.expose().to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(told().contains("No such file"), "{}", told());
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(told(), "one");
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(told(), "two");
        std::fs::write(&path, vec![b'x'; VALUE_BYTES_MAX + 9]).unwrap();
        assert!(
            told().ends_with("what is there is larger than 64 KiB"),
            "{}",
            told()
        );
        let error = Reference::File(place.path().into()).resolve("api");
        assert!(error.unwrap_err().to_string().ends_with("it is not a file"));
    }
}
