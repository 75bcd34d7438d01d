//! From the bytes of a file to a component that fits: reading, componentizing, checking.

use std::path::Path;

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::compiler::Source;
use super::contract::{self, Export};
use super::files::{self, Unreadable};
use super::judge::judge;
use super::{Check, Digest, Handler, Origin, Problem, functions};
use crate::limits::{COMPONENT_BYTES_MAX, Manifest, TEXT_BYTES_MAX};

/// Longest sentence about a fault, in bytes. Some quote a whole line of a text, or a name of a file.
const WHAT_BYTES_MAX: usize = 4 << 10;

/// What is wrong with a component, before it is known which file it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    what: String,
    hint: String,
    of_machine: bool,
}

impl Fault {
    /// What is wrong, and what to do.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Fault {
        let mut what = what.into();
        if what.len() > WHAT_BYTES_MAX {
            what.truncate(what.floor_char_boundary(WHAT_BYTES_MAX));
            what.push_str(" ...");
        }
        Fault {
            what,
            hint: hint.into(),
            of_machine: false,
        }
    }

    /// The same, where the machine is at fault and the component may be fine: see [`Problem::of_machine`].
    pub fn by_machine(self) -> Fault {
        Fault {
            of_machine: true,
            ..self
        }
    }

    /// Whether the machine is at fault.
    pub fn of_machine(&self) -> bool {
        self.of_machine
    }

    /// What is wrong, and what to do.
    pub fn into_parts(self) -> (String, String) {
        (self.what, self.hint)
    }

    /// The fault of this file.
    pub fn at(self, file: &Path) -> Problem {
        Problem {
            file: file.to_owned(),
            what: self.what,
            hint: self.hint,
            of_machine: self.of_machine,
        }
    }
}

/// The bytes of a component or a module; text is assembled by the engine later.
pub fn read(file: &Path) -> Result<Vec<u8>, Problem> {
    let fault = |error| match error {
        Unreadable::TooLarge { bytes, most } => Fault::new(
            format!("it has {bytes} bytes, more than the {most} that a component may have"),
            "strip debug information, or leave out what it does not need",
        ),
        Unreadable::Io(_) => Fault::new(error.to_string(), error.hint()).by_machine(),
        other => Fault::new(other.to_string(), other.hint()),
    };
    files::read(file, COMPONENT_BYTES_MAX).map_err(|error| fault(error).at(file))
}

/// A component, made of whatever the file has: a component, a core module, or the text of either.
pub fn componentize(source: Source<'_>) -> Result<Vec<u8>, Fault> {
    if source.bytes.is_empty() {
        return Err(Fault::new("the file is empty", "build it again"));
    }
    let assembled = match source.text {
        true => assemble(source.bytes)?,
        false => source.bytes.to_vec(),
    };
    if wasmparser::Parser::is_component(&assembled) {
        return Ok(assembled);
    }
    if !wasmparser::Parser::is_core_wasm(&assembled) {
        return Err(Fault::new(
            "it is not WebAssembly",
            "a handler is a component or a core module made with wit-bindgen: build it again",
        ));
    }
    judge(&assembled)?;
    let failed = |error: anyhow::Error| {
        let why = error
            .chain()
            .map(|cause| cause.to_string())
            .collect::<Vec<_>>()
            .join(": ");
        Fault::new(
            format!("it is a core module that cannot be made a component: {why}"),
            "build it for wasm32-wasip2, or with wit-bindgen against fishway:task",
        )
    };
    // The encoder takes it for granted that a module is whole.
    wasmparser::validate(&assembled).map_err(|error| {
        Fault::new(
            format!("it is damaged or not valid: {error}"),
            "build it again",
        )
    })?;
    let mut encoder = wit_component::ComponentEncoder::default().validate(true);
    encoder = encoder.module(&assembled).map_err(failed)?;
    let (adapter_name, adapter) = (
        wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
        wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    );
    encoder
        .adapter(adapter_name, adapter)
        .and_then(|mut encoder| encoder.encode())
        .map_err(failed)
}

fn assemble(text: &[u8]) -> Result<Vec<u8>, Fault> {
    let size = text.len() as u64;
    if size > TEXT_BYTES_MAX {
        return Err(Fault::new(
            format!(
                "it has {size} bytes, more than the {TEXT_BYTES_MAX} that a handler as text may have"
            ),
            "put the assembled component there",
        ));
    }
    let text = std::str::from_utf8(text)
        .map_err(|_| Fault::new("it is not UTF-8 text", "a .wat file is WebAssembly as text"))?;
    wat::parse_str(text).map_err(|error| Fault::new(error.to_string(), "correct the text"))
}

/// The handler, if the component is one.
#[allow(clippy::too_many_arguments)]
pub fn handler(
    check: &Check,
    name: &str,
    file: &Path,
    bytes: &[u8],
    digest: Digest,
    manifest: Manifest,
    component: Component,
    origin: Origin,
) -> Result<Handler, Problem> {
    let engine = component.engine().clone();
    let shape = component.component_type();
    let imports: Vec<String> = shape
        .imports(&engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    let exports: Vec<String> = shape
        .exports(&engine)
        .map(|(name, item)| match &item.ty {
            ComponentItem::ComponentInstance(_) | ComponentItem::ComponentFunc(_) => {
                name.to_owned()
            }
            _ => format!("{name} (neither interface nor function)"),
        })
        .collect();
    if let Some(fault) = contract::unserved(
        imports.iter().map(String::as_str),
        exports.iter().map(String::as_str),
    ) {
        return Err(fault.at(file));
    }
    let offer = functions::offered(&component)
        .map_err(|what| Fault::new(what, "split it into several components").at(file))?;
    let exports_any = |export| contract::exported(&component, export).is_some();
    let (runs, generator) = (exports_any(Export::Handler), exports_any(Export::Generator));
    let fault = match (runs || !offer.functions.is_empty(), generator) {
        (true, false) | (false, true) => None,
        (true, true) => Some(Fault::new(
            "it is a task handler and a page generator in one",
            format!(
                "make two components, one that exports {} or functions and one that exports {}",
                Export::Handler.newest(),
                Export::Generator.newest(),
            ),
        )),
        (false, false) => {
            let found = if exports.is_empty() {
                "nothing".to_owned()
            } else {
                exports.join(", ")
            };
            let left_out: String = offer
                .left_out
                .iter()
                .map(|why| format!("; {why}"))
                .collect();
            Some(Fault::new(
                format!("it is not a task handler: it exports {found}{left_out}"),
                format!(
                    "export {}, with run: func(input: json) -> result<json, failure>, or plain functions",
                    Export::Handler.newest(),
                ),
            ))
        }
    };
    if let Some(fault) = fault {
        return Err(fault.at(file));
    }
    let unlinkable = |why: String| {
        Fault::new(
            format!("it cannot be linked: {why}"),
            match generator {
                true => "a page generator may import context and checkpoints of fishway:task, and WASI 0.2: build it against those",
                false => "a handler may import fishway:task, WASI 0.2 and interfaces of other handlers: build it against those",
            },
        )
        .at(file)
    };
    check(&component).map_err(unlinkable)?;
    let wanted = functions::wanted(&component).map_err(unlinkable)?;
    Ok(Handler {
        name: name.to_owned(),
        digest,
        manifest,
        manifest_text: None,
        imports,
        exports,
        runs,
        functions: offer.functions,
        left_out: offer.left_out,
        wanted,
        generator,
        size_bytes: bytes.len() as u64,
        path: file.to_owned(),
        component,
        origin,
    })
}
