mod requests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::view::{bytes, count, duration};
use super::{Done, Global, now_ms, print_json, print_line};
use crate::clock::SystemClock;
use crate::disk::open_to_others;
use crate::executor::Settings;
use crate::executor::engine;
use crate::loader::manifest;
use crate::secrets::{KeySource, Trouble, check};
use crate::store::RandomSecretInfo;
use crate::store::invariants::{INVARIANTS, Violation};
use crate::store::{HandlersStanding, StoreError};
use crate::task::TaskId;

/// Look whether everything is as it should be here
///
/// Exits with 1 where something is not. With --json, an object for each check with check, ok and says; one of --deep
/// that fails also has count and tasks, the first of those that it is about.
#[derive(clap::Args)]
pub struct Args {
    /// Look through the whole database, too: its file, and whatever holds of every task; a host may serve it meanwhile
    #[arg(long)]
    deep: bool,
    /// Directory of the handlers; when not given, ./handlers, or else the one that the last host served
    #[arg(value_name = "HANDLERS_DIR", env = "FISHWAY_HANDLERS")]
    handlers: Option<PathBuf>,
}

struct Finding {
    what: &'static str,
    good: bool,
    says: String,
    /// Of how many tasks it is, and the first of them.
    about: Option<(u64, Vec<String>)>,
}

impl Finding {
    fn good(what: &'static str, says: impl Into<String>) -> Finding {
        Finding {
            what,
            good: true,
            says: says.into(),
            about: None,
        }
    }

    fn bad(what: &'static str, says: impl Into<String>) -> Finding {
        Finding {
            good: false,
            ..Finding::good(what, says)
        }
    }
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Done> {
    // Before anything opens it, which may close what is open.
    let private = private(global);
    let mut findings = vec![
        disk(global),
        private,
        database(global),
        wasm(),
        handlers(global, args),
    ];
    findings.extend(requests::requests(&directory(
        last_look(global).as_ref(),
        args,
    )));
    if global.has_data() && findings[2].good {
        findings.insert(3, randomness(global));
        findings.insert(4, secrets(global, args));
        findings.extend(host(global));
        findings.extend(vacuum(global));
    }
    if args.deep && global.has_data() && findings[2].good {
        findings.extend(deep(global));
    }
    for finding in &findings {
        if global.json {
            let mut object = serde_json::json!({
                "check": finding.what, "ok": finding.good, "says": finding.says,
            });
            if let Some((count, tasks)) = &finding.about {
                object["count"] = (*count).into();
                object["tasks"] = tasks.clone().into();
            }
            print_json(&object)?;
        } else {
            let (mark, colour) = match finding.good {
                true => ("ok  ", anstyle::AnsiColor::Green),
                false => ("FAIL", anstyle::AnsiColor::Red),
            };
            let colour = super::terminal::Ink::of(colour);
            print_line(&format!(
                "{colour}{mark}{colour:#}  {:10}  {}",
                finding.what, finding.says
            ))?;
        }
    }
    let good = findings.iter().all(|finding| finding.good);
    Ok(if good { Done::OK } else { Done::FAILED })
}

/// How long the disk takes to keep a promise: every durable step waits for it.
fn disk(global: &Global) -> Finding {
    let measure = || -> std::io::Result<u64> {
        use std::io::Write;
        crate::disk::create_data_directory(&global.data)?;
        let path = global.data.join(format!(".doctor.{}", std::process::id()));
        let mut file = std::fs::File::create(&path)?;
        let mut times = Vec::new();
        for _ in 0..11 {
            let started = Instant::now();
            file.write_all(&[0; 4_096])?;
            file.sync_data()?;
            times.push(started.elapsed().as_micros() as u64);
        }
        std::fs::remove_file(&path)?;
        times.sort_unstable();
        Ok(times[times.len() / 2])
    };
    let place = global.data.display();
    match measure() {
        Ok(micros) => Finding::good(
            "disk",
            format!(
                "{place} can be written; a sync takes {}.{} ms",
                micros / 1_000,
                micros % 1_000 / 100
            ),
        ),
        Err(error) => Finding::bad(
            "disk",
            format!("{place} cannot be written: {error}; choose another directory with --data"),
        ),
    }
}

/// Whether others may read the payloads of tasks.
fn private(global: &Global) -> Finding {
    let what = "private";
    let place = global.data.display();
    if let Err(error) = std::fs::read_dir(&global.data)
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        let says = format!(
            "this user may not read {place}: run fishway as its owner, or let the owner share it with a group (chmod 2770)"
        );
        return Finding::bad(what, says);
    }
    let open = open_to_others(&global.data);
    let Some(first) = open.first() else {
        return Finding::good(
            what,
            format!("nobody else may read what Fishway keeps in {place}"),
        );
    };
    let more = match open.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let path = first.path.display();
    let (mode, wanted) = (first.mode, first.wanted);
    Finding::bad(
        what,
        format!(
            "other users may read {path} (mode {mode:o}){more}: chmod {wanted:o} {path}; the next command of its \
             owner does that, and chmod 2770 {place} shares it with a group on purpose"
        ),
    )
}

