//! The dashboard in a real browser: each test is a page that somebody looks at.

mod doing;
mod jobs;
mod live;
mod reach;
mod requests;
mod safe;
mod walk;

use serde_json::json;

use crate::http::Door;
use crate::support::browser::Browser;

/// A browser on a page of a host.
pub fn at(door: &Door, page: &str) -> Browser {
    let mut browser = Browser::open();
    visit(&mut browser, door, page);
    browser
}

/// Go to a page, and wait until it follows what happens.
pub fn visit(browser: &mut Browser, door: &Door, page: &str) {
    browser.go(&format!("http://{}/#/{page}", door.address));
    let name = page.split(['/', '?']).next().unwrap_or_default();
    // Not the heading of the page before, which stays while another is fetched.
    browser.until(&format!(
        "document.querySelector('main.page-{name} h1') && document.querySelector('.feed.live')"
    ));
}

/// The task waits for a signal that nobody has sent.
pub fn waits() -> serde_json::Value {
    json!([{ "signal-receive": { "name": "go" } }])
}

/// Whether a row of the table, found by its id, has a status.
pub fn row_is(id: impl std::fmt::Display, status: &str) -> String {
    format!("document.querySelector('[data-id=\"{id}\"] .status.{status}')")
}
