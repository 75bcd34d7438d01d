//! A cache of handlers for a host's own client, so that not every submit reads them.
//!
//! A read of the handlers is not authoritative: it refuses invalid tasks before they are created, and a task whose
//! handler is removed right after that waits for it. So a cached handler may be assumed to exist. The cache is cleared
//! as soon as the bus reports that the loaded handlers have changed or may have, before the change returns to its
//! caller, and entries expire after [`AGE_MS_MAX`] in any case. A missing handler is never cached, and no refusal
//! relies on the cache.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Clock;
use crate::store::HandlerRow;

/// How long an entry is valid without a notice: on PostgreSQL, a host that lost its connection gets no notices of
/// changes by others.
pub const AGE_MS_MAX: u64 = 1_000;

/// Most cached handlers. Few are in use at a time, and with more of them each second has a few more reads.
const HANDLERS_MAX: usize = 256;

/// A handler whose function has more bytes than this as JSON is not cached, which limits the cache to a few megabytes.
const FUNCTION_BYTES_MAX: usize = 16 << 10;

/// See the module.
pub struct Remembered {
    clock: Arc<dyn Clock>,
    rows: Mutex<HashMap<String, Known>>,
}

struct Known {
    row: Arc<HandlerRow>,
    read: Read,
}

/// The version and time of a read. Taken before the read, so that changes during it are noticed.
#[derive(Clone, Copy)]
pub struct Read {
    /// See [`Bus::handlers_version`](crate::bus::Bus::handlers_version).
    version: u64,
    /// Milliseconds since the Unix epoch.
    at_ms: u64,
}

impl Remembered {
    /// Empty, with this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Remembered {
        Remembered {
            clock,
            rows: Mutex::default(),
        }
    }

    /// A read that begins now, of the handlers of that version.
    pub fn read(&self, version: u64) -> Read {
        let at_ms = self.clock.now_ms();
        Read { version, at_ms }
    }

    /// The handler of that name, if it was read at that version, and recently.
    pub fn get(&self, name: &str, version: u64) -> Option<Arc<HandlerRow>> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let known = rows.get(name)?;
        // None if the clock was set back: then the age is unknown.
        let age_ms = self.clock.now_ms().checked_sub(known.read.at_ms)?;
        (known.read.version == version && age_ms < AGE_MS_MAX).then(|| known.row.clone())
    }

    /// Keep a handler that was read.
    pub fn keep(&self, row: &Arc<HandlerRow>, read: Read) {
        let function = row.function.as_ref();
        let bytes = function.map_or(Ok(0), |function| {
            serde_json::to_vec(function).map(|json| json.len())
        });
        if bytes.is_ok_and(|bytes| bytes <= FUNCTION_BYTES_MAX) {
            let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            if rows.len() >= HANDLERS_MAX && !rows.contains_key(&row.name) {
                rows.clear();
            }
            let row = row.clone();
            rows.insert(row.name.clone(), Known { row, read });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HandClock;
    use crate::types::{Function, Type};

    fn row(name: &str) -> Arc<HandlerRow> {
        Arc::new(HandlerRow {
            name: name.to_owned(),
            digest: "d".to_owned(),
            description: None,
            function: None,
            generator: false,
        })
    }

    #[test]
    fn a_handler_is_remembered_for_a_second_of_one_version() {
        let clock = Arc::new(HandClock::at(5_000));
        let remembered = Remembered::new(clock.clone());
        remembered.keep(&row("a"), remembered.read(7));
        let finds = |version| remembered.get("a", version).is_some();
        assert!(finds(7) && !finds(8));
        assert_eq!(remembered.get("b", 7), None);
        clock.advance(AGE_MS_MAX - 1);
        assert!(finds(7));
        clock.advance(1);
        assert!(!finds(7));
        clock.set(4_999);
        assert!(!finds(7));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let remembered = Remembered::new(Arc::new(HandClock::at(0)));
        let keep = |row: &Arc<HandlerRow>| {
            remembered.keep(row, remembered.read(1));
            remembered.get(&row.name, 1).is_some()
        };
        for number in 0..3 * HANDLERS_MAX {
            assert!(keep(&row(&number.to_string())));
            assert!(remembered.rows.lock().unwrap().len() <= HANDLERS_MAX);
        }
        let mut large = (*row("large")).clone();
        large.function = Some(Function {
            name: "f".to_owned(),
            params: vec![("p".repeat(FUNCTION_BYTES_MAX), Type::U8)],
            result: None,
        });
        assert!(!keep(&Arc::new(large)));
    }
}
