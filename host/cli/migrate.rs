use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use super::view::duration;
use super::{Done, Global, Refused, print_json};
use crate::client::Client;
use crate::daemon;
use crate::loader::Kept;
use crate::secrets::KeySource;
use crate::store::postgres::{Address, moving};
use crate::store::{SecretInfo, SecretKind, SharedComponent, Store};

/// Move the data directory's database, whole, to a PostgreSQL server
///
/// No host may serve it meanwhile. The server's database must not have any tasks. Everything is copied in one
/// transaction, or nothing is. The file keeps its data and is marked: commands can read it, but no host serves it and
/// nothing writes to it, because its tasks would run twice. With --json, an object with rows.
#[derive(clap::Args)]
pub struct Args {
    /// Where to, such as postgres://user:password@host/database
    #[arg(
        value_name = "URL",
        env = "FISHWAY_MIGRATE_TO",
        hide_env = true,
        required_unless_present = "undo"
    )]
    to: Option<String>,
    /// Remove the mark from the file, to use the file again. Unfinished tasks then run in the file and on the server
    #[arg(long)]
    undo: bool,
}

/// Take the mark away.
fn undo(global: &Global) -> anyhow::Result<Done> {
    let file = global.existing_file(false)?;
    let Some(to) = file.moved_to()? else {
        let what = format!("the tasks of {} were not moved", global.data.display());
        return Err(Refused::new(what, "fishway serve goes on with them").into());
    };
    file.set_moved_to(None)?;
    global.say(format!(
        "{} can be served again; its unfinished tasks are also in {to}, and run twice when both are served",
        global.data.display()
    ));
    Ok(Done::OK)
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    global.here("migrate")?;
    let started = Instant::now();
    let Some(to) = args.to.filter(|_| !args.undo) else {
        return undo(global);
    };
    let address = Address::parse(&to)?;
    let file = Arc::new(global.existing_file(false)?);
    if let Some(pid) = daemon::serving(&global.data) {
        let what = format!("process {pid} serves {}", global.data.display());
        return Err(Refused::new(
            what,
            "fishway stop ends it; then nothing is lost on the way",
        )
        .into());
    }
    let bar = indicatif::ProgressBar::new_spinner().with_message("rows");
    if global.quiet {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    // From here on nobody else writes to the file: what would be written is in neither database.
    let marked = file.moved_to()?.is_some();
    file.set_moved_to(Some(&address.place))?;
    let (from, to, shown) = (file.clone(), address.clone(), bar.clone());
    let moving = move || moving::fill(&to, &*from, &|rows| shown.set_position(rows));
    let moved = tokio::task::spawn_blocking(moving).await;
    bar.finish_and_clear();
    let moved = moved
        .context("the move did not end")
        .and_then(|moved| Ok(moved?));
    if moved.is_err() && !marked {
        file.set_moved_to(None)?;
    }
    let moved = moved?;
    // What unfinished tasks go on with is in files of the data directory.
    let there = Client::new(global.store_at(address.clone())?);
    let kept = Kept::of(&global.data)?;
    for digest in file.digests_needed()? {
        let Some(bytes) = kept.find(&digest) else {
            continue;
        };
        for (name, manifest) in kept.manifests(&digest) {
            let component = SharedComponent {
                digest: digest.clone(),
                bytes: bytes.clone(),
                name,
                manifest,
            };
            there.store().share_component(component).await?;
        }
    }
    if global.json {
        print_json(&serde_json::json!({ "rows": moved }))?;
    } else {
        global.say(format!(
            "{moved} rows are in {} ({}); fishway serve --database URL goes on with them",
            address.place,
            duration(started.elapsed().as_millis() as u64)
        ));
    }
    let encrypted = |info: &SecretInfo| info.kind == SecretKind::Encrypted;
    if there.store().secrets()?.iter().any(encrypted) {
        global.say(format!(
            "every host there needs the key of the secrets: copy {}",
            KeySource::of(&global.data).place()
        ));
    }
    Ok(Done::OK)
}
