//! Placeholders, which represent secrets inside a sandbox, and their replacement by the values outside.
//!
//! A placeholder is derived from a random salt of the database and the name of the secret, never from the value: it is
//! the same in every run, replay and host, and stays the same when the value changes. It is not secret itself. The
//! grant decides whether the value replaces it, not knowledge of the placeholder.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{SecretError, SecretValue};
use crate::store::SecretState;

/// The prefix of every placeholder.
const PREFIX: &str = "fishway-secret-";

/// Hexadecimal digits after it: 128 bits, to rule out collisions between names of any database.
const DIGITS: usize = 32;

/// Makes the placeholders of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholders {
    salt: String,
}

impl Placeholders {
    /// The placeholders of a database.
    pub fn of(state: &SecretState) -> Placeholders {
        Placeholders {
            salt: state.placeholder_salt.clone(),
        }
    }

    /// The placeholder of the secret with this name.
    pub fn of_name(&self, name: &str) -> String {
        let key = blake3::derive_key("fishway 2026 placeholders of secrets", self.salt.as_bytes());
        let hash = blake3::keyed_hash(&key, name.as_bytes()).to_hex();
        format!("{PREFIX}{}", &hash[..DIGITS])
    }

    /// Those of these names whose placeholders occur in the value of a header.
    pub fn named_in(&self, header: &str, names: &[String]) -> Vec<String> {
        let plain = basic(header);
        let text = plain.as_ref().map_or(header, |plain| plain.as_str());
        if places(text).next().is_none() {
            return Vec::new();
        }
        let occurs = |name: &&String| text.contains(&self.of_name(name));
        names.iter().filter(occurs).cloned().collect()
    }
}

/// The value of a header in which placeholders were looked for.
#[derive(Debug, Clone)]
pub struct FilledHeader {
    /// The value to send, if it contains a secret now; `None` if nothing was replaced.
    pub value: Option<SecretValue>,
    /// Placeholders that remain because the grant does not name their secrets.
    pub left: usize,
}

/// The value of a header with these secrets in place of their placeholders. Also looks into the base64 of `Basic`,
/// since libraries build that from a name and a password. Each placeholder is replaced once: replaced values are not
/// searched again.
pub fn fill(
    header: &str,
    placeholders: &Placeholders,
    values: &[(String, SecretValue)],
) -> Result<FilledHeader, SecretError> {
    if let Some(plain) = basic(header) {
        let FilledHeader { value, left } = fill_text(&plain, placeholders, values, false)?;
        let value = value.map(|plain| {
            let encoded = Zeroizing::new(STANDARD.encode(plain.expose()));
            let mut text = Zeroizing::new(String::with_capacity(BASIC.len() + encoded.len()));
            text.push_str(&header[..BASIC.len()]);
            text.push_str(&encoded);
            SecretValue::new(text)
        });
        return Ok(FilledHeader { value, left });
    }
    fill_text(header, placeholders, values, true)
}

fn fill_text(
    text: &str,
    placeholders: &Placeholders,
    values: &[(String, SecretValue)],
    plain: bool,
) -> Result<FilledHeader, SecretError> {
    let known: Vec<(String, &(String, SecretValue))> = (values.iter())
        .map(|secret| (placeholders.of_name(&secret.0), secret))
        .collect();
    let mut found = Vec::new();
    let mut left = 0;
    for place in places(text) {
        match known
            .iter()
            .find(|(placeholder, _)| *placeholder == text[place.clone()])
        {
            Some((_, secret)) => found.push((place, *secret)),
            None => left += 1,
        }
    }
    if found.is_empty() {
        return Ok(FilledHeader { value: None, left });
    }
    let added: usize = found
        .iter()
        .map(|(_, (_, value))| value.expose().len())
        .sum();
    // Allocated at full size, so that no copy of a value is left in memory.
    let mut filled = Zeroizing::new(String::with_capacity(text.len() + added));
    let mut at = 0;
    for (place, (name, value)) in found {
        if plain && !value.fits_header() {
            let name = name.clone();
            return Err(SecretError::NotForAHeader { name });
        }
        filled.push_str(&text[at..place.start]);
        filled.push_str(value.expose());
        at = place.end;
    }
    filled.push_str(&text[at..]);
    let value = Some(SecretValue::new(filled));
    Ok(FilledHeader { value, left })
}

/// The prefix of a header value with a name and a password in base64.
const BASIC: &str = "Basic ";

