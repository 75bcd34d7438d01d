//! Why a server was not used, and the error when none can be.

use std::io::ErrorKind;

use tokio_postgres::error::SqlState;

use super::super::address::Address;
use super::super::explain;
use crate::store::StoreError;

/// Why a server was not used.
pub struct Refusal {
    /// What it does or says, as it follows its name in a sentence.
    pub reason: String,
    pub hint: String,
    /// Whether it may be different in a moment.
    pub passing: bool,
    /// Who has answered.
    pub heard: Heard,
}

/// Who has answered an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heard {
    /// Nobody.
    Nobody,
    /// The machine: no server listens there.
    Machine,
    /// The server.
    Server,
}

impl Address {
    /// The error when no server can be used.
    pub(super) fn all_refused(&self, mut refusals: Vec<(String, Refusal)>) -> StoreError {
        let passing = refusals.iter().any(|(_, refusal)| refusal.passing);
        let place = &self.place;
        if refusals.len() == 1 {
            let (_, refusal) = refusals.remove(0);
            return StoreError::Server {
                what: format!("{place} {}", refusal.reason),
                hint: Some(refusal.hint),
                passing,
            };
        }
        let reasons: Vec<String> = (refusals.iter())
            .map(|(name, refusal)| format!("{name} {}", refusal.reason))
            .collect();
        let hints = refusals.iter().map(|(_, refusal)| &refusal.hint);
        let alike = hints.clone().all(|hint| *hint == refusals[0].1.hint);
        StoreError::Server {
            what: match self.servers.len() {
                1 => format!("{place} cannot be used: {}", reasons.join("; ")),
                _ => format!("none of {place} can be used: {}", reasons.join("; ")),
            },
            hint: Some(match alike {
                true => refusals[0].1.hint.clone(),
                false => {
                    "see that one of them is the primary, and can be reached from here".to_owned()
                }
            }),
            passing,
        }
    }
}

/// What it means that a server did not let us in.
pub fn refused(error: &tokio_postgres::Error) -> Refusal {
    let Some(said) = error.as_db_error() else {
        return unsaid(error);
    };
    let message = said.message();
    let refusal = |reason: String, hint: &str, passing| Refusal {
        reason,
        hint: hint.to_owned(),
        passing,
        heard: Heard::Server,
    };
    match *said.code() {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => refusal(
            format!("does not let us in: {message}"),
            "see the user and the password in the URL, and pg_hba.conf of the server",
            false,
        ),
        SqlState::INVALID_CATALOG_NAME => refusal(
            format!("says: {message}"),
            "make it with createdb, or name another in the URL",
            false,
        ),
        _ => {
            let meant = explain(error);
            let passing = matches!(
                meant,
                StoreError::Server { passing: true, .. }
                    | StoreError::Crowded { .. }
                    | StoreError::Ended { .. }
            );
            let hint = meant
                .hint()
                .unwrap_or_else(|| "see the log of the server".to_owned());
            refusal(format!("says: {message}"), &hint, passing)
        }
    }
}

/// The same, where the server has said nothing that is known.
fn unsaid(error: &tokio_postgres::Error) -> Refusal {
    let why = reason(error);
    let io = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .map(std::io::Error::kind);
    if error.to_string().contains("TLS") {
        return Refusal {
            reason: format!("gives no encrypted line: {why}"),
            hint: "the server's certificate is to be trusted by this machine and name the host; sslmode=disable does without".to_owned(),
            passing: false,
            heard: Heard::Server,
        };
    }
    Refusal {
        reason: format!("cannot be reached: {why}"),
        hint: "see that the server runs and can be reached from here".to_owned(),
        passing: io.is_some() || error.is_closed(),
        heard: match io {
            Some(
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut,
            ) => Heard::Nobody,
            _ => Heard::Machine,
        },
    }
}

/// What an error is about, without what it is wrapped in.
pub fn reason(error: &tokio_postgres::Error) -> String {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        why = error.to_string();
        source = error.source();
    }
    why
}
