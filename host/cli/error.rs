//! How a command that fails says it: what happened, why, and what to do next.

use std::process::ExitCode;

use super::terminal::{Ink, remark};
use crate::builder::BuildError;
use crate::builder::project::NewError;
use crate::client::ClientError;
use crate::daemon::detached::DetachError;
use crate::daemon::{Broken, HostError, StopError};
use crate::secrets::SecretError;
use crate::store::StoreError;
use crate::store::sqlite::BackupError;

/// An error that the command itself has a hint for.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Refused {
    pub(super) what: String,
    pub(super) hint: Option<String>,
    pub(super) code: u8,
}

impl Refused {
    /// Exit code 1.
    pub(super) fn new(what: impl Into<String>, hint: impl Into<String>) -> Refused {
        Refused {
            what: what.into(),
            hint: Some(hint.into()),
            code: 1,
        }
    }

    /// Exit code 2: the command line itself is wrong.
    pub(super) fn usage(what: impl Into<String>, hint: impl Into<String>) -> Refused {
        Refused {
            code: 2,
            ..Refused::new(what, hint)
        }
    }
}

/// Say what happened, why, and what to do.
pub(super) fn complain(error: &anyhow::Error) -> ExitCode {
    let red = Ink::of(anstyle::AnsiColor::Red).bold();
    let green = Ink::of(anstyle::AnsiColor::Green).bold();
    let text = sentence(error);
    remark(format_args!("{red}error{red:#}: {text}"));
    if let Some(hint) = hint(error) {
        remark(format_args!("{green}hint{green:#}: {hint}"));
    }
    ExitCode::from(
        error
            .chain()
            .find_map(|cause| cause.downcast_ref::<Refused>())
            .map_or(1, |refused| refused.code),
    )
}

/// What happened, and why.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // A transparent error says the same as what it wraps.
        if !text.ends_with(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}

/// What to do about it.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let refused = cause
            .downcast_ref::<Refused>()
            .and_then(|error| error.hint.clone());
        refused
            .or_else(|| {
                cause
                    .downcast_ref::<ClientError>()
                    .and_then(ClientError::hint)
            })
            .or_else(|| {
                cause
                    .downcast_ref::<DetachError>()
                    .and_then(DetachError::hint)
            })
            .or_else(|| cause.downcast_ref::<HostError>().and_then(HostError::hint))
            .or_else(|| cause.downcast_ref::<Broken>().and_then(Broken::hint))
            .or_else(|| {
                cause
                    .downcast_ref::<DetachError>()
                    .and_then(DetachError::hint)
            })
            .or_else(|| cause.downcast_ref::<StopError>().and_then(StopError::hint))
            .or_else(|| {
                cause
                    .downcast_ref::<BackupError>()
                    .and_then(BackupError::hint)
            })
            .or_else(|| {
                cause
                    .downcast_ref::<StoreError>()
                    .and_then(StoreError::hint)
            })
            .or_else(|| {
                cause
                    .downcast_ref::<SecretError>()
                    .and_then(SecretError::hint)
            })
            .or_else(|| {
                cause
                    .downcast_ref::<BuildError>()
                    .and_then(BuildError::hint)
            })
            .or_else(|| cause.downcast_ref::<NewError>().and_then(NewError::hint))
    })
}
