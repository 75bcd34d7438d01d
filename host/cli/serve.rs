mod settings;
mod until;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::oneshot;

use super::view::count;
use super::{Done, Global, LISTENING, Refused, duration_ms};
use crate::clock::SystemClock;
use crate::daemon::detached::Parent;
use crate::daemon::{Host, HostError, Setup};
use crate::http::guard::{Guard, Token};
use crate::http::{self, Http};
use crate::limits::size;
use crate::loader::{Change, Origin};
use crate::memory::BYTES_MIN;
use crate::store::Keep;
use crate::task::{Status, StatusSet};
use crate::telemetry::Traces;

/// Run the host: load the handlers of a directory and run their tasks
///
/// Ctrl-C or SIGTERM stops it in an orderly way: no new work, and what runs has the grace to come
/// to an end, and goes on at the next start if it does not. A second signal ends it at once;
/// nothing is lost then either.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub host: HostArgs,
    /// End when this job has ended or is stopped; exits with 1 when it did not complete
    #[arg(long, value_name = "JOB")]
    pub until_done: Option<String>,
    /// Leave the session of whoever started this, and tell it when we are ready
    #[arg(long, hide = true)]
    pub detached: bool,
}

impl Args {
    /// In the foreground.
    pub fn of(host: HostArgs) -> Args {
        Args {
            host,
            until_done: None,
            detached: false,
        }
    }
}

/// What a host is told, however it is started.
#[derive(clap::Args)]
pub struct HostArgs {
    /// Directory of the handlers
    #[arg(
        default_value = "handlers",
        value_name = "HANDLERS_DIR",
        env = "FISHWAY_HANDLERS"
    )]
    pub handlers: PathBuf,
    /// Tasks that run at once [default: four for each core, at least 8]
    #[arg(long, env = "FISHWAY_CONCURRENCY", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub concurrency: Option<u16>,
    /// Memory that running and waiting tasks, answers and bodies of requests may take together, such as 2GiB:
    /// at least 256MiB [default: half of what the machine or the control group has]
    #[arg(long, env = "FISHWAY_MEMORY", value_name = "BYTES", value_parser = memory)]
    pub memory: Option<u64>,
    /// PEM file of certificate authorities to trust for HTTP requests of handlers, in addition to those of the system
    #[arg(long, env = "FISHWAY_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Waiting tasks that stay in memory; others are replayed when they go on
    #[arg(
        long,
        env = "FISHWAY_PARKED",
        value_name = "N",
        default_value_t = 256,
        hide_short_help = true
    )]
    pub parked: u16,
    /// How long a waiting task stays in memory
    #[arg(long, env = "FISHWAY_PARK", value_name = "DURATION", default_value = "10s", value_parser = duration_ms, hide_short_help = true)]
    pub park: u64,
    /// Time that a running task has to end when it is cancelled, or when the host stops
    #[arg(long, env = "FISHWAY_GRACE", value_name = "DURATION", default_value = "10s", value_parser = duration_ms)]
    pub grace: u64,
    /// How often a task starts again, at the same attempt, after its host died or lost it. Then it fails, because it
    /// may be the reason why hosts die
    #[arg(
        long,
        env = "FISHWAY_RESTARTS",
        value_name = "N",
        default_value_t = crate::limits::RESTARTS_MAX,
        value_parser = clap::value_parser!(u32).range(0..=1_000_000),
        hide_short_help = true
    )]
    pub restarts: u32,
    /// Delete tasks, with all below them, so long after they ended [default: never]
    #[arg(long, value_name = "DURATION", env = "FISHWAY_KEEP", value_parser = duration_ms)]
    pub keep: Option<u64>,
    /// The same for tasks that completed
    #[arg(long, value_name = "DURATION", env = "FISHWAY_KEEP_COMPLETED", value_parser = duration_ms, hide_short_help = true)]
    pub keep_completed: Option<u64>,
    /// The same for tasks that failed
    #[arg(long, value_name = "DURATION", env = "FISHWAY_KEEP_FAILED", value_parser = duration_ms)]
    pub keep_failed: Option<u64>,
    /// The same for tasks that were cancelled
    #[arg(long, value_name = "DURATION", env = "FISHWAY_KEEP_CANCELLED", value_parser = duration_ms, hide_short_help = true)]
    pub keep_cancelled: Option<u64>,
    /// The same for tasks that expired
    #[arg(long, value_name = "DURATION", env = "FISHWAY_KEEP_EXPIRED", value_parser = duration_ms, hide_short_help = true)]
    pub keep_expired: Option<u64>,
    /// The same for tasks that were skipped
    #[arg(long, value_name = "DURATION", env = "FISHWAY_KEEP_SKIPPED", value_parser = duration_ms, hide_short_help = true)]
    pub keep_skipped: Option<u64>,
    /// Keep the history of each run of a task, for `fishway history`, this long after the run has ended [default: not
    /// at all]
    #[arg(long, value_name = "DURATION", env = "FISHWAY_KEEP_HISTORY", value_parser = duration_ms)]
    pub keep_history: Option<u64>,
    #[command(flatten)]
    pub http: HttpArgs,
    /// Send a span of each ended task to the OpenTelemetry collector at this address, such as
    /// http://127.0.0.1:4318 [default: nowhere]
    #[arg(long, value_name = "URL", env = "FISHWAY_OTLP", hide_env_values = true, value_parser = collector, hide_short_help = true)]
    pub otlp: Option<String>,
}

