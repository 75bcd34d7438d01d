//! The command line: one file for each command.
//!
//! stdout is data, stderr is talk. With `--json` a command prints one object, or one on each line of
//! a list. Exit codes: 0 done, 1 failed or refused, 2 usage, 124 timeout, 130 interrupted.

mod build;
mod cancel;
mod completions;
mod delete;
mod demo;
mod deps;
mod doctor;
mod get;
mod given;
mod handler;
mod list;
mod logs;
mod metrics;
mod pool;
mod prune;
mod queue;
mod retry;
mod schedule;
mod serve;
mod signal;
mod submit;
mod trace;
mod view;
mod wait;
pub mod wire;
mod workflow;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

use crate::builder::BuildError;
use crate::client::{Client, ClientError};
use crate::clock::{Clock, SystemClock};
use crate::daemon::HostError;
use crate::store::StoreError;
use crate::store::sqlite::{FILE_NAME, Opening, Role, SqliteStore};

/// Run durable, sandboxed tasks from a directory of WebAssembly handlers
#[derive(Parser)]
#[command(
    name = "fishway",
    version,
    about,
    max_term_width = 110,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(clap::Args, Clone)]
pub struct Global {
    /// Directory of the database and all else that is kept
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = ".fishway",
        env = "FISHWAY_DATA"
    )]
    data: PathBuf,
    /// Print JSON: one object, or one on each line of a list
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing but what was asked for
    #[arg(long, short, global = true)]
    quiet: bool,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// The database grows no larger than this many bytes
    #[arg(
        long,
        global = true,
        value_name = "BYTES",
        env = "FISHWAY_DATABASE_BYTES_MAX",
        hide_short_help = true
    )]
    database_bytes_max: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(serve::Args),
    Submit(submit::Args),
    Get(get::Args),
    Wait(wait::Args),
    List(list::Args),
    Logs(logs::Args),
    Trace(trace::Args),
    Workflow(workflow::Args),
    Deps(deps::Args),
    Pool(pool::Args),
    Queue(queue::Args),
    Schedule(schedule::Args),
    Cancel(cancel::Args),
    Retry(retry::Args),
    Signal(signal::Args),
    Delete(delete::Args),
    Prune(prune::Args),
    Metrics(metrics::Args),
    Handler(handler::Args),
    Build(build::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
}

/// How a command ended that did not fail.
pub struct Done(u8);

impl Done {
    const OK: Done = Done(0);
    const FAILED: Done = Done(1);
    const TIMED_OUT: Done = Done(124);
}

/// An error that the command itself has a hint for.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Refused {
    what: String,
    hint: Option<String>,
    code: u8,
}

impl Refused {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Refused {
        Refused {
            what: what.into(),
            hint: Some(hint.into()),
            code: 1,
        }
    }

    fn usage(what: impl Into<String>, hint: impl Into<String>) -> Refused {
        Refused {
            code: 2,
            ..Refused::new(what, hint)
        }
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.global.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::write_global(anstream::ColorChoice::Always),
        Color::Never => anstream::ColorChoice::write_global(anstream::ColorChoice::Never),
    }
    logging();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return complain(&anyhow::Error::new(error).context("the runtime cannot start"));
        }
    };
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = run(cli) => ended,
            // `serve` and `demo` listen themselves, and end in an orderly way.
            () = interrupted() => Ok(Done(130)),
        }
    });
    runtime.shutdown_background();
    match ended {
        Ok(Done(code)) => ExitCode::from(code),
        Err(error) => complain(&error),
    }
}

