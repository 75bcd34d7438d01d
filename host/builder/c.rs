//! C: bindings of wit-bindgen, compiled by the WASI SDK or by `zig cc`.
//!
//! Called by [`super::build`] alone. Every `.c` file of the project's directory is part of the handler;
//! the bindings are written into its `bindings`, where an editor finds them, too.

use std::path::{Path, PathBuf};
use std::process::Command;

use wit_bindgen_core::Files;

use super::command::{command, compile};
use super::contract::Contract;
use super::language::Language;
use super::tools::Tools;
use super::{Artifact, BuildError, io, stamp, write_if_changed};

/// Zig brings a C compiler, a linker and a C library for WebAssembly in one package.
const ZIG: &str = "ziglang";
const ZIG_VERSION: &str = "0.17.1";

/// An HTTP client, which is written beside the bindings.
const CLIENT: &[(&str, &str)] = &[
    ("fishway_http.h", include_str!("c/fishway_http.h")),
    ("fishway_http.c", include_str!("c/fishway_http.c")),
];

/// Build the handler of a project, which bears the name of its directory.
pub fn build(
    project: &Path,
    work_dir: &Path,
    tools: &mut Tools,
) -> Result<(Artifact, String), BuildError> {
    let name = project.file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let work_dir = super::place(work_dir, "c", &name)?;
    let bindings = bindings(project, &work_dir)?;
    let sdk = std::env::var_os("WASI_SDK_PATH")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let toolchain = match &sdk {
        Some(sdk) => format!("the WASI SDK in {}", sdk.display()),
        None => format!("zig cc {ZIG_VERSION}"),
    };
    let module = work_dir.join("handler.wasm");
    let stamp = stamp::of(&[project, &project.join("bindings")], &[&toolchain])?;
    stamp::unless_same(&stamp, &module, || {
        let mut compiler = match &sdk {
            Some(sdk) => {
                let mut clang = command(sdk.join("bin").join("clang"));
                clang.arg("--target=wasm32-wasip1");
                clang
            }
            None => zig(tools)?,
        };
        (tools.progress)(&format!("compiling {name} with {toolchain}"));
        compiler
            .current_dir(project)
            .args(["-mexec-model=reactor", "-Os", "-Wall", "-Wl,--strip-all"])
            .arg("-I")
            .arg(project.join("bindings"))
            .args(sources(project)?)
            .args(bindings)
            .arg("-o")
            .arg(&module);
        compile(project, &mut compiler).map(|_| ())
    })?;
    let artifact = Artifact {
        name,
        package: project.to_owned(),
        module,
    };
    Ok((artifact, toolchain))
}

/// Write the bindings; gives those of the files that are compiled and linked.
fn bindings(project: &Path, work_dir: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let mut contract = Contract::of(Language::C, project, work_dir)?.with_client()?;
    // The bindings name items outside of interfaces after the world.
    let world = contract.world_name().replace('-', "_");
    let mut files = Files::default();
    wit_bindgen_c::Opts::default()
        .build()
        .generate(&mut contract.resolve, contract.world, &mut files)
        .map_err(|error| BuildError::Compile {
            project: project.to_owned(),
            output: format!("{}: {error:#}", contract.directory.display()),
        })?;
    let mut linked = Vec::new();
    for (place, bytes) in files.iter() {
        let path = project.join("bindings").join(place);
        write_if_changed(&path, bytes)?;
        if !place.ends_with(".h") {
            linked.push(path);
        }
    }
    for (place, text) in CLIENT {
        let path = project.join("bindings").join(place);
        write_if_changed(&path, text.replace("task_handler", &world).as_bytes())?;
        if !place.ends_with(".h") {
            linked.push(path);
        }
    }
    Ok(linked)
}

fn sources(project: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let entries = std::fs::read_dir(project).map_err(|error| io(project, &error))?;
    let mut sources: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "c"))
        .collect();
    sources.sort();
    Ok(sources)
}

fn zig(tools: &mut Tools) -> Result<Command, BuildError> {
    let programs = tools.python_package(ZIG, ZIG_VERSION)?;
    let mut zig = command(programs.join("python"));
    zig.args(["-m", ZIG, "cc", "-target", "wasm32-wasi"])
        .env("ZIG_GLOBAL_CACHE_DIR", tools.scratch("zig")?);
    Ok(zig)
}
