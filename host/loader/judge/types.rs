//! Declarations of types, which contain each other. The compiler's own reader follows them by recursion, so
//! that enough levels end the process. This goes through them with a stack of its own.

use std::ops::Range;

use wasmparser::{
    BinaryReader, ComponentAlias, ComponentExternName, ComponentImport, ComponentType,
    ComponentTypeRef, CoreType,
};

use super::bounds::Bounds;
use super::{Fault, damaged};

/// Types whose declaration contains declarations.
const COMPONENT: u8 = 0x41;
const INSTANCE: u8 = 0x42;

/// Count the types of a section, and their levels.
pub fn scan(
    bytes: &[u8],
    section: Range<usize>,
    core: bool,
    bounds: &mut Bounds,
) -> Result<(), Fault> {
    // A section of what a custom section holds has its place in that one.
    let Some(data) = bytes.get(section.clone()) else {
        return Ok(());
    };
    let mut reader = BinaryReader::new(data, section.start);
    let count = reader.read_var_u32().map_err(damaged)?;
    for _ in 0..count {
        match core {
            true => core_type(&mut reader, bounds)?,
            false => whole_type(&mut reader, bounds)?,
        }
    }
    Ok(())
}

/// One type, with all that is declared in it.
fn whole_type(reader: &mut BinaryReader<'_>, bounds: &mut Bounds) -> Result<(), Fault> {
    // How many declarations are still to come, on each level.
    let mut open: Vec<u32> = Vec::new();
    begin(reader, bounds, &mut open)?;
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        declaration(reader, bounds, &mut open)?;
    }
    Ok(())
}

/// Read a type, or of one that contains declarations, how many.
fn begin(
    reader: &mut BinaryReader<'_>,
    bounds: &mut Bounds,
    open: &mut Vec<u32>,
) -> Result<(), Fault> {
    bounds.types.add(1)?;
    let mut ahead = reader.clone();
    match ahead.read_u8().map_err(damaged)? {
        COMPONENT | INSTANCE => {
            *reader = ahead;
            open.push(reader.read_var_u32().map_err(damaged)?);
            bounds.type_nesting(open.len())
        }
        _ => reader.read::<ComponentType>().map(|_| ()).map_err(damaged),
    }
}

fn declaration(
    reader: &mut BinaryReader<'_>,
    bounds: &mut Bounds,
    open: &mut Vec<u32>,
) -> Result<(), Fault> {
    let mut skip = || match reader.read_u8()? {
        0x00 => Ok(Some(true)),
        0x01 => Ok(Some(false)),
        0x02 => reader.read::<ComponentAlias>().map(|_| None),
        0x03 => reader.read::<ComponentImport>().map(|_| None),
        // An export. What is none of these the compiler refuses.
        _ => {
            reader.read::<ComponentExternName>()?;
            reader.read::<ComponentTypeRef>().map(|_| None)
        }
    };
    match skip().map_err(damaged)? {
        Some(true) => core_type(reader, bounds),
        Some(false) => begin(reader, bounds, open),
        None => bounds.types.add(1),
    }
}

fn core_type(reader: &mut BinaryReader<'_>, bounds: &mut Bounds) -> Result<(), Fault> {
    match reader.read::<CoreType>().map_err(damaged)? {
        CoreType::Rec(_) => bounds.types.add(1),
        CoreType::Module(declarations) => bounds.types.add(declarations.len() as u64 + 1),
    }
}
