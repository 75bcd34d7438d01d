//! A scan: the directory is compared with what is loaded, and each difference applied when it is ready.
//!
//! Several scans may be under way. Each loads what it has found and no other loads already; what it
//! finds gone or changed outdates what an earlier one still loads.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::directory::{self, Candidate, Look};
use super::links::{self, Offers};
use super::load::Users;
use super::loads::{Loads, SLOW, Turn};
use super::stamp::Stamp;
use super::{Change, Digest, Handler, Loader, Problem, processors};

/// What a loader knows.
pub struct State {
    loaded: BTreeMap<String, Loaded>,
    /// How many loaded handlers have each component.
    digests: HashMap<Digest, usize>,
    /// The same handlers, by what they export.
    offers: Offers,
    /// Those of them that call others.
    callers: BTreeSet<String>,
    problems: BTreeMap<PathBuf, (Stamp, Problem)>,
    /// What loaded handlers import and nobody exports, as far as that was told.
    unlinked: Vec<Problem>,
    /// Earlier versions that a task asked for, by component and name: several handlers may have had it.
    pub(super) earlier: BTreeMap<(Digest, String), Arc<Handler>>,
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
            digests: HashMap::new(),
            offers: Offers::default(),
            callers: BTreeSet::new(),
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

    /// The same after a name, at most so many.
    pub fn handlers_after(&self, name: Option<&str>, limit: usize) -> Vec<Arc<Handler>> {
        let begin = name.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.loaded.range::<str, _>((begin, Bound::Unbounded));
        let page = range.take(limit);
        page.map(|(_, loaded)| loaded.handler.clone()).collect()
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

    /// Whether a file could not be loaded because of the machine.
    pub fn tries_again(&self) -> bool {
        self.problems
            .values()
            .any(|(_, problem)| problem.of_machine)
    }

    /// How many handlers are loaded.
    pub fn count(&self) -> usize {
        self.loaded.len()
    }

    /// The files that are being loaded.
    pub fn loads(&self) -> &Loads {
        &self.loads
    }

    /// What is loaded, by what it exports.
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// Whether a component is loaded.
    pub fn has(&self, digest: &Digest) -> bool {
        self.digests.contains_key(digest)
    }

    /// Whether a component is loaded, or on its way.
    pub fn uses(&self, digest: &Digest) -> bool {
        self.in_use.contains_key(digest) || self.has(digest)
    }

    /// A handler is loaded from now on. Answers with the one that it takes the place of.
    fn put(&mut self, stamp: Stamp, handler: &Arc<Handler>) -> Option<Arc<Handler>> {
        let before = self.take(&handler.name);
        *self.digests.entry(handler.digest.clone()).or_default() += 1;
        self.offers.insert(handler);
        if !handler.wanted.is_empty() {
            self.callers.insert(handler.name.clone());
        }
        let loaded = Loaded {
            stamp,
            handler: handler.clone(),
        };
        self.loaded.insert(handler.name.clone(), loaded);
        before
    }

    /// A handler is loaded no longer.
    fn take(&mut self, name: &str) -> Option<Arc<Handler>> {
        let handler = self.loaded.remove(name)?.handler;
        if let Some(many) = self.digests.get_mut(&handler.digest) {
            *many -= 1;
            if *many == 0 {
                self.digests.remove(&handler.digest);
            }
        }
        self.offers.remove(name);
        self.callers.remove(name);
        Some(handler)
    }

    /// Apply what the directory has: what is to be loaded is found, everything else done.
    fn compare(&mut self, look: Look) -> (Vec<Found>, Vec<Change>) {
        let candidates = look.candidates;
        let present: HashSet<String> = candidates.iter().map(|one| one.name.clone()).collect();
        let gone = |name: &str| !look.unread && !present.contains(name);
        self.loads.outdate_others(|name| !gone(name));
        let mut found = Vec::new();
        for candidate in candidates {
            let Candidate {
                name, file, stamp, ..
            } = &candidate;
            if self.loads.has(name, stamp) {
                continue;
            }
            // What was read of a file that was fresh then may not be what is in it now.
            let is_same = |known: &Stamp| known == stamp && !known.is_fresh();
            let known = self.loaded.get(name).map(|known| &known.stamp);
            let failed = self.problems.get(file);
            // What the machine could not do it may do now.
            let failed = failed.filter(|(_, problem)| !problem.of_machine);
            let failed = failed.map(|(failed, _)| failed);
            match known.is_some_and(is_same) || failed.is_some_and(is_same) {
                // Where another version was on its way, this one is back.
                true => self.loads.outdate(name),
                false => found.push(Found {
                    number: self.loads.add(name, stamp.clone()),
                    candidate,
                }),
            }
        }
        // What is small is ready soon.
        found.sort_by_key(|one| one.candidate.size_bytes());

        let mut changes = Vec::new();
        let gone: Vec<String> = self
            .loaded
            .keys()
            .filter(|name| gone(name))
            .cloned()
            .collect();
        for name in gone {
            self.take(&name);
            changes.push(Change::Forgotten(name));
        }
        // A file that is gone or mended is no problem any more.
        let mut mended = HashMap::new();
        for (file, (stamp, problem)) in std::mem::take(&mut self.problems) {
            if stamp.renewed().as_ref() == Some(&stamp) {
                self.problems.insert(file, (stamp, problem));
            } else {
                mended.insert(file, problem);
            }
        }
        for (file, stamp, problem) in look.unfit {
            let told = mended.get(&file) == Some(&problem);
            changes.extend(self.fail(file, stamp, problem).filter(|_| !told));
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
                match self.put(stamp.clone(), &handler) {
                    None => Some(Change::Loaded(handler)),
                    Some(before) if same(&before, &handler) => None,
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
        let settled = self.loads.settled(Instant::now()).is_ok();
        // There is nothing to report yet, and earlier reports stay until the loads have settled.
        if self.callers.is_empty() || (!settled && self.unlinked.is_empty()) {
            self.unlinked.retain(|_| !settled);
            return Vec::new();
        }
        let callers = self.callers.iter().filter_map(|name| self.loaded.get(name));
        let unlinked: Vec<Problem> = callers
            .flat_map(|caller| links::unlinked(&caller.handler, &self.offers))
            .collect();
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
            let look = directory::look(&self.handlers_dir);
            let (found, changes) = self.state().compare(look);
            self.moved();
            self.count_changes(&changes);
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
                self.count_changes(&unlinked);
                tell(unlinked);
            }
        });
    }

    /// Blocks until what is still being loaded is slow.
    pub fn settle(&self) {
        self.settle_until(None);
    }

    /// The same, but no longer than a single file may take before it is slow: of ten thousand files, each
    /// may be quick, and a host that waits for all of them serves nobody for minutes.
    pub fn settle_soon(&self) {
        self.settle_until(Some(Instant::now() + SLOW));
    }

    fn settle_until(&self, end: Option<Instant>) {
        let mut state = self.state();
        while let Err(until) = state.loads.settled(Instant::now()) {
            if end.is_some_and(|end| Instant::now() >= end) {
                return;
            }
            let until = [until, end].into_iter().flatten().min();
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
            self.count_changes(&changes);
            tell(changes);
        }
    }

    fn count_changes(&self, changes: &[Change]) {
        if !changes.is_empty() {
            self.changes.send_modify(|count| *count += 1);
        }
    }
}

fn same(one: &Handler, other: &Handler) -> bool {
    one.digest == other.digest && one.manifest == other.manifest
}
