//! The rule: JSON to values of a type, and back.
//!
//! Exact where JSON can be: what is not of the type is refused, with the path to it. What is written
//! is read again as the same value, by this and by readers whose numbers are doubles.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::Value as Json;

use super::{Type, VALUE_PARTS_MAX};

/// Integers of 64 bits beyond this, and below its negative, are written as text: a reader whose
/// numbers are doubles would round them.
const EXACT_MAX: i128 = (1 << 53) - 1;

/// A value of a [`Type`].
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    Bool(bool),
    S8(i8),
    U8(u8),
    S16(i16),
    U16(u16),
    S32(i32),
    U32(u32),
    S64(i64),
    U64(u64),
    F32(f32),
    F64(f64),
    Char(char),
    String(String),
    /// A `list<u8>`.
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Tuple(Vec<Value>),
    Option(Option<Box<Value>>),
    Result(Result<Option<Box<Value>>, Option<Box<Value>>>),
    Record(Vec<(String, Value)>),
    Variant(String, Option<Box<Value>>),
    Enum(String),
    Flags(Vec<String>),
}

/// JSON that is not of a type: where, what the type wants, what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{path}: expected {expected}, found {found}")]
pub struct Mismatch {
    /// From the root `$`, such as `$.items[3].price`.
    pub path: String,
    /// A type, or what else would do.
    pub expected: String,
    /// The beginning of it.
    pub found: String,
}

/// The value of a type that a JSON document stands for. `path` is what the document is called.
pub fn decode(json: &Json, of: &Type, path: &str) -> Result<Value, Mismatch> {
    Reader::new(VALUE_PARTS_MAX).read(json, of, path)
}

/// Reads values until there are too many.
pub(super) struct Reader {
    parts_left: usize,
    path: String,
}

type Read<T> = Result<T, Mismatch>;

impl Reader {
    /// One for so many values in all.
    pub fn new(parts_max: usize) -> Reader {
        Reader {
            parts_left: parts_max,
            path: String::new(),
        }
    }

    /// Read a document that is called `path`.
    pub fn read(&mut self, json: &Json, of: &Type, path: &str) -> Read<Value> {
        path.clone_into(&mut self.path);
        self.value(json, of)
    }

