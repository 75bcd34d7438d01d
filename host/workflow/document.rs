//! A JSON or TOML document as one tree in which everything knows where it stands.
//!
//! `workflow::file` reads workflows from it. It goes down only where it is asked: a payload of a
//! JSON document stays the text that it is.

use std::borrow::Cow;

use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::escape::without_mark;
use crate::task::members::{Members, text_of};

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
            _ if without_mark(text).trim_start().starts_with('{') => Format::Json,
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
            Node::Toml(value) => {
                let mut text = String::new();
                write_json(&mut text, value.get_ref())?;
                Ok(text)
            }
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
            let pairs = Members::of(body).map_or_else(Vec::new, |all| all.0);
            let field = |(name, value): (&'a RawValue, &'a RawValue)| Field {
                name: text_of(name.get()).into_owned(),
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
        Some(b'"') => Shape::Text(text_of(body).into_owned()),
        Some(b't') => Shape::Flag(true),
        Some(b'f') => Shape::Flag(false),
        Some(b'n') | None => Shape::Null,
        Some(_) => Shape::Number(body.to_owned()),
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

/// Write a part of a TOML document as JSON: its numbers with their digits, its fields in their order.
fn write_json(out: &mut String, value: &DeValue<'_>) -> Result<(), String> {
    match value {
        DeValue::String(text) => out.push_str(&quoted(text)),
        DeValue::Boolean(flag) => out.push_str(if *flag { "true" } else { "false" }),
        DeValue::Datetime(time) => out.push_str(&quoted(&time.to_string())),
        DeValue::Integer(integer) => {
            let (text, radix) = (integer.as_str(), integer.radix());
            match i64::from_str_radix(text, radix) {
                Ok(number) => out.push_str(&number.to_string()),
                Err(_) => return Err(format!("{text} is larger than a number of TOML may be")),
            }
        }
        DeValue::Float(float) => {
            let text = float.as_str();
            let number = text.trim_start_matches('+');
            let finite = text.parse::<f64>().is_ok_and(f64::is_finite);
            if !finite || serde_json::from_str::<f64>(number).is_err() {
                return Err(format!("JSON has no {text}"));
            }
            out.push_str(number);
        }
        DeValue::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_json(out, item.get_ref())?;
            }
            out.push(']');
        }
        DeValue::Table(table) => {
            let mut fields: Vec<_> = table.iter().collect();
            fields.sort_by_key(|(name, _)| name.span().start);
            out.push('{');
            for (index, (name, value)) in fields.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                out.push_str(&quoted(name.get_ref()));
                out.push(':');
                write_json(out, value.get_ref())?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
