//! From the bytes of a file to a component that fits: reading, componentizing, compiling, checking.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::{Check, Digest, Handler, Origin, Problem, functions, processors};
use crate::limits::{self, Manifest};

/// The interface that makes a component a handler.
const HANDLER: &str = "fishway:task/handler@0.1.0";

/// The interface of page generators, which tell items and run no task by themselves.
pub const GENERATOR: &str = "fishway:task/generator@0.1.0";

/// One component is compiled on so many processors at most: beside it others are.
const THREADS_MAX: usize = 8;

/// What is wrong with a component, before it is known which file it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    what: String,
    hint: String,
}

impl Fault {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Fault {
        Fault {
            what: what.into(),
            hint: hint.into(),
        }
    }

    /// The fault of this file.
    pub fn at(self, file: &Path) -> Problem {
        Problem {
            file: file.to_owned(),
            what: self.what,
            hint: self.hint,
        }
    }
}

/// The bytes of a component or a module; text is assembled by the engine later.
pub fn read(file: &Path) -> Result<Vec<u8>, Problem> {
    let unreadable = |error: std::io::Error| {
        Fault::new(
            format!("it cannot be read: {error}"),
            "check the file and its permissions",
        )
        .at(file)
    };
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > limits::COMPONENT_BYTES_MAX {
        let most = limits::COMPONENT_BYTES_MAX;
        let what = format!("it has {size} bytes, more than the {most} that a component may have");
        return Err(Fault::new(
            what,
            "strip debug information, or leave out what it does not need",
        )
        .at(file));
    }
    std::fs::read(file).map_err(unreadable)
}

/// A component, made of whatever the file has: a component, a core module, or the text of either.
pub fn componentize(file: &Path, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    if bytes.is_empty() {
        return Err(Fault::new("the file is empty", "build it again"));
    }
    let text = file.extension().is_some_and(|ending| ending == "wat");
    let assembled = if text {
        let source = std::str::from_utf8(bytes).map_err(|_| {
            Fault::new("it is not UTF-8 text", "a .wat file is WebAssembly as text")
        })?;
        wat::parse_str(source).map_err(|error| Fault::new(error.to_string(), "mend the text"))?
    } else {
        bytes.to_vec()
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

/// What the compiler would take too long for, found before it begins: it cannot be interrupted.
fn too_large(component: &[u8]) -> Option<Fault> {
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        // What is damaged is told by the compiler's own reading.
        let Ok(wasmparser::Payload::CodeSectionEntry(body)) = payload else {
            continue;
        };
        let range = body.range();
        let size = (range.end - range.start) as u64;
        if size > limits::FUNCTION_BYTES_MAX {
            let most = limits::FUNCTION_BYTES_MAX;
            return Some(Fault::new(
                format!(
                    "a function of it has {size} bytes of code, more than the {most} that one may have"
                ),
                "split the function: tables belong into data, not into code",
            ));
        }
    }
    None
}

/// Compile, for no longer than [`limits::COMPILE_MS_MAX`].
pub fn compile(engine: &Engine, component: Vec<u8>) -> Result<Component, Fault> {
    if let Some(fault) = too_large(&component) {
        return Err(fault);
    }
    let (sender, receiver) = mpsc::channel();
    let engine = engine.clone();
    // The compiler cannot be interrupted; past its time it is left alone.
    std::thread::spawn(move || {
        let compile = || Component::from_binary(&engine, &component);
        // Threads of its own: in those that all share, one of many functions would be done first.
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(THREADS_MAX.min(processors()))
            .thread_name(|_| "fishway-compile".to_owned());
        let compiled = match threads.build() {
            Ok(threads) => threads.install(compile),
            Err(_) => compile(),
        };
        let _ = sender.send(compiled);
    });
    match receiver.recv_timeout(Duration::from_millis(limits::COMPILE_MS_MAX)) {
        Ok(Ok(component)) => Ok(component),
        Ok(Err(error)) => {
            let why = error
                .chain()
                .map(|cause| cause.to_string())
                .collect::<Vec<_>>()
                .join(": ");
            Err(Fault::new(
                format!("it is damaged or not valid: {why}"),
                "build it again",
            ))
        }
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let seconds = limits::COMPILE_MS_MAX / 1_000;
            Err(Fault::new(
                format!("it takes longer than {seconds} s to compile"),
                "make it smaller",
            ))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(Fault::new(
            "the compiler failed on it",
            "build it again, or report it to us",
        )),
    }
}

/// Whether tasks of its own name run the component: it exports the contract's `handler`.
pub fn is_handler(component: &Component) -> bool {
    component.get_export(None, HANDLER).is_some()
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
    let offer = functions::offered(&component)
        .map_err(|what| Fault::new(what, "split it into several components").at(file))?;
    let offers = |interface: &str| exports.iter().any(|export| export == interface);
    let (runs, generator) = (offers(HANDLER), offers(GENERATOR));
    let fault = match (runs || !offer.functions.is_empty(), generator) {
        (true, false) | (false, true) => None,
        (true, true) => Some(Fault::new(
            "it is a task handler and a page generator in one",
            format!(
                "make two components, one that exports {HANDLER} or functions and one that exports {GENERATOR}"
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
                    "export {HANDLER}, with run: func(input: json) -> result<json, failure>, or plain functions"
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
                true => "a page generator may import context and checkpoints of fishway:task 0.1.0, and WASI 0.2: build it against those",
                false => "a handler may import fishway:task 0.1.0, WASI 0.2 and interfaces of other handlers: build it against those",
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