/// The memory of a host.
fn memory(text: &str) -> Result<u64, String> {
    match size(text) {
        Some(bytes) if bytes >= BYTES_MIN => Ok(bytes),
        Some(bytes) => Err(format!(
            "{bytes} bytes are less than 256MiB, which a host needs"
        )),
        None => Err("write a number of bytes, or one with KiB, MiB or GiB".to_owned()),
    }
}

/// The address of a collector. TLS is the work of one that runs beside the host.
fn collector(text: &str) -> Result<String, String> {
    match text.starts_with("http://") {
        true => Ok(text.to_owned()),
        false => Err("write http://NAME:PORT; a collector beside the host speaks https".to_owned()),
    }
}

/// What the HTTP door of a host is told.
#[derive(clap::Args)]
pub struct HttpArgs {
    /// Answer HTTP at this address, such as 127.0.0.1:7070 [default: not at all]
    #[arg(long, value_name = "ADDRESS", env = "FISHWAY_HTTP")]
    pub http: Option<SocketAddr>,
    /// File with the token that requests have to bear; it is made where it is not there, and nobody
    /// else may read it. An address that is not loopback always demands a token [default: http.token in
    /// the data directory]
    #[arg(long, value_name = "FILE", env = "FISHWAY_HTTP_TOKEN_FILE")]
    pub http_token_file: Option<PathBuf>,
    /// Names by which the host may be asked, besides addresses and localhost, with commas between them
    #[arg(
        long,
        value_name = "NAMES",
        env = "FISHWAY_HTTP_NAMES",
        hide_short_help = true
    )]
    pub http_names: Option<String>,
    /// Requests that one address may send in a second [default: as many as it likes]
    #[arg(
        long,
        value_name = "N",
        env = "FISHWAY_HTTP_RATE",
        hide_short_help = true
    )]
    pub http_rate: Option<NonZeroU32>,
    /// Let handlers be uploaded
    #[arg(
        long,
        value_name = "BOOL",
        env = "FISHWAY_HTTP_ALLOW_UPLOAD",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub http_allow_upload: bool,
}

