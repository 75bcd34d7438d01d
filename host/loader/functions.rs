//! The plain functions of a component: those that it exports, and those of other handlers that it
//! imports.
//!
//! Found by the engine's own reflection, so that whatever language made the component does not
//! matter. What no JSON stands for is left out, and why is said.

use std::sync::Arc;

use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem};
use wasmtime::component::{Component, Type as EngineType};

use crate::types::{Function, Named, TYPE_DEPTH_MAX, TYPE_PARTS_MAX, Type};

/// Most functions that one component may offer as tasks.
const FUNCTIONS_MAX: usize = 500;

/// Most names of types that are looked for when a type is shown; other types are shown without one. Each part of
/// each function is compared with all of them.
const NAMES_MAX: usize = 2_000;

/// A function that tasks may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// What stands behind the component's name in the type of its tasks: the function's name alone
    /// where only one of the component bears it, else with its interface.
    pub name: String,
    /// The interface that it is exported in; none at the top level of the component.
    pub interface: Option<String>,
    /// The function.
    pub function: Function,
}

/// An interface of another handler that a component imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub interface: String,
    /// Its functions.
    pub functions: Vec<Arc<Function>>,
}

/// Functions that a component exports, and why others are no tasks.
pub struct Offer {
    /// Those that tasks may run, in the order of the component.
    pub functions: Vec<Arc<Exported>>,
    /// A sentence for each of the others.
    pub left_out: Vec<String>,
}

/// The functions that a component exports, at its top level or in interfaces that are neither of
/// WASI nor of ours.
pub fn offered(component: &Component) -> Result<Offer, String> {
    let engine = component.engine();
    let shape = component.component_type();
    let all_names = names(component);
    let mut found = Vec::new();
    let mut left_out = Vec::new();
    let mut add = |interface: Option<&str>, name: &str, item: &ComponentItem, names: &Names| {
        if let ComponentItem::ComponentFunc(function) = item
            && found.len() <= FUNCTIONS_MAX
            && !starts_python(interface, name, function)
        {
            match mirror(name, function, names) {
                Ok(function) => found.push((interface.map(str::to_owned), function)),
                Err(why) => {
                    let of = interface
                        .map(|name| format!(" of {name}"))
                        .unwrap_or_default();
                    left_out.push(format!("{name}{of} is no task: {why}"));
                }
            }
        }
    };
    for (name, item) in shape.exports(engine) {
        match &item.ty {
            ComponentItem::ComponentInstance(instance) if !is_ours(name) => {
                let mut names = names_of(instance, engine);
                names.extend(all_names.iter().cloned());
                for (function, item) in instance.exports(engine) {
                    add(Some(name), function, &item.ty, &names);
                }
            }
            item => add(None, name, item, &all_names),
        }
    }
    if found.len() > FUNCTIONS_MAX {
        return Err(format!(
            "it exports more than {FUNCTIONS_MAX} functions that could be tasks"
        ));
    }
    let functions = found.iter().map(|(interface, function)| {
        Arc::new(Exported {
            name: name_among(interface.as_deref(), &function.name, &found),
            interface: interface.clone(),
            function: function.clone(),
        })
    });
    Ok(Offer {
        functions: functions.collect(),
        left_out,
    })
}

/// Whether a function is what componentize-py starts the interpreter with, while it builds the component.
fn starts_python(interface: Option<&str>, name: &str, function: &ComponentFunc) -> bool {
    let params = function.params().map(|(name, _)| name);
    interface == Some("exports")
        && name == "init"
        && params.eq(["app-name", "symbols", "stub-wasi"])
}

