//! Arrivals of an exchange, which is an HTTP request of a guest and its response.
//!
//! An exchange is identified by its task, the run and the number of the call that made the request. A guest sees new
//! arrivals only at waits. So the record of a wait has everything that it made visible, in order, and a replay sees the
//! same at the same place.

use std::fmt;

use base64::Engine;
use base64::display::Base64Display;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Headers or trailers, in the order received. A name may occur several times.
pub type Headers = Vec<(String, Octets)>;

/// Something that a wait makes visible to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The number of the call that made the request.
    pub exchange: u32,
    /// What has arrived.
    pub what: Visible,
}

/// What an exchange may deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Visible {
    /// A whole small response. Nothing follows.
    Whole {
        /// The status.
        status: u16,
        /// The headers.
        headers: Headers,
        /// The body.
        body: Octets,
        /// The trailers, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trailers: Option<Headers>,
    },
    /// The head of a response whose body follows in parts.
    Head {
        /// The status.
        status: u16,
        /// The headers.
        headers: Headers,
    },
    /// A part of a body.
    Chunk(Octets),
    /// The end of a body. Nothing follows.
    End {
        /// The trailers, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trailers: Option<Headers>,
    },
    /// The exchange failed. Nothing follows.
    Failed {
        /// The name of the case of `error-code` in `wasi:http`.
        code: String,
        /// Detail, for people.
        detail: String,
    },
    /// The request will be sent again. Nothing follows of the old exchange.
    Again {
        /// How often it was sent.
        tries: u32,
        /// When it will be sent again, in milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// The head of an exchange that is not recorded: a replay sends the request again.
    Live,
}

impl Visible {
    /// Whether nothing follows: the host is done with the exchange.
    pub fn ends(&self) -> bool {
        match self {
            Visible::Whole { .. }
            | Visible::End { .. }
            | Visible::Failed { .. }
            | Visible::Again { .. } => true,
            Visible::Head { .. } | Visible::Chunk(_) | Visible::Live => false,
        }
    }

    /// Bytes of the response in it.
    pub fn bytes(&self) -> usize {
        match self {
            Visible::Whole {
                headers,
                body,
                trailers,
                ..
            } => size(headers) + body.len() + trailers.as_ref().map_or(0, size),
            Visible::Head { headers, .. } => size(headers),
            Visible::Chunk(body) => body.len(),
            Visible::End { trailers } => trailers.as_ref().map_or(0, size),
            Visible::Failed { code, detail } => code.len() + detail.len(),
            Visible::Again { .. } | Visible::Live => 0,
        }
    }
}

/// The name of the code of a failure, without its sizes and texts. For the text of a later version, its beginning.
pub fn failure_name(code: &str) -> String {
    match serde_json::from_str(code) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(parts)) if parts.len() == 1 => parts
            .into_iter()
            .next()
            .map_or(String::new(), |(name, _)| name),
        _ => super::excerpt(code),
    }
}

fn size(headers: &Headers) -> usize {
    let sizes = headers.iter().map(|(name, value)| name.len() + value.len());
    sizes.sum()
}

/// For people: the kind and size of the arrival, without any body or header.
impl fmt::Display for Visible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Visible::Whole { status, body, .. } => write!(f, "{status}, {} bytes", body.len()),
            Visible::Head { status, .. } => write!(f, "{status}"),
            Visible::Chunk(body) => write!(f, "{} bytes", body.len()),
            Visible::End { .. } => f.write_str("end of the body"),
            Visible::Failed { code, .. } => f.write_str(&failure_name(code)),
            Visible::Again { tries, .. } => write!(f, "to be sent again, after {tries} tries"),
            Visible::Live => f.write_str("response, not recorded"),
        }
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {}: {}", self.exchange, self.what)
    }
}

/// Bytes that are base64 in JSON.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Octets(pub Bytes);

impl std::ops::Deref for Octets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for Octets {
    fn from(bytes: Bytes) -> Octets {
        Octets(bytes)
    }
}

impl From<Vec<u8>> for Octets {
    fn from(bytes: Vec<u8>) -> Octets {
        Octets(bytes.into())
    }
}

impl From<&'static str> for Octets {
    fn from(text: &'static str) -> Octets {
        Octets(Bytes::from_static(text.as_bytes()))
    }
}

/// Their number only: the bytes may be secret, or many.
impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Piece by piece: half the time of building a string for a body of 256 KiB.
        serializer.collect_str(&Base64Display::new(&self.0, &BASE64_STANDARD))
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Octets, D::Error> {
        deserializer.deserialize_str(Decode)
    }
}

/// Reads base64 in place, without a copy of the text.
struct Decode;

impl Visitor<'_> for Decode {
    type Value = Octets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Octets, E> {
        let bytes = BASE64_STANDARD
            .decode(text)
            .map_err(|_| E::custom("not base64"))?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> Headers {
        let name = |name: &str| name.to_owned();
        vec![
            (name("content-type"), "application/json".into()),
            (name("x-raw"), vec![0, 0xff, b'"', b'\\'].into()),
            (name("x-raw"), Octets::default()),
        ]
    }

    #[test]
    fn arrivals_survive_their_text_byte_for_byte() {
        let every: Vec<u8> = (0..=255).collect();
        let whole = Visible::Whole {
            status: 200,
            headers: headers(),
            body: every.clone().into(),
            trailers: Some(headers()),
        };
        let failed = Visible::Failed {
            code: "connection-refused".to_owned(),
            detail: "\u{0}\u{1b}[31m".to_owned(),
        };
        let again = Visible::Again {
            tries: 2,
            at_ms: 1_790_000_000_000,
        };
        let head = Visible::Head {
            status: 503,
            headers: headers(),
        };
        let all = [
            (whole, true),
            (head, false),
            (Visible::Chunk(every.into()), false),
            (Visible::End { trailers: None }, true),
            (failed, true),
            (again, true),
            (Visible::Live, false),
        ];
        for (what, ends) in all {
            assert_eq!(what.ends(), ends, "{what}");
            let arrival = Arrival { exchange: 7, what };
            let text = serde_json::to_string(&arrival).unwrap();
            assert!(!text.contains('\0'));
            assert_eq!(serde_json::from_str::<Arrival>(&text).unwrap(), arrival);
        }
    }

    #[test]
    fn what_is_shown_of_an_arrival_has_nothing_of_its_bytes() {
        let what = Visible::Whole {
            status: 200,
            headers: vec![("set-cookie".to_owned(), "secret".into())],
            body: "secret".into(),
            trailers: None,
        };
        let arrival = Arrival { exchange: 3, what };
        assert_eq!(arrival.to_string(), "call 3: 200, 6 bytes");
        assert!(!format!("{arrival:?}").contains("secret"));
    }

    #[test]
    fn text_that_is_no_base64_is_refused() {
        let read = serde_json::from_str::<Octets>("\"a\u{e9}\"");
        assert!(read.unwrap_err().to_string().contains("not base64"));
    }
}
