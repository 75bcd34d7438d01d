//! The command line: one file for each command.
//!
//! stdout is data, stderr is talk. With `--json` a command prints one object, or one on each line of
//! a list. Exit codes: 0 done, 1 failed or refused, 2 usage, 124 timeout, 130 interrupted.

mod backup;
mod build;
mod bulk;
mod cancel;
mod compile;
mod completions;
mod config;
mod confirm;
mod delete;
mod demo;
mod deps;
mod dev;
mod doctor;
mod error;
mod get;
mod given;
mod handler;
mod history;
pub(crate) mod job;
mod list;
mod logs;
mod mcp;
mod metrics;
mod migrate;
mod new;
mod place;
mod pool;
mod prune;
mod queue;
mod randomness;
mod resume;
mod retry;
mod schedule;
mod secret;
mod serve;
mod settings;
mod signal;
mod start;
mod status;
mod stop;
mod submit;
pub(crate) mod terminal;
mod top;
pub(crate) mod trace;
mod view;
mod wait;
mod workflow;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

pub use self::error::Refused;
use self::error::complain;
pub(crate) use self::error::{hint, sentence};
use self::settings::Trouble;
use self::terminal::{print_json_text, print_line, print_text, remark};
use crate::clock::{Clock, SystemClock};
use crate::escape::is_hidden;
use crate::remote::Url;

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
    /// Database that several hosts share, such as postgres://user:password@host/database, in the place of
    /// the file in the data directory
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "FISHWAY_DATABASE",
        hide_env_values = true
    )]
    database: Option<String>,
    /// Ask a host over HTTP instead, such as http://127.0.0.1:7070; FISHWAY_TOKEN has its token
    #[arg(long, global = true, value_name = "URL", env = "FISHWAY_URL")]
    url: Option<Url>,
    /// Print JSON: one object, or one on each line of a list
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing but what was asked for
    #[arg(long, short, global = true)]
    quiet: bool,
    /// When to use colour
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        env = "FISHWAY_COLOR"
    )]
    color: Color,
    /// File of settings [default: fishway.toml, where there is one]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "FISHWAY_CONFIG",
        hide_short_help = true
    )]
    config: Option<PathBuf>,
    /// Which of its own messages the program prints: a level, or one for each part
    #[arg(long, global = true, value_name = "FILTER", default_value = "warn", env = "FISHWAY_LOG", value_parser = filter, hide_short_help = true)]
    log: String,
    /// How it prints them
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        env = "FISHWAY_LOG_FORMAT",
        hide_short_help = true
    )]
    log_format: LogFormat,
    /// The database grows no larger than this many bytes
    #[arg(
        long,
        global = true,
        value_name = "BYTES",
        env = "FISHWAY_DATABASE_BYTES_MAX",
        hide_short_help = true
    )]
    database_bytes_max: Option<u64>,
    /// All settings, and where each is from.
    #[arg(skip)]
    settings: settings::Settings,
}

#[derive(Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// A line for people.
    Text,
    /// An object on each line.
    Json,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(serve::Args),
    Start(start::Args),
    Stop(stop::Args),
    Resume(resume::Args),
    Status(status::Args),
    Top(top::Args),
    Submit(submit::Args),
    Get(get::Args),
    Wait(wait::Args),
    List(list::Args),
    Logs(logs::Args),
    History(history::Args),
    Trace(trace::Args),
    Workflow(workflow::Args),
    Deps(deps::Args),
    Pool(pool::Args),
    Queue(queue::Args),
    Schedule(schedule::Args),
    Job(job::Args),
    Mcp(mcp::Args),
    Cancel(cancel::Args),
    Retry(retry::Args),
    Signal(signal::Args),
    Delete(delete::Args),
    Prune(prune::Args),
    Secret(secret::Args),
    Randomness(randomness::Args),
    Backup(backup::Args),
    Migrate(migrate::Args),
    Metrics(metrics::Args),
    Handler(handler::Args),
    New(new::Args),
    Dev(dev::Args),
    Build(build::Args),
    Config(config::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
}

impl Command {
    /// The name of one that is about this machine, its files or its processes.
    fn local(&self) -> Option<&'static str> {
        Some(match self {
            Command::Demo(_) => "demo",
            Command::Serve(_) => "serve",
            Command::Start(_) => "start",
            Command::Stop(_) => "stop",
            Command::Resume(_) => "resume",
            Command::Secret(_) => "secret",
            Command::Randomness(_) => "randomness",
            Command::Backup(_) => "backup",
            Command::Migrate(_) => "migrate",
            Command::Doctor(_) => "doctor",
            Command::Mcp(_) => "mcp",
            _ => return None,
        })
    }
}

/// How a command ended that did not fail.
pub struct Done(u8);

impl Done {
    const OK: Done = Done(0);
    const FAILED: Done = Done(1);
    const TIMED_OUT: Done = Done(124);
}

