//! Charges a card, reserves an item and orders its shipping with other services. When one of them refuses, the earlier
//! steps are undone, and the result says so: `{"success": false, "error": "the server answered 409"}`.
//!
//! `{"services": "https://shop.example.com", "amount": 100, "item": "globe", "address": "12 Mill Lane"}`
//!
//! Each request is a step, so neither a crash nor another attempt repeats it once it was answered. One that was sent
//! and not answered is sent again with the same `Idempotency-Key`, by which the service recognizes it.

use kit::{Failure, http, step};
use serde::Deserialize;
use serde_json::{Value, json};

kit::handler!(buy);

#[derive(Deserialize)]
struct Order {
    services: String,
    amount: u64,
    item: String,
    address: String,
}

fn buy(order: Order) -> Result<Value, Failure> {
    let mut undo = Vec::new();
    let Err(failure) = place(&order, &mut undo) else {
        return Ok(json!({ "success": true }));
    };
    // The services may answer later: a new attempt continues where this one stopped.
    if failure.retryable {
        return Err(failure);
    }
    // The latest first.
    for (path, body) in undo.into_iter().rev() {
        ask(&order, path, body)?;
    }
    Ok(json!({ "success": false, "error": failure.message }))
}

fn place(order: &Order, undo: &mut Vec<(&'static str, Value)>) -> Result<(), Failure> {
    let charge = ask(order, "charges", json!({ "amount": order.amount }))?;
    undo.push(("refunds", json!({ "charge": charge["id"] })));

    let reservation = ask(order, "reservations", json!({ "item": order.item }))?;
    undo.push(("releases", json!({ "reservation": reservation["id"] })));

    ask(order, "shipments", json!({ "to": order.address }))?;
    Ok(())
}

/// One request to a service, made once.
fn ask(order: &Order, path: &'static str, body: Value) -> Result<Value, Failure> {
    step(path, || {
        let url = format!("{}/{path}", order.services);
        let response = http::post(url).json(&body)?.send()?;
        Ok(response.error_for_status()?.json()?)
    })
}
