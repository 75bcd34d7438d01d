//! Builds handler projects with the tools of their own language.
//!
//! Called by `fishway build`, `new` and `dev` and by the demo. It runs compilers and copies files; it
//! neither loads nor runs what they make.

mod c;
mod command;
mod contract;
pub mod examples;
mod go;
mod javascript;
pub mod language;
pub mod project;
mod python;
mod rust;
mod stamp;
mod tools;
pub mod watch;

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub use self::language::Language;
use self::tools::Tools;
use crate::task::check_handler_name;

/// What to build, and where to put it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The project of one of the languages, or a directory with several of them.
    pub project: PathBuf,
    /// Where the handlers go; made when absent.
    pub out_dir: PathBuf,
    /// Where the compiler works; `None`: `target/fishway` in the project.
    pub target_dir: Option<PathBuf>,
    /// Where tools are installed; `None`: the user's own cache.
    pub cache_dir: Option<PathBuf>,
    /// Whether missing compilers and tools may be installed: for Rust by rustup or apt-get, for the
    /// others into the cache.
    pub install: bool,
}

/// A handler that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Its name.
    pub name: String,
    /// The component or module.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// What a build has done.
#[derive(Debug, Clone)]
pub struct Report {
    /// The handlers, by name.
    pub built: Vec<Built>,
    /// What compiled them, for people.
    pub toolchain: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// It is no project of a language that we know.
    #[error("{} is not a handler project: {why}", project.display())]
    NoProject {
        /// The directory.
        project: PathBuf,
        /// What is missing.
        why: String,
    },
    /// A tool cannot be run.
    #[error("{tool} cannot be run: {why}")]
    NoTool {
        /// The tool.
        tool: String,
        /// What the system says.
        why: String,
    },
    /// A tool is missing, and cannot be had.
    #[error("{what}: {why}")]
    Missing {
        /// What is missing.
        what: String,
        /// Why it cannot be had.
        why: String,
        /// What to do.
        hint: String,
    },
    /// Two projects would make one handler.
    #[error("two projects make a handler named {name}: {} and {}", projects[0].display(), projects[1].display())]
    SameName {
        /// The name that they share.
        name: String,
        /// Where they are.
        projects: [PathBuf; 2],
    },
    /// No compiler for WebAssembly can be had. Names every way that was tried.
    #[error("there is no way to compile Rust to WebAssembly here:\n{}", tried.join("\n"))]
    NoTarget {
        /// Each way, and why it failed.
        tried: Vec<String>,
    },
    /// Two packages would be compiled to one file.
    #[error("{} has two libraries named {library}: those of {} and {}", project.display(), packages[0], packages[1])]
    SameLibrary {
        /// The project.
        project: PathBuf,
        /// The name that they share.
        library: String,
        /// Whose they are.
        packages: [String; 2],
    },
    /// The compiler says no.
    #[error("{} does not compile:\n{}", project.display(), output.trim_end())]
    Compile {
        /// The project.
        project: PathBuf,
        /// What the compiler says.
        output: String,
    },
    /// A file cannot be written.
    #[error("{}: {why}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
}

impl BuildError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            BuildError::NoProject { .. } => Some(
                "fishway new NAME --lang rust|js|ts|python|c|go makes one; in Rust it is a Cargo.toml whose \
                 [lib] has crate-type = [\"cdylib\"]"
                    .to_owned(),
            ),
            BuildError::Missing { hint, .. } => Some(hint.clone()),
            BuildError::SameName { .. } => {
                Some("give one of them another name in its project file".to_owned())
            }
            BuildError::NoTool { tool, .. } if !tool.contains("cargo") => {
                Some(format!("install {tool}, or put it on the PATH"))
            }
            BuildError::NoTool { .. } => Some("install Rust from https://rustup.rs".to_owned()),
            BuildError::NoTarget { .. } => Some(
                "install Rust from https://rustup.rs and run rustup target add wasm32-wasip2, or on \
                 Debian, as root: apt-get install rustc-web cargo-web rust-web-src wasi-libc, and \
                 the lld of the LLVM that /usr/bin/rustc -vV names"
                    .to_owned(),
            ),
            BuildError::SameLibrary { .. } => Some(
                "leave out `name` below [lib], and each library has its package's name".to_owned(),
            ),
            BuildError::Compile { .. } | BuildError::Io { .. } => None,
        }
    }
}

/// Build every handler of a project. `progress` hears what is being done, a line at a time.
pub fn build(request: &Request, progress: &mut dyn FnMut(&str)) -> Result<Report, BuildError> {
    let started = std::time::Instant::now();
    // The compiler works in the project, where a relative path would mean another place.
    let absolute = |path: &PathBuf| std::path::absolute(path).map_err(|error| io(path, &error));
    let request = &Request {
        project: absolute(&request.project)?,
        out_dir: absolute(&request.out_dir)?,
        target_dir: request.target_dir.as_ref().map(absolute).transpose()?,
        cache_dir: request.cache_dir.as_ref().map(absolute).transpose()?,
        install: request.install,
    };
    let mut built: Vec<(PathBuf, Built)> = Vec::new();
    let mut toolchains: Vec<String> = Vec::new();
    for (language, project) in language::projects(&request.project)? {
        let (handlers, toolchain) = build_one(language, &project, request, progress)?;
        for handler in handlers {
            if let Some((other, _)) = built.iter().find(|(_, one)| one.name == handler.name) {
                return Err(BuildError::SameName {
                    name: handler.name,
                    projects: [other.clone(), project],
                });
            }
            built.push((project.clone(), handler));
        }
        if !toolchains.contains(&toolchain) {
            toolchains.push(toolchain);
        }
    }
    let mut built: Vec<Built> = built.into_iter().map(|(_, built)| built).collect();
    built.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Report {
        built,
        toolchain: toolchains.join(", "),
        took_ms: started.elapsed().as_millis() as u64,
    })
}

