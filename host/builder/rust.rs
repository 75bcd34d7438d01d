//! Rust: which packages of a project are handlers, and cargo run on them.
//!
//! Called by [`super::build`] alone, which holds the lock of the target directory meanwhile. It writes
//! nothing outside that directory.

mod toolchain;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::{Artifact, BuildError, Request};

/// Compile every handler of the project.
pub fn compile(
    request: &Request,
    target_dir: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(Vec<Artifact>, String), BuildError> {
    let mut find = || toolchain::find(&request.project, request.install, progress);
    // The packages are read first, so that nothing is installed for what is no project. Only cargo
    // can read them: where there is none, the compiler comes first, and brings its own.
    let (cargo, found) = match cargo() {
        Some(cargo) => (cargo, None),
        None => find().map(|found| (found.cargo.clone(), Some(found)))?,
    };
    let packages = packages(&request.project, &cargo)?;
    if packages.is_empty() {
        let why = "no package in it has a library of crate-type cdylib".to_owned();
        return Err(BuildError::NoProject {
            project: request.project.clone(),
            why,
        });
    }
    refuse_one_library_twice(&request.project, &packages)?;
    let toolchain = match found {
        Some(found) => found,
        None => find()?,
    };
    // Several compilers share the directory; each keeps to its own part of it.
    let target_dir = target_dir.join(if toolchain.arguments.is_empty() {
        "rustup"
    } else {
        "debian"
    });
    progress(&format!("compiling with {}", toolchain.name));
    let mut command = scrubbed(&toolchain.cargo);
    command
        .current_dir(&request.project)
        .args(["build", "--quiet", "--release", "--lib"])
        .args(["--target", toolchain.target])
        .args(&toolchain.arguments)
        .arg("--target-dir")
        .arg(&target_dir)
        .envs(toolchain.environment.iter().cloned());
    for package in &packages {
        command.arg("--package").arg(&package.name);
    }
    let output = run(&mut command)?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(BuildError::Compile {
            project: request.project.clone(),
            output,
        });
    }
    let made = target_dir.join(toolchain.target).join("release");
    let artifact = |package: Package| Artifact {
        module: made.join(format!("{}.wasm", package.library)),
        name: package.name,
        package: package.directory,
    };
    Ok((packages.into_iter().map(artifact).collect(), toolchain.name))
}

struct Package {
    name: String,
    library: String,
    directory: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<MetadataTarget>,
}

#[derive(Deserialize)]
struct MetadataTarget {
    name: String,
    crate_types: Vec<String>,
}

/// A cargo that is there already.
fn cargo() -> Option<PathBuf> {
    let debian = Path::new(toolchain::DEBIAN_CARGO);
    match on_path("cargo") {
        true => Some("cargo".into()),
        false => debian.exists().then(|| debian.to_owned()),
    }
}

/// The packages that make handlers: all of a workspace, or the one whose directory was named.
fn packages(project: &Path, cargo: &Path) -> Result<Vec<Package>, BuildError> {
    let mut command = scrubbed(cargo);
    command
        .current_dir(project)
        .args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = run(&mut command)?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(BuildError::Compile {
            project: project.to_owned(),
            output,
        });
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).map_err(|error| BuildError::NoTool {
            tool: "cargo metadata".to_owned(),
            why: error.to_string(),
        })?;
    // Cargo names the whole workspace from inside any of its members.
    let whole = same(&metadata.workspace_root, project);
    let handler = |package: MetadataPackage| {
        if !whole && !same(package.manifest_path.parent()?, project) {
            return None;
        }
        let library = package
            .targets
            .iter()
            .find(|target| target.crate_types.iter().any(|kind| kind == "cdylib"))?;
        Some(Package {
            library: library.name.replace('-', "_"),
            directory: package.manifest_path.parent()?.to_owned(),
            name: package.name,
        })
    };
    Ok(metadata.packages.into_iter().filter_map(handler).collect())
}

/// Cargo writes libraries of one name to one file, and says so only in a warning: the handlers would
/// all be the one that was compiled last.
fn refuse_one_library_twice(project: &Path, packages: &[Package]) -> Result<(), BuildError> {
    let mut seen = BTreeMap::new();
    for package in packages {
        if let Some(other) = seen.insert(&package.library, &package.name) {
            return Err(BuildError::SameLibrary {
                project: project.to_owned(),
                library: package.library.clone(),
                packages: [other.clone(), package.name.clone()],
            });
        }
    }
    Ok(())
}

/// Whether two paths lead to one directory; the project may be named through a link.
fn same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// A command without what an outer cargo has set for itself.
fn scrubbed(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let kept = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR"];
        let outer =
            text.starts_with("CARGO") || text.starts_with("RUSTC") || text.starts_with("RUSTFLAGS");
        if outer && !kept.iter().any(|kept| text.starts_with(kept)) {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Result<std::process::Output, BuildError> {
    let tool = command.get_program().to_string_lossy().into_owned();
    command.output().map_err(|error| BuildError::NoTool {
        tool,
        why: error.to_string(),
    })
}

fn on_path(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|directory| directory.join(program).is_file())
}
