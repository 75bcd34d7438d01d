//! Plain functions of components as task types of their own: calls of them between handlers, and their
//! types in workflows.

mod calls;
mod handlers;
mod workflows;

use std::sync::Arc;

use fishway::client::ClientError;
use fishway::clock::{HandClock, SystemClock};
use fishway::executor::Settings;
use fishway::store::Filter;
use fishway::task::{FailureKind, Options, Status, Task, TaskId};
use serde_json::{Value, json};

use crate::support::{World, both_ways, failure, options, results};

pub async fn start(settings: Settings) -> World {
    World::of_typed(settings, Arc::new(SystemClock)).await
}

pub async fn by_hand(settings: Settings) -> (World, Arc<HandClock>) {
    let clock = Arc::new(HandClock::at(1_790_000_000_000));
    (World::of_typed(settings, clock.clone()).await, clock)
}

pub async fn run(world: &World, task_type: &str, input: Value) -> Task {
    run_with(world, task_type, input, Options::default()).await
}

async fn run_with(world: &World, task_type: &str, input: Value, options: Options) -> Task {
    let id = world.submit_to(task_type, input, options).await;
    world.end(id).await
}

fn order(prices: &[u32]) -> Value {
    let lines: Vec<Value> = prices
        .iter()
        .map(|price| json!({ "item": "lamp", "price": price }))
        .collect();
    json!({ "id": "A7", "lines": lines })
}

/// What failed: its kind and its message.
fn said(task: &Task) -> String {
    let message = failure(task);
    let kind = task.failure.as_ref().unwrap().kind.as_str();
    format!("{kind}: {message}")
}

