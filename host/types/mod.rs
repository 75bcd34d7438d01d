//! Types of the plain functions that handlers export, and the one rule by which JSON becomes their
//! values and back.
//!
//! A mirror of what WIT has, without resources, streams and futures, which no JSON stands for. The
//! loader makes [`Function`]s of what a component exports, the executor turns values into those of
//! the engine, the client and the command line check and describe with them. `docs/types.md` is the
//! rule for people. Pure: nothing here knows the engine.

mod bind;
mod failing;
mod fits;
mod json;
mod schema;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use bind::{arguments, bind, check};
pub use failing::{error_of, failure_of};
pub use fits::{Fit, Misfit, answers, fits};
pub use json::{Mismatch, Value, decode, encode, found};
pub use schema::{input_schema, schema};

/// Deepest nesting of a type. Deeper ones would nest JSON deeper than a payload may be.
pub const TYPE_DEPTH_MAX: usize = 24;

/// Most types that one function may be made of, counted wherever they stand: a few records that hold
/// each other twice are otherwise a tree without end.
pub const TYPE_PARTS_MAX: usize = 2_000;

/// Most values that the arguments or the result of one call may be made of. Each takes some forty
/// bytes while it is handed over, whatever it takes as JSON.
pub const VALUE_PARTS_MAX: usize = 1_000_000;

/// A type of WIT. Names are for people: types of the same structure are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Type {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
    String,
    /// Of bytes: see [`Type::is_bytes`].
    List(Box<Type>),
    Tuple(Vec<Type>),
    Option(Box<Type>),
    Result {
        ok: Option<Box<Type>>,
        err: Option<Box<Type>>,
    },
    Record(Named<(String, Type)>),
    Variant(Named<(String, Option<Type>)>),
    Enum(Named<String>),
    Flags(Named<String>),
}

/// What a declared type is made of, and the name that it was declared by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named<T> {
    /// Its name, where one is known.
    pub name: Option<String>,
    /// Fields, cases or flags, in the order in which they were declared.
    pub parts: Vec<T>,
}

impl Type {
    /// Whether it is `list<u8>`: one value of bytes, never a list of many.
    pub fn is_bytes(&self) -> bool {
        matches!(self, Type::List(element) if **element == Type::U8)
    }

    /// The name that it was declared by, and its declaration in WIT.
    fn declaration(&self) -> Option<(&str, String)> {
        let (keyword, name, parts) = match self {
            Type::Record(record) => ("record", &record.name, self.parts()),
            Type::Variant(variant) => ("variant", &variant.name, self.parts()),
            Type::Enum(cases) => ("enum", &cases.name, self.parts()),
            Type::Flags(flags) => ("flags", &flags.name, self.parts()),
            _ => return None,
        };
        let name = name.as_deref()?;
        Some((name, format!("{keyword} {name} {{ {} }}", parts.join(", "))))
    }

    /// What stands between the braces of a declared type.
    fn parts(&self) -> Vec<String> {
        match self {
            Type::Record(record) => record
                .parts
                .iter()
                .map(|(name, field)| format!("{name}: {field}"))
                .collect(),
            Type::Variant(variant) => variant
                .parts
                .iter()
                .map(|(name, payload)| match payload {
                    Some(payload) => format!("{name}({payload})"),
                    None => name.clone(),
                })
                .collect(),
            Type::Enum(names) | Type::Flags(names) => names.parts.clone(),
            _ => Vec::new(),
        }
    }

    /// The types that it is made of.
    fn inner(&self) -> Vec<&Type> {
        match self {
            Type::List(inner) | Type::Option(inner) => vec![inner],
            Type::Tuple(elements) => elements.iter().collect(),
            Type::Result { ok, err } => ok.iter().chain(err).map(|one| &**one).collect(),
            Type::Record(record) => record.parts.iter().map(|(_, field)| field).collect(),
            Type::Variant(variant) => variant
                .parts
                .iter()
                .filter_map(|(_, payload)| payload.as_ref())
                .collect(),
            _ => Vec::new(),
        }
    }

