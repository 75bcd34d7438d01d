//! The one table of the states (SQLSTATE) of the server that Fishway knows, and what follows from each.
//!
//! All code that talks to the server calls [`explain`]. The engine, the readers and the start of a process
//! decide by the error that it returns how work goes on, and never by a state directly.

use super::servers;
use crate::store::StoreError;

/// What follows from a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Somebody else was in the way. The work is done again, while nobody else writes.
    Alone,
    /// The statement was ended from outside, or lacked something for a moment. The work is done again after
    /// a rest.
    Again,
    /// The connection is of no use, or the server takes no work now. The work is done again over another
    /// connection: a host waits for a minute, anybody else for some seconds.
    Wait,
    /// There is no room; see [`StoreError::Full`].
    Full,
    /// It does not get better by waiting. What was asked for fails, with the hint.
    End,
}

/// A state, or a class of states by its first two characters.
#[derive(Debug, Clone, Copy)]
pub struct Said {
    /// The code.
    pub code: &'static str,
    /// What PostgreSQL calls it.
    pub name: &'static str,
    /// What follows.
    pub then: Then,
    /// What to do about it.
    pub hint: &'static str,
}

const fn said(code: &'static str, name: &'static str, then: Then, hint: &'static str) -> Said {
    Said {
        code,
        name,
        then,
        hint,
    }
}

const LOST: &str = "see that the server runs and has connections left";
const READ_ONLY: &str = "name the primary in the URL, or all servers with \
    target_session_attrs=primary; where it is the primary, see default_transaction_read_only of the database and \
    the user";

/// States of a server that cannot be written. What a standby refuses beside writes has a state of its own.
const NOT_WRITABLE: [&str; 2] = ["25006", "55000"];
const POOLER: &str =
    "where a pooler is in between it has to pool sessions, not transactions; see docs/scaling.md";
const RIGHTS: &str = "the user is to own the schema \"fishway\", or to be allowed to make it";
const DAMAGED: &str =
    "the server found its own data damaged: see its log, and restore the database from a backup";

/// What a statement is ended by that somebody or some setting of the server ends.
pub const CANCELLED: &str = "see whether somebody cancels statements (pg_cancel_backend), and whether \
    statement_timeout of the user or the database leaves time to connect";

/// All states that mean something to us. Where a state and its class are both here, the state counts.
/// docs/scaling.md has the same table for administrators.
pub const STATES: &[Said] = &[
    said("08", "connection_exception", Then::Wait, LOST),
    // A plan was made before a table was altered: a new connection makes a new one.
    said("0A000", "feature_not_supported", Then::Wait, LOST),
    said("23505", "unique_violation", Then::Alone, ""),
    said("25006", "read_only_sql_transaction", Then::Wait, READ_ONLY),
    said("25P02", "in_failed_sql_transaction", Then::Again, CANCELLED),
    said(
        "25P03",
        "idle_in_transaction_session_timeout",
        Then::Wait,
        LOST,
    ),
    said("25P04", "transaction_timeout", Then::Wait, LOST),
    said("26000", "invalid_sql_statement_name", Then::End, POOLER),
    said("3F000", "invalid_schema_name", Then::End, POOLER),
    said("40", "transaction_rollback", Then::Alone, ""),
    said("40003", "statement_completion_unknown", Then::Wait, LOST),
    said("42501", "insufficient_privilege", Then::End, RIGHTS),
    said("42P01", "undefined_table", Then::End, POOLER),
    said("42P05", "duplicate_prepared_statement", Then::End, POOLER),
    said("53000", "insufficient_resources", Then::Again, LOST),
    said("53100", "disk_full", Then::Full, ""),
    said(
        "53200",
        "out_of_memory",
        Then::Again,
        "the server has no memory left for a moment: see its log",
    ),
    said("53300", "too_many_connections", Then::Wait, LOST),
    said(
        "55000",
        "object_not_in_prerequisite_state",
        Then::Wait,
        READ_ONLY,
    ),
    said("55006", "object_in_use", Then::Again, ""),
    said("55P03", "lock_not_available", Then::Alone, ""),
    said("57", "operator_intervention", Then::Wait, LOST),
    said("57014", "query_canceled", Then::Again, CANCELLED),
    said(
        "57P04",
        "database_dropped",
        Then::End,
        "somebody has dropped the database: restore it, or name another in the URL",
    ),
    said(
        "58030",
        "io_error",
        Then::Wait,
        "the server cannot read or write its files: see its log",
    ),
    said(
        "72000",
        "snapshot_too_old",
        Then::Again,
        "old_snapshot_threshold of the server is short",
    ),
    said("XX001", "data_corrupted", Then::End, DAMAGED),
    said("XX002", "index_corrupted", Then::End, DAMAGED),
];

