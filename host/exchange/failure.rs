//! Failures of an exchange: the error codes of `wasi:http`, as a value that the journal keeps.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::journal::failure_name;

/// A request without a response, or a truncated response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}{}{detail}", if detail.is_empty() { "" } else { ": " })]
pub struct ExchangeFailure {
    /// The code that the guest gets.
    pub code: FailureCode,
    /// Detail for the log of the task, without any secret; may be empty.
    pub detail: String,
}

impl ExchangeFailure {
    /// With a detail for the log of the task.
    pub fn new(code: FailureCode, detail: impl Into<String>) -> ExchangeFailure {
        let detail = detail.into();
        ExchangeFailure { code, detail }
    }
}

impl From<FailureCode> for ExchangeFailure {
    fn from(code: FailureCode) -> ExchangeFailure {
        ExchangeFailure::new(code, "")
    }
}

/// The cases of `error-code` in `wasi:http/types`, by their names there. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum FailureCode {
    DnsTimeout,
    DnsError {
        rcode: Option<String>,
        info_code: Option<u16>,
    },
    DestinationNotFound,
    DestinationUnavailable,
    DestinationIpProhibited,
    DestinationIpUnroutable,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionTimeout,
    ConnectionReadTimeout,
    ConnectionWriteTimeout,
    ConnectionLimitReached,
    TlsProtocolError,
    TlsCertificateError,
    TlsAlertReceived {
        alert_id: Option<u8>,
        alert_message: Option<String>,
    },
    HttpRequestDenied,
    HttpRequestLengthRequired,
    HttpRequestBodySize(Option<u64>),
    HttpRequestMethodInvalid,
    HttpRequestUriInvalid,
    HttpRequestUriTooLong,
    HttpRequestHeaderSectionSize(Option<u32>),
    HttpRequestHeaderSize(FieldSize),
    HttpRequestTrailerSectionSize(Option<u32>),
    HttpRequestTrailerSize(FieldSize),
    HttpResponseIncomplete,
    HttpResponseHeaderSectionSize(Option<u32>),
    HttpResponseHeaderSize(FieldSize),
    HttpResponseBodySize(Option<u64>),
    HttpResponseTrailerSectionSize(Option<u32>),
    HttpResponseTrailerSize(FieldSize),
    HttpResponseTransferCoding(Option<String>),
    HttpResponseContentCoding(Option<String>),
    HttpResponseTimeout,
    HttpUpgradeFailed,
    HttpProtocolError,
    LoopDetected,
    ConfigurationError,
    InternalError(Option<String>),
}

/// A header or trailer that is too large.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldSize {
    /// Its name, where it is known.
    pub field_name: Option<String>,
    /// Its size in bytes, where it is known.
    pub field_size: Option<u32>,
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sized = |f: &mut fmt::Formatter<'_>, what: &str, bytes: Option<u64>| match bytes {
            Some(bytes) => write!(f, "{what} is too large ({bytes} bytes)"),
            None => write!(f, "{what} is too large"),
        };
        let field = |f: &mut fmt::Formatter<'_>, what: &str, field: &FieldSize| {
            match &field.field_name {
                Some(name) => write!(f, "{what} {name} is too large")?,
                None => write!(f, "{what} is too large")?,
            }
            field
                .field_size
                .map_or(Ok(()), |bytes| write!(f, " ({bytes} bytes)"))
        };
        let wide = |bytes: Option<u32>| bytes.map(u64::from);
        match self {
            Self::DnsError {
                rcode: Some(rcode), ..
            } => {
                write!(f, "the name of the server could not be looked up ({rcode})")
            }
            Self::TlsAlertReceived {
                alert_message: Some(message),
                ..
            } => {
                write!(f, "the server refused the TLS connection ({message})")
            }
            Self::HttpRequestBodySize(bytes) => sized(f, "the body of the request", *bytes),
            Self::HttpRequestHeaderSectionSize(bytes) => {
                sized(f, "the head of the request", wide(*bytes))
            }
            Self::HttpRequestHeaderSize(size) => field(f, "the request header", size),
            Self::HttpRequestTrailerSectionSize(bytes) => {
                sized(f, "the trailer section of the request", wide(*bytes))
            }
            Self::HttpRequestTrailerSize(size) => field(f, "the request trailer", size),
            Self::HttpResponseHeaderSectionSize(bytes) => {
                sized(f, "the head of the response", wide(*bytes))
            }
            Self::HttpResponseHeaderSize(size) => field(f, "the response header", size),
            Self::HttpResponseBodySize(bytes) => sized(f, "the body of the response", *bytes),
            Self::HttpResponseTrailerSectionSize(bytes) => {
                sized(f, "the trailer section of the response", wide(*bytes))
            }
            Self::HttpResponseTrailerSize(size) => field(f, "the response trailer", size),
            Self::HttpResponseTransferCoding(Some(coding)) => {
                write!(f, "the response has an unknown transfer coding ({coding})")
            }
            Self::HttpResponseContentCoding(Some(coding)) => {
                write!(f, "the response has an unknown content coding ({coding})")
            }
            Self::InternalError(Some(what)) => write!(f, "the host could not send it ({what})"),
            other => f.write_str(other.plain()),
        }
    }
}

