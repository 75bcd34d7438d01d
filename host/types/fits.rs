//! Whether what one function gives is what another takes.
//!
//! By structure: the names by which types were declared do not matter. What fits is read without a
//! mismatch, whatever the value is.

use super::{Function, Type};

/// How an output fits a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The parameter takes the output.
    Same,
    /// The output is a list, and the parameter takes each of its elements: a map.
    Each,
}

/// Where an output does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {actual}{}", place(.path))]
pub struct Misfit {
    /// Where in the types, from the root `$`; an element of a list is `[]`.
    pub path: String,
    /// What the parameter wants there.
    pub expected: String,
    /// What the output has.
    pub actual: String,
}

fn place(path: &str) -> String {
    match path {
        "$" => String::new(),
        path => format!(" at {path}"),
    }
}

/// Whether a parameter takes an output, or each of its elements. An output of no type is `null`.
pub fn fits(output: Option<&Type>, parameter: &Type) -> Result<Fit, Misfit> {
    let Some(output) = output else {
        return match parameter {
            Type::Option(_) => Ok(Fit::Same),
            other => Err(misfit("$", other.to_string(), "nothing".to_owned())),
        };
    };
    let whole = takes(output, parameter, "$");
    match (whole, output) {
        (Ok(()), _) => Ok(Fit::Same),
        (Err(misfit), Type::List(element)) if !output.is_bytes() => {
            match takes(element, parameter, "$[]") {
                Ok(()) => Ok(Fit::Each),
                // Of a list for a list, what is wrong inside is of interest; else that it is one.
                Err(_) => Err(misfit),
            }
        }
        (Err(misfit), _) => Err(misfit),
    }
}

/// Whether calls of `wanted`, as one component imports it, may be answered by `offered`.
pub fn answers(offered: &Function, wanted: &Function) -> Result<(), Misfit> {
    for (name, param) in &offered.params {
        let path = format!("{name} of {}", wanted.name);
        match wanted.params.iter().find(|(other, _)| other == name) {
            Some((_, given)) => takes(given, param, &path)?,
            None if matches!(param, Type::Option(_)) => {}
            None => return Err(misfit(&path, param.to_string(), "nothing".to_owned())),
        }
    }
    let known = |name: &String| offered.params.iter().any(|(other, _)| other == name);
    if let Some((name, given)) = wanted.params.iter().find(|(name, _)| !known(name)) {
        let path = format!("{name} of {}", wanted.name);
        return Err(misfit(
            &path,
            "no such parameter".to_owned(),
            given.to_string(),
        ));
    }
    let path = format!("the result of {}", wanted.name);
    match (offered.output(), wanted.output()) {
        (None, Some(Type::Option(_))) | (_, None) => {}
        (None, Some(expected)) => {
            return Err(misfit(&path, expected.to_string(), "nothing".to_owned()));
        }
        (Some(given), Some(expected)) => takes(given, expected, &path)?,
    }
    let error = |function: &Function| match &function.result {
        Some(Type::Result { err: Some(err), .. }) => Some((**err).clone()),
        _ => None,
    };
    match (error(offered), error(wanted)) {
        // Text takes any failure by its message.
        (_, None | Some(Type::String)) | (None, _) => Ok(()),
        (Some(given), Some(expected)) => {
            takes(&given, &expected, &format!("the error of {}", wanted.name))
        }
    }
}