async fn run(cli: Cli) -> anyhow::Result<Done> {
    let global = cli.global;
    match cli.command {
        Command::Demo(args) => demo::run(&global, args).await,
        Command::Serve(args) => serve::run(&global, args).await,
        Command::Submit(args) => submit::run(&global, args).await,
        Command::Get(args) => get::run(&global, &args),
        Command::Wait(args) => wait::run(&global, args).await,
        Command::List(args) => list::run(&global, &args),
        Command::Logs(args) => logs::run(&global, args).await,
        Command::Trace(args) => trace::run(&global, args).await,
        Command::Workflow(args) => workflow::run(&global, args).await,
        Command::Deps(args) => deps::run(&global, &args),
        Command::Cancel(args) => cancel::run(&global, args).await,
        Command::Pool(args) => pool::run(&global, &args),
        Command::Queue(args) => queue::run(&global, args).await,
        Command::Schedule(args) => schedule::run(&global, args).await,
        Command::Retry(args) => retry::run(&global, args).await,
        Command::Signal(args) => signal::run(&global, args).await,
        Command::Delete(args) => delete::run(&global, args).await,
        Command::Prune(args) => prune::run(&global, args).await,
        Command::Metrics(args) => metrics::run(&global, &args),
        Command::Handler(args) => handler::run(&global, args),
        Command::Build(args) => build::run(&global, args),
        Command::Doctor(args) => doctor::run(&global, &args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// The host's own messages go to stderr; `FISHWAY_LOG` chooses which.
fn logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FISHWAY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    // A second subscriber, as in a test that runs commands, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .try_init();
}

/// Ends at Ctrl-C, unless the command listens for itself.
async fn interrupted() {
    if LISTENING.load(std::sync::atomic::Ordering::Acquire)
        || tokio::signal::ctrl_c().await.is_err()
    {
        std::future::pending::<()>().await;
    }
    if LISTENING.load(std::sync::atomic::Ordering::Acquire) {
        std::future::pending::<()>().await;
    }
}

/// Whether a command ends by itself at a signal.
static LISTENING: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Say what happened, why, and what to do.
fn complain(error: &anyhow::Error) -> ExitCode {
    let bold = anstyle::Style::new().bold();
    let red = bold.fg_color(Some(anstyle::AnsiColor::Red.into()));
    let green = bold.fg_color(Some(anstyle::AnsiColor::Green.into()));
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // A transparent error says the same as what it wraps.
        if !text.ends_with(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    anstream::eprintln!("{red}error{red:#}: {text}");
    if let Some(hint) = hint(error) {
        anstream::eprintln!("{green}hint{green:#}: {hint}");
    }
    ExitCode::from(
        error
            .chain()
            .find_map(|cause| cause.downcast_ref::<Refused>())
            .map_or(1, |refused| refused.code),
    )
}

fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let refused = cause
            .downcast_ref::<Refused>()
            .and_then(|error| error.hint.clone());
        refused
            .or_else(|| {
                cause
                    .downcast_ref::<ClientError>()
                    .and_then(ClientError::hint)
            })
            .or_else(|| cause.downcast_ref::<HostError>().and_then(HostError::hint))
            .or_else(|| {
                cause
                    .downcast_ref::<StoreError>()
                    .and_then(StoreError::hint)
            })
            .or_else(|| {
                cause
                    .downcast_ref::<BuildError>()
                    .and_then(BuildError::hint)
            })
    })
}

impl Global {
    /// The verbs on the data directory, which is made when absent.
    fn client(&self, watch: bool) -> anyhow::Result<Client> {
        let store = SqliteStore::open(Opening {
            directory: self.data.clone(),
            role: Role::Visitor,
            watch,
            bytes_max: self.database_bytes_max,
            clock: Arc::new(SystemClock),
        })?;
        Ok(Client::new(Arc::new(store)))
    }

    /// The verbs on a data directory that there has to be.
    fn existing_client(&self, watch: bool) -> anyhow::Result<Client> {
        if !self.data.join(FILE_NAME).exists() {
            let what = format!("there is no fishway data in {}", self.data.display());
            let hint = "fishway serve or fishway submit makes it; --data names another directory";
            return Err(Refused::new(what, hint).into());
        }
        self.client(watch)
    }

    /// Say something that is not data.
    fn say(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            anstream::eprintln!("{text}");
        }
    }
}

fn now_ms() -> u64 {
    SystemClock.now_ms()
}

/// One object of `--json`.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string(value).context("the answer has no JSON form")?;
    print_line(&text)
}

/// A line of data. A reader that has gone, such as `head`, is no error.
fn print_line(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    match writeln!(anstream::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.context("stdout cannot be written"),
    }
}

/// A duration such as `30s`, `1h 30m` or `30d`, in milliseconds; a bare number is seconds.
fn duration_ms(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.parse::<f64>()
        && (0.0..=1e9).contains(&seconds)
    {
        return Ok((seconds * 1_000.0) as u64);
    }
    crate::task::duration_ms(text).ok_or_else(|| {
        format!("\"{text}\" is no duration: write 30s, \"1h 30m\" or 30d, or a number of seconds")
    })
}
