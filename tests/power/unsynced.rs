//! A commit that is in memory only, since who made it was killed before its sync: others can read it.
//! Whoever hears of it hears of what the disk has.

use std::os::unix::process::ExitStatusExt;

use super::disk::{Disk, Record};
use super::{Scene, program, sound, tasks};

#[test]
fn a_commit_that_a_killed_process_had_not_synced_is_on_disk_before_anyone_is_told_of_it() {
    let scene = Scene::fresh();
    let mut disk = Disk::load(&scene.root());
    let submit = |name: &str| {
        let words = ["submit", "script", &program(name), "--key", name];
        words.map(str::to_owned)
    };
    let words = submit("plain-1");
    scene.told(&words.each_ref().map(String::as_str), "submit plain-1");
    let words = submit("plain-2");
    let mut dies = scene.recorded(&words.each_ref().map(String::as_str), Some("dies"));
    let died = dies.env("FISHWAY_POWER_DIES", "1").output().unwrap();
    assert_eq!(died.status.signal(), Some(9), "{died:?}");
    let unsynced = scene.records().len();
    let list = scene.told(&["list", "--json"], "list");
    assert!(list.contains("plain-2"), "it is there to be read: {list}");

    let records = scene.records();
    let tells = |record: &Record| match record {
        Record::Told { by, text } => by == "list" && text.contains("plain-2"),
        _ => false,
    };
    let told = records.iter().position(tells).unwrap();
    // What the power leaves of it when it goes now.
    let left = |disk: &Disk| -> Vec<String> {
        let left = Scene::new();
        disk.fail_at_worst(&scene.root(), &left.root());
        let found = tasks(&left.root().join(".fishway")).unwrap();
        sound(&left).unwrap();
        let keys = found.into_values().filter_map(|task| task.key);
        let mut keys: Vec<String> = keys.map(|key| key.to_string()).collect();
        keys.sort();
        keys
    };
    let mut happen = |records: &[Record]| {
        records.iter().for_each(|record| disk.happen(record));
        left(&disk)
    };
    assert_eq!(
        happen(&records[..unsynced]),
        ["plain-1"],
        "nobody knows of it"
    );
    assert_eq!(happen(&records[unsynced..=told]), ["plain-1", "plain-2"]);
}
