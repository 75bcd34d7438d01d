//! Deletion over HTTP.

use fishway::task::Options;
use serde_json::json;

use super::Door;

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_long_ago_is_deleted_and_counted_before() {
    let door = Door::open().await;
    let done = door
        .world
        .submit_to("echo", json!(1), Options::default())
        .await;
    let failed = door
        .world
        .submit(json!([{ "fail": { "message": "no" } }]))
        .await;
    let waits = door.world.submit(super::super::dashboard::waits()).await;
    for id in [done, failed] {
        door.world.end(id).await;
    }
    let prune = async |body| door.post("/v1/prune", body).await;
    let none = prune(json!({ "older_than": "1h" })).await.is(200);
    assert_eq!(none, json!({ "tasks": 0, "complete": true }));
    let would = prune(json!({ "older_than": "0s", "dry_run": true }))
        .await
        .is(200);
    assert_eq!(would["tasks"], 2);
    let some = prune(json!({ "older_than": "0s", "statuses": ["failed"] }))
        .await
        .is(200);
    assert_eq!(some["tasks"], 1);
    door.get(&format!("/v1/tasks/{failed}"))
        .await
        .refused(404, "not-found", "");
    door.get(&format!("/v1/tasks/{done}")).await.is(200);
    let rest = prune(json!({ "older_than": "0s" })).await.is(200);
    assert_eq!(rest["tasks"], 1);
    door.get(&format!("/v1/tasks/{waits}")).await.is(200);
    prune(json!({ "older_than": "soon" }))
        .await
        .refused(422, "invalid", "write 30d");
    prune(json!({ "older_than": "0s", "statuses": ["running"] }))
        .await
        .refused(422, "invalid", "have not ended");
}