    fn value(&mut self, json: &Json, of: &Type) -> Read<Value> {
        self.spend(1)?;
        Ok(match of {
            Type::Bool => Value::Bool(json.as_bool().ok_or_else(|| self.wrong(of, json))?),
            Type::S8 => Value::S8(self.integer(json, of)?),
            Type::U8 => Value::U8(self.integer(json, of)?),
            Type::S16 => Value::S16(self.integer(json, of)?),
            Type::U16 => Value::U16(self.integer(json, of)?),
            Type::S32 => Value::S32(self.integer(json, of)?),
            Type::U32 => Value::U32(self.integer(json, of)?),
            Type::S64 => Value::S64(self.integer(json, of)?),
            Type::U64 => Value::U64(self.integer(json, of)?),
            Type::F32 => {
                let wide = self.float(json, of)?;
                let narrow = wide as f32;
                if narrow.is_infinite() && wide.is_finite() {
                    return Err(self.wrong(of, json));
                }
                Value::F32(narrow)
            }
            Type::F64 => Value::F64(self.float(json, of)?),
            Type::Char => {
                let mut characters = json.as_str().unwrap_or_default().chars();
                match (characters.next(), characters.next()) {
                    (Some(one), None) => Value::Char(one),
                    _ => return Err(self.mismatch("char (a text of one character)", json)),
                }
            }
            Type::String => Value::String(self.text(json, of)?.to_owned()),
            Type::List(_) if of.is_bytes() => {
                let text = self.text_or(json, "list<u8> (a text in base64)")?;
                let bytes = BASE64
                    .decode(text)
                    .map_err(|_| self.mismatch("list<u8> (a text in base64)", json))?;
                self.spend(bytes.len())?;
                Value::Bytes(bytes)
            }
            Type::List(element) => {
                let items = json.as_array().ok_or_else(|| self.wrong(of, json))?;
                let read = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.at_index(index, item, element));
                Value::List(read.collect::<Read<_>>()?)
            }
            Type::Tuple(elements) => {
                let items = json.as_array().ok_or_else(|| self.wrong(of, json))?;
                if items.len() != elements.len() {
                    let expected = format!("{of} (a list of {})", elements.len());
                    return Err(self.mismatch(expected, json));
                }
                let read = items
                    .iter()
                    .zip(elements)
                    .enumerate()
                    .map(|(index, (item, element))| self.at_index(index, item, element));
                Value::Tuple(read.collect::<Read<_>>()?)
            }
            Type::Option(_) if json.is_null() => Value::Option(None),
            Type::Option(inner) if matches!(**inner, Type::Option(_)) => {
                let some = json.as_object().filter(|object| object.len() == 1);
                let some = some.and_then(|object| object.get("some"));
                let some = some.ok_or_else(|| {
                    self.mismatch(format!("{of} (null, or {{\"some\": ...}})"), json)
                })?;
                Value::Option(Some(Box::new(self.at_member("some", some, inner)?)))
            }
            Type::Option(inner) => Value::Option(Some(Box::new(self.value(json, inner)?))),
            Type::Result { ok, err } => {
                let object = json.as_object().filter(|object| object.len() == 1);
                match object.and_then(|object| object.iter().next()) {
                    Some((name, payload)) if name == "ok" => {
                        Value::Result(Ok(self.payload(name, payload, ok.as_deref())?))
                    }
                    Some((name, payload)) if name == "err" => {
                        Value::Result(Err(self.payload(name, payload, err.as_deref())?))
                    }
                    _ => {
                        let expected = format!("{of} ({{\"ok\": ...}} or {{\"err\": ...}})");
                        return Err(self.mismatch(expected, json));
                    }
                }
            }
            Type::Record(record) => {
                let object = json.as_object().ok_or_else(|| self.wrong(of, json))?;
                let fields = &record.parts;
                let foreign = object
                    .keys()
                    .find(|key| !fields.iter().any(|(name, _)| name == *key));
                if let Some(foreign) = foreign {
                    return Err(self.foreign(foreign, fields.iter().map(|(name, _)| &**name)));
                }
                let read = fields.iter().map(|(name, field)| {
                    let value = match object.get(name) {
                        Some(json) => self.at_member(name, json, field)?,
                        None => self.absent(name, field)?,
                    };
                    Ok((name.clone(), value))
                });
                Value::Record(read.collect::<Read<_>>()?)
            }
            Type::Variant(variant) => {
                let single = json.as_object().filter(|object| object.len() == 1);
                let single = single.and_then(|object| object.iter().next());
                let (name, payload) = match (json, single) {
                    (Json::String(name), _) => (name, None),
                    (_, Some((name, payload))) => (name, Some(payload)),
                    _ => return Err(self.cases(of, json)),
                };
                let case = variant.parts.iter().find(|(case, _)| case == name);
                let payload = match (case, payload) {
                    (Some((_, None)), None) => None,
                    (Some((_, Some(wanted))), Some(payload)) => {
                        Some(Box::new(self.at_member(name, payload, wanted)?))
                    }
                    _ => return Err(self.cases(of, json)),
                };
                Value::Variant(name.clone(), payload)
            }
            Type::Enum(cases) => {
                let name = json.as_str().unwrap_or_default();
                match cases.parts.iter().find(|case| *case == name) {
                    Some(case) => Value::Enum(case.clone()),
                    None => return Err(self.cases(of, json)),
                }
            }
            Type::Flags(flags) => {
                let items = json.as_array().ok_or_else(|| self.cases(of, json))?;
                let mut set = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let name = item.as_str().unwrap_or_default();
                    if !flags.parts.iter().any(|flag| flag == name) || set.contains(&name) {
                        let length = self.path.len();
                        let _ = write!(self.path, "[{index}]");
                        let wrong = self.cases(of, item);
                        self.path.truncate(length);
                        return Err(wrong);
                    }
                    set.push(name);
                }
                Value::Flags(in_order(&flags.parts, &set))
            }
        })
    }

    fn integer<N: TryFrom<i128>>(&self, json: &Json, of: &Type) -> Read<N> {
        let number = match json {
            Json::Number(number) => {
                let whole = number
                    .as_f64()
                    .filter(|number| number.fract() == 0.0 && number.abs() <= EXACT_MAX as f64);
                let signed = number.as_i64().map(i128::from);
                let unsigned = number.as_u64().map(i128::from);
                signed.or(unsigned).or(whole.map(|number| number as i128))
            }
            Json::String(text) if matches!(of, Type::S64 | Type::U64) => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                let plain = !digits.is_empty() && digits.bytes().all(|one| one.is_ascii_digit());
                plain.then(|| text.parse().ok()).flatten()
            }
            _ => None,
        };
        number
            .and_then(|number: i128| N::try_from(number).ok())
            .ok_or_else(|| self.wrong(of, json))
    }

    fn float(&self, json: &Json, of: &Type) -> Read<f64> {
        let number = match json {
            Json::Number(number) => number.as_f64(),
            Json::String(text) => match text.as_str() {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                _ => None,
            },
            _ => None,
        };
        number.ok_or_else(|| self.wrong(of, json))
    }

    fn text<'a>(&self, json: &'a Json, of: &Type) -> Read<&'a str> {
        json.as_str().ok_or_else(|| self.wrong(of, json))
    }

    fn text_or<'a>(&self, json: &'a Json, expected: &str) -> Read<&'a str> {
        json.as_str().ok_or_else(|| self.mismatch(expected, json))
    }

    fn at_index(&mut self, index: usize, json: &Json, of: &Type) -> Read<Value> {
        let length = self.path.len();
        let _ = write!(self.path, "[{index}]");
        let value = self.value(json, of)?;
        self.path.truncate(length);
        Ok(value)
    }

    fn at_member(&mut self, name: &str, json: &Json, of: &Type) -> Read<Value> {
        let length = self.path.len();
        let _ = write!(self.path, ".{name}");
        let value = self.value(json, of)?;
        self.path.truncate(length);
        Ok(value)
    }

    /// What a member is that is not there.
    fn absent(&self, name: &str, of: &Type) -> Read<Value> {
        match of {
            Type::Option(_) => Ok(Value::Option(None)),
            _ => Err(Mismatch {
                path: format!("{}.{name}", self.path),
                expected: of.to_string(),
                found: "nothing".to_owned(),
            }),
        }
    }

    fn payload(&mut self, name: &str, json: &Json, of: Option<&Type>) -> Read<Option<Box<Value>>> {
        match of {
            Some(of) => Ok(Some(Box::new(self.at_member(name, json, of)?))),
            None if json.is_null() => Ok(None),
            None => Err(Mismatch {
                path: format!("{}.{name}", self.path),
                expected: "null".to_owned(),
                found: found(json),
            }),
        }
    }

    fn spend(&mut self, parts: usize) -> Read<()> {
        match self.parts_left.checked_sub(parts) {
            Some(left) => {
                self.parts_left = left;
                Ok(())
            }
            None => Err(Mismatch {
                path: self.path.clone(),
                expected: format!("no more than {VALUE_PARTS_MAX} values in all"),
                found: "more".to_owned(),
            }),
        }
    }

    fn wrong(&self, of: &Type, json: &Json) -> Mismatch {
        self.mismatch(expected(of), json)
    }

    /// For a type of a few words: says them.
    fn cases(&self, of: &Type, json: &Json) -> Mismatch {
        let lead = match of {
            Type::Flags(_) => "some of ",
            _ => "one of ",
        };
        self.mismatch(format!("{of} ({lead}{})", of.parts().join(", ")), json)
    }

    fn mismatch(&self, expected: impl Into<String>, json: &Json) -> Mismatch {
        Mismatch {
            path: self.path.clone(),
            expected: expected.into(),
            found: found(json),
        }
    }

    fn foreign<'a>(&self, name: &str, known: impl Iterator<Item = &'a str>) -> Mismatch {
        foreign(&self.path, name, known)
    }
}