/// Build one project, and put its handlers in their place.
fn build_one(
    language: Language,
    project: &Path,
    request: &Request,
    progress: &mut dyn FnMut(&str),
) -> Result<(Vec<Built>, String), BuildError> {
    let target_dir = match &request.target_dir {
        Some(directory) => directory.clone(),
        None => project.join("target").join("fishway"),
    };
    // Held until the handlers are copied: another build may write the files that are copied here.
    let _lock = lock(&target_dir, progress)?;
    let tools = &mut Tools::of(request.cache_dir.as_deref(), request.install, progress);
    let one = |(artifact, toolchain)| (vec![artifact], toolchain);
    let (artifacts, toolchain) = match language {
        Language::Rust => {
            let request = Request {
                project: project.to_owned(),
                ..request.clone()
            };
            rust::compile(&request, &target_dir, tools.progress)?
        }
        Language::JavaScript | Language::TypeScript => {
            one(javascript::build(language, project, &target_dir, tools)?)
        }
        Language::Python => one(python::build(project, &target_dir, tools)?),
        Language::C => one(c::build(project, &target_dir, tools)?),
        Language::Go => one(go::build(project, &target_dir, tools)?),
    };
    std::fs::create_dir_all(&request.out_dir).map_err(|error| io(&request.out_dir, &error))?;
    let mut built = Vec::new();
    for artifact in artifacts {
        check_name(project, &artifact.name)?;
        let template = artifact.package.join("handler.toml");
        // First, or a host that watches the directory loads the handler without its grants.
        if template.is_file() {
            let manifest = request.out_dir.join(format!("{}.toml", artifact.name));
            copy_unless_there(&template, &manifest)?;
        }
        let path = request.out_dir.join(format!("{}.wasm", artifact.name));
        let bytes = copy(&artifact.module, &path)?;
        built.push(Built {
            name: artifact.name,
            path,
            bytes,
        });
    }
    Ok((built, toolchain))
}

/// A module that a compiler made.
struct Artifact {
    name: String,
    package: PathBuf,
    module: PathBuf,
}

/// A name that a host would not load is refused before anything is built or copied.
fn check_name(project: &Path, name: &str) -> Result<(), BuildError> {
    check_handler_name(name).map_err(|why| BuildError::NoProject {
        project: project.to_owned(),
        why,
    })
}

/// Where the tools of a language work on a project of that name.
fn place(target_dir: &Path, language: &str, name: &str) -> Result<PathBuf, BuildError> {
    check_name(Path::new(name), name)?;
    let directory = target_dir.join(language).join(name);
    std::fs::create_dir_all(&directory).map_err(|error| io(&directory, &error))?;
    Ok(directory)
}

/// One build at a time in a target directory, in this process or another.
fn lock(target_dir: &Path, progress: &mut dyn FnMut(&str)) -> Result<File, BuildError> {
    std::fs::create_dir_all(target_dir).map_err(|error| io(target_dir, &error))?;
    let path = target_dir.join("fishway.lock");
    let file = File::create(&path).map_err(|error| io(&path, &error))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => progress("waiting for another build of this project"),
        Err(TryLockError::Error(error)) => return Err(io(&path, &error)),
    }
    file.lock().map_err(|error| io(&path, &error))?;
    Ok(file)
}

/// Write a file, and the directories that it lies in; one that is the same stays untouched, so that
/// nothing is compiled anew for it.
fn write_if_changed(file: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    if std::fs::read(file).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory).map_err(|error| io(directory, &error))?;
    }
    std::fs::write(file, bytes).map_err(|error| io(file, &error))
}

/// Copy a file so that it is either not there or whole; one that is the same stays untouched.
fn copy(from: &Path, to: &Path) -> Result<u64, BuildError> {
    let bytes = std::fs::read(from).map_err(|error| io(from, &error))?;
    if std::fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(bytes.len() as u64);
    }
    beside(to, &bytes, |temporary| std::fs::rename(temporary, to))?;
    Ok(bytes.len() as u64)
}

/// The same, but a file that lies there is its user's, and stays as it is.
fn copy_unless_there(from: &Path, to: &Path) -> Result<(), BuildError> {
    let bytes = std::fs::read(from).map_err(|error| io(from, &error))?;
    // Not a look and then a rename: the user may write the file between the two.
    beside(to, &bytes, |temporary| {
        match std::fs::hard_link(temporary, to) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    })
}

/// Write a temporary file next to where it will be, and put it there; nothing of it is left over.
fn beside(
    to: &Path,
    bytes: &[u8],
    put: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), BuildError> {
    // Threads of one process build, too.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let temporary = to.with_file_name(format!(".{name}.{}-{count}", std::process::id()));
    let done = std::fs::write(&temporary, bytes).and_then(|()| put(&temporary));
    // Renamed, it is gone already.
    let _ = std::fs::remove_file(&temporary);
    done.map_err(|error| io(to, &error))
}

fn io(path: &Path, error: &std::io::Error) -> BuildError {
    BuildError::Io {
        path: path.to_owned(),
        why: error.to_string(),
    }
}