    fn declare(&self, declarations: &mut Vec<String>) {
        for inner in self.inner() {
            inner.declare(declarations);
        }
        if let Some((_, text)) = self.declaration()
            && !declarations.contains(&text)
        {
            declarations.push(text);
        }
    }
}

/// As WIT writes it; a declared type by its name.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = self.declaration() {
            return f.write_str(name);
        }
        let braces = |f: &mut fmt::Formatter<'_>, keyword: &str| {
            write!(f, "{keyword} {{ {} }}", self.parts().join(", "))
        };
        let word = match self {
            Type::Bool => "bool",
            Type::S8 => "s8",
            Type::U8 => "u8",
            Type::S16 => "s16",
            Type::U16 => "u16",
            Type::S32 => "s32",
            Type::U32 => "u32",
            Type::S64 => "s64",
            Type::U64 => "u64",
            Type::F32 => "f32",
            Type::F64 => "f64",
            Type::Char => "char",
            Type::String => "string",
            Type::List(element) => return write!(f, "list<{element}>"),
            Type::Option(inner) => return write!(f, "option<{inner}>"),
            Type::Tuple(elements) => {
                let elements: Vec<String> = elements.iter().map(ToString::to_string).collect();
                return write!(f, "tuple<{}>", elements.join(", "));
            }
            Type::Result { ok, err } => {
                return match (ok, err) {
                    (None, None) => f.write_str("result"),
                    (Some(ok), None) => write!(f, "result<{ok}>"),
                    (None, Some(err)) => write!(f, "result<_, {err}>"),
                    (Some(ok), Some(err)) => write!(f, "result<{ok}, {err}>"),
                };
            }
            Type::Record(_) => return braces(f, "record"),
            Type::Variant(_) => return braces(f, "variant"),
            Type::Enum(_) => return braces(f, "enum"),
            Type::Flags(_) => return braces(f, "flags"),
        };
        f.write_str(word)
    }
}

/// A plain function of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name, within its interface where it is of one.
    pub name: String,
    /// Its parameters, in order.
    pub params: Vec<(String, Type)>,
    /// What it returns.
    pub result: Option<Type>,
}

impl Function {
    /// The type of the output of a task that runs it: what it returns when all is well. None when
    /// that is nothing, and `null` is the output.
    pub fn output(&self) -> Option<&Type> {
        match &self.result {
            Some(Type::Result { ok, .. }) => ok.as_deref(),
            other => other.as_ref(),
        }
    }

    /// The types that it names, as WIT declares them, each after those that it is made of.
    pub fn declarations(&self) -> Vec<String> {
        let mut declarations = Vec::new();
        for (_, param) in &self.params {
            param.declare(&mut declarations);
        }
        if let Some(result) = &self.result {
            result.declare(&mut declarations);
        }
        declarations
    }
}

/// As WIT writes it.
impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params: Vec<String> = self
            .params
            .iter()
            .map(|(name, param)| format!("{name}: {param}"))
            .collect();
        write!(f, "{}: func({})", self.name, params.join(", "))?;
        match &self.result {
            Some(result) => write!(f, " -> {result}"),
            None => Ok(()),
        }
    }
}

/// The component of a task type: all of it, or what stands before the function's name.
pub fn component_of(task_type: &str) -> &str {
    task_type
        .split_once('/')
        .map_or(task_type, |(component, _)| component)
}

/// Whether a task type names a function of a component.
pub fn is_function(task_type: &str) -> bool {
    task_type.contains('/')
}

#[cfg(test)]
pub(crate) mod examples {
    use super::*;

    pub fn list(element: Type) -> Type {
        Type::List(Box::new(element))
    }

    pub fn option(inner: Type) -> Type {
        Type::Option(Box::new(inner))
    }