/// The interfaces of other handlers that a component imports. Types alone are no calls.
pub fn wanted(component: &Component) -> Result<Vec<Wanted>, String> {
    let engine = component.engine();
    let shape = component.component_type();
    let all_names = names(component);
    let mut wanted = Vec::new();
    for (interface, item) in shape.imports(engine) {
        let ComponentItem::ComponentInstance(instance) = &item.ty else {
            continue;
        };
        if is_ours(interface) {
            continue;
        }
        let mut functions = Vec::new();
        for (name, item) in instance.exports(engine) {
            let function = match &item.ty {
                ComponentItem::ComponentFunc(function) => mirror(name, function, &all_names),
                ComponentItem::Resource(_) => Err("it is a resource".to_owned()),
                _ => continue,
            };
            let refused = |why| format!("{name} of {interface} cannot be another handler's: {why}");
            functions.push(Arc::new(function.map_err(refused)?));
        }
        if !functions.is_empty() {
            wanted.push(Wanted {
                interface: interface.to_owned(),
                functions,
            });
        }
    }
    Ok(wanted)
}

/// Whether the host itself is on the other side of an interface.
fn is_ours(interface: &str) -> bool {
    interface.starts_with("wasi:") || interface.starts_with("fishway:")
}

/// The shortest name that no other function has.
fn name_among(interface: Option<&str>, name: &str, all: &[(Option<String>, Function)]) -> String {
    let Some(interface) = interface else {
        // At the top level names are different, and they come before those of interfaces.
        return name.to_owned();
    };
    let same = |one: &&(Option<String>, Function)| one.1.name == name;
    if all.iter().filter(same).count() == 1 {
        return name.to_owned();
    }
    let short = short(interface);
    let alike =
        |one: &&(Option<String>, Function)| one.0.as_deref().map(self::short) == Some(short);
    match all.iter().filter(same).filter(alike).count() {
        1 => format!("{short}.{name}"),
        _ => format!("{interface}.{name}"),
    }
}

/// `pricing` of `shop:orders/pricing@0.1.0`.
fn short(interface: &str) -> &str {
    let (name, _version) = interface.split_once('@').unwrap_or((interface, ""));
    name.rsplit_once('/').map_or(name, |(_, name)| name)
}

/// Types and the names that they are declared by.
type Names = Vec<(EngineType, String)>;

/// All that a component declares, wherever.
fn names(component: &Component) -> Names {
    let engine = component.engine();
    let shape = component.component_type();
    let mut names = Names::new();
    let items = shape.exports(engine).chain(shape.imports(engine));
    for (name, item) in items {
        match &item.ty {
            ComponentItem::ComponentInstance(instance) if !is_ours(name) => {
                names.extend(names_of(instance, engine));
            }
            ComponentItem::Type(of) => names.push((of.clone(), name.to_owned())),
            _ => {}
        }
        if names.len() > NAMES_MAX {
            break;
        }
    }
    names.truncate(NAMES_MAX);
    names
}

fn names_of(instance: &ComponentInstance, engine: &wasmtime::Engine) -> Names {
    let named = |(name, item): (&str, wasmtime::component::types::ComponentExtern)| match item.ty {
        ComponentItem::Type(of) => Some((of, name.to_owned())),
        _ => None,
    };
    let names = instance.exports(engine).filter_map(named);
    names.take(NAMES_MAX).collect()
}

fn mirror(
    name: &str,
    function: &wasmtime::component::types::ComponentFunc,
    names: &Names,
) -> Result<Function, String> {
    if function.async_() {
        return Err("it is an async function".to_owned());
    }
    let mut mirror = Mirror { names, parts: 0 };
    let params = function
        .params()
        .map(|(name, of)| Ok((name.to_owned(), mirror.of(&of, 1)?)));
    let params = params.collect::<Result<_, String>>()?;
    let result = function.results().next();
    Ok(Function {
        name: name.to_owned(),
        params,
        result: result.map(|of| mirror.of(&of, 1)).transpose()?,
    })
}

struct Mirror<'a> {
    names: &'a Names,
    parts: usize,
}

