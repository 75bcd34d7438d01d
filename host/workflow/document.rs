//! A JSON or TOML document as one tree in which everything knows where it stands.
//!
//! `workflow::file` reads workflows from it. It goes down only where it is asked: a payload of a
//! JSON document stays the text that it is.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 8259.
    Json,
    /// TOML 1.
    Toml,
}

impl Format {
    /// What a file of that name holds: TOML or JSON by its ending, else by how `text` begins.
    pub fn of(name: &str, text: &str) -> Format {
        let name = name.to_ascii_lowercase();
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("toml") => Format::Toml,
            Some("json") => Format::Json,
            _ if text.trim_start().starts_with('{') => Format::Json,
            _ => Format::Toml,
        }
    }
}

/// A document that could be read.
pub enum Document<'a> {
    /// A JSON document and its text.
    Json(&'a str, &'a RawValue),
    /// A TOML document.
    Toml(Spanned<DeValue<'a>>),
}

/// A place in the text, in bytes, and what is wrong there.
pub type Fault = (usize, String);

impl<'a> Document<'a> {
    /// Read a document, or tell where it is not one.
    pub fn read(text: &'a str, format: Format) -> Result<Document<'a>, Vec<Fault>> {
        match format {
            Format::Json => match serde_json::from_str(text) {
                Ok(raw) => Ok(Document::Json(text, raw)),
                Err(error) => Err(vec![json_fault(text, &error)]),
            },
            Format::Toml => {
                let (table, errors) = DeTable::parse_recoverable(text);
                if errors.is_empty() {
                    let span = table.span();
                    let root = DeValue::Table(table.into_inner());
                    return Ok(Document::Toml(Spanned::new(span, root)));
                }
                let fault = |error: &toml::de::Error| {
                    let at = error.span().map_or(0, |span| span.start.min(text.len()));
                    let what = error.message().lines().next().unwrap_or_default();
                    (at, format!("this is not TOML: {what}"))
                };
                Err(errors.iter().map(fault).collect())
            }
        }
    }

    /// The whole of it.
    pub fn root(&'a self) -> Node<'a> {
        match self {
            Document::Json(text, raw) => Node::Json(text, raw),
            Document::Toml(value) => Node::Toml(value),
        }
    }
}

/// Some part of a document.
#[derive(Clone, Copy)]
pub enum Node<'a> {
    /// Of a JSON document with this text.
    Json(&'a str, &'a RawValue),
    /// Of a TOML document.
    Toml(&'a Spanned<DeValue<'a>>),
}

/// What a part is, one level down.
pub enum Shape<'a> {
    /// JSON's null.
    Null,
    /// True or false.
    Flag(bool),
    /// A number, as JSON writes it.
    Number(String),
    /// A text.
    Text(String),
    /// Several parts.
    List(Vec<Node<'a>>),
    /// Several parts with names.
    Table(Vec<Field<'a>>),
}

/// A part with its name.
pub struct Field<'a> {
    /// The name, as it is written.
    pub name: String,
    /// Where the name stands, in bytes.
    pub at: usize,
    /// The part.
    pub node: Node<'a>,
}

impl<'a> Node<'a> {
    /// Where it stands, in bytes.
    pub fn at(self) -> usize {
        match self {
            Node::Json(text, raw) => offset(text, raw),
            Node::Toml(value) => value.span().start,
        }
    }

    /// What it is.
    pub fn shape(self) -> Shape<'a> {
        match self {
            Node::Json(text, raw) => json_shape(text, raw),
            Node::Toml(value) => match value.get_ref() {
                DeValue::String(text) => Shape::Text(text.to_string()),
                DeValue::Boolean(flag) => Shape::Flag(*flag),
                DeValue::Datetime(time) => Shape::Text(time.to_string()),
                DeValue::Integer(_) | DeValue::Float(_) => {
                    Shape::Number(self.json().unwrap_or_default())
                }
                DeValue::Array(items) => Shape::List(items.iter().map(Node::Toml).collect()),
                DeValue::Table(table) => Shape::Table(toml_fields(table)),
            },
        }
    }

    /// It as a JSON document. TOML's times become text; what JSON cannot say has no such form.
    pub fn json(self) -> Result<String, String> {
        match self {
            Node::Json(_, raw) => Ok(raw.get().to_owned()),
            Node::Toml(value) => toml_value(value.get_ref()).map(|value| value.to_string()),
        }
    }
}

