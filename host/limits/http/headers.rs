//! Headers that a grant adds to each request, with the secrets in their values.
//!
//! A value names a secret as `${NAME}`. The host inserts it after the request has left the sandbox, so stored and
//! displayed grants contain only the name.

use ::http::{HeaderName, HeaderValue};

/// Longest value of a header, in bytes, before and after secrets are inserted: most servers accept that.
pub const VALUE_BYTES_MAX: usize = 8 << 10;

/// Longest name of a secret, in bytes: enough for any environment variable.
pub const SECRET_NAME_BYTES_MAX: usize = 100;

/// Headers that belong to the connection or to the frame of a message. The client sets them itself.
const OF_THE_CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why a header cannot be added to a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderProblem {
    /// There is no secret of that name.
    #[error("the secret {0} is not there")]
    NoSecret(String),
    /// A secret has a character that is not allowed in a header, such as a line break. Its value is not shown.
    #[error(
        "the header {0} would have a character that is not allowed in a header, or more than 8192 bytes"
    )]
    Unfit(String),
}

/// Whether a header belongs to the connection, so that neither a grant nor a guest may set it.
pub fn of_the_connection(name: &str) -> bool {
    OF_THE_CONNECTION.contains(&name.to_ascii_lowercase().as_str())
}

/// Whether this is a valid name of a secret: letters, digits and underscores, not a digit first.
pub fn is_secret_name(name: &str) -> bool {
    let known = |one: u8| one.is_ascii_alphanumeric() || one == b'_';
    !name.is_empty()
        && name.len() <= SECRET_NAME_BYTES_MAX
        && name.bytes().all(known)
        && !name.starts_with(|one: char| one.is_ascii_digit())
}

/// One part of a value.
enum Part<'a> {
    Text(&'a str),
    Secret(&'a str),
}

/// The parts of a value; none if `${` has no name or no end.
fn parts(value: &str) -> Option<Vec<Part<'_>>> {
    let (mut parts, mut rest) = (Vec::new(), value);
    while let Some(start) = rest.find("${") {
        let name = rest[start + 2..].split('}').next().unwrap_or_default();
        let end = start + 2 + name.len();
        if !is_secret_name(name) || rest.len() == end {
            return None;
        }
        parts.extend([Part::Text(&rest[..start]), Part::Secret(name)]);
        rest = &rest[end + 1..];
    }
    parts.push(Part::Text(rest));
    Some(parts)
}

/// The secrets that a value names; none if `${` has no name or no end.
pub fn secrets_of(value: &str) -> Option<Vec<&str>> {
    let parts = parts(value)?.into_iter();
    let secrets = parts.filter_map(|part| match part {
        Part::Secret(name) => Some(name),
        Part::Text(_) => None,
    });
    Some(secrets.collect())
}

/// What is wrong with a header of a grant and what to write; none if it is valid.
pub fn wrong_header(name: &str, value: &str) -> Option<(&'static str, &'static str)> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        Some((
            "is not a valid header name",
            "a name has letters, digits and hyphens",
        ))
    } else if of_the_connection(name) {
        Some((
            "belongs to the connection, which is the host's",
            "take it out: the host sets it where it is needed",
        ))
    } else if value.len() > VALUE_BYTES_MAX
        || HeaderValue::from_str(value).is_err()
        || !value.is_ascii()
    {
        Some((
            "has an invalid value",
            "a value is one line of ASCII, of at most 8192 bytes",
        ))
    } else if secrets_of(value).is_none() {
        Some((
            "has \"${\" without the name of a secret",
            "write \"Bearer ${API_TOKEN}\": a name has letters, digits and underscores",
        ))
    } else {
        None
    }
}

/// A header with its secrets inserted. If it has a secret it is marked sensitive, so that nothing prints it.
pub fn filled(
    name: &str,
    value: &str,
    secret: &mut impl FnMut(&str) -> Option<String>,
) -> Result<(HeaderName, HeaderValue), HeaderProblem> {
    let unfit = || HeaderProblem::Unfit(name.to_owned());
    let (mut text, mut sensitive) = (String::new(), false);
    for part in parts(value).ok_or_else(unfit)? {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Secret(secret_name) => {
                let found = secret(secret_name);
                let found = found.ok_or_else(|| HeaderProblem::NoSecret(secret_name.to_owned()))?;
                text.push_str(&found);
                sensitive = true;
            }
        }
    }
    if text.len() > VALUE_BYTES_MAX {
        return Err(unfit());
    }
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
    let mut value = HeaderValue::from_str(&text).map_err(|_| unfit())?;
    value.set_sensitive(sensitive);
    Ok((header, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_put_into_a_value_and_mark_it_sensitive() {
        let check = |value: &str, expected: Result<&str, HeaderProblem>| {
            let mut secret = |name: &str| match name {
                "KEY" => Some("4711".to_owned()),
                "SPLIT" => Some("4711\r\nx-injected: 1".to_owned()),
                "LONG" => Some("x".repeat(VALUE_BYTES_MAX)),
                _ => None,
            };
            let found = filled("X-Api-Key", value, &mut secret);
            let shown = found.as_ref().map(|(_, value)| value.to_str().unwrap());
            assert_eq!(shown.map_err(Clone::clone), expected, "{value}");
            if let Ok((name, filled)) = &found {
                assert_eq!(name, "x-api-key");
                assert_eq!(filled.is_sensitive(), value.contains("${"));
            }
        };
        let unfit = || Err(HeaderProblem::Unfit("X-Api-Key".to_owned()));
        check("plain $ {KEY}", Ok("plain $ {KEY}"));
        check("${KEY}", Ok("4711"));
        check("Bearer ${KEY}, ${KEY}.", Ok("Bearer 4711, 4711."));
        check("${NOT}", Err(HeaderProblem::NoSecret("NOT".to_owned())));
        check("${SPLIT}", unfit());
        check("a${LONG}", unfit());
    }

    #[test]
    fn a_header_that_no_request_may_have_says_why() {
        let check = |name: &str, value: &str, expected: Option<&str>| {
            let found = wrong_header(name, value).map(|(why, _)| why);
            assert_eq!(found, expected, "{name}: {value}");
        };
        check("authorization", "Bearer ${API_TOKEN}", None);
        check("x y", "1", Some("is not a valid header name"));
        check("", "1", Some("is not a valid header name"));
        for name in [
            "Host",
            "Transfer-Encoding",
            "content-length",
            "TE",
            "Upgrade",
        ] {
            check(
                name,
                "1",
                Some("belongs to the connection, which is the host's"),
            );
        }
        for value in ["a\r\nb", "ü", "\0"] {
            check("x-a", value, Some("has an invalid value"));
        }
        for value in ["${", "${}", "${a b}", "${1A}", "x ${KEY"] {
            check(
                "x-a",
                value,
                Some("has \"${\" without the name of a secret"),
            );
        }
    }
}
