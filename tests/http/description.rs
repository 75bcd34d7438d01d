//! What `/openapi.json` says, held against what the host does.

use std::path::{Path, PathBuf};
use std::process::Command;

use fishway::http::document;

use super::Door;
use crate::support::python;

/// A Python program. One directory has all packages that these tests need; the last module exists when all are
/// installed.
fn program(name: &str) -> PathBuf {
    let packages = ["schemathesis>=4,<5", "openapi-python-client>=0.26"];
    let modules = "schemathesis, openapi_python_client";
    python::python("schemathesis", modules, &packages).with_file_name(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_does_what_its_description_says() {
    let door = Door::open().await;
    // Something to find.
    let id = door
        .world
        .submit_to("echo", serde_json::json!(1), Default::default())
        .await;
    door.world.end(id).await;
    let schemathesis = program("schemathesis");
    let address = door.address;
    let ran = tokio::task::spawn_blocking(move || {
        Command::new(schemathesis)
            .args(["run", &format!("http://{address}/openapi.json")])
            .args([
                "--phases",
                "examples,coverage,fuzzing",
                "--max-examples",
                "15",
                "--seed",
                "1",
            ])
            // A wait of five minutes, and a stream without an end, are no failures.
            .args(["--exclude-path", "/v1/events", "--exclude-path", "/v1/wait"])
            // It cannot make bytes of WebAssembly.
            .args(["--exclude-operation-id", "put_handler"])
            // What cannot be done is refused, though it is well written.
            .args([
                "--exclude-checks",
                "positive_data_acceptance,unsupported_method",
            ])
            .args(["--request-timeout", "20", "--no-color", "--workers", "1"])
            .env("HYPOTHESIS_STORAGE_DIRECTORY", std::env::temp_dir())
            .current_dir(std::env::temp_dir())
            .output()
            .unwrap()
    });
    let ran = ran.await.unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[test]
fn the_description_in_the_docs_is_the_one_of_the_code() {
    let mut said = serde_json::to_string_pretty(&document()).unwrap();
    said.push('\n');
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &said).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == said,
        "docs/openapi.json is old: UPDATE_DOCS=1 cargo test description"
    );
}

#[test]
fn a_python_client_can_be_made_of_the_description() {
    let program = program("openapi-python-client");
    let place = tempfile::tempdir().unwrap();
    let description = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let made = Command::new(program)
        .args([
            "generate",
            "--meta",
            "none",
            "--output-path",
            "fishway_client",
            "--path",
        ])
        .arg(&description)
        .current_dir(place.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stdout);
    assert!(
        made.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&made.stderr)
    );
    assert!(
        place
            .path()
            .join("fishway_client/api/tasks/submit_task.py")
            .exists()
    );
}

/// The integers of a request's body: each with the least or the greatest value that its schema takes, and with
/// the value one further.
fn edges(operation: &serde_json::Value, shapes: &serde_json::Value) -> Vec<(String, i64, i64)> {
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    let Some(name) = body["$ref"].as_str() else {
        return Vec::new();
    };
    let mut shape = &shapes[name.rsplit('/').next().unwrap()];
    // One of several: the first has all parameters.
    if let Some(name) = shape["oneOf"][0]["$ref"].as_str() {
        shape = &shapes[name.rsplit('/').next().unwrap()];
    }
    let mut found = Vec::new();
    for (field, schema) in shape["properties"].as_object().into_iter().flatten() {
        let integer = serde_json::json!("integer");
        let kind = &schema["type"];
        if *kind != integer
            && !kind
                .as_array()
                .is_some_and(|kinds| kinds.contains(&integer))
        {
            continue;
        }
        for (edge, step) in [("minimum", -1), ("maximum", 1)] {
            if let Some(edge) = schema[edge].as_i64() {
                found.push((field.clone(), edge, edge + step));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_are_taken_to_their_edges_and_not_one_further_and_with_a_fraction_of_zero() {
    let door = Door::open().await;
    let api = serde_json::to_value(document()).unwrap();
    let least = [
        (
            "/v1/tasks",
            "post",
            serde_json::json!({ "handler": "echo" }),
        ),
        (
            "/v1/tasks/bulk",
            "post",
            serde_json::json!({ "handler": "echo", "inputs": [1] }),
        ),
        ("/v1/jobs", "post", serde_json::json!({ "handler": "echo" })),
        (
            "/v1/schedules",
            "post",
            serde_json::json!({ "name": "s", "handler": "echo", "every_ms": 60_000, "replace": true }),
        ),
        (
            "/v1/workflows",
            "post",
            serde_json::json!({ "document": { "name": "w", "jobs": [{ "key": "echo" }] } }),
        ),
        ("/v1/queues/{name}", "patch", serde_json::json!({})),
    ];
    let mut tried = 0;
    for (path, method, body) in least {
        for (field, edge, beyond) in
            edges(&api["paths"][path][method], &api["components"]["schemas"])
        {
            let send = async |value: serde_json::Value| {
                let mut body = body.clone();
                body[&field] = value;
                let path = path.replace("{name}", "q");
                door.send(&method.to_uppercase(), &path, body).await.status
            };
            let place = format!("{path} {field} {edge}");
            assert!(send(edge.into()).await < 300, "{place}");
            assert!(send((edge as f64).into()).await < 300, "{place}.0");
            let status = send(beyond.into()).await;
            assert!(
                (400..500).contains(&status),
                "{place}: {beyond} gives {status}"
            );
            assert_eq!(send((edge as f64 + 0.5).into()).await, 400, "{place}.5");
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}
