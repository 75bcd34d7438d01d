//! PostgreSQL under the writer: transactions beside those of other hosts.
//!
//! Every transaction that writes holds one advisory lock: most share it and are kept apart by the
//! locks of their rows; one that row locks cannot guard, and one that met somebody in its way, has
//! it alone. So whatever goes wrong among many goes right at the second try.
//!
//! The time is that of the server. When the line breaks in the middle of a commit, the server is
//! asked whether it was one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::address::Address;
use super::answers::{Fate, Mark};
use super::columns;
use super::fronts::{Fronts, Told};
use super::listen::{CHANNEL, Telling};
use super::rows::{PgRows, State, loading};
use super::schema;
use super::servers::Connected;
use super::settings::Session;
use super::sql::{Link, Names, Step, Value, named};
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::writer::{Begun, Engine, Left, Outside};
use crate::task::id::NODE_VISITOR;
use crate::task::{IdGenerator, TaskId};
use crate::throttle::Throttle;

/// The lock that all who write share, or one has alone. The numbers are ours: "fish".
pub const SHARED: &str = "select pg_advisory_xact_lock_shared(1718186856, 0)";
pub const ALONE: &str = "select pg_advisory_xact_lock(1718186856, 0)";

/// How long a host does without the server before it ends.
pub const AWAY_HOST: Duration = Duration::from_secs(60);

/// How long anybody else does.
pub const AWAY_VISITOR: Duration = Duration::from_secs(5);

/// Between two lines of the log that say so.
pub const SAID_AGAIN: Duration = Duration::from_secs(5);

/// How often work is done again that others were in the way of, at least; and for as long as the server
/// may be away.
const TRIES_MAX: u32 = 30;

/// Tries that follow at once. Then each rests twice as long as the one before.
const TRIES_AT_ONCE: u32 = 2;

/// The longest rest between two tries.
const REST_MAX: Duration = Duration::from_millis(500);

/// Transactions whose marks go to one row.
const MARKS_PER_ROW: u64 = 1_000;

/// Between two times that the others are told: what is told costs each commit a lock.
const QUIET: Duration = Duration::from_millis(4);

/// The connection that writes.
pub struct PgEngine {
    pub address: Address,
    pub names: Names,
    pub runtime: Arc<Runtime>,
    pub link: Option<Link>,
    pub ids: Arc<IdGenerator>,
    pub node: u8,
    /// A clock that goes before the server's.
    pub clock: Option<Arc<dyn Clock>>,
    /// How far the server's clock is before this machine's, for the rest of the host.
    pub ahead: Arc<super::ServerClock>,
    pub outside: Arc<Mutex<Option<Outside>>>,
    /// What other hosts have told of ready work.
    pub told: Arc<Told>,
    /// Where the ready work of the lanes begins.
    pub fronts: Fronts,
    pub host: Option<u64>,
    /// The rules by which this host deletes, of all that have the same; known for this connection.
    pub leads: Option<i32>,
    /// This process, in what its transactions leave.
    pub writer: i64,
    pub run: Run,
    /// Says that the server is away, and not ten times a second.
    pub said: Throttle,
}

/// What one transaction, and the next, are to be like.
#[derive(Default)]
pub struct Run {
    state: State,
    xid: i64,
    number: u64,
    now_ms: u64,
    began_at: Option<Instant>,
    alone: bool,
    serves: bool,
    /// What was told by others, until the transaction that heard it is committed.
    heard: Option<Outside>,
    next_alone: bool,
    tries: u32,
    tried_since: Option<Instant>,
    away_since: Option<Instant>,
    owed: Telling,
    told_at: Option<Instant>,
    look_again_at: Option<Instant>,
}

impl Engine for PgEngine {
    type Rows<'a> = PgRows<'a>;

