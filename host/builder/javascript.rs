//! JavaScript and TypeScript: type declarations, esbuild and componentize-js, in a node_modules of the
//! cache.
//!
//! Called by [`super::build`] alone. `javascript/build.mjs` does the steps, in one process of Node. The
//! project's own dependencies are installed into its node_modules and bundled.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::command::{command, compile, on_path};
use super::contract::Contract;
use super::language::Language;
use super::tools::{Tools, missing, step};
use super::{Artifact, BuildError, io, stamp, write_if_changed};

/// The tools and all that they need, each at one version.
const PACKAGE: &str = include_str!("javascript/package.json");
const LOCK: &str = include_str!("javascript/package-lock.json");
const BUILD: &str = include_str!("javascript/build.mjs");

/// Part of each handler.
const FETCH: &str = include_str!("javascript/fetch.mjs");

/// Changes with the lock.
const TOOLS: &str = "componentize-js-0.23.0";

#[derive(Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    main: Option<String>,
    #[serde(default)]
    dependencies: serde_json::Map<String, serde_json::Value>,
    #[serde(default, rename = "devDependencies")]
    dev_dependencies: serde_json::Map<String, serde_json::Value>,
}

/// Build the handler of a project.
pub fn build(
    language: Language,
    project: &Path,
    work_dir: &Path,
    tools: &mut Tools,
) -> Result<(Artifact, String), BuildError> {
    let package = read(project)?;
    let name = package
        .name
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let entry = project.join(package.main.as_deref().unwrap_or("handler.js"));
    if !entry.is_file() {
        return Err(BuildError::NoProject {
            project: project.to_owned(),
            why: format!("there is no {}, its main of package.json", entry.display()),
        });
    }
    let work_dir = super::place(work_dir, "js", &name)?;
    let contract = Contract::of(language, project, &work_dir)?;
    let toolchain = TOOLS.replace("js-", "js ");
    let module = work_dir.join("handler.wasm");
    let stamp = stamp::of(&[project, &contract.directory], &[TOOLS, BUILD, FETCH])?;
    stamp::unless_same(&stamp, &module, || {
        dependencies(project, &package, tools)?;
        let mut directory = node_modules(tools)?;
        (tools.progress)(&format!("building {name} with {toolchain}"));
        // The declarations come from one text that has all packages.
        let text = contract.text()?;
        let request = serde_json::json!({
            "project": project, "entry": entry, "typescript": language == Language::TypeScript,
            "wit": contract.directory, "text": text, "world": contract.world_name(), "exports": contract.exports(),
            "bundle": work_dir.join("bundle.js"), "module": module,
        });
        let node = |directory: &Path| {
            let mut node = command("node");
            node.current_dir(project)
                .arg(directory.join("build.mjs"))
                .arg(request.to_string());
            compile(project, &mut node).map(|_| ())
        };
        let built = node(&directory);
        if built.as_ref().is_err_and(|error| lacks(&directory, error)) {
            // An older version marked an installation that something had disturbed.
            tools.forget(TOOLS)?;
            directory = node_modules(tools)?;
            return node(&directory);
        }
        built
    })?;
    let artifact = Artifact {
        name,
        package: project.to_owned(),
        module,
    };
    Ok((artifact, toolchain))
}

/// Whether Node says that a part of the tools themselves is not there.
fn lacks(tools: &Path, error: &BuildError) -> bool {
    let BuildError::Compile { output, .. } = error else {
        return false;
    };
    let tools = tools.to_string_lossy();
    let codes = ["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND", "ENOENT"];
    let missing = codes.iter().any(|code| output.contains(code));
    missing && output.contains(&*tools)
}

fn read(project: &Path) -> Result<Package, BuildError> {
    let file = project.join("package.json");
    let text = std::fs::read_to_string(&file).map_err(|error| io(&file, &error))?;
    serde_json::from_str(&text).map_err(|error| BuildError::NoProject {
        project: project.to_owned(),
        why: format!("package.json: {error}"),
    })
}

/// The tools, with the program that uses them.
fn node_modules(tools: &mut Tools) -> Result<PathBuf, BuildError> {
    let directory = tools.movable(TOOLS, |directory| {
        write_if_changed(&directory.join("package.json"), PACKAGE.as_bytes())?;
        write_if_changed(&directory.join("package-lock.json"), LOCK.as_bytes())?;
        npm(TOOLS, directory)
    })?;
    write_if_changed(&directory.join("build.mjs"), BUILD.as_bytes())?;
    write_if_changed(&directory.join("fetch.mjs"), FETCH.as_bytes())?;
    Ok(directory)
}

/// Install what the project itself depends on, unless that was done.
fn dependencies(project: &Path, package: &Package, tools: &mut Tools) -> Result<(), BuildError> {
    if package.dependencies.is_empty() && package.dev_dependencies.is_empty() {
        return Ok(());
    }
    let read = |name: &str| std::fs::read_to_string(project.join(name)).unwrap_or_default();
    let wanted = |lock: &str| format!("{}{lock}", read("package.json"));
    let done = project.join("node_modules").join(".fishway-installed");
    let lock = read("package-lock.json");
    if std::fs::read_to_string(&done).is_ok_and(|there| there == wanted(&lock)) {
        return Ok(());
    }
    (tools.progress)(&format!("installing the dependencies of {}", package.name));
    npm(&format!("what {} depends on", package.name), project)?;
    // Without a lock, npm has written one now.
    write_if_changed(&done, wanted(&read("package-lock.json")).as_bytes())
}

fn npm(what: &str, directory: &Path) -> Result<(), BuildError> {
    let hint = "Node.js 20 or newer with npm is needed, and the package index within reach: https://nodejs.org, or on Debian: apt-get install nodejs npm";
    if !on_path("npm") || !on_path("node") {
        return Err(missing(what, "there is no node and npm", hint));
    }
    let mut npm = command("npm");
    npm.current_dir(directory)
        // What is installed comes as a whole; nothing of it needs to run first. Not `ci`: it wants every
        // package of every other system in the lock.
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--loglevel=error",
        ]);
    step(what, hint, &mut npm)
}
