//! `grants.allowed-outbound-hosts`: how an entry is read and checked.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Longest name that a resolver takes.
const NAME_BYTES_MAX: usize = 253;

/// A host that a guest may connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundHost {
    /// A name or an address.
    pub host: String,
    /// The port; `None`: all of them.
    pub port: Option<u16>,
}

/// Why an entry can never match a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongHost {
    /// What is wrong with it.
    pub why: &'static str,
    /// What to write in its place.
    pub hint: String,
}

impl FromStr for OutboundHost {
    type Err = WrongHost;

    fn from_str(text: &str) -> Result<OutboundHost, WrongHost> {
        let wrong = |why, hint: &str| {
            let hint = hint.to_owned();
            Err(WrongHost { why, hint })
        };
        if let Some((scheme, rest)) = text.split_once("://") {
            let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let with_port = match (scheme, place.parse::<OutboundHost>()) {
                ("http", Ok(OutboundHost { port: None, .. })) => format!("{place}:80"),
                ("https", Ok(OutboundHost { port: None, .. })) => format!("{place}:443"),
                (_, Ok(_)) => place.to_owned(),
                (_, Err(_)) => "example.com:443".to_owned(),
            };
            return wrong(
                "a URL",
                &format!("write a host and a port: \"{with_port}\""),
            );
        }
        if text.contains('*') {
            let hint = "name each host in an entry of its own, such as \"example.com:443\"";
            return wrong("a pattern", hint);
        }
        if text.contains('/') {
            let hint = "write a host and a port, such as \"example.com:443\"; paths and networks are not granted";
            return wrong("a path or a network", hint);
        }
        let ports = "a port is a number from 1 to 65535, as in \"example.com:443\"; without one all ports are meant";
        let (host, port) = match split(text) {
            Some(parts) => parts,
            None => return wrong("an address without its brackets", "write \"[::1]:443\""),
        };
        let port = match port.map(str::parse) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return wrong("a host with a port that there is not", ports),
        };
        if host.parse::<IpAddr>().is_err() && !is_name(host) {
            let hint = "write a name of letters, digits, dots and hyphens (in its xn-- form), or an address";
            return wrong("no name of a host", hint);
        }
        let host = host.to_owned();
        Ok(OutboundHost { host, port })
    }
}

/// Host and port, without brackets; none where brackets are missing.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return match rest {
            "" => Some((host, None)),
            rest => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    match text.rsplit_once(':') {
        None => Some((text, None)),
        Some(_) if text.parse::<Ipv6Addr>().is_ok() => Some((text, None)),
        Some((host, _)) if host.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
    }
}

/// Whether a resolver could know it.
pub(super) fn is_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let part = |part: &str| {
        let known = |one: u8| one.is_ascii_alphanumeric() || one == b'-' || one == b'_';
        !part.is_empty() && part.len() <= 63 && part.bytes().all(known)
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(part)
}

impl fmt::Display for OutboundHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host.contains(':'), self.port) {
            (true, Some(port)) => write!(f, "[{}]:{port}", self.host),
            (false, Some(port)) => write!(f, "{}:{port}", self.host),
            (_, None) => f.write_str(&self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_host_and_perhaps_a_port() {
        let check = |text: &str, host: &str, port: Option<u16>| {
            let found: OutboundHost = text.parse().unwrap();
            assert_eq!((found.host.as_str(), found.port), (host, port), "{text}");
        };
        check("example.com", "example.com", None);
        check("example.com:443", "example.com", Some(443));
        check("127.0.0.1:80", "127.0.0.1", Some(80));
        check("::1", "::1", None);
        check("[::1]:80", "::1", Some(80));
        check("[::1]", "::1", None);
        check("my_db.internal.:5432", "my_db.internal.", Some(5432));
        for text in ["example.com", "example.com:443", "::1", "[::1]:80"] {
            assert_eq!(text.parse::<OutboundHost>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_entry_that_can_never_match_says_why_and_what_to_write() {
        let check = |text: &str, why: &str, hint: &str| {
            let wrong = text.parse::<OutboundHost>().unwrap_err();
            assert_eq!(wrong.why, why, "{text}");
            assert!(wrong.hint.contains(hint), "{text}: {}", wrong.hint);
        };
        check("https://example.com/path", "a URL", "\"example.com:443\"");
        check("http://example.com", "a URL", "\"example.com:80\"");
        check("http://example.com:8080/x", "a URL", "\"example.com:8080\"");
        check("*", "a pattern", "name each host");
        check("*.example.com:443", "a pattern", "name each host");
        check("example.com/path", "a path or a network", "host and a port");
        check("10.0.0.0/8", "a path or a network", "host and a port");
        check(
            "example.com:https",
            "a host with a port that there is not",
            "1 to 65535",
        );
        check(
            "example.com:0",
            "a host with a port that there is not",
            "1 to 65535",
        );
        check(
            "example.com:70000",
            "a host with a port that there is not",
            "1 to 65535",
        );
        check("::1:80:x", "an address without its brackets", "[::1]:443");
        check("[::1", "an address without its brackets", "[::1]:443");
        check("", "no name of a host", "letters, digits");
        check("two words", "no name of a host", "letters, digits");
        check("me@example.com", "no name of a host", "letters, digits");
        check("exämple.com", "no name of a host", "xn--");
    }
}
