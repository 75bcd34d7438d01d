//! A workflow as a document: what a file has, and what a handler hands to `workflows.run`.
//!
//! Called by the doors and by the executor. It reads fields, one after the other, and goes on after
//! each mistake, so that all of them are told together; how the jobs hang together is looked at by
//! [`super::check`]. `docs/workflows.md` describes every field for people.

mod defaults;
mod kinds;

use std::sync::Arc;

use self::defaults::Defaults;
use super::check::{self, Draft, Named, Open};
use super::document::{Document, Field, Format, Node, Shape};
use super::problem::{Fields, Problem, Problems, places};
use super::{Role, Step, Work, Workflow};
use crate::escape::without_mark;
use crate::group::{OnFailure, PoolOptions};
use crate::limits::WORKFLOW_BYTES_MAX;
use crate::task::edge::On;
use crate::task::{Json, Options, check_name, check_payload, duration_ms};

/// What to do about too many jobs.
pub const MANY: &str = "divide it, or run one handler for many inputs: a map, a generator and a batch job have no such bound";

/// What a document leaves to whoever reads it.
#[derive(Debug, Clone)]
pub struct Given<'a> {
    /// The name of a workflow that says none.
    pub name: &'a str,
    /// The input in place of the document's own.
    pub input: Option<Json>,
    /// Jobs that it may have.
    pub jobs_max: usize,
}

/// A document that is right, as far as it can be told from itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// A JSON object that is kept with it.
    pub metadata: Option<Json>,
    /// Line and column of each step, in their order.
    pub places: Vec<(usize, usize)>,
    /// What each step leaves to the types of its function.
    pub open: Vec<Open>,
}

impl Definition {
    /// The handlers that the steps name, with the number of the step and what each is wanted for.
    pub fn handlers(&self) -> impl Iterator<Item = (usize, &str, Role)> {
        let steps = self.workflow.steps.iter().enumerate();
        steps.flat_map(|(index, step)| {
            let own = step.work.handlers().into_iter();
            let next = step.options.on_complete.as_deref();
            let named = own.chain(next.map(|name| (name, Role::Tasks)));
            named.map(move |(name, role)| (index, name, role))
        })
    }
}

/// Read a workflow. All that is wrong is told at once, in the order of the lines.
pub fn parse(text: &str, format: Format, given: &Given<'_>) -> Result<Definition, Vec<Problem>> {
    let text = without_mark(text);
    let mut problems = Problems::of(text);
    if text.len() > WORKFLOW_BYTES_MAX {
        let found = text.len();
        problems.add(
            0,
            format!("the document has {found} bytes, more than {WORKFLOW_BYTES_MAX}"),
        );
        return Err(problems.sorted(""));
    }
    let document = match Document::read(text, format) {
        Ok(document) => document,
        Err(faults) => {
            for (at, what) in faults {
                problems.add(at, what);
            }
            return Err(problems.sorted(text));
        }
    };
    let read = Reader {
        problems: &mut problems,
        given,
    }
    .workflow(document.root());
    let Some((definition, offsets)) = read.filter(|_| problems.is_empty()) else {
        return Err(problems.sorted(text));
    };
    Ok(Definition {
        places: places_of(text, &offsets),
        ..definition
    })
}

/// Offsets need not ascend: a pool stands after the jobs, and is named among them.
fn places_of(text: &str, offsets: &[usize]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..offsets.len()).collect();
    order.sort_by_key(|&index| offsets[index]);
    let ascending: Vec<usize> = order.iter().map(|&index| offsets[index]).collect();
    let mut found = vec![(0, 0); offsets.len()];
    for (index, place) in order.into_iter().zip(places(text, &ascending)) {
        found[index] = place;
    }
    found
}

struct Reader<'r, 'g> {
    problems: &'r mut Problems,
    given: &'r Given<'g>,
}

