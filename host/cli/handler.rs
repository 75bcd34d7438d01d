mod functions;
mod loaded;
mod published;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::loaded::Loaded;
use super::view::bytes;
use super::{Done, Global, Refused, print_json, print_line, print_text, remark};
use crate::executor::Sandbox;
use crate::loader::{self, Handler, Problem, Refusals, links};
use crate::remote::Remote;
use crate::wire;

/// Look at handlers
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List the handlers of a directory, and what is wrong in it
    ///
    /// When a host serves the directory, the list shows the handlers that this host has loaded. In any other
    /// directory, each file is checked.
    List {
        /// Directory of the handlers [default: the one that was served last, or handlers]
        #[arg(value_name = "HANDLERS_DIR")]
        directory: Option<PathBuf>,
    },
    /// Say whether files are handlers, and what is wrong if not
    ///
    /// Each file is checked and compiled as a host would do it, with the same limits. A file on which the compiler
    /// has failed, which a host does not try again, is tried again.
    Check {
        /// Components, core modules, or their text
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Show one handler: interfaces, functions with types, limits, retries, grants
    Describe {
        /// A file, or the name of a handler of the directory that was served last
        #[arg(value_name = "FILE|NAME")]
        handler: String,
    },
    /// List the handlers that hosts publish for hosts without a handlers directory
    ///
    /// When several hosts publish a name, the version that changed last is used. The handlers of a host that is gone
    /// stay until another host publishes and removes them, or until fishway handler unpublish removes them.
    Published,
    /// Stop publishing handlers of hosts that are gone
    ///
    /// Hosts without handlers of their own drop them within seconds. Tasks in progress go on with the
    /// component that they started with. A host that serves publishes what is in its directory: to take
    /// that back, remove the file there.
    Unpublish(published::UnpublishArgs),
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    match &args.verb {
        Verb::Published => return published::list(global),
        Verb::Unpublish(args) => return published::unpublish(global, args).await,
        Verb::List { .. } | Verb::Check { .. } | Verb::Describe { .. } => {}
    }
    if let Some(remote) = global.remote(false)? {
        return of_remote(global, &remote, &args.verb);
    }
    let sandbox = Sandbox::plain()?;
    let check = |file: &Path| loader::check_file(sandbox.engine(), &sandbox.check(), file);
    match args.verb {
        Verb::List { directory } => {
            if let Some(loaded) = Loaded::of(global, directory.as_deref()) {
                return loaded.list(global, check);
            }
            let directory = directory.unwrap_or_else(|| served_last(global));
            list(global, &directory, check)
        }
        Verb::Check { files } => {
            let refusals = Refusals::of(sandbox.engine(), &global.data);
            check_all(global, &files, |file| {
                let checked = check(file);
                if let Ok(handler) = &checked
                    && refusals.forget(&handler.digest)
                {
                    let name = &handler.name;
                    global.say(format!(
                        "The compiler failed on {name} before. A host loads it at its next start, or when the file is touched."
                    ));
                }
                checked
            })
        }
        Verb::Describe { handler } => {
            let file = find(global, &handler)?;
            match check(&file) {
                Ok(handler) => describe(global, &handler),
                Err(problem) => {
                    let hint = problem.hint.clone();
                    Err(Refused::new(problem.to_string(), hint).into())
                }
            }
        }
        Verb::Published | Verb::Unpublish(_) => Ok(Done::OK),
    }
}

/// The handlers that another host has loaded.
fn of_remote(global: &Global, remote: &Remote, verb: &Verb) -> anyhow::Result<Done> {
    match verb {
        Verb::List { directory: None } => {
            for handler in &remote.loaded()? {
                let about = handler.description.as_deref().unwrap_or_default();
                let (name, digest) = (&handler.name, &handler.digest);
                match global.json {
                    true => print_json(handler)?,
                    false => print_line(&format!("{name:20}  {digest:19.19}  {about}"))?,
                }
            }
            Ok(Done::OK)
        }
        Verb::Describe { handler: name } => {
            let (handler, broken) = remote.handler(name)?;
            let Some(handler) = handler else {
                let what = match broken {
                    Some(why) => format!("handler \"{name}\" could not be loaded: {why}"),
                    None => format!("the host has no handler \"{name}\""),
                };
                return Err(Refused::new(what, "fishway handler list shows what it has").into());
            };
            match global.json {
                true => print_json(&handler)?,
                false => print_text(&serde_json::to_string_pretty(&handler)?)?,
            }
            Ok(Done::OK)
        }
        Verb::List { .. } => global.here("handler list DIR").map(|()| Done::OK),
        Verb::Check { .. } => global.here("handler check").map(|()| Done::OK),
        Verb::Published | Verb::Unpublish(_) => Ok(Done::OK),
    }
}

