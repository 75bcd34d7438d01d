use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::cli::{Done, Global};
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
            let mut stdout = BufWriter::new(std::io::stdout().lock());
            let written = write(&client, task.id, args.failed, &mut stdout);
            match written.and_then(|many| Ok((many, stdout.flush()?).0)) {
                Err(error) if is_closed(&error) => return Ok(Done::OK),
                written => written.context("stdout cannot be written")?,
            }
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

/// A reader that has gone, such as `head`, is no error.
fn is_closed(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Under another name until it is whole.
fn to_file(client: &Client, job: TaskId, failed: bool, path: &Path) -> anyhow::Result<u64> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut file = BufWriter::new(File::create(&partial)?);
    let written = write(client, job, failed, &mut file)?;
    file.into_inner()?.sync_all()?;
    std::fs::rename(&partial, path)?;
    crate::disk::sync_names(path)?;
    Ok(written)
}

fn write(client: &Client, job: TaskId, failed: bool, out: &mut impl Write) -> anyhow::Result<u64> {
    let (mut written, mut line) = (0, 0);
    loop {
        let page = client.unit_results(job, line, failed, PAGE)?;
        let Some(last) = page.last() else {
            return Ok(written);
        };
        line = last.line;
        for unit in &page {
            serde_json::to_writer(&mut *out, &wire::job::unit(unit))
                .map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
        }
        written += page.len() as u64;
    }
}