fn database(global: &Global) -> Finding {
    let what = "database";
    if !global.has_data() {
        return Finding::good(what, "there is none yet; the first command makes it");
    }
    let counted = global
        .client(false)
        .and_then(|client| Ok((client.store().counts(None)?, global.place()?.size_bytes()?)));
    match counted {
        Ok((counts, size)) => {
            let counts: Vec<String> = counts
                .iter()
                .map(|(status, count)| format!("{count} {status}"))
                .collect();
            let tasks = if counts.is_empty() {
                "no tasks".to_owned()
            } else {
                counts.join(", ")
            };
            Finding::good(what, format!("{}: {tasks}", bytes(size)))
        }
        Err(error) => {
            let hint = error
                .downcast_ref::<StoreError>()
                .and_then(StoreError::hint);
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            Finding::bad(what, format!("{error}{hint}"))
        }
    }
}

/// Whether something keeps PostgreSQL from vacuuming; there is nothing to say where SQLite is the database.
fn vacuum(global: &Global) -> Vec<Finding> {
    let what = "vacuum";
    let client = match global.client(false) {
        Ok(client) => client,
        Err(error) => return vec![Finding::bad(what, error.to_string())],
    };
    match client.store().vacuum_holders() {
        Ok(None) => Vec::new(),
        Ok(Some(holders)) if holders.is_empty() => {
            vec![Finding::good(what, "no old transaction holds it back")]
        }
        Ok(Some(holders)) => holders
            .iter()
            .map(|holder| Finding::bad(what, holder.to_string()))
            .collect(),
        Err(error) => vec![Finding::bad(what, error.to_string())],
    }
}

/// Whether random numbers of handlers can be computed by somebody who knows no secret.
fn randomness(global: &Global) -> Finding {
    let what = "randomness";
    let secrets = global
        .client(false)
        .and_then(|client| Ok(client.store().random_secrets()?));
    let secrets = match secrets {
        Ok(secrets) => secrets,
        Err(error) => return Finding::bad(what, error.to_string()),
    };
    let there = |secret: &&RandomSecretInfo| secret.made_at_ms.is_some();
    let Some(newest) = secrets.iter().rfind(there) else {
        let says = "the database has no secret, which the random numbers of handlers are made from; \
                    fishway randomness rotate makes one";
        return Finding::bad(what, says);
    };
    let missing = |secret: &&RandomSecretInfo| secret.number > 0 && secret.made_at_ms.is_none();
    if let Some(missing) = secrets.iter().find(missing) {
        let says = format!(
            "secret {} is missing, and {} from it: each begins again",
            missing.number,
            count(
                missing.runs,
                "run in progress draws",
                "runs in progress draw"
            )
        );
        return Finding::bad(what, says);
    }
    let says = format!(
        "random numbers of handlers are made from secret {} of the database",
        newest.number
    );
    let older = secrets.iter().find(|secret| secret.number == 0);
    Finding::good(
        what,
        match older.map_or(0, |older| older.runs) {
            0 => says,
            runs => format!(
                "{says}; {} began under an older version: the numbers of such a run follow from its id until it ends",
                count(runs, "run in progress", "runs in progress")
            ),
        },
    )
}

/// Whether secrets can be used, and those that handlers use exist.
fn secrets(global: &Global, args: &Args) -> Finding {
    let what = "secrets";
    let checked = global.client(false).and_then(|client| {
        let wanted = secrets_of(&directory(last_look(global).as_ref(), args));
        let keys = KeySource::of(&global.data);
        Ok(check(&**client.store(), &keys, &wanted)?)
    });
    match checked {
        Ok((0, troubles)) if troubles.is_empty() => Finding::good(what, "there are none"),
        Ok((many, troubles)) if troubles.is_empty() => {
            let many = count(many as u64, "secret", "secrets");
            Finding::good(what, format!("{many}, and all encrypted ones can be read"))
        }
        Ok((_, troubles)) => {
            let says: Vec<&str> = troubles.iter().map(Trouble::says).collect();
            Finding::bad(what, says.join("; "))
        }
        Err(error) => Finding::bad(what, error.to_string()),
    }
}

