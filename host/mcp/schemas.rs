//! The JSON Schema of what a tool takes, in the few words that every client's model understands.
//!
//! Clients hand these schemas to models of several vendors. Some of those refuse a whole list of tools for one
//! keyword that they do not know: a list of types, an `items` that is `true`, a property without a type, a
//! numeric format. So what schemars derives is cut down to one type per value and to [`KEYWORDS`].

use rmcp::model::JsonObject;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// What a schema may say of a value, besides the keywords that [`plain`] folds into these.
const KEYWORDS: [&str; 9] = [
    "type",
    "description",
    "properties",
    "required",
    "items",
    "enum",
    "minimum",
    "maximum",
    "maxItems",
];

/// The schema of a tool's arguments.
pub fn input_schema<T: JsonSchema>() -> JsonObject {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = match plain(schema.into()) {
        Value::Object(schema) => schema,
        _ => Map::new(),
    };
    // A client shows the description of the tool, not that of its arguments.
    schema.remove("description");
    schema.entry("properties").or_insert_with(|| json!({}));
    schema
}

/// Any JSON object: the most that a schema of one type can say of "any JSON". Fields of this kind take every
/// JSON value all the same, for clients that do not check their arguments.
pub fn object(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "object" })
}

/// Many of [`object`].
pub fn objects(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "array", "items": { "type": "object" } })
}

/// The same schema with one type for each value, and without what only some clients know.
fn plain(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else {
        return schema;
    };
    for choice in ["anyOf", "oneOf"] {
        if let Some(Value::Array(variants)) = schema.remove(choice) {
            choose(&mut schema, variants);
        }
    }
    if let Some(Value::Array(types)) = schema.get("type") {
        let one = types.iter().find(|one| **one != "null").cloned();
        schema.insert("type".to_owned(), one.unwrap_or_else(|| json!("string")));
    }
    schema.retain(|keyword, _| KEYWORDS.contains(&keyword.as_str()));
    if let Some(Value::String(text)) = schema.get_mut("description") {
        // A line of a comment is no line of a sentence.
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for property in properties.values_mut() {
            *property = plain(property.take());
        }
    }
    if let Some(items) = schema.get_mut("items") {
        *items = plain(items.take());
    }
    Value::Object(schema)
}

/// Fold alternatives into the schema that they belong to: "that or null" becomes that, words become an enum.
fn choose(schema: &mut Map<String, Value>, variants: Vec<Value>) {
    let mut words = Vec::new();
    for variant in variants.into_iter().map(|variant| match variant {
        Value::Object(variant) => variant,
        _ => Map::new(),
    }) {
        if let Some(word) = variant.get("const") {
            words.push(word.clone());
        } else if variant.get("type").is_none_or(|one| one != "null") {
            for (keyword, said) in variant {
                match (keyword.as_str(), said) {
                    ("oneOf" | "anyOf", Value::Array(inner)) => choose(schema, inner),
                    (_, said) => drop(schema.entry(keyword).or_insert(said)),
                }
            }
        }
    }
    if !words.is_empty() {
        schema.insert("type".to_owned(), json!("string"));
        schema.insert("enum".to_owned(), words.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::all;

    /// Largest list of tools, in bytes: a client puts it before every conversation.
    const LIST_BYTES_MAX: usize = 28_000;

    fn check(schema: &Value, place: &str) {
        let schema = schema.as_object().unwrap_or_else(|| panic!("{place}"));
        for keyword in schema.keys() {
            assert!(KEYWORDS.contains(&keyword.as_str()), "{place}: {keyword}");
        }
        let one = schema["type"].as_str();
        let one = one.unwrap_or_else(|| panic!("{place} has no type: {schema:?}"));
        let known = ["object", "array", "string", "integer", "number", "boolean"];
        assert!(known.contains(&one), "{place}: {one}");
        for (name, property) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            assert!(property["description"].is_string(), "{place}.{name}");
            check(property, &format!("{place}.{name}"));
        }
        if one == "array" {
            check(&schema["items"], &format!("{place}[]"));
        }
    }

    #[test]
    fn every_schema_has_one_type_per_value_and_known_words_only() {
        let tools = all();
        assert!(tools.len() > 20);
        for known in tools {
            let tool = known.described();
            assert_eq!(tool.output_schema, None);
            let schema = Value::Object((*tool.input_schema).clone());
            check(&schema, known.name);
            assert_eq!(schema["type"], "object");
        }
    }

    #[test]
    fn the_list_of_tools_is_small() {
        let tools: Vec<_> = all().iter().map(|known| known.described()).collect();
        let list = serde_json::to_string(&json!({ "tools": tools })).unwrap();
        assert!(list.len() <= LIST_BYTES_MAX, "{} bytes", list.len());
    }

    #[test]
    fn alternatives_become_the_one_that_is_no_null_and_words_an_enum() {
        let plain = |schema| plain(schema);
        assert_eq!(
            plain(
                json!({ "type": ["integer", "null"], "format": "uint32", "minimum": 0, "default": 3 })
            ),
            json!({ "type": "integer", "minimum": 0 })
        );
        let words = json!({ "anyOf": [
            { "description": "inner", "oneOf": [{ "const": "a", "type": "string" }, { "const": "b", "type": "string" }] },
            { "type": "null" },
        ], "description": "two\nlines" });
        assert_eq!(
            plain(words),
            json!({ "type": "string", "enum": ["a", "b"], "description": "two lines" })
        );
    }
}
