//! Whether somebody could run a handler: one that the last host had, or a file that lies in its directory
//! now. Asked before a task is made; afterwards it waits for its handler.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Client, ClientError};
use crate::loader::{Digest, read_component};
use crate::store::{HandlerRow, StoreError};
use crate::task::Options;
use crate::types::{self, Mismatch, component_of};
use crate::workflow::Role;

/// Names that a wrong one is compared with: those that begin with the same letter, or the first of all.
const COMPARED: u64 = 500;

/// Functions of a component that are named.
const FUNCTIONS_MAX: u64 = 100;

impl Client {
    pub(super) fn check_handler(&self, name: &str) -> Result<Option<Arc<HandlerRow>>, ClientError> {
        self.check_role(name, Role::Tasks)
    }

    /// The handler of a new task; none if nobody knows whether it exists. The handler that continues with its output is
    /// checked, too. No read if both were found a moment ago.
    pub(super) async fn known_handler(
        &self,
        name: &str,
        options: &Options,
    ) -> Result<Option<Arc<HandlerRow>>, ClientError> {
        let next = options.on_complete.clone();
        if let Some(known) = self.remembered(name, Role::Tasks)
            && (next.as_ref()).is_none_or(|next| self.remembered(next, Role::Tasks).is_some())
        {
            return Ok(Some(known));
        }
        let name = name.to_owned();
        let reads = self.look(move |client| {
            let known = client.check_handler(&name)?;
            if let Some(next) = &next {
                client.check_handler(next)?;
            }
            Ok(known)
        });
        reads.await
    }

    /// The current handler, before an input is refused; none if its file differs from the one that the host has loaded.
    pub(super) async fn handler_now(&self, name: &str) -> Result<Option<HandlerRow>, ClientError> {
        let name = name.to_owned();
        let reads = self.look(move |client| match client.read_role(&name, Role::Tasks)? {
            Some(row) if client.is_current(&row)? => Ok(Some(row)),
            _ => Ok(None),
        });
        reads.await
    }

    /// A cached handler that can do what it is needed for.
    fn remembered(&self, name: &str, role: Role) -> Option<Arc<HandlerRow>> {
        let remembered = self.remembered.as_ref()?;
        let version = self.store.bus().handlers_version();
        let known = remembered.get(name, version)?;
        is_in_role(&known, role).then_some(known)
    }

    /// Whether somebody could run it: a handler that the last host had, one that it could not load, or a
    /// file that lies in its directory now and that it has not looked at. Where no host ever ran, nobody
    /// knows, and every name is good.
    pub(super) fn check_role(
        &self,
        name: &str,
        role: Role,
    ) -> Result<Option<Arc<HandlerRow>>, ClientError> {
        if let Some(known) = self.remembered(name, role) {
            return Ok(Some(known));
        }
        let version = self.store.bus().handlers_version();
        let remembered = self.remembered.as_ref();
        let remembered = remembered.map(|remembered| (remembered, remembered.read(version)));
        let found = self.read_role(name, role)?.map(Arc::new);
        if let (Some((remembered, read)), Some(row)) = (remembered, &found) {
            remembered.keep(row, read);
        }
        Ok(found)
    }

    /// The same, read from the store.
    fn read_role(&self, name: &str, role: Role) -> Result<Option<HandlerRow>, ClientError> {
        if let Some(known) = self.store.handlers_named(&[name])?.pop() {
            return in_role(known, role).map(Some);
        }
        let Some(standing) = self.store.handlers_standing()? else {
            return Ok(None);
        };
        let directory = standing.directory;
        let component = component_of(name);
        if !self.store.broken_named(&[component])?.is_empty() {
            return Ok(None);
        }
        let mut siblings = self.siblings(component)?;
        // A host may have loaded it since the first read.
        let there = siblings.iter().position(|row| row.name == name);
        if let Some(there) = there {
            return in_role(siblings.swap_remove(there), role).map(Some);
        }
        let is_new = match siblings.first() {
            Some(row) => !is_current(row, &directory),
            None => file_of(component, &directory).is_some(),
        };
        if is_new {
            return Ok(None);
        }
        Err(ClientError::UnknownHandler {
            name: name.to_owned(),
            known: match siblings.is_empty() {
                true => self.similar(name)?,
                false => siblings.into_iter().map(|row| row.name).collect(),
            },
            directory: Some(directory),
        })
    }

    /// What a component runs.
    pub fn siblings(&self, component: &str) -> Result<Vec<HandlerRow>, StoreError> {
        let functions = format!("{component}/");
        let mut found = self.store.handlers_named(&[component])?;
        let after = self.store.handlers_after(&functions, FUNCTIONS_MAX)?;
        let its = after.into_iter();
        found.extend(its.take_while(|row| row.name.starts_with(&functions)));
        Ok(found)
    }

    /// Names that somebody may have meant who wrote this one.
    pub fn similar(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let first = name.chars().next().map(String::from).unwrap_or_default();
        let mut rows = self.store.handlers_after(&first, COMPARED)?;
        rows.retain(|row| row.name.starts_with(&first));
        if rows.is_empty() {
            rows = self.store.handlers_after("", COMPARED)?;
        }
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    /// Whether what the last host loaded lies in its directory now. Only a refusal reads the file: it
    /// must not be by the word of a component that was replaced while no host ran.
    pub(super) fn is_current(&self, row: &HandlerRow) -> Result<bool, StoreError> {
        let standing = self.store.handlers_standing()?;
        Ok(standing.is_none_or(|standing| is_current(row, &standing.directory)))
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

/// Why this handler accepts no task input.
pub(super) fn mismatch(row: Option<&HandlerRow>, input: &str) -> Option<Mismatch> {
    let function = row?.function.as_ref()?;
    types::check(function, input).err()
}

fn is_in_role(known: &HandlerRow, role: Role) -> bool {
    known.generator == (role == Role::Pages)
}

/// The handler, or why it cannot do what it is wanted for.
fn in_role(known: HandlerRow, role: Role) -> Result<HandlerRow, ClientError> {
    if is_in_role(&known, role) {
        return Ok(known);
    }
    let name = known.name;
    Err(match role {
        Role::Tasks => ClientError::IsGenerator { name },
        Role::Pages => ClientError::NoGenerator { name },
    })
}

/// The file of a component, where it lies in the directory.
fn file_of(component: &str, directory: &Path) -> Option<PathBuf> {
    ["wasm", "wat"]
        .iter()
        .map(|ending| directory.join(format!("{component}.{ending}")))
        .find(|file| file.is_file())
}

fn is_current(row: &HandlerRow, directory: &Path) -> bool {
    let file = file_of(component_of(&row.name), directory);
    // What no host would load says nothing of the handler, however large it is.
    let bytes = file.and_then(|file| read_component(&file).ok());
    bytes.is_none_or(|bytes| Digest::of(&bytes).to_string() == row.digest)
}