/// Whether every JSON of `output` is one of `parameter`.
fn takes(output: &Type, parameter: &Type, path: &str) -> Result<(), Misfit> {
    let wrong = || Err(misfit(path, parameter.to_string(), output.to_string()));
    match (output, parameter) {
        // An option in an option is written with a word around it.
        (Type::Option(output), Type::Option(parameter))
            if is_option(output) == is_option(parameter) =>
        {
            takes(output, parameter, path)
        }
        (_, Type::Option(parameter)) if !is_option(output) && !is_option(parameter) => {
            takes(output, parameter, path)
        }
        (Type::List(one), Type::List(other)) if output.is_bytes() == parameter.is_bytes() => {
            takes(one, other, &format!("{path}[]"))
        }
        (Type::Tuple(ones), Type::Tuple(others)) if ones.len() == others.len() => ones
            .iter()
            .zip(others)
            .enumerate()
            .try_for_each(|(index, (one, other))| takes(one, other, &format!("{path}[{index}]"))),
        (
            Type::Result { ok, err },
            Type::Result {
                ok: other_ok,
                err: other_err,
            },
        ) => {
            let payload =
                |one: &Option<Box<Type>>, other: &Option<Box<Type>>, name: &str| match (one, other)
                {
                    (None, None) => Ok(()),
                    (Some(one), Some(other)) => takes(one, other, &format!("{path}.{name}")),
                    _ => wrong(),
                };
            payload(ok, other_ok, "ok")?;
            payload(err, other_err, "err")
        }
        (Type::Record(one), Type::Record(other)) => {
            let of = |fields: &[(String, Type)], name: &str| {
                fields
                    .iter()
                    .find(|(field, _)| field == name)
                    .map(|(_, field)| field.clone())
            };
            for (name, field) in &other.parts {
                let path = format!("{path}.{name}");
                match of(&one.parts, name) {
                    Some(given) => takes(&given, field, &path)?,
                    None if matches!(field, Type::Option(_)) => {}
                    None => return Err(misfit(&path, field.to_string(), "nothing".to_owned())),
                }
            }
            let foreign = one
                .parts
                .iter()
                .find(|(name, _)| of(&other.parts, name).is_none());
            match foreign {
                Some((name, field)) => {
                    let path = format!("{path}.{name}");
                    Err(misfit(
                        &path,
                        "no such member".to_owned(),
                        field.to_string(),
                    ))
                }
                None => Ok(()),
            }
        }
        (Type::Variant(one), Type::Variant(other)) => {
            for (name, payload) in &one.parts {
                let case = other.parts.iter().find(|(case, _)| case == name);
                match (payload, case) {
                    (Some(given), Some((_, Some(wanted)))) => {
                        takes(given, wanted, &format!("{path}.{name}"))?;
                    }
                    (None, Some((_, None))) => {}
                    _ => return wrong(),
                }
            }
            Ok(())
        }
        (Type::Enum(one), Type::Enum(other)) | (Type::Flags(one), Type::Flags(other)) => {
            match one.parts.iter().all(|name| other.parts.contains(name)) {
                true => Ok(()),
                false => wrong(),
            }
        }
        (one, other) if one == other => Ok(()),
        _ => wrong(),
    }
}

fn is_option(of: &Type) -> bool {
    matches!(of, Type::Option(_))
}