/// A member that there is none of.
pub(super) fn foreign<'a>(
    path: &str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> Mismatch {
    let known: Vec<&str> = known.collect();
    let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
    let meant = known.iter().find(|one| plain(one) == plain(name));
    Mismatch {
        path: path.to_owned(),
        expected: match (meant, known.as_slice()) {
            (Some(meant), _) => format!("the member \"{meant}\""),
            (None, []) => "no members".to_owned(),
            (None, known) => format!("no members but {}", known.join(", ")),
        },
        found: format!("the member \"{}\"", beginning(name)),
    }
}

/// A type for people who read of JSON.
fn expected(of: &Type) -> String {
    let range = match of {
        Type::S8 => "-128 to 127",
        Type::U8 => "0 to 255",
        Type::S16 => "-32768 to 32767",
        Type::U16 => "0 to 65535",
        Type::S32 => "-2147483648 to 2147483647",
        Type::U32 => "0 to 4294967295",
        Type::S64 => "-9223372036854775808 to 9223372036854775807",
        Type::U64 => "0 to 18446744073709551615",
        Type::F32 => "a number of single precision",
        other => return other.to_string(),
    };
    format!("{of} ({range})")
}

/// What is there, in a few words.
pub fn found(json: &Json) -> String {
    match json {
        Json::Null => "null".to_owned(),
        Json::Bool(flag) => flag.to_string(),
        Json::Number(number) => format!("the number {number}"),
        Json::String(text) => format!("the text \"{}\"", beginning(text)),
        Json::Array(items) => format!("a list of {}", items.len()),
        Json::Object(_) => "an object".to_owned(),
    }
}

