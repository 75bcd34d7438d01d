use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::terminal::{PieceKind, Pieces};
use crate::cli::{Done, Global, json_line};
use crate::client::Client;
use crate::task::TaskId;
use crate::wire;

/// Units that are read at once, and held in memory.
const PAGE: u64 = 1_000;

/// Print what became of a job's units, in the order of their lines
///
/// One JSON object on each line: the line of the unit, its status, and its output or its error. Units
/// that have not ended are left out.
#[derive(clap::Args)]
pub struct Args {
    /// The job's id, or a unique beginning of it, or its name: then the newest of that name
    #[arg(value_name = "ID|NAME")]
    job: String,
    /// Only units that did not complete
    #[arg(long)]
    failed: bool,
    /// Write to this file instead, which is there once it is whole
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let (task, group) = client.job(&args.job)?;
    let written = match &args.output {
        None => {
            let mut stdout = Pieces::new(PieceKind::Json);
            let written = each(&client, task.id, args.failed, |line| stdout.write(line))?;
            // A reader that has gone, such as `head`, is no error.
            let (Some(written), true) = (written, stdout.flush()?) else {
                return Ok(Done::OK);
            };
            written
        }
        Some(path) => to_file(&client, task.id, args.failed, path)
            .with_context(|| format!("{} cannot be written", path.display()))?,
    };
    if let Some(path) = &args.output {
        global.say(format!("{written} results in {}", path.display()));
    }
    if !task.status.is_terminal() {
        let live = group.live + group.expected.saturating_sub(group.spawned);
        global.say(format!("{live} units have not ended"));
    }
    Ok(Done::OK)
}

/// Under another name until it is whole.
fn to_file(client: &Client, job: TaskId, failed: bool, path: &Path) -> anyhow::Result<u64> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut file = BufWriter::new(File::create(&partial)?);
    let written = each(client, job, failed, |line| {
        file.write_all(line.as_bytes())?;
        Ok(true)
    })?;
    file.into_inner()?.sync_all()?;
    std::fs::rename(&partial, path)?;
    crate::disk::sync_names(path)?;
    Ok(written.unwrap_or(0))
}

/// Hand over the line of each unit, until nobody wants the next. The answer is how many there were, or `None`
/// when somebody had enough.
fn each(
    client: &Client,
    job: TaskId,
    failed: bool,
    mut take: impl FnMut(&str) -> anyhow::Result<bool>,
) -> anyhow::Result<Option<u64>> {
    let (mut written, mut line) = (0, 0);
    loop {
        let page = client.unit_results(job, line, failed, PAGE)?;
        let Some(last) = page.last() else {
            return Ok(Some(written));
        };
        line = last.line;
        for unit in &page {
            if !take(&(json_line(&wire::job::unit(unit))? + "\n"))? {
                return Ok(None);
            }
        }
        written += page.len() as u64;
    }
}
