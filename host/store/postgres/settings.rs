//! The settings that every connection makes for itself, whatever an administrator has set for the server, the
//! database or the user.
//!
//! Every default that Fishway relies on is named here, and nowhere else; docs/scaling.md has the same list.
//! Fishway relies on no other default: values travel in binary, so settings of formats change nothing.

use super::schema::SCHEMA;

/// Who speaks through a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// The writer of a process.
    Writer,
    /// One of the readers.
    Reader,
    /// The connection that listens for notices of other processes.
    Listener,
    /// The connection that brings the schema up to date.
    Opening,
    /// The connection that fills a new database.
    Moving,
}

/// What all sessions set. The level of isolation above all: the locks of the writer rely on seeing what
/// was committed before each statement.
const ALL: &[(&str, &str)] = &[
    ("search_path", SCHEMA),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
    ("exit_on_error", "off"),
    // A host that is cut off in the middle of a statement is not idle: only its line tells the server, which would keep
    // the locks of its transaction for two hours by default.
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("client_min_messages", "warning"),
    ("jit", "off"),
];

/// A lock of a row is waited for less than the second that the server takes to look for a deadlock; then
/// the work is done alone. Plans are made once, and those that read a whole table are never right here.
const WRITER: &[(&str, &str)] = &[
    ("lock_timeout", "400ms"),
    ("statement_timeout", "60s"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// The server ends a read a little before the host stops waiting for it, so that the server says why.
const READER: &[(&str, &str)] = &[
    ("default_transaction_read_only", "on"),
    ("lock_timeout", "0"),
    ("statement_timeout", "40s"),
    ("idle_in_transaction_session_timeout", "60s"),
];

/// A migration may take long, and waits for one of another process.
const OPENING: &[(&str, &str)] = &[
    ("lock_timeout", "60s"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "60s"),
];

const MOVING: &[(&str, &str)] = &[
    ("lock_timeout", "15s"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// Not every server has these. A session is ours for as long as the process lives, and so is what it
/// holds; and a transaction has bounds of its own.
const WHERE_KNOWN: &[&str] = &["idle_session_timeout", "transaction_timeout"];

impl Session {
    fn own(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Session::Writer => WRITER,
            Session::Reader => READER,
            Session::Listener => &[],
            Session::Opening => OPENING,
            Session::Moving => MOVING,
        }
    }

    /// The statements that begin a session. All of them go to the server at once, and the time limit of the
    /// first holds for them together: so the first takes away what an administrator may have set.
    pub fn statements(self) -> String {
        let mut sql = "set statement_timeout = '0';\n".to_owned();
        for (name, value) in self.own().iter().chain(ALL) {
            sql.push_str(&format!("set {name} = '{value}';\n"));
        }
        for name in WHERE_KNOWN {
            sql.push_str(&format!(
                "select pg_catalog.set_config('{name}', '0', false)
                 where pg_catalog.current_setting('{name}', true) is not null;\n"
            ));
        }
        // An answer means that the data is on disk. A level that also waits for standbys is the administrator's choice.
        if !matches!(self, Session::Reader | Session::Listener) {
            sql.push_str(
                "select pg_catalog.set_config('synchronous_commit', 'local', false)
                 where pg_catalog.current_setting('synchronous_commit') = 'off';\n",
            );
        }
        sql
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_names_every_setting() {
        let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scaling.md");
        let page = std::fs::read_to_string(place).unwrap();
        let all = [ALL, WRITER, READER, OPENING, MOVING].concat();
        let names = all.iter().map(|(name, _)| *name);
        let names = names.chain(WHERE_KNOWN.iter().copied());
        for name in names.chain(["synchronous_commit"]) {
            let plans = name.starts_with("enable_");
            let listed =
                page.contains(&format!("`{name}`")) || plans && page.contains("`enable_*`");
            assert!(listed, "docs/scaling.md does not name {name}");
        }
    }

    #[test]
    fn the_server_notices_soon_that_a_line_is_cut_in_the_middle_of_a_statement() {
        let of_line = [("idle", 10), ("interval", 5), ("count", 3)];
        let all = [
            Session::Writer,
            Session::Reader,
            Session::Listener,
            Session::Opening,
            Session::Moving,
        ];
        for session in all {
            for (name, value) in of_line {
                let set = format!("set tcp_keepalives_{name} = '{value}';");
                assert!(session.statements().contains(&set), "{session:?}: {set}");
            }
        }
    }

    #[test]
    fn the_time_limit_of_others_goes_first() {
        let sql = Session::Reader.statements();
        let first = sql.lines().next().unwrap();
        assert_eq!(first, "set statement_timeout = '0';");
        assert!(sql.contains("set search_path = 'fishway';"), "{sql}");
        assert!(!sql.contains("synchronous_commit"), "{sql}");
    }
}
