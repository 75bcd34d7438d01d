//! A scan: the directory is compared with what is loaded, and each difference applied when it is ready.
//!
//! Several scans may be under way. Each loads what it has found and no other loads already; what it
//! finds gone or changed outdates what an earlier one still loads.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::directory::{self, Candidate, Stamp, stamp_of};
use super::load::Users;
use super::loads::{Loads, Turn};
use super::{Change, Digest, Handler, Loader, Problem, links, processors};

/// What a loader knows.
pub struct State {
    loaded: BTreeMap<String, Loaded>,
    problems: BTreeMap<PathBuf, (Stamp, Problem)>,
    /// What loaded handlers import and nobody exports, as far as that was told.
    unlinked: Vec<Problem>,
    /// Components of earlier versions that a task asked for.
    pub(super) earlier: BTreeMap<Digest, Arc<Handler>>,
    loads: Loads,
    pub(super) in_use: Users,
}

struct Loaded {
    stamp: Stamp,
    handler: Arc<Handler>,
}

/// A file that a scan loads.
struct Found {
    number: u64,
    candidate: Candidate,
}

impl State {
    /// Nothing is loaded.
    pub fn new() -> State {
        State {
            loaded: BTreeMap::new(),
            problems: BTreeMap::new(),
            unlinked: Vec::new(),
            earlier: BTreeMap::new(),
            loads: Loads::on(processors()),
            in_use: Users::new(),
        }
    }

    /// What is loaded, by name.
    pub fn handlers(&self) -> Vec<Arc<Handler>> {
        let handler = |loaded: &Loaded| loaded.handler.clone();
        self.loaded.values().map(handler).collect()
    }

    /// What is loaded of that name.
    pub fn handler(&self, name: &str) -> Option<&Arc<Handler>> {
        self.loaded.get(name).map(|loaded| &loaded.handler)
    }

    /// What is wrong.
    pub fn problems(&self) -> Vec<Problem> {
        let files = self.problems.values().map(|(_, problem)| problem);
        files.chain(&self.unlinked).cloned().collect()
    }

    /// The names of the files that are being loaded.
    pub fn loading(&self) -> impl Iterator<Item = &str> {
        self.loads.names()
    }

    /// Whether a component is loaded.
    pub fn has(&self, digest: &Digest) -> bool {
        let mut loaded = self.loaded.values();
        loaded.any(|loaded| loaded.handler.digest == *digest)
    }

    /// Whether a component is loaded, or on its way.
    pub fn uses(&self, digest: &Digest) -> bool {
        self.in_use.contains_key(digest) || self.has(digest)
    }

    /// Apply what the directory has: what is to be loaded is found, everything else done.
    fn compare(
        &mut self,
        candidates: Vec<Candidate>,
        unfit: Vec<directory::Unfit>,
    ) -> (Vec<Found>, Vec<Change>) {
        let present: HashSet<String> = candidates.iter().map(|one| one.name.clone()).collect();
        self.loads.outdate(|name| !present.contains(name));
        let mut found = Vec::new();
        for candidate in candidates {
            let Candidate {
                name, file, stamp, ..
            } = &candidate;
            if self.loads.has(name, stamp) {
                continue;
            }
            let known = self.loaded.get(name).map(|known| &known.stamp);
            let failed = self.problems.get(file).map(|(failed, _)| failed);
            match known == Some(stamp) || failed == Some(stamp) {
                // Where another version was on its way, this one is back.
                true => self.loads.outdate(|other| other == name),
                false => found.push(Found {
                    number: self.loads.add(name, stamp.clone()),
                    candidate,
                }),
            }
        }
        // What is small is ready soon.
        found.sort_by_key(|one| one.candidate.size_bytes());

        let mut changes = Vec::new();
        let gone = |name: &&String| !present.contains(*name);
        let gone: Vec<String> = self.loaded.keys().filter(gone).cloned().collect();
        for name in gone {
            self.loaded.remove(&name);
            changes.push(Change::Forgotten(name));
        }
        // A file that is gone or mended is no problem any more.
        self.problems
            .retain(|file, (stamp, _)| stamp_of(file, Some(stamp)).as_ref() == Some(stamp));
        for (file, stamp, problem) in unfit {
            changes.extend(self.fail(file, stamp, problem));
        }
        changes.extend(self.link());
        (found, changes)
    }

