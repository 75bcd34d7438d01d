//! Batch jobs over HTTP.

use serde_json::{Value, json};

use super::Door;

fn script(steps: Value) -> Value {
    json!({ "steps": steps })
}

/// The job once it has ended.
async fn ended(door: &Door, job: &Value) -> Value {
    let id = job["job_id"].as_str().unwrap();
    door.get(&format!("/v1/tasks/{id}?wait=60s")).await.is(200);
    door.get(&format!("/v1/jobs/{id}")).await.is(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_made_of_a_body_and_its_results_come_in_pages() {
    let door = Door::open().await;
    let new = json!({
        "handler": "script", "name": "numbers", "on_failure": "collect", "queue": "slow", "priority": 4,
        "max_attempts": 1, "source": "a test",
        "inputs": [
            script(json!([{ "return": 1 }])),
            script(json!([{ "fail": { "message": "not this one" } }])),
            script(json!([{ "return": 3 }])),
        ],
    });
    let made = door.post("/v1/jobs", new).await;
    let job = made.is(201);
    let id = job["job_id"].as_str().unwrap();
    assert_eq!(made.header("location"), Some(&*format!("/v1/jobs/{id}")));
    assert_eq!(
        (&job["name"], &job["inputs"], &job["progress"]["total"]),
        (&json!("numbers"), &json!("a test"), &json!(3))
    );
    let job = ended(&door, &job).await;
    assert_eq!(job["status"], "COMPLETED");
    assert_eq!(job["progress"]["completed"], 2);
    assert_eq!(job["progress"]["failed"], 1);
    // By its name, too, in any list.
    assert_eq!(door.get("/v1/jobs/numbers").await.is(200), job);
    let list = door.get("/v1/jobs?status=completed").await.is(200);
    assert_eq!(list["jobs"], json!([job]));
    assert_eq!(
        door.get("/v1/jobs?status=failed").await.is(200)["jobs"],
        json!([])
    );
    let page = door.get("/v1/jobs/numbers/results?limit=2").await.is(200);
    let lines = |page: &Value| -> Vec<u64> {
        let results = page["results"].as_array().unwrap();
        results
            .iter()
            .map(|unit| unit["line"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(lines(&page), [1, 2]);
    assert_eq!(page["results"][0]["output"], 1);
    assert_eq!(page["results"][1]["error"], "not this one");
    let next = page["next"].as_u64().unwrap();
    let rest = door
        .get(&format!("/v1/jobs/numbers/results?after={next}"))
        .await
        .is(200);
    assert_eq!(lines(&rest), [3]);
    let last = door.get("/v1/jobs/numbers/results?after=3").await.is(200);
    assert_eq!((lines(&last), &last["next"]), (vec![], &Value::Null));
    let failed = door
        .get("/v1/jobs/numbers/results?failed=true")
        .await
        .is(200);
    assert_eq!(lines(&failed), [2]);
    // Each unit has what the job was made with.
    let unit = page["results"][0]["id"].as_str().unwrap();
    let unit = door.get(&format!("/v1/tasks/{unit}")).await.is(200);
    assert_eq!(
        (
            &unit["queue"],
            &unit["priority"],
            &unit["max_attempts"],
            &unit["line"]
        ),
        (&json!("slow"), &json!(4), &json!(1), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn none_of_a_jobs_units_starts_before_the_last_has_come() {
    let door = Door::open().await;
    let new = json!({ "handler": "echo", "inputs": [10, 20], "total": 4, "max_attempts": 2 });
    let job = door.post("/v1/jobs", new).await.is(201);
    let id = job["job_id"].as_str().unwrap();
    assert_eq!(
        (&job["name"], &job["status"]),
        (&json!("job"), &json!("CREATING"))
    );
    let units = format!("/v1/jobs/{id}/units");
    let unit = |line: u64, input: u64| json!({ "line": line, "input": input });
    let more = |units: Vec<Value>| json!({ "units": units });
    let more_of = door.post(&units, more(vec![unit(5, 50)])).await.is(200);
    assert_eq!(more_of["status"], "CREATING");
    assert_eq!(more_of["progress"]["running"], 0);
    // What was sent before is not kept twice, and lines do not go back.
    for line in [5, 3] {
        door.post(&units, more(vec![unit(line, 1)])).await.refused(
            409,
            "refused",
            "does not come after line 5",
        );
    }
    door.post(&units, more(vec![unit(7, 1), unit(7, 2)]))
        .await
        .refused(409, "refused", "line 7 does not come after line 7");
    door.post(&units, more(vec![unit(7, 70), unit(8, 80)]))
        .await
        .refused(409, "refused", "");
    let whole = door.post(&units, more(vec![unit(9, 90)])).await.is(200);
    let whole = ended(&door, &whole).await;
    assert_eq!(whole["status"], "COMPLETED", "{whole}");
    let page = door.get(&format!("/v1/jobs/{id}/results")).await.is(200);
    let results = page["results"].as_array().unwrap();
    let results: Vec<_> = results
        .iter()
        .map(|unit| {
            (
                unit["line"].as_u64().unwrap(),
                unit["output"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(results, [(1, 10), (2, 20), (5, 50), (9, 90)]);
    let last = page["results"][3]["id"].as_str().unwrap();
    let last = door.get(&format!("/v1/tasks/{last}")).await.is(200);
    assert_eq!(last["max_attempts"], 2, "as the first");
    door.post(&units, more(vec![unit(10, 1)]))
        .await
        .refused(409, "refused", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_stopped_resumed_and_cancelled() {
    let door = Door::open().await;
    let half = json!({ "handler": "echo", "total": 1 });
    let job = door.post("/v1/jobs", half.clone()).await.is(201);
    let path = format!("/v1/jobs/{}", job["job_id"].as_str().unwrap());
    let stopped = door.post(&format!("{path}/stop"), json!({})).await.is(200);
    assert_eq!(stopped["changed"], true);
    let again = door.post(&format!("{path}/stop"), json!({})).await.is(200);
    assert_eq!(again["changed"], false);
    let unit = json!({ "units": [{ "line": 1, "input": 1 }] });
    let whole = door.post(&format!("{path}/units"), unit).await.is(200);
    assert_eq!(
        (&whole["status"], &whole["paused"]),
        (&json!("PAUSED"), &json!(true))
    );
    assert_eq!(
        door.get("/v1/jobs?status=paused").await.is(200)["jobs"],
        json!([whole])
    );
    let resumed = door
        .post(&format!("{path}/resume"), json!({}))
        .await
        .is(200);
    assert_eq!(
        (&resumed["changed"], &resumed["job"]["paused"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(ended(&door, &job).await["status"], "COMPLETED");
    let over = door.post(&format!("{path}/stop"), json!({})).await.is(200);
    assert_eq!(over["changed"], false);
    door.post(&format!("{path}/resume"), json!({}))
        .await
        .refused(409, "refused", "");
    let other = door.post("/v1/jobs", half).await.is(201);
    let id = other["job_id"].as_str().unwrap();
    door.post(&format!("/v1/tasks/{id}/cancel"), json!({}))
        .await
        .is(200);
    assert_eq!(ended(&door, &other).await["status"], "CANCELLED");
    // The newest of a name is meant; each has its own id.
    let list = door.get("/v1/jobs?limit=1").await.is(200);
    assert_eq!(list["jobs"][0]["job_id"], id);
    let next = list["next"].as_str().unwrap();
    let rest = door.get(&format!("/v1/jobs?after={next}")).await.is(200);
    assert_eq!(rest["jobs"][0]["job_id"], job["job_id"]);
    assert_eq!(rest["next"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_job_is_refused_and_nothing_is_kept() {
    let door = Door::open().await;
    for (body, status, words) in [
        (
            json!({ "handler": "ecko", "inputs": [1] }),
            422,
            "did you mean echo?",
        ),
        (
            json!({ "handler": "echo", "inputs": [1], "on_failure": "skip" }),
            400,
            "fail-fast",
        ),
        (
            json!({ "handler": "echo", "inputs": [1, 2], "total": 1 }),
            422,
            "more than the total",
        ),
        (
            json!({ "handler": "echo", "total": 10_000_001 }),
            422,
            "larger than",
        ),
        (
            json!({ "handler": "echo", "inputs": [1], "concurrency": 0 }),
            422,
            "0",
        ),
        (
            json!({ "handler": "echo", "inputs": [1, "x".repeat(4 << 20)] }),
            422,
            "line 2: the payload",
        ),
    ] {
        door.post("/v1/jobs", body).await.refused(
            status,
            if status == 400 { "usage" } else { "invalid" },
            words,
        );
    }
    let many = vec![0; 100_001];
    door.post("/v1/jobs", json!({ "handler": "echo", "inputs": many }))
        .await
        .refused(413, "too-large", "/v1/jobs/{job}/units");
    door.get("/v1/jobs/nobody")
        .await
        .refused(404, "not-found", "fishway job list");
    door.get("/v1/jobs?status=dreaming")
        .await
        .refused(400, "usage", "no status of a job");
    door.get("/v1/jobs/nobody/results?after=9007199254740992")
        .await
        .refused(400, "usage", "no line is larger");
    assert_eq!(door.get("/v1/jobs").await.is(200)["jobs"], json!([]));
    let job = door
        .post("/v1/jobs", json!({ "handler": "echo", "total": 5 }))
        .await
        .is(201);
    let units = format!("/v1/jobs/{}/units", job["job_id"].as_str().unwrap());
    let unit = |line: u64| json!({ "units": [{ "line": line, "input": 1 }] });
    door.post(&units, unit(0))
        .await
        .refused(409, "refused", "does not come after line 0");
    door.post(&units, unit(1 << 53))
        .await
        .refused(422, "invalid", "is larger than");
    let many: Vec<Value> = (1..=100_001)
        .map(|line| json!({ "line": line, "input": 0 }))
        .collect();
    door.post(&units, json!({ "units": many }))
        .await
        .refused(413, "too-large", "more than 100000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_and_what_did_not_complete_of_it_runs_again() {
    let door = Door::open().await;
    let new = json!({
        "handler": "script", "name": "mixed", "concurrency": 1,
        "inputs": [script(json!([{ "return": 1 }])), script(json!([{ "signal-receive": { "name": "go" } }]))],
    });
    door.post("/v1/jobs", new).await.is(201);
    let units = door.get("/v1/tasks?handler=script").await.is(200);
    let waiting = units["tasks"].as_array().unwrap();
    let waiting = waiting.iter().max_by_key(|unit| unit["line"].as_u64());
    let waiting = format!("/v1/tasks/{}", waiting.unwrap()["id"].as_str().unwrap());
    let wait = format!("{waiting}?wait=60s&status=suspended");
    door.get(&wait).await.is(200);
    let stopped = door
        .post("/v1/jobs/mixed/cancel", json!({ "now": true }))
        .await
        .is(200);
    assert_eq!(
        (
            &stopped["cancelled"]["cancelled"],
            &stopped["job"]["status"]
        ),
        (&json!(true), &json!("CANCELLED")),
        "{stopped}"
    );
    assert_eq!(stopped["job"]["progress"]["completed"], 1);
    assert_eq!(stopped["job"]["progress"]["cancelled"], 1);
    door.post("/v1/jobs/mixed/cancel", json!({})).await.refused(
        409,
        "refused",
        "was cancelled already",
    );
    let retried = door.post("/v1/jobs/mixed/retry", json!({})).await.is(200);
    assert_eq!(retried["status"], "RUNNING");
    door.get(&wait).await.is(200);
    door.post(
        &format!("{waiting}/signals"),
        json!({ "name": "go", "value": 1 }),
    )
    .await
    .is(201);
    let done = ended(&door, &retried).await;
    assert_eq!(done["status"], "COMPLETED");
    assert_eq!(done["progress"]["completed"], 2);
    for verb in ["cancel", "retry"] {
        door.post(&format!("/v1/jobs/none/{verb}"), json!({}))
            .await
            .refused(404, "not-found", "");
    }
    door.post("/v1/jobs/mixed/cancel", json!({ "soon": 1 }))
        .await
        .refused(400, "usage", "unknown field `soon`");
}
