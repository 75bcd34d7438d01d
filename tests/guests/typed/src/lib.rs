//! Exports plain functions only, and no `run`.

wit_bindgen::generate!({
    path: ["../../../wit/0.2", "wit"],
    world: "shop:orders/typed",
    generate_all,
});

use exports::shop::orders::labels::Guest as Labels;
use exports::shop::orders::pricing::{Guest as Pricing, Receipt};
use fishway::task::tasks;
use shop::orders::types::Why;

struct Typed;

impl Pricing for Typed {
    fn price(order: Order) -> Result<Receipt, String> {
        match order.lines.len() {
            0 => Err(format!("order {} has no lines", order.id)),
            _ => Ok(Receipt {
                order_id: order.id,
                total: order.lines.iter().map(|line| u64::from(line.price)).sum(),
            }),
        }
    }

    fn reserve(item: String, fail: Option<Why>) -> Result<u32, Why> {
        fail.map_or(Ok(item.len() as u32), Err)
    }

    fn misbehave(how: String) -> Result<(), ()> {
        match how.as_str() {
            "trap" => panic!("as it was told"),
            "fail" => Err(()),
            _ => Ok(()),
        }
    }

    fn length(text: String) -> u32 {
        assert!(!text.is_empty(), "there is no text");
        text.len() as u32
    }

    fn linger() -> u64 {
        let _ = tasks::sleep(60_000);
        fishway::task::context::current().now
    }
}

impl Labels for Typed {
    fn describe(order: Order) -> String {
        let note = order.note.unwrap_or_else(|| "nothing to note".to_owned());
        format!("order {} of {}: {note}", order.id, order.lines.len())
    }
}

impl Guest for Typed {
    fn describe(what: String) -> String {
        format!("this is {what}")
    }

    #[allow(clippy::type_complexity)]
    fn everything(
        data: Vec<u8>,
        pairs: Vec<(i64, f32)>,
        paid: Payment,
        marks: Marks,
        nested: Option<Option<char>>,
        maybe: Result<bool, ()>,
    ) -> (
        Vec<u8>,
        Vec<(i64, f32)>,
        Payment,
        Marks,
        Option<Option<char>>,
        Result<bool, ()>,
    ) {
        (data, pairs, paid, marks, nested, maybe)
    }

    fn join(left: String, right: String, by: Option<String>) -> String {
        format!("{left}{}{right}", by.unwrap_or_default())
    }

    fn bytes(count: u32) -> Vec<u8> {
        vec![7; count as usize]
    }

    fn spawn(task_type: String, input: String) -> Result<String, String> {
        tasks::spawn(&task_type, &input, None)
            .map(|spawned| spawned.id)
            .map_err(|refused| format!("{refused:?}"))
    }

    fn words(text: String) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn together(parts: Vec<String>) -> String {
        parts.join("; ")
    }

    fn late(left: Option<String>) -> String {
        let _ = tasks::sleep(60_000);
        let now = fishway::task::context::dependencies();
        let now = now.iter().map(|one| one.outcome.output.as_deref());
        let now: Vec<&str> = now.map(|output| output.unwrap_or("nothing")).collect();
        format!("{} then, {} now", left.as_deref().unwrap_or("nothing"), now.join(", "))
    }

    fn nothing() {}
}

export!(Typed);
