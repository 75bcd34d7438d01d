//! The types of a workflow: what its functions give and take, compared before anything starts.
//!
//! Called where the functions of the handlers are known. A step of which nothing is known is taken
//! as it is. A function that takes one element of what a dependency gives as a list becomes a map.

use std::sync::Arc;

use serde_json::Value as Json;

use super::file::Definition;
use super::problem::Problem;
use super::{After, Step, Work, Workflow};
use crate::group::{Each, Items, OnFailure, PoolOptions, Results};
use crate::task::edge::On;
use crate::types::{Fit, Function, Mismatch, Type, bind, decode, fits, found};

/// The workflow with its maps, or each step that cannot go well. `function` tells what runs the tasks
/// of a handler, where that is a function.
pub fn typed(
    definition: &Definition,
    function: &dyn Fn(&str) -> Option<Function>,
) -> Result<Definition, Vec<Problem>> {
    let mut workflow = Workflow::clone(&definition.workflow);
    let mut outputs: Vec<Known> = vec![None; workflow.steps.len()];
    let mut problems = Vec::new();
    for index in order(&workflow.steps) {
        let (line, column) = definition.places[index];
        let mut wrong = |what, hint: Option<&str>| {
            problems.push(Problem {
                line,
                column,
                what,
                hint: hint.map(str::to_owned),
            });
        };
        let functioning = match &workflow.steps[index].work {
            Work::Run { handler } => function(handler),
            Work::Each { each, .. } => function(&each.handler),
            Work::Pool(_) => None,
        };
        let Some(functioning) = functioning else {
            continue;
        };
        let mapped = dependencies(&workflow.steps, index, &functioning, &outputs, &mut wrong);
        if let Some(key) = mapped {
            let step = &mut workflow.steps[index];
            step.work = map_over(&step.work, key);
        }
        let step = &workflow.steps[index];
        let names = step.after.iter();
        let names = names.map(|after| called(&workflow.steps, after));
        if let Err(mismatch) = given(&functioning, step, names) {
            let what = format!("job \"{}\" cannot take its input: {mismatch}", step.key);
            wrong(what, Some("fishway handler describe shows what it takes"));
        }
        outputs[index] = output(&step.work, &functioning);
    }
    if !problems.is_empty() {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        return Err(problems);
    }
    Ok(Definition {
        workflow: Arc::new(workflow),
        ..definition.clone()
    })
}

/// What a step gives; none where that is not known. A function may give nothing.
type Known = Option<Option<Type>>;

/// Each step after all that it comes after. Nothing leads back: the document was checked.
fn order(steps: &[Step]) -> Vec<usize> {
    let mut left: Vec<usize> = steps.iter().map(|step| step.after.len()).collect();
    let mut below: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
    for (index, step) in steps.iter().enumerate() {
        for after in &step.after {
            below[after.step].push(index);
        }
    }
    let mut order: Vec<usize> = (0..steps.len()).filter(|&index| left[index] == 0).collect();
    let mut next = 0;
    while let Some(&index) = order.get(next) {
        next += 1;
        for &later in &below[index] {
            left[later] -= 1;
            if left[later] == 0 {
                order.push(later);
            }
        }
    }
    order
}

/// Compare what a step takes with what it comes after. Answers with the dependency that it is a map
/// over because of its types.
fn dependencies(
    steps: &[Step],
    index: usize,
    function: &Function,
    outputs: &[Known],
    wrong: &mut impl FnMut(String, Option<&str>),
) -> Option<String> {
    let step = &steps[index];
    let over = match &step.work {
        Work::Each { each, .. } => match &each.items {
            Items::Array { over } => over.as_deref(),
            Items::Pages { .. } => None,
        },
        _ => None,
    };
    let mut mapped: Option<String> = None;
    for after in &step.after {
        let key = called(steps, after);
        let Some(output) = &outputs[after.step] else {
            continue;
        };
        let told = |misfit: &dyn std::fmt::Display| {
            format!(
                "job \"{}\" cannot take what \"{}\" gives: {misfit}",
                step.key, steps[after.step].key
            )
        };
        if over == Some(key) {
            let Some((_, parameter)) = item_parameter(function, step, steps) else {
                continue;
            };
            let each = match output {
                Some(Type::List(element)) => fits(Some(element), parameter),
                other => {
                    let found = other.as_ref().map_or("nothing".to_owned(), Type::to_string);
                    wrong(
                        told(&format!("expected list<{parameter}>, found {found}")),
                        None,
                    );
                    continue;
                }
            };
            match each {
                Ok(Fit::Same) => {}
                Ok(Fit::Each) => wrong(
                    told(&format!("expected list<{parameter}>, found lists of lists")),
                    None,
                ),
                Err(misfit) => wrong(told(&misfit), None),
            }
            continue;
        }
        let Some((_, parameter)) = function.params.iter().find(|(name, _)| name == key) else {
            continue;
        };
        let certain = after.on == On::Success && !after.optional;
        if !certain && !matches!(parameter, Type::Option(_)) {
            let what = format!(
                "job \"{}\" may start without what \"{}\" gives: expected option<{parameter}>, found {parameter}",
                step.key, steps[after.step].key
            );
            wrong(
                what,
                Some(
                    "the parameter has to be an option, or the dependency neither optional nor on another end than success",
                ),
            );
            continue;
        }
        match (fits(output.as_ref(), parameter), &step.work) {
            (Ok(Fit::Same), _) => {}
            (Ok(Fit::Each), Work::Run { .. }) if mapped.is_none() => mapped = Some(key.to_owned()),
            (Ok(Fit::Each), _) => wrong(
                told(&format!(
                    "{parameter} is one element of it, and the job is a map already"
                )),
                Some("a map runs over one list"),
            ),
            (Err(misfit), _) => wrong(told(&misfit), None),
        }
    }
    mapped
}

