//! A commit that is in memory only, since who made it was killed before its sync: others can read it.
//! Whoever hears of it hears of what the disk has.

use std::collections::HashSet;
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

/// The simulator leaves out what could not be without this: pages of a log that begins again, behind the head of
/// the log before.
#[test]
fn the_head_of_a_log_is_on_disk_before_a_page_is_written_behind_it() {
    let scene = Scene::fresh();
    for name in ["plain-1", "plain-2"] {
        scene.told(&["submit", "script", &program(name)], "submit");
    }
    let records = scene.records();
    let log = |record: &Record| match record {
        Record::Created { inode, path } if path.to_string_lossy().ends_with("-wal") => Some(*inode),
        _ => None,
    };
    let logs: HashSet<u64> = records.iter().filter_map(log).collect();
    let mut heads = 0;
    for (at, record) in records.iter().enumerate() {
        let Record::Written {
            inode, offset: 0, ..
        } = record
        else {
            continue;
        };
        if !logs.contains(inode) {
            continue;
        }
        heads += 1;
        let of_it = |record: &&Record| match record {
            Record::Written { inode: of, .. } | Record::Synced { inode: of } => of == inode,
            _ => false,
        };
        let next = records[at + 1..].iter().find(of_it);
        let synced = matches!(next, Some(Record::Synced { .. }));
        assert!(synced, "after the head of a log comes {next:?}");
    }
    assert!(heads >= 2, "{heads}");
}
