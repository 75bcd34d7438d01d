//! When: the times of a cron expression or of an interval.
//!
//! Times are told by whoever asks, and so is the database of time zones.

use std::sync::Arc;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::limits;

/// When a schedule fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Timing {
    /// When the clocks of a time zone show what a cron expression says.
    Cron {
        /// Five fields, or a nickname such as `@daily`.
        expression: Arc<str>,
        /// An IANA name, such as `Europe/Berlin`.
        zone: Arc<str>,
    },
    /// Again and again after the same time.
    Every {
        /// How long, in milliseconds.
        every_ms: u64,
        /// From when on; the first time is one interval later. In milliseconds since the Unix epoch.
        from_ms: u64,
    },
}

/// Why there is no such timing: a sentence, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct BadTiming {
    /// What is wrong.
    pub what: String,
    /// What to write.
    pub hint: String,
}

/// The fields of a cron expression, and what may stand in them.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of the month", "1-31"),
    ("month", "1-12 or jan-dec"),
    ("day of the week", "0-7 or sun-sat"),
];

const EXAMPLE: &str = "--cron \"30 9 * * mon-fri\" is half past nine on workdays";

impl Timing {
    /// A cron expression in a time zone, where it has a time after `now_ms`.
    pub fn cron(
        expression: &str,
        zone: &str,
        now_ms: u64,
        zones: &TimeZoneDatabase,
    ) -> Result<Timing, BadTiming> {
        let expression = expression.trim();
        check(expression)?;
        let found = zones.get(zone).map_err(|_| unknown_zone(zone, zones))?;
        let timing = Timing::Cron {
            expression: expression.into(),
            // As its database writes it.
            zone: found.iana_name().unwrap_or(zone).into(),
        };
        match timing.next(now_ms, zones) {
            Some(_) => Ok(timing),
            None => Err(BadTiming {
                what: format!("the cron expression \"{expression}\" never comes true"),
                hint: "see that its month has such a day".to_owned(),
            }),
        }
    }

    /// An interval from a time on.
    pub fn every(every_ms: u64, from_ms: u64) -> Result<Timing, BadTiming> {
        let what = match every_ms {
            0..limits::SCHEDULE_EVERY_MS_MIN => "is shorter than a second",
            _ if every_ms > limits::DURATION_MS_MAX => "is longer than ten years",
            _ => return Ok(Timing::Every { every_ms, from_ms }),
        };
        Err(BadTiming {
            what: format!("the interval of a schedule {what}"),
            hint: "--every 5m is every five minutes".to_owned(),
        })
    }

    /// Whether both say the same; from when an interval counts says nothing.
    pub fn says_the_same(&self, other: &Timing) -> bool {
        match (self, other) {
            (Timing::Every { every_ms: one, .. }, Timing::Every { every_ms: two, .. }) => {
                one == two
            }
            _ => self == other,
        }
    }

    /// The first time after `after_ms`; none when there is none, or its time zone is gone.
    pub fn next(&self, after_ms: u64, zones: &TimeZoneDatabase) -> Option<u64> {
        match self {
            Timing::Every { every_ms, from_ms } => {
                let passed = after_ms.saturating_sub(*from_ms) / every_ms;
                Some(from_ms + (passed + 1) * every_ms)
            }
            Timing::Cron { expression, zone } => {
                let (cron, zone) = parts(expression, zone, zones)?;
                let after = second(after_ms)?.to_zoned(zone);
                let next = cron.find_next_occurrence(&after, false).ok()?;
                u64::try_from(next.timestamp().as_millisecond()).ok()
            }
        }
    }

    /// The last times from `first_ms` to `until_ms`, both included, at most so many, oldest first.
    pub fn between(
        &self,
        first_ms: u64,
        until_ms: u64,
        most: usize,
        zones: &TimeZoneDatabase,
    ) -> Vec<u64> {
        let mut times = match self {
            Timing::Every { every_ms, from_ms } => {
                let passed = until_ms.saturating_sub(*from_ms) / every_ms;
                let times = (1..=passed).rev().map(|count| from_ms + count * every_ms);
                times.take_while(|at| *at >= first_ms).take(most).collect()
            }
            Timing::Cron { expression, zone } => {
                before(expression, zone, until_ms, zones, first_ms, most).unwrap_or_default()
            }
        };
        times.reverse();
        times
    }
}

