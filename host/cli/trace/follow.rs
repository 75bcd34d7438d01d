//! A trace that goes on until the work has ended.
//!
//! The store tells of commits, those of a host in another process too, and each is a reason to
//! look. Between two looks is a rest, longer where a look takes longer: a busy host is not slowed
//! down by whoever watches it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::changes::Changes;
use super::tree::{Tree, line, notes};
use super::write;
use crate::cli::Done;
use crate::cli::terminal::screen::{Screen, reader_gone};
use crate::cli::terminal::{self, PieceKind};
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

/// Follow a task until it and all below it have ended.
pub async fn run(client: Client, id: TaskId, json: bool, full: bool) -> anyhow::Result<Done> {
    let mut commits = client.store().bus().commits();
    let mut follower = Follower {
        changes: Changes::of(id),
        shown: match json {
            true => Shown::Json,
            false if terminal::is_terminal() => Shown::Screen(Screen::default()),
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
                write(Tree::of(&self.client, self.id, self.full)?, PieceKind::Line)?;
            }
            return Ok(open);
        }
        let mut told = HashMap::new();
        let mut reader_there = true;
        if let Shown::Nothing = self.shown {
            let tree = Tree::telling(&self.client, self.id, self.full, Some(&mut told))?;
            reader_there = write(tree, PieceKind::Line)?;
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
            reader_there = match json {
                true => {
                    let text = object(client, &node, true)?;
                    write(std::iter::once(Ok(text + "\n")), PieceKind::Json)?
                }
                false => {
                    let notes = notes(client, task, full, task.id == id)?;
                    let notes = notes.into_iter().map(|note| format!("└── {note}"));
                    let lines = std::iter::once(line(task)).chain(notes);
                    write(lines.map(Ok), PieceKind::Line)?
                }
            };
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