    fn begin(
        &mut self,
        serves: bool,
        makes_ids: bool,
        about: &[TaskId],
    ) -> Result<Begun, StoreError> {
        self.run.serves = serves;
        self.run.state = State::default();
        self.run.number += 1;
        // A row that is written over and over leaves a dead version each time. While no vacuum may take them
        // away, each write walks over all of them; in a new row there are none.
        if self.run.number.is_multiple_of(MARKS_PER_ROW) {
            self.writer = rand::random();
        }
        // Those that are no hosts have one node for their ids between them.
        self.run.alone = self.run.next_alone || (makes_ids && self.node == NODE_VISITOR);
        let begun = self.begin_about(about);
        if begun.is_err() {
            self.rollback();
        }
        begun
    }

    fn rows(&mut self) -> PgRows<'_> {
        PgRows {
            link: self.link.as_ref().expect("a transaction was begun"),
            state: &mut self.run.state,
            host: &mut self.host,
            node: i64::from(self.node),
            alone: self.run.alone,
            now_ms: self.run.now_ms,
            began_at: self.run.began_at.unwrap_or_else(Instant::now),
            leads: &mut self.leads,
            fronts: &mut self.fronts,
        }
    }

    fn commit(&mut self, left: &Left<'_>) -> Result<(), StoreError> {
        const TELL: &str = "select pg_notify(:channel, :what)";
        let run = &mut self.run;
        let mut steps = run.state.take(i64::from(self.node), run.now_ms);
        let wrote = run.state.wrote;
        if wrote {
            steps.push(self.mark().leave(self.run.now_ms));
        }
        let mut owed = self.run.owed.clone();
        owed.add(left);
        owed.became_ready(self.run.state.first_ready);
        let quiet = self.run.told_at.is_some_and(|at| at.elapsed() < QUIET);
        let rests = quiet && self.run.serves;
        let tells = !owed.is_empty() && !rests;
        if tells {
            let what = owed.text(self.node);
            let values = named! { "channel": CHANNEL, "what": what };
            steps.push(Step::query(TELL, values));
        }
        steps.push(Step::Plain("commit"));
        match self.link()?.together(steps) {
            Ok(_) => {}
            Err(error) => match wrote && self.was_committed(&error)? {
                true => {}
                false => return Err(error),
            },
        }
        let run = &mut self.run;
        run.owed = owed;
        if tells {
            run.owed = Telling::default();
            run.told_at = Some(Instant::now());
        }
        run.look_again_at = run.state.passed_by.then(|| Instant::now() + QUIET);
        run.heard = None;
        run.next_alone = false;
        run.tries = 0;
        run.tried_since = None;
        if let Some(since) = run.away_since.take() {
            let away_ms = since.elapsed().as_millis() as u64;
            tracing::info!(away_ms, "the database is back");
            self.said.reset();
        }
        Ok(())
    }

    fn rollback(&mut self) {
        // What was claimed is ready again.
        self.fronts.forget();
        // What others have told is still to be heard.
        let heard = self.run.heard.take();
        let mut outside = lock(&self.outside);
        *outside = merged(outside.take(), heard);
        drop(outside);
        if let Some(link) = &self.link
            && (link.is_closed() || link.plain("rollback").is_err())
        {
            self.link = None;
        }
    }

    fn again(&mut self, error: &StoreError) -> bool {
        match error {
            StoreError::Crowded { .. } => {
                self.run.next_alone = true;
                self.tries_again()
            }
            StoreError::Ended { why, .. } => {
                tracing::warn!(%why, "the database server ended a statement; it is done again");
                self.tries_again()
            }
            StoreError::Server {
                passing: true,
                what,
                ..
            } => {
                self.link = None;
                let since = *self.run.away_since.get_or_insert_with(Instant::now);
                let patience = self.patience();
                if let Some(left_out) = self.said.pass(Instant::now()) {
                    tracing::warn!(why = %what, left_out, "the database is away; still trying");
                }
                since.elapsed() < patience
            }
            _ => false,
        }
    }

    fn changed_outside(&mut self) -> bool {
        lock(&self.outside).is_some()
    }

    // The next transaction hears of it; until then nobody nudges but for something new.
    fn noticed(&mut self) {}

    fn owes_at(&self) -> Option<Instant> {
        let tell_at = self.run.told_at.unwrap_or_else(Instant::now) + QUIET;
        let owes_at = (!self.run.owed.is_empty()).then_some(tell_at);
        owes_at.into_iter().chain(self.run.look_again_at).min()
    }

    fn committed(&mut self) {}

    fn close(&mut self) {
        self.link = None;
    }
}