/// What is known of a state.
pub fn known(code: &str) -> Option<&'static Said> {
    let whole = STATES.iter().find(|said| said.code == code);
    whole.or_else(|| {
        let class = code.get(..2)?;
        STATES.iter().find(|said| said.code == class)
    })
}

/// The error of a state, for which the server gives this reason.
fn error(code: &str, why: String) -> StoreError {
    let Some(said) = known(code) else {
        return StoreError::Failed { why };
    };
    let hint = (!said.hint.is_empty()).then(|| said.hint.to_owned());
    // As the server's own log and its documentation name it.
    let state = format!("{why} ({code} {})", said.name);
    let who = match NOT_WRITABLE.contains(&code) {
        true => {
            "the address of the database leads to a standby, or to a database that is read only; the server"
        }
        false => "the database server",
    };
    let server = |passing| StoreError::Server {
        what: format!("{who} says: {state}"),
        hint: hint.clone(),
        passing,
    };
    match said.then {
        Then::Alone => StoreError::Crowded { why },
        Then::Again => StoreError::Ended { why: state, hint },
        Then::Wait => server(true),
        Then::Full => StoreError::Full { why },
        Then::End => server(false),
    }
}

/// What the server or the connection says, in our terms.
pub fn explain(said: &tokio_postgres::Error) -> StoreError {
    if let Some(said) = said.as_db_error() {
        return error(said.code().code(), said.message().to_owned());
    }
    let why = servers::reason(said);
    let source = std::error::Error::source(said);
    let lost = said.is_closed() || source.is_some_and(|source| source.is::<std::io::Error>());
    match lost {
        true => StoreError::Server {
            what: format!("the connection to the database was lost: {why}"),
            hint: Some("see that the server runs and can be reached from here".to_owned()),
            passing: true,
        },
        false => StoreError::Failed { why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_one_that_the_driver_knows_or_a_class_and_is_there_once() {
        let mut codes: Vec<&str> = STATES.iter().map(|said| said.code).collect();
        let sorted = {
            let mut sorted = codes.clone();
            sorted.sort();
            sorted
        };
        assert_eq!(codes, sorted, "they stand in their order");
        codes.dedup();
        assert_eq!(codes.len(), STATES.len());
        for said in STATES {
            assert!(matches!(said.code.len(), 2 | 5), "{}", said.code);
            assert!(
                said.then != Then::End || !said.hint.is_empty(),
                "{} ends something and says not what to do",
                said.code
            );
        }
    }

    #[test]
    fn what_follows_from_a_state() {
        let check = |code: &str, then: Option<Then>| {
            assert_eq!(known(code).map(|said| said.then), then, "{code}");
        };
        check("57014", Some(Then::Again));
        check("57P01", Some(Then::Wait));
        check("57P05", Some(Then::Wait));
        check("57P04", Some(Then::End));
        check("08006", Some(Then::Wait));
        check("40001", Some(Then::Alone));
        check("40P01", Some(Then::Alone));
        check("40003", Some(Then::Wait));
        check("23505", Some(Then::Alone));
        check("25006", Some(Then::Wait));
        check("53100", Some(Then::Full));
        // A fault of ours, or something that nobody foresaw.
        check("42601", None);
        check("XX000", None);
        check("", None);
    }

    #[test]
    fn a_server_that_cannot_be_written_is_told_as_that_with_what_to_write() {
        for code in NOT_WRITABLE {
            let error = error(code, "cannot execute LISTEN during recovery".to_owned());
            let text = error.to_string();
            assert!(
                text.contains("leads to a standby, or to a database that is read only"),
                "{text}"
            );
            assert!(text.contains(code), "{text}");
            let hint = error.hint().unwrap();
            assert!(hint.contains("target_session_attrs=primary"), "{hint}");
            assert!(matches!(error, StoreError::Server { passing: true, .. }));
        }
        let other = error("57P01", "shutting down".to_owned()).to_string();
        assert!(
            other.contains("the database server says: shutting down (57P01"),
            "{other}"
        );
    }

    #[test]
    fn the_documentation_has_the_same_table() {
        let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scaling.md");
        let page = std::fs::read_to_string(place).unwrap();
        for said in STATES {
            let word = match said.then {
                Then::Alone => "again, alone",
                Then::Again => "again",
                Then::Wait => "wait",
                Then::Full => "full",
                Then::End => "end",
            };
            let line = format!("| `{}` | `{}` | {word} |", said.code, said.name);
            assert!(page.contains(&line), "docs/scaling.md lacks {line}");
        }
    }
}
