//! A trace that goes on until the work has ended.
//!
//! The store tells of commits, those of a host in another process too, and each is a reason to
//! look. Between two looks is a rest, longer where a look takes longer: a busy host is not slowed
//! down by whoever watches it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::changes::Changes;
use super::tree::{Tree, line, notes};
use super::write;
use crate::cli::Done;
use crate::client::Client;
use crate::store::Node;
use crate::task::TaskId;
use crate::wire::trace::object;

/// Parts of the time that are rest, for each that is spent looking.
const RESTS: u32 = 9;

/// The shortest rest, in which a burst of commits becomes one look.
const REST_MIN: Duration = Duration::from_millis(20);

/// How often durations go on where they are seen.
const SECOND: Duration = Duration::from_secs(1);

/// Rows of a terminal that does not say how many it has.
const ROWS: usize = 24;

/// Follow a task until it and all below it have ended.
pub async fn run(client: Client, id: TaskId, json: bool, full: bool) -> anyhow::Result<Done> {
    let mut commits = client.store().bus().commits();
    let mut follower = Follower {
        changes: Changes::of(id),
        shown: match json {
            true => Shown::Json,
            false if std::io::stdout().is_terminal() => Shown::Screen(Screen::default()),
            false => Shown::Nothing,
        },
        client,
        id,
        full,
    };
    let mut gone = reader_gone();
    // A large tree is seen before all of it has been looked at.
    follower.draw()?;
    loop {
        commits.mark_unchanged();
        let began = Instant::now();
        // Not here: meanwhile somebody has to hear a Ctrl-C.
        let looked = tokio::task::spawn_blocking(move || {
            let goes_on = follower.look()?;
            anyhow::Ok((follower, goes_on))
        });
        let goes_on;
        (follower, goes_on) = looked.await.context("the trace did not end")??;
        if !goes_on {
            return Ok(Done::OK);
        }
        tokio::time::sleep((began.elapsed() * RESTS).max(REST_MIN)).await;
        loop {
            tokio::select! {
                changed = commits.changed() => break changed?,
                Ok(()) = &mut gone => return Ok(Done::OK),
                () = tokio::time::sleep(SECOND), if follower.on_screen() => follower.draw()?,
            }
        }
    }
}

/// Tells when nobody reads any more what is printed, though there may be nothing to print for long.
pub fn reader_gone() -> oneshot::Receiver<()> {
    let (tell, gone) = oneshot::channel();
    std::thread::spawn(move || {
        let stdout = std::io::stdout();
        // Nothing is asked for, so only the loss of the reader ends it.
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        while let Err(Errno::INTR) = poll(&mut watched, None) {}
        if !watched[0].revents().is_empty() {
            let _ = tell.send(());
        }
    });
    gone
}

struct Follower {
    client: Client,
    id: TaskId,
    full: bool,
    changes: Changes,
    shown: Shown,
}

/// What stands on stdout so far.
enum Shown {
    Nothing,
    /// The tree, and a line for each change since.
    Lines,
    /// An object for each task, and one for each change since.
    Json,
    /// The tree as it was at the last look.
    Screen(Screen),
}

impl Follower {
    /// Show what has changed. The answer is whether to go on.
    fn look(&mut self) -> anyhow::Result<bool> {
        let store = self.client.store();
        if let Shown::Screen(screen) = &mut self.shown {
            let open = self.changes.look(&**store, &mut |_| Ok(()))?;
            if open {
                self.draw()?;
            } else {
                screen.draw(std::iter::empty())?;
                write(Tree::of(&self.client, self.id, self.full)?, "\n")?;
            }
            return Ok(open);
        }
        let mut told = HashMap::new();
        let mut reader_there = true;
        if let Shown::Nothing = self.shown {
            let tree = Tree::telling(&self.client, self.id, self.full, Some(&mut told))?;
            reader_there = write(tree, "\n")?;
            self.shown = Shown::Lines;
        }
        let json = matches!(self.shown, Shown::Json);
        let (client, id, full) = (&self.client, self.id, self.full);
        let mut tell = |node: Node| {
            let task = &node.task;
            // What the tree has shown is no news at the look that follows.
            if !reader_there || told.remove(&task.id) == Some(task.status) {
                return Ok(());
            }
            let text = match json {
                true => object(client, &node, true)?,
                false => {
                    let mut text = line(task);
                    for note in notes(client, task, full, task.id == id)? {
                        let _ = write!(text, "\n└── {note}");
                    }
                    text
                }
            };
            reader_there = write(std::iter::once(Ok(text)), "\n")?;
            Ok(())
        };
        let open = self.changes.look(&**store, &mut tell)?;
        Ok(open && reader_there)
    }

    fn on_screen(&self) -> bool {
        matches!(self.shown, Shown::Screen(_))
    }

    /// Draw as much of the tree as there is room for, as it is now.
    fn draw(&mut self) -> anyhow::Result<()> {
        match &mut self.shown {
            Shown::Screen(screen) => screen.draw(Tree::of(&self.client, self.id, false)?),
            _ => Ok(()),
        }
    }
}

/// Lines of a terminal that are drawn over those before.
#[derive(Default)]
pub struct Screen {
    drawn: usize,
}

impl Screen {
    /// Draw as many lines as there is room for. The cursor ends below them, so that the terminal is
    /// in order whenever the program ends.
    pub fn draw(
        &mut self,
        mut lines: impl Iterator<Item = anyhow::Result<String>>,
    ) -> anyhow::Result<()> {
        let stdout = std::io::stdout();
        let rows = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| size.ws_row.into());
        let room = if rows > 0 { rows } else { ROWS } - 1;
        let mut shown = lines
            .by_ref()
            .take(room)
            .collect::<anyhow::Result<Vec<String>>>()?;
        if shown.len() == room && lines.next().is_some() {
            shown.pop();
            shown.push("...".to_owned());
        }
        if anstream::AutoStream::choice(&stdout) == anstream::ColorChoice::Never {
            for line in &mut shown {
                *line = anstream::adapter::strip_str(line).to_string();
            }
        }
        let text = self.over(&shown);
        let mut stdout = stdout.lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }

    /// The text that puts `lines` in the place of those drawn before.
    fn over(&mut self, lines: &[String]) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        // A line that is too long is cut by the terminal, not wrapped: lines are counted.
        text.push_str("\x1b[?7l");
        for line in lines {
            let _ = write!(text, "\r{line}\x1b[K\n");
        }
        text.push_str("\x1b[?7h\x1b[J");
        self.drawn = lines.len();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_drawn_over_the_one_before_and_left_in_order() {
        let mut screen = Screen::default();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let mut check = |text: &str, expected: &str| {
            let drawn = screen.over(&lines(text)).replace('\x1b', "^");
            assert_eq!(drawn, expected);
        };
        check("a\nb", "^[?7l\ra^[K\n\rb^[K\n^[?7h^[J");
        check("a", "^[2A^[?7l\ra^[K\n^[?7h^[J");
        check("", "^[1A^[?7l^[?7h^[J");
    }
}
