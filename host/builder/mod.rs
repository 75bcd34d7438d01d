//! Builds handler projects with the tools of their own language.
//!
//! Called by `fishway build` and by the demo. It runs compilers and copies files; it neither loads
//! nor runs what they make.

pub mod examples;
mod rust;

use std::path::{Path, PathBuf};

/// What to build, and where to put it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The project: a directory with a `Cargo.toml`, of one package or of a workspace.
    pub project: PathBuf,
    /// Where the handlers go; made when absent.
    pub out_dir: PathBuf,
    /// Where the compiler works; `None`: `target/fishway` in the project.
    pub target_dir: Option<PathBuf>,
    /// Whether a missing compiler may be installed.
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
    /// No compiler for WebAssembly can be had. Names every way that was tried.
    #[error("there is no way to compile Rust to WebAssembly here:\n{}", tried.join("\n"))]
    NoTarget {
        /// Each way, and why it failed.
        tried: Vec<String>,
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
                "name a directory with a Cargo.toml whose [lib] has crate-type = [\"cdylib\"]"
                    .to_owned(),
            ),
            BuildError::NoTool { .. } => Some("install Rust from https://rustup.rs".to_owned()),
            BuildError::NoTarget { .. } => Some("rustup target add wasm32-wasip2".to_owned()),
            BuildError::Compile { .. } | BuildError::Io { .. } => None,
        }
    }
}

/// Build every handler of a project. `progress` hears what is being done, a line at a time.
pub fn build(request: &Request, progress: &mut dyn FnMut(&str)) -> Result<Report, BuildError> {
    let started = std::time::Instant::now();
    if !request.project.join("Cargo.toml").is_file() {
        let why = "it has no Cargo.toml".to_owned();
        return Err(BuildError::NoProject {
            project: request.project.clone(),
            why,
        });
    }
    // The compiler works in the project, where a relative path would mean another place.
    let absolute = |path: &PathBuf| std::path::absolute(path).map_err(|error| io(path, &error));
    let request = &Request {
        project: absolute(&request.project)?,
        out_dir: absolute(&request.out_dir)?,
        target_dir: request.target_dir.as_ref().map(absolute).transpose()?,
        install: request.install,
    };
    let (artifacts, toolchain) = rust::compile(request, progress)?;
    std::fs::create_dir_all(&request.out_dir).map_err(|error| io(&request.out_dir, &error))?;
    let mut built = Vec::new();
    for artifact in artifacts {
        let path = request.out_dir.join(format!("{}.wasm", artifact.name));
        let bytes = copy(&artifact.module, &path)?;
        let manifest = request.out_dir.join(format!("{}.toml", artifact.name));
        let template = artifact.package.join("handler.toml");
        // A manifest that lies there is its user's; what was built last is not asked.
        if template.is_file() && !manifest.exists() {
            copy(&template, &manifest)?;
        }
        built.push(Built {
            name: artifact.name,
            path,
            bytes,
        });
    }
    built.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Report {
        built,
        toolchain,
        took_ms: started.elapsed().as_millis() as u64,
    })
}

/// A module that a compiler made.
struct Artifact {
    name: String,
    package: PathBuf,
    module: PathBuf,
}

/// Copy a file so that it is either not there or whole; one that is the same stays untouched.
fn copy(from: &Path, to: &Path) -> Result<u64, BuildError> {
    let bytes = std::fs::read(from).map_err(|error| io(from, &error))?;
    if std::fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(bytes.len() as u64);
    }
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let temporary = to.with_file_name(format!(".{name}.{}", std::process::id()));
    std::fs::write(&temporary, &bytes)
        .and_then(|()| std::fs::rename(&temporary, to))
        .map_err(|error| io(to, &error))?;
    Ok(bytes.len() as u64)
}

fn io(path: &Path, error: &std::io::Error) -> BuildError {
    BuildError::Io {
        path: path.to_owned(),
        why: error.to_string(),
    }
}
