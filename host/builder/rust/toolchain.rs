//! Finds a compiler of Rust to WebAssembly.
//!
//! Three ways: a WebAssembly target that the active toolchain has, one that rustup can add, and
//! Debian's compiler, which brings the sources of the standard library and builds it. What is there
//! is taken before anything is installed, and nothing is installed unless that was allowed: both
//! rustup and apt-get change the machine for everyone who uses it. In `wasm32-unknown-unknown` neither `println!` nor
//! files nor `std::env` do anything, without a word: it is taken only where nothing else can be had, and that is said.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{on_path, scrubbed};
use crate::builder::BuildError;

/// Targets of a toolchain with the whole standard library, best first.
const TARGETS: [&str; 2] = ["wasm32-wasip2", "wasm32-wasip1"];

/// The target whose standard library has no access to the outside.
const BARE: &str = "wasm32-unknown-unknown";

/// What rustup is given to fetch a target; offline it would try for minutes.
const RUSTUP: Duration = Duration::from_secs(60);

/// Debian's compiler, next to which rustup's may be installed.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
pub const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// Debian's packages, but for the linker, which is the one of the compiler's LLVM.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "wasi-libc"];

/// The C library that the standard library is linked with.
const DEBIAN_LIBC: &str = "/usr/lib/wasm32-wasi";

/// How to call the compiler.
pub struct Toolchain {
    pub cargo: PathBuf,
    pub target: &'static str,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// For people.
    pub name: String,
}

/// The first way that works for this project, or why none does.
pub fn find(
    project: &Path,
    install: bool,
    progress: &mut dyn FnMut(&str),
) -> Result<Toolchain, BuildError> {
    let mut tried = Vec::new();
    match installed_target(project, &TARGETS) {
        Ok(target) => return Ok(active(target)),
        Err(why) => tried.push(format!("  a target of the active toolchain: {why}")),
    }
    let absent = match debian() {
        Ok(toolchain) => return Ok(toolchain),
        Err(absent) => absent,
    };
    let bare = installed_target(project, &[BARE]);
    let (added, installed) = if install {
        match add_target(project, progress) {
            Ok(target) => return Ok(active(target)),
            // Do not install a second compiler if there is a suitable one.
            Err(why) if bare.is_ok() => (why.clone(), Err(why)),
            Err(why) => (why, install_debian(progress).and_then(|()| debian())),
        }
    } else {
        let why = "installing was not allowed".to_owned();
        (why.clone(), Err(format!("{absent}; {why}")))
    };
    if let (Ok(target), Err(_)) = (bare, &installed) {
        progress(&format!(
            "there is only the target {target} ({added}): println!, files and environment variables do nothing in \
             these handlers. Install {} with: rustup target add {}",
            TARGETS[0], TARGETS[0]
        ));
        return Ok(active(target));
    }
    tried.push(format!("  rustup target add {}: {added}", TARGETS[0]));
    installed.map_err(|why| {
        tried.push(format!("  Debian's compiler: {why}"));
        BuildError::NoTarget { tried }
    })
}

fn active(target: &'static str) -> Toolchain {
    Toolchain {
        cargo: "cargo".into(),
        target,
        arguments: Vec::new(),
        environment: Vec::new(),
        name: format!("the active Rust toolchain, target {target}"),
    }
}

/// The first of these targets in the toolchain that is active for the project; a project may choose its own toolchain.
fn installed_target(project: &Path, targets: &[&'static str]) -> Result<&'static str, String> {
    let sysroot = sysroot(scrubbed("rustc").current_dir(project))?;
    let libraries = sysroot.join("lib").join("rustlib");
    let found = targets
        .iter()
        .find(|target| libraries.join(target).join("lib").is_dir());
    found
        .copied()
        .ok_or_else(|| format!("it has none of {}", targets.join(", ")))
}

fn add_target(project: &Path, progress: &mut dyn FnMut(&str)) -> Result<&'static str, String> {
    if !on_path("rustup") {
        return Err("there is no rustup".to_owned());
    }
    let target = TARGETS[0];
    progress(&format!(
        "installing the target {target} (rustup target add)"
    ));
    let mut child = scrubbed("rustup")
        .args(["target", "add", target])
        .current_dir(project)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let stderr = child.stderr.take();
    // Read aside, so that neither a full pipe nor a silent one holds up the clock below.
    let said = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stderr.map(|mut stderr| stderr.read_to_end(&mut bytes));
        bytes
    });
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if started.elapsed() > RUSTUP {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it took longer than {} s", RUSTUP.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if status.success() {
        return Ok(target);
    }
    Err(complaint(&said.join().unwrap_or_default()))
}

