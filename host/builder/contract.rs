//! What a project is built against: its own `wit` directory, or the contract inside this program.
//!
//! Called by the languages that need it as files, and by `new`, which writes it into a project.

use std::path::{Path, PathBuf};

use wit_bindgen_core::wit_parser::{Resolve, WorldId};

use super::language::Language;
use super::{BuildError, write_if_changed};

/// The contract, by its place in a `wit` directory.
const TASK: &str = include_str!("../../wit/fishway-task.wit");

/// What JavaScript needs besides: its world names the files that it may read.
const JAVASCRIPT: &[(&str, &str)] = &[
    ("handler.wit", include_str!("javascript/wit/handler.wit")),
    ("deps/fishway-task.wit", TASK),
    (
        "deps/filesystem.wit",
        include_str!("javascript/wit/deps/filesystem.wit"),
    ),
    (
        "deps/clocks.wit",
        include_str!("javascript/wit/deps/clocks.wit"),
    ),
    ("deps/io.wit", include_str!("javascript/wit/deps/io.wit")),
];

/// A world that a handler is built for.
pub struct Contract {
    /// The directory of its WIT.
    pub directory: PathBuf,
    /// All that the directory says.
    pub resolve: Resolve,
    /// The world.
    pub world: WorldId,
}

impl Contract {
    /// That of a project; what is inside this program is written into `work_dir`.
    pub fn of(language: Language, project: &Path, work_dir: &Path) -> Result<Contract, BuildError> {
        let own = project.join("wit");
        let directory = match own.is_dir() {
            true => own,
            false => {
                let directory = work_dir.join("wit");
                for (place, text) in files(language) {
                    write_if_changed(&directory.join(place), text.as_bytes())?;
                }
                directory
            }
        };
        let unreadable = |why: String| BuildError::Compile {
            project: project.to_owned(),
            output: why,
        };
        let mut resolve = Resolve::default();
        let (package, _) = resolve
            .push_path(&directory)
            .map_err(|error| unreadable(format!("{error:#}")))?;
        // The contract itself has a world for page generators, too.
        let name = resolve.packages[package]
            .worlds
            .contains_key("task-handler");
        let world = resolve
            .select_world(&[package], name.then_some("task-handler"))
            .map_err(|error| unreadable(format!("{}: {error:#}", directory.display())))?;
        Ok(Contract {
            directory,
            resolve,
            world,
        })
    }

    /// The world's name.
    pub fn world_name(&self) -> &str {
        &self.resolve.worlds[self.world].name
    }
}

/// The files of the `wit` directory of a new project.
pub fn files(language: Language) -> &'static [(&'static str, &'static str)] {
    match language {
        Language::JavaScript | Language::TypeScript => JAVASCRIPT,
        _ => &[("fishway-task.wit", TASK)],
    }
}
