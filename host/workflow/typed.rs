//! The types of a workflow: what its functions give and take, compared before anything starts.
//!
//! Called where the functions of the handlers are known. A step of which nothing is known is taken
//! as it is. A function that takes one element of what a dependency gives as a list becomes a map.

use std::sync::Arc;

use serde_json::Value as Json;

use super::check::MapFields;
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
        let open = &definition.open[index];
        let Some(functioning) = functioning else {
            if let Some(map) = &open.map {
                problems.push(no_map(definition, index, map));
            }
            continue;
        };
        let mapped = dependencies(&workflow.steps, index, &functioning, &outputs, &mut wrong);
        match (mapped, &open.map) {
            (Some(key), fields) => {
                let step = &mut workflow.steps[index];
                step.work = map_over(&step.work, key, fields.as_ref());
            }
            (None, Some(fields)) => problems.push(no_map(definition, index, fields)),
            (None, None) => {}
        }
        let inherits = open.inherits && matches!(workflow.steps[index].work, Work::Run { .. });
        match input_of(&workflow, index, &functioning, inherits) {
            Ok(Some(input)) => workflow.steps[index].input = input,
            Ok(None) => {}
            Err((what, hint)) => problems.push(Problem {
                line,
                column,
                what,
                hint: Some(hint),
            }),
        }
        let step = &workflow.steps[index];
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
fn given(function: &Function, step: &Step, input: &str, names: &[&str]) -> Result<(), Mismatch> {
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
        serde_json::from_str(input).map_err(|error| wrong("JSON", error.to_string()))?;
    let names = names.iter();
    let later: Vec<(String, Json)> = names.map(|name| ((*name).to_owned(), Json::Null)).collect();
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

/// The input of a step that takes the workflow's input by name, if it does; or what is wrong with its input, and what
/// to do.
fn input_of(
    workflow: &Workflow,
    index: usize,
    function: &Function,
    inherits: bool,
) -> Result<Option<Arc<str>>, (String, String)> {
    let step = &workflow.steps[index];
    let names: Vec<&str> = (step.after.iter())
        .map(|after| called(&workflow.steps, after))
        .collect();
    let inherited = inherits
        .then(|| by_name(function, &workflow.input, &names))
        .flatten();
    let input = inherited.as_ref().unwrap_or(&step.input);
    let Err(mismatch) = given(function, step, input, &names) else {
        return Ok(inherited);
    };
    let ungiven = inherits.then(|| ungiven(function, input, &names)).flatten();
    Err(match ungiven {
        Some(parameter) => nothing_for(step, parameter, function, &names),
        None => (
            format!("job \"{}\" cannot take its input: {mismatch}", step.key),
            format!("it takes {}", parameters(function)),
        ),
    })
}

/// The workflow's input for a function without an input of its own: the fields with the names of its parameters. None
/// if it takes the whole.
fn by_name(function: &Function, input: &str, dependencies: &[&str]) -> Option<Arc<str>> {
    let input: Json = serde_json::from_str(input).ok()?;
    if dependencies.is_empty() && takes(function, input.clone(), &[]).is_ok() {
        return None;
    }
    let Json::Object(mut members) = input else {
        return None;
    };
    members.retain(|name, _| {
        let mut params = function.params.iter();
        params.any(|(param, _)| param == name) && !dependencies.contains(&name.as_str())
    });
    // Without dependencies the sentence describes the whole input.
    match (members.is_empty(), dependencies.is_empty()) {
        (true, true) => None,
        (true, false) => Some("null".into()),
        (false, _) => Some(Json::Object(members).to_string().into()),
    }
}

/// The first parameter without a value.
fn ungiven<'f>(
    function: &'f Function,
    input: &str,
    dependencies: &[&str],
) -> Option<&'f (String, Type)> {
    if dependencies.is_empty() {
        return None;
    }
    let input: Json = serde_json::from_str(input).ok()?;
    function.params.iter().find(|(name, parameter)| {
        let named = input.get(name).is_some() || dependencies.contains(&name.as_str());
        !named && !matches!(parameter, Type::Option(_))
    })
}

/// The message for a parameter without a value, and what to do.
fn nothing_for(
    step: &Step,
    (name, parameter): &(String, Type),
    function: &Function,
    dependencies: &[&str],
) -> (String, String) {
    let what = format!(
        "nothing gives job \"{}\" its parameter {name} ({parameter}): it depends on {}, and the workflow's input has no \
         field {name}",
        step.key,
        dependencies.join(", ")
    );
    let takes = parameters(function);
    let one = dependencies.first().unwrap_or(&"KEY");
    let hint = format!(
        "it takes {takes}; {{\"key\": \"{one}\", \"as\": \"{name}\"}} in dependsOn gives it what \"{one}\" gives"
    );
    (what, hint)
}

/// The parameters of a function, for people.
fn parameters(function: &Function) -> String {
    let all: Vec<String> = (function.params.iter())
        .map(|(name, parameter)| format!("{name}: {parameter}"))
        .collect();
    match all.is_empty() {
        true => "nothing".to_owned(),
        false => all.join(", "),
    }
}

/// A job that has fields of a map but is not one.
fn no_map(definition: &Definition, index: usize, map: &MapFields) -> Problem {
    let (line, column) = definition.places[index];
    Problem {
        line,
        column,
        what: format!(
            "job \"{}\" has {}, which only maps and generators have, and by its types it is not a map",
            definition.workflow.steps[index].key, map.field
        ),
        hint: Some(
            "a function that takes one element of the list that a dependency gives is a map; \"map\": \"KEY\" makes it one"
                .to_owned(),
        ),
    }
}

fn map_over(work: &Work, key: String, fields: Option<&MapFields>) -> Work {
    match work {
        Work::Run { handler } => Work::Each {
            options: fields.map_or_else(PoolOptions::default, |fields| fields.options),
            each: Arc::new(Each {
                handler: handler.to_string(),
                results: fields.map_or_else(Results::default, |fields| fields.results),
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
