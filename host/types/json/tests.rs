//! Every row of the rule, both ways, and every way to be wrong with its path.

use proptest::prelude::*;
use serde_json::json;

use super::super::examples::*;
use super::super::{Fit, fits};
use super::*;

/// This JSON is read as a value that is written as the same JSON.
#[track_caller]
fn both(of: Type, json: &str) {
    reads(of, json, json);
}

/// This JSON is read as a value that is written as the other.
#[track_caller]
fn reads(of: Type, json: &str, written: &str) {
    let parsed: Json = serde_json::from_str(json).unwrap();
    let value = decode(&parsed, &of, "$").unwrap_or_else(|wrong| panic!("{of}: {wrong}"));
    assert_eq!(encode(&value), written, "{of}");
}

#[track_caller]
fn refused(of: Type, json: Json, expected: &str) {
    let wrong = decode(&json, &of, "$").expect_err(&of.to_string());
    assert_eq!(wrong.to_string(), expected);
}

#[test]
fn every_row_of_the_rule_holds_both_ways() {
    both(Type::Bool, "true");
    both(Type::S8, "-128");
    both(Type::U8, "255");
    both(Type::S16, "-32768");
    both(Type::U16, "65535");
    both(Type::S32, "-2147483648");
    both(Type::U32, "4294967295");
    both(Type::S64, "-9007199254740991");
    both(Type::U64, "9007199254740991");
    both(Type::F32, "0.1");
    both(Type::F64, "-1.5e300");
    both(Type::F32, "\"NaN\"");
    both(Type::F64, "\"Infinity\"");
    both(Type::F64, "\"-Infinity\"");
    both(Type::Char, "\"ü\"");
    both(Type::String, "\"a \\\"text\\\"\\n\"");
    both(list(Type::U8), "\"AP8Q\"");
    both(list(Type::U8), "\"\"");
    both(list(Type::U16), "[1,2]");
    both(list(Type::U16), "[]");
    both(Type::Tuple(vec![Type::Bool, Type::U8]), "[false,7]");
    both(
        record("", &[("b", Type::U8), ("a-a", Type::U8)]),
        "{\"b\":1,\"a-a\":2}",
    );
    both(option(Type::U8), "null");
    both(option(Type::U8), "7");
    both(option(option(Type::U8)), "null");
    both(option(option(Type::U8)), "{\"some\":null}");
    both(option(option(Type::U8)), "{\"some\":7}");
    let either = variant("", &[("card", Some(Type::String)), ("cash", None)]);
    both(either.clone(), "{\"card\":\"4711\"}");
    both(either, "\"cash\"");
    both(cases("", &["red", "green"]), "\"green\"");
    both(flags("", &["a", "b", "c"]), "[\"a\",\"c\"]");
    both(flags("", &["a"]), "[]");
    both(result(Some(Type::U8), Some(Type::String)), "{\"ok\":1}");
    both(
        result(Some(Type::U8), Some(Type::String)),
        "{\"err\":\"no\"}",
    );
    both(result(None, None), "{\"ok\":null}");
    both(result(None, None), "{\"err\":null}");
}

#[test]
fn some_json_is_read_that_is_written_in_another_way() {
    reads(Type::U8, "7.0", "7");
    reads(Type::U64, "1e3", "1000");
    reads(Type::U64, "\"7\"", "7");
    reads(Type::S64, "\"-7\"", "-7");
    reads(
        Type::U64,
        "18446744073709551615",
        "\"18446744073709551615\"",
    );
    reads(
        Type::S64,
        "-9223372036854775808",
        "\"-9223372036854775808\"",
    );
    reads(Type::U64, "\"9007199254740992\"", "\"9007199254740992\"");
    reads(Type::F64, "7", "7.0");
    reads(Type::F32, "0.1000000001", "0.1");
    reads(flags("", &["a", "b"]), "[\"b\",\"a\"]", "[\"a\",\"b\"]");
    let noted = record("", &[("id", Type::U8), ("note", option(Type::U8))]);
    reads(noted, "{\"id\":1}", "{\"id\":1,\"note\":null}");
}