impl PgEngine {
    fn begin_about(&mut self, about: &[TaskId]) -> Result<Begun, StoreError> {
        const NOW: &str = "\
            select (extract(epoch from clock_timestamp()) * 1000)::bigint, pg_current_xact_id()::text::bigint,
              (select number from version)";
        const NEWEST: &str = "select max(id) from tasks";
        let visitor = self.run.alone && self.node == NODE_VISITOR;
        // The locks rely on it, whatever an administrator has made the default.
        let mut steps = vec![Step::Plain("begin isolation level read committed")];
        if self.run.alone {
            steps.push(Step::Plain("set local lock_timeout = '15s'"));
        }
        let way = if self.run.alone { ALONE } else { SHARED };
        steps.extend([way, NOW, NEWEST].map(|sql| Step::query(sql, &[])));
        if !visitor {
            steps.pop();
        }
        let before = steps.len();
        if !about.is_empty() {
            steps.extend(loading(about, true, "for update"));
        }
        self.connected()?;
        let found = self.link()?.together(steps)?;
        let place = if visitor { before - 2 } else { before - 1 };
        let now = found[place]
            .first()
            .ok_or_else(|| columns::damaged("no time".to_owned()))?;
        // The schema's number is read under the lock that a migration takes alone. So this never writes into tables
        // that a newer fishway has changed.
        schema::refuse_newer(columns::get(now, 2)?, &self.address.place)?;
        self.run.xid = columns::get(now, 1)?;
        let server_ms = columns::unsigned(now, 0)?;
        if visitor
            && let Some(row) = found[before - 1].first()
            && let Some(newest) = columns::optional_id(row, 0)?
        {
            // Its node is that of all who are no hosts. One of them may have made ids in the same tick as the newest,
            // which is a host's and says nothing of those.
            if newest.node() == NODE_VISITOR {
                self.ids.observe(newest);
            } else {
                self.ids.begin_after(newest);
            }
        }
        self.ahead.shows(server_ms);
        let now_ms = self
            .clock
            .as_ref()
            .map_or(server_ms, |clock| clock.now_ms());
        self.run.now_ms = now_ms;
        self.run.began_at = Some(Instant::now());
        if !about.is_empty() {
            self.rows().keep(about, &found[before..])?;
        }
        self.told.tell(&mut self.fronts);
        let heard = lock(&self.outside).take();
        self.run.heard = merged(self.run.heard.take(), heard);
        Ok(Begun {
            now_ms,
            // What is not locked may have changed in the next moment.
            alone: false,
            outside: self.run.heard.clone(),
        })
    }

    fn patience(&self) -> Duration {
        match self.run.serves {
            true => AWAY_HOST,
            false => AWAY_VISITOR,
        }
    }

    /// Whether the same work is to be done once more, after a rest.
    fn tries_again(&mut self) -> bool {
        self.run.tries += 1;
        let tries = self.run.tries;
        let since = *self.run.tried_since.get_or_insert_with(Instant::now);
        if tries > TRIES_AT_ONCE {
            let rest = Duration::from_millis(5 << (tries - TRIES_AT_ONCE).min(10));
            std::thread::sleep(rest.min(REST_MAX));
        }
        tries < TRIES_MAX || since.elapsed() < self.patience()
    }

    fn link(&self) -> Result<&Link, StoreError> {
        self.link.as_ref().ok_or_else(away)
    }

    /// Have a connection, a new one where the last was lost.
    pub fn connected(&mut self) -> Result<(), StoreError> {
        if self.link.as_ref().is_some_and(|link| !link.is_closed()) {
            return Ok(());
        }
        self.link = None;
        self.leads = None;
        if self.run.away_since.is_some() {
            std::thread::sleep(Duration::from_millis(100));
        }
        let session = Session::Writer;
        let link = connect(
            &self.address,
            &self.runtime,
            &self.names,
            Duration::ZERO,
            session,
        )?;
        self.take(link)
    }

