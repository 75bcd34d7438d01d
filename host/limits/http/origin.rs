//! Destinations: the origin in a grant, and the target of a request.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::super::WrongHost;
use super::super::outbound::is_name;

/// An origin that a grant allows: scheme, host and port, such as `https://*.example.com:8443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOrigin {
    /// Whether the scheme is `https`; else it is `http`.
    pub https: bool,
    /// Which hosts.
    pub host: HostPattern,
    /// The port; by default that of the scheme.
    pub port: u16,
}

/// Which hosts an origin matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// The host of this name, in lower case and without a trailing dot.
    Name(String),
    /// Every host below this name, but not the name itself: `*.example.com` is kept as `example.com`.
    Below(String),
    /// The host with this address, written as an address.
    Address(IpAddr),
}

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whether the scheme is `https`; else it is `http`.
    pub https: bool,
    /// A name in lower case and without a trailing dot, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Target {
    /// The target of this URI, or what is wrong with the URI.
    pub fn of(uri: &::http::Uri) -> Result<Target, String> {
        Target::read(uri).map_err(ToOwned::to_owned)
    }

    fn read(uri: &::http::Uri) -> Result<Target, &'static str> {
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err("its scheme is neither http nor https"),
            None => return Err("it has no scheme"),
        };
        let authority = uri.authority().ok_or("it names no host")?.as_str();
        if authority.contains('@') {
            return Err("it has a user before its host");
        }
        let (host, port) = split(authority).ok_or("its host or port is malformed")?;
        let port = match port {
            None => default_port(https),
            Some(port) => decimal_port(port).ok_or("its port is not a number from 1 to 65535")?,
        };
        let host = match host_of(host) {
            Some(HostPattern::Name(name)) => name,
            Some(HostPattern::Address(address)) => address.to_string(),
            Some(HostPattern::Below(_)) | None => return Err("its host is not a name or address"),
        };
        Ok(Target { https, host, port })
    }

    /// The address, if the host is written as one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Host and port as in a URL: without the default port of the scheme.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        if self.port == default_port(self.https) {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", scheme(self.https), self.authority())
    }
}

impl HttpOrigin {
    /// Whether it matches this target.
    pub fn means(&self, target: &Target) -> bool {
        if (self.https, self.port) != (target.https, target.port) {
            return false;
        }
        match &self.host {
            HostPattern::Name(name) => *name == target.host,
            HostPattern::Below(name) => {
                let before = target.host.strip_suffix(name.as_str());
                before.is_some_and(|before| before.len() > 1 && before.ends_with('.'))
            }
            HostPattern::Address(address) => target.address() == Some(*address),
        }
    }
}

impl FromStr for HttpOrigin {
    type Err = WrongHost;

    fn from_str(text: &str) -> Result<HttpOrigin, WrongHost> {
        let wrong = |why, hint: &str| {
            let hint = hint.to_owned();
            Err(WrongHost { why, hint })
        };
        let whole = "write a scheme and a host, such as \"https://api.example.com\"";
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong("without a scheme", whole);
        };
        let https = match scheme {
            "https" => true,
            "http" => false,
            _ => return wrong("of a scheme other than http and https", whole),
        };
        let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if place.contains('@') {
            let hint = "omit the user: use a header with a secret instead";
            return wrong("a URL with a user", hint);
        }
        if place.len() < rest.len() {
            let hint = format!("write to = \"{scheme}://{place}\"; paths = [\"/...\"] narrows it");
            return wrong("a URL with a path", &hint);
        }
        let Some((host, port)) = split(place) else {
            return wrong("an address without its brackets", "write \"http://[::1]\"");
        };
        let port = match port.map(decimal_port) {
            None => default_port(https),
            Some(Some(port)) => port,
            Some(None) => {
                let hint = "a port is a number from 1 to 65535, as in \"https://example.com:8443\"";
                return wrong("an origin with an invalid port", hint);
            }
        };
        match host_of(host) {
            Some(host) => Ok(HttpOrigin { https, host, port }),
            None if host.contains('*') => {
                let hint = "write \"*.\" before a name, as in \"https://*.example.com\"";
                wrong("a pattern of another kind", hint)
            }
            None => {
                let hint = "write a name of letters, digits, dots and hyphens (in its xn-- form), or an address";
                wrong("an origin with an invalid host", hint)
            }
        }
    }
}