/// Times of a cron expression, newest first.
fn before(
    expression: &str,
    zone: &str,
    until_ms: u64,
    zones: &TimeZoneDatabase,
    first_ms: u64,
    most: usize,
) -> Option<Vec<u64>> {
    let (cron, zone) = parts(expression, zone, zones)?;
    let mut times = Vec::new();
    let mut at = second(until_ms)?.to_zoned(zone);
    while times.len() < most {
        let inclusive = times.is_empty();
        let Ok(earlier) = cron.find_previous_occurrence(&at, inclusive) else {
            break;
        };
        let Ok(ms) = u64::try_from(earlier.timestamp().as_millisecond()) else {
            break;
        };
        if ms < first_ms {
            break;
        }
        times.push(ms);
        at = earlier;
    }
    Some(times)
}

fn parts(expression: &str, zone: &str, zones: &TimeZoneDatabase) -> Option<(Cron, TimeZone)> {
    Some((parse(expression).ok()?, zones.get(zone).ok()?))
}

fn parse(expression: &str) -> Result<Cron, croner::errors::CronError> {
    // The one nickname of Vixie's that the parser does not know.
    let expression = match expression.eq_ignore_ascii_case("@midnight") {
        true => "@daily",
        false => expression,
    };
    // As Vixie's cron: a day has to match both fields of days where one of them begins with a star, as `*/2` does,
    // else either.
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let starred = |field: usize| fields.get(field).is_some_and(|text| text.starts_with('*'));
    CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .dom_and_dow(starred(2) || starred(4))
        .build()
        .parse(expression)
}

/// The whole second in which a time lies: a cron expression knows nothing finer.
fn second(ms: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(ms / 1_000).ok()?).ok()
}

/// Whether it is a cron expression; if not, which field is wrong.
fn check(expression: &str) -> Result<(), BadTiming> {
    let bad = |what: String| BadTiming {
        what,
        hint: EXAMPLE.to_owned(),
    };
    if expression.len() > limits::CRON_BYTES_MAX {
        let most = limits::CRON_BYTES_MAX;
        return Err(bad(format!(
            "the cron expression is longer than {most} bytes"
        )));
    }
    if parse(expression).is_ok() {
        return Ok(());
    }
    if expression.starts_with('@') {
        return Err(bad(format!(
            "\"{expression}\" is no name for times: there are @hourly, @daily (@midnight), @weekly, @monthly and \
             @yearly (@annually)"
        )));
    }
    let fields: Vec<&str> = expression.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let many = match fields.len() {
            1 => "1 field".to_owned(),
            many => format!("{many} fields"),
        };
        return Err(bad(format!(
            "the cron expression \"{expression}\" has {many}, not five: minute, hour, day of the month, month, \
             day of the week"
        )));
    }
    for (index, (field, (name, values))) in fields.iter().zip(FIELDS).enumerate() {
        let mut alone = ["*"; FIELDS.len()];
        alone[index] = field;
        if parse(&alone.join(" ")).is_err() {
            return Err(bad(format!(
                "\"{field}\" is no {name} in the cron expression \"{expression}\": {values}, lists (1,3), ranges \
                 (1-3) and steps (*/2) are"
            )));
        }
    }
    Err(bad(format!("\"{expression}\" is no cron expression")))
}

fn unknown_zone(name: &str, zones: &TimeZoneDatabase) -> BadTiming {
    let alike = |known: &str| strsim::jaro_winkler(name, known);
    let nearest = zones
        .available()
        .max_by(|one, other| alike(one.as_str()).total_cmp(&alike(other.as_str())));
    BadTiming {
        what: format!("there is no time zone \"{name}\""),
        hint: match nearest {
            Some(nearest) if alike(nearest.as_str()) > 0.8 => {
                format!("did you mean --zone {}?", nearest.as_str())
            }
            _ => "--zone takes a name such as Europe/Berlin or UTC".to_owned(),
        },
    }
}
