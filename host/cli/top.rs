//! A live view of the host, its queues and what runs.
//!
//! It reads and nothing else, once in a second: the death of a host is told by no commit, and times go
//! on by themselves.

use std::fmt::Write as _;
use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;

use super::status::{headline, other_version, queues};
use super::terminal::screen::{Screen, reader_gone};
use super::view::{cut, duration, style};
use super::{Done, Global, now_ms, print_json, print_line, terminal};
use crate::client::Client;
use crate::store::{Filter, counter};
use crate::task::{Status, Task};
use crate::wire;

/// Watch the host: its queues, what runs and how far it is
///
/// q or Ctrl-C ends it; the host does not notice. Where there is no terminal it is printed once.
#[derive(clap::Args)]
pub struct Args {}

/// The rest between two looks.
const REST: Duration = Duration::from_secs(1);

/// Running tasks that are shown where there is no terminal to be full.
const TASKS: u64 = 50;

pub async fn run(global: &Global, _args: Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    if global.json {
        match global.remote(false)? {
            Some(remote) => print_json(&remote.host()?)?,
            None => print_json(&wire::host(&global.data, &global.view(&client)?))?,
        }
        return Ok(Done::OK);
    }
    let mut top = Top {
        global: global.clone(),
        client,
        ended: None,
    };
    if !terminal::is_terminal() {
        for line in top.look()? {
            print_line(&line)?;
        }
        return Ok(Done::OK);
    }
    watch(top).await
}

async fn watch(mut top: Top) -> anyhow::Result<Done> {
    let mut screen = Screen::default();
    let _keys = Keys::silent();
    let (mut quit, mut gone) = (asked_to_quit(), reader_gone());
    loop {
        // Not here: meanwhile somebody has to hear a Ctrl-C.
        let looked = tokio::task::spawn_blocking(move || {
            let lines = top.look()?;
            anyhow::Ok((top, lines))
        });
        let lines;
        (top, lines) = looked.await.context("the look did not end")??;
        screen.draw(lines.into_iter().map(Ok))?;
        tokio::select! {
            () = tokio::time::sleep(REST) => {}
            Ok(()) = &mut quit => return Ok(Done::OK),
            Ok(()) = &mut gone => return Ok(Done::OK),
        }
    }
}

struct Top {
    global: Global,
    client: Client,
    /// How many tasks had ended, and when that was counted.
    ended: Option<(f64, Instant)>,
}

impl Top {
    fn look(&mut self) -> anyhow::Result<Vec<String>> {
        let store = self.client.store().clone();
        let view = self.global.view(&self.client)?;
        let mut lines = vec![headline(&self.global, &view)];
        lines.extend(view.host.as_ref().and_then(other_version));
        lines.push(self.rate(&*store)?);
        lines.push(String::new());
        lines.extend(queues(&view.depths, true));
        lines.push(String::new());
        let filter = Filter {
            statuses: [Status::Running].into_iter().collect(),
            limit: TASKS,
            ..Filter::default()
        };
        let mut running = self.client.list(&filter)?;
        // Groups run nothing themselves.
        running.retain(|task| task.group.is_none());
        if running.is_empty() {
            lines.push("nothing runs".to_owned());
        }
        lines.extend(running.iter().map(row));
        Ok(lines)
    }

    /// How many tasks end in a second, counted since the look before.
    fn rate(&mut self, store: &dyn crate::store::Store) -> anyhow::Result<String> {
        let counters = store.counters()?;
        let ended = (counters.iter()).filter(|counter| counter.name == counter::TASKS_ENDED);
        let ended = ended.fold(0.0, |sum, counter| sum + counter.value);
        let now = Instant::now();
        let mut text = format!("{ended} tasks have ended");
        if let Some((before, then)) = self.ended.replace((ended, now)) {
            let seconds = now.duration_since(then).as_secs_f64().max(0.001);
            let _ = write!(text, ", {:.1} in a second", (ended - before) / seconds);
        }
        Ok(text)
    }
}

/// A running task, in a line.
fn row(task: &Task) -> String {
    let colour = style(task.status);
    let took = task.duration_ms(now_ms()).map(duration).unwrap_or_default();
    let mut line = format!(
        "{:13}  {colour}{:20}{colour:#}  {took:>8}",
        task.id,
        cut(&task.handler, 20)
    );
    if let Some(progress) = &task.progress {
        let _ = write!(line, "  {}", progress.done);
        if let Some(total) = progress.total {
            let _ = write!(line, "/{total}");
        }
        if let Some(message) = &progress.message {
            let _ = write!(line, " {}", cut(message, 60));
        }
    }
    line
}

/// The keyboard, as long as what is typed is not shown and comes key by key.
struct Keys {
    before: Option<Termios>,
}

impl Keys {
    fn silent() -> Keys {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok();
        if let Some(before) = &before {
            let mut silent = before.clone();
            silent
                .local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO);
            // Where that cannot be, Ctrl-C ends it all the same.
            let _ = tcsetattr(&stdin, OptionalActions::Now, &silent);
        }
        Keys { before }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Tells when somebody types q.
fn asked_to_quit() -> oneshot::Receiver<()> {
    let (tell, asked) = oneshot::channel();
    std::thread::spawn(move || {
        let typed = std::io::stdin().lock().bytes();
        if typed
            .map_while(Result::ok)
            .any(|key| matches!(key, b'q' | b'Q'))
        {
            let _ = tell.send(());
        }
    });
    asked
}
