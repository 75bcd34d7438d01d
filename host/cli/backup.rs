use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;

use super::view::{bytes, duration};
use super::{Done, Global, print_json, remark};
use crate::store::sqlite::damaged_tasks;

/// Copy the database to a file, while the host runs
///
/// The copy is one moment of the database, whole and looked through: it has its name only then. To go
/// back to it, put it as fishway.db into an empty data directory. It has the secrets that random numbers of
/// handlers are made from: keep it as safe as the data directory. Tasks that do not match their checksums are copied
/// as they are, with a warning, and such a copy never replaces an earlier one. With --json, an object with file,
/// bytes, tasks
/// and damaged.
#[derive(clap::Args)]
pub struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let started = Instant::now();
    let store = global.existing_file(false)?;
    let bar = indicatif::ProgressBar::new(0);
    if global.quiet {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let (file, shown) = (args.file.clone(), bar.clone());
    // Not here: meanwhile somebody has to hear a Ctrl-C.
    let copied = tokio::task::spawn_blocking(move || {
        store.backup(&file, args.force, &mut |done, all| {
            shown.set_length(all);
            shown.set_position(done);
        })
    });
    let copied = copied.await.context("the backup did not end")?;
    bar.finish_and_clear();
    let copied = copied?;
    let file = args.file.display();
    let (damaged, _) = &copied.damaged;
    if *damaged > 0 {
        let tasks = damaged_tasks(&copied.damaged);
        remark(format_args!(
            "warning: {tasks} in the database, and so in the copy: keep an earlier one, which may have what was"
        ));
    }
    if global.json {
        print_json(&serde_json::json!({
            "file": args.file, "bytes": copied.bytes, "tasks": copied.tasks, "damaged": damaged,
        }))?;
    } else {
        global.say(format!(
            "{file}: {} tasks, {}, looked through and on disk ({})",
            copied.tasks,
            bytes(copied.bytes),
            duration(started.elapsed().as_millis() as u64)
        ));
    }
    Ok(Done::OK)
}
