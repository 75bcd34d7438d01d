//! Grants for requests in the output of `handler describe` and `doctor`.

use serde_json::json;

use crate::support::place::Place;

const GRANT: &str = "[[grants.http]]\n\
    to = \"https://api.example.com\"\n\
    methods = [\"POST\"]\n\
    paths = [\"/v1/\"]\n\
    headers = { Authorization = \"Bearer ${API_TOKEN}\", X-Tenant = \"4711\" }\n\
    secrets = [\"WEBHOOK_KEY\"]\n\
    record = false\n\
    retry = { attempts = 5 }\n\
    rate = \"100/1m\"\n\
    concurrency = 8\n";

#[test]
fn grants_of_requests_are_shown_without_what_may_be_a_secret() {
    let place = Place::with_guests();
    let manifest = place.path("handlers/script.toml");
    let without = place.run(&["doctor"]).out;
    assert!(!without.contains("requests"), "{without}");
    std::fs::write(&manifest, GRANT).unwrap();
    let described = place
        .run(&["handler", "describe", "handlers/script.wasm", "--json"])
        .json();
    let expected = json!([{
        "to": "https://api.example.com",
        "methods": ["POST"],
        "paths": ["/v1/"],
        "headers": ["Authorization", "X-Tenant"],
        "secrets": ["API_TOKEN", "WEBHOOK_KEY"],
        "timeout_ms": 600_000,
        "max_request_bytes": 4 << 20,
        "max_response_bytes": 16 << 20,
        "record": false,
        "retry": { "attempts": 5, "statuses": [429, 503], "backoff_ms": 1_000, "max_backoff_ms": 300_000 },
        "rate": { "requests": 100, "per_ms": 60_000 },
        "concurrency": 8,
    }]);
    assert_eq!(described["grants"]["http"], expected);
    // The value of a header may be a secret that was written there.
    let text = place
        .run(&["handler", "describe", "handlers/script.wasm"])
        .ok();
    assert!(
        text.contains("Authorization") && !text.contains("4711"),
        "{text}"
    );
    let doctor = place.run(&["doctor"]).ok();
    let told = "1 handler may send requests by HTTP: script to https://api.example.com, with API_TOKEN, WEBHOOK_KEY";
    assert!(doctor.contains(told), "{doctor}");
}