/// The parameter that takes the item of a map: the one that bears no other dependency's name.
fn item_parameter<'f>(
    function: &'f Function,
    step: &Step,
    steps: &[Step],
) -> Option<&'f (String, Type)> {
    let over = match &step.work {
        Work::Each { each, .. } => match &each.items {
            Items::Array { over } => over.as_deref(),
            Items::Pages { .. } => None,
        },
        _ => None,
    };
    let depends = |name: &str| {
        let mut keys = step.after.iter().map(|after| called(steps, after));
        keys.any(|key| key == name && over != Some(key))
    };
    let mut open = (function.params.iter()).filter(|(name, _)| !depends(name));
    let first = open.next()?;
    open.next().is_none().then_some(first)
}

/// Whether the input that a step was given is of the types that are left for it; of a map over its own
/// input, each of the elements.
fn given<'k>(
    function: &Function,
    step: &Step,
    names: impl Iterator<Item = &'k str>,
) -> Result<(), Mismatch> {
    let own = match &step.work {
        Work::Run { .. } => false,
        Work::Each { each, .. } if each.items == Items::Array { over: None } => true,
        // What it runs over is there later.
        Work::Each { .. } | Work::Pool(_) => return Ok(()),
    };
    let wrong = |expected: &str, found: String| Mismatch {
        path: "$".to_owned(),
        expected: expected.to_owned(),
        found,
    };
    let input: Json =
        serde_json::from_str(&step.input).map_err(|error| wrong("JSON", error.to_string()))?;
    let later: Vec<(String, Json)> = names.map(|name| (name.to_owned(), Json::Null)).collect();
    match (own, input) {
        (false, input) => takes(function, input, &later),
        (true, Json::Array(items)) => {
            items.into_iter().enumerate().try_for_each(|(index, item)| {
                takes(function, item, &later).map_err(|mismatch| Mismatch {
                    path: mismatch.path.replacen('$', &format!("$[{index}]"), 1),
                    ..mismatch
                })
            })
        }
        (true, other) => Err(wrong("a list, as the job is a map", found(&other))),
    }
}

/// Whether a function takes an input, and what comes `later` for some of its parameters.
fn takes(function: &Function, input: Json, later: &[(String, Json)]) -> Result<(), Mismatch> {
    let bound = bind(function, input, later)?;
    for ((name, parameter), argument) in function.params.iter().zip(bound) {
        if later.iter().all(|(key, _)| key != name) {
            decode(&argument.json, parameter, &argument.path)?;
        }
    }
    Ok(())
}

fn map_over(work: &Work, key: String) -> Work {
    match work {
        Work::Run { handler } => Work::Each {
            options: PoolOptions::default(),
            each: Arc::new(Each {
                handler: handler.to_string(),
                results: Results::List,
                items: Items::Array { over: Some(key) },
            }),
        },
        other => other.clone(),
    }
}

fn output(work: &Work, function: &Function) -> Known {
    let own = function.output().cloned();
    match work {
        Work::Run { .. } => Some(own),
        Work::Each { options, each }
            if each.results == Results::List
                && options.on_failure.unwrap_or_default() != OnFailure::Collect =>
        {
            own.map(|own| Some(Type::List(Box::new(own))))
        }
        Work::Each { .. } | Work::Pool(_) => None,
    }
}

/// What a step calls what it comes after.
fn called<'s>(steps: &'s [Step], after: &'s After) -> &'s str {
    after.key.as_ref().unwrap_or(&steps[after.step].key)
}