impl FailureCode {
    /// As text that [`FailureCode::from_text`] reads: its name in JSON, with its sizes and texts if it has any.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Its name alone.
    pub fn name(&self) -> String {
        failure_name(&self.to_text())
    }

    /// The code of such a text; none if no version of the host has written it.
    pub fn from_text(text: &str) -> Option<FailureCode> {
        serde_json::from_str(text).ok()
    }

    /// The sentence of a code without its sizes and texts.
    fn plain(&self) -> &'static str {
        match self {
            Self::DnsTimeout => "looking up the name of the server took too long",
            Self::DnsError { .. } => "the name of the server could not be looked up",
            Self::DestinationNotFound => "there is no server of that name",
            Self::DestinationUnavailable => "the server is not available",
            Self::DestinationIpProhibited => {
                "requests to the address of the server are not allowed"
            }
            Self::DestinationIpUnroutable => "there is no route to the address of the server",
            Self::ConnectionRefused => "the server refused the connection",
            Self::ConnectionTerminated => "the connection was closed before the response",
            Self::ConnectionTimeout => "connecting to the server took too long",
            Self::ConnectionReadTimeout => "the response paused for too long",
            Self::ConnectionWriteTimeout => "the server did not take the request in time",
            Self::ConnectionLimitReached => "the host has too many open connections",
            Self::TlsProtocolError => "no TLS connection could be agreed with the server",
            Self::TlsCertificateError => "the certificate of the server is not trusted",
            Self::TlsAlertReceived { .. } => "the server refused the TLS connection",
            Self::HttpRequestDenied => "no grant allows the request",
            Self::HttpRequestLengthRequired => "the request needs the length of its body",
            Self::HttpRequestMethodInvalid => {
                "the method of the request is not one that can be sent"
            }
            Self::HttpRequestUriInvalid => "the URL of the request is not valid",
            Self::HttpRequestUriTooLong => "the URL of the request is too long",
            Self::HttpResponseIncomplete => "the response broke off",
            Self::HttpResponseTransferCoding(_) => "the response has an unknown transfer coding",
            Self::HttpResponseContentCoding(_) => "the response has an unknown content coding",
            Self::HttpResponseTimeout => "the response did not come in time",
            Self::HttpUpgradeFailed => "the server answered with another protocol",
            Self::HttpProtocolError => "the server violated the HTTP protocol",
            Self::LoopDetected => "the request came back to its sender",
            Self::ConfigurationError => "the host is not set up for this request",
            Self::InternalError(_) => "the host could not send it",
            // The rest has a size in its sentence.
            _ => "a part of the exchange is too large",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_kept_by_its_name_in_wasi_and_read_as_the_same() {
        let check = |failure: ExchangeFailure, json: &str, sentence: &str| {
            assert_eq!(serde_json::to_string(&failure).unwrap(), json);
            assert_eq!(
                serde_json::from_str::<ExchangeFailure>(json).unwrap(),
                failure
            );
            assert_eq!(failure.to_string(), sentence);
            let text = failure.code.to_text();
            assert_eq!(FailureCode::from_text(&text), Some(failure.code));
        };
        check(
            FailureCode::ConnectionRefused.into(),
            r#"{"code":"connection-refused","detail":""}"#,
            "the server refused the connection",
        );
        check(
            ExchangeFailure::new(FailureCode::HttpResponseBodySize(Some(12)), "at most 10"),
            r#"{"code":{"http-response-body-size":12},"detail":"at most 10"}"#,
            "the body of the response is too large (12 bytes): at most 10",
        );
        check(
            FailureCode::HttpResponseHeaderSize(FieldSize {
                field_name: Some("x-a".to_owned()),
                field_size: None,
            })
            .into(),
            r#"{"code":{"http-response-header-size":{"field_name":"x-a","field_size":null}},"detail":""}"#,
            "the response header x-a is too large",
        );
        check(
            FailureCode::TlsAlertReceived {
                alert_id: Some(40),
                alert_message: Some("HandshakeFailure".to_owned()),
            }
            .into(),
            r#"{"code":{"tls-alert-received":{"alert_id":40,"alert_message":"HandshakeFailure"}},"detail":""}"#,
            "the server refused the TLS connection (HandshakeFailure)",
        );
        assert_eq!(FailureCode::from_text("\"no-such-code\""), None);
    }
}
