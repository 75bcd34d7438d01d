//! The wasmtime engine, set for a fresh instance per invocation, and the thread that ends loops.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use super::ExecutorError;
use crate::limits::{
    CORE_INSTANCES_MAX, INSTANCE_BYTES_MAX, MEMORIES_MAX, MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX,
    TABLES_MAX,
};

/// How often a running guest looks whether it may go on.
pub const EPOCH: Duration = Duration::from_millis(10);

/// Stack of one guest. Deeper recursion is the guest's fault and traps.
const STACK_BYTES: usize = 1 << 20;

/// Stack of the fiber that a guest and the host functions that it calls run on.
const FIBER_BYTES: usize = 2 << 20;

/// Memory that an instance leaves behind for the next one, so that most need no system call.
const KEEP_RESIDENT_BYTES: usize = 2 << 20;

/// An engine for at most `instances` at once.
///
/// The pooling allocator makes a fresh instance several times cheaper. It reserves address space
/// for all of them at once; where the machine will not give that, instances are allocated one by
/// one, which is slower and works everywhere.
pub fn engine(instances: u32) -> Result<Engine, ExecutorError> {
    let mut config = config();
    let mut pool = PoolingAllocationConfig::new();
    // The loader judges components by the same limits, so that the pool has room for any of them in each of its
    // places. A place that is not used costs address space alone.
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_MAX))
        .total_memories(instances.saturating_mul(MEMORIES_MAX))
        .total_tables(instances.saturating_mul(TABLES_MAX))
        .total_stacks(instances)
        .max_memories_per_module(MEMORIES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_memory_size(MEMORY_BYTES_MAX as usize)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    match Engine::new(&config) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            tracing::warn!(%error, "instances cannot be pooled; allocating them one by one");
            plain_engine()
        }
    }
}

/// An engine that allocates instances one by one: for a command that looks at a component.
pub fn plain_engine() -> Result<Engine, ExecutorError> {
    Engine::new(&config()).map_err(|error| ExecutorError::Engine {
        why: format!("{error:#}"),
    })
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Needed for components of WASI 0.3 only, and dear.
        .concurrency_support(false)
        // What a guest computes is the same on every machine, so that a replay is exact.
        .relaxed_simd_deterministic(true)
        .cranelift_nan_canonicalization(true)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(FIBER_BYTES)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .memory_init_cow(true);
    config
}

/// Moves the engine's epoch on while guests run, and sleeps while none does.
pub struct EpochThread {
    shared: Arc<Shared>,
}

struct Shared {
    running: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    guests: usize,
    ended: bool,
}

impl EpochThread {
    /// Start it.
    pub fn start(engine: &Engine) -> Result<EpochThread, ExecutorError> {
        let shared = Arc::new(Shared {
            running: Mutex::default(),
            bell: Condvar::new(),
        });
        let weak = engine.weak();
        let thread = shared.clone();
        std::thread::Builder::new()
            .name("fishway-epoch".to_owned())
            .spawn(move || {
                loop {
                    {
                        let state = thread
                            .running
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner);
                        let state = thread
                            .bell
                            .wait_while(state, |state| state.guests == 0 && !state.ended)
                            .unwrap_or_else(PoisonError::into_inner);
                        if state.ended {
                            return;
                        }
                    }
                    std::thread::sleep(EPOCH);
                    match weak.upgrade() {
                        Some(engine) => engine.increment_epoch(),
                        None => return,
                    }
                }
            })
            .map_err(|error| ExecutorError::Engine {
                why: error.to_string(),
            })?;
        Ok(EpochThread { shared })
    }

    /// A guest begins to run.
    pub fn enter(&self) {
        let mut state = self
            .shared
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.guests += 1;
        if state.guests == 1 {
            self.shared.bell.notify_one();
        }
    }

    /// A guest has stopped running.
    pub fn leave(&self) {
        self.shared
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .guests -= 1;
    }
}

impl Drop for EpochThread {
    fn drop(&mut self) {
        self.shared
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ended = true;
        self.shared.bell.notify_one();
    }
}
