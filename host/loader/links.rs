//! Which handler answers the calls that another makes through an interface.
//!
//! The one that the caller's manifest names, else the only one that exports that very interface.
//! Handlers come and go, so this is looked up for each new call; the loader looks, too, to say early
//! what is missing. A call that was made before is replayed and never looked up again.

use std::collections::BTreeMap;
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

/// Handlers by their names, and by what they export: a call looks two names up, however many handlers
/// there are.
#[derive(Default)]
pub struct Offers {
    by_name: BTreeMap<String, Arc<Handler>>,
    by_interface: BTreeMap<String, BTreeMap<String, Arc<Handler>>>,
}

impl Offers {
    /// A new handler, or another in the place of the one of its name.
    pub fn insert(&mut self, handler: &Arc<Handler>) {
        self.remove(&handler.name);
        let exported = handler.functions.iter();
        for interface in exported.filter_map(|one| one.interface.as_ref()) {
            let here = self.by_interface.entry(interface.clone()).or_default();
            here.insert(handler.name.clone(), handler.clone());
        }
        self.by_name.insert(handler.name.clone(), handler.clone());
    }

    /// It is gone.
    pub fn remove(&mut self, name: &str) {
        let Some(handler) = self.by_name.remove(name) else {
            return;
        };
        let exported = handler.functions.iter();
        for interface in exported.filter_map(|one| one.interface.as_ref()) {
            if let Some(here) = self.by_interface.get_mut(interface) {
                here.remove(name);
                if here.is_empty() {
                    self.by_interface.remove(interface);
                }
            }
        }
    }
}

impl<'h> FromIterator<&'h Arc<Handler>> for Offers {
    fn from_iter<I: IntoIterator<Item = &'h Arc<Handler>>>(handlers: I) -> Offers {
        let mut offers = Offers::default();
        for handler in handlers {
            offers.insert(handler);
        }
        offers
    }
}

/// The task type that runs a function of an interface for `caller`.
pub fn provider(
    caller: &Handler,
    interface: &str,
    function: &Function,
    handlers: &Offers,
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
pub fn unlinked(caller: &Handler, handlers: &Offers) -> Vec<Problem> {
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
        of_machine: false,
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
    handlers: &'a Offers,
) -> Result<(&'a Handler, bool), Unlinked> {
    let imports = &caller.manifest.imports;
    let named = imports
        .get(interface)
        .or_else(|| imports.get(plain(interface)));
    if let Some(name) = named {
        return handlers
            .by_name
            .get(name)
            .map(|handler| (&**handler, true))
            .ok_or_else(|| Unlinked {
                what: format!(
                    "it imports {interface} from handler \"{name}\" (imports of its manifest), and there is none"
                ),
                hint: format!("put {name}.wasm beside it, or name another in its manifest"),
            });
    }
    let found = handlers.by_interface.get(interface);
    let found: Vec<&Arc<Handler>> = found.into_iter().flat_map(BTreeMap::values).collect();
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
