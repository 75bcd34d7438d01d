//! HTTP requests of a task on its page.

use serde_json::json;

use super::at;
use crate::http::Door;
use crate::support::http_server::{Answer, Gate, Server, Step};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn http_requests_of_a_task_are_bars_on_its_page_while_it_waits() {
    let gate = Gate::new();
    let door_of = gate.clone();
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/slow" => Answer::text("slow").first(Step::Wait(door_of.clone())),
        _ => Answer::status(404).then(Step::Send("no".into())),
    });
    let mut door = Door::open().await;
    door.http.take().unwrap().close().await;
    let manifest = format!("[[grants.http]]\nto = \"{}\"\n", server.url());
    door.world.handler("web", &manifest).await;
    door.again().await;
    let url = server.url();
    let steps = json!([
        { "http": { "url": format!("{url}/missing") } },
        { "http": { "url": format!("{url}/slow") } },
    ]);
    let id = crate::exchanges::submit(&door.world, steps).await;
    server.has_seen(2).await;
    let mut page = at(&door, &format!("task/{id}"));
    let bar = |number: usize, class: &str, name: &str, says: &str| {
        let host = url.strip_prefix("http://").unwrap();
        format!(
            "(() => {{ const bar = document.querySelectorAll('[aria-label=\"HTTP requests\"] li')[{number}]; \
             return bar?.querySelector('.bar-of.{class}') && bar.querySelector('.name').textContent === 'GET {host}/{name}' \
             && bar.querySelector('.says').textContent === '{says}'; }})()"
        )
    };
    page.until(&bar(0, "failed", "missing", "404"));
    page.until(&bar(1, "running", "slow", "no response yet"));
    page.picture("task-requests");
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
    gate.open();
    door.world.end(id).await;
    page.until("!document.querySelector('[aria-label=\"HTTP requests\"]')");
}
