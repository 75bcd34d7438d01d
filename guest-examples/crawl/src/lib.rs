//! Follows links from page to page, each page once, though pages link to each other in circles.
//!
//! `{"start": "index.html"}` opens a pool and adds the first page. Each page is a member that adds the pages
//! it links to. Its key is the page's name, so that a page is one task, whoever finds it first. The
//! pool ends by itself when no page is left.
//!
//! `{"start": "https://example.com/index.html"}` does the same with pages of a server, and skips links to others.

use std::collections::BTreeMap;

use kit::{Failure, OnFailure, Options, PoolOptions, http, pools, tasks};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

kit::handler!(run);

const POOL: &str = "pages";

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected {\"start\"} or {\"page\"}")]
enum Input {
    Crawl { start: String },
    Page { page: String },
}

/// What a member returns: the pages that it links to, and the tasks that visit them.
#[derive(Deserialize, Serialize)]
struct Visited {
    links: BTreeMap<String, String>,
}

fn run(input: Input) -> Result<Value, Failure> {
    match input {
        Input::Crawl { start } => crawl(start),
        Input::Page { page } => Ok(json!(visit(&page)?)),
    }
}

fn crawl(start: String) -> Result<Value, Failure> {
    let options = PoolOptions {
        concurrency: Some(4),
        // A link that leads nowhere is part of the result.
        on_failure: Some(OnFailure::Collect),
    };
    pools::open(POOL, Some(options))?;
    let first = add(&start)?;
    // This task adds no more; the pages that run still may.
    pools::start_drain(POOL)?;
    let status = pools::wait(POOL, None)?;

    // Outcomes are read by id, along the links.
    let (mut pages, mut broken) = (BTreeMap::new(), Vec::new());
    let mut found = vec![(start, first)];
    while let Some((page, id)) = found.pop() {
        if pages.contains_key(&page) || broken.contains(&page) {
            continue;
        }
        let Some(output) = tasks::get(&id)?.output else {
            broken.push(page);
            continue;
        };
        let visited: Visited = serde_json::from_str(&output)?;
        pages.insert(page, visited.links.len());
        found.extend(visited.links);
    }
    Ok(json!({
        "pages": pages, "broken": broken,
        "spawned": status.spawned, "completed": status.completed, "failed": status.failed,
    }))
}

fn visit(page: &str) -> Result<Visited, Failure> {
    let text = read(page)?;
    let links = text.split("href=\"").skip(1);
    let links = links.filter_map(|rest| rest.split('"').next());
    let links = links.filter_map(|link| from(page, link));
    let links = links.map(|link| {
        let id = add(&link)?;
        Ok((link, id))
    });
    Ok(Visited {
        links: links.collect::<Result<_, Failure>>()?,
    })
}

fn read(page: &str) -> Result<String, Failure> {
    if page.contains("://") {
        return Ok(http::get(page).send()?.error_for_status()?.text()?);
    }
    std::fs::read_to_string(format!("/pages/{page}"))
        .map_err(|error| Failure::permanent(format!("{page}: {error}")))
}

/// The target of a link, unless that is on another server.
fn from(page: &str, link: &str) -> Option<String> {
    let Some((scheme, rest)) = page.split_once("://") else {
        return Some(link.to_owned());
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let origin = format!("{scheme}://{host}/");
    match link.strip_prefix('/') {
        _ if link.contains("://") => link.starts_with(&origin).then(|| link.to_owned()),
        Some(path) => Some(format!("{origin}{path}")),
        None => {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            let between = if directory.is_empty() { "" } else { "/" };
            Some(format!("{origin}{directory}{between}{link}"))
        }
    }
}

/// The task that visits a page: a new one, or the one that another page has added.
fn add(page: &str) -> Result<String, Failure> {
    let options = Options {
        key: Some(page.to_owned()),
        ..Options::default()
    };
    let input = json!({ "page": page }).to_string();
    Ok(pools::spawn(POOL, "crawl", &input, Some(&options))?.id)
}
