//! A host on a machine that is short of something: what it cannot do now it does later, and nothing is lost by that.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use fishway::client::Client;
use fishway::loader::Digest;
use fishway::task::{FailureKind, Status, TaskId};
use serde_json::json;

use super::directory::Serving;
use super::{Home, until};
use crate::support::guests::guest;
use crate::support::place::Place;

/// The files of compiled code in a data directory.
fn codes(place: &Place) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place.path(".fishway/compiled")).unwrap();
    let code = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "cwasm");
    entries
        .map(|entry| entry.unwrap().path())
        .filter(code)
        .collect()
}

/// Wait until a task rests because its host could not begin it. The sentences that tell why.
async fn given_back(client: &Client, id: TaskId) -> (String, String) {
    let mut told = None;
    until(client, || {
        let detail = client.detail(id).unwrap();
        let rests = detail.task.status == Status::Pending && detail.task.run_at_ms.is_some();
        if let Some(failure) = detail.task.failure.as_ref().filter(|_| rests) {
            assert_eq!(failure.kind, FailureKind::HostLost);
            assert_eq!((detail.task.attempt, detail.task.restarts), (1, 0));
            let why = client.why(&detail.task, &detail.holds, None).unwrap();
            told = Some((failure.message.clone(), why[0].sentence.clone()));
        }
        told.is_some()
    })
    .await;
    told.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_machine_cannot_compile_now_is_tried_again_and_fails_no_run() {
    let home = Home::new();
    let place = &home.place;
    let host = Serving::at(place);
    let waits = json!([{ "signal-receive": { "name": "go" } }, { "return": 7 }]);
    let id = home.submit(waits);
    let client = home.client();
    home.until(&client, id, |task| task.status == Status::Waiting)
        .await;
    drop(host);
    // The run goes on with the component that it began with, which has to be compiled again.
    std::fs::copy(guest("echo"), place.path("handlers/script.wasm")).unwrap();
    std::fs::remove_dir_all(place.path(".fishway/compiled")).unwrap();
    let libraries = place.path("libraries");
    std::fs::create_dir(&libraries).unwrap();
    let mut serve = place.command(&["serve"]);
    serve.env("LD_LIBRARY_PATH", &libraries);
    let host = Serving::of(serve);

    // From here on no process of the compiler can start.
    std::fs::write(libraries.join("libc.so.6"), "no library").unwrap();
    let mut late = std::fs::read(guest("echo")).unwrap();
    // A section of its own makes it another component.
    late.extend([0, 3, 1, b'x', 7]);
    std::fs::write(place.path("late.wasm"), late).unwrap();
    std::fs::rename(place.path("late.wasm"), place.path("handlers/late.wasm")).unwrap();
    let problem = host.until("late.wasm");
    let words = "the compiler could not do its work";
    assert!(problem.contains(words), "{problem}");
    place.run(&["signal", &id.to_string(), "go", "1"]).ok();
    let line = host.until("the attempt cannot start and is given back");
    assert!(line.contains(words), "{line}");
    let (failure, why) = given_back(&client, id).await;
    let begins = format!("its host could not begin it, and tries again: script: {words}");
    assert!(failure.starts_with(&begins), "{failure}");
    assert_eq!(why, format!("rests before it is begun again: {failure}"));

    std::fs::remove_file(libraries.join("libc.so.6")).unwrap();
    host.until("loaded late");
    home.until(&client, id, |task| task.status.is_terminal())
        .await;
    let task = client.task(id).unwrap();
    assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
    assert_eq!((task.attempt, task.restarts), (1, 0));
}

/// A command that may read no more than its user may, also where that is the superuser.
fn without_override(command: &Command) -> Command {
    if !rustix::process::geteuid().is_root() {
        let mut same = Command::new(command.get_program());
        same.args(command.get_args());
        return same;
    }
    let mut bounded = Command::new("setpriv");
    bounded
        .args(["--bounding-set", "-dac_override,-dac_read_search"])
        .arg(command.get_program())
        .args(command.get_args());
    bounded
}

fn inode(file: &Path) -> Option<u64> {
    Some(std::fs::metadata(file).ok()?.ino())
}

fn set_mode(file: &Path, mode: u32) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_that_cannot_be_read_now_stays() {
    let home = Home::new();
    let place = &home.place;
    let host = Serving::at(place);
    // A run goes on with it, so it is kept while the handler is not loaded.
    let id = home.submit(json!([{ "signal-receive": { "name": "go" } }]));
    let client = home.client();
    home.until(&client, id, |task| task.status == Status::Waiting)
        .await;
    drop(host);
    let digest = Digest::of(&std::fs::read(guest("script")).unwrap()).to_string();
    let digest = digest.strip_prefix("sha256:").unwrap();
    let named = |code: &PathBuf| code.to_string_lossy().contains(digest);
    let code = codes(place).into_iter().find(named).unwrap();
    let before = inode(&code);
    assert!(before.is_some());
    set_mode(&code, 0);
    // Nor can it be compiled again.
    let note = json!({
        "version": env!("CARGO_PKG_VERSION"), "what": "it is a stone", "hint": "take another"
    });
    std::fs::write(code.with_extension("refused"), note.to_string()).unwrap();
    let mut serve = without_override(&place.command(&["serve"]));
    serve
        .current_dir(place.path("."))
        .env("NO_COLOR", "1")
        .env_remove("FISHWAY_LOG");
    let host = Serving::started(serve);
    host.until("it is a stone");
    drop(host);
    assert_eq!(inode(&code), before);

    set_mode(&code, 0o600);
    std::fs::remove_file(code.with_extension("refused")).unwrap();
    let host = Serving::started(place.command(&["serve"]));
    let line = host.until("loaded script ");
    assert!(line.contains("cached"), "{line}");
    assert_eq!(inode(&code), before);
}
