//! `delete` and `prune`, and how the other commands speak of what is gone.

use crate::support::place::{Place, Served};

/// A parent that has completed, and its child that runs the other steps.
fn family(place: &Place, steps: &str) -> (String, String) {
    let child = format!("{{\"handler\":\"script\",\"input\":{{\"steps\":[{steps}]}}}}");
    let program = format!("{{\"steps\":[{{\"spawn\":{child}}}]}}");
    let parent = place.run(&["submit", "script", &program]).ok();
    let parent = parent.trim().to_owned();
    place.run(&["wait", &parent]).ok();
    let shown = place.run(&["get", &parent, "--json"]).json();
    let child = shown["child_task_ids"][0].as_str().unwrap().to_owned();
    (parent, child)
}

fn done(place: &Place) -> String {
    let id = place.run(&["submit", "echo", "1"]).ok().trim().to_owned();
    place.run(&["wait", &id]).ok();
    id
}

#[test]
fn an_ended_task_is_deleted_and_no_other() {
    let place = Place::with_guests();
    let id = place.run(&["submit", "echo", "1"]).ok().trim().to_owned();
    place
        .run(&["delete", &id])
        .refused(1, "cannot be deleted: it is pending", "fishway cancel");
    place.run(&["cancel", &id]).ok();
    let deleted = place.run(&["delete", &id]);
    assert_eq!(deleted.err, format!("deleted {id}\n"));
    place
        .run(&["get", &id])
        .refused(1, "no task has an id that begins", "fishway list");
    place
        .run(&["delete", &id])
        .refused(1, "no task has an id that begins", "fishway list");
}

#[test]
fn a_deletion_takes_the_tree_and_may_cancel_what_lives_in_it() {
    let place = Place::with_guests();
    let host = place.serve();
    let (parent, child) = family(&place, "{\"sleep\":3600000}");
    place.run(&["wait", &child, "--status", "waiting"]).ok();
    place.run(&["delete", &parent]).refused(
        1,
        &format!("task {child} below it is waiting"),
        "--cancel-children",
    );
    let deleted = place.run(&["delete", &parent, "--cancel-children", "--json"]);
    assert_eq!(deleted.json()["deleted"], 2);
    assert_eq!(place.run(&["list"]).ok(), "");

    let (parent, child) = family(&place, "{\"loop\":1}");
    place.run(&["wait", &child, "--status", "running"]).ok();
    // Its host dies, and so nobody can stop it.
    drop(host);
    place
        .run(&["delete", &parent, "--cancel-children"])
        .refused(
            1,
            &format!("task {child} below it was asked to stop"),
            "goes on then",
        );
    assert_eq!(place.run(&["list"]).ok().lines().count(), 2);
    let _host = place.serve();
    place.run(&["wait", &child]);
    place.run(&["delete", &parent, "--cancel-children"]).ok();
    assert_eq!(place.run(&["list"]).ok(), "");
}

#[test]
fn an_orphan_runs_on_and_its_parent_is_shown_as_deleted() {
    let place = Place::with_guests();
    let _host = place.serve();
    let (parent, child) = family(&place, "{\"sleep\":3600000}");
    let deleted = place.run(&["delete", &parent, "--only"]);
    assert_eq!(deleted.err, format!("deleted {parent}\n"));
    let task = place.run(&["get", &child, "--json"]).json();
    assert_eq!(task["parent_task_id"], parent.as_str());
    assert_eq!(
        (&task["status"], &task["parent_deleted"]),
        (&"waiting".into(), &true.into())
    );
    let shown = place.run(&["get", &child]).ok();
    assert!(
        shown.contains(&format!("parent    {parent} (deleted)")),
        "{shown}"
    );
    let trace = place.run(&["trace", &child]).ok();
    assert!(
        trace.starts_with(&format!("in {parent} (deleted)\n")),
        "{trace}"
    );
    let trace = place.run(&["trace", &child, "--json"]).json();
    assert_eq!(trace["parent_deleted"], true);
    let listed = place.run(&["list", "--parent", &parent]);
    assert!(listed.out.starts_with(&child), "{}", listed.out);
    assert_eq!(listed.err, format!("{parent} (deleted)\n"));
    place
        .run(&["trace", &parent])
        .refused(1, "no task has an id", "fishway list");
}

#[test]
fn pruning_counts_and_deletes_while_a_host_serves_and_while_none_does() {
    let place = Place::with_guests();
    let check = |arguments: &[&str], expected: &str| {
        let printed = place.run(&[&["prune"], arguments].concat()).ok();
        assert_eq!(printed, format!("{expected}\n"), "{arguments:?}");
    };
    let serving = |host: Option<Served>| {
        check(&[], "0 tasks deleted");
        check(
            &["--older-than", "0", "--dry-run"],
            "1 task would be deleted",
        );
        check(
            &["--older-than", "0", "--status", "failed,cancelled"],
            "0 tasks deleted",
        );
        check(&["--older-than", "0", "--status", "done"], "1 task deleted");
        check(&["--older-than", "0"], "0 tasks deleted");
        drop(host);
    };
    let host = place.serve();
    done(&place);
    serving(Some(host));
    let host = place.serve();
    done(&place);
    drop(host);
    serving(None);
    let waits = place.run(&["submit", "echo", "1"]).ok().trim().to_owned();
    check(&["--older-than", "0"], "0 tasks deleted");
    place.run(&["prune", "--status", "running"]).refused(
        2,
        "running tasks are not pruned",
        "completed, failed",
    );
    assert_eq!(place.run(&["prune", "--older-than", "soon"]).code, 2);
    place.run(&["get", &waits]).ok();
}