impl HttpArgs {
    /// Open the door of a host, where it is to have one.
    async fn open(&self, global: &Global, host: &Host) -> anyhow::Result<Option<Http>> {
        let Some(address) = self.http else {
            return Ok(None);
        };
        let file = match (&self.http_token_file, address.ip().is_loopback()) {
            (Some(file), _) => Some(file.clone()),
            (None, false) => Some(global.data.join(TOKEN_FILE)),
            (None, true) => None,
        };
        let token = file.as_deref().map(Token::from_file).transpose();
        let token = token.map_err(|error| {
            let hint = error.hint();
            Refused::new(error.to_string(), hint)
        })?;
        let names = self.http_names.as_deref().unwrap_or_default().split(',');
        let names = names.map(str::trim).filter(|name| !name.is_empty());
        let names = names.map(str::to_owned).collect();
        let http = Http::open(
            address,
            http::Setup {
                client: host.client(),
                loader: host.loader().clone(),
                data_dir: global.data.clone(),
                number: host.number(),
                guard: Guard::new(names, token, self.http_rate),
                allow_upload: self.http_allow_upload,
                bounds: http::Bounds {
                    memory: host.memory().clone(),
                    ..http::Bounds::default()
                },
            },
        );
        let http = http.await.map_err(|error| {
            let hint = error.hint();
            Refused {
                what: error.to_string(),
                hint,
                code: 1,
            }
        })?;
        if let Err(error) = host.say_address(&http.url()) {
            tracing::warn!(%error, "fishway status will not show where the host answers");
        }
        Ok(Some(http))
    }
}

/// Where the token is, in the data directory.
const TOKEN_FILE: &str = "http.token";

impl HostArgs {
    /// How long ended tasks are kept: by the rule for their own end, else by the one for all.
    fn keep(&self) -> Keep {
        let own = [
            (Status::Completed, self.keep_completed),
            (Status::Failed, self.keep_failed),
            (Status::Cancelled, self.keep_cancelled),
            (Status::Expired, self.keep_expired),
            (Status::Skipped, self.keep_skipped),
        ];
        let none = match self.keep_history {
            Some(ms) => Keep::for_ever().with_history(ms),
            None => Keep::for_ever(),
        };
        own.into_iter()
            .fold(none, |keep, (status, own)| match own.or(self.keep) {
                Some(ms) => keep.with(StatusSet::from_iter([status]), ms),
                None => keep,
            })
    }
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let mut parent = match args.detached {
        true => Some(leave(global)?),
        false => None,
    };
    let served = serve(global, &args, &mut parent).await;
    let (Err(error), Some(parent)) = (&served, parent) else {
        return served;
    };
    // It started us and waits. What it will say stands in the log before it says so.
    super::complain(error);
    match served_by(error) {
        Some(pid) => parent.served_by(pid),
        None => parent.failed(super::sentence(error), super::hint(error)),
    }
    Ok(Done::FAILED)
}

/// Become a process of our own, with a word in the log of which one.
fn leave(global: &Global) -> anyhow::Result<Parent> {
    let parent = Parent::leave().context("the session cannot be left")?;
    global.say(format!(
        "{} fishway {} starts, process {}",
        jiff::Timestamp::now(),
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    ));
    Ok(parent)
}

/// The process of the host that is there already.
fn served_by(error: &anyhow::Error) -> Option<u32> {
    match error.downcast_ref() {
        Some(HostError::AlreadyServed { pid, .. }) => *pid,
        _ => None,
    }
}

