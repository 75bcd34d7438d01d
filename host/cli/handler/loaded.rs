//! The handlers that a host has loaded, by its own word: what is listed is what runs.

use std::path::{Path, PathBuf};

use super::super::view::{bytes, count};
use super::super::{Done, Global, print_json, print_line};
use super::{functions, print_handler, print_problem};
use crate::client::Client;
use crate::loader::{Digest, Handler, Kept, Problem};
use crate::store::{BrokenRow, HandlerRow, HandlersStanding};
use crate::types::component_of;
use crate::wire;

/// Rows that are read at once.
const PAGE: u64 = 1_000;

/// What a host that serves has loaded.
pub struct Loaded {
    client: Client,
    standing: HandlersStanding,
}

impl Loaded {
    /// What the host of the data directory has, if it serves that directory of handlers; with none, the one
    /// that it has.
    pub fn of(global: &Global, directory: Option<&Path>) -> Option<Loaded> {
        if global.database.is_none() && !crate::daemon::seems_served(&global.data) {
            return None;
        }
        let client = global.existing_client(false).ok()?;
        let standing = client.store().handlers_standing().ok()??;
        let served = standing.directory.canonicalize().ok();
        let same = match directory {
            None => true,
            Some(directory) => directory.canonicalize().ok() == served && served.is_some(),
        };
        same.then_some(Loaded { client, standing })
    }

    /// List all of it, and what could not be loaded.
    pub fn list(
        &self,
        global: &Global,
        check: impl Fn(&Path) -> Result<Handler, Problem>,
    ) -> anyhow::Result<Done> {
        let mut after = String::new();
        let mut component: Vec<HandlerRow> = Vec::new();
        let mut done = Done::OK;
        loop {
            let page = self.client.store().handlers_after(&after, PAGE)?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.name);
            for row in page {
                let same = component
                    .first()
                    .is_some_and(|first| component_of(&first.name) == component_of(&row.name));
                if !same && !component.is_empty() {
                    self.show(global, &std::mem::take(&mut component), &check, &mut done)?;
                }
                component.push(row);
            }
        }
        if component.is_empty() {
            global.say(format!(
                "the host has no handlers from {}",
                self.directory()
            ));
        } else {
            self.show(global, &component, &check, &mut done)?;
        }
        let mut after: Option<String> = None;
        loop {
            let page = self.client.store().broken_after(after.as_deref(), PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            done = Done::FAILED;
            for row in &page {
                print_problem(global, &self.problem(row))?;
            }
        }
        if self.standing.loading > 0 {
            let files = count(self.standing.loading, "file is", "files are");
            global.say(format!("{files} still being loaded"));
        }
        Ok(done)
    }

    fn directory(&self) -> std::path::Display<'_> {
        self.standing.directory.display()
    }

    fn problem(&self, row: &BrokenRow) -> Problem {
        Problem {
            file: match row.name.as_str() {
                "" => self.standing.directory.clone(),
                _ => self.standing.directory.join(&row.file),
            },
            what: row.problem.clone(),
            hint: row.hint.clone(),
            of_machine: false,
        }
    }

    /// One component, which runs the tasks of these rows.
    fn show(
        &self,
        global: &Global,
        rows: &[HandlerRow],
        check: &impl Fn(&Path) -> Result<Handler, Problem>,
        done: &mut Done,
    ) -> anyhow::Result<()> {
        let first = &rows[0];
        let name = component_of(&first.name);
        if !global.json {
            return line(global, name, rows);
        }
        let file = self.file(name);
        if !file.exists() {
            // The hosts of a database may have their files on other machines.
            let known = wire::known_handler(rows);
            global.say(format!(
                "{name}: its file is not on this machine ({}), so this is what the database has: imports, exports, limits, retries and permissions are not shown",
                self.directory()
            ));
            return print_json(&known);
        }
        // All of a handler is in its file, as long as that is the one that was loaded.
        match check(&file) {
            Ok(handler) if handler.digest.to_string() == first.digest => {
                print_handler(global, &handler)
            }
            other => {
                *done = Done::FAILED;
                let found = match other {
                    Ok(handler) => format!("its file is {}", handler.digest),
                    Err(problem) => problem.what,
                };
                let problem = Problem {
                    file: self.file(name),
                    what: format!("the host runs {}, and {found}", first.digest),
                    hint: "it stays in use until another version is loaded".to_owned(),
                    of_machine: false,
                };
                print_problem(global, &problem)
            }
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        let files = ["wasm", "wat"].map(|ending| format!("{name}.{ending}"));
        let mut files = files
            .map(|file| self.standing.directory.join(file))
            .into_iter();
        let first = files.next();
        let found = first.filter(|file| file.exists()).or_else(|| files.next());
        found.unwrap_or_default()
    }
}

fn line(global: &Global, name: &str, rows: &[HandlerRow]) -> anyhow::Result<()> {
    let first = &rows[0];
    let size = Kept::of(&global.data).ok();
    let size = size.and_then(|kept| kept.size_bytes(&first.digest));
    let digest = first.digest.parse::<Digest>();
    let digest = digest.map_or_else(
        |_| first.digest.clone(),
        |digest| digest.short().to_string(),
    );
    let about = first.description.as_deref().unwrap_or_default();
    let what = match first.generator {
        true => "(page generator) ",
        false => "",
    };
    let size = size.map(bytes).unwrap_or_default();
    print_line(&format!("{name:20}  {digest}  {size:>8}  {what}{about}"))?;
    for row in rows {
        if let Some(function) = &row.function {
            functions::print_row(&row.name, function)?;
        }
    }
    Ok(())
}