fn beginning(text: &str) -> String {
    let mut start: String = text.chars().take(40).collect();
    if start.len() < text.len() {
        start.push_str("...");
    }
    start
}

fn in_order(declared: &[String], set: &[&str]) -> Vec<String> {
    let is_set = |name: &&String| set.contains(&name.as_str());
    declared.iter().filter(is_set).cloned().collect()
}

/// The JSON that stands for a value; the members of records in the order of their declaration.
pub fn encode(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value);
    text
}

fn write(text: &mut String, value: &Value) {
    // Writing to a text does not fail.
    let _ = match value {
        Value::Bool(flag) => write!(text, "{flag}"),
        Value::S8(number) => write!(text, "{number}"),
        Value::U8(number) => write!(text, "{number}"),
        Value::S16(number) => write!(text, "{number}"),
        Value::U16(number) => write!(text, "{number}"),
        Value::S32(number) => write!(text, "{number}"),
        Value::U32(number) => write!(text, "{number}"),
        Value::S64(number) => write_long(text, i128::from(*number)),
        Value::U64(number) => write_long(text, i128::from(*number)),
        // Its shortest digits, not those of the double that it equals.
        Value::F32(number) if number.is_finite() => write!(text, "{number:?}"),
        Value::F32(number) => write_float(text, f64::from(*number)),
        Value::F64(number) => write_float(text, *number),
        Value::Char(one) => write_text(text, one.encode_utf8(&mut [0; 4])),
        Value::String(string) => write_text(text, string),
        Value::Bytes(bytes) => write!(text, "\"{}\"", BASE64.encode(bytes)),
        Value::List(items) | Value::Tuple(items) => write_all(text, '[', ']', items, write),
        Value::Option(None) => write!(text, "null"),
        Value::Option(Some(inner)) if matches!(**inner, Value::Option(_)) => {
            write_case(text, "some", Some(inner))
        }
        Value::Option(Some(inner)) => {
            write(text, inner);
            Ok(())
        }
        Value::Result(Ok(payload)) => write_case(text, "ok", payload.as_deref()),
        Value::Result(Err(payload)) => write_case(text, "err", payload.as_deref()),
        Value::Record(fields) => write_all(text, '{', '}', fields, |text, (name, field)| {
            let _ = write_text(text, name);
            text.push(':');
            write(text, field);
        }),
        Value::Variant(name, None) | Value::Enum(name) => write_text(text, name),
        Value::Variant(name, payload) => write_case(text, name, payload.as_deref()),
        Value::Flags(names) => write_all(text, '[', ']', names, |text, name| {
            let _ = write_text(text, name);
        }),
    };
}

fn write_long(text: &mut String, number: i128) -> std::fmt::Result {
    match number.abs() <= EXACT_MAX {
        true => write!(text, "{number}"),
        false => write!(text, "\"{number}\""),
    }
}

fn write_float(text: &mut String, number: f64) -> std::fmt::Result {
    if number.is_nan() {
        text.write_str("\"NaN\"")
    } else if number.is_infinite() {
        let sign = if number < 0.0 { "-" } else { "" };
        write!(text, "\"{sign}Infinity\"")
    } else {
        write!(text, "{number:?}")
    }
}

fn write_text(text: &mut String, string: &str) -> std::fmt::Result {
    write!(text, "{}", Json::from(string))
}

fn write_case(text: &mut String, name: &str, payload: Option<&Value>) -> std::fmt::Result {
    text.push('{');
    write_text(text, name)?;
    text.push(':');
    match payload {
        Some(payload) => write(text, payload),
        None => text.push_str("null"),
    }
    text.write_char('}')
}

fn write_all<T>(
    text: &mut String,
    open: char,
    close: char,
    items: &[T],
    mut one: impl FnMut(&mut String, &T),
) -> std::fmt::Result {
    text.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        one(text, item);
    }
    text.write_char(close)
}

#[cfg(test)]
mod tests;
