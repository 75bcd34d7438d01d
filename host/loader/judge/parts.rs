//! The sections of core modules and components: what they add, and what an instance of each weighs.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, Encoding,
    FunctionBody, Instance, MemoryType, Operator, Payload, TableType,
};

use super::bounds::{Bounds, Weight, too_much};
use super::{Fault, damaged, types};
use crate::limits::{MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX};

/// Memory of the host for each import, function, table and so on of an instance, in bytes: more than the engine
/// takes for any of them.
const ENTRY_BYTES: u64 = 64;

/// Memory of the host for an instance as such, in bytes.
const INSTANCE_BYTES: u64 = 4 << 10;

/// A module or component that is being read.
pub struct Frame {
    component: bool,
    /// What an instance of it weighs.
    weight: Weight,
    /// Core modules by their index. `None` is one that comes from outside, so that nothing is known of it.
    modules: Vec<Option<Weight>>,
    /// Components by their index.
    components: Vec<Option<Weight>>,
    /// Parameters of each function type of a core module.
    params: Vec<u64>,
    /// The type of each function of a core module that has code.
    functions: Vec<u32>,
    /// How much code was read.
    bodies: usize,
}

impl Frame {
    /// Nothing of it was read.
    pub fn new(encoding: Encoding) -> Frame {
        let component = encoding == Encoding::Component;
        let weight = Weight {
            core_instances: u64::from(!component),
            instances: u64::from(component),
            bytes: INSTANCE_BYTES,
            items: 1,
            ..Weight::default()
        };
        Frame {
            component,
            weight,
            modules: Vec::new(),
            components: Vec::new(),
            params: Vec::new(),
            functions: Vec::new(),
            bodies: 0,
        }
    }

    /// Something was read to its end that is defined in this one.
    pub fn define(&mut self, done: Frame) {
        match done.component {
            true => self.components.push(Some(done.weight)),
            false => self.modules.push(Some(done.weight)),
        }
    }

    /// An item of a component gets the next index of its kind.
    fn name(&mut self, kind: ComponentExternalKind, known: Option<Weight>) {
        match kind {
            ComponentExternalKind::Module => self.modules.push(known),
            ComponentExternalKind::Component => self.components.push(known),
            _ => {}
        }
    }

    fn known(&self, kind: ComponentExternalKind, index: u32) -> Option<Weight> {
        let all = match kind {
            ComponentExternalKind::Module => &self.modules,
            ComponentExternalKind::Component => &self.components,
            _ => return None,
        };
        all.get(index as usize).copied().flatten()
    }

    /// Count entries of an instance of this.
    fn entries(&mut self, count: u64, items: bool) -> Result<(), Fault> {
        self.weight.add(&Weight {
            bytes: count.saturating_mul(ENTRY_BYTES),
            items: if items { count } else { 0 },
            ..Weight::default()
        })
    }

    fn instantiate(&mut self, weight: Option<Weight>, what: &str) -> Result<(), Fault> {
        match weight {
            Some(weight) => self.weight.add(&weight),
            None => Err(Fault::new(
                format!("it makes an instance of a {what} that it does not contain, but imports"),
                "compose it so that it contains all its parts",
            )),
        }
    }
}

/// Read one section of the innermost frame.
pub fn section(
    frames: &mut [Frame],
    bounds: &mut Bounds,
    bytes: &[u8],
    section: Payload<'_>,
) -> Result<(), Fault> {
    let Some((frame, around)) = frames.split_last_mut() else {
        return Ok(());
    };
    match frame.component {
        true => of_component(frame, around, bounds, bytes, section),
        false => of_module(frame, bounds, section),
    }
}

fn of_module(frame: &mut Frame, bounds: &mut Bounds, section: Payload<'_>) -> Result<(), Fault> {
    match section {
        Payload::TypeSection(types) => {
            bounds.types.add(types.count().into())?;
            for of in types.into_iter_err_on_gc_types() {
                let params = of.map_err(damaged)?.params().len();
                frame.params.push(params as u64);
            }
        }
        Payload::ImportSection(imports) => {
            bounds.imports.add(imports.count().into())?;
            frame.entries(imports.count().into(), true)?;
        }
        Payload::FunctionSection(functions) => {
            bounds.functions.add(functions.count().into())?;
            frame.entries(functions.count().into(), false)?;
            for of in functions {
                frame.functions.push(of.map_err(damaged)?);
            }
        }
        Payload::TableSection(tables) => {
            let count = u64::from(tables.count());
            frame.weight.add(&Weight {
                tables: count,
                ..Weight::default()
            })?;
            frame.entries(count, false)?;
            for table in tables {
                table_fits(&table.map_err(damaged)?.ty)?;
            }
        }
        Payload::MemorySection(memories) => {
            let count = u64::from(memories.count());
            frame.weight.add(&Weight {
                memories: count,
                ..Weight::default()
            })?;
            frame.entries(count, false)?;
            for memory in memories {
                memory_fits(&memory.map_err(damaged)?)?;
            }
        }
        Payload::TagSection(tags) => frame.entries(tags.count().into(), false)?,
        Payload::GlobalSection(globals) => {
            bounds.globals.add(globals.count().into())?;
            frame.entries(globals.count().into(), false)?;
        }
        Payload::ExportSection(exports) => {
            bounds.exports.add(exports.count().into())?;
            frame.entries(exports.count().into(), true)?;
        }
        Payload::ElementSection(segments) => {
            bounds.elements.add(segments.count().into())?;
            frame.entries(segments.count().into(), false)?;
        }
        Payload::DataSection(segments) => bounds.data.add(segments.count().into())?,
        Payload::CodeSectionEntry(body) => {
            function(frame, bounds, &body)?;
            frame.bodies += 1;
        }
        _ => {}
    }
    Ok(())
}

