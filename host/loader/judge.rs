//! What a component may consist of, found out before the compiler sees it.
//!
//! The compiler cannot be interrupted, and some files of a few kilobytes cost it time and memory without
//! bound: those grow with the square of the levels that components are nested in, and a component is
//! compiled as often as it is instantiated. So each file is read here first, once from its start to its
//! end, without recursion, with work and memory that its size bounds. `serve`, `handler check` and the
//! upload all judge by [`judge`], and every engine of ours can run what it lets pass.

mod bounds;
mod parts;
mod types;

use wasmparser::{Parser, Payload};

use self::bounds::Bounds;
use self::parts::Frame;
use super::component::Fault;

/// Judge a component or a core module. A damaged file is refused as far as this reads; the compiler finds
/// the rest.
pub fn judge(bytes: &[u8]) -> Result<(), Fault> {
    judge_within(bytes, &mut Bounds::default(), true)
}

/// `outermost` is false for the component that a core module carries in a custom section.
fn judge_within(bytes: &[u8], bounds: &mut Bounds, outermost: bool) -> Result<(), Fault> {
    let mut frames: Vec<Frame> = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(damaged)? {
            Payload::Version { encoding, .. } => {
                bounds.nesting(frames.len() + 1)?;
                frames.push(Frame::new(encoding));
            }
            Payload::ModuleSection { .. } => bounds.modules.add(1)?,
            Payload::ComponentSection { .. } => bounds.components.add(1)?,
            Payload::CustomSection(section) => {
                // Types of the imports and exports of a core module, encoded as a component. The encoder that
                // makes the module a component reads them.
                let types = section.name().starts_with("component-type");
                if types && outermost && frames.len() == 1 {
                    judge_within(section.data(), bounds, false)?;
                }
            }
            Payload::End(_) => {
                let Some(done) = frames.pop() else { break };
                if let Some(around) = frames.last_mut() {
                    around.define(done);
                }
            }
            section => parts::section(&mut frames, bounds, bytes, section)?,
        }
    }
    Ok(())
}

fn damaged(error: wasmparser::BinaryReaderError) -> Fault {
    Fault::new(
        format!("it is damaged or not valid: {error}"),
        "build it again",
    )
}
