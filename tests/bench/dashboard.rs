//! What a person waits for who looks at the dashboard: until a page can be used, and until a change is on the
//! screen. In a real browser, which has no screen here and draws sixty frames in a second.

use fishway::task::{Options, StatusSet};
use serde_json::json;

use crate::browser::Browser;
use crate::ground::Ground;
use crate::http::open;
use crate::report::Report;

/// Loads of a page, and changes that are waited for.
const TIMES: usize = 50;

pub async fn run(report: &mut Report, place: &std::path::Path) {
    let ground = Ground::new(place, "dashboard");
    let host = ground.host().await;
    let (http, address) = open(&ground, &host).await;
    let mut page = Browser::open();
    let address = format!("http://{address}/#/tasks");
    page.go(&address);
    for (kind, cached) in [("for the first time", false), ("again", true)] {
        page.call(
            "Network.setCacheDisabled",
            json!({ "cacheDisabled": !cached }),
        );
        let mut times: Vec<f64> = (0..TIMES).map(|_| usable(&mut page)).collect();
        let (middle, note) = told(&mut times);
        report.figure(
            "dashboard",
            &format!("a page opened {kind} can be used after"),
            middle,
            "ms",
            &note,
        );
    }
    page.until("document.querySelector('.feed.live')");
    page.look(
        "window.seen = new Map(); new MutationObserver(() => {
            for (const row of document.querySelectorAll('.row[data-id]'))
                if (row.querySelector('.status.completed') && !seen.has(row.dataset.id)) seen.set(row.dataset.id, Date.now());
        }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true })",
    );
    let client = host.client();
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let input = json!({ "steps": [{ "signal-receive": { "name": "go" } }] }).to_string();
        let made = client.submit("script", vec![input], Options::default());
        let id = made.await.unwrap()[0].id;
        page.until(&format!(
            "document.querySelector('[data-id=\"{id}\"] .status.waiting')"
        ));
        client.signal(id, "go", "1").await.unwrap();
        let ids = [id];
        let ended = client.wait(&ids, false, StatusSet::terminal(), None);
        let ended = ended.await.unwrap().unwrap()[0].ended_at_ms.unwrap();
        page.until(&format!("seen.has('{id}')"));
        let seen = page.look(&format!("seen.get('{id}')")).as_f64().unwrap();
        times.push((seen - ended as f64).max(0.0));
    }
    let (middle, note) = told(&mut times);
    report.figure(
        "dashboard",
        "from a commit to the screen",
        middle,
        "ms",
        &note,
    );
    drop(page);
    http.close().await;
    host.stop(Default::default()).await;
}

/// Milliseconds from the navigation until all that a page does by itself at its start is done.
fn usable(page: &mut Browser) -> f64 {
    page.reload();
    page.until("document.querySelector('main.page-tasks h1') && performance.getEntriesByName('fishway-interactive').length");
    let mark = page.look("performance.getEntriesByName('fishway-interactive')[0].startTime");
    mark.as_f64().unwrap()
}

/// The middle one, and the slow ones.
fn told(times: &mut [f64]) -> (f64, String) {
    times.sort_by(f64::total_cmp);
    let note = format!(
        "median of {}; 95 % within {:.0} ms; the slowest {:.0} ms",
        times.len(),
        times[times.len() * 95 / 100],
        times[times.len() - 1]
    );
    (times[times.len() / 2], note)
}
