//! The handlers that hosts have loaded, as the store has them: for claims, for the checks of a submit, and
//! for commands while no host runs.
//!
//! A directory may have ten thousand handlers. So a host writes only changes, a door reads only the names
//! that it needs, lists are read in pages, and totals are stored and not counted.

use std::path::PathBuf;

use crate::types::Function;

/// A handler as the store remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerRow {
    /// Its name.
    pub name: String,
    /// Its component.
    pub digest: String,
    /// One sentence of its manifest.
    pub description: Option<String>,
    /// The function that its tasks run, where they run one.
    pub function: Option<Function>,
    /// Whether it tells items page by page, and runs no task by itself.
    pub generator: bool,
}

/// A file in the handlers directory that could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenRow {
    /// The name that the handler would have; empty where the directory itself is wrong.
    pub name: String,
    /// The name of the file.
    pub file: String,
    /// What is wrong with it, as a sentence.
    pub problem: String,
    /// What to do.
    pub hint: String,
}

impl BrokenRow {
    /// What is wrong and what to do, for people.
    pub fn sentence(&self) -> String {
        format!("{}: {} ({})", self.file, self.problem, self.hint)
    }
}

/// What has changed of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentChange {
    /// Its name.
    pub name: String,
    /// All types of tasks that it runs now; none when it is loaded no longer.
    pub rows: Vec<HandlerRow>,
    /// What is wrong with its file now. An earlier version may be loaded all the same.
    pub broken: Option<BrokenRow>,
}

/// What a host has loaded, as far as it is not what it said before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandlersChange {
    /// Whether this is all that the host has, so that everything it said before is forgotten.
    pub whole: bool,
    /// What has changed.
    pub components: Vec<ComponentChange>,
    /// What holds of all handlers from now on.
    pub standing: HandlersStanding,
}

impl HandlersChange {
    /// These, and no others.
    pub fn whole(rows: Vec<HandlerRow>, directory: impl Into<PathBuf>) -> HandlersChange {
        let loaded = rows.len() as u64;
        let component = |row: HandlerRow| ComponentChange {
            name: crate::types::component_of(&row.name).to_owned(),
            rows: vec![row],
            broken: None,
        };
        HandlersChange {
            whole: true,
            components: rows.into_iter().map(component).collect(),
            standing: HandlersStanding {
                directory: directory.into(),
                loaded,
                ..HandlersStanding::default()
            },
        }
    }
}

/// How the handlers of a host stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandlersStanding {
    /// Where they come from.
    pub directory: PathBuf,
    /// How many types of tasks can run.
    pub loaded: u64,
    /// How many files could not be loaded.
    pub broken: u64,
    /// How many files are still being loaded.
    pub loading: u64,
    /// Why the system does not tell the host of changes in the directory, so that it looks by the clock;
    /// none while it tells.
    pub unwatched: Option<String>,
}
