//! Steps that have to happen together: charge, reserve, ship. When one fails, what was done before is undone
//! by tasks of their own, and the result says so: `{"success": false, "error": "no lamp is in stock"}`.
//!
//! `{"amount": 100, "item": "globe", "address": "12 Mill Lane"}`

use kit::{Failure, Options, tasks};
use serde::Deserialize;
use serde_json::{Value, json};

kit::handler!(saga);

#[derive(Deserialize)]
struct Order {
    amount: u64,
    item: String,
    address: String,
}

fn saga(order: Order) -> Result<Value, Failure> {
    let mut compensations = Vec::new();
    let Err(failure) = place(&order, &mut compensations) else {
        return Ok(json!({ "success": true }));
    };
    // The latest first. Spawned, not called: they go on by themselves, with attempts of their own.
    for (step, argument) in compensations.into_iter().rev() {
        let (input, options) = shop(step, argument);
        tasks::spawn("shop", &input, Some(&options))?;
    }
    Ok(json!({ "success": false, "error": failure.message }))
}

/// `?` is the exception of a saga: it leaves with the failure that a step ended with.
fn place(order: &Order, undo: &mut Vec<(&'static str, Value)>) -> Result<(), Failure> {
    let charge = call("charge-payment", json!({ "amount": order.amount }))?;
    undo.push(("refund-payment", json!({ "charge_id": charge["id"] })));

    let reservation = call("reserve-inventory", json!({ "item": order.item }))?;
    let reservation_id = json!({ "reservation_id": reservation["id"] });
    undo.push(("release-inventory", reservation_id));

    call("ship-order", json!({ "to": order.address }))?;
    Ok(())
}

fn call(step: &'static str, argument: Value) -> Result<Value, Failure> {
    let (input, options) = shop(step, argument);
    Ok(serde_json::from_str(&tasks::call(
        "shop",
        &input,
        Some(&options),
    )?)?)
}

/// The key names the step in the trace.
fn shop(step: &'static str, argument: Value) -> (String, Options) {
    let key = Some(step.to_owned());
    let options = Options {
        key,
        ..Options::default()
    };
    (json!({ step: argument }).to_string(), options)
}