#[test]
fn what_is_not_of_the_type_is_named_with_its_path() {
    refused(Type::Bool, json!(0), "$: expected bool, found the number 0");
    refused(
        Type::U8,
        json!(256),
        "$: expected u8 (0 to 255), found the number 256",
    );
    refused(
        Type::U8,
        json!(-1),
        "$: expected u8 (0 to 255), found the number -1",
    );
    refused(
        Type::U8,
        json!(1.5),
        "$: expected u8 (0 to 255), found the number 1.5",
    );
    refused(
        Type::U8,
        json!("1"),
        "$: expected u8 (0 to 255), found the text \"1\"",
    );
    refused(
        Type::S8,
        json!(128),
        "$: expected s8 (-128 to 127), found the number 128",
    );
    refused(
        Type::S16,
        json!(32768),
        "$: expected s16 (-32768 to 32767), found the number 32768",
    );
    refused(
        Type::U16,
        json!(65536),
        "$: expected u16 (0 to 65535), found the number 65536",
    );
    refused(
        Type::S32,
        json!(2147483648u32),
        "$: expected s32 (-2147483648 to 2147483647), found the number 2147483648",
    );
    refused(
        Type::U32,
        json!(4294967296u64),
        "$: expected u32 (0 to 4294967295), found the number 4294967296",
    );
    let long = "$: expected s64 (-9223372036854775808 to 9223372036854775807), found ";
    refused(Type::S64, json!(1e300), &format!("{long}the number 1e+300"));
    refused(
        Type::S64,
        json!("9223372036854775808"),
        &format!("{long}the text \"9223372036854775808\""),
    );
    refused(Type::S64, json!("+1"), &format!("{long}the text \"+1\""));
    refused(Type::S64, json!(""), &format!("{long}the text \"\""));
    let long = "$: expected u64 (0 to 18446744073709551615), found ";
    refused(Type::U64, json!("-1"), &format!("{long}the text \"-1\""));
    // A double that may have been rounded is no integer.
    refused(
        Type::U64,
        json!(9007199254740992.0),
        &format!("{long}the number 9007199254740992.0"),
    );
    refused(
        Type::F32,
        json!(1e39),
        "$: expected f32 (a number of single precision), found the number 1e+39",
    );
    refused(
        Type::F64,
        json!("nan"),
        "$: expected f64, found the text \"nan\"",
    );
    refused(
        Type::Char,
        json!("ab"),
        "$: expected char (a text of one character), found the text \"ab\"",
    );
    refused(
        Type::Char,
        json!(""),
        "$: expected char (a text of one character), found the text \"\"",
    );
    refused(Type::String, json!(null), "$: expected string, found null");
    let bytes = "$: expected list<u8> (a text in base64), found ";
    refused(
        list(Type::U8),
        json!([1, 2]),
        &format!("{bytes}a list of 2"),
    );
    refused(
        list(Type::U8),
        json!("***"),
        &format!("{bytes}the text \"***\""),
    );
    refused(
        list(Type::U16),
        json!({}),
        "$: expected list<u16>, found an object",
    );
    refused(
        list(Type::Bool),
        json!([true, 1]),
        "$[1]: expected bool, found the number 1",
    );
    let pair = Type::Tuple(vec![Type::Bool, Type::Bool]);
    refused(
        pair.clone(),
        json!([true]),
        "$: expected tuple<bool, bool> (a list of 2), found a list of 1",
    );
    refused(
        pair.clone(),
        json!([true, 1]),
        "$[1]: expected bool, found the number 1",
    );
    refused(
        pair,
        json!(1),
        "$: expected tuple<bool, bool>, found the number 1",
    );
    refused(
        option(option(Type::U8)),
        json!(7),
        "$: expected option<option<u8>> (null, or {\"some\": ...}), found the number 7",
    );
    refused(
        option(option(Type::Bool)),
        json!({ "some": 7 }),
        "$.some: expected bool, found the number 7",
    );
    refused(
        result(None, Some(Type::U8)),
        json!({ "ok": null, "err": 1 }),
        "$: expected result<_, u8> ({\"ok\": ...} or {\"err\": ...}), found an object",
    );
    refused(
        result(None, None),
        json!({ "ok": 1 }),
        "$.ok: expected null, found the number 1",
    );
    refused(
        result(Some(Type::Bool), None),
        json!({ "ok": 1 }),
        "$.ok: expected bool, found the number 1",
    );
    let either = || variant("pay", &[("card", Some(Type::Bool)), ("cash", None)]);
    let said = "$: expected pay (one of card(bool), cash), found ";
    refused(either(), json!("card"), &format!("{said}the text \"card\""));
    refused(
        either(),
        json!({ "cash": null }),
        &format!("{said}an object"),
    );
    refused(
        either(),
        json!({ "card": true, "cash": null }),
        &format!("{said}an object"),
    );
    refused(either(), json!("gold"), &format!("{said}the text \"gold\""));
    refused(
        either(),
        json!({ "card": 1 }),
        "$.card: expected bool, found the number 1",
    );
    refused(
        cases("hue", &["red"]),
        json!("blue"),
        "$: expected hue (one of red), found the text \"blue\"",
    );
    refused(
        cases("hue", &["red"]),
        json!(0),
        "$: expected hue (one of red), found the number 0",
    );
    let marks = || flags("marks", &["a", "b"]);
    refused(
        marks(),
        json!("a"),
        "$: expected marks (some of a, b), found the text \"a\"",
    );
    refused(
        marks(),
        json!(["a", "c"]),
        "$[1]: expected marks (some of a, b), found the text \"c\"",
    );
    refused(
        marks(),
        json!(["a", "a"]),
        "$[1]: expected marks (some of a, b), found the text \"a\"",
    );
    refused(order(), json!([]), "$: expected order, found a list of 0");
    refused(
        order(),
        json!({ "items": [] }),
        "$.id: expected string, found nothing",
    );
    let item = |price: Json| json!({ "item": "lamp", "price": price });
    let ordered = |items: &[Json]| json!({ "id": "7", "items": items });
    refused(
        order(),
        ordered(&[item(json!(1)), item(json!("2"))]),
        "$.items[1].price: expected u32 (0 to 4294967295), found the text \"2\"",
    );
    refused(
        order(),
        ordered(&[json!({ "item": "lamp", "price": 1, "Price_": 2 })]),
        "$.items[0]: expected the member \"price\", found the member \"Price_\"",
    );
    refused(
        order(),
        ordered(&[json!({ "item": "lamp", "price": 1, "amount": 2 })]),
        "$.items[0]: expected no members but item, price, found the member \"amount\"",
    );
    let long = "x".repeat(100);
    let cut = format!("$: expected bool, found the text \"{}...\"", "x".repeat(40));
    refused(Type::Bool, json!(long), &cut);
}

