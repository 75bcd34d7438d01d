//! Rust: finds a compiler for WebAssembly, and runs cargo with it.
//!
//! Three ways are tried in turn, each only when the one before cannot be had: a WebAssembly target
//! that the active toolchain has, one that rustup can add, and Debian's compiler, which brings the
//! sources of the standard library and builds it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Artifact, BuildError, Request};

/// Targets of a toolchain that make handlers, best first.
const TARGETS: [&str; 3] = ["wasm32-wasip2", "wasm32-wasip1", "wasm32-unknown-unknown"];

/// What rustup is given to fetch a target; offline it would try for minutes.
const RUSTUP: Duration = Duration::from_secs(60);

/// Debian's compiler, next to which rustup's may be installed.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// How to call the compiler.
struct Toolchain {
    cargo: PathBuf,
    target: &'static str,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    name: String,
}

/// Compile every handler of the project.
pub fn compile(
    request: &Request,
    progress: &mut dyn FnMut(&str),
) -> Result<(Vec<Artifact>, String), BuildError> {
    let packages = packages(&request.project)?;
    if packages.is_empty() {
        let why = "no package in it has a library of crate-type cdylib".to_owned();
        return Err(BuildError::NoProject {
            project: request.project.clone(),
            why,
        });
    }
    let toolchain = toolchain(request.install, progress)?;
    let target_dir = match &request.target_dir {
        Some(directory) => directory.clone(),
        None => request.project.join("target").join("fishway"),
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
        .args(["build", "--release", "--lib", "--target", toolchain.target])
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

/// The packages that make handlers.
fn packages(project: &Path) -> Result<Vec<Package>, BuildError> {
    let cargo = if on_path("cargo") {
        Path::new("cargo")
    } else {
        Path::new(DEBIAN_CARGO)
    };
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
    let handler = |package: MetadataPackage| {
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

fn toolchain(install: bool, progress: &mut dyn FnMut(&str)) -> Result<Toolchain, BuildError> {
    let mut tried = Vec::new();
    match installed_target() {
        Ok(target) => return Ok(rustup_toolchain(target)),
        Err(why) => tried.push(format!("  a target of the active toolchain: {why}")),
    }
    match debian_toolchain() {
        // Found in a moment; rustup may take a minute to find that it cannot.
        Ok(toolchain) => return Ok(toolchain),
        Err(absent) => {
            match add_target(progress) {
                Ok(target) => return Ok(rustup_toolchain(target)),
                Err(why) => tried.push(format!("  rustup target add: {why}")),
            }
            let installed = if install {
                install_debian(progress)
            } else {
                Err(absent)
            };
            match installed.and_then(|()| debian_toolchain()) {
                Ok(toolchain) => return Ok(toolchain),
                Err(why) => tried.push(format!("  Debian's compiler: {why}")),
            }
        }
    }
    Err(BuildError::NoTarget { tried })
}

fn rustup_toolchain(target: &'static str) -> Toolchain {
    Toolchain {
        cargo: "cargo".into(),
        target,
        arguments: Vec::new(),
        environment: Vec::new(),
        name: format!("the active Rust toolchain, target {target}"),
    }
}

fn installed_target() -> Result<&'static str, String> {
    let output = scrubbed("rustc").args(["--print", "sysroot"]).output();
    let output = output.map_err(|error| format!("rustc cannot be run: {error}"))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let libraries = sysroot.join("lib").join("rustlib");
    let found = TARGETS
        .into_iter()
        .find(|target| libraries.join(target).join("lib").is_dir());
    found.ok_or_else(|| format!("it has none of {}", TARGETS.join(", ")))
}

fn add_target(progress: &mut dyn FnMut(&str)) -> Result<&'static str, String> {
    if !on_path("rustup") {
        return Err("there is no rustup".to_owned());
    }
    let target = TARGETS[0];
    progress(&format!("rustup target add {target}"));
    let child = scrubbed("rustup")
        .args(["target", "add", target])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(target),
            Ok(Some(status)) => return Err(format!("it ended with {status}: offline?")),
            Ok(None) if started.elapsed() < RUSTUP => std::thread::sleep(Duration::from_millis(50)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it took longer than {} s", RUSTUP.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn debian_toolchain() -> Result<Toolchain, String> {
    if !Path::new(DEBIAN_RUSTC).exists() || !Path::new(DEBIAN_CARGO).exists() {
        return Err(
            "rustc-web and cargo-web are not installed (apt-get install rustc-web cargo-web \
             rust-web-src wasi-libc, and the lld of the same LLVM)"
                .to_owned(),
        );
    }
    let version = Command::new(DEBIAN_RUSTC)
        .arg("-vV")
        .output()
        .map_err(|error| error.to_string())?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "));
    let llvm = llvm
        .and_then(|llvm| llvm.split('.').next())
        .unwrap_or_default();
    let sysroot = Command::new(DEBIAN_RUSTC)
        .args(["--print", "sysroot"])
        .output();
    let sysroot = sysroot.map_err(|error| error.to_string())?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    if !sysroot.join("lib/rustlib/src/rust/library/std").exists() {
        return Err(
            "the sources of the standard library are missing (apt-get install rust-web-src)"
                .to_owned(),
        );
    }
    if !on_path(&format!("wasm-ld-{llvm}")) && !on_path("wasm-ld") && !on_path("rust-lld") {
        return Err(format!(
            "the linker is missing (apt-get install lld-{llvm})"
        ));
    }
    let libc = Path::new("/usr/lib/wasm32-wasi");
    if !libc.exists() {
        return Err("the C library is missing (apt-get install wasi-libc)".to_owned());
    }
    let release = version.lines().next().unwrap_or("rustc").to_owned();
    Ok(Toolchain {
        cargo: DEBIAN_CARGO.into(),
        target: "wasm32-wasip1",
        arguments: vec!["-Zbuild-std=std,panic_abort".to_owned()],
        environment: vec![
            ("RUSTC".to_owned(), DEBIAN_RUSTC.to_owned()),
            ("RUSTC_BOOTSTRAP".to_owned(), "1".to_owned()),
            (
                "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS".to_owned(),
                format!("-L native={}", libc.display()),
            ),
        ],
        name: format!("Debian's {release}, target wasm32-wasip1"),
    })
}

fn install_debian(progress: &mut dyn FnMut(&str)) -> Result<(), String> {
    if !on_path("apt-get") {
        return Err("there is no apt-get".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Err("only root may install it".to_owned());
    }
    let apt = |arguments: &[&str]| {
        let output = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    };
    progress("installing Debian's compiler for WebAssembly (apt-get, half a minute)");
    apt(&["update", "-q"])?;
    apt(&[
        "install",
        "-qy",
        "--no-install-recommends",
        "rustc-web",
        "cargo-web",
        "rust-web-src",
        "wasi-libc",
    ])?;
    let version = Command::new(DEBIAN_RUSTC)
        .arg("-vV")
        .output()
        .map_err(|error| error.to_string())?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
        .unwrap_or_default();
    let llvm = llvm.split('.').next().unwrap_or_default().to_owned();
    progress(&format!("installing lld-{llvm}"));
    apt(&[
        "install",
        "-qy",
        "--no-install-recommends",
        &format!("lld-{llvm}"),
    ])
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
