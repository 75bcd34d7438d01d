use std::sync::Mutex;

use super::{Done, Global, print_json, print_text};
use crate::metrics;

/// Print counts of what happened here, in the text format of Prometheus
///
/// They are kept with the tasks, so they stand whether a host serves or not, and after tasks were
/// deleted. With --json, one object for each count that the store keeps.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(global: &Global, _args: &Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let store = client.store();
    if global.json {
        for counter in store.counters()? {
            print_json(&serde_json::json!({
                "name": counter.name, "labels": counter.labels, "value": counter.value,
            }))?;
        }
    } else {
        print_text(metrics::text(&**store, &Mutex::default())?.trim_end())?;
    }
    Ok(Done::OK)
}