    pub fn result(ok: Option<Type>, err: Option<Type>) -> Type {
        let (ok, err) = (ok.map(Box::new), err.map(Box::new));
        Type::Result { ok, err }
    }

    fn named<T>(name: &str, parts: Vec<T>) -> Named<T> {
        let name = (!name.is_empty()).then(|| name.to_owned());
        Named { name, parts }
    }

    /// Without a name when it is empty, as in all of these.
    pub fn record(name: &str, fields: &[(&str, Type)]) -> Type {
        let field = |(name, field): &(&str, Type)| ((*name).to_owned(), field.clone());
        Type::Record(named(name, fields.iter().map(field).collect()))
    }

    pub fn variant(name: &str, cases: &[(&str, Option<Type>)]) -> Type {
        let case = |(name, payload): &(&str, Option<Type>)| ((*name).to_owned(), payload.clone());
        Type::Variant(named(name, cases.iter().map(case).collect()))
    }

    pub fn cases(name: &str, cases: &[&str]) -> Type {
        Type::Enum(named(name, cases.iter().map(ToString::to_string).collect()))
    }

    pub fn flags(name: &str, flags: &[&str]) -> Type {
        Type::Flags(named(name, flags.iter().map(ToString::to_string).collect()))
    }

    pub fn function(params: &[(&str, Type)], result: Option<Type>) -> Function {
        Function {
            name: "f".to_owned(),
            params: params
                .iter()
                .map(|(name, param)| ((*name).to_owned(), param.clone()))
                .collect(),
            result,
        }
    }

    pub fn order() -> Type {
        let line = record("line", &[("item", Type::String), ("price", Type::U32)]);
        record(
            "order",
            &[
                ("id", Type::String),
                ("items", list(line)),
                ("note", option(Type::String)),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::examples::*;
    use super::*;

    #[test]
    fn a_function_is_written_as_wit_writes_it() {
        let process = function(
            &[("order", order()), ("marks", flags("", &["new", "gift"]))],
            Some(result(Some(Type::U64), Some(cases("why", &["no", "late"])))),
        );
        assert_eq!(
            process.to_string(),
            "f: func(order: order, marks: flags { new, gift }) -> result<u64, why>"
        );
        assert_eq!(
            process.declarations(),
            [
                "record line { item: string, price: u32 }",
                "record order { id: string, items: list<line>, note: option<string> }",
                "enum why { no, late }",
            ]
        );
        assert_eq!(process.output(), Some(&Type::U64));
        let check = |one: Type, expected: &str| assert_eq!(one.to_string(), expected);
        check(result(None, None), "result");
        check(result(Some(Type::U8), None), "result<u8>");
        check(result(None, Some(Type::U8)), "result<_, u8>");
        check(
            Type::Tuple(vec![Type::Bool, Type::Char]),
            "tuple<bool, char>",
        );
        check(
            variant("", &[("a", Some(Type::F32)), ("b", None)]),
            "variant { a(f32), b }",
        );
        assert_eq!(function(&[], None).to_string(), "f: func()");
        assert_eq!(function(&[], Some(result(None, None))).output(), None);
    }

    #[test]
    fn a_type_as_deep_as_may_be_survives_its_text() {
        let mut deep = Type::U8;
        for _ in 1..TYPE_DEPTH_MAX {
            deep = record("nest", &[("inner", deep)]);
        }
        let function = function(&[("deep", deep)], None);
        let text = serde_json::to_string(&function).unwrap();
        assert_eq!(serde_json::from_str::<Function>(&text).unwrap(), function);
    }

    #[test]
    fn a_task_type_names_a_component_and_perhaps_its_function() {
        assert_eq!((component_of("shop"), is_function("shop")), ("shop", false));
        let price = "shop/pricing.price";
        assert_eq!((component_of(price), is_function(price)), ("shop", true));
    }
}
