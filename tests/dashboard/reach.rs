//! Sizes, colours and many rows: what does not depend on the machine. Times are those of `cargo bench -- dashboard`.

use serde_json::{Value, json};

use super::{at, visit};
use crate::http::Door;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_whole_dashboard_is_smaller_than_300_kilobytes() {
    let door = Door::open().await;
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("host/http/dashboard");
    let mut files = 0;
    let mut bytes = 0;
    let mut left = vec![directory.clone()];
    while let Some(next) = left.pop() {
        for found in std::fs::read_dir(next).unwrap() {
            let path = found.unwrap().path();
            let name = path
                .strip_prefix(&directory)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if path.is_dir() {
                left.push(path);
            } else if !["vendor/LICENSES", "vendor/README.md"].contains(&&*name) {
                let served = match &*name {
                    "index.html" => door.get("/").await,
                    name => door.get(&format!("/dashboard/{name}")).await,
                };
                assert_eq!(served.status, 200, "{name} is served");
                files += 1;
                bytes += served.body.len();
            }
        }
    }
    println!("{files} files, {bytes} bytes");
    assert!(bytes < 300 * 1000, "{bytes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_thousand_tasks_are_scrolled_with_few_rows_in_the_document() {
    let door = Door::open().await;
    door.send("PATCH", "/v1/queues/default", json!({ "paused": true }))
        .await
        .is(200);
    let inputs: Vec<Value> = (0..100_000).map(|number| json!(number)).collect();
    let made = door
        .post(
            "/v1/tasks/bulk",
            json!({ "handler": "echo", "inputs": inputs }),
        )
        .await;
    let made = made.is(201);
    let oldest = made["tasks"][0]["id"].as_str().unwrap().to_owned();
    let mut page = at(&door, "tasks");
    page.until("document.querySelector('.row[data-id]') && document.querySelector('.rows').getAttribute('aria-rowcount') === '100001'");
    page.look(
        "window.frames_ = []; window.rows_ = 0; (() => {
            const box = document.querySelector('.rows');
            window.scrolled = new Promise((done) => {
                let before = performance.now();
                let left = 300;
                const step = () => {
                    const now = performance.now();
                    frames_.push(now - before);
                    before = now;
                    rows_ = Math.max(rows_, document.querySelectorAll('.row').length);
                    if (!left--) return done(true);
                    box.scrollTop += 1100;
                    requestAnimationFrame(step);
                };
                requestAnimationFrame(step);
            });
        })()",
    );
    page.look("scrolled");
    let rows = page.look("rows_").as_u64().unwrap();
    assert!(rows < 120, "{rows} rows in the document");
    let mut frames: Vec<f64> = serde_json::from_value(page.look("frames_")).unwrap();
    frames.sort_by(f64::total_cmp);
    println!(
        "a frame while scrolling 100,000 rows: median {:.1} ms, 95 % {:.1} ms, longest {:.1} ms; {rows} rows at most",
        frames[frames.len() / 2],
        frames[frames.len() * 95 / 100],
        frames[frames.len() - 1]
    );
    // To the very end, and back.
    page.look("document.querySelector('.rows').scrollTop = 1e9");
    page.until(&format!("document.querySelector('[data-id=\"{oldest}\"]')"));
    page.picture("tasks");
    page.look("document.querySelector('.rows').scrollTop = 0");
    let newest = made["tasks"][99_999]["id"].as_str().unwrap();
    page.until(&format!("document.querySelector('[data-id=\"{newest}\"]')"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn light_and_dark_follow_the_system_and_the_switch_and_every_status_can_be_read() {
    let door = Door::open().await;
    let id = door
        .world
        .submit(json!([{ "fail": { "message": "no" } }]))
        .await;
    door.world.end(id).await;
    let mut page = at(&door, "overview");
    let dark = "getComputedStyle(document.documentElement).colorScheme === 'dark'";
    let light = "getComputedStyle(document.documentElement).colorScheme === 'light'";
    // WCAG 2: 4.5 to 1 for text.
    let contrast = "(() => {
        const root = getComputedStyle(document.documentElement);
        const light = (name) => {
            const code = root.getPropertyValue(name).trim();
            const part = (at) => { const one = parseInt(code.slice(at, at + 2), 16) / 255; return one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4; };
            return 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
        };
        const low = [];
        for (const text of ['--text', '--faint', '--accent', '--pending', '--running', '--waiting', '--completed', '--failed', '--cancelled', '--expired', '--skipped'])
            for (const back of ['--back', '--card', '--accent-back']) {
                const [a, b] = [light(text), light(back)].sort((a, b) => b - a);
                if ((a + 0.05) / (b + 0.05) < 4.5) low.push(`${text} on ${back}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
            }
        return low.join('; ');
    })()";
    page.scheme("light");
    page.until(light);
    assert_eq!(page.look(contrast), "", "light");
    page.picture("overview-light");
    page.scheme("dark");
    page.until(dark);
    assert_eq!(page.look(contrast), "", "dark");
    page.picture("overview-dark");
    page.click("button", "theme: auto");
    page.until(light);
    page.reload();
    page.until("document.querySelector('.feed.live')");
    page.until(light);
    page.click("button", "theme: light");
    page.scheme("light");
    page.until(dark);
    // A status has a word and a sign; the colour says nothing alone.
    page.until("[...document.querySelectorAll('.status')].every((one) => one.innerText.trim().length > 3 && one.querySelector('.sign'))");
    // A narrow window is scrolled in one direction alone.
    page.size(400, 800);
    for place in ["overview", "tasks", "workflows", "handlers", "host"] {
        visit(&mut page, &door, place);
        page.until("document.querySelector('main').scrollWidth <= document.querySelector('main').clientWidth + 1");
    }
    page.picture("narrow");
}
