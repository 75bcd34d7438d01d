//! The rule as JSON Schema 2020-12, for tools that check or draw inputs.

use serde_json::{Map, Value as Json, json};

use super::{Function, Type};

/// The JSON of a type.
pub fn schema(of: &Type) -> Json {
    let integer =
        |least: i64, most: u64| json!({ "type": "integer", "minimum": least, "maximum": most });
    let long = |least: i64, most: u64, pattern: &str| json!({ "anyOf": [integer(least, most), { "type": "string", "pattern": pattern }] });
    let float = || {
        let words = ["NaN", "Infinity", "-Infinity"];
        json!({ "anyOf": [{ "type": "number" }, { "enum": words }] })
    };
    match of {
        Type::Bool => json!({ "type": "boolean" }),
        Type::S8 => integer(i64::from(i8::MIN), 127),
        Type::U8 => integer(0, u64::from(u8::MAX)),
        Type::S16 => integer(i64::from(i16::MIN), 32_767),
        Type::U16 => integer(0, u64::from(u16::MAX)),
        Type::S32 => integer(i64::from(i32::MIN), 2_147_483_647),
        Type::U32 => integer(0, u64::from(u32::MAX)),
        Type::S64 => long(i64::MIN, i64::MAX as u64, "^-?[0-9]+$"),
        Type::U64 => long(0, u64::MAX, "^[0-9]+$"),
        Type::F32 | Type::F64 => float(),
        Type::Char => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
        Type::String => json!({ "type": "string" }),
        Type::List(_) if of.is_bytes() => {
            json!({ "type": "string", "contentEncoding": "base64" })
        }
        Type::List(element) => json!({ "type": "array", "items": schema(element) }),
        Type::Tuple(elements) => json!({
            "type": "array",
            "prefixItems": elements.iter().map(schema).collect::<Vec<_>>(),
            "minItems": elements.len(),
            "maxItems": elements.len(),
        }),
        Type::Option(inner) if matches!(**inner, Type::Option(_)) => {
            json!({ "anyOf": [{ "type": "null" }, single("some", schema(inner))] })
        }
        Type::Option(inner) => json!({ "anyOf": [{ "type": "null" }, schema(inner)] }),
        Type::Result { ok, err } => {
            let payload = |of: &Option<Box<Type>>| payload(of.as_deref());
            json!({ "anyOf": [single("ok", payload(ok)), single("err", payload(err))] })
        }
        Type::Record(record) => titled(members(&record.parts), record.name.as_deref()),
        Type::Variant(variant) => {
            let case = |(name, payload): &(String, Option<Type>)| match payload {
                None => json!({ "const": name }),
                Some(payload) => single(name, schema(payload)),
            };
            let cases: Vec<Json> = variant.parts.iter().map(case).collect();
            titled(json!({ "anyOf": cases }), variant.name.as_deref())
        }
        Type::Enum(cases) => titled(json!({ "enum": cases.parts }), cases.name.as_deref()),
        Type::Flags(flags) => titled(
            json!({ "type": "array", "items": { "enum": flags.parts }, "uniqueItems": true }),
            flags.name.as_deref(),
        ),
    }
}

/// The input of a task that runs a function after no others: an object of the parameters' names. One
/// parameter may be the whole of it.
pub fn input_schema(function: &Function) -> Json {
    let named = members(&function.params);
    match function.params.as_slice() {
        [] => json!({ "anyOf": [{ "type": "null" }, named] }),
        [(_, param)] => json!({ "anyOf": [named, schema(param)] }),
        _ => named,
    }
}

fn payload(of: Option<&Type>) -> Json {
    of.map_or_else(|| json!({ "type": "null" }), schema)
}

/// An object of exactly this member.
fn single(name: &str, of: Json) -> Json {
    let mut properties = Map::new();
    properties.insert(name.to_owned(), of);
    json!({
        "type": "object",
        "properties": properties,
        "required": [name],
        "additionalProperties": false,
    })
}