impl Mirror<'_> {
    fn of(&mut self, of: &EngineType, depth: usize) -> Result<Type, String> {
        self.parts += 1;
        if self.parts > TYPE_PARTS_MAX {
            return Err(format!("it is made of more than {TYPE_PARTS_MAX} types"));
        }
        if depth > TYPE_DEPTH_MAX {
            return Err(format!("its types are nested deeper than {TYPE_DEPTH_MAX}"));
        }
        let deeper = depth + 1;
        Ok(match of {
            EngineType::Bool => Type::Bool,
            EngineType::S8 => Type::S8,
            EngineType::U8 => Type::U8,
            EngineType::S16 => Type::S16,
            EngineType::U16 => Type::U16,
            EngineType::S32 => Type::S32,
            EngineType::U32 => Type::U32,
            EngineType::S64 => Type::S64,
            EngineType::U64 => Type::U64,
            EngineType::Float32 => Type::F32,
            EngineType::Float64 => Type::F64,
            EngineType::Char => Type::Char,
            EngineType::String => Type::String,
            EngineType::List(list) => Type::List(Box::new(self.of(&list.ty(), deeper)?)),
            EngineType::Option(option) => Type::Option(Box::new(self.of(&option.ty(), deeper)?)),
            EngineType::Tuple(tuple) => {
                let elements = tuple.types().map(|element| self.of(&element, deeper));
                Type::Tuple(elements.collect::<Result<_, _>>()?)
            }
            EngineType::Result(result) => {
                let mut payload = |of: Option<EngineType>| {
                    of.map(|of| self.of(&of, deeper).map(Box::new)).transpose()
                };
                Type::Result {
                    ok: payload(result.ok())?,
                    err: payload(result.err())?,
                }
            }
            EngineType::Record(record) => {
                let fields = record
                    .fields()
                    .map(|field| Ok((field.name.to_owned(), self.of(&field.ty, deeper)?)));
                let fields = fields.collect::<Result<_, String>>()?;
                Type::Record(self.named(of, fields))
            }
            EngineType::Variant(variant) => {
                self.spend(variant.cases().len())?;
                let cases = variant.cases().map(|case| {
                    let payload = case.ty.map(|payload| self.of(&payload, deeper));
                    Ok((case.name.to_owned(), payload.transpose()?))
                });
                let cases = cases.collect::<Result<_, String>>()?;
                Type::Variant(self.named(of, cases))
            }
            EngineType::Enum(cases) => {
                let cases: Vec<String> = cases.names().map(str::to_owned).collect();
                self.spend(cases.len())?;
                Type::Enum(self.named(of, cases))
            }
            EngineType::Flags(flags) => {
                let flags: Vec<String> = flags.names().map(str::to_owned).collect();
                self.spend(flags.len())?;
                Type::Flags(self.named(of, flags))
            }
            EngineType::Own(_) | EngineType::Borrow(_) => {
                return Err("a resource cannot be JSON".to_owned());
            }
            EngineType::Future(_) => return Err("a future cannot be JSON".to_owned()),
            EngineType::Stream(_) => return Err("a stream cannot be JSON".to_owned()),
            EngineType::ErrorContext => return Err("an error-context cannot be JSON".to_owned()),
            EngineType::Map(_) => {
                return Err("a map is not supported: use a list of tuples".to_owned());
            }
            EngineType::FixedLengthList(_) => {
                return Err("a list of fixed length is not supported: use a list".to_owned());
            }
        })
    }

    fn spend(&mut self, parts: usize) -> Result<(), String> {
        self.parts += parts;
        match self.parts > TYPE_PARTS_MAX {
            true => Err(format!("it is made of more than {TYPE_PARTS_MAX} types")),
            false => Ok(()),
        }
    }

    fn named<T>(&self, of: &EngineType, parts: Vec<T>) -> Named<T> {
        let known = self.names.iter().find(|(one, _)| one == of);
        Named {
            name: known.map(|(_, name)| name.clone()),
            parts,
        }
    }
}