    /// Write through this connection from now on.
    pub fn use_link(&mut self, link: Link) -> Result<(), StoreError> {
        link.plain(&Session::Writer.statements())?;
        self.take(link)
    }

    fn take(&mut self, link: Link) -> Result<(), StoreError> {
        const NEWEST: &str = "select max(id) from tasks";
        if self.node != NODE_VISITOR {
            self.node = own_node(&link, self.node)?;
            // Another process may have had the node before, with a clock of its own. What it has made is in the
            // database now, or never will be.
            let newest = link.one(NEWEST, named! {}, |row| columns::optional_id(row, 0))?;
            if let Some(newest) = newest.flatten() {
                self.ids.begin_after(newest);
            }
            self.ids.set_node(self.node);
        }
        self.link = Some(link);
        Ok(())
    }

    /// What this transaction leaves.
    fn mark(&self) -> Mark {
        Mark {
            writer: self.writer,
            number: self.run.number,
        }
    }

    /// After an error at a commit: whether it was one all the same.
    fn was_committed(&mut self, error: &StoreError) -> Result<bool, StoreError> {
        if !matches!(error, StoreError::Server { .. }) {
            return Ok(false);
        }
        self.link = None;
        let since = Instant::now();
        let patience = self.patience();
        loop {
            self.run.away_since.get_or_insert(since);
            let (mark, xid) = (self.mark(), self.run.xid);
            match self.connected().and_then(|()| mark.fate(self.link()?, xid)) {
                Ok(Fate::Committed) => return Ok(true),
                Ok(Fate::Undone) => return Ok(false),
                Ok(Fate::Open) => std::thread::sleep(Duration::from_millis(50)),
                Err(_) => self.link = None,
            }
            if since.elapsed() > patience {
                // Nobody can tell; what it was is found at the next start.
                return Err(StoreError::Server {
                    what: format!("{} was lost in the middle of a commit", self.address.place),
                    hint: Some(
                        "see that the server runs; what was kept is there when it is back"
                            .to_owned(),
                    ),
                    passing: false,
                });
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn away() -> StoreError {
    StoreError::Server {
        what: "the connection to the database was lost".to_owned(),
        hint: None,
        passing: true,
    }
}

/// What two tellings say together.
pub fn merged(one: Option<Outside>, other: Option<Outside>) -> Option<Outside> {
    let (one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one.or(other),
    };
    Some(Outside {
        ids: one.ids || other.ids,
        stops: one.stops || other.stops,
        alarm: one.alarm.into_iter().chain(other.alarm).min(),
        ended: crate::task::StatusSet::from_bits(one.ended.to_bits() | other.ended.to_bits()),
    })
}

/// A connection of one's own, in our schema. A server that lets nobody in for now is asked again, with
/// so much patience.
pub fn connect(
    address: &Address,
    runtime: &Arc<Runtime>,
    names: &Names,
    patience: Duration,
    session: Session,
) -> Result<Link, StoreError> {
    let Connected {
        client,
        line,
        watch,
    } = runtime.block_on(address.connect_within(patience))?;
    runtime.spawn(line.drive());
    let link = Link::own(runtime.clone(), client, watch, names);
    link.plain(&session.statements())?;
    Ok(link)
}

/// A node for ids that no other process has: it is ours for as long as the connection is.
fn own_node(link: &Link, before: u8) -> Result<u8, StoreError> {
    const SQL: &str = "\
        select node
        from (
          select node from generate_series(2, 255) node
          order by node <> :before, node
          offset 0) nodes
        where pg_try_advisory_lock(1718186857, node)
        limit 1";
    let node = link.one(SQL, &[("before", Value::from(before))], |row| {
        columns::get::<i32>(row, 0)
    })?;
    match node {
        Some(node) => Ok(node as u8),
        None => Err(StoreError::Server {
            what: "254 hosts serve the database already".to_owned(),
            hint: Some("stop one of them".to_owned()),
            passing: false,
        }),
    }
}
