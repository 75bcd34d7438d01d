//! Python: componentize-py, in a virtual environment of the cache.
//!
//! Called by [`super::build`] alone. The handler is the module `handler`; what `pyproject.toml` depends
//! on is installed beside it, as far as it is written in Python alone.

use std::path::Path;

use serde::Deserialize;

use super::command::{command, compile};
use super::contract::Contract;
use super::language::Language;
use super::tools::{Tools, step};
use super::{Artifact, BuildError, io, stamp};

const COMPONENTIZE: &str = "componentize-py";
const VERSION: &str = "0.25.0";

/// The Python inside the component; packages are chosen for it.
const PYTHON: &str = "3.14";

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
    let contract = Contract::of(Language::Python, project, &work_dir)?;
    let packages = packages(&dependencies, &work_dir, tools)?;
    let toolchain = format!("{COMPONENTIZE} {VERSION}");
    let module = work_dir.join("handler.wasm");
    let stamp = stamp::of(&[project, &contract.directory], &[&toolchain])?;
    stamp::unless_same(&stamp, &module, || {
        let programs = tools.python_package(COMPONENTIZE, VERSION)?;
        (tools.progress)(&format!("building {name} with {toolchain}"));
        let mut componentize = command(programs.join(COMPONENTIZE));
        componentize
            .current_dir(&work_dir)
            // It imports the handler, and would leave compiled modules beside it.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg("-d")
            .arg(&contract.directory)
            .args(["-w", contract.world_name(), "componentize", "handler"])
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
) -> Result<Option<std::path::PathBuf>, BuildError> {
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
