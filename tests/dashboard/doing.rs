//! What people do: by click, and by keys alone.

use fishway::task::{Options, Status};
use serde_json::json;

use super::{at, row_is, visit, waits};
use crate::http::Door;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_task_is_cancelled_and_retried_by_click() {
    let door = Door::open().await;
    let id = door.world.submit(waits()).await;
    let mut page = at(&door, &format!("task/{id}"));
    page.until("document.querySelector('h1 .status.waiting')");
    page.click(".acts button", "Cancel");
    page.until("document.querySelector('h1 .status.cancelled')");
    assert_eq!(door.world.detail(id).task.status, Status::Cancelled);
    page.click(".acts button", "Retry");
    page.until("document.querySelector('h1 .status.waiting')");
    assert_eq!(door.world.detail(id).task.status, Status::Waiting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_host_refuses_is_told_with_its_hint() {
    let door = Door::open().await;
    let id = door.world.submit(waits()).await;
    let mut page = at(&door, &format!("task/{id}"));
    page.until("document.querySelector('h1 .status.waiting')");
    // Somebody else was first, and this page has not heard of it yet.
    page.look("window.fetch = ((fetch) => (...all) => String(all[0]).endsWith('/cancel') ? fetch(`/v1/tasks/none/cancel`, all[1]) : fetch(...all))(window.fetch)");
    page.click(".acts button", "Cancel");
    page.until("document.querySelector('.problem strong').textContent.includes('none')");
    page.until("document.querySelector('.problem .hint').textContent.length > 5");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_tasks_are_cancelled_and_retried_at_once() {
    let door = Door::open().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(door.world.submit(waits()).await);
    }
    let other = door
        .world
        .submit_to("echo", json!(1), Options::default())
        .await;
    let mut page = at(&door, "tasks?q=handler:script");
    page.until("document.querySelectorAll('.row .status.waiting').length === 20");
    page.click("button", "select all");
    page.sees("20 selected");
    page.click("button", "Cancel 20");
    page.until("document.querySelectorAll('.row .status.cancelled').length === 20");
    page.sees("20 of 20 cancelled");
    for id in &ids {
        assert_eq!(door.world.detail(*id).task.status, Status::Cancelled);
    }
    assert_eq!(door.world.end(other).await.status, Status::Completed);
    page.click("button", "select all");
    page.click("button", "Retry 20");
    page.until("document.querySelectorAll('.row .status.waiting').length === 20");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_search_finds_tasks_and_stays_in_the_address() {
    let door = Door::open().await;
    let options = |key: &str| crate::support::options(|options| options.key = Some(key.into()));
    let steps = json!({ "steps": [{ "fail": { "message": "no" } }] });
    let failed = door
        .world
        .submit_to("script", steps, options("mail-1"))
        .await;
    let done = door
        .world
        .submit_to("echo", json!(1), options("mail-2"))
        .await;
    let other = door
        .world
        .submit_to("echo", json!(2), options("post-1"))
        .await;
    for id in [failed, done, other] {
        door.world.end(id).await;
    }
    let mut page = at(&door, "tasks");
    let only = |ids: &[&dyn std::fmt::Display]| {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        format!(
            "[...document.querySelectorAll('.row[data-id]')].map((row) => row.dataset.id).sort().join() === {:?}.split(',').sort().join()",
            ids.join(",")
        )
    };
    page.until(&only(&[&failed, &done, &other]));
    page.key("/");
    page.text("key:mail-");
    page.until(&only(&[&failed, &done]));
    page.until("location.hash.includes('key%3Amail-')");
    page.key("Enter");
    page.click(".chip", "✕");
    page.until(&only(&[&failed]));
    page.until("location.hash.includes('status%3Afailed')");
    page.look("history.back()");
    page.until(&only(&[&failed, &done]));
    visit(&mut page, &door, "tasks?q=handler:echo%20status:succeeded");
    page.until(&only(&[&done, &other]));
    let id = other.to_string();
    visit(&mut page, &door, &format!("tasks?q={id}"));
    page.until(&only(&[&other]));
    visit(&mut page, &door, "tasks?q=handler:nobody");
    page.sees("No task is like that");
    // A word that is no status is told by the host.
    visit(&mut page, &door, "tasks?q=status:dreaming");
    page.until("document.querySelector('.problem strong').textContent.includes('dreaming')");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_is_done_by_keys_alone() {
    let door = Door::open().await;
    let first = door.world.submit(waits()).await;
    let second = door.world.submit(waits()).await;
    let mut page = at(&door, "overview");
    page.key("?");
    page.until("document.querySelector('dialog[open]').innerText.includes('go to Schedules')");
    page.key("Escape");
    page.until("!document.querySelector('dialog[open]')");
    for (key, place) in [
        ("w", "workflows"),
        ("p", "pools"),
        ("j", "jobs"),
        ("h", "handlers"),
        ("s", "schedules"),
        ("q", "host"),
        ("o", "overview"),
        ("t", "tasks"),
    ] {
        page.key("g");
        page.key(key);
        page.until(&format!("location.hash === '#/{place}' && document.querySelector('nav [aria-current]').hash === location.hash"));
    }
    page.until(&row_is(first, "waiting"));
    page.key("j");
    page.key("j");
    page.until(&format!(
        "document.querySelector('.row.at').dataset.id === '{first}'"
    ));
    page.key("x");
    page.sees("1 selected");
    page.key("c");
    page.until(&row_is(first, "cancelled"));
    page.until(&row_is(second, "waiting"));
    page.key("r");
    page.until(&row_is(first, "waiting"));
    page.key("k");
    page.until(&format!(
        "document.querySelector('.row.at').dataset.id === '{second}'"
    ));
    page.key("Enter");
    page.until(&format!(
        "location.hash === '#/task/{second}' && document.querySelector('h1 .status.waiting')"
    ));
    page.key("c");
    page.until("document.querySelector('h1 .status.cancelled')");
    // What has the focus shows it.
    page.key("Tab");
    page.until("document.activeElement !== document.body");
    page.until("getComputedStyle(document.activeElement).outlineStyle !== 'none'");
}
