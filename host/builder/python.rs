//! Python: componentize-py, in a virtual environment of the cache.
//!
//! Called by [`super::build`] alone. The handler is the module `handler`; what `pyproject.toml` depends
//! on is installed beside it, as far as it is written in Python alone. The modules of `python/` make HTTP clients work
//! in it: componentize-py loads theirs, and that one loads the handler.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::command::{command, compile};
use super::contract::Contract;
use super::language::Language;
use super::tools::{Tools, step};
use super::{Artifact, BuildError, io, stamp, write_if_changed};

const COMPONENTIZE: &str = "componentize-py";
const VERSION: &str = "0.25.0";

/// The Python inside the component; packages are chosen for it.
const PYTHON: &str = "3.14";

/// Files that are built into each handler, by path.
const MODULES: [(&str, &str); 3] = [
    ("fishway_main.py", include_str!("python/fishway_main.py")),
    ("fishway_http.py", include_str!("python/fishway_http.py")),
    (
        "fishway_requests.py",
        include_str!("python/fishway_requests.py"),
    ),
];

/// The first of them, which imports the handler.
const MAIN: &str = "fishway_main";

#[derive(Deserialize)]
struct Project {
    project: Table,
}

#[derive(Deserialize)]
struct Table {
    name: String,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// Build the handler of a project.
pub fn build(
    project: &Path,
    work_dir: &Path,
    tools: &mut Tools,
) -> Result<(Artifact, String), BuildError> {
    let Table { name, dependencies } = read(project)?;
    if !project.join("handler.py").is_file() {
        return Err(BuildError::NoProject {
            project: project.to_owned(),
            why: "it has no handler.py".to_owned(),
        });
    }
    let work_dir = super::place(work_dir, "python", &name)?;
    let own = Contract::of(Language::Python, project, &work_dir)?;
    let taken = own.imports();
    let contract = own.with_client()?;
    let names = Names::of(&contract.imports(), &taken);
    let packages = packages(&dependencies, &work_dir, tools)?;
    let toolchain = format!("{COMPONENTIZE} {VERSION}");
    let module = work_dir.join("handler.wasm");
    let text = contract.text()?;
    let mut else_on = vec![toolchain.as_str(), &text];
    else_on.extend(MODULES.iter().map(|(_, text)| *text));
    let stamp = stamp::of(&[project], &else_on)?;
    stamp::unless_same(&stamp, &module, || {
        let programs = tools.python_package(COMPONENTIZE, VERSION)?;
        (tools.progress)(&format!("building {name} with {toolchain}"));
        let wit = work_dir.join("contract").join("contract.wit");
        write_if_changed(&wit, text.as_bytes())?;
        let ours = work_dir.join("modules");
        for (place, text) in MODULES {
            write_if_changed(&ours.join(place), text.as_bytes())?;
        }
        let mut componentize = command(programs.join(COMPONENTIZE));
        componentize
            .current_dir(&work_dir)
            // It imports the handler, and would leave compiled modules beside it.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg("-d")
            .arg(&wit)
            .args(["-w", contract.world_name()])
            .args(names.arguments())
            .args(["componentize", MAIN, "-p"])
            .arg(&ours)
            .arg("-p")
            .arg(project)
            .args(packages.iter().flat_map(|path| [Path::new("-p"), path]))
            .arg("-o")
            .arg(&module);
        compile(project, &mut componentize).map(|_| ())
    })?;
    let artifact = Artifact {
        name,
        package: project.to_owned(),
        module,
    };
    Ok((artifact, toolchain))
}

/// The module names of interfaces. componentize-py gives two interfaces of the same name longer names each, so an
/// interface that is added to a world would change the name of one that the handler imports already.
struct Names(Vec<(String, String)>);

impl Names {
    /// Names for all imports; `taken` are the project's own imports.
    fn of(all: &[String], taken: &[String]) -> Names {
        let short = |id: &str| {
            let name = id.rsplit('/').next().unwrap_or(id);
            name.split('@').next().unwrap_or(name).replace('-', "_")
        };
        let added: Vec<&String> = all.iter().filter(|id| !taken.contains(id)).collect();
        let mut names = Vec::new();
        for id in taken {
            let same = |other: &&String| short(other) == short(id);
            let alone = taken.iter().filter(same).count() == 1;
            if alone && added.iter().any(|other| short(other) == short(id)) {
                names.push((id.clone(), short(id)));
            }
        }
        for id in added {
            let whole = id.split('@').next().unwrap_or(id);
            names.push((id.clone(), whole.replace([':', '/', '-'], "_")));
        }
        Names(names)
    }

    /// The arguments of componentize-py for them.
    fn arguments(&self) -> Vec<String> {
        let pairs = self.0.iter();
        let pairs =
            pairs.map(|(id, name)| ["--import-interface-name".to_owned(), format!("{id}={name}")]);
        pairs.flatten().collect()
    }
}

fn read(project: &Path) -> Result<Table, BuildError> {
    let file = project.join("pyproject.toml");
    let text = std::fs::read_to_string(&file).map_err(|error| io(&file, &error))?;
    match toml::from_str::<Project>(&text) {
        Ok(found) => Ok(found.project),
        Err(error) => Err(BuildError::NoProject {
            project: project.to_owned(),
            why: format!("pyproject.toml: {}", error.message()),
        }),
    }
}

/// The directory of what the project depends on, if it depends on anything.
fn packages(
    dependencies: &[String],
    work_dir: &Path,
    tools: &mut Tools,
) -> Result<Option<PathBuf>, BuildError> {
    if dependencies.is_empty() {
        return Ok(None);
    }
    let directory = work_dir.join("packages");
    let wanted = dependencies.join("\n");
    stamp::unless_same(&wanted, &directory.join("installed"), || {
        let programs = tools.python_package(COMPONENTIZE, VERSION)?;
        (tools.progress)(&format!("installing {}", dependencies.join(", ")));
        if directory.exists() {
            std::fs::remove_dir_all(&directory).map_err(|error| io(&directory, &error))?;
        }
        let mut pip = command(programs.join("python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-compile",
        ])
        // Compiled extensions are for this machine, not for the sandbox.
        .args([
            "--only-binary=:all:",
            "--platform=any",
            "--implementation=py",
            "--abi=none",
        ])
        .arg(format!("--python-version={PYTHON}"))
        .arg("--target")
        .arg(&directory)
        .args(dependencies);
        let hint = "only packages that are written in Python alone can be part of a handler";
        step(&dependencies.join(", "), hint, &mut pip)?;
        let installed = directory.join("installed");
        std::fs::write(&installed, &wanted).map_err(|error| io(&installed, &error))
    })?;
    Ok(Some(directory))
}
