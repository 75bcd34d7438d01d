//! Whether somebody could run a handler: one that the last host had, or a file that lies in its directory
//! now. Asked before a task is made; afterwards it waits for its handler.

use std::path::{Path, PathBuf};

use super::{Client, ClientError};
use crate::loader::Digest;
use crate::store::HandlerRow;
use crate::types::component_of;
use crate::workflow::Role;

impl Client {
    pub(super) fn check_handler(
        &self,
        name: &str,
    ) -> Result<Option<(HandlerRow, PathBuf)>, ClientError> {
        self.check_role(name, Role::Tasks)
    }

    /// Whether somebody could run it: a handler that the last host had, or a file that lies in its
    /// directory now and that it had not loaded. Where no host ever ran, nobody knows, and every name
    /// is good.
    pub(super) fn check_role(
        &self,
        name: &str,
        role: Role,
    ) -> Result<Option<(HandlerRow, PathBuf)>, ClientError> {
        let Some((handlers, directory)) = self.store.handlers()? else {
            return Ok(None);
        };
        if let Some(known) = handlers.iter().find(|row| row.name == name) {
            let name = name.to_owned();
            return match role {
                Role::Tasks if known.generator => Err(ClientError::IsGenerator { name }),
                Role::Pages if !known.generator => Err(ClientError::NoGenerator { name }),
                Role::Tasks | Role::Pages => Ok(Some((known.clone(), directory))),
            };
        }
        let component = component_of(name);
        let loaded = handlers
            .iter()
            .find(|row| component_of(&row.name) == component);
        let is_new = match loaded {
            Some(row) => !is_current(row, &directory),
            None => file_of(component, &directory).is_some(),
        };
        if is_new {
            return Ok(None);
        }
        Err(ClientError::UnknownHandler {
            name: name.to_owned(),
            known: handlers.into_iter().map(|row| row.name).collect(),
            directory: Some(directory),
        })
    }

    /// What is wrong with those of the names that nobody could run for what they are wanted for.
    pub(super) fn unknown<'n>(
        &self,
        names: impl IntoIterator<Item = (&'n str, Role)>,
    ) -> Result<Vec<ClientError>, ClientError> {
        let mut unknown = Vec::new();
        for (name, role) in names {
            match self.check_role(name, role) {
                Ok(_) => {}
                Err(
                    error @ (ClientError::UnknownHandler { .. }
                    | ClientError::IsGenerator { .. }
                    | ClientError::NoGenerator { .. }),
                ) => unknown.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(unknown)
    }
}

/// The file of a component, where it lies in the directory.
fn file_of(component: &str, directory: &Path) -> Option<PathBuf> {
    ["wasm", "wat"]
        .iter()
        .map(|ending| directory.join(format!("{component}.{ending}")))
        .find(|file| file.is_file())
}

/// Whether what the last host loaded lies in its directory now. Only a refusal reads the file: it
/// must not be by the word of a component that was replaced while no host ran.
pub(super) fn is_current(row: &HandlerRow, directory: &Path) -> bool {
    let file = file_of(component_of(&row.name), directory);
    let bytes = file.and_then(|file| std::fs::read(file).ok());
    bytes.is_none_or(|bytes| Digest::of(&bytes).to_string() == row.digest)
}
