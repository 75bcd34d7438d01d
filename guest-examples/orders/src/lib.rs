//! A plain function with types: tasks of type `orders/process-order` run it. No JSON and no contract in it;
//! the host reads the input by the types of `wit/orders.wit`, and refuses what is not of them.

wit_bindgen::generate!({ path: "wit", world: "orders" });

use exports::example::orders::processing::{Guest, Line, Order, Receipt};

struct Orders;

impl Guest for Orders {
    /// What it returns as an error fails the task, with that message.
    fn process_order(order: Order) -> Result<Receipt, String> {
        if order.lines.is_empty() {
            return Err(format!("order {} is empty", order.id));
        }
        let price = |line: &Line| u64::from(line.price_cents) * u64::from(line.count);
        Ok(Receipt {
            total_cents: order.lines.iter().map(price).sum(),
            order_id: order.id,
        })
    }
}

export!(Orders);
