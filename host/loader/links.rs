//! Which handler answers the calls that another makes through an interface.
//!
//! The one that the caller's manifest names, else the only one that exports that very interface.
//! Handlers come and go, so this is looked up for each new call; the loader looks, too, to say early
//! what is missing. A call that was made before is replayed and never looked up again.

use std::sync::Arc;

use super::functions::{Exported, Wanted};
use super::{Handler, Problem};
use crate::types::{Function, answers};

/// Why nobody answers the calls of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Unlinked {
    /// A sentence about the handler that calls.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// The task type that runs a function of an interface for `caller`.
pub fn provider(
    caller: &Handler,
    interface: &str,
    function: &Function,
    handlers: &[Arc<Handler>],
) -> Result<String, Unlinked> {
    let (provider, named) = handler_of(caller, interface, handlers)?;
    let (offered, name) = (&provider.functions, &function.name);
    let of = |wanted: Option<&str>| {
        let is = |one: &&Arc<Exported>| {
            one.function.name == *name && one.interface.as_deref().map(plain) == wanted.map(plain)
        };
        offered.iter().find(is)
    };
    // A handler that the manifest names may have it in another version, or at its top level.
    let exact = offered
        .iter()
        .find(|one| one.function.name == *name && one.interface.as_deref() == Some(interface));
    let found = match named {
        true => exact.or_else(|| of(Some(interface))).or_else(|| of(None)),
        false => exact,
    };
    let Some(found) = found else {
        return Err(Unlinked {
            what: format!(
                "it imports {name} of {interface}, and handler \"{}\" has no such function",
                provider.name
            ),
            hint: SAME_WIT.to_owned(),
        });
    };
    answers(&found.function, function).map_err(|misfit| Unlinked {
        what: format!(
            "it imports {name} of {interface}, which handler \"{}\" has with other types: {misfit}",
            provider.name
        ),
        hint: SAME_WIT.to_owned(),
    })?;
    Ok(format!("{}/{}", provider.name, found.name))
}

const SAME_WIT: &str = "build both against the same WIT";

/// What nobody answers of all that a handler imports: a problem for each interface.
pub fn unlinked(caller: &Handler, handlers: &[Arc<Handler>]) -> Vec<Problem> {
    let first = |wanted: &Wanted| {
        wanted
            .functions
            .iter()
            .find_map(|function| provider(caller, &wanted.interface, function, handlers).err())
    };
    let problem = |unlinked: Unlinked| Problem {
        file: caller.path.clone(),
        what: unlinked.what,
        hint: unlinked.hint,
    };
    caller
        .wanted
        .iter()
        .filter_map(first)
        .map(problem)
        .collect()
}

/// The handler, and whether the manifest names it.
fn handler_of<'a>(
    caller: &Handler,
    interface: &str,
    handlers: &'a [Arc<Handler>],
) -> Result<(&'a Handler, bool), Unlinked> {
    let imports = &caller.manifest.imports;
    let named = imports
        .get(interface)
        .or_else(|| imports.get(plain(interface)));
    if let Some(name) = named {
        let found = handlers.iter().find(|handler| handler.name == *name);
        return found
            .map(|handler| (&**handler, true))
            .ok_or_else(|| Unlinked {
                what: format!(
                    "it imports {interface} from handler \"{name}\" (imports of its manifest), and there is none"
                ),
                hint: format!("put {name}.wasm beside it, or name another in its manifest"),
            });
    }
    let exports = |handler: &&Arc<Handler>| {
        let of = |one: &Arc<Exported>| one.interface.as_deref() == Some(interface);
        handler.functions.iter().any(of)
    };
    let found: Vec<&Arc<Handler>> = handlers.iter().filter(exports).collect();
    let example = format!(
        "{}.toml: [imports] \"{}\" = \"NAME\"",
        caller.name,
        plain(interface)
    );
    match found.as_slice() {
        [one] => Ok((one, false)),
        [] => Err(Unlinked {
            what: format!("it imports {interface}, which no handler exports"),
            hint: format!("put one that does beside it, or name one in {example}"),
        }),
        several => {
            let names: Vec<&str> = several.iter().map(|handler| &*handler.name).collect();
            Err(Unlinked {
                what: format!(
                    "it imports {interface}, which {} export",
                    names.join(" and ")
                ),
                hint: format!("name one in {example}"),
            })
        }
    }
}

/// An interface without its version.
fn plain(interface: &str) -> &str {
    interface
        .split_once('@')
        .map_or(interface, |(name, _)| name)
}
