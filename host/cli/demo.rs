use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::serve::Signals;
use super::{Done, Global, Refused, print_json, print_line, terminal, trace};
use crate::builder::{self, Request, examples};
use crate::client::Client;
use crate::clock::SystemClock;
use crate::daemon::{Host, Setup};
use crate::executor::Settings;
use crate::task::{Options, Status, StatusSet, TaskId};
use crate::wire;

/// What runs has this long to end when the demonstration is over.
const GRACE: Duration = Duration::from_secs(2);

/// Build the example handlers, count the words of a book with them, and show how
#[derive(clap::Args)]
pub struct Args {
    /// Parts that the text is split into
    #[arg(long, value_name = "N", default_value_t = 16)]
    shards: u32,
    /// Never install a compiler
    #[arg(long)]
    no_install: bool,
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    crate::disk::create_data_directory(&global.data)
        .with_context(|| format!("{} cannot be made", global.data.display()))?;
    let home = global.data.join("demo");
    let (handlers_dir, data_dir) = (home.join("handlers"), home.join("data"));
    let project = examples::unpack(&home.join("source"))
        .with_context(|| format!("the examples cannot be written below {}", home.display()))?;
    let request = Request {
        project,
        out_dir: handlers_dir.clone(),
        target_dir: None,
        cache_dir: None,
        install: !args.no_install,
    };
    global.say("building the example handlers (a minute the first time)");
    let said = global.clone();
    let report = tokio::task::spawn_blocking(move || {
        builder::build(&request, &mut |line| said.say(format!("  {line}")))
    })
    .await
    .context("the build did not end")??;
    for built in &report.built {
        global.say(format!(
            "  {} ({})",
            built.path.display(),
            super::view::bytes(built.bytes)
        ));
    }
    examples::place_texts(&handlers_dir)
        .with_context(|| format!("the text cannot be written into {}", handlers_dir.display()))?;

    let mut signals = Signals::new()?;
    let host = Host::start(Setup {
        handlers_dir: handlers_dir.clone(),
        data_dir: data_dir.clone(),
        settings: Settings {
            grace: GRACE,
            ..Settings::default()
        },
        database: None,
        database_bytes_max: global.database_bytes_max,
        keep: crate::store::Keep::for_ever(),
        clock: Arc::new(SystemClock),
    })
    .await?;
    if let Some(problem) = host.loader().problems().first() {
        return Err(Refused::new(problem.to_string(), problem.hint.clone()).into());
    }
    let client = host.client();
    let input =
        serde_json::json!({ "path": examples::TEXT_PATH, "shards": args.shards }).to_string();
    global.say("");
    global.say(format!("$ fishway submit fetch-words '{input}'"));
    let id = client
        .submit("fetch-words", vec![input], Options::default())
        .await?[0]
        .id;
    let done = tokio::select! {
        done = show(global, &client, id) => done?,
        () = signals.next() => Done(130),
    };
    host.stop(GRACE).await;
    let (handlers, data) = (handlers_dir.display(), data_dir.display());
    global.say("");
    global.say(format!(
        "All of it is kept in {data}. Try next:\n  \
         fishway serve {handlers} --data {data} &\n  \
         fishway submit hello '{{\"name\": \"Ada\"}}' --wait --data {data}\n  \
         fishway trace {id} --data {data}"
    ));
    global.say("Write a handler of your own: docs/start.md");
    Ok(done)
}

/// Show the work until it ends, then the trace and the result.
async fn show(global: &Global, client: &Client, id: TaskId) -> anyhow::Result<Done> {
    let live = terminal::talks_to_terminal() && !global.quiet;
    let screen = live.then(|| {
        let style = indicatif::ProgressStyle::with_template("{msg}");
        let style = style.unwrap_or_else(|_| indicatif::ProgressStyle::default_spinner());
        indicatif::ProgressBar::new_spinner().with_style(style)
    });
    let mut commits = client.store().bus().commits();
    let ids = [id];
    let end = client.wait(&ids, false, StatusSet::terminal(), None);
    tokio::pin!(end);
    let tasks = loop {
        tokio::select! {
            tasks = &mut end => break tasks?.unwrap_or_default(),
            changed = commits.changed() => {
                changed?;
                // indicatif draws no more than some twenty times a second.
                if let Some(screen) = &screen {
                    let lines = trace::Tree::of(client, id, false)?;
                    let lines: Vec<String> = lines.collect::<anyhow::Result<_>>()?;
                    screen.set_message(terminal::drawn(&lines.join("\n")));
                }
            }
        }
    };
    if let Some(screen) = screen {
        screen.finish_and_clear();
    }
    let Some(task) = tasks.into_iter().next() else {
        return Ok(Done::FAILED);
    };
    if global.json {
        print_json(&wire::task(&task, super::now_ms()))?;
        return Ok(if task.status == Status::Completed {
            Done::OK
        } else {
            Done::FAILED
        });
    }
    global.say("");
    global.say(format!("$ fishway trace {id}"));
    for line in trace::Tree::of(client, id, false)? {
        global.say(line?);
    }
    let Some(output) = task
        .output
        .as_deref()
        .filter(|_| task.status == Status::Completed)
    else {
        return Ok(Done::FAILED);
    };
    let result: serde_json::Value = serde_json::from_str(output)?;
    global.say("");
    print_line(&format!(
        "{} words, {} of them distinct. The most frequent:",
        result["total"], result["distinct"]
    ))?;
    for pair in result["top"].as_array().into_iter().flatten().take(10) {
        print_line(&format!(
            "  {:>6}  {}",
            pair[1].to_string(),
            pair[0].as_str().unwrap_or_default()
        ))?;
    }
    Ok(Done::OK)
}
