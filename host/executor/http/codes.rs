//! Failures of exchanges in the words of `wasi:http`.

use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::{
    DnsErrorPayload, ErrorCode, FieldSizePayload, TlsAlertReceivedPayload,
};

use crate::exchange::{ExchangeFailure, FailureCode, FieldSize};

/// A failure as the engine's own types have it.
pub fn error(failure: &ExchangeFailure) -> Error {
    Error::from(code(failure))
}

/// A failure in the middle of a body. The engine's own type for it would lose what it was on the way to the guest.
pub fn in_body(failure: ExchangeFailure) -> Error {
    Error::Connect(std::io::Error::other(failure))
}

/// The error code for a guest whose stream ended with an error, if the stream was a body.
pub fn of_stream(error: &wasmtime::Error) -> Option<ErrorCode> {
    match error.downcast_ref::<Error>() {
        Some(Error::Connect(error)) => Some(of_io(error)),
        Some(_) => Some(ErrorCode::InternalError(None)),
        None => error.downcast_ref::<ErrorCode>().cloned(),
    }
}

/// The reverse of [`in_body`].
pub fn of_io(error: &std::io::Error) -> ErrorCode {
    let failure = error.get_ref().and_then(|error| error.downcast_ref());
    failure.map_or(ErrorCode::InternalError(None), code)
}

/// A failure as the guest gets it.
pub fn code(failure: &ExchangeFailure) -> ErrorCode {
    let size = |size: &FieldSize| FieldSizePayload {
        field_name: size.field_name.clone(),
        field_size: size.field_size,
    };
    match &failure.code {
        FailureCode::DnsTimeout => ErrorCode::DnsTimeout,
        FailureCode::DnsError { rcode, info_code } => ErrorCode::DnsError(DnsErrorPayload {
            rcode: rcode.clone(),
            info_code: *info_code,
        }),
        FailureCode::DestinationNotFound => ErrorCode::DestinationNotFound,
        FailureCode::DestinationUnavailable => ErrorCode::DestinationUnavailable,
        FailureCode::DestinationIpProhibited => ErrorCode::DestinationIpProhibited,
        FailureCode::DestinationIpUnroutable => ErrorCode::DestinationIpUnroutable,
        FailureCode::ConnectionRefused => ErrorCode::ConnectionRefused,
        FailureCode::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        FailureCode::ConnectionTimeout => ErrorCode::ConnectionTimeout,
        FailureCode::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        FailureCode::ConnectionWriteTimeout => ErrorCode::ConnectionWriteTimeout,
        FailureCode::ConnectionLimitReached => ErrorCode::ConnectionLimitReached,
        FailureCode::TlsProtocolError => ErrorCode::TlsProtocolError,
        FailureCode::TlsCertificateError => ErrorCode::TlsCertificateError,
        FailureCode::TlsAlertReceived {
            alert_id,
            alert_message,
        } => ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload {
            alert_id: *alert_id,
            alert_message: alert_message.clone(),
        }),
        FailureCode::HttpRequestDenied => ErrorCode::HttpRequestDenied,
        FailureCode::HttpRequestLengthRequired => ErrorCode::HttpRequestLengthRequired,
        FailureCode::HttpRequestBodySize(bytes) => ErrorCode::HttpRequestBodySize(*bytes),
        FailureCode::HttpRequestMethodInvalid => ErrorCode::HttpRequestMethodInvalid,
        FailureCode::HttpRequestUriInvalid => ErrorCode::HttpRequestUriInvalid,
        FailureCode::HttpRequestUriTooLong => ErrorCode::HttpRequestUriTooLong,
        FailureCode::HttpRequestHeaderSectionSize(bytes) => {
            ErrorCode::HttpRequestHeaderSectionSize(*bytes)
        }
        FailureCode::HttpRequestHeaderSize(field) => {
            ErrorCode::HttpRequestHeaderSize(Some(size(field)))
        }
        FailureCode::HttpRequestTrailerSectionSize(bytes) => {
            ErrorCode::HttpRequestTrailerSectionSize(*bytes)
        }
        FailureCode::HttpRequestTrailerSize(field) => {
            ErrorCode::HttpRequestTrailerSize(size(field))
        }
        FailureCode::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        FailureCode::HttpResponseHeaderSectionSize(bytes) => {
            ErrorCode::HttpResponseHeaderSectionSize(*bytes)
        }
        FailureCode::HttpResponseHeaderSize(field) => {
            ErrorCode::HttpResponseHeaderSize(size(field))
        }
        FailureCode::HttpResponseBodySize(bytes) => ErrorCode::HttpResponseBodySize(*bytes),
        FailureCode::HttpResponseTrailerSectionSize(bytes) => {
            ErrorCode::HttpResponseTrailerSectionSize(*bytes)
        }
        FailureCode::HttpResponseTrailerSize(field) => {
            ErrorCode::HttpResponseTrailerSize(size(field))
        }
        FailureCode::HttpResponseTransferCoding(coding) => {
            ErrorCode::HttpResponseTransferCoding(coding.clone())
        }
        FailureCode::HttpResponseContentCoding(coding) => {
            ErrorCode::HttpResponseContentCoding(coding.clone())
        }
        FailureCode::HttpResponseTimeout => ErrorCode::HttpResponseTimeout,
        FailureCode::HttpUpgradeFailed => ErrorCode::HttpUpgradeFailed,
        FailureCode::HttpProtocolError => ErrorCode::HttpProtocolError,
        FailureCode::LoopDetected => ErrorCode::LoopDetected,
        FailureCode::ConfigurationError => ErrorCode::ConfigurationError,
        FailureCode::InternalError(what) => ErrorCode::InternalError(what.clone()),
    }
}
