//! How the jobs of a document hang together: keys, dependencies, circles.
//!
//! [`super::file`] reads the drafts; here they become steps, or problems. Nothing here recurses: a
//! chain may be as long as a workflow may be large.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::problem::{Problems, nearest};
use super::{After, Step, Work};
use crate::group::{PoolOptions, Results};
use crate::limits::{
    NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, WORKFLOW_DEPENDENCIES_MAX, WORKFLOW_INPUT_BYTES_MAX,
};
use crate::task::edge::On;
use crate::task::{Options, check_name};

/// Keys that are compared with a wrong one, to tell which was meant.
const COMPARED_MAX: usize = 1_000;

/// Keys that the sentence about a circle names.
const CIRCLE_NAMED_MAX: usize = 1_000;

/// Bytes that the id of one dependency adds to an input, beside its key: quotes, colon, comma, id.
const ID_BYTES: usize = 19;

/// A name and where it stands.
#[derive(Debug, Clone)]
pub struct Named {
    /// The name.
    pub name: Arc<str>,
    /// The offset, in bytes.
    pub at: usize,
}

/// A job or a pool as it was read, before the names in it mean anything.
pub struct Draft {
    /// What it is, without what it starts after and what it fills.
    pub step: Step,
    /// Its key.
    pub key: Named,
    /// What it starts after.
    pub after: Vec<Dependency>,
    /// Pools that it fills.
    pub pools: Vec<Named>,
    /// What the types of its function decide.
    pub open: Open,
}

/// What a step leaves to the types of its function, which the document does not contain.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Open {
    /// It has no input of its own: its function takes the workflow's input by parameter name.
    pub inherits: bool,
    /// Fields of a map, if its types make it one.
    pub map: Option<MapFields>,
}

/// Fields that only a map has.
#[derive(Debug, Clone, PartialEq)]
pub struct MapFields {
    /// The effect of a failed item on the others, and the concurrency.
    pub options: PoolOptions,
    /// The form of its output.
    pub results: Results,
    /// The first of these fields.
    pub field: &'static str,
}

/// What a job starts after, by its key.
pub struct Dependency {
    /// The other.
    pub to: Named,
    /// What the job calls it.
    pub name: Option<Arc<str>>,
    /// As [`After::on`].
    pub on: On,
    /// As [`After::optional`].
    pub optional: bool,
}

impl Dependency {
    /// On the completion of the other, and called by its key.
    pub fn plain(to: Named) -> Dependency {
        Dependency {
            to,
            name: None,
            on: On::default(),
            optional: false,
        }
    }
}

impl Draft {
    /// A pool.
    pub fn pool(key: Named, options: PoolOptions) -> Draft {
        Draft {
            step: Step {
                key: key.name.clone(),
                work: Work::Pool(options),
                input: "{}".into(),
                options: Options::default(),
                after: Vec::new(),
                sources_of: Vec::new(),
                producer: None,
                optional: false,
            },
            key,
            after: Vec::new(),
            pools: Vec::new(),
            open: Open::default(),
        }
    }
}

/// Whether a key may be part of `WORKFLOW:key`, and be typed without quotes.
pub fn key(key: &str) -> Result<(), String> {
    check_name("key", key)?;
    match key
        .chars()
        .find(|one| !one.is_alphanumeric() && !"-_.".contains(*one))
    {
        None => Ok(()),
        Some(one) => Err(format!("the key \"{key}\" has a {one:?} in it")),
    }
}

