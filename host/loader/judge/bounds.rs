//! The bounds on one file, each with its reason, and how much of each the file has used.
//!
//! They lie far above what the largest handler has that we know, CPython as a component: 14 core modules of which it
//! makes 14 instances, 13,384 functions with 79,628 local variables, 1,868 types, 2,299 imports, 4,207 exports, and
//! 9,707 items that the compiler goes through.

use super::Fault;
use crate::limits::{
    CORE_INSTANCES_MAX, FUNCTION_BYTES_MAX, INSTANCE_BYTES_MAX, MEMORIES_MAX, TABLES_MAX,
};

/// Levels that components, and types in type declarations, may be nested in. The compiler's memory grows with
/// the square of the former, its stack with the latter. Tools that compose components add one or two levels.
const NESTING_MAX: u64 = 50;

/// Components and core modules in one file, each.
const PARTS_MAX: u64 = 1_000;

/// Functions of all core modules. The compiler takes 2 KB and 70 microseconds for the smallest.
const FUNCTIONS_MAX: u64 = 200_000;

/// Local variables of all functions: four bytes declare 50,000 of them, and the compiler has a value for each.
const LOCALS_MAX: u64 = 20_000_000;

/// Local variables times jumps and labels of one function: the compiler may make a value of each variable at each
/// label, of some 40 bytes.
const JOINS_MAX: u64 = 10_000_000;

/// Types that are declared, those in the declarations of others included.
const TYPES_MAX: u64 = 200_000;

/// Imports, exports, globals, element segments and data segments of all core modules, each. An element segment
/// of a table costs a compiled constant, an export a name that is kept.
const ENTRIES_MAX: u64 = 100_000;

/// Imports, exports, aliases, lifted and lowered functions, arguments of instantiations: of all components, each
/// counted as often as it is instantiated. The compiler takes 50 microseconds for one.
const ITEMS_MAX: u64 = 200_000;

/// Instances of components, each counted as often as the component around it is instantiated.
const INSTANCES_MAX: u64 = 2_000;

/// So much of one kind that a file has.
pub struct Count {
    what: &'static str,
    used: u64,
    most: u64,
}

impl Count {
    fn new(what: &'static str, most: u64) -> Count {
        Count {
            what,
            used: 0,
            most,
        }
    }

    /// Count more.
    pub fn add(&mut self, more: u64) -> Result<(), Fault> {
        self.used = self.used.saturating_add(more);
        at_most(self.what, self.used, self.most)
    }
}

/// All that is counted once for each time that it stands in the file.
pub struct Bounds {
    pub modules: Count,
    pub components: Count,
    pub functions: Count,
    pub locals: Count,
    pub types: Count,
    pub imports: Count,
    pub exports: Count,
    pub globals: Count,
    pub elements: Count,
    pub data: Count,
    pub items: Count,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            modules: Count::new("core modules", PARTS_MAX),
            components: Count::new("components", PARTS_MAX),
            functions: Count::new("functions", FUNCTIONS_MAX),
            locals: Count::new("local variables", LOCALS_MAX),
            types: Count::new("types", TYPES_MAX),
            imports: Count::new("imports of core modules", ENTRIES_MAX),
            exports: Count::new("exports of core modules", ENTRIES_MAX),
            globals: Count::new("globals", ENTRIES_MAX),
            elements: Count::new("element segments", ENTRIES_MAX),
            data: Count::new("data segments", ENTRIES_MAX),
            items: Count::new(
                "imports, exports, aliases and functions of components",
                ITEMS_MAX,
            ),
        }
    }
}

impl Bounds {
    /// Components are nested in so many levels.
    pub fn nesting(&self, levels: usize) -> Result<(), Fault> {
        let levels = levels as u64;
        match levels > NESTING_MAX {
            true => Err(too_much(format!(
                "it has components nested in {levels} levels or more, and {NESTING_MAX} are allowed"
            ))),
            false => Ok(()),
        }
    }

    /// Type declarations are nested in so many levels.
    pub fn type_nesting(&self, levels: usize) -> Result<(), Fault> {
        let levels = levels as u64;
        match levels > NESTING_MAX {
            true => Err(too_much(format!(
                "it has types declared in {levels} levels or more, and {NESTING_MAX} are allowed"
            ))),
            false => Ok(()),
        }
    }

    /// A function has so many bytes of code.
    pub fn function_bytes(&self, bytes: u64) -> Result<(), Fault> {
        match bytes > FUNCTION_BYTES_MAX {
            true => Err(Fault::new(
                format!(
                    "a function of it has {bytes} bytes of code, more than the {FUNCTION_BYTES_MAX} that one may have"
                ),
                "split the function: tables belong into data, not into code",
            )),
            false => Ok(()),
        }
    }

    /// Whether a function of so many variables may have so many jumps and labels.
    pub fn joins(&self, locals: u64, labels: u64) -> Result<(), Fault> {
        match locals.saturating_mul(labels) > JOINS_MAX {
            true => Err(Fault::new(
                format!(
                    "a function of it has {locals} local variables and {labels} jumps or labels, and their product may be {JOINS_MAX}"
                ),
                "split the function",
            )),
            false => Ok(()),
        }
    }
}

/// What one instance consists of, with all instances that are made within it.
#[derive(Clone, Copy, Default)]
pub struct Weight {
    /// Instances of core modules.
    pub core_instances: u64,
    /// Instances of components.
    pub instances: u64,
    /// Linear memories.
    pub memories: u64,
    /// Tables.
    pub tables: u64,
    /// Memory of the host, in bytes: no less than the engine takes.
    pub bytes: u64,
    /// What the compiler goes through.
    pub items: u64,
}

impl Weight {
    /// Add another instance. All sums are far below the range of a number when this has refused what is too much.
    pub fn add(&mut self, other: &Weight) -> Result<(), Fault> {
        let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
        add(&mut self.core_instances, other.core_instances);
        add(&mut self.instances, other.instances);
        add(&mut self.memories, other.memories);
        add(&mut self.tables, other.tables);
        add(&mut self.bytes, other.bytes);
        add(&mut self.items, other.items);
        self.check()
    }

    fn check(&self) -> Result<(), Fault> {
        let limits = [
            (
                "instances of core modules",
                self.core_instances,
                CORE_INSTANCES_MAX.into(),
            ),
            ("instances of components", self.instances, INSTANCES_MAX),
            (
                "linear memories in all its instances",
                self.memories,
                MEMORIES_MAX.into(),
            ),
            (
                "tables in all its instances",
                self.tables,
                TABLES_MAX.into(),
            ),
            (
                "bytes in the host for one instance, besides its memories and tables",
                self.bytes,
                INSTANCE_BYTES_MAX as u64,
            ),
            (
                "imports, exports, aliases and functions in all its instances",
                self.items,
                ITEMS_MAX,
            ),
        ];
        for (what, found, most) in limits {
            at_most(what, found, most)?;
        }
        Ok(())
    }
}

fn at_most(what: &str, found: u64, most: u64) -> Result<(), Fault> {
    match found > most {
        true => Err(too_much(format!(
            "it has {found} {what}, more than the {most} that a component may have"
        ))),
        false => Ok(()),
    }
}

/// A fault of a component that is too large in some way.
pub fn too_much(what: String) -> Fault {
    Fault::new(what, "make it smaller, or split it into several handlers")
}