fn table_fits(table: &TableType) -> Result<(), Fault> {
    match table.initial > TABLE_ELEMENTS_MAX as u64 {
        true => Err(too_much(format!(
            "a table of it begins with {} elements, more than the {TABLE_ELEMENTS_MAX} that one may have",
            table.initial
        ))),
        false => Ok(()),
    }
}

fn memory_fits(memory: &MemoryType) -> Result<(), Fault> {
    if memory.shared {
        return Err(Fault::new(
            "it has a memory that threads share, and a handler has no threads",
            "build it without threads",
        ));
    }
    let page = 1_u128 << memory.page_size_log2.unwrap_or(16).min(16);
    let bytes = u128::from(memory.initial) * page;
    match bytes > u128::from(MEMORY_BYTES_MAX) {
        true => Err(too_much(format!(
            "a memory of it begins with {bytes} bytes, more than the {MEMORY_BYTES_MAX} that one may have"
        ))),
        false => Ok(()),
    }
}

fn function(frame: &Frame, bounds: &mut Bounds, body: &FunctionBody<'_>) -> Result<(), Fault> {
    let range = body.range();
    let bytes = (range.end - range.start) as u64;
    bounds.function_bytes(bytes)?;
    let of = frame.functions.get(frame.bodies).copied();
    let params = of.and_then(|of| frame.params.get(of as usize));
    let mut locals = params.copied().unwrap_or(0);
    for group in body.get_locals_reader().map_err(damaged)? {
        locals = locals.saturating_add(group.map_err(damaged)?.0.into());
    }
    bounds.locals.add(locals)?;
    // The shortest label takes two bytes. Most functions are not looked at further.
    if bounds.joins(locals, bytes / 2).is_ok() {
        return Ok(());
    }
    let mut labels = 0_u64;
    for operator in body.get_operators_reader().map_err(damaged)? {
        labels += match operator.map_err(damaged)? {
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::Else
            | Operator::TryTable { .. }
            | Operator::BrIf { .. }
            | Operator::BrOnNull { .. }
            | Operator::BrOnNonNull { .. } => 1,
            Operator::BrTable { targets } => u64::from(targets.len()) + 1,
            _ => 0,
        };
    }
    bounds.joins(locals, labels)
}

fn of_component(
    frame: &mut Frame,
    around: &[Frame],
    bounds: &mut Bounds,
    bytes: &[u8],
    section: Payload<'_>,
) -> Result<(), Fault> {
    let count = match &section {
        Payload::ComponentImportSection(imports) => imports.count(),
        Payload::ComponentExportSection(exports) => exports.count(),
        Payload::ComponentAliasSection(aliases) => aliases.count(),
        Payload::ComponentCanonicalSection(functions) => functions.count(),
        Payload::InstanceSection(instances) => instances.count(),
        Payload::ComponentInstanceSection(instances) => instances.count(),
        _ => 0,
    };
    bounds.items.add(count.into())?;
    frame.entries(count.into(), true)?;
    match section {
        Payload::CoreTypeSection(types) => types::scan(bytes, types.range(), true, bounds)?,
        Payload::ComponentTypeSection(types) => types::scan(bytes, types.range(), false, bounds)?,
        Payload::ComponentImportSection(imports) => {
            for import in imports {
                frame.name(import.map_err(damaged)?.ty.kind(), None);
            }
        }
        Payload::ComponentExportSection(exports) => {
            for export in exports {
                let export = export.map_err(damaged)?;
                frame.name(export.kind, frame.known(export.kind, export.index));
            }
        }
        Payload::ComponentAliasSection(aliases) => {
            for alias in aliases {
                alias_of(frame, around, &alias.map_err(damaged)?);
            }
        }
        Payload::InstanceSection(instances) => {
            for instance in instances {
                let entries = match instance.map_err(damaged)? {
                    Instance::Instantiate { module_index, args } => {
                        let known = frame.known(ComponentExternalKind::Module, module_index);
                        frame.instantiate(known, "core module")?;
                        args.len()
                    }
                    Instance::FromExports(exports) => exports.len(),
                };
                bounds.items.add(entries as u64)?;
                frame.entries(entries as u64, true)?;
            }
        }
        Payload::ComponentInstanceSection(instances) => {
            for instance in instances {
                let entries = match instance.map_err(damaged)? {
                    ComponentInstance::Instantiate {
                        component_index,
                        args,
                    } => {
                        let known = frame.known(ComponentExternalKind::Component, component_index);
                        frame.instantiate(known, "component")?;
                        args.len()
                    }
                    ComponentInstance::FromExports(exports) => exports.len(),
                };
                bounds.items.add(entries as u64)?;
                frame.entries(entries as u64, true)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// An alias of a module or a component gets the next index of its kind. That of an instance's export may
/// come from anywhere.
fn alias_of(frame: &mut Frame, around: &[Frame], alias: &ComponentAlias<'_>) {
    match *alias {
        ComponentAlias::InstanceExport { kind, .. } => frame.name(kind, None),
        ComponentAlias::CoreInstanceExport { .. } => {}
        ComponentAlias::Outer { kind, count, index } => {
            let kind = match kind {
                ComponentOuterAliasKind::CoreModule => ComponentExternalKind::Module,
                ComponentOuterAliasKind::Component => ComponentExternalKind::Component,
                _ => return,
            };
            let known = match count as usize {
                0 => frame.known(kind, index),
                levels => around
                    .len()
                    .checked_sub(levels)
                    .and_then(|place| around[place].known(kind, index)),
            };
            frame.name(kind, known);
        }
    }
}
