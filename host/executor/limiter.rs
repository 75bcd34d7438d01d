//! Bounds on what an instance may allocate, and the sentence that says which one it met.

use wasmtime::ResourceLimiter;

use crate::limits::Limits;

/// Most elements of one table, whatever a manifest says: the pool reserves that much.
pub const TABLE_ELEMENTS_MAX: usize = 1_000_000;

/// Counts what all memories and tables of one instance have together.
#[derive(Debug)]
pub struct Limiter {
    memory_bytes: usize,
    memory_bytes_max: usize,
    table_elements: usize,
    table_elements_max: usize,
    /// The first refusal: why the guest could not go on, though all that it sees is a failed
    /// allocation.
    pub refusal: Option<String>,
}

impl Limiter {
    /// A limiter with the bounds of a manifest.
    pub fn new(limits: &Limits) -> Limiter {
        Limiter {
            memory_bytes: 0,
            memory_bytes_max: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
            table_elements: 0,
            table_elements_max: usize::try_from(limits.table_elements).unwrap_or(usize::MAX),
            refusal: None,
        }
    }
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
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        16
    }
}