impl Reader<'_, '_> {
    fn workflow(mut self, root: Node<'_>) -> Option<(Definition, Vec<usize>)> {
        let mut fields = Fields::of(root, "the workflow".to_owned(), self.problems)?;
        let name = self.name(&mut fields, &["name"], "workflow's name");
        let on_failure = self.on_failure(&mut fields, &[OnFailure::Fail, OnFailure::FailFast]);
        let own = self.json(&mut fields, &["input", "payload"]);
        let input = (self.given.input.clone())
            .or(own)
            .unwrap_or_else(|| "{}".into());
        let metadata = self.metadata(&mut fields);
        let handler = self.name(&mut fields, &["handler"], "handler's name");
        let queues = fields.take(&["queues"], self.problems);
        let defaults = Defaults {
            input: input.clone(),
            handler,
            queues: queues
                .map(|queues| self.queues(&queues))
                .unwrap_or_default(),
        };
        let jobs = fields.take(&["jobs", "steps"], self.problems);
        let pools = fields.take(&["pools"], self.problems);
        let at = fields.at();
        fields.end(self.problems);

        let drafts = self.jobs(at, jobs, &defaults);
        let pools = pools.and_then(|pools| self.entries(&pools, "pool"));
        let pools: Vec<Draft> = (pools.into_iter().flatten())
            .filter_map(|(node, name)| self.pool(node, name))
            .collect();
        let drafts = drafts?;
        // Jobs are the first steps, in their order; pools leave nothing open.
        let mut open: Vec<Open> = drafts.iter().map(|draft| draft.open.clone()).collect();
        let (steps, offsets) = check::steps(drafts, pools, self.problems);
        open.resize(steps.len(), Open::default());
        let most = self.given.jobs_max;
        if steps.len() > most {
            let many = steps.len();
            let what = format!("the workflow has {many} jobs and pools, more than {most}");
            self.problems.advise(at, what, || Some(MANY.to_owned()));
        }
        let definition = Definition {
            workflow: Arc::new(Workflow {
                name: name.unwrap_or_else(|| self.given.name.into()),
                on_failure: on_failure.unwrap_or_default(),
                input,
                steps,
            }),
            metadata,
            places: Vec::new(),
            open,
        };
        Some((definition, offsets))
    }

    fn jobs(
        &mut self,
        at: usize,
        field: Option<Field<'_>>,
        defaults: &Defaults,
    ) -> Option<Vec<Draft>> {
        let place = field.as_ref().map_or(at, |field| field.at);
        let entries = match &field {
            Some(field) => self.entries(field, "job"),
            None => Some(Vec::new()),
        };
        let entries = entries?;
        let most = self.given.jobs_max;
        if entries.is_empty() {
            let hint = r#"a workflow needs at least one: "jobs": [{"key": "extract"}]"#;
            let hint = || Some(hint.to_owned());
            self.problems
                .advise(place, "the workflow has no jobs", hint);
        }
        if entries.len() > most {
            let many = entries.len();
            let what = format!("the workflow has {many} jobs, more than {most}");
            self.problems.advise(place, what, || Some(MANY.to_owned()));
            return None;
        }
        let jobs = entries.into_iter();
        let jobs = jobs.filter_map(|(node, key)| self.job(node, key, defaults));
        Some(jobs.collect())
    }

