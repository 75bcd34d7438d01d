//! The steps of `saga`, each with what undoes it. They stand for calls to other systems; `{"reserve-inventory":
//! {"item": "lamp"}}` fails where the shop has none.

use kit::{Failure, context};
use serde::Deserialize;
use serde_json::{Value, json};

kit::handler!(step);

const STOCK: [&str; 2] = ["book", "globe"];

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Step {
    ChargePayment { amount: u64 },
    RefundPayment { charge_id: String },
    ReserveInventory { item: String },
    ReleaseInventory { reservation_id: String },
    ShipOrder { to: String },
}

fn step(step: Step) -> Result<Value, Failure> {
    // Another attempt has the same key, so the other system can tell that it has done this before.
    let about: Value = serde_json::from_str(&context::current().metadata)?;
    let id = &about["idempotency_key"];
    match step {
        Step::ChargePayment { amount } => Ok(json!({ "id": id, "charged": amount })),
        Step::RefundPayment { charge_id } => Ok(json!({ "refunded": charge_id })),
        Step::ReserveInventory { item } if !STOCK.contains(&item.as_str()) => {
            Err(Failure::permanent(format!("no {item} is in stock")))
        }
        Step::ReserveInventory { item } => Ok(json!({ "id": id, "reserved": item })),
        Step::ReleaseInventory { reservation_id } => Ok(json!({ "released": reservation_id })),
        Step::ShipOrder { to } if to.is_empty() => Err(Failure::permanent("there is no address")),
        Step::ShipOrder { to } => Ok(json!({ "shipped_to": to })),
    }
}
