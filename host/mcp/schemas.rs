//! The JSON Schema of what a tool gives: that of the shapes of `wire`, which the HTTP API is described by as
//! well, as a document of its own.

use rmcp::model::JsonObject;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// Where the description of an API has its shapes, and where a schema has them.
const PLACES: [(&str, &str); 1] = [("#/components/schemas/", "#/$defs/")];

/// The schema of a shape, with all that it refers to.
pub fn output_schema<T: ToSchema>() -> JsonObject {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    let parts = parts.into_iter().map(|(name, part)| (name, value(&part)));
    let parts: Map<String, Value> = parts.collect();
    let mut schema = match value(&T::schema()) {
        Value::Object(schema) => schema,
        _ => Map::new(),
    };
    // The protocol wants it said at the top.
    schema.insert("type".to_owned(), json!("object"));
    schema.remove("description");
    if !parts.is_empty() {
        schema.insert("$defs".to_owned(), Value::Object(parts));
    }
    schema
}

fn value(part: &impl serde::Serialize) -> Value {
    let mut text = serde_json::to_string(part).unwrap_or_default();
    for (from, to) in PLACES {
        text = text.replace(from, to);
    }
    serde_json::from_str(&text).unwrap_or_default()
}
