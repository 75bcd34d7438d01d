//! The fields that say what kind of step a job is: a plain one, a map, a generator or a producer.

use std::sync::Arc;

use super::super::check::{Dependency, MapFields, Named};
use super::super::document::{Field, Shape};
use super::super::problem::Fields;
use super::{Reader, Work};
use crate::group::{Each, Items, OnFailure, PoolOptions, Results};
use crate::limits::WINDOW;
use crate::task::{Producer, duration_ms};
use crate::types::is_function;

impl Reader<'_, '_> {
    /// The kind of a job, by its fields, and the fields of a map that a function may turn out to be. A map over a
    /// dependency depends on that one.
    pub(super) fn work(
        &mut self,
        fields: &mut Fields<'_>,
        handler: Arc<str>,
        after: &mut Vec<Dependency>,
    ) -> (Work, Option<MapFields>) {
        let map = fields.take(&["map"], self.problems);
        let map = map.and_then(|field| self.over(&field));
        let source = self.name(fields, &["generator"], "generator's name");
        let window = self.whole(fields, &["window"], 1, i64::from(u32::MAX));
        let window_at = window.map(|(at, _)| at);
        let concurrency = self.whole(fields, &["concurrency"], 1, i64::from(u32::MAX));
        let concurrency_at = concurrency.map(|(at, _)| at);
        let results = fields.take(&["results"], self.problems);
        let results_at = results.as_ref().map(|field| field.at);
        let results = results.and_then(|field| {
            self.word(&field, &[Results::List, Results::Counts], Results::as_str)
        });
        let on_failure = fields.take(&["on-failure"], self.problems);
        let on_failure_at = on_failure.as_ref().map(|field| field.at);
        let on_failure =
            on_failure.and_then(|field| self.word(&field, &OnFailure::ALL, OnFailure::as_str));
        let options = PoolOptions {
            on_failure,
            concurrency: concurrency.map(|(_, number)| number as u32),
        };
        let whose = fields.whose.clone();
        let items = match (map, source) {
            (Some(_), Some(_)) => {
                let what = format!("{whose} is a map and a generator: it can be one of them");
                self.problems.add(fields.at(), what);
                return (Work::Run { handler }, None);
            }
            (None, None) => {
                let alone = [
                    ("window", window_at),
                    ("concurrency", concurrency_at),
                    ("results", results_at),
                    ("onFailure", on_failure_at),
                ];
                let mut given = alone.into_iter().filter_map(|(name, at)| Some((name, at?)));
                // Whether a function runs for each element of a list is a matter of its types.
                let map = match is_function(&handler) && window_at.is_none() {
                    true => given.next().map(|(field, _)| MapFields {
                        options,
                        results: results.unwrap_or_default(),
                        field,
                    }),
                    false => None,
                };
                for (name, at) in given.filter(|_| map.is_none()) {
                    let what = format!("{whose} has {name}, which only maps and generators have");
                    let hint = || {
                        Some(
                            "\"map\": \"KEY\" or \"generator\": \"HANDLER\" makes it one"
                                .to_owned(),
                        )
                    };
                    self.problems.advise(at, what, hint);
                }
                return (Work::Run { handler }, map);
            }
            (Some(over), None) => {
                if let Some(at) = window_at {
                    let what = format!("{whose} has window, which only generators have");
                    self.problems.add(at, what);
                }
                let over = over.map(|named| {
                    let key = named.name.to_string();
                    if !after.iter().any(|one| called(one) == key) {
                        after.push(Dependency::plain(named));
                    }
                    key
                });
                Items::Array { over }
            }
            (None, Some(source)) => Items::Pages {
                source: source.to_string(),
                window: window.map_or(WINDOW, |(_, window)| window as u32),
            },
        };
        let each = Each {
            handler: handler.to_string(),
            results: results.unwrap_or_default(),
            items,
        };
        if let Err(why) = each.check() {
            self.problems.add(window_at.unwrap_or(fields.at()), why);
        }
        let each = Arc::new(each);
        (Work::Each { options, each }, None)
    }

    /// What a map runs over: a dependency by what the job calls it, or `true` for its own input.
    fn over(&mut self, field: &Field<'_>) -> Option<Option<Named>> {
        match field.node.shape() {
            Shape::Flag(true) => Some(None),
            Shape::Flag(false) => None,
            Shape::Text(name) => Some(Some(Named {
                name: name.into(),
                at: field.node.at(),
            })),
            other => {
                let wanted = "the key of a dependency, or true for the job's own input";
                self.problems.wrong_kind(field, &other, wanted);
                None
            }
        }
    }

    /// The clocks of a producer, where the job is one: it says so, or it has one of them.
    pub(super) fn producer(
        &mut self,
        fields: &mut Fields<'_>,
        work: &Work,
        fills_a_pool: bool,
    ) -> Option<Producer> {
        let says = self.flag(fields, &["producer"]);
        let idle = self.clock(fields, &["idle-timeout"]);
        let drain = self.clock(fields, &["drain-timeout"]);
        if !says && idle.is_none() && drain.is_none() {
            return None;
        }
        let whose = fields.whose.clone();
        if !matches!(work, Work::Run { .. }) {
            let what =
                format!("{whose} is a producer and a map or a generator: it can be one of them");
            self.problems.add(fields.at(), what);
        }
        if !fills_a_pool {
            let what = format!("{whose} is a producer and fills no pool");
            let hint = || Some("\"pool\": \"NAME\" names what it fills".to_owned());
            self.problems.advise(fields.at(), what, hint);
        }
        let default = Producer::default();
        let producer = Producer {
            idle_ms: idle.map_or(default.idle_ms, |(_, ms)| ms),
            drain_ms: drain.map_or(default.drain_ms, |(_, ms)| ms),
        };
        if let Err(why) = producer.check() {
            let at = idle.or(drain).map_or(fields.at(), |(at, _)| at);
            self.problems.add(at, why);
        }
        Some(producer)
    }

    /// A duration, or `never` for a clock that does not run.
    fn clock(
        &mut self,
        fields: &mut Fields<'_>,
        names: &[&'static str],
    ) -> Option<(usize, Option<u64>)> {
        let field = fields.take(names, self.problems)?;
        let at = field.node.at();
        let wanted = "a duration such as \"30s\" or \"5m\", or \"never\"";
        let found = match field.node.shape() {
            Shape::Text(text) if text == "never" => return Some((at, None)),
            Shape::Text(text) => match duration_ms(&text) {
                Some(ms) => return Some((at, Some(ms))),
                None => format!("{} is \"{text}\": it has to be {wanted}", field.name),
            },
            other => {
                self.problems.wrong_kind(&field, &other, wanted);
                return None;
            }
        };
        self.problems.add(at, found);
        None
    }
}

/// What a job calls what it depends on.
fn called(dependency: &Dependency) -> &str {
    dependency.name.as_ref().unwrap_or(&dependency.to.name)
}