fn misfit(path: &str, expected: String, actual: String) -> Misfit {
    Misfit {
        path: path.to_owned(),
        expected,
        actual,
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;

    #[track_caller]
    fn check(output: Type, parameter: Type, expected: &str) {
        let found = match fits(Some(&output), &parameter) {
            Ok(fit) => format!("{fit:?}"),
            Err(misfit) => misfit.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn types_fit_by_structure_whatever_they_are_called() {
        let point = |name: &str| record(name, &[("x", Type::U8), ("y", Type::F32)]);
        check(point("point"), point("place"), "Same");
        let turned = record("turned", &[("y", Type::F32), ("x", Type::U8)]);
        check(turned, point("point"), "Same");
        check(Type::U8, Type::U16, "expected u16, found u8");
        check(cases("a", &["x"]), cases("b", &["y", "x"]), "Same");
        check(
            cases("b", &["y", "x"]),
            cases("a", &["x"]),
            "expected a, found b",
        );
        check(flags("a", &["x"]), flags("b", &["y", "x"]), "Same");
        check(
            flags("b", &["y", "x"]),
            flags("a", &["x"]),
            "expected a, found b",
        );
        check(
            cases("a", &["x"]),
            flags("a", &["x"]),
            "expected a, found a",
        );
    }

    #[test]
    fn an_option_takes_what_it_may_hold() {
        check(Type::U8, option(Type::U8), "Same");
        check(option(Type::U8), option(Type::U8), "Same");
        check(option(Type::U8), Type::U8, "expected u8, found option<u8>");
        check(option(option(Type::U8)), option(option(Type::U8)), "Same");
        check(
            option(Type::U8),
            option(option(Type::U8)),
            "expected option<option<u8>>, found option<u8>",
        );
        check(
            Type::U8,
            option(option(Type::U8)),
            "expected option<option<u8>>, found u8",
        );
        let less = record("less", &[("id", Type::String)]);
        let more = record("more", &[("id", Type::String), ("note", option(Type::U8))]);
        check(less.clone(), more.clone(), "Same");
        check(
            more,
            less,
            "expected no such member, found option<u8> at $.note",
        );
        let fit = |parameter: &Type| fits(None, parameter).map_err(|misfit| misfit.to_string());
        assert_eq!(fit(&option(Type::U8)), Ok(Fit::Same));
        assert_eq!(fit(&Type::U8), Err("expected u8, found nothing".to_owned()));
    }

    #[test]
    fn a_list_for_a_parameter_of_its_elements_is_a_map() {
        check(list(order()), order(), "Each");
        check(list(order()), list(order()), "Same");
        check(list(list(Type::Bool)), list(Type::Bool), "Each");
        check(list(Type::U8), Type::U8, "expected u8, found list<u8>");
        check(
            list(order()),
            Type::Bool,
            "expected bool, found list<order>",
        );
        check(
            list(Type::U8),
            list(Type::Bool),
            "expected list<bool>, found list<u8>",
        );
        check(list(list(Type::U8)), list(Type::U8), "Each");
    }

    #[test]
    fn a_misfit_names_where_it_is() {
        let with = |price: Type| {
            let line = record("line", &[("price", price)]);
            record("order", &[("lines", list(line))])
        };
        check(
            with(Type::String),
            with(Type::U32),
            "expected u32, found string at $.lines[].price",
        );
        check(
            record("a", &[]),
            record("b", &[("id", Type::U8)]),
            "expected u8, found nothing at $.id",
        );
        check(
            Type::Tuple(vec![Type::Bool, Type::U8]),
            Type::Tuple(vec![Type::Bool, Type::S8]),
            "expected s8, found u8 at $[1]",
        );
        check(
            Type::Tuple(vec![Type::Bool]),
            Type::Tuple(vec![Type::Bool, Type::S8]),
            "expected tuple<bool, s8>, found tuple<bool>",
        );
        check(
            variant("a", &[("x", Some(Type::U8))]),
            variant("b", &[("x", Some(Type::S8)), ("y", None)]),
            "expected s8, found u8 at $.x",
        );
        check(
            variant("a", &[("z", None)]),
            variant("b", &[("y", None)]),
            "expected b, found a",
        );
        check(
            variant("a", &[("y", None)]),
            variant("b", &[("y", Some(Type::U8))]),
            "expected b, found a",
        );
        let results = (
            result(Some(Type::U8), Some(Type::U8)),
            result(Some(Type::U8), Some(Type::S8)),
        );
        check(results.0, results.1, "expected s8, found u8 at $.err");
        check(
            result(None, None),
            result(Some(Type::U8), None),
            "expected result<u8>, found result",
        );
    }

    #[test]
    fn a_function_answers_calls_that_give_what_it_takes() {
        let check = |offered: &Function, wanted: &Function, expected: &str| {
            let found = answers(offered, wanted)
                .err()
                .map(|wrong| wrong.to_string());
            assert_eq!(found.unwrap_or_default(), expected);
        };
        let plain = |param: Type, result: Option<Type>| function(&[("a", param)], result);
        let wanted = plain(Type::U8, Some(result(Some(Type::Bool), Some(Type::String))));
        check(&wanted, &wanted, "");
        check(&plain(option(Type::U8), Some(Type::Bool)), &wanted, "");
        check(
            &plain(Type::S8, Some(Type::Bool)),
            &wanted,
            "expected s8, found u8 at a of f",
        );
        check(
            &plain(Type::U8, Some(Type::Char)),
            &wanted,
            "expected bool, found char at the result of f",
        );
        check(
            &plain(Type::U8, None),
            &wanted,
            "expected bool, found nothing at the result of f",
        );
        check(&wanted, &plain(Type::U8, None), "");
        check(
            &function(&[], None),
            &wanted,
            "expected no such parameter, found u8 at a of f",
        );
        let more = [("a", Type::U8), ("b", option(Type::U8))];
        check(&function(&more, Some(Type::Bool)), &wanted, "");
        let more = [("a", Type::U8), ("b", Type::U8)];
        check(
            &function(&more, Some(Type::Bool)),
            &wanted,
            "expected u8, found nothing at b of f",
        );
        let failing = |err: Type| plain(Type::U8, Some(result(Some(Type::Bool), Some(err))));
        check(&failing(Type::U8), &wanted, "");
        check(
            &wanted,
            &failing(Type::U8),
            "expected u8, found string at the error of f",
        );
    }
}