impl Shape<'_> {
    /// What people call such a part.
    pub fn noun(&self) -> &'static str {
        match self {
            Shape::Null => "null",
            Shape::Flag(_) => "true or false",
            Shape::Number(_) => "a number",
            Shape::Text(_) => "text",
            Shape::List(_) => "a list",
            Shape::Table(_) => "an object with fields",
        }
    }
}

/// Where a part of a text stands within it: the part is a piece of the text itself.
fn offset(text: &str, part: &RawValue) -> usize {
    (part.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

fn json_shape<'a>(text: &'a str, raw: &'a RawValue) -> Shape<'a> {
    let body = raw.get();
    // The whole document was read before, so that no part of it can be malformed but for what is
    // looked at only when a text is needed: half of a surrogate pair.
    match body.as_bytes().first() {
        Some(b'{') => {
            let pairs =
                serde_json::from_str::<Pairs<'a>>(body).map_or_else(|_| Vec::new(), |all| all.0);
            let field = |(name, value): (&'a RawValue, &'a RawValue)| Field {
                name: json_text(name.get()).into_owned(),
                at: offset(text, name),
                node: Node::Json(text, value),
            };
            Shape::Table(pairs.into_iter().map(field).collect())
        }
        Some(b'[') => {
            let items = serde_json::from_str::<Vec<&'a RawValue>>(body).unwrap_or_default();
            Shape::List(
                items
                    .into_iter()
                    .map(|item| Node::Json(text, item))
                    .collect(),
            )
        }
        Some(b'"') => Shape::Text(json_text(body).into_owned()),
        Some(b't') => Shape::Flag(true),
        Some(b'f') => Shape::Flag(false),
        Some(b'n') | None => Shape::Null,
        Some(_) => Shape::Number(body.to_owned()),
    }
}

/// The text that a JSON string stands for; the string itself where it stands for none.
fn json_text(body: &str) -> Cow<'_, str> {
    serde_json::from_str::<String>(body).map_or(Cow::Borrowed(body), Cow::Owned)
}

/// The fields of a JSON object in their order, those that are there twice among them.
struct Pairs<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Pairs<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(All)
    }
}

fn json_fault(text: &str, error: &serde_json::Error) -> Fault {
    let start = match error.line() {
        0 | 1 => 0,
        line => (text.match_indices('\n').nth(line - 2)).map_or(text.len(), |(at, _)| at + 1),
    };
    let at = (start + error.column().saturating_sub(1)).min(text.len());
    let at = (0..=at).rev().find(|at| text.is_char_boundary(*at));
    let what = error.to_string();
    // It is said where it is in front of the sentence.
    let what = what.split(" at line ").next().unwrap_or_default();
    (at.unwrap_or_default(), format!("this is not JSON: {what}"))
}

fn toml_fields<'a>(table: &'a DeTable<'a>) -> Vec<Field<'a>> {
    let field = |(name, value): (&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)| Field {
        name: name.get_ref().to_string(),
        at: name.span().start,
        node: Node::Toml(value),
    };
    let mut fields: Vec<Field<'a>> = table.iter().map(field).collect();
    // The map has them by name.
    fields.sort_by_key(|field| field.at);
    fields
}

fn toml_value(value: &DeValue<'_>) -> Result<serde_json::Value, String> {
    Ok(match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Integer(integer) => {
            let (text, radix) = (integer.as_str(), integer.radix());
            match i64::from_str_radix(text, radix) {
                Ok(number) => number.into(),
                Err(_) => return Err(format!("{text} is larger than a number of TOML may be")),
            }
        }
        DeValue::Float(float) => {
            let text = float.as_str();
            let number = text.parse().ok().and_then(serde_json::Number::from_f64);
            number.ok_or_else(|| format!("JSON has no {text}"))?.into()
        }
        DeValue::Array(items) => {
            let items = items.iter().map(|item| toml_value(item.get_ref()));
            serde_json::Value::Array(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => {
            let fields = (table.iter()).map(|(name, value)| {
                Ok::<_, String>((name.get_ref().to_string(), toml_value(value.get_ref())?))
            });
            serde_json::Value::Object(fields.collect::<Result<_, _>>()?)
        }
    })
}