fn details(task: &Task) -> Value {
    let details = task.failure.as_ref().unwrap().details.as_deref();
    serde_json::from_str(details.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_a_task_type_that_takes_and_gives_json() {
    let world = start(Settings::default()).await;
    let receipt = json!({ "order-id": "A7", "total": 12 });
    let whole = run(&world, "typed/price", order(&[5, 7])).await;
    assert_eq!(results(&whole), receipt);
    assert_eq!(&*whole.handler, "typed/price");
    let named = json!({ "order": order(&[5, 7]) });
    assert_eq!(results(&run(&world, "typed/price", named).await), receipt);
    let text = whole.output.unwrap().to_string();
    assert_eq!(text, "{\"order-id\":\"A7\",\"total\":12}", "as declared");
    let nothing = run(&world, "typed/nothing", json!(null)).await;
    assert_eq!(results(&nothing), json!(null));
    // Two functions of one name are told apart by their interface.
    let plain = run(&world, "typed/describe", json!("a lamp")).await;
    assert_eq!(results(&plain), "this is a lamp");
    let label = run(&world, "typed/labels.describe", order(&[1])).await;
    assert_eq!(results(&label), "order A7 of 1: nothing to note");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_kind_go_into_a_guest_and_come_back() {
    let world = start(Settings::default()).await;
    let pairs = json!([
        [-9_007_199_254_740_991i64, 0.1],
        ["9223372036854775807", "NaN"]
    ]);
    let given = json!({
        "data": "AP8Q",
        "pairs": pairs,
        "paid": { "card": "4711" },
        "marks": ["gift", "express"],
        "nested": { "some": "ü" },
        "maybe": { "ok": true },
    });
    let names = ["data", "pairs", "paid", "marks", "nested", "maybe"];
    let expected: Vec<Value> = names.iter().map(|name| given[name].clone()).collect();
    let back = run(&world, "typed/everything", given).await;
    assert_eq!(results(&back), Value::from(expected));
    let given = json!({ "data": "", "pairs": [], "paid": "cash", "marks": [], "nested": { "some": null }, "maybe": { "err": null } });
    let expected: Vec<Value> = names.iter().map(|name| given[name].clone()).collect();
    let back = run(&world, "typed/everything", given).await;
    assert_eq!(results(&back), Value::from(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_function_is_the_failure_of_its_task() {
    let world = start(Settings::default()).await;
    let thrice = || options(|options| options.attempts_max = Some(3));
    let failed = run_with(&world, "typed/price", order(&[]), thrice()).await;
    assert_eq!(said(&failed), "handler: order A7 has no lines");
    assert_eq!(failed.attempt, 1, "no other attempt would help");
    let why = json!({ "item": "lamp", "fail": "sold-out" });
    let failed = run(&world, "typed/reserve", why).await;
    assert_eq!(said(&failed), "handler: sold-out");
    assert_eq!(details(&failed), "sold-out");
    let failed = run(&world, "typed/misbehave", json!("fail")).await;
    assert_eq!(said(&failed), "handler: it returned an error");
    let fine = run(&world, "typed/misbehave", json!("no")).await;
    assert_eq!(results(&fine), json!(null));
    let trapped = run(&world, "typed/misbehave", json!("trap")).await;
    assert!(said(&trapped).starts_with("trap: the guest panicked"));
    assert!(said(&trapped).contains("as it was told"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_does_not_fit_is_refused_before_anything_is_kept() {
    let world = start(Settings::default()).await;
    let submit = async |inputs: Vec<String>| {
        let submitted = world
            .client
            .submit("typed/price", inputs, Options::default());
        submitted.await.unwrap_err()
    };
    let wrong = json!({ "id": "A7", "lines": [{ "item": "lamp", "price": "5" }] }).to_string();
    let refused = submit(vec![wrong.clone()]).await;
    assert_eq!(
        refused.to_string(),
        "typed/price does not take this input: $.lines[0].price: expected u32 (0 to 4294967295), found the text \"5\""
    );
    let hint = refused.hint().unwrap();
    assert_eq!(hint, "fishway handler describe typed shows what it takes");
    let refused = submit(vec![order(&[1]).to_string(), wrong]).await;
    assert!(matches!(
        refused,
        ClientError::TypeMismatch { line: Some(2), .. }
    ));
    assert!(
        refused
            .to_string()
            .contains("this input (input 2): $.lines[0]")
    );
    let all = Filter {
        limit: 10,
        ..Filter::default()
    };
    assert_eq!(world.client.list(&all).unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_function_is_refused_by_the_names_of_those_that_there_are() {
    let world = start(Settings::default()).await;
    let refused = async |name: &str| {
        let submitted = world
            .client
            .submit(name, vec!["1".to_owned()], Options::default());
        let refused = submitted.await.unwrap_err();
        format!("{refused} | {}", refused.hint().unwrap())
    };
    let known = "typed has typed/bytes, typed/describe, typed/everything";
    let found = refused("typed/prize").await;
    assert!(
        found.starts_with("there is no handler \"typed/prize\" | "),
        "{found}"
    );
    assert!(found.contains(known), "{found}");
    let found = refused("typed").await;
    assert!(found.contains(known), "it has no run: {found}");
    let found = refused("script/price").await;
    assert_eq!(
        found,
        "there is no handler \"script/price\" | script has script"
    );
    // A guest hears the same.
    let spawn = async |task_type: &str, input: &str| {
        let spawn = json!({ "task-type": task_type, "input": input });
        failure(&run(&world, "typed/spawn", spawn).await)
    };
    let found = spawn("typed/prize", "1").await;
    assert!(found.contains("typed has typed/describe"), "{found}");
    let found = spawn("nobody/prize", "1").await;
    assert!(
        found.contains("UnknownHandler(\"nobody/prize\")"),
        "{found}"
    );
    let found = spawn("typed/length", "1").await;
    let expected = "typed/length does not take this input: $: expected string, found the number 1";
    assert!(found.contains(expected), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_takes_the_output_of_the_dependency_whose_key_it_bears() {
    let world = start(Settings::default()).await;
    let keyed = async |key: &str, task_type: &str, input: Value| {
        let options = options(|options| options.key = Some(key.into()));
        world.submit_to(task_type, input, options).await
    };
    let after = |ids: [TaskId; 2]| options(|options| options.after = ids.to_vec());
    let left = keyed("left", "echo", json!("salmon")).await;
    let right = keyed("right", "typed/describe", json!("a weir")).await;
    let joined = run_with(
        &world,
        "typed/join",
        json!({ "by": " at " }),
        after([left, right]),
    )
    .await;
    assert_eq!(results(&joined), "salmon at this is a weir");
    let joined = run_with(&world, "typed/join", json!(null), after([left, right])).await;
    assert_eq!(results(&joined), "salmonthis is a weir");
    let joined = run_with(&world, "typed/join", json!("!"), after([left, right])).await;
    assert_eq!(
        results(&joined),
        "salmon!this is a weir",
        "one is left over"
    );
    // The same from inside a guest.
    let keyed = |key: &str| json!({ "spawn": { "handler": "echo", "input": key, "options": { "key": key } } });
    let after = json!({ "after": ["$0", "$1"] });
    let join = json!({ "spawn": { "handler": "typed/join", "input": null, "options": after } });
    let steps = [
        keyed("left"),
        keyed("right"),
        join,
        json!({ "wait-all": { "ids": ["$2"] } }),
    ];
    let found = world.results(steps.to_vec().into()).await;
    assert_eq!(found[3][0]["output"], "leftright", "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_turns_out_not_to_fit_fails_the_task_for_good() {
    let world = start(Settings::default()).await;
    let given = options(|options| options.key = Some("left".into()));
    let left = world.submit_to("echo", json!([1]), given).await;
    let after = options(|options| {
        options.after = vec![left];
        options.attempts_max = Some(3);
    });
    let failed = run_with(&world, "typed/join", json!({ "right": "x" }), after).await;
    assert_eq!(
        said(&failed),
        "type-mismatch: typed/join does not take this input: dependencies.left: expected string, found a list of 1"
    );
    assert_eq!(failed.attempt, 1);
    assert_eq!(
        details(&failed),
        json!({ "path": "dependencies.left", "expected": "string", "found": "a list of 1" })
    );
    assert_eq!(
        failed.failure.as_ref().unwrap().kind,
        FailureKind::TypeMismatch
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_calls_its_host_and_is_replayed_like_any_handler() {
    for settings in both_ways() {
        let (mut world, clock) = by_hand(settings).await;
        let began = fishway::clock::Clock::now_ms(&*clock);
        let nap = world
            .submit_to("typed/linger", json!(null), Options::default())
            .await;
        world.reach_status(nap, Status::Waiting).await;
        world.stop().await;
        world.restart().await;
        clock.advance(60_000);
        let task = world.end(nap).await;
        assert_eq!(results(&task), json!(began + 60_000));
        assert_eq!(task.attempt, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_gives_has_a_bound() {
    let world = start(Settings::default()).await;
    let some = run(&world, "typed/bytes", json!(300_000)).await;
    assert_eq!(results(&some).as_str().unwrap().len(), 400_000);
    let many = run(&world, "typed/bytes", json!(1_000_000)).await;
    let expected =
        "limit: it returned a result that cannot be kept: it has more than 1000000 values";
    assert_eq!(said(&many), expected);
    let very_many = run(&world, "typed/bytes", json!(50_000_000)).await;
    assert!(
        said(&very_many).contains("too much data"),
        "{}",
        said(&very_many)
    );
}
