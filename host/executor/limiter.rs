//! Bounds on what an instance may allocate, and the sentence that says which one it met: those of its
//! manifest, and the memory that the host has for all instances.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::parking::Parking;
use crate::limits::{CORE_INSTANCES_MAX, Limits, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::memory::{Charge, ELEMENT_BYTES};

/// Counts what all memories and tables of one instance have together.
pub struct Limiter {
    parking: Arc<Parking>,
    /// What the instance has of the host's memory; none while it is parked, where its place has it.
    charge: Option<Charge>,
    memory_bytes: usize,
    memory_bytes_max: usize,
    table_elements: usize,
    table_elements_max: usize,
    /// What of the charge is for the host call that was made last, in bytes.
    held_bytes: u64,
    /// The first refusal: why the guest could not go on, though all that it sees is a failed
    /// allocation.
    pub refusal: Option<String>,
    /// Where that was for want of memory of the host: why there was none.
    pub want: Option<Want>,
}

/// Why the host had no memory for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Others have it, and will give it back.
    Crowded,
    /// It would be too little if there were no others.
    TooLarge,
}

impl Limiter {
    /// A limiter with the bounds of a manifest, in a host with that memory.
    pub fn new(limits: &Limits, parking: &Arc<Parking>) -> Limiter {
        Limiter {
            charge: Some(parking.charge()),
            parking: parking.clone(),
            memory_bytes: 0,
            memory_bytes_max: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
            table_elements: 0,
            held_bytes: 0,
            table_elements_max: usize::try_from(limits.table_elements).unwrap_or(usize::MAX),
            refusal: None,
            want: None,
        }
    }

    /// The instance is about to wait: what it has goes to its place among those that wait.
    pub fn give_charge(&mut self) -> Charge {
        self.let_go();
        let parking = &self.parking;
        self.charge.take().unwrap_or_else(|| parking.charge())
    }

    /// It runs again.
    pub fn take_charge(&mut self, mut charge: Charge) {
        charge.park(false);
        self.charge = Some(charge);
    }

    /// Count what the host gathers for the call that is being made. False, with the reason in `refusal`, when
    /// the host has no memory for it.
    pub fn hold(&mut self, bytes: u64) -> bool {
        let gathered_bytes = self.held_bytes.saturating_add(bytes);
        let what = || {
            let mib = gathered_bytes >> 20;
            format!(
                "the host has no memory for the data of one call, {mib} MiB so far (ask for fewer tasks in one \
                 call, or give the host more with --memory)"
            )
        };
        if !self.host_has(bytes, what) {
            return false;
        }
        self.held_bytes = gathered_bytes;
        true
    }

    /// The call is over: what the host gathered for it is gone.
    pub fn let_go(&mut self) {
        if self.held_bytes > 0 {
            let bytes = std::mem::take(&mut self.held_bytes);
            if let Some(charge) = &mut self.charge {
                charge.shrink(bytes);
            }
        }
    }

    /// Whether the host has so much more for the instance, in bytes; `what` it has none for.
    fn host_has(&mut self, bytes: u64, what: impl FnOnce() -> String) -> bool {
        let Some(charge) = &mut self.charge else {
            return false;
        };
        if self.parking.grow(charge, bytes) {
            return true;
        }
        let running = self.parking.memory().shares()[0];
        let alone = charge.bytes().saturating_add(bytes) <= running.max_bytes;
        self.want = Some(if alone { Want::Crowded } else { Want::TooLarge });
        self.refusal.get_or_insert_with(|| {
            format!(
                "{}: running instances have {} of {} MiB (--memory of the host, --concurrency, and limits.memory \
                 of the handlers)",
                what(),
                running.used_bytes >> 20,
                running.max_bytes >> 20
            )
        });
        false
    }
}

fn for_it() -> String {
    "the host has no memory left for it".to_owned()
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .memory_bytes
            .saturating_add(desired.saturating_sub(current));
        if total > self.memory_bytes_max {
            let (wanted, allowed) = (total >> 20, self.memory_bytes_max >> 20);
            self.refusal.get_or_insert(format!(
                "it asked for {wanted} MiB of memory, and its limit is {allowed} MiB (limits.memory of its manifest)"
            ));
            return Ok(false);
        }
        if !self.host_has((total - self.memory_bytes) as u64, for_it) {
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .table_elements
            .saturating_add(desired.saturating_sub(current));
        if total > self.table_elements_max || desired > TABLE_ELEMENTS_MAX {
            let allowed = self.table_elements_max.min(TABLE_ELEMENTS_MAX);
            self.refusal.get_or_insert(format!(
                "it asked for {total} table elements, and its limit is {allowed} (limits.table-elements of its manifest)"
            ));
            return Ok(false);
        }
        if !self.host_has((total - self.table_elements) as u64 * ELEMENT_BYTES, for_it) {
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    // The loader has let no component pass that has more.
    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}
