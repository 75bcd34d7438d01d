//! Builds an index anew while pages change: two sources fill one pool, and what comes after waits for both.
//!
//! ```text
//! create-index -> reindex-pages  (a source of the pool index-ops)   -> switch-index
//!              -> listen-changes (a producer, fed by signals)       ->
//! ```
//!
//! Each is a step of a workflow, and all of them are this handler: the key of the step says which. A change
//! is a signal `change` to listen-changes whose value is the name of a page.

use kit::{Failure, Options, context, dependency, pools, signals};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

kit::handler!(run);

const POOL: &str = "index-ops";

#[derive(Deserialize)]
struct Input {
    site: String,
}

/// What create-index returns.
#[derive(Deserialize, Serialize)]
struct Index {
    index: String,
}

/// What each source returns.
#[derive(Default, Deserialize, Serialize)]
struct Summary {
    spawned: u64,
}

fn run(input: Input) -> Result<Value, Failure> {
    match context::current().key.as_deref() {
        Some("create-index") => Ok(json!(create_index(&input.site))),
        Some("reindex-pages") => Ok(json!(reindex_pages()?)),
        Some("listen-changes") => Ok(json!(listen_changes()?)),
        Some("switch-index") => switch_index(),
        key => Err(Failure::permanent(format!("{key:?} is no step of it"))),
    }
}

fn create_index(site: &str) -> Index {
    // The workflow's id: the same in every attempt, and another one next time.
    let run = context::current().workflow.unwrap_or_default();
    let index = format!("{site}-{run}");
    Index { index }
}

fn reindex_pages() -> Result<Summary, Failure> {
    let index: Index = dependency("create-index")?;
    let mut summary = Summary::default();
    for page in pages()? {
        // Another attempt names the same members.
        index_page(&index, &page, Some(page.clone()))?;
        summary.spawned += 1;
    }
    pools::start_drain(POOL)?;
    Ok(summary)
}

/// Goes on until there is none, and the host says that it is alone; or until one of its clocks ends it.
fn listen_changes() -> Result<Summary, Failure> {
    let index: Index = dependency("create-index")?;
    let mut summary = Summary::default();
    while let Some(change) = signals::receive("change", None)? {
        let page: String = serde_json::from_str(&change)?;
        index_page(&index, &page, None)?;
        summary.spawned += 1;
        context::set_output(&serde_json::to_string(&summary)?);
    }
    Ok(summary)
}

fn switch_index() -> Result<Value, Failure> {
    let status = pools::wait(POOL, None)?;
    let index: Index = dependency("create-index")?;
    let pages: Summary = dependency("reindex-pages")?;
    let changes: Summary = dependency("listen-changes")?;
    Ok(json!({
        "live": index.index, "pages": pages.spawned, "changes": changes.spawned, "indexed": status.completed,
    }))
}

fn index_page(index: &Index, page: &str, key: Option<String>) -> Result<(), Failure> {
    let operation = json!({ "index": index.index, "page": page }).to_string();
    let options = Options {
        key,
        ..Options::default()
    };
    pools::spawn(POOL, "index-op", &operation, Some(&options))?;
    Ok(())
}

fn pages() -> Result<Vec<String>, Failure> {
    let failed = |error: std::io::Error| Failure::transient(error.to_string());
    let mut pages = Vec::new();
    for entry in std::fs::read_dir("/pages").map_err(failed)? {
        pages.push(
            entry
                .map_err(failed)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    pages.sort();
    Ok(pages)
}
