//! What handlers say is hostile, the network is not there, and a token is wanted.

use serde_json::json;

use super::{at, visit};
use crate::http::Door;
use crate::support::browser::Browser;

const HOSTILE: &str = "<img src=x onerror=\"window.hit=1\"><script>window.hit=1</script>";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_handler_says_is_shown_as_text() {
    let door = Door::open().await;
    let options = crate::support::options(|options| options.key = Some(HOSTILE.into()));
    let steps = json!({ "steps": [
        { "log": { "level": "info", "message": HOSTILE } },
        { "progress": { "done": 1, "total": 2, "message": HOSTILE } },
        { "fail": { "message": HOSTILE, "details": { (HOSTILE): HOSTILE } } },
    ] });
    let id = door.world.submit_to("script", steps, options).await;
    door.world.end(id).await;
    let mut page = at(&door, "tasks");
    let hidden = "!document.querySelector('main img, main script') && window.hit === undefined";
    for place in [
        "tasks".to_owned(),
        format!("task/{id}"),
        "overview".to_owned(),
    ] {
        visit(&mut page, &door, &place);
        page.sees("onerror");
        page.until(hidden);
    }
    visit(&mut page, &door, &format!("task/{id}"));
    page.until("document.querySelector('.log').innerText.includes('<script>')");
    page.until("document.querySelector('.json').innerText.includes('<img')");
    // And were it run, the policy would forbid it.
    page.look("document.body.insertAdjacentHTML('beforeend', '<img src=\"https://example.org/x.png\" onerror=\"window.hit=1\">')");
    let forbidden = |page: &Browser| {
        page.complaints
            .iter()
            .any(|one| one.contains("Content Security Policy"))
    };
    page.until(hidden);
    assert!(forbidden(&page));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn text_that_turns_or_hides_is_spelled_out_and_right_to_left_stays_in_its_place() {
    let door = Door::open().await;
    let odd = "\u{202e}txt.exe\u{1b}[31m\u{9b}\u{e0041}";
    let hebrew = "\u{5e9}\u{5dc}\u{5d5}\u{5dd} 1 2";
    let steps = json!({ "steps": [
        { "log": { "level": "info", "message": odd } },
        { "progress": { "done": 1, "total": 2, "message": hebrew } },
        { "fail": { "message": format!("{odd} {hebrew}"), "retryable": false } },
    ] });
    let id = door
        .world
        .submit_to("script", steps, crate::support::options(|_| {}))
        .await;
    door.world.end(id).await;
    let mut page = at(&door, "tasks");
    let nothing_hidden = r"!/[\u0000-\u0008\u000e-\u001f\u007f-\u009f\u202a-\u202e]|[\u{e0000}-\u{e007f}]/u.test(
        document.body.innerHTML + document.title)";
    for place in [
        "tasks".to_owned(),
        format!("task/{id}"),
        "overview".to_owned(),
    ] {
        visit(&mut page, &door, &place);
        page.sees("\\u{202e}txt.exe\\x1b[31m\\x9b\\u{e0041}");
        page.until(nothing_hidden);
    }
    visit(&mut page, &door, &format!("task/{id}"));
    page.until(
        "[...document.querySelectorAll('bdi')].some((one) => one.textContent.includes('\u{5e9}'))",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_page_asks_nobody_but_its_host_and_comes_up_again_from_what_is_kept() {
    let door = Door::open().await;
    let mut page = at(&door, "overview");
    for _ in 0..2 {
        for place in [
            "tasks",
            "workflows",
            "pools",
            "handlers",
            "schedules",
            "host",
            "overview",
        ] {
            visit(&mut page, &door, place);
        }
        // The second time, the host says that nothing has changed, under the same policy.
        page.reload();
        page.until("document.querySelector('.feed.live') && getComputedStyle(document.querySelector('nav')).display === 'flex'");
    }
    let own = format!("http://{}/", door.address);
    let others: Vec<&String> = page
        .asked
        .iter()
        .filter(|url| !url.starts_with(&own) && *url != "about:blank")
        .collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_with_a_token_asks_people_for_it_and_shows_nothing_before() {
    let door = Door::with_token("a token of the tests").await;
    let id = door.world.submit(json!([{ "return": 1 }])).await;
    door.world.end(id).await;
    let mut page = Browser::open();
    page.go(&format!("http://{}/#/tasks", door.address));
    page.until("document.querySelector('dialog[open] input[type=password]:focus')");
    assert_eq!(
        page.look(&format!("document.body.innerText.includes('{id}')")),
        false
    );
    page.text("not the token of the tests");
    page.key("Enter");
    page.sees("the token is wrong");
    page.look("document.activeElement.select()");
    page.text("a token of the tests");
    page.key("Enter");
    page.until("!document.querySelector('dialog[open]') && document.querySelector('.feed.live')");
    page.until(&format!("document.querySelector('[data-id=\"{id}\"]')"));
    // Kept for the tab, and nowhere else.
    assert_eq!(
        page.look("JSON.stringify({...localStorage}).includes('token of')"),
        false
    );
    page.reload();
    page.until(&format!("document.querySelector('[data-id=\"{id}\"]')"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_files_are_served_to_a_link_from_elsewhere_and_the_api_is_not() {
    let door = Door::open().await;
    let from = ["Sec-Fetch-Site: cross-site"];
    let page = door.ask("GET /", &from, b"").await;
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("script-src 'self'")
    );
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    let tag = format!("If-None-Match: {}", page.header("etag").unwrap());
    let same = door.ask("GET /", &[&tag], b"").await;
    assert_eq!(same.status, 304);
    assert_eq!(
        same.header("content-security-policy"),
        page.header("content-security-policy")
    );
    door.ask("GET /v1/tasks", &from, b"")
        .await
        .refused(403, "denied", "another origin");
    door.ask("GET /", &["Host: evil.example"], b"")
        .await
        .refused(421, "denied", "another host");
    door.ask("GET /dashboard/../Cargo.toml", &[], b"")
        .await
        .refused(404, "not-found", "nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_row_is_shown_as_damaged_and_the_others_as_they_are() {
    let door = Door::open().await;
    for input in [1, 2] {
        let id = door
            .world
            .submit_to("echo", json!(input), Default::default())
            .await;
        door.world.end(id).await;
    }
    let file = door.world.directory.path().join("data/fishway.db");
    let file = rusqlite::Connection::open(file).unwrap();
    file.busy_timeout(crate::support::PATIENCE).unwrap();
    file.execute("update tasks set output = '3' where input = '1'", [])
        .unwrap();
    let mut page = at(&door, "tasks");
    page.sees("does not match its checksum");
    page.until("document.querySelectorAll('.status.damaged').length === 1");
    page.until("document.querySelectorAll('.row .status.completed').length === 1");
}
