//! From the input of a task and the outputs of what it comes after to the arguments of a function.

use serde_json::Value as Json;

use super::json::{Reader, foreign, found};
use super::{Function, Mismatch, Type, VALUE_PARTS_MAX, Value};

/// What one parameter is given, and what it is called in messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    /// `$` for the whole input, `$.NAME` for a member of it, `dependencies.KEY` for an output.
    pub path: String,
    /// The JSON.
    pub json: Json,
}

/// Give each parameter its JSON. A parameter that bears the key of a dependency takes the output of
/// that. The others come from the input: one that is left over takes all of it, unless it is an
/// object of the parameters' names; several are its members. What is an option may be absent.
pub fn bind(
    function: &Function,
    input: Json,
    dependencies: &[(String, Json)],
) -> Result<Vec<Argument>, Mismatch> {
    let depends = |name: &str| dependencies.iter().find(|(key, _)| key == name);
    let open: Vec<&str> = function
        .params
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| depends(name).is_none())
        .collect();
    let whole = match (&input, open.as_slice()) {
        (Json::Object(members), [name]) => !(members.len() == 1 && members.contains_key(*name)),
        (_, open) => open.len() == 1,
    };
    let mut input = Some(input);
    let mut members = match input.take_if(|_| !whole) {
        None => Default::default(),
        Some(Json::Null) => Default::default(),
        Some(Json::Object(members)) => members,
        Some(other) => {
            return Err(Mismatch {
                path: "$".to_owned(),
                expected: match open.as_slice() {
                    [] => "null, as no parameter is left for it".to_owned(),
                    open => format!("an object with {}", open.join(", ")),
                },
                found: found(&other),
            });
        }
    };
    if let Some(name) = members.keys().find(|name| !open.contains(&name.as_str())) {
        return Err(match depends(name) {
            Some(_) => Mismatch {
                path: format!("$.{name}"),
                expected: "nothing, as a dependency bears that name".to_owned(),
                found: found(&members[name]),
            },
            None => foreign("$", name, open.into_iter()),
        });
    }
    let mut bound = Vec::with_capacity(function.params.len());
    for (name, param) in &function.params {
        let argument = if let Some((key, output)) = depends(name) {
            (format!("dependencies.{key}"), output.clone())
        } else if let Some(input) = input.take() {
            ("$".to_owned(), input)
        } else {
            let path = format!("$.{name}");
            match members.remove(name) {
                Some(member) => (path, member),
                None if matches!(param, Type::Option(_)) => (path, Json::Null),
                None => {
                    return Err(Mismatch {
                        path,
                        expected: param.to_string(),
                        found: "nothing".to_owned(),
                    });
                }
            }
        };
        let (path, json) = argument;
        bound.push(Argument { path, json });
    }
    Ok(bound)
}

/// The arguments of a call: [`bind`], and each of the type of its parameter.
pub fn arguments(
    function: &Function,
    input: &str,
    dependencies: &[(String, Json)],
) -> Result<Vec<Value>, Mismatch> {
    let input = serde_json::from_str(input).map_err(|error| Mismatch {
        path: "$".to_owned(),
        expected: "JSON".to_owned(),
        found: error.to_string(),
    })?;
    let bound = bind(function, input, dependencies)?;
    let mut reader = Reader::new(VALUE_PARTS_MAX);
    function
        .params
        .iter()
        .zip(bound)
        .map(|((_, param), argument)| reader.read(&argument.json, param, &argument.path))
        .collect()
}

