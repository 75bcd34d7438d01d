//! Gates of requests: the tables `http_gates` and `http_places`.
//!
//! A query is a transaction of its own on a reading connection: it changes no task, and a waiting request does not wait
//! for the writer. A query that is repeated because its answer was lost costs some unused turns.

use tokio_postgres::Row;

use super::columns;
use super::engine::SHARED;
use super::sql::{Link, Step, named};
use crate::limits::Holder;
use crate::store::StoreError;
use crate::store::gates::{GateAnswer, GateAsk, GateChange, OpenGate, PlaceRow, decide, name_of};

/// The channel of notices that places have changed.
pub const CHANNEL: &str = "fishway_gates";

/// Unused gates are deleted after this time, in milliseconds: a week. Grants change now and then.
const UNUSED_MS: u64 = 7 * 24 * 3_600_000;

/// Run a query, in a transaction of its own.
pub fn pass(link: &Link, ask: &GateAsk) -> Result<GateAnswer, StoreError> {
    let passed = pass_within(link, ask);
    if passed.is_err() {
        // The error has ended the transaction, or the connection.
        let _ = link.plain("rollback");
    }
    passed
}

fn pass_within(link: &Link, ask: &GateAsk) -> Result<GateAnswer, StoreError> {
    // Locks the row, whether it is new or not.
    const GATE: &str = "\
        insert into http_gates (gate, handler, full_at_us, used_at_us)
        values (:gate, :handler, 0, (extract(epoch from clock_timestamp()) * 1000000)::int8)
        on conflict (gate) do update set
          used_at_us = (extract(epoch from clock_timestamp()) * 1000000)::int8
        returning full_at_us, used_at_us, xmax = 0";
    const PLACES: &str = "\
        select http_places.host, held, want, http_places.since_ms,
          case when ended_at_ms is null then heartbeat_at_ms end
        from http_places
        left join hosts on hosts.number = http_places.host
        where gate = :gate";
    let gate = name_of(ask);
    let steps = vec![
        Step::Plain("begin isolation level read committed read write"),
        Step::Plain(SHARED),
        Step::query(GATE, named! { "gate": &gate, "handler": &ask.handler }),
        Step::query(PLACES, named! { "gate": &gate }),
    ];
    let mut found = link.together(steps)?;
    let (rows, gates) = (
        found.pop().unwrap_or_default(),
        found.pop().unwrap_or_default(),
    );
    let row = gates
        .first()
        .ok_or_else(|| columns::damaged("no gate".to_owned()))?;
    let open = OpenGate {
        full_at_us: columns::unsigned(row, 0)?,
        now_us: columns::unsigned(row, 1)?,
        places: rows.iter().map(place).collect::<Result<_, _>>()?,
    };
    let (answer, change) = decide(ask, &open);
    let mut steps = changes(&gate, change);
    if columns::get(row, 2)? {
        steps.extend(forget(open.now_us / 1_000));
    }
    steps.push(Step::Plain("commit"));
    link.together(steps)?;
    Ok(answer)
}

fn place(row: &Row) -> Result<PlaceRow, StoreError> {
    let heartbeat_at_ms: Option<i64> = columns::get(row, 4)?;
    Ok(PlaceRow {
        holder: Holder {
            host: columns::unsigned(row, 0)?,
            held: columns::small(row, 1)?,
            want: columns::small(row, 2)?,
            since_ms: columns::unsigned(row, 3)?,
        },
        heartbeat_at_ms: heartbeat_at_ms.map(|at_ms| at_ms.max(0) as u64),
    })
}

fn changes(gate: &str, change: GateChange) -> Vec<Step> {
    const TURNS: &str = "update http_gates set full_at_us = :full_at_us where gate = :gate";
    const OWN: &str = "\
        insert into http_places (gate, host, held, want, since_ms)
        values (:gate, :host, :held, :want, :since_ms)
        on conflict (gate, host) do update set
          held = excluded.held, want = excluded.want, since_ms = excluded.since_ms";
    const REMOVE: &str = "delete from http_places where gate = :gate and host = :host";
    const TELL: &str = "select pg_notify(:channel, '')";
    let mut steps = Vec::new();
    if let Some(full_at_us) = change.full_at_us {
        steps.push(Step::query(
            TURNS,
            named! { "full_at_us": full_at_us, "gate": gate },
        ));
    }
    match change.own {
        Some(own) if own.held > 0 || own.want > 0 => steps.push(Step::query(
            OWN,
            named! {
                "gate": gate,
                "host": own.host,
                "held": own.held,
                "want": own.want,
                "since_ms": own.since_ms,
            },
        )),
        Some(own) => steps.push(Step::query(
            REMOVE,
            named! { "gate": gate, "host": own.host },
        )),
        None => {}
    }
    for host in change.gone {
        steps.push(Step::query(REMOVE, named! { "gate": gate, "host": host }));
    }
    if change.tell {
        steps.push(Step::query(TELL, named! { "channel": CHANNEL }));
    }
    steps
}

/// Delete gates that were not used for long. There are only as many as there were grants with limits.
fn forget(now_ms: u64) -> [Step; 2] {
    const GATES: &str = "delete from http_gates where used_at_us < :before_us";
    const PLACES: &str = "\
        delete from http_places
        where not exists (
          select 1 from http_gates where http_gates.gate = http_places.gate)";
    let before_us = now_ms.saturating_sub(UNUSED_MS) * 1_000;
    [
        Step::query(GATES, named! { "before_us": before_us }),
        Step::query(PLACES, named! {}),
    ]
}