/// The whole program.
pub fn main() -> ExitCode {
    let line: Vec<_> = std::env::args_os().collect();
    if let Some(code) = compile::started_for_it(&line) {
        return code;
    }
    let cli = match settings::read(&line) {
        Ok(cli) => cli,
        Err(Trouble::Usage(error)) => return usage(&error),
        Err(Trouble::Refused(refused)) => return complain(&refused.into()),
    };
    match cli.global.color {
        Color::Auto => {}
        Color::Always => terminal::choose_colours(true),
        Color::Never => terminal::choose_colours(false),
    }
    terminal::escape_panics();
    let json = cli.global.log_format == LogFormat::Json;
    terminal::log::start(&cli.global.log, json);
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
    if let Some(command) = cli.command.local() {
        global.here(command)?;
    }
    match cli.command {
        Command::Demo(args) => demo::run(&global, args).await,
        Command::Serve(args) => serve::run(&global, args).await,
        Command::Start(args) => start::run(&global, args).await,
        Command::Stop(args) => stop::run(&global, args).await,
        Command::Resume(args) => resume::run(&global, args).await,
        Command::Status(args) => status::run(&global, &args),
        Command::Top(args) => top::run(&global, args).await,
        Command::Submit(args) => submit::run(&global, args).await,
        Command::Get(args) => get::run(&global, &args),
        Command::Wait(args) => wait::run(&global, args).await,
        Command::List(args) => list::run(&global, &args),
        Command::Logs(args) => logs::run(&global, args).await,
        Command::History(args) => history::run(&global, args).await,
        Command::Trace(args) => trace::run(&global, args).await,
        Command::Workflow(args) => workflow::run(&global, args).await,
        Command::Deps(args) => deps::run(&global, &args),
        Command::Cancel(args) => cancel::run(&global, args).await,
        Command::Pool(args) => pool::run(&global, &args),
        Command::Queue(args) => queue::run(&global, args).await,
        Command::Schedule(args) => schedule::run(&global, args).await,
        Command::Job(args) => job::run(&global, args).await,
        Command::Mcp(args) => mcp::run(&global, args).await,
        Command::Retry(args) => retry::run(&global, args).await,
        Command::Signal(args) => signal::run(&global, args).await,
        Command::Delete(args) => delete::run(&global, args).await,
        Command::Prune(args) => prune::run(&global, args).await,
        Command::Secret(args) => secret::run(&global, args).await,
        Command::Randomness(args) => randomness::run(&global, args).await,
        Command::Backup(args) => backup::run(&global, args).await,
        Command::Migrate(args) => migrate::run(&global, args).await,
        Command::Metrics(args) => metrics::run(&global, &args),
        Command::Handler(args) => handler::run(&global, args).await,
        Command::New(args) => new::run(&global, args),
        Command::Dev(args) => dev::run(&global, args).await,
        Command::Build(args) => build::run(&global, args),
        Command::Config(args) => config::run(&global, args),
        Command::Doctor(args) => doctor::run(&global, &args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Messages that the program prints, as tracing's filter reads it.
fn filter(text: &str) -> Result<String, tracing_subscriber::filter::ParseError> {
    tracing_subscriber::EnvFilter::try_new(text).map(|_| text.to_owned())
}

/// Help, or what is wrong with the command line. The words that were typed may be anything; our help is not.
fn usage(error: &clap::Error) -> ExitCode {
    let code = u8::try_from(error.exit_code()).unwrap_or(2);
    let hides = |word: std::ffi::OsString| word.to_string_lossy().contains(is_hidden);
    match error.use_stderr() && std::env::args_os().any(hides) {
        true => remark(error.render().to_string().trim_end()),
        false => terminal::print_usage(error),
    }
    ExitCode::from(code)
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

impl Global {
    /// Say something that is not data.
    fn say(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            remark(text);
        }
    }
}

fn now_ms() -> u64 {
    SystemClock.now_ms()
}

/// One object of `--json`.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print_json_text(&json_line(value)?)
}

/// One object of `--json` on one line, whatever white space the payloads in it have.
fn json_line(value: &impl serde::Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string(value).context("the answer has no JSON form")?;
    Ok(text.replace('\n', " "))
}

/// A time with a zone, in milliseconds since the Unix epoch.
fn time_ms(text: &str) -> Result<u64, String> {
    crate::wire::time_ms(text)
}

/// A duration such as `30s`, `1h 30m` or `30d`, in milliseconds; a bare number is seconds.
fn duration_ms(text: &str) -> Result<u64, String> {
    // A thousand years, so that no sum of times overflows; each use has a bound of its own below that.
    const LONGEST_MS: u64 = 1_000 * 366 * 24 * 3_600_000;
    let no_duration = || {
        format!("\"{text}\" is no duration: write 30s, \"1h 30m\" or 30d, or a number of seconds")
    };
    let ms = match text.trim().parse::<f64>() {
        Ok(seconds) if seconds.is_nan() || seconds < 0.0 => return Err(no_duration()),
        // A number that is too large for the type becomes its largest.
        Ok(seconds) => (seconds * 1_000.0) as u64,
        Err(_) => crate::task::duration_ms(text).ok_or_else(no_duration)?,
    };
    match ms <= LONGEST_MS {
        true => Ok(ms),
        false => Err(format!("{text} is longer than a thousand years")),
    }
}
