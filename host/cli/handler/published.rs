//! The handlers that hosts publish for each other through a database: list them, and remove those of hosts
//! that are gone.

use std::sync::Arc;

use super::super::view::duration;
use super::super::{Done, Global, Refused, now_ms, print_json, print_line, terminal};
use crate::store::{PublishedHandler, Store};

/// Which of the published handlers.
#[derive(clap::Args)]
pub struct UnpublishArgs {
    /// Handlers
    #[arg(value_name = "NAME", required_unless_present = "gone")]
    names: Vec<String>,
    /// All handlers of all hosts that are gone
    #[arg(long, conflicts_with = "names")]
    gone: bool,
}

/// Show what the hosts of a database publish, and which of it hosts without handlers of their own run.
pub fn list(global: &Global) -> anyhow::Result<Done> {
    let store = shared(global, "handler published")?;
    let published = store.published()?;
    let now_ms = store
        .server_clock()
        .map_or_else(now_ms, |clock| clock.now_ms());
    if published.is_empty() {
        global.say("no host publishes handlers");
    }
    if !global.json && terminal::is_terminal() && !global.quiet && !published.is_empty() {
        print_line(&format!(
            "{:20}  {:19}  {:8}  {:8}  {:>10}  DIRECTORY",
            "NAME", "COMPONENT", "HOST", "MIRRORED", "CHANGED"
        ))?;
    }
    let mut before = None;
    for handler in &published {
        // Of one name the first is the newest.
        let mirrored = before != Some(&handler.name);
        before = Some(&handler.name);
        match global.json {
            true => print_json(&serde_json::json!({
                "name": handler.name,
                "digest": handler.digest,
                "host": Some(handler.host).filter(|host| *host > 0),
                "serves": handler.serves,
                "directory": handler.directory,
                "mirrored": mirrored,
                "changed_at_ms": handler.changed_at_ms,
            }))?,
            false => print_line(&line(handler, mirrored, now_ms))?,
        }
    }
    Ok(Done::OK)
}

fn line(handler: &PublishedHandler, mirrored: bool, now_ms: u64) -> String {
    let host = match (handler.serves, handler.host) {
        (true, host) => host.to_string(),
        (false, 0) => "gone".to_owned(),
        (false, host) => format!("{host} gone"),
    };
    let mirrored = if mirrored { "yes" } else { "no" };
    let changed = format!(
        "{} ago",
        duration(now_ms.saturating_sub(handler.changed_at_ms))
    );
    format!(
        "{:20}  {:19.19}  {host:8}  {mirrored:8}  {changed:>10}  {}",
        handler.name, handler.digest, handler.directory
    )
}

/// Take out what hosts have published that are gone.
pub async fn unpublish(global: &Global, args: &UnpublishArgs) -> anyhow::Result<Done> {
    let store = shared(global, "handler unpublish")?;
    let published = store.published()?;
    for name in &args.names {
        let mut of_name = published.iter().filter(|handler| handler.name == *name);
        if of_name.clone().any(|handler| !handler.serves) {
            continue;
        }
        return Err(match of_name.next() {
            None => Refused::new(
                format!("no host publishes a handler \"{name}\""),
                "fishway handler published shows what hosts publish",
            ),
            Some(handler) => Refused::new(
                format!("host {} serves, and publishes \"{name}\"", handler.host),
                format!(
                    "remove its file from {} on that host: then nobody mirrors it any more",
                    handler.directory
                ),
            ),
        }
        .into());
    }
    let names = (!args.gone).then(|| args.names.clone());
    let removed = store.unpublish(names).await?;
    match global.json {
        true => print_json(&serde_json::json!({ "unpublished": removed }))?,
        false => global.say(match removed {
            1 => "1 handler is no longer published".to_owned(),
            many => format!("{many} handlers are no longer published"),
        }),
    }
    Ok(Done::OK)
}

/// The database that hosts share.
fn shared(global: &Global, command: &str) -> anyhow::Result<Arc<dyn Store>> {
    global.here(command)?;
    if global.database()?.is_none() {
        let what = "hosts publish handlers to each other through a PostgreSQL database only";
        let hint = "name it with --database or FISHWAY_DATABASE; fishway handler list shows the handlers of a directory";
        return Err(Refused::usage(what, hint).into());
    }
    global.store(false)
}