async fn serve(global: &Global, args: &Args, parent: &mut Option<Parent>) -> anyhow::Result<Done> {
    let started = std::time::Instant::now();
    let (args, until_done) = (&args.host, &args.until_done);
    let mut signals = Signals::new()?;
    let settings = args.settings();
    let grace = settings.grace;
    crate::daemon::process::raise_open_files();
    let mut host = Host::start(Setup {
        handlers_dir: args.handlers.clone(),
        data_dir: global.data.clone(),
        settings,
        database: global.database()?,
        database_bytes_max: global.database_bytes_max,
        keep: args.keep(),
        clock: Arc::new(SystemClock),
    })
    .await?;
    let client = host.client();
    let until = match until_done {
        None => None,
        Some(job) => match client.job(job) {
            Ok((task, _)) => Some(task.id),
            Err(error) => {
                host.stop(Duration::ZERO).await;
                return Err(error.into());
            }
        },
    };
    let changes = host.changes();
    let http = match args.http.open(global, &host).await {
        Ok(http) => http,
        Err(error) => {
            host.stop(Duration::ZERO).await;
            return Err(error);
        }
    };
    if host.recovered() > 0 {
        global.say(format!(
            "{} running tasks of a host that died go on",
            host.recovered()
        ));
    }
    let traces = args.otlp.as_deref().map(|address| {
        let store = host.client().store().clone();
        tokio::spawn(Traces::to(address).run(store))
    });
    let loader = host.loader().clone();
    let (handlers, loading) = (loader.count(), loader.loading());
    let took_ms = started.elapsed().as_millis();
    let names = match handlers {
        0 if loading == 0 => format!(
            "no handlers yet: put NAME.wasm into {}",
            args.handlers.display()
        ),
        0 => "no handlers yet".to_owned(),
        1 => "1 handler".to_owned(),
        many => format!("{many} handlers"),
    };
    let names = match loader.problems().len() {
        0 => names,
        1 => format!("{names}, 1 could not be loaded"),
        many => format!("{names}, {many} could not be loaded"),
    };
    let names = match loading {
        0 => names,
        1 => format!("{names}, 1 file is still being loaded"),
        many => format!("{names}, {many} files are still being loaded"),
    };
    let data = match global.database()? {
        Some(address) => address.place,
        None => global.data.display().to_string(),
    };
    let stop = match parent {
        Some(_) => "fishway stop",
        None => "Ctrl-C",
    };
    // The first line is a promise: what it says is so from now on.
    global.say(format!(
        "fishway is ready: {names}, data in {data} ({took_ms} ms). {stop} stops it."
    ));
    if let Some(http) = &http {
        global.say(format!("it answers HTTP at {}", http.url()));
    }
    if let Some(parent) = parent.take() {
        parent.ready();
    }

    let said = global.clone();
    let telling = tokio::spawn(async move {
        let Some(mut changes) = changes else { return };
        let mut progress = Progress::default();
        while let Some(batch) = changes.recv().await {
            progress.tell(&said, &batch, loader.loading());
        }
    });
    let mut ended = None;
    let broken = tokio::select! {
        broken = host.broken() => Some(broken),
        () = signals.next() => None,
        over = until::end_of(&client, until) => {
            ended = Some(over?);
            None
        }
    };
    telling.abort();
    if let Some(traces) = traces {
        traces.abort();
    }
    if let Some(http) = http {
        http.close().await;
    }
    if let Some(broken) = broken {
        host.fail(&broken).await;
        // What was reported is on disk; what ran goes on after the next start.
        return Err(anyhow::Error::new(broken).context("the host cannot go on"));
    }
    let running = host.running();
    if let Some(job) = &ended {
        let how = until::how(job);
        global.say(format!("job {} {how}", job.id));
    }
    if running > 0 {
        global.say(format!(
            "stopping; {running} running (again to stop at once)"
        ));
    }
    let (hurry, hurried) = oneshot::channel();
    let impatient = async {
        signals.next().await;
        let _ = hurry.send(());
        // A third time: what is written now is lost, and done again.
        signals.next().await;
    };
    let mut in_a_hurry = false;
    let hurried = async {
        let _ = hurried.await;
        in_a_hurry = true;
    };
    tokio::select! {
        () = host.stop_unless(grace, hurried) => {}
        () = impatient => return Ok(Done(130)),
    }
    global.say("stopped");
    Ok(match ended {
        _ if in_a_hurry => Done(130),
        Some(job) if job.status != Status::Completed => Done::FAILED,
        _ => Done::OK,
    })
}