fn debian() -> Result<Toolchain, String> {
    if !Path::new(DEBIAN_RUSTC).exists() || !Path::new(DEBIAN_CARGO).exists() {
        let packages = DEBIAN_PACKAGES.join(" ");
        return Err(format!("{packages} and the lld of their LLVM are missing"));
    }
    let sysroot = sysroot(&mut Command::new(DEBIAN_RUSTC))?;
    if !sysroot.join("lib/rustlib/src/rust/library/std").exists() {
        return Err("rust-web-src, the standard library's sources, is missing".to_owned());
    }
    let version = debian_version()?;
    let llvm = linker(&version);
    // The compiler calls it rust-lld, a name that only a package which it recommends brings.
    let linkers = [
        "rust-lld".to_owned(),
        format!("wasm-ld-{llvm}"),
        "wasm-ld".to_owned(),
    ];
    let Some(linker) = linkers.into_iter().find(|linker| on_path(linker)) else {
        return Err(format!("lld-{llvm}, the linker, is missing"));
    };
    if !Path::new(DEBIAN_LIBC).exists() {
        return Err("wasi-libc, the C library, is missing".to_owned());
    }
    let release = version.lines().next().unwrap_or("rustc").to_owned();
    Ok(Toolchain {
        cargo: DEBIAN_CARGO.into(),
        target: "wasm32-wasip1",
        arguments: vec!["-Zbuild-std=std,panic_abort".to_owned()],
        environment: vec![
            ("RUSTC".to_owned(), DEBIAN_RUSTC.to_owned()),
            // Building the standard library is a feature of nightly compilers.
            ("RUSTC_BOOTSTRAP".to_owned(), "1".to_owned()),
            ("CARGO_TARGET_WASM32_WASIP1_LINKER".to_owned(), linker),
            (
                "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS".to_owned(),
                format!("-L native={DEBIAN_LIBC}"),
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
    let packages = DEBIAN_PACKAGES.join(" ");
    progress(&format!("installing {packages} (apt-get, half a minute)"));
    apt(&["update", "-q"])?;
    apt(&[&INSTALL[..], &DEBIAN_PACKAGES[..]].concat())?;
    let linker = format!("lld-{}", linker(&debian_version()?));
    progress(&format!("installing {linker}"));
    apt(&[&INSTALL[..], &[linker.as_str()]].concat())
}

const INSTALL: [&str; 3] = ["install", "-qy", "--no-install-recommends"];

fn apt(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env_remove(crate::secrets::KEY_VARIABLE)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(complaint(&output.stderr))
}

fn sysroot(rustc: &mut Command) -> Result<PathBuf, String> {
    let output = rustc.args(["--print", "sysroot"]).output();
    let output = output.map_err(|error| format!("rustc cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(complaint(&output.stderr));
    }
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

fn debian_version() -> Result<String, String> {
    let output = Command::new(DEBIAN_RUSTC).arg("-vV").output();
    let output = output.map_err(|error| format!("{DEBIAN_RUSTC} cannot be run: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number of the LLVM that a compiler's `-vV` names; its linker has to be of the same.
fn linker(version: &str) -> &str {
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "));
    llvm.and_then(|llvm| llvm.split('.').next())
        .unwrap_or_default()
}

/// What a tool has complained of, in one line.
fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().find(|line| line.starts_with("error:") || line.starts_with("E:"));
    let line = error.or_else(|| lines().next_back());
    line.unwrap_or("it failed without a word").to_owned()
}