    /// Apply what came of a load that is wanted.
    fn apply(
        &mut self,
        candidate: &Candidate,
        result: Result<Arc<Handler>, Problem>,
    ) -> Option<Change> {
        let Candidate {
            name, file, stamp, ..
        } = candidate;
        match result {
            Ok(handler) => {
                self.problems.remove(file);
                let known = Loaded {
                    stamp: stamp.clone(),
                    handler: handler.clone(),
                };
                match self.loaded.insert(name.clone(), known) {
                    None => Some(Change::Loaded(handler)),
                    Some(before) if same(&before.handler, &handler) => None,
                    Some(_) => Some(Change::Replaced(handler)),
                }
            }
            Err(mut problem) => {
                if self.loaded.contains_key(name) {
                    problem
                        .hint
                        .push_str("; until then the version before it stays in use");
                }
                self.fail(file.clone(), stamp.clone(), problem)
            }
        }
    }

    /// Know a problem, which is told once.
    fn fail(&mut self, file: PathBuf, stamp: Stamp, problem: Problem) -> Option<Change> {
        let known = self.problems.insert(file, (stamp, problem.clone()));
        let new = known.is_none_or(|(_, known)| known != problem);
        new.then_some(Change::Failed(problem))
    }

    /// See whose calls nobody answers. That is told when nothing is on its way, but for what is slow,
    /// that might answer.
    fn link(&mut self) -> Vec<Change> {
        let handlers = self.handlers();
        let unlinked = handlers
            .iter()
            .flat_map(|handler| links::unlinked(handler, &handlers));
        let settled = self.loads.settled(Instant::now()).is_ok();
        let told = std::mem::take(&mut self.unlinked);
        let mut changes = Vec::new();
        for problem in unlinked {
            let new = !told.contains(&problem);
            if new && settled {
                changes.push(Change::Failed(problem.clone()));
            }
            if !new || settled {
                self.unlinked.push(problem);
            }
        }
        changes
    }
}

impl Loader {
    /// Compare the directory with what is loaded and load the differences. `tell` hears of changes as
    /// they are made, in their order: at once of what needs no loading, even if that is nothing, then
    /// of each file. Blocks until everything that it has found is through; others may scan meanwhile.
    pub fn scan(&self, tell: impl Fn(Vec<Change>) + Sync) {
        let found = {
            let _turn = self.turn();
            let (candidates, unfit) = directory::look(&self.handlers_dir);
            let (found, changes) = self.state().compare(candidates, unfit);
            self.moved();
            tell(changes);
            found
        };
        if found.is_empty() {
            return;
        }
        let tell = &tell;
        std::thread::scope(|scope| {
            for one in &found {
                if !self.take_place(one) {
                    continue;
                }
                let thread = std::thread::Builder::new().name("fishway-load".to_owned());
                if thread
                    .spawn_scoped(scope, || self.bring(one, tell))
                    .is_err()
                {
                    self.bring(one, tell);
                }
            }
            self.settle();
            let _turn = self.turn();
            let unlinked = self.state().link();
            if !unlinked.is_empty() {
                tell(unlinked);
            }
        });
    }

    /// Blocks until what is still being loaded is slow.
    pub fn settle(&self) {
        let mut state = self.state();
        while let Err(until) = state.loads.settled(Instant::now()) {
            state = self.wait(state, until);
        }
    }

    /// Blocks until the file has its place. False when it is wanted no more.
    fn take_place(&self, found: &Found) -> bool {
        let mut state = self.state();
        let size_bytes = found.candidate.size_bytes();
        let begins = loop {
            match state.loads.begin(found.number, size_bytes, Instant::now()) {
                Turn::Begin => break true,
                Turn::Wait(until) => state = self.wait(state, until),
                Turn::Outdated => {
                    state.loads.end(found.number);
                    break false;
                }
            }
        };
        drop(state);
        self.moved();
        begins
    }

    /// Load a file and apply what comes of it.
    fn bring(&self, found: &Found, tell: &impl Fn(Vec<Change>)) {
        let (result, _in_use) = match self.load_candidate(&found.candidate) {
            Ok((handler, in_use)) => (Ok(Arc::new(handler)), Some(in_use)),
            Err(problem) => (Err(problem), None),
        };
        let _turn = self.turn();
        let mut changes = Vec::new();
        let mut state = self.state();
        if state.loads.end(found.number) {
            changes.extend(state.apply(&found.candidate, result));
        }
        changes.extend(state.link());
        drop(state);
        self.moved();
        if !changes.is_empty() {
            tell(changes);
        }
    }
}

fn same(one: &Handler, other: &Handler) -> bool {
    one.digest == other.digest && one.manifest == other.manifest
}