/// Types of every kind, nested.
fn types() -> impl Strategy<Value = Type> {
    let plain = prop::sample::select(vec![
        Type::Bool,
        Type::S8,
        Type::U8,
        Type::S16,
        Type::U16,
        Type::S32,
        Type::U32,
        Type::S64,
        Type::U64,
        Type::F32,
        Type::F64,
        Type::Char,
        Type::String,
        cases("hue", &["red", "green"]),
        flags("marks", &["a", "b", "c"]),
        result(None, None),
    ]);
    plain.prop_recursive(4, 24, 3, |inner| {
        let maybe = || prop::option::of(inner.clone());
        prop_oneof![
            inner.clone().prop_map(list),
            inner.clone().prop_map(option),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Type::Tuple),
            (maybe(), maybe()).prop_map(|(ok, err)| result(ok, err)),
            (inner.clone(), inner.clone())
                .prop_map(|(one, two)| record("", &[("b", one), ("a-b", two)])),
            (maybe(), maybe()).prop_map(|(one, two)| variant("", &[("x", one), ("y-z", two)])),
        ]
    })
}

/// Values of a type.
fn values(of: Type) -> BoxedStrategy<Value> {
    fn maybe(of: Option<Type>) -> BoxedStrategy<Option<Box<Value>>> {
        match of {
            None => Just(None).boxed(),
            Some(of) => values(of).prop_map(|value| Some(Box::new(value))).boxed(),
        }
    }
    match of {
        Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Type::S8 => any::<i8>().prop_map(Value::S8).boxed(),
        Type::U8 => any::<u8>().prop_map(Value::U8).boxed(),
        Type::S16 => any::<i16>().prop_map(Value::S16).boxed(),
        Type::U16 => any::<u16>().prop_map(Value::U16).boxed(),
        Type::S32 => any::<i32>().prop_map(Value::S32).boxed(),
        Type::U32 => any::<u32>().prop_map(Value::U32).boxed(),
        Type::S64 => any::<i64>().prop_map(Value::S64).boxed(),
        Type::U64 => any::<u64>().prop_map(Value::U64).boxed(),
        Type::F32 => (prop::num::f32::NORMAL | prop::num::f32::ZERO | prop::num::f32::INFINITE)
            .prop_map(Value::F32)
            .boxed(),
        Type::F64 => (prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::INFINITE)
            .prop_map(Value::F64)
            .boxed(),
        Type::Char => any::<char>().prop_map(Value::Char).boxed(),
        Type::String => any::<String>().prop_map(Value::String).boxed(),
        Type::List(element) if *element == Type::U8 => prop::collection::vec(any::<u8>(), 0..9)
            .prop_map(Value::Bytes)
            .boxed(),
        Type::List(element) => prop::collection::vec(values(*element), 0..4)
            .prop_map(Value::List)
            .boxed(),
        Type::Tuple(elements) => elements
            .into_iter()
            .map(values)
            .collect::<Vec<_>>()
            .prop_map(Value::Tuple)
            .boxed(),
        Type::Option(inner) => prop::option::of(values(*inner))
            .prop_map(|inner| Value::Option(inner.map(Box::new)))
            .boxed(),
        Type::Result { ok, err } => {
            let of = |of: Option<Box<Type>>| maybe(of.map(|of| *of));
            prop_oneof![
                of(ok).prop_map(|payload| Value::Result(Ok(payload))),
                of(err).prop_map(|payload| Value::Result(Err(payload))),
            ]
            .boxed()
        }
        Type::Record(record) => {
            let field = |(name, of): (String, Type)| {
                values(of).prop_map(move |value| (name.clone(), value))
            };
            let fields: Vec<_> = record.parts.into_iter().map(field).collect();
            fields.prop_map(Value::Record).boxed()
        }
        Type::Variant(variant) => {
            let case = |(name, of): (String, Option<Type>)| {
                maybe(of)
                    .prop_map(move |payload| Value::Variant(name.clone(), payload))
                    .boxed()
            };
            let cases: Vec<_> = variant.parts.into_iter().map(case).collect();
            prop::strategy::Union::new(cases).boxed()
        }
        Type::Enum(cases) => prop::sample::select(cases.parts)
            .prop_map(Value::Enum)
            .boxed(),
        Type::Flags(flags) => prop::sample::subsequence(flags.parts, 0..=3)
            .prop_map(Value::Flags)
            .boxed(),
    }
}

fn typed_values() -> impl Strategy<Value = (Type, Value)> {
    types().prop_flat_map(|of| {
        let values = values(of.clone());
        (Just(of), values)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same_value((of, value) in typed_values()) {
        let text = encode(&value);
        let json: Json = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(decode(&json, &of, "$"), Ok(value), "{}", text);
    }

    #[test]
    fn what_fits_is_read((of, value) in typed_values(), other in types()) {
        let json: Json = serde_json::from_str(&encode(&value)).unwrap();
        prop_assert_eq!(fits(Some(&of), &of), Ok(Fit::Same));
        for other in [option(of.clone()), other] {
            if fits(Some(&of), &other) == Ok(Fit::Same) {
                prop_assert!(decode(&json, &other, "$").is_ok(), "{} for {}: {}", of, other, json);
            }
        }
    }
}
