//! Path prefixes: which paths a grant matches, so that no spelling of a path escapes them.
//!
//! A prefix ends where a segment ends: `/v1` means `/v1` and `/v1/x`, never `/v10`. Paths are compared byte by byte as
//! they are sent. A path that servers may interpret in more than one way matches no prefix.

/// Longest prefix, in bytes: enough for any handwritten path.
pub const PREFIX_BYTES_MAX: usize = 1_024;

/// Whether a path is this prefix or below it.
pub fn below(prefix: &str, path: &str) -> bool {
    let Some(rest) = path.strip_prefix(prefix) else {
        return false;
    };
    rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/')
}

/// The ambiguous part of a path; none in most paths.
pub fn ambiguity(path: &str) -> Option<&'static str> {
    if path.contains("//") {
        return Some("an empty segment (//)");
    }
    if path.contains('\\') {
        return Some("a backslash");
    }
    let lower = path.to_ascii_lowercase();
    // Some servers decode an encoded percent sign twice.
    let encoded = ["%2f", "%5c", "%00", "%252f", "%255c", "%252e"];
    if encoded.iter().any(|one| lower.contains(one)) {
        return Some("an encoded separator");
    }
    let dots = |segment: &str| {
        // Some servers cut everything after a semicolon before they look for dots.
        let name = segment.split(';').next().unwrap_or_default();
        let name = name.replace("%2e", ".").replace("%3b", ";");
        let name = name.split(';').next().unwrap_or_default();
        name == "." || name == ".."
    };
    lower.split('/').any(dots).then_some("a segment of dots")
}

/// What is wrong with a prefix and what to write; none if it is valid.
pub fn wrong_prefix(prefix: &str) -> Option<(&'static str, &'static str)> {
    let plain = |one: u8| one.is_ascii_graphic() && !b"\"<>^`{|}".contains(&one);
    if !prefix.starts_with('/') {
        Some((
            "does not begin with a slash",
            "write a path from its root, such as \"/v1/\"",
        ))
    } else if prefix.len() > PREFIX_BYTES_MAX {
        Some((
            "is longer than 1024 bytes",
            "write the beginning of the path alone",
        ))
    } else if prefix.contains('*') {
        Some((
            "has a star",
            "leave it out: \"/v1/\" means everything below /v1/",
        ))
    } else if prefix.contains(['?', '#']) {
        Some(("has a query or a fragment", "write the path alone"))
    } else if ambiguity(prefix).is_some() {
        Some((
            "is ambiguous",
            "write it without empty segments, dots, backslashes and encoded slashes",
        ))
    } else if !prefix.bytes().all(plain) {
        Some((
            "has a character that is not allowed in a URL",
            "write it as it is sent, percent-encoded",
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_a_segment_ends() {
        let check = |prefix: &str, path: &str, expected: bool| {
            assert_eq!(below(prefix, path), expected, "{prefix} and {path}");
        };
        check("/v1", "/v1", true);
        check("/v1", "/v1/charges", true);
        check("/v1", "/v10", false);
        check("/v1", "/v1-admin", false);
        check("/v1", "/V1/charges", false);
        check("/v1", "/x/v1", false);
        check("/v1/", "/v1/", true);
        check("/v1/", "/v1", false);
        check("/", "/anything", true);
        check("/v1", "/%76%31", false);
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_found() {
        for path in [
            "/v1/../admin",
            "/v1/..",
            "/v1/./x",
            "/v1/%2e%2e/admin",
            "/v1/%2E./admin",
            "/v1/.%2e/admin",
            "/v1/%252e%252e/admin",
            "/v1/..;x=1/admin",
            "/v1/..%3bx/admin",
            "/v1//admin",
            "//admin",
            "/v1/x%2f..%2fadmin",
            "/v1/x%2Fy",
            "/v1\\..\\admin",
            "/v1/%5C",
            "/v1/x%00",
            "/v1/x%252Fy",
        ] {
            assert!(ambiguity(path).is_some(), "{path}");
        }
        for path in [
            "/",
            "/v1/a.b",
            "/v1/...",
            "/v1/.well-known",
            "/v1/a%20b",
            "/v1/100%25",
            "/v1;a=1/x",
        ] {
            assert_eq!(ambiguity(path), None, "{path}");
        }
    }

    #[test]
    fn a_wrong_prefix_says_what_to_write() {
        let check = |prefix: &str, why: &str| {
            assert_eq!(
                wrong_prefix(prefix).map(|(why, _)| why),
                Some(why),
                "{prefix}"
            );
        };
        check("v1", "does not begin with a slash");
        check("", "does not begin with a slash");
        check("/v1/*", "has a star");
        check("/v1?x=1", "has a query or a fragment");
        check("/v1/../x", "is ambiguous");
        check("/v1 x", "has a character that is not allowed in a URL");
        check("/ü", "has a character that is not allowed in a URL");
        let long = format!("/{}", "x".repeat(PREFIX_BYTES_MAX));
        check(&long, "is longer than 1024 bytes");
        assert_eq!(wrong_prefix("/v1/charges;a=1/%C3%BC"), None);
    }
}
