mod changes;
pub mod follow;
mod tree;

use anyhow::Context;

pub use tree::Tree;

use super::terminal::{PieceKind, Pieces};
use super::{Done, Global};
use crate::wire::trace::JsonTree;

/// Pieces of a trace that are written one by one, so that the first lines are there at once.
const AT_ONCE: usize = 100;

/// Show a task and all below it
///
/// Each task has a line; below it stand why it failed, its result, its children, and what took its place
/// when it was retried. The first line names what contains the task. A tree that is deeper than 20 levels
/// goes on at the left margin, with the number of levels that stand above.
#[derive(clap::Args, Clone)]
pub struct Args {
    /// Id, a unique beginning of one, the name of a job or workflow, or WORKFLOW:KEY for a job
    id: String,
    /// How to print it
    #[arg(long, default_value = "tree")]
    format: Format,
    /// Show results, and nothing cut
    #[arg(long)]
    full: bool,
    /// Go on until the task and all below it have ended. On a terminal the tree is drawn anew;
    /// elsewhere, and as JSON, there is a line for each change
    #[arg(long, short)]
    follow: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Tree,
    Json,
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let client = global.existing_client(args.follow)?;
    let id = client.resolve(&args.id)?;
    let json = global.json || args.format == Format::Json;
    if args.follow {
        return follow::run(client, id, json, args.full).await;
    }
    // Not here: while a large tree is written, somebody has to hear a Ctrl-C.
    let written = tokio::task::spawn_blocking(move || {
        if json {
            let end = std::iter::once(Ok("\n".to_owned()));
            let tree = JsonTree::of(&client, id)?.map(|piece| Ok(piece?));
            write(tree.chain(end), PieceKind::Json)
        } else {
            write(Tree::of(&client, id, args.full)?, PieceKind::Line)
        }
    });
    written.await.context("the trace did not end")??;
    Ok(Done::OK)
}

/// Write the pieces of a trace to stdout as they are made. The answer is whether there is still a
/// reader: one that has gone, such as `head`, is no error.
fn write(
    pieces: impl Iterator<Item = anyhow::Result<String>>,
    kind: PieceKind,
) -> anyhow::Result<bool> {
    let mut out = Pieces::new(kind);
    for (index, piece) in pieces.enumerate() {
        let there = out.write(&piece?)? && (index >= AT_ONCE || out.flush()?);
        if !there {
            return Ok(false);
        }
    }
    out.flush()
}