    /// The parts of a list, or those of an object by their names.
    fn entries<'a>(
        &mut self,
        field: &Field<'a>,
        what: &str,
    ) -> Option<Vec<(Node<'a>, Option<Named>)>> {
        Some(match field.node.shape() {
            Shape::List(items) => items.into_iter().map(|item| (item, None)).collect(),
            Shape::Table(fields) => {
                let named = |field: Field<'a>| {
                    let name = Named {
                        name: field.name.into(),
                        at: field.at,
                    };
                    (field.node, Some(name))
                };
                fields.into_iter().map(named).collect()
            }
            other => {
                let wanted = format!("a list of {what}s, or an object that has them by their keys");
                self.problems.wrong_kind(field, &other, &wanted);
                return None;
            }
        })
    }

    /// One job. What a job may have stands here, a line or two for each field.
    fn job(&mut self, node: Node<'_>, key: Option<Named>, defaults: &Defaults) -> Option<Draft> {
        let mut fields = Fields::of(node, "the job".to_owned(), self.problems)?;
        let key = self.key(&mut fields, &["key"], key)?;
        fields.whose = format!("job \"{}\"", key.name);
        let handler = self.name(&mut fields, &["handler"], "handler's name");
        let mut options = Options::default();
        let queue = self.text(&mut fields, &["queue-name", "queue"]);
        self.option(queue, &mut options, |options, name| {
            options.queue = Some(name)
        });
        let priority = self.whole(
            &mut fields,
            &["priority"],
            i64::from(i32::MIN),
            i64::from(i32::MAX),
        );
        self.option(priority, &mut options, |options, number| {
            options.priority = Some(number as i32);
        });
        let attempts = self.whole(
            &mut fields,
            &["max-attempts", "attempts"],
            0,
            i64::from(u32::MAX),
        );
        self.option(attempts, &mut options, |options, number| {
            options.attempts_max = Some(number as u32);
        });
        let timeout = self.timeout(&mut fields);
        self.option(timeout, &mut options, |options, ms| {
            options.timeout_ms = Some(ms)
        });
        let delay = self.duration(&mut fields, &["delay"]);
        self.option(delay, &mut options, |options, ms| {
            options.delay_ms = Some(ms)
        });
        let expires = self.duration(&mut fields, &["expires"]);
        self.option(expires, &mut options, |options, ms| {
            options.expires_ms = Some(ms)
        });
        let next = self.text(&mut fields, &["on-complete"]);
        self.option(next, &mut options, |options, name| {
            options.on_complete = Some(name)
        });
        options.metadata = self.metadata(&mut fields);
        let own = self.json(&mut fields, &["payload", "input"]);
        let optional = self.flag(&mut fields, &["optional"]);
        let after = fields.take(&["depends-on"], self.problems);
        let mut after = self.dependencies(after.as_ref(), &fields.whose);
        let pools = fields.take(&["pool"], self.problems);
        let pools = self.names(pools.as_ref());
        let handler = handler
            .or_else(|| defaults.handler_of(options.queue.as_deref()))
            .unwrap_or_else(|| key.name.clone());
        let (work, map) = self.work(&mut fields, handler, &mut after);
        let producer = self.producer(&mut fields, &work, !pools.is_empty());
        fields.end(self.problems);
        // What a function takes of it, its types say.
        let by_name = work.runs_function() && !after.is_empty();
        let inherited = || match by_name {
            true => "null".into(),
            false => defaults.input.clone(),
        };
        let open = Open {
            inherits: own.is_none() && work.runs_function(),
            map,
        };
        Some(Draft {
            step: Step {
                key: key.name.clone(),
                work,
                input: own.unwrap_or_else(inherited),
                options,
                after: Vec::new(),
                sources_of: Vec::new(),
                producer,
                optional,
            },
            key,
            after,
            pools,
            open,
        })
    }

    /// The options of a pool that jobs fill.
    fn pool(&mut self, node: Node<'_>, name: Option<Named>) -> Option<Draft> {
        let mut fields = Fields::of(node, "the pool".to_owned(), self.problems)?;
        let key = self.key(&mut fields, &["name", "key"], name)?;
        fields.whose = format!("pool \"{}\"", key.name);
        let on_failure = self.on_failure(&mut fields, &OnFailure::ALL);
        let concurrency = self.whole(&mut fields, &["concurrency"], 1, i64::from(u32::MAX));
        for field in fields.foreign(&["depends-on", "after"]) {
            let what = format!(
                "{} has {}, but is there from the start",
                fields.whose, field.name
            );
            let hint = "give \"dependsOn\" to the jobs that fill it";
            self.problems
                .advise(field.at, what, || Some(hint.to_owned()));
        }
        fields.end(self.problems);
        let options = PoolOptions {
            on_failure,
            concurrency: concurrency.map(|(_, number)| number as u32),
        };
        Some(Draft::pool(key, options))
    }

    fn key(
        &mut self,
        fields: &mut Fields<'_>,
        names: &[&'static str],
        outer: Option<Named>,
    ) -> Option<Named> {
        let inner = self.text(fields, names);
        let key = match (outer, inner) {
            (Some(outer), Some((at, inner))) if outer.name != inner => {
                let outer = outer.name;
                let what = format!("{} \"{outer}\" calls itself \"{inner}\"", fields.whose);
                self.problems.add(at, what);
                return None;
            }
            (Some(outer), _) => outer,
            (None, Some((at, name))) => Named { name, at },
            (None, None) => {
                let what = format!("{} has no {}", fields.whose, names[0]);
                self.problems.add(fields.at(), what);
                return None;
            }
        };
        if let Err(why) = check::key(&key.name) {
            let hint =
                "a key has letters, digits, - _ and . alone, so that WORKFLOW:key names the job";
            self.problems.advise(key.at, why, || Some(hint.to_owned()));
        }
        Some(key)
    }

    fn dependencies(&mut self, field: Option<&Field<'_>>, whose: &str) -> Vec<check::Dependency> {
        let Some(field) = field else {
            return Vec::new();
        };
        let items = match field.node.shape() {
            Shape::List(items) => items,
            Shape::Text(_) => vec![field.node],
            other => {
                let wanted =
                    "a list of keys, or of objects like {\"key\": \"extract\", \"on\": \"any\"}";
                self.problems.wrong_kind(field, &other, wanted);
                return Vec::new();
            }
        };
        let whose = format!("a dependency of {whose}");
        let items = items.into_iter();
        items
            .filter_map(|item| self.dependency(item, &whose))
            .collect()
    }

    fn dependency(&mut self, node: Node<'_>, whose: &str) -> Option<check::Dependency> {
        if let Shape::Text(name) = node.shape() {
            let (at, name) = (node.at(), name.into());
            return Some(check::Dependency::plain(Named { name, at }));
        }
        let mut fields = Fields::of(node, whose.to_owned(), self.problems)?;
        let key = self.text(&mut fields, &["key"]);
        let name = self.name(&mut fields, &["as"], "name of a dependency");
        let on = fields.take(&["on"], self.problems);
        let on = on.and_then(|field| self.word(&field, &On::ALL, On::as_str));
        let optional = self.flag(&mut fields, &["optional"]);
        let at = fields.at();
        fields.end(self.problems);
        let Some((at, key)) = key else {
            self.problems.add(at, format!("{whose} has no key"));
            return None;
        };
        Some(check::Dependency {
            name,
            on: on.unwrap_or_default(),
            optional,
            ..check::Dependency::plain(Named { name: key, at })
        })
    }

    /// One name, or a list of names.
    fn names(&mut self, field: Option<&Field<'_>>) -> Vec<Named> {
        let Some(field) = field else {
            return Vec::new();
        };
        let items = match field.node.shape() {
            Shape::List(items) => items,
            _ => vec![field.node],
        };
        let mut names = Vec::new();
        for item in items {
            match item.shape() {
                Shape::Text(name) => names.push(Named {
                    name: name.into(),
                    at: item.at(),
                }),
                other => self
                    .problems
                    .wrong_kind(field, &other, "a name or a list of names"),
            }
        }
        names
    }

    fn on_failure(&mut self, fields: &mut Fields<'_>, all: &[OnFailure]) -> Option<OnFailure> {
        let field = fields.take(&["on-failure"], self.problems)?;
        self.word(&field, all, OnFailure::as_str)
    }

    /// One of several words; those of two parts may be written like field names.
    fn word<T: Copy>(
        &mut self,
        field: &Field<'_>,
        all: &[T],
        word: fn(T) -> &'static str,
    ) -> Option<T> {
        let plain = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
        let found = match field.node.shape() {
            Shape::Text(text) => text,
            other => {
                self.problems.wrong_kind(field, &other, "text");
                return None;
            }
        };
        let one = all
            .iter()
            .copied()
            .find(|one| plain(word(*one)) == plain(&found));
        if one.is_none() {
            let name = &field.name;
            let words: Vec<&str> = all.iter().map(|one| word(*one)).collect();
            let what = format!("{name} is \"{found}\": it has to be {}", words.join(" or "));
            self.problems.add(field.node.at(), what);
        }
        one
    }

    fn text(
        &mut self,
        fields: &mut Fields<'_>,
        names: &[&'static str],
    ) -> Option<(usize, Arc<str>)> {
        let field = fields.take(names, self.problems)?;
        match field.node.shape() {
            Shape::Text(text) => Some((field.node.at(), text.into())),
            other => {
                self.problems.wrong_kind(&field, &other, "text");
                None
            }
        }
    }

    fn name(
        &mut self,
        fields: &mut Fields<'_>,
        names: &[&'static str],
        what: &str,
    ) -> Option<Arc<str>> {
        let (at, name) = self.text(fields, names)?;
        match check_name(what, &name) {
            Ok(()) => Some(name),
            Err(why) => {
                self.problems.add(at, why);
                None
            }
        }
    }

    fn flag(&mut self, fields: &mut Fields<'_>, names: &[&'static str]) -> bool {
        let Some(field) = fields.take(names, self.problems) else {
            return false;
        };
        match field.node.shape() {
            Shape::Flag(flag) => flag,
            other => {
                self.problems.wrong_kind(&field, &other, "true or false");
                false
            }
        }
    }

    fn whole(
        &mut self,
        fields: &mut Fields<'_>,
        names: &[&'static str],
        least: i64,
        most: i64,
    ) -> Option<(usize, i64)> {
        let field = fields.take(names, self.problems)?;
        let Shape::Number(text) = field.node.shape() else {
            let wanted = "a whole number";
            self.problems
                .wrong_kind(&field, &field.node.shape(), wanted);
            return None;
        };
        let number = text
            .parse()
            .ok()
            .filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let name = &field.name;
            let what =
                format!("{name} is {text}: it has to be a whole number from {least} to {most}");
            self.problems.add(field.node.at(), what);
        }
        Some((field.node.at(), number?))
    }

    /// The running time of one attempt: in seconds, or as a duration.
    fn timeout(&mut self, fields: &mut Fields<'_>) -> Option<(usize, u64)> {
        let seconds = fields.take(&["timeout-seconds"], self.problems);
        let text = self.duration(fields, &["timeout"]);
        let Some(field) = seconds else {
            return text;
        };
        if let Some((at, _)) = text {
            let what = format!(
                "{} has timeout and {}, which mean the same",
                fields.whose, field.name
            );
            self.problems.add(at, what);
        }
        let found = field.node.shape();
        let number = match &found {
            Shape::Number(text) => text.parse::<f64>().ok(),
            _ => None,
        };
        let wanted = "a number of seconds above 0";
        let in_range = number.filter(|seconds| (0.001..1e12).contains(seconds));
        match (in_range, number) {
            (Some(seconds), _) => return Some((field.node.at(), (seconds * 1_000.0) as u64)),
            (None, Some(number)) => {
                let what = format!("{} is {number}: it has to be {wanted}", field.name);
                self.problems.add(field.node.at(), what);
            }
            (None, None) => self.problems.wrong_kind(&field, &found, wanted),
        }
        None
    }

    fn duration(
        &mut self,
        fields: &mut Fields<'_>,
        names: &[&'static str],
    ) -> Option<(usize, u64)> {
        let field = fields.take(names, self.problems)?;
        let wanted = "a duration such as \"30s\", \"5m\" or \"1h 30m\"";
        match field.node.shape() {
            Shape::Text(text) => match duration_ms(&text) {
                Some(ms) => Some((field.node.at(), ms)),
                None => {
                    let what = format!("{} is \"{text}\": it has to be {wanted}", field.name);
                    self.problems.add(field.node.at(), what);
                    None
                }
            },
            other => {
                self.problems.wrong_kind(&field, &other, wanted);
                None
            }
        }
    }

    fn json(&mut self, fields: &mut Fields<'_>, names: &[&'static str]) -> Option<Json> {
        let field = fields.take(names, self.problems)?;
        let checked = field
            .node
            .json()
            .and_then(|text| check_payload(&text).map(|()| text));
        match checked {
            Ok(text) => Some(text.into()),
            Err(why) => {
                self.problems
                    .add(field.node.at(), format!("{}: {why}", field.name));
                None
            }
        }
    }

    /// Set an option, when what it would be is within the bounds.
    fn option<T: Clone>(
        &mut self,
        value: Option<(usize, T)>,
        options: &mut Options,
        set: fn(&mut Options, T),
    ) {
        let Some((at, value)) = value else {
            return;
        };
        let mut alone = Options::default();
        set(&mut alone, value.clone());
        match alone.check() {
            Ok(()) => set(options, value),
            Err(why) => self.problems.add(at, why),
        }
    }
}
