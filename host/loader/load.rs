//! One file made a handler: read, compiled, checked and kept.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::Component;

use super::compiler::Source;
use super::component::Fault;
use super::directory::Candidate;
use super::files::{self, Unreadable};
use super::{Check, Digest, Handler, Loader, Origin, Problem, compiled, component, manifest};
use crate::limits::{self, Manifest};
use crate::task::check_handler_name;

/// A component that nobody removes for as long as this lives.
pub struct InUse<'l> {
    loader: &'l Loader,
    digest: Digest,
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        let mut state = self.loader.state();
        if let Some(users) = state.in_use.get_mut(&self.digest) {
            *users -= 1;
            if *users == 0 {
                state.in_use.remove(&self.digest);
            }
        }
    }
}

/// Components that are being loaded, and by how many.
pub type Users = HashMap<Digest, usize>;

impl Loader {
    /// Load a file of the directory, whatever is in it.
    pub(super) fn load_candidate(
        &self,
        candidate: &Candidate,
    ) -> Result<(Handler, InUse<'_>), Problem> {
        let Candidate {
            name,
            file,
            manifest,
            ..
        } = candidate;
        let load = || self.load(name, file, manifest.as_deref());
        // A file that makes a parser panic is one bad file more.
        catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| {
            Err(Problem {
                file: file.clone(),
                what: "it is damaged in a way that no parser expects".to_owned(),
                hint: "build it again".to_owned(),
                of_machine: false,
            })
        })
    }

    /// Load a file. What it is kept by stays for as long as the answer is held, or it is loaded.
    pub(super) fn load(
        &self,
        name: &str,
        file: &Path,
        manifest_file: Option<&Path>,
    ) -> Result<(Handler, InUse<'_>), Problem> {
        let (manifest, manifest_text) = read_manifest(manifest_file, &self.base())?;
        let bytes = component::read(file)?;
        let digest = Digest::of(&bytes);
        let in_use = self.using(&digest);
        let (component, origin) = self
            .compiled
            .get_or_compile(&self.engine, &digest, Source::new(file, &bytes))
            .map_err(|problem| problem.at(file))?;
        let mut handler = component::handler(
            &self.check,
            name,
            file,
            &bytes,
            digest,
            manifest,
            component,
            origin,
        )?;
        self.keep
            .keep_manifest(&handler.digest, name, manifest_text.as_deref())
            .and_then(|()| self.keep.keep_component(&handler.digest, &bytes))
            .map_err(|error| Problem {
                file: file.to_owned(),
                what: format!("it cannot be kept: {error}"),
                hint: "make room in the data directory".to_owned(),
                of_machine: true,
            })?;
        handler.manifest_text = manifest_text.map(Arc::from);
        Ok((handler, in_use))
    }

    fn using(&self, digest: &Digest) -> InUse<'_> {
        let mut state = self.state();
        *state.in_use.entry(digest.clone()).or_default() += 1;
        InUse {
            loader: self,
            digest: digest.clone(),
        }
    }
}

impl Loader {
    /// Look at one file that is not loaded, as a host would that loads it. What it is compiled to is kept for the
    /// time when it is: see [`Loader::forget_code`].
    pub fn examine(&self, file: &Path) -> Result<Handler, Problem> {
        let mut compiled = None;
        let looked = check_file_by(&self.check, file, |digest, source| {
            compiled = Some((digest.clone(), self.using(digest)));
            self.compiled.get_or_compile(&self.engine, digest, source)
        });
        if let (Err(_), Some((digest, in_use))) = (&looked, compiled) {
            drop(in_use);
            self.forget_code(&digest);
        }
        looked
    }

    /// Remove the code of a component that was looked at and is not loaded after all. What somebody loads or
    /// goes on with stays.
    pub fn forget_code(&self, digest: &Digest) {
        let state = self.state();
        if !state.uses(digest) && self.keep.find(digest).is_none() {
            self.compiled.remove(digest);
        }
    }
}

/// Look at one file without a host: for `handler check` and `handler describe`.
pub fn check_file(engine: &Engine, check: &Check, file: &Path) -> Result<Handler, Problem> {
    check_file_by(check, file, |_, source| {
        let started = std::time::Instant::now();
        let compiled = compiled::compile(engine, source).map_err(|trouble| trouble.fault())?;
        let origin = Origin::Compiled(started.elapsed().as_millis() as u64);
        Ok((compiled, origin))
    })
}

fn check_file_by(
    check: &Check,
    file: &Path,
    compile: impl FnOnce(&Digest, Source<'_>) -> Result<(Component, Origin), Fault>,
) -> Result<Handler, Problem> {
    let name = file
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let hint = |what: String, hint: &str| Problem {
        file: file.to_owned(),
        what,
        hint: hint.to_owned(),
        of_machine: false,
    };
    check_handler_name(&name).map_err(|what| hint(what, "rename the file"))?;
    let beside = file.with_extension("toml");
    let base = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let base = base.canonicalize().unwrap_or_else(|_| base.to_owned());
    let (manifest, _) = read_manifest(
        Some(&beside)
            .filter(|path| path.symlink_metadata().is_ok())
            .map(|path| &**path),
        &base,
    )?;
    let bytes = component::read(file)?;
    let digest = Digest::of(&bytes);
    let (compiled, origin) =
        compile(&digest, Source::new(file, &bytes)).map_err(|fault| fault.at(file))?;
    component::handler(
        check, &name, file, &bytes, digest, manifest, compiled, origin,
    )
}

fn read_manifest(file: Option<&Path>, base: &Path) -> Result<(Manifest, Option<String>), Problem> {
    let Some(file) = file else {
        return Ok((Manifest::default(), None));
    };
    let problem = |what: String, hint: String| Problem {
        file: file.to_owned(),
        what,
        hint,
        of_machine: false,
    };
    let bytes = files::read(file, limits::MANIFEST_BYTES_MAX).map_err(|error| match error {
        Unreadable::TooLarge { bytes, most } => problem(
            format!("it has {bytes} bytes, more than the {most} that a manifest may have"),
            "put data into files, and grant the handler their directory".to_owned(),
        ),
        other => Problem {
            of_machine: matches!(other, Unreadable::Io(_)),
            ..problem(other.to_string(), other.hint().to_owned())
        },
    })?;
    let text = String::from_utf8(bytes).map_err(|_| {
        problem(
            "it is not UTF-8 text".to_owned(),
            "save it as UTF-8".to_owned(),
        )
    })?;
    let manifest = manifest::parse(&text, base).map_err(|error| problem(error.what, error.hint))?;
    Ok((manifest, Some(text)))
}