/// The name and the password of such a header.
fn basic(header: &str) -> Option<Zeroizing<String>> {
    let scheme = header.get(..BASIC.len())?;
    if !scheme.eq_ignore_ascii_case(BASIC) {
        return None;
    }
    let bytes = Zeroizing::new(STANDARD.decode(header[BASIC.len()..].trim()).ok()?);
    Some(Zeroizing::new(std::str::from_utf8(&bytes).ok()?.to_owned()))
}

/// The ranges of text in the form of a placeholder.
fn places(text: &str) -> impl Iterator<Item = Range<usize>> {
    let digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    text.match_indices(PREFIX).filter_map(move |(start, _)| {
        let digits = start + PREFIX.len();
        let end = digits + DIGITS;
        let all = text.as_bytes().get(digits..end)?.iter().all(digit);
        all.then_some(start..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placeholders(salt: &str) -> Placeholders {
        Placeholders {
            salt: salt.repeat(64),
        }
    }

    fn secrets(of: &[(&str, &str)]) -> Vec<(String, SecretValue)> {
        let value = |text: &str| SecretValue::new(Zeroizing::new(text.to_owned()));
        of.iter()
            .map(|(name, text)| ((*name).to_owned(), value(text)))
            .collect()
    }

    #[test]
    fn a_placeholder_follows_from_the_database_and_the_name_alone() {
        let (one, other) = (placeholders("a"), placeholders("b"));
        let stripe = one.of_name("stripe");
        assert_eq!(one.of_name("stripe"), stripe);
        assert_ne!(one.of_name("github"), stripe);
        assert_ne!(other.of_name("stripe"), stripe);
        assert_eq!(stripe.len(), PREFIX.len() + DIGITS);
        assert_eq!(places(&stripe).next(), Some(0..stripe.len()));
        assert_eq!(places(&stripe).count(), 1);
    }

    #[test]
    fn placeholders_of_granted_secrets_are_replaced_and_others_stay() {
        let of = placeholders("a");
        let values = secrets(&[("stripe", "sk_1"), ("github", "ghp_2")]);
        let [stripe, github, other] = ["stripe", "github", "other"].map(|name| of.of_name(name));
        let check = |header: &str| {
            let FilledHeader { value, left } = fill(header, &of, &values).unwrap();
            let value = value.as_ref().map_or("as it was", SecretValue::expose);
            format!("{value} | {left}")
        };
        assert_eq!(check("plain"), "as it was | 0");
        assert_eq!(check(&format!("Bearer {stripe}")), "Bearer sk_1 | 0");
        assert_eq!(
            check(&format!("{stripe}{github};{stripe}")),
            "sk_1ghp_2;sk_1 | 0"
        );
        assert_eq!(
            check(&format!("é {other} {github}")),
            format!("é {other} ghp_2 | 1")
        );
        assert_eq!(check(&other), "as it was | 1");
        assert_eq!(check(&stripe[..stripe.len() - 1]), "as it was | 0");
        assert_eq!(check(&stripe.to_uppercase()), "as it was | 0");
        let basic = |text: &str| STANDARD.encode(text);
        assert_eq!(
            check(&format!("Basic {}", basic(&format!("me:{stripe}")))),
            format!("Basic {} | 0", basic("me:sk_1"))
        );
        assert_eq!(
            check(&format!("basic {}", basic("me:you"))),
            "as it was | 0"
        );
        assert_eq!(check("Basic ???"), "as it was | 0");

        let names: Vec<String> = ["stripe", "github", "other"].map(str::to_owned).into();
        assert_eq!(of.named_in(&format!("x {github}"), &names), ["github"]);
        let header = format!("Basic {}", basic(&format!("me:{stripe}")));
        assert_eq!(of.named_in(&header, &names), ["stripe"]);
        assert!(of.named_in("nothing", &names).is_empty());
    }

    #[test]
    fn a_value_that_has_a_placeholder_itself_brings_no_other_secret() {
        let of = placeholders("a");
        let values = secrets(&[("one", &of.of_name("two")), ("two", "hush")]);
        let filled = fill(&of.of_name("one"), &of, &values).unwrap();
        assert_eq!(filled.value.unwrap().expose(), of.of_name("two"));
    }

    #[test]
    fn a_value_with_a_line_break_adds_no_header() {
        let of = placeholders("a");
        let values = secrets(&[("one", "a\r\nX-Admin: 1")]);
        let error = fill(&of.of_name("one"), &of, &values).unwrap_err();
        assert!(
            matches!(error, SecretError::NotForAHeader { .. }),
            "{error}"
        );
        // Within base64 it breaks no line.
        let header = format!(
            "Basic {}",
            STANDARD.encode(format!("me:{}", of.of_name("one")))
        );
        assert!(fill(&header, &of, &values).unwrap().value.is_some());
    }
}