/// The steps, and the offset of each: jobs in their order, then the pools that they fill.
pub fn steps(
    jobs: Vec<Draft>,
    pools: Vec<Draft>,
    problems: &mut Problems,
) -> (Vec<Step>, Vec<usize>) {
    let drafts = with_pools(jobs, pools, problems);
    let places = places(&drafts, problems);
    let mut graph: Vec<Vec<(usize, usize)>> = vec![Vec::new(); drafts.len()];
    let mut count = 0;
    let mut steps = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let mut step = draft.step.clone();
        let resolved = resolve(index, draft, &places, problems);
        count += resolved.len() + draft.pools.len();
        if count > WORKFLOW_DEPENDENCIES_MAX {
            let what =
                format!("the workflow has more than {WORKFLOW_DEPENDENCIES_MAX} dependencies");
            problems.add(draft.key.at, what);
            return (Vec::new(), Vec::new());
        }
        graph[index].extend(resolved.iter().map(|(after, at)| (after.step, *at)));
        step.after = resolved.into_iter().map(|(after, _)| after).collect();
        let mut filled = HashSet::new();
        for pool in &draft.pools {
            // A name that is taken by a job is told already.
            let place = places.get(&pool.name).copied();
            let Some(place) = place.filter(|place| is_pool(&drafts[*place])) else {
                continue;
            };
            if !filled.insert(place) {
                let (key, name) = (&draft.key.name, &pool.name);
                problems.add(
                    pool.at,
                    format!("job \"{key}\" names pool \"{name}\" twice"),
                );
                continue;
            }
            step.sources_of.push(place);
            // The pool ends after what fills it.
            graph[place].push((index, pool.at));
        }
        steps.push(step);
    }
    circles(&drafts, &graph, problems);
    sizes(&drafts, &steps, problems);
    let offsets = drafts.iter().map(|draft| draft.key.at).collect();
    (steps, offsets)
}

fn is_pool(draft: &Draft) -> bool {
    matches!(draft.step.work, Work::Pool(_))
}

/// The jobs, and each pool that one of them names.
fn with_pools(mut jobs: Vec<Draft>, pools: Vec<Draft>, problems: &mut Problems) -> Vec<Draft> {
    let mut given: HashMap<Arc<str>, Draft> = HashMap::new();
    for pool in pools {
        let (name, at) = (pool.key.name.clone(), pool.key.at);
        if given.insert(name.clone(), pool).is_some() {
            problems.add(at, format!("pool \"{name}\" is there twice"));
        }
    }
    let mut found: Vec<Draft> = Vec::new();
    let mut seen: HashSet<Arc<str>> = HashSet::new();
    for named in jobs.iter().flat_map(|job| &job.pools) {
        if !seen.insert(named.name.clone()) {
            continue;
        }
        found.push(match given.remove(&named.name) {
            Some(pool) => pool,
            None => {
                if let Err(why) = key(&named.name) {
                    problems.add(named.at, why);
                }
                Draft::pool(named.clone(), PoolOptions::default())
            }
        });
    }
    for pool in given.into_values() {
        let name = &pool.key.name;
        let hint = || Some(format!(r#"give "pool": "{name}" to the jobs that fill it"#));
        problems.advise(pool.key.at, format!("no job fills pool \"{name}\""), hint);
    }
    jobs.extend(found);
    jobs
}

/// Where each key stands among the drafts.
fn places(drafts: &[Draft], problems: &mut Problems) -> HashMap<Arc<str>, usize> {
    let mut places: HashMap<Arc<str>, usize> = HashMap::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let Named { name, at } = &draft.key;
        if let Some(&first) = places.get(name) {
            let line = problems.line(drafts[first].key.at);
            let what = format!("the key \"{name}\" is taken: it stands in line {line}, too");
            problems.add(*at, what);
        } else {
            places.insert(name.clone(), index);
        }
    }
    places
}

/// What a job starts after, each with the place where it says so.
fn resolve(
    index: usize,
    draft: &Draft,
    places: &HashMap<Arc<str>, usize>,
    problems: &mut Problems,
) -> Vec<(After, usize)> {
    let whose = &draft.key.name;
    let (mut named, mut seen) = (HashSet::new(), HashSet::new());
    let mut afters = Vec::with_capacity(draft.after.len());
    for dependency in &draft.after {
        let Named { name, at } = &dependency.to;
        let Some(&step) = places.get(name) else {
            let what = format!("job \"{whose}\" depends on \"{name}\", which there is not");
            problems.advise(*at, what, || {
                let known = places.keys().take(COMPARED_MAX).map(|key| &**key);
                nearest(name, known).map(|nearest| format!("did you mean {nearest}?"))
            });
            continue;
        };
        if step == index {
            problems.add(*at, format!("job \"{whose}\" depends on itself"));
            continue;
        }
        if !seen.insert(step) {
            problems.add(*at, format!("job \"{whose}\" depends on \"{name}\" twice"));
            continue;
        }
        let called = dependency.name.as_ref().unwrap_or(name);
        if !named.insert(called) {
            problems.add(
                *at,
                format!("job \"{whose}\" calls two dependencies \"{called}\""),
            );
        }
        let after = After {
            step,
            key: dependency.name.clone(),
            on: dependency.on,
            optional: dependency.optional,
        };
        afters.push((after, *at));
    }
    afters
}

/// Tell each circle of jobs that wait for each other; of several that share a job, the first.
fn circles(drafts: &[Draft], graph: &[Vec<(usize, usize)>], problems: &mut Problems) {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        OnTheWay,
        Yes,
    }
    let mut seen = vec![Seen::No; graph.len()];
    let mut told = vec![false; graph.len()];
    for start in 0..graph.len() {
        if seen[start] != Seen::No {
            continue;
        }
        // The way down: a step, and how many of its edges have been followed.
        let mut way = vec![(start, 0)];
        seen[start] = Seen::OnTheWay;
        while let Some((step, edge)) = way.last_mut() {
            let Some(&(next, _)) = graph[*step].get(*edge) else {
                seen[*step] = Seen::Yes;
                way.pop();
                continue;
            };
            *edge += 1;
            match seen[next] {
                Seen::No => {
                    seen[next] = Seen::OnTheWay;
                    way.push((next, 0));
                }
                Seen::OnTheWay => {
                    let from = way.iter().position(|(step, _)| *step == next).unwrap_or(0);
                    let circle: Vec<usize> = way[from..].iter().map(|(step, _)| *step).collect();
                    if !circle.iter().any(|step| told[*step]) {
                        tell(&circle, drafts, graph, problems);
                    }
                    circle.iter().for_each(|step| told[*step] = true);
                }
                Seen::Yes => {}
            }
        }
    }
}

