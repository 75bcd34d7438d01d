//! `wasi:config/store`: the variables that the manifest grants, for components that read them this way.
//!
//! It shows the same as the environment of the guest, by the same names; for a secret, its placeholder. Variables that
//! are not granted are absent.

use std::collections::BTreeMap;

use wasmtime::component::{HasSelf, Linker};

use crate::executor::bindings::ambient::wasi::config::store;
use crate::executor::guest::Guest;

/// The names under which components import it: its types have been the same in all of its drafts.
const NAMES: [&str; 2] = [
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-rc.1",
];

/// Add it to a linker.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for name in NAMES {
        let mut instance = linker.instance(name)?;
        store::add_to_linker_instance::<_, HasSelf<Guest>>(&mut instance, |guest| guest)?;
    }
    Ok(())
}

impl store::Host for Guest {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, store::Error>> {
        Ok(Ok(self.variables().remove(&key)))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, store::Error>> {
        Ok(Ok(self.variables().into_iter().collect()))
    }
}

impl Guest {
    fn variables(&self) -> BTreeMap<String, String> {
        let grants = &self.handler.manifest.grants;
        let mut variables = grants.env.clone();
        if let Some(placeholders) = &self.placeholders {
            let secrets = grants.env_secrets.iter();
            variables
                .extend(secrets.map(|(name, secret)| (name.clone(), placeholders.of_name(secret))));
        }
        variables
    }
}