impl fmt::Display for HttpOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", scheme(self.https))?;
        match &self.host {
            HostPattern::Name(name) => f.write_str(name)?,
            HostPattern::Below(name) => write!(f, "*.{name}")?,
            HostPattern::Address(IpAddr::V4(address)) => write!(f, "{address}")?,
            HostPattern::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
        }
        if self.port != default_port(self.https) {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

fn scheme(https: bool) -> &'static str {
    if https { "https" } else { "http" }
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

/// Digits only: the parser of numbers would accept a sign.
fn decimal_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|one| one.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// Host, with its brackets, and port.
fn split(place: &str) -> Option<(&str, Option<&str>)> {
    if place.starts_with('[') {
        let end = place.find(']')? + 1;
        let (host, rest) = place.split_at(end);
        return match rest {
            "" => Some((host, None)),
            rest => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    match place.split_once(':') {
        None => Some((place, None)),
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
    }
}

/// The host in this text; none if it is neither a name nor an address.
fn host_of(text: &str) -> Option<HostPattern> {
    if let Some(inner) = text.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(HostPattern::Address(address.into()));
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(HostPattern::Address(address.into()));
    }
    let (below, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if !is_name(&name) || is_number(&name) {
        return None;
    }
    Some(if below {
        HostPattern::Below(name)
    } else {
        HostPattern::Name(name)
    })
}

/// Whether resolvers interpret a name as an address: `127.1`, `0x7f000001`, `2130706433`.
fn is_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x");
    last.bytes().all(|one| one.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|one| one.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_and_shown_in_its_shortest_form() {
        let check = |text: &str, shown: &str| {
            let origin: HttpOrigin = text.parse().unwrap();
            assert_eq!(origin.to_string(), shown, "{text}");
            assert_eq!(shown.parse::<HttpOrigin>().unwrap(), origin);
        };
        check("https://api.example.com", "https://api.example.com");
        check("https://API.Example.com.:443", "https://api.example.com");
        check("http://example.com:80", "http://example.com");
        check("https://*.example.com:8443", "https://*.example.com:8443");
        check("http://127.0.0.1:8080", "http://127.0.0.1:8080");
        check("http://[0:0::1]", "http://[::1]");
        check("https://[2001:DB8::1]:443", "https://[2001:db8::1]");
    }

    #[test]
    fn an_origin_that_is_none_says_why_and_what_to_write() {
        let check = |text: &str, why: &str, hint: &str| {
            let wrong = text.parse::<HttpOrigin>().unwrap_err();
            assert_eq!(wrong.why, why, "{text}");
            assert!(wrong.hint.contains(hint), "{text}: {}", wrong.hint);
        };
        check("api.example.com", "without a scheme", "\"https://");
        check(
            "ftp://a.example",
            "of a scheme other than http and https",
            "\"https://",
        );
        check("https://me:word@a.example", "a URL with a user", "secret");
        check(
            "https://a.example/",
            "a URL with a path",
            "to = \"https://a.example\"",
        );
        check("https://a.example/v1?x", "a URL with a path", "paths =");
        check("http://::1", "an address without its brackets", "[::1]");
        for port in ["0", "70000", "+80", "https", ""] {
            let text = format!("https://a.example:{port}");
            check(&text, "an origin with an invalid port", "1 to 65535");
        }
        for host in [
            "*",
            "*example.com",
            "a.*.example.com",
            "*.*.example.com",
            "*.1.2.3",
        ] {
            let text = format!("https://{host}");
            check(&text, "a pattern of another kind", "*.example.com");
        }
        for host in [
            "",
            "exämple.com",
            "two words",
            "127.1",
            "0x7f000001",
            "2130706433",
            "1.2.3.4.5",
            "[::1%eth0]",
        ] {
            let text = format!("http://{host}");
            check(&text, "an origin with an invalid host", "xn--");
        }
    }

    #[test]
    fn an_origin_means_its_scheme_host_and_port_and_no_others() {
        let check = |origin: &str, uri: &str, expected: bool| {
            let origin: HttpOrigin = origin.parse().unwrap();
            let target = Target::of(&uri.parse().unwrap()).unwrap();
            assert_eq!(origin.means(&target), expected, "{origin} and {uri}");
        };
        check("https://a.example", "https://a.example/x", true);
        check("https://a.example", "HTTPS://A.EXAMPLE:443/", true);
        check("https://a.example", "https://a.example./", true);
        check("https://a.example", "http://a.example/", false);
        check("https://a.example", "https://a.example:444/", false);
        check("https://a.example", "https://b.a.example/", false);
        check("https://*.a.example", "https://b.a.example/", true);
        check("https://*.a.example", "https://c.b.a.example/", true);
        check("https://*.a.example", "https://a.example/", false);
        check("https://*.a.example", "https://ba.example/", false);
        check(
            "https://*.a.example",
            "https://a.example.evil.example/",
            false,
        );
        check("http://127.0.0.1", "http://127.0.0.1/", true);
        check("http://[::1]", "http://[0::0:1]/", true);
        check("http://127.0.0.1", "http://[::ffff:127.0.0.1]/", false);
        check("http://localhost", "http://127.0.0.1/", false);
    }

    #[test]
    fn a_place_is_written_as_in_a_url_and_a_doubtful_one_is_refused() {
        let place = |uri: &str| Target::of(&uri.parse().unwrap()).map(|found| found.to_string());
        assert_eq!(
            place("http://a.example:8080/x").unwrap(),
            "http://a.example:8080"
        );
        assert_eq!(place("https://[::1]:443/x").unwrap(), "https://[::1]");
        for (uri, why) in [
            ("https://me@a.example/", "user"),
            ("https://a.example@127.0.0.1/", "user"),
            ("ftp://a.example/", "scheme"),
            ("/only/a/path", "scheme"),
            ("http://127.1/", "host"),
            ("http://a.example:0/", "port"),
            ("http://a..example/", "host"),
        ] {
            let wrong = place(uri).unwrap_err();
            assert!(wrong.contains(why), "{uri}: {wrong}");
        }
    }
}
