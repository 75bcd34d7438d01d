//! Maps errors of the libraries to the failures that a guest can distinguish.

use std::error::Error;
use std::io;

use rustls::CertificateError;

use crate::exchange::failure::{ExchangeFailure, FailureCode};

/// The progress of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The response had not begun.
    Head,
    /// The body had begun.
    Body,
}

/// Maps an error of the HTTP library.
pub fn of_hyper(error: &hyper::Error, phase: Phase) -> ExchangeFailure {
    let said = sentence(error);
    let broken_off = || match phase {
        Phase::Head => FailureCode::ConnectionTerminated,
        Phase::Body => FailureCode::HttpResponseIncomplete,
    };
    for cause in causes(error) {
        // A body of a request that failed for a reason of its own.
        if let Some(failure) = cause.downcast_ref::<ExchangeFailure>() {
            return failure.clone();
        }
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            return of_http2(error, broken_off());
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return of_io(error, broken_off());
        }
    }
    let code = if error.is_parse_too_large() {
        FailureCode::HttpResponseHeaderSectionSize(None)
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        broken_off()
    } else if error.is_parse() || error.is_user() {
        FailureCode::HttpProtocolError
    } else {
        broken_off()
    };
    ExchangeFailure::new(code, said)
}

/// Whether an HTTP/2 server said that it has not processed the request: then it may always be sent again.
pub fn is_not_processed(error: &hyper::Error) -> bool {
    let found = causes(error).find_map(|cause| cause.downcast_ref::<h2::Error>());
    found.is_some_and(|error| {
        let reason = error.reason();
        let refused = error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM);
        // A server that shuts down says which request it processed last; later ones end like this.
        let leaving = error.is_go_away() && reason == Some(h2::Reason::NO_ERROR);
        error.is_remote() && (refused || leaving)
    })
}

/// Whether the connection was closed or broke, which is no answer to the request: a server that resets one stream of
/// many has seen the request.
pub fn is_lost(error: &hyper::Error) -> bool {
    let broke = |cause: &(dyn Error + 'static)| {
        let http2 = cause.downcast_ref::<h2::Error>();
        let io = match http2 {
            Some(error) => error.get_io(),
            None => cause.downcast_ref::<io::Error>(),
        };
        io.is_some_and(|error| tls_error(error).is_none())
    };
    error.is_incomplete_message() || error.is_closed() || causes(error).any(broke)
}

fn of_http2(error: &h2::Error, broken_off: FailureCode) -> ExchangeFailure {
    if let Some(error) = error.get_io() {
        return of_io(error, broken_off);
    }
    let theirs = error.is_remote();
    let code = match error.reason() {
        Some(
            h2::Reason::PROTOCOL_ERROR
            | h2::Reason::FRAME_SIZE_ERROR
            | h2::Reason::COMPRESSION_ERROR,
        ) if !theirs => FailureCode::HttpProtocolError,
        _ => broken_off,
    };
    let more = match code {
        // The library has one error for both.
        FailureCode::HttpProtocolError => "; or its head has more than 65536 bytes",
        _ => "",
    };
    ExchangeFailure::new(code, format!("{error}{more}"))
}

/// Maps a system error; `otherwise` if it only says that the connection broke.
pub fn of_io(error: &io::Error, otherwise: FailureCode) -> ExchangeFailure {
    if let Some(error) = tls_error(error) {
        return of_tls(error);
    }
    // The limits on open files, of this process and of the system.
    const OUT_OF_FILES: [i32; 2] = [24, 23];
    let code = match error.kind() {
        _ if error
            .raw_os_error()
            .is_some_and(|code| OUT_OF_FILES.contains(&code)) =>
        {
            FailureCode::ConnectionLimitReached
        }
        io::ErrorKind::ConnectionRefused => FailureCode::ConnectionRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            FailureCode::DestinationIpUnroutable
        }
        // The library's error for malformed chunks.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => FailureCode::HttpProtocolError,
        io::ErrorKind::TimedOut => FailureCode::ConnectionTimeout,
        _ => otherwise,
    };
    ExchangeFailure::new(code, error.to_string())
}

/// Maps an error of the TLS handshake.
pub fn of_handshake(host: &str, error: &io::Error) -> ExchangeFailure {
    let failure = of_io(error, FailureCode::TlsProtocolError);
    let detail = format!("{host}: {}", failure.detail);
    ExchangeFailure::new(failure.code, detail)
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn of_tls(error: &rustls::Error) -> ExchangeFailure {
    let code = match error {
        rustls::Error::AlertReceived(alert) => FailureCode::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            FailureCode::TlsCertificateError
        }
        _ => FailureCode::TlsProtocolError,
    };
    let more = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "; ca-file names a file with authorities to trust in addition to the system's"
        }
        _ => "",
    };
    ExchangeFailure::new(code, format!("{error}{more}"))
}

/// An error and its sources. A system error hides the one inside it from `source`.
fn causes<'a>(error: &'a hyper::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |error| (**error).source())
}

/// An error with its causes, in one line.
fn sentence(error: &hyper::Error) -> String {
    let mut said = error.to_string();
    for cause in causes(error) {
        let more = cause.to_string();
        if !said.contains(&more) {
            said = format!("{said}: {more}");
        }
    }
    said
}