fn members(fields: &[(String, Type)]) -> Json {
    let properties: Map<String, Json> = fields
        .iter()
        .map(|(name, field)| (name.clone(), schema(field)))
        .collect();
    let required: Vec<&String> = fields
        .iter()
        .filter(|(_, field)| !matches!(field, Type::Option(_)))
        .map(|(name, _)| name)
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn titled(mut schema: Json, name: Option<&str>) -> Json {
    if let Some(name) = name {
        schema["title"] = name.into();
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;

    #[track_caller]
    fn check(of: Type, expected: Json) {
        assert_eq!(schema(&of), expected, "{of}");
    }

    #[test]
    fn every_row_of_the_rule_has_its_schema() {
        let u8s = json!({ "type": "integer", "minimum": 0, "maximum": 255 });
        check(Type::Bool, json!({ "type": "boolean" }));
        check(Type::U8, u8s.clone());
        check(
            Type::S8,
            json!({ "type": "integer", "minimum": -128, "maximum": 127 }),
        );
        let bounds = |of: Type| {
            let schema = schema(&of);
            let schema = schema.get("anyOf").map_or(&schema, |any| &any[0]).clone();
            (schema["minimum"].clone(), schema["maximum"].clone())
        };
        assert_eq!(bounds(Type::S16), (json!(i16::MIN), json!(i16::MAX)));
        assert_eq!(bounds(Type::U16), (json!(0), json!(u16::MAX)));
        assert_eq!(bounds(Type::S32), (json!(i32::MIN), json!(i32::MAX)));
        assert_eq!(bounds(Type::U32), (json!(0), json!(u32::MAX)));
        assert_eq!(bounds(Type::S64), (json!(i64::MIN), json!(i64::MAX)));
        assert_eq!(bounds(Type::U64), (json!(0), json!(u64::MAX)));
        assert_eq!(schema(&Type::U64)["anyOf"][1]["pattern"], "^[0-9]+$");
        assert_eq!(schema(&Type::S64)["anyOf"][1]["pattern"], "^-?[0-9]+$");
        let words = json!(["NaN", "Infinity", "-Infinity"]);
        check(
            Type::F32,
            json!({ "anyOf": [{ "type": "number" }, { "enum": words }] }),
        );
        check(
            Type::Char,
            json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
        );
        check(Type::String, json!({ "type": "string" }));
        check(
            list(Type::U8),
            json!({ "type": "string", "contentEncoding": "base64" }),
        );
        check(
            list(Type::Bool),
            json!({ "type": "array", "items": { "type": "boolean" } }),
        );
        check(
            Type::Tuple(vec![Type::U8, Type::Bool]),
            json!({ "type": "array", "prefixItems": [u8s, { "type": "boolean" }], "minItems": 2, "maxItems": 2 }),
        );
        let nothing = json!({ "type": "null" });
        check(
            option(Type::U8),
            json!({ "anyOf": [{ "type": "null" }, u8s] }),
        );
        let single = |name: &str, of: &Json| json!({ "type": "object", "properties": { name: of }, "required": [name], "additionalProperties": false });
        let inner = json!({ "anyOf": [{ "type": "null" }, u8s] });
        check(
            option(option(Type::U8)),
            json!({ "anyOf": [nothing, single("some", &inner)] }),
        );
        check(
            result(Some(Type::U8), None),
            json!({ "anyOf": [single("ok", &u8s), single("err", &nothing)] }),
        );
        check(
            variant("either", &[("a", Some(Type::U8)), ("b", None)]),
            json!({ "title": "either", "anyOf": [single("a", &u8s), { "const": "b" }] }),
        );
        check(
            cases("hue", &["red", "green"]),
            json!({ "title": "hue", "enum": ["red", "green"] }),
        );
        check(
            flags("", &["a", "b"]),
            json!({ "type": "array", "items": { "enum": ["a", "b"] }, "uniqueItems": true }),
        );
    }

    #[test]
    fn what_is_an_option_is_not_required() {
        let noted = [("id", Type::Bool), ("note", option(Type::Bool))];
        let expected = json!({
            "type": "object",
            "properties": {
                "id": { "type": "boolean" },
                "note": { "anyOf": [{ "type": "null" }, { "type": "boolean" }] },
            },
            "required": ["id"],
            "additionalProperties": false,
        });
        assert_eq!(input_schema(&function(&noted, None)), expected);
        let one = input_schema(&function(&noted[..1], None));
        assert_eq!(one["anyOf"][0]["required"], json!(["id"]));
        assert_eq!(one["anyOf"][1], json!({ "type": "boolean" }));
        let none = input_schema(&function(&[], None));
        assert_eq!(none["anyOf"][0], json!({ "type": "null" }));
        let mut titled = expected;
        titled["title"] = "noted".into();
        check(record("noted", &noted), titled);
    }
}