/// Up to this many files are reported one by one while they are loaded. For more files only the count is printed.
const FEW: usize = 20;

/// How often the count is printed.
const PROGRESS_REST: Duration = Duration::from_secs(2);

/// What was not told one by one.
#[derive(Default)]
struct Progress {
    loaded: usize,
    told_at: Option<Instant>,
}

impl Progress {
    /// Tell what was loaded while so many files are still to come.
    fn tell(&mut self, global: &Global, batch: &[Change], loading: usize) {
        if self.loaded == 0 && loading + batch.len() <= FEW {
            batch.iter().for_each(|change| tell(global, change));
            return;
        }
        for change in batch {
            match change {
                Change::Loaded(_) | Change::Replaced(_) => self.loaded += 1,
                Change::Forgotten(_) | Change::Failed(_) => tell(global, change),
            }
        }
        let rested = self.told_at.is_none_or(|at| at.elapsed() >= PROGRESS_REST);
        if self.loaded == 0 || (loading > 0 && !rested) {
            return;
        }
        let loaded = count(self.loaded as u64, "handler", "handlers");
        let files = count(loading as u64, "file is", "files are");
        global.say(match loading {
            0 => format!("loaded {loaded}"),
            _ => format!("loaded {loaded}; {files} still being loaded"),
        });
        self.loaded = 0;
        self.told_at = Some(Instant::now());
    }
}

fn tell(global: &Global, change: &Change) {
    let of = |what: &str, handler: &crate::loader::Handler| {
        let origin = match handler.origin {
            Origin::Compiled(ms) => format!("compiled in {ms} ms"),
            Origin::Cached(ms) => format!("cached, {ms} ms"),
        };
        global.say(format!(
            "{what} {} ({}, {origin})",
            handler.name,
            handler.digest.short()
        ));
    };
    match change {
        Change::Loaded(handler) => of("loaded", handler),
        Change::Replaced(handler) => of("replaced", handler),
        Change::Forgotten(name) => global.say(format!("forgot {name}: its file is gone")),
        Change::Failed(problem) => {
            let red = super::terminal::Ink::of(anstyle::AnsiColor::Red).bold();
            super::remark(format!("{red}problem{red:#}: {problem}"));
            super::remark(format!("  hint: {}", problem.hint));
        }
    }
}

/// SIGINT and SIGTERM, and SIGHUP unless it is ignored, as under `nohup`.
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    /// From now on this process ends at a signal only when it wants to.
    pub fn new() -> anyhow::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        LISTENING.store(true, Ordering::Release);
        let ignored = crate::daemon::process::ignores_hangup();
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: match ignored {
                true => None,
                false => Some(signal(SignalKind::hangup())?),
            },
        })
    }

    /// Ends at the next one. A terminal that closes may say so twice, by its shell and by the system: that
    /// is no wish to stop at once, so only the first signal of all may be a SIGHUP.
    pub async fn next(&mut self) {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hung_up => {}
        }
        self.hangup = None;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: HostArgs,
    }

    #[test]
    fn a_status_is_kept_by_its_own_rule_or_by_the_one_for_all() {
        let check = |flags: &[&str], completed: Option<u64>, failed: Option<u64>| {
            let line = [&["serve"], flags].concat();
            let keep = Line::parse_from(line).args.keep();
            let found = (keep.of(Status::Completed), keep.of(Status::Failed));
            assert_eq!(found, (completed, failed), "{flags:?}");
            assert_eq!(keep.of(Status::Running), None);
        };
        let day = 24 * 3_600_000;
        check(&[], None, None);
        check(&["--keep", "30d"], Some(30 * day), Some(30 * day));
        check(
            &["--keep", "2w", "--keep-failed", "90d"],
            Some(14 * day),
            Some(90 * day),
        );
        check(&["--keep-failed", "1h 30m"], None, Some(5_400_000));
    }
}