/// Handlers of a directory, and the secrets that their manifests name. A manifest that cannot be read is reported
/// with its handler.
fn secrets_of(directory: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| super::handler::is_component(file));
    files.sort();
    let mut wanted = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(file.with_extension("toml")).unwrap_or_default();
        let secrets = manifest::secret_names(&text).into_iter();
        wanted.extend(secrets.map(|secret| (name.clone().into_owned(), secret)));
    }
    wanted
}

/// All that holds of every database, looked for in this one.
fn deep(global: &Global) -> Vec<Finding> {
    let what = "deep";
    let examined = global
        .place()
        .and_then(|place| Ok(place.examine(Arc::new(SystemClock))?));
    match examined {
        Ok(broken) if broken.is_empty() => vec![Finding::good(
            what,
            format!("all {} invariants hold", INVARIANTS.len()),
        )],
        Ok(broken) => broken.iter().map(violated).collect(),
        Err(error) => vec![Finding::bad(what, error.to_string())],
    }
}

fn violated(violation: &Violation) -> Finding {
    let tasks: Vec<String> = (violation.tasks.iter()).map(TaskId::to_string).collect();
    let says = if tasks.is_empty() {
        violation.says.clone()
    } else {
        let more = match violation.count - tasks.len() as u64 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "does not hold of {}{more}: {}",
            tasks.join(", "),
            violation.says
        )
    };
    Finding {
        about: Some((violation.count, tasks)),
        ..Finding::bad(violation.name, says)
    }
}

fn wasm() -> Finding {
    let what = "sandbox";
    let started = now_ms();
    match engine::engine(Settings::default().instances_max()) {
        Ok(_) => {
            let took = duration(now_ms() - started);
            Finding::good(what, format!("the WebAssembly engine starts ({took})"))
        }
        Err(error) => Finding::bad(what, error.to_string()),
    }
}

/// Warnings that the host has about itself.
fn host(global: &Global) -> Vec<Finding> {
    let view = global.client(false).and_then(|client| global.view(&client));
    let warnings = match view {
        Ok(view) => {
            // There is a check of its own for what keeps the server from vacuuming.
            let mut warnings = view.warnings();
            warnings.retain(|warning| !view.vacuum.contains(warning));
            warnings
        }
        Err(error) => vec![error.to_string()],
    };
    let bad = warnings.into_iter().map(|says| Finding::bad("host", says));
    bad.collect()
}

fn handlers(global: &Global, args: &Args) -> Finding {
    let what = "handlers";
    let standing = last_look(global);
    let directory = &directory(standing.as_ref(), args);
    let place = directory.display();
    let known = standing.as_ref().filter(|standing| {
        let real = |path: &Path| path.canonicalize().ok();
        standing.directory == *directory
            || real(directory).is_some_and(|path| real(&standing.directory) == Some(path))
    });
    // The finding about the host names the files that it could not load.
    let loaded = known.map(|standing| {
        format!(
            "the last host has loaded {} and could not load {}",
            count(standing.loaded, "task type", "task types"),
            count(standing.broken, "file", "files"),
        )
    });
    let entries = match (std::fs::read_dir(directory), loaded) {
        (Ok(entries), loaded) => (entries, loaded),
        (Err(error), Some(loaded))
            if args.handlers.is_none() && error.kind() == std::io::ErrorKind::NotFound =>
        {
            return Finding::good(what, format!("{place} is not on this machine; {loaded}"));
        }
        (Err(error), _) => {
            return Finding::bad(
                what,
                format!("{place} cannot be read: {error}; fishway demo shows how to start"),
            );
        }
    };
    let (entries, loaded) = entries;
    let files = entries.flatten().map(|entry| entry.path());
    let many = files
        .filter(|file| super::handler::is_component(file))
        .count() as u64;
    let many = count(many, "file", "files");
    let loaded = loaded.unwrap_or_else(|| "fishway handler list checks each".to_owned());
    Finding::good(what, format!("{many} in {place}; {loaded}"))
}

/// Where the handlers are.
fn directory(standing: Option<&HandlersStanding>, args: &Args) -> PathBuf {
    let here = PathBuf::from("handlers");
    let served = standing.map(|standing| &standing.directory);
    // Not every command runs on the machine with the handlers: a host of a shared database may be elsewhere.
    match (&args.handlers, served) {
        (Some(given), _) => given.clone(),
        (None, Some(served)) if !here.exists() => served.clone(),
        (None, _) => here,
    }
}

/// The handlers as the last host reported them.
fn last_look(global: &Global) -> Option<HandlersStanding> {
    if !global.has_data() {
        return None;
    }
    let client = global.client(false).ok()?;
    client.store().handlers_standing().ok()?
}