fn served_last(global: &Global) -> PathBuf {
    let client = global.existing_client(false).ok();
    let known = client.and_then(|client| client.store().handlers_standing().ok().flatten());
    known.map_or_else(|| PathBuf::from("handlers"), |known| known.directory)
}

fn find(global: &Global, handler: &str) -> anyhow::Result<PathBuf> {
    let directory = served_last(global);
    let places = [
        PathBuf::from(handler),
        directory.join(format!("{handler}.wasm")),
        directory.join(format!("{handler}.wat")),
    ];
    let found = places.into_iter().find(|place| place.is_file());
    found.ok_or_else(|| {
        let what = format!(
            "there is no file {handler}, and no handler of that name in {}",
            directory.display()
        );
        Refused::new(what, "fishway handler list DIR shows what there is").into()
    })
}

fn list(
    global: &Global,
    directory: &Path,
    check: impl Fn(&Path) -> Result<Handler, Problem>,
) -> anyhow::Result<Done> {
    let entries = std::fs::read_dir(directory).map_err(|error| {
        let what = format!("{} cannot be read: {error}", directory.display());
        Refused::new(
            what,
            "name the directory of the handlers: fishway handler list DIR",
        )
    })?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| is_component(file));
    files.sort();
    if files.is_empty() {
        global.say(format!("no handlers in {}", directory.display()));
    }
    check_all(global, &files, check)
}

/// Show what each of the files is, or what is wrong with it.
fn check_all(
    global: &Global,
    files: &[PathBuf],
    check: impl Fn(&Path) -> Result<Handler, Problem>,
) -> anyhow::Result<Done> {
    let mut done = Done::OK;
    let mut handlers = Vec::new();
    for file in files {
        match check(file) {
            Ok(handler) => {
                print_handler(global, &handler)?;
                handlers.push(Arc::new(handler));
            }
            Err(problem) => {
                done = Done::FAILED;
                print_problem(global, &problem)?;
            }
        }
    }
    let checked = handlers.len();
    if handlers.iter().any(|handler| !handler.wanted.is_empty()) {
        // Who answers their calls lies beside them.
        let others = files.iter().flat_map(|file| siblings(file));
        let others: BTreeSet<PathBuf> = others.filter(|file| !files.contains(file)).collect();
        let others = others.iter().filter_map(|file| check(file).ok());
        handlers.extend(others.map(Arc::new));
    }
    let offers = handlers.iter().collect();
    for handler in &handlers[..checked] {
        for problem in links::unlinked(handler, &offers) {
            done = Done::FAILED;
            print_problem(global, &problem)?;
        }
    }
    Ok(done)
}

/// The components of the directory that a file lies in.
fn siblings(file: &Path) -> Vec<PathBuf> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.map(|entry| match file.parent() {
        Some(parent) => parent.join(entry.file_name()),
        None => entry.path(),
    });
    named.filter(|file| is_component(file)).collect()
}

pub fn is_component(file: &Path) -> bool {
    file.extension()
        .is_some_and(|ending| ending == "wasm" || ending == "wat")
}

fn print_handler(global: &Global, handler: &Handler) -> anyhow::Result<()> {
    if global.json {
        return print_json(&wire::handler(handler));
    }
    let about = handler.manifest.description.as_deref().unwrap_or_default();
    let what = match handler.generator {
        true => "(page generator) ",
        false => "",
    };
    let (name, digest) = (&handler.name, handler.digest.short());
    print_line(&format!(
        "{name:20}  {digest}  {:>8}  {what}{about}",
        bytes(handler.size_bytes)
    ))?;
    functions::print_lines(handler)
}

fn print_problem(global: &Global, problem: &Problem) -> anyhow::Result<()> {
    if global.json {
        return print_json(&serde_json::json!({
            "file": problem.file, "problem": problem.what, "hint": problem.hint,
        }));
    }
    let red = super::terminal::Ink::of(anstyle::AnsiColor::Red).bold();
    remark(format_args!("{red}problem{red:#}: {problem}"));
    remark(format_args!("  hint: {}", problem.hint));
    Ok(())
}

fn describe(global: &Global, handler: &Handler) -> anyhow::Result<Done> {
    let shown = wire::handler(handler);
    if global.json {
        print_json(&shown)?;
    } else {
        let mut value = serde_json::to_value(&shown)?;
        if let Some(members) = value.as_object_mut() {
            // Told below, as WIT.
            for name in ["functions", "left_out", "calls"] {
                members.remove(name);
            }
        }
        print_text(&serde_json::to_string_pretty(&value)?)?;
        functions::print(handler)?;
    }
    Ok(Done::OK)
}