fn tell(
    circle: &[usize],
    drafts: &[Draft],
    graph: &[Vec<(usize, usize)>],
    problems: &mut Problems,
) {
    let place = |step: &usize| drafts[*step].key.at;
    let first = (0..circle.len())
        .min_by_key(|&index| place(&circle[index]))
        .unwrap_or(0);
    let ordered = circle.iter().cycle().skip(first).take(circle.len());
    let mut names: Vec<&str> = (ordered.take(CIRCLE_NAMED_MAX))
        .map(|step| &*drafts[*step].key.name)
        .collect();
    if circle.len() > names.len() {
        names.push("...");
    }
    names.push(&drafts[circle[first]].key.name);
    let next = circle[(first + 1) % circle.len()];
    let edge = graph[circle[first]].iter().find(|(to, _)| *to == next);
    let at = edge.map_or(place(&circle[first]), |(_, at)| *at);
    let names = names.join(" -> ");
    problems.add(
        at,
        format!("these wait for each other in a circle: {names}"),
    );
}

/// What the steps are given must fit into their rows, and all of it into one transaction.
fn sizes(drafts: &[Draft], steps: &[Step], problems: &mut Problems) {
    let mut all = 0;
    for (draft, step) in drafts.iter().zip(steps) {
        let ids = step.after.iter().map(|after| {
            let key = after.key.as_ref().unwrap_or(&steps[after.step].key);
            key.len().min(NAME_BYTES_MAX) + ID_BYTES
        });
        let bytes = step.input.len() + ids.sum::<usize>() + 20;
        all += bytes;
        if bytes > PAYLOAD_BYTES_MAX {
            let (key, many) = (&draft.key.name, step.after.len());
            let what = format!(
                "the payload of job \"{key}\" has {bytes} bytes with the ids of its {many} dependencies, \
                 more than the {PAYLOAD_BYTES_MAX} that a task may carry"
            );
            problems.add(draft.key.at, what);
        }
        if all > WORKFLOW_INPUT_BYTES_MAX {
            let what = format!(
                "the payloads of the jobs have more than {WORKFLOW_INPUT_BYTES_MAX} bytes together"
            );
            return problems.add(draft.key.at, what);
        }
    }
}
