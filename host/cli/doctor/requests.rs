//! Which handlers may send HTTP requests, and whether this machine can send them.

use std::path::Path;

use super::Finding;
use crate::cli::view::count;
use crate::exchange::trusted_authorities;
use crate::limits::{HttpGrant, MANIFEST_BYTES_MAX};
use crate::loader::manifest;

/// Most handlers that are named; the rest is counted.
const NAMED_MAX: usize = 10;

/// The findings; none if no handler sends requests.
pub fn requests(directory: &Path) -> Option<Finding> {
    let what = "requests";
    let mut senders = senders(directory);
    if senders.is_empty() {
        return None;
    }
    senders.sort_by(|(one, _), (other, _)| one.cmp(other));
    let https = senders
        .iter()
        .any(|(_, grants)| grants.iter().any(|grant| grant.to.https));
    if https && let Err(why) = trusted_authorities() {
        let says = format!(
            "handlers may send requests by https, but this machine trusts no authority ({why}): install ca-certificates"
        );
        return Some(Finding::bad(what, says));
    }
    let more = senders.len().saturating_sub(NAMED_MAX);
    let mut named: Vec<String> = senders.iter().take(NAMED_MAX).map(described).collect();
    if more > 0 {
        named.push(format!("{more} more"));
    }
    let many = count(
        senders.len() as u64,
        "handler may send requests",
        "handlers may send requests",
    );
    Some(Finding::good(
        what,
        format!("{many} by HTTP: {}", named.join("; ")),
    ))
}

/// A handler, its allowed destinations, and the secrets that may be sent there.
fn described((name, grants): &(String, Vec<HttpGrant>)) -> String {
    let mut places: Vec<String> = Vec::new();
    let mut secrets: Vec<&str> = Vec::new();
    for grant in grants {
        let place = grant.to.to_string();
        if !places.contains(&place) {
            places.push(place);
        }
        let names = grant.secrets.iter().map(String::as_str);
        secrets.extend(names);
    }
    secrets.sort_unstable();
    secrets.dedup();
    let with = match secrets.is_empty() {
        true => String::new(),
        false => format!(", with {}", secrets.join(", ")),
    };
    format!("{} to {}{with}", name, places.join(", "))
}

/// The handlers whose manifests grant requests. `handler list` reports invalid manifests.
fn senders(directory: &Path) -> Vec<(String, Vec<HttpGrant>)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    let components = files.filter(|file| crate::cli::handler::is_component(file));
    let read = components.filter_map(|file| {
        let path = file.with_extension("toml");
        let about = std::fs::metadata(&path).ok()?;
        if !about.is_file() || about.len() > MANIFEST_BYTES_MAX {
            return None;
        }
        let text = std::fs::read_to_string(&path).ok()?;
        let grants = manifest::parse(&text, directory).ok()?.grants.http;
        let name = file.file_stem()?.to_string_lossy().into_owned();
        (!grants.is_empty()).then_some((name, grants))
    });
    read.collect()
}
