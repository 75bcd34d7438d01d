//! `metrics`, as Prometheus reads it.

use crate::support::place::Place;

#[test]
fn metrics_are_printed_for_prometheus_and_outlive_host_and_tasks() {
    let place = Place::with_guests();
    let host = place.serve();
    let child = "{\"spawn\":{\"handler\":\"echo\",\"input\":1}}";
    let wait = "{\"wait-all\":{\"ids\":[\"$0\",\"$1\"]}}";
    let nothing = "{\"wait-all\":{\"ids\":[\"$3\"],\"timeout\":20}}";
    let sleeper =
        "{\"spawn\":{\"handler\":\"script\",\"input\":{\"steps\":[{\"sleep\":3600000}]}}}";
    // On a busy machine it may fall asleep only after the timeout of the other wait.
    let asleep = "{\"wait-all\":{\"ids\":[\"$3\"],\"statuses\":[\"waiting\"]}}";
    let program = format!("{{\"steps\":[{child},{child},{wait},{sleeper},{asleep},{nothing}]}}");
    let id = place.run(&["submit", "script", &program]).ok();
    place.run(&["wait", id.trim()]).ok();
    drop(host);
    let text = place.run(&["metrics"]).ok();
    let has = |text: &str, line: &str| {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    };
    for line in [
        "# TYPE fishway_tasks gauge",
        "# TYPE fishway_wait_duration_seconds histogram",
        "# TYPE fishway_child_tasks_spawned_total counter",
        "fishway_tasks{status=\"completed\"} 3",
        "fishway_tasks{status=\"failed\"} 0",
        "fishway_tasks{status=\"waiting\"} 1",
    ] {
        has(&text, line);
    }
    assert!(text.lines().all(|line| line.starts_with("# HELP fishway_")
        || line.starts_with("# TYPE fishway_")
        || line.starts_with("fishway_")));
    place.run(&["delete", id.trim(), "--cancel-children"]).ok();
    let text = place.run(&["metrics"]).ok();
    for line in [
        "fishway_tasks{status=\"completed\"} 0",
        "fishway_tasks_ended_total{status=\"completed\",task_type=\"echo\"} 2",
        "fishway_tasks_ended_total{status=\"cancelled\",task_type=\"script\"} 1",
        "fishway_child_tasks_spawned_total{child_type=\"echo\",parent_type=\"script\"} 2",
        "fishway_child_tasks_spawned_total{child_type=\"script\",parent_type=\"script\"} 1",
        "fishway_wait_timeouts_total{task_type=\"script\"} 1",
    ] {
        has(&text, line);
    }
    let bucket = "fishway_wait_duration_seconds_bucket{le=\"+Inf\",task_type=\"script\"} ";
    assert!(text.contains(bucket), "{text}");
    let series = place.run(&["metrics", "--json"]).ok();
    assert!(
        series
            .lines()
            .any(|line| line.contains("\"labels\":{\"task_type\":\"script\"}"))
    );
}
