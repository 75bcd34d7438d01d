//! The tools of other languages, installed once for each user.
//!
//! Called by the languages of this room. Each tool lies in a directory of its own below the cache,
//! named by tool and version; a file in it says that it is whole. What was interrupted is made anew, and what
//! can be moved is made under another name first. Nothing outside the cache is changed.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::command::{command, on_path, run, words};
use super::{BuildError, io};

/// Says that a tool's directory is whole.
const WHOLE: &str = "fishway-installed";

/// Where tools are, and whether more may come.
pub struct Tools<'a> {
    cache_dir: Option<&'a Path>,
    install: bool,
    /// Hears what is being done.
    pub progress: &'a mut dyn FnMut(&str),
}

impl<'a> Tools<'a> {
    /// Tools in `cache_dir`; `None`: in the user's own cache.
    pub fn of(
        cache_dir: Option<&'a Path>,
        install: bool,
        progress: &'a mut dyn FnMut(&str),
    ) -> Tools<'a> {
        Tools {
            cache_dir,
            install,
            progress,
        }
    }

    /// A directory of the cache that a tool may fill as it likes; made when absent.
    pub fn scratch(&self, name: &str) -> Result<PathBuf, BuildError> {
        let cache_dir = match self.cache_dir {
            Some(directory) => directory.to_owned(),
            None => user_cache_dir()?,
        };
        let directory = cache_dir.join(name);
        std::fs::create_dir_all(&directory).map_err(|error| io(&directory, &error))?;
        Ok(directory)
    }

    /// The directory of a tool, which `make` fills when it is not there. It is filled where it stays, for tools
    /// that know their own place.
    pub fn tool(
        &mut self,
        tool: &str,
        make: impl FnOnce(&Path) -> Result<(), BuildError>,
    ) -> Result<PathBuf, BuildError> {
        self.made(tool, tool, make)
    }

    /// The same for a tool that can be moved: it is filled under another name, and gets its own when it is whole.
    pub fn movable(
        &mut self,
        tool: &str,
        make: impl FnOnce(&Path) -> Result<(), BuildError>,
    ) -> Result<PathBuf, BuildError> {
        self.made(tool, &format!("{tool}.partial"), make)
    }

    /// Let a tool be made anew the next time: it is not what it should be.
    pub fn forget(&self, tool: &str) -> Result<(), BuildError> {
        let whole = self.scratch("tools")?.join(tool).join(WHOLE);
        match std::fs::remove_file(&whole) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&whole, &error)),
            _ => Ok(()),
        }
    }

    fn made(
        &mut self,
        tool: &str,
        name: &str,
        make: impl FnOnce(&Path) -> Result<(), BuildError>,
    ) -> Result<PathBuf, BuildError> {
        let tools = self.scratch("tools")?;
        let directory = tools.join(tool);
        let whole = directory.join(WHOLE);
        if whole.exists() {
            return Ok(directory);
        }
        if !self.install {
            return Err(BuildError::Missing {
                what: format!("{tool} is not in {}", tools.display()),
                why: "installing was not allowed".to_owned(),
                hint: "leave out --no-install once".to_owned(),
            });
        }
        let path = tools.join(format!("{tool}.lock"));
        let lock = File::create(&path).map_err(|error| io(&path, &error))?;
        lock.lock().map_err(|error| io(&path, &error))?;
        // Somebody else may have made it meanwhile.
        if whole.exists() {
            return Ok(directory);
        }
        let place = tools.join(name);
        for old in [&place, &directory] {
            if old.exists() {
                std::fs::remove_dir_all(old).map_err(|error| io(old, &error))?;
            }
        }
        std::fs::create_dir_all(&place).map_err(|error| io(&place, &error))?;
        (self.progress)(&format!("installing {tool} into {}", tools.display()));
        make(&place)?;
        let made = place.join(WHOLE);
        std::fs::write(&made, "").map_err(|error| io(&made, &error))?;
        if place != directory {
            std::fs::rename(&place, &directory).map_err(|error| io(&directory, &error))?;
        }
        Ok(directory)
    }

    /// A package of PyPI in a virtual environment of its own: the directory of its programs.
    pub fn python_package(&mut self, package: &str, version: &str) -> Result<PathBuf, BuildError> {
        let what = format!("{package} {version}");
        let directory = self.tool(&format!("{package}-{version}"), |directory| {
            let python = ["python3", "python"].into_iter().find(|one| on_path(one));
            let Some(python) = python else {
                return Err(missing(
                    &what,
                    "there is no Python",
                    "install Python 3.10 or newer",
                ));
            };
            let hint = "Python's venv is needed and the package index within reach; on Debian: apt-get install python3-venv";
            step(
                &what,
                hint,
                command(python).args(["-m", "venv"]).arg(directory),
            )?;
            let mut pip = command(directory.join("bin").join("python"));
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                .arg(format!("{package}=={version}"));
            step(&what, hint, &mut pip)
        })?;
        Ok(directory.join("bin"))
    }
}

/// Run one step of an installation.
pub fn step(what: &str, hint: &str, command: &mut std::process::Command) -> Result<(), BuildError> {
    let output = run(command).map_err(|error| missing(what, &error.to_string(), hint))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(missing(what, &format!("\n{}", words(&output)), hint)),
    }
}

/// The error of what cannot be installed.
pub fn missing(what: &str, why: &str, hint: &str) -> BuildError {
    BuildError::Missing {
        what: format!("{what} cannot be installed"),
        why: why.to_owned(),
        hint: hint.to_owned(),
    }
}

fn user_cache_dir() -> Result<PathBuf, BuildError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let directory = variable("FISHWAY_CACHE")
        .map(PathBuf::from)
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| PathBuf::from(cache).join("fishway")))
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache/fishway")));
    let directory = directory.ok_or_else(|| BuildError::Missing {
        what: "there is no place for tools".to_owned(),
        why: "neither HOME nor XDG_CACHE_HOME is set".to_owned(),
        hint: "set FISHWAY_CACHE to a directory".to_owned(),
    })?;
    std::path::absolute(&directory).map_err(|error| io(&directory, &error))
}