/// Whether an input will do for a task that comes after nothing.
pub fn check(function: &Function, input: &str) -> Result<(), Mismatch> {
    arguments(function, input, &[]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::examples::*;
    use super::*;

    #[track_caller]
    fn bound(function: &Function, input: Json, dependencies: &[(&str, Json)], expected: &[&str]) {
        let dependencies: Vec<(String, Json)> = dependencies
            .iter()
            .map(|(key, output)| ((*key).to_owned(), output.clone()))
            .collect();
        let found = match bind(function, input, &dependencies) {
            Ok(arguments) => arguments
                .iter()
                .map(|argument| format!("{} = {}", argument.path, argument.json))
                .collect(),
            Err(mismatch) => vec![mismatch.to_string()],
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn one_parameter_takes_the_whole_input_unless_that_is_an_object_of_its_name() {
        let one = function(&[("order", order())], None);
        bound(&one, json!({ "id": "7" }), &[], &["$ = {\"id\":\"7\"}"]);
        bound(&one, json!({ "order": 1 }), &[], &["$.order = 1"]);
        bound(
            &one,
            json!({ "order": 1, "id": 2 }),
            &[],
            &["$ = {\"id\":2,\"order\":1}"],
        );
        bound(&one, json!({}), &[], &["$ = {}"]);
        bound(&one, json!([1]), &[], &["$ = [1]"]);
        bound(&one, json!(null), &[], &["$ = null"]);
    }

    #[test]
    fn several_parameters_are_members_of_the_input() {
        let two = function(&[("a", Type::U8), ("b-c", option(Type::U8))], None);
        bound(
            &two,
            json!({ "a": 1, "b-c": 2 }),
            &[],
            &["$.a = 1", "$.b-c = 2"],
        );
        bound(&two, json!({ "a": 1 }), &[], &["$.a = 1", "$.b-c = null"]);
        let lacks = "$.a: expected u8, found nothing";
        bound(&two, json!({}), &[], &[lacks]);
        bound(&two, json!(null), &[], &[lacks]);
        bound(
            &two,
            json!({ "a": 1, "b_c": 2 }),
            &[],
            &["$: expected the member \"b-c\", found the member \"b_c\""],
        );
        bound(
            &two,
            json!({ "a": 1, "z": 2 }),
            &[],
            &["$: expected no members but a, b-c, found the member \"z\""],
        );
        bound(
            &two,
            json!([1, 2]),
            &[],
            &["$: expected an object with a, b-c, found a list of 2"],
        );
    }

    #[test]
    fn a_parameter_that_bears_a_dependency_s_key_takes_its_output() {
        let two = function(&[("stock", Type::U8), ("order", Type::String)], None);
        let stock = ("stock", json!(9));
        let given = ["dependencies.stock = 9", "$ = \"7\""];
        bound(&two, json!("7"), std::slice::from_ref(&stock), &given);
        let named = ["dependencies.stock = 9", "$.order = \"7\""];
        bound(
            &two,
            json!({ "order": "7" }),
            &[stock.clone(), ("other", json!(1))],
            &named,
        );
        let all = [stock.clone(), ("order", json!("8"))];
        let both = ["dependencies.stock = 9", "dependencies.order = \"8\""];
        bound(&two, json!(null), &all, &both);
        bound(&two, json!({}), &all, &both);
        bound(
            &two,
            json!(1),
            &all,
            &["$: expected null, as no parameter is left for it, found the number 1"],
        );
        bound(
            &two,
            json!({ "stock": 1 }),
            &all,
            &["$.stock: expected nothing, as a dependency bears that name, found the number 1"],
        );
    }

    #[test]
    fn a_function_without_parameters_takes_no_input() {
        let none = function(&[], None);
        bound(&none, json!(null), &[], &[]);
        bound(&none, json!({}), &[], &[]);
        bound(
            &none,
            json!({ "a": 1 }),
            &[],
            &["$: expected no members, found the member \"a\""],
        );
    }

    #[test]
    fn arguments_are_of_the_parameters_types_and_not_too_many() {
        let one = function(&[("n", list(Type::U8)), ("m", list(Type::Bool))], None);
        let check = |input: String, expected: &str| {
            let found = check(&one, &input).err().map(|wrong| wrong.to_string());
            assert_eq!(found.as_deref().unwrap_or_default(), expected);
        };
        check("{\"n\":\"AQI=\",\"m\":[true]}".to_owned(), "");
        check(
            "{\"n\":\"AQI=\",\"m\":[1]}".to_owned(),
            "$.m[0]: expected bool, found the number 1",
        );
        check(
            "{".to_owned(),
            "$: expected JSON, found EOF while parsing an object at line 1 column 1",
        );
        let half = BYTES.repeat(VALUE_PARTS_MAX / 2 / 3 + 1);
        let flags = vec!["true"; VALUE_PARTS_MAX / 2].join(",");
        check(
            format!("{{\"n\":\"{half}\",\"m\":[{flags}]}}"),
            "$.m[499997]: expected no more than 1000000 values in all, found more",
        );
    }

    /// Three of them.
    const BYTES: &str = "AAAA";
}
