//! `fishway.toml`, the environment and flags: which counts, and what is wrong with one.

use super::{Home, until};
use crate::support::place::{Place, Ran};

fn shown(place: &Place, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let mut command = place.command(arguments);
    command.envs(variables.iter().copied());
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The line of one setting, with one space between its parts.
fn line(told: &str, key: &str) -> String {
    let line = told
        .lines()
        .find(|line| line.split_whitespace().next() == Some(key));
    let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
    words.join(" ")
}

#[test]
fn a_flag_counts_more_than_a_variable_than_a_file_than_nothing() {
    let place = Place::new();
    let check = |variables: &[(&str, &str)], flags: &[&str], expected: &str| {
        let told = shown(&place, variables, &[&["config", "show"], flags].concat()).ok();
        let key = expected.split(' ').next().unwrap();
        assert_eq!(line(&told, key), expected, "{told}");
    };
    check(&[], &[], "grace 10s default");
    check(&[], &[], "keep-failed - default");
    check(&[], &[], "data .fishway default");
    std::fs::write(
        place.path("fishway.toml"),
        "# ours\ngrace = \"3s\"\nkeep-failed = \"90d\"\nconcurrency = 1_6\nhandlers = \"theirs\"\n",
    )
    .unwrap();
    check(&[], &[], "grace 3s fishway.toml:2");
    check(&[], &[], "keep-failed 90d fishway.toml:3");
    check(&[], &[], "concurrency 16 fishway.toml:4");
    check(&[], &[], "handlers theirs fishway.toml:5");
    let variables = [("FISHWAY_GRACE", "4s"), ("FISHWAY_HANDLERS", "mine")];
    check(&variables, &[], "grace 4s environment FISHWAY_GRACE");
    check(
        &variables,
        &[],
        "handlers mine environment FISHWAY_HANDLERS",
    );
    check(&variables, &["--grace", "5s"], "grace 5s flag");
    check(&variables, &["other"], "handlers other flag");
    let told = shown(&place, &[], &["config", "show", "--json", "--park", "1"]).ok();
    assert!(
        told.contains("{\"key\":\"park\",\"value\":\"1\",\"origin\":\"flag\"}"),
        "{told}"
    );
    assert!(
        told.contains("{\"key\":\"keep\",\"value\":null,\"origin\":\"default\"}"),
        "{told}"
    );
}

#[test]
fn every_flag_of_a_host_is_a_setting() {
    let place = Place::new();
    let told = shown(&place, &[], &["config", "show"]).ok();
    let help = shown(&place, &[], &["serve", "--help"]).ok();
    let flags = help.lines().filter_map(|line| {
        let flag = line.trim_start().split_once("--")?.1;
        let (name, value) = flag.split_once(' ')?;
        let starts = line.trim_start().starts_with('-');
        (starts && value.starts_with('<')).then(|| name.to_owned())
    });
    let flags: Vec<String> = flags
        // They say what this one host is for.
        .filter(|name| !["config", "until-done"].contains(&name.as_str()))
        .collect();
    assert!(flags.len() >= 14, "{flags:?}");
    for name in flags {
        assert!(!line(&told, &name).is_empty(), "{name}: {told}");
    }
}

#[test]
fn a_file_may_be_named_and_its_paths_are_relative_to_it() {
    let place = Place::with_guests();
    std::fs::create_dir(place.path("etc")).unwrap();
    std::fs::write(
        place.path("etc/here.toml"),
        "data = \"kept\"\nhandlers = \"../handlers\"\n",
    )
    .unwrap();
    let flag = shown(
        &place,
        &[],
        &["--config", "etc/here.toml", "submit", "echo", "1"],
    )
    .ok();
    assert!(place.path("etc/kept/fishway.db").exists());
    let variable = [("FISHWAY_CONFIG", "etc/here.toml")];
    let started = shown(&place, &[], &["start", "--config", "etc/here.toml"]).ok();
    let waited = shown(&place, &variable, &["wait", flag.trim()]).ok();
    assert_eq!(waited, "1\n");
    let pid = started.trim();
    let told = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(
        told.contains("--data\0etc/kept") && told.contains("--config=etc/here.toml"),
        "{told:?}"
    );
    shown(&place, &variable, &["stop"]).ok();
}

#[test]
fn a_detached_host_has_the_settings_of_whoever_started_it() {
    let home = Home::new();
    let place = &home.place;
    std::fs::write(place.path("fishway.toml"), "grace = \"7s\"\n").unwrap();
    let grace = |variables: &[(&str, &str)], flags: &[&str]| {
        shown(place, variables, &[&["start"], flags].concat()).ok();
        let file = place.path(".fishway/fishway.db");
        let connection = rusqlite::Connection::open(file).unwrap();
        let grace_ms: i64 = connection
            .query_row("select grace_ms from lease", [], |row| row.get(0))
            .unwrap();
        place.run(&["stop"]).ok();
        grace_ms
    };
    assert_eq!(grace(&[], &[]), 7_000);
    assert_eq!(grace(&[("FISHWAY_GRACE", "8")], &[]), 8_000);
    assert_eq!(
        grace(
            &[("FISHWAY_GRACE", "8")],
            &["--grace", "9s", "--", "handlers"]
        ),
        9_000
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_the_nearest_right_thing() {
    let place = Place::new();
    let check = |text: &str, words: &str, hint: &str| {
        std::fs::write(place.path("fishway.toml"), text).unwrap();
        place.run(&["serve"]).refused(2, words, hint);
    };
    check(
        "grace = 1\nconcurency = 2\n",
        "fishway.toml:2: there is no setting \"concurency\"",
        "did you mean concurrency?",
    );
    check(
        "json = \"yes\"\n",
        "fishway.toml:1: there is no setting \"json\"",
        "fishway config show",
    );
    check(
        "\nconcurrency = 0\n",
        "fishway.toml:2: concurrency: \"0\" does not do: 0 is not in 1..=4096",
        "fishway serve --help",
    );
    check(
        "keep = \"never\"\n",
        "fishway.toml:1: keep: \"never\" does not do: \"never\" is no duration",
        "fishway serve --help",
    );
    check(
        "color = \"red\"\n",
        "fishway.toml:1: color: \"red\" is none of auto, always, never",
        "fishway config show",
    );
    check(
        "[grace]\nms = 1\n",
        "fishway.toml:1: grace is a table",
        "KEY = VALUE",
    );
    check("grace = \n", "fishway.toml:1: ", "KEY = VALUE");
    let large = format!("# {}\n", "x".repeat(70_000));
    check(
        &large,
        "fishway.toml cannot be read: it has 70003 bytes",
        "--config",
    );
    std::fs::remove_file(place.path("fishway.toml")).unwrap();
    place.run(&["serve", "--config", "nowhere.toml"]).refused(
        2,
        "nowhere.toml cannot be read: No such file",
        "--config or FISHWAY_CONFIG",
    );
    shown(&place, &[("FISHWAY_PARK", "soon")], &["serve"]).refused(
        2,
        "the variable FISHWAY_PARK: \"soon\" does not do: \"soon\" is no duration",
        "fishway config show",
    );
    // The flag is at fault here, and the variable is not.
    let flag = shown(
        &place,
        &[("FISHWAY_PARK", "1s")],
        &["serve", "--park", "soon"],
    );
    assert_eq!(flag.code, 2);
    assert!(
        flag.err.contains("'soon' for '--park <DURATION>'"),
        "{}",
        flag.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_may_be_set_in_the_file() {
    let home = Home::new();
    let id = home.place.run(&["submit", "echo", "1"]).ok();
    home.start(&[]);
    home.place.run(&["wait", id.trim()]).ok();
    home.place.run(&["stop"]).ok();
    std::fs::write(home.place.path("fishway.toml"), "keep-completed = 0\n").unwrap();
    home.start(&[]);
    let client = home.client();
    until(&client, || {
        let counts = client.store().counts(None).unwrap();
        counts.iter().all(|(_, count)| *count == 0)
    })
    .await;
}
