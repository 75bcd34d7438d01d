//! Calls a function of `orders` as a function. Each call is a child task: it has a row, attempts of its own and a
//! place in the trace, and a replay hears what it answered before.

wit_bindgen::generate!({ path: ["../orders/wit", "wit"], world: "example:checkout/checkout", generate_all });

use example::orders::processing::process_order;

struct Checkout;

impl Guest for Checkout {
    /// The first order that fails ends it, with the message of that.
    fn check_out(orders: Vec<Order>) -> Result<Vec<Receipt>, String> {
        orders.iter().map(process_order).collect()
    }
}

export!(Checkout);
