//! What the loader and the command line say of functions.

use serde_json::json;

use crate::support::guests;
use crate::support::place::Place;

fn place() -> Place {
    let place = Place::new();
    guests::place_typed(&place.path("handlers"));
    place
}

#[test]
fn functions_are_described_with_their_types_and_schema() {
    let place = place();
    let described = place
        .run(&["handler", "describe", "handlers/typed.wasm", "--json"])
        .json();
    let functions = described["functions"].as_array().unwrap();
    let price = functions.iter().find(|one| one["name"] == "price").unwrap();
    let line = json!({
        "title": "line",
        "type": "object",
        "properties": {
            "item": { "type": "string" },
            "price": { "type": "integer", "minimum": 0, "maximum": 4294967295u32 },
        },
        "required": ["item", "price"],
        "additionalProperties": false,
    });
    let order = json!({
        "title": "order",
        "type": "object",
        "properties": {
            "id": { "type": "string" },
            "lines": { "type": "array", "items": line },
            "note": { "anyOf": [{ "type": "null" }, { "type": "string" }] },
        },
        "required": ["id", "lines"],
        "additionalProperties": false,
    });
    let named = json!({
        "type": "object",
        "properties": { "order": order },
        "required": ["order"],
        "additionalProperties": false,
    });
    assert_eq!(price["task_type"], "typed/price");
    assert_eq!(price["interface"], "shop:orders/pricing@0.1.0");
    assert_eq!(
        price["wit"],
        "price: func(order: order) -> result<receipt, string>"
    );
    assert_eq!(
        price["types"],
        json!([
            "record line { item: string, price: u32 }",
            "record order { id: string, lines: list<line>, note: option<string> }",
            "record receipt { order-id: string, total: u64 }",
        ])
    );
    assert_eq!(price["input_schema"], json!({ "anyOf": [named, order] }));
    assert_eq!(price["output_schema"]["title"], "receipt");
    let types: Vec<&str> = functions
        .iter()
        .map(|one| one["task_type"].as_str().unwrap())
        .collect();
    assert_eq!(types[..2], ["typed/describe", "typed/everything"]);
    assert!(types.contains(&"typed/labels.describe"), "{types:?}");
    let people = place
        .run(&["handler", "describe", "handlers/typed.wasm"])
        .ok();
    let expected = "\ntyped/reserve: func(item: string, fail: option<why>) -> result<u32, why>\n  \
                    interface  shop:orders/pricing@0.1.0\n  enum why { sold-out, too-late }\n  input      {";
    assert!(people.contains(expected), "{people}");
    let called = place
        .run(&["handler", "describe", "handlers/caller.wasm"])
        .ok();
    let expected = "\ncalls shop:orders/pricing@0.1.0\n  price: func(order: order) -> result<receipt, string>\n";
    assert!(called.contains(expected), "{called}");
}

#[test]
fn a_handler_whose_calls_nobody_answers_is_told() {
    let place = place();
    place
        .run(&["handler", "check", "handlers/caller.wasm"])
        .ok();
    let listed = place.run(&["handler", "list", "handlers"]).ok();
    assert!(listed.contains("\n  typed/price  func(order: order) -> result<receipt, string>\n"));
    let check = |expected: &str, hint: &str| {
        let checked = place.run(&["handler", "check", "handlers/caller.wasm"]);
        assert_eq!(checked.code, 1);
        assert!(checked.err.contains(expected), "{}", checked.err);
        assert!(checked.err.contains(hint), "{}", checked.err);
    };
    std::fs::rename(place.path("handlers/typed.wasm"), place.path("typed.wasm")).unwrap();
    check(
        "problem: caller.wasm: it imports shop:orders/pricing@0.1.0, which no handler exports",
        "hint: put one that does beside it, or name one in caller.toml: [imports] \"shop:orders/pricing\" = \"NAME\"",
    );
    for name in ["one", "two"] {
        std::fs::copy(
            place.path("typed.wasm"),
            place.path(&format!("handlers/{name}.wasm")),
        )
        .unwrap();
    }
    check(
        "it imports shop:orders/pricing@0.1.0, which one and two export",
        "hint: name one in caller.toml",
    );
    let name = |handler: &str| {
        let manifest = format!("imports = {{ \"shop:orders/pricing\" = \"{handler}\" }}");
        std::fs::write(place.path("handlers/caller.toml"), manifest).unwrap();
    };
    name("two");
    place
        .run(&["handler", "check", "handlers/caller.wasm"])
        .ok();
    name("three");
    check(
        "it imports shop:orders/pricing@0.1.0 from handler \"three\" (imports of its manifest), and there is none",
        "put three.wasm beside it",
    );
    name("echo");
    check(
        "it imports price of shop:orders/pricing@0.1.0, and handler \"echo\" has no such function",
        "build both against the same WIT",
    );
}

#[test]
fn a_submit_that_does_not_fit_is_refused_with_the_path() {
    let place = place();
    let host = place.serve();
    let id = place
        .run(&["submit", "typed/length", "\"abc\"", "--wait"])
        .ok();
    assert_eq!(id, "3\n");
    let refused = |place: &Place| {
        place.run(&["submit", "typed/length", "{\"text\": 3}"]).refused(
            1,
            "typed/length does not take this input: $.text: expected string, found the number 3",
            "fishway handler describe typed shows what it takes",
        );
    };
    refused(&place);
    drop(host);
    refused(&place);
    place.run(&["submit", "typed/lenght", "\"abc\""]).refused(
        1,
        "there is no handler \"typed/lenght\"",
        "typed has typed/bytes",
    );
    // Another component under that name: no word of the old one counts.
    std::fs::copy(guests::guest("echo"), place.path("handlers/typed.wasm")).unwrap();
    place.run(&["submit", "typed/length", "{\"text\": 3}"]).ok();
    place.run(&["submit", "typed/lenght", "\"abc\""]).ok();
}
