//! What a project is built against: its own `wit` directory, or the contract inside this program.
//!
//! Called by the languages that need it as files, and by `new`, which writes it into a project.

use std::path::{Path, PathBuf};

use wit_bindgen_core::wit_parser::{CloneMaps, Resolve, WorldId};

use super::language::Language;
use super::{BuildError, write_if_changed};

/// The contract, by its place in a `wit` directory.
const TASK: &str = include_str!("../../wit/0.2/fishway-task.wit");

/// What JavaScript needs besides: its world names the files that it may read.
const JAVASCRIPT: &[(&str, &str)] = &[
    ("handler.wit", include_str!("javascript/wit/handler.wit")),
    ("deps/fishway-task.wit", TASK),
    (
        "deps/filesystem.wit",
        include_str!("javascript/wit/deps/filesystem.wit"),
    ),
    ("deps/clocks.wit", CLOCKS),
    ("deps/io.wit", IO),
];

const IO: &str = include_str!("wit/deps/io.wit");
const CLOCKS: &str = include_str!("wit/deps/clocks.wit");

/// The packages that HTTP clients import; each needs those before it.
const CLIENT: &[(&str, &str)] = &[
    ("io.wit", IO),
    ("clocks.wit", CLOCKS),
    ("http.wit", include_str!("wit/deps/http.wit")),
    ("client.wit", include_str!("wit/client.wit")),
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

    /// The same, with the imports of an HTTP client added to the world. A project's own `wit` need not have them, and
    /// existing ones are not changed.
    pub fn with_client(mut self) -> Result<Contract, BuildError> {
        self.add_client().map_err(|error| BuildError::Compile {
            project: self.directory.clone(),
            output: format!("wasi:http cannot be added to its world: {error:#}"),
        })?;
        Ok(self)
    }

    fn add_client(&mut self) -> anyhow::Result<()> {
        let mut client = Resolve::default();
        let mut last = None;
        for (place, text) in CLIENT {
            last = Some(client.push_source(place, text)?);
        }
        let world = client.select_world(last.as_slice(), None)?;
        let client = self
            .resolve
            .merge(client)?
            .map_world(world, Default::default())?;
        self.resolve
            .merge_worlds(client, self.world, &mut CloneMaps::default())
    }

    /// The interfaces that its world imports, as `wasi:io/poll@0.2.12`.
    pub fn imports(&self) -> Vec<String> {
        let keys = self.resolve.worlds[self.world].imports.keys();
        keys.map(|key| self.resolve.name_world_key(key)).collect()
    }

    /// The interfaces that its world exports and does not import, as `fishway-task-handler`.
    pub fn exports(&self) -> Vec<String> {
        let world = &self.resolve.worlds[self.world];
        let keys = world.exports.keys();
        let keys = keys.filter(|key| !world.imports.contains_key(*key));
        let names = keys.map(|key| self.resolve.name_world_key(key));
        let short = |name: String| {
            name.split('@')
                .next()
                .unwrap_or(&name)
                .replace([':', '/'], "-")
        };
        names.map(short).collect()
    }

    /// Everything as one text: the package of the world, with the packages that it needs.
    pub fn text(&self) -> Result<String, BuildError> {
        let unreadable = |output: String| BuildError::Compile {
            project: self.directory.clone(),
            output,
        };
        let Some(main) = self.resolve.worlds[self.world].package else {
            return Err(unreadable("its world has no package".to_owned()));
        };
        let others = self.resolve.packages.iter().map(|(id, _)| id);
        let others: Vec<_> = others.filter(|id| *id != main).collect();
        let mut printer = wit_component::WitPrinter::default();
        printer
            .print(&self.resolve, main, &others)
            .map_err(|error| unreadable(format!("{error:#}")))?;
        Ok(printer.output.to_string())
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
