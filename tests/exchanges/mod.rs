//! HTTP requests of guests: sent once, recorded, and the same in each replay.

mod bodies;
mod kills;
mod limits;
mod recorded;
mod waits;

use std::time::Duration;

use fishway::client::Client;
use fishway::daemon::Broken;
use fishway::executor::Settings;
use fishway::task::{Options, Task, TaskId};
use serde_json::{Value, json};

use crate::support::World;
use crate::support::http_server::Server;

/// A handler that may send any request to a server, with these additional keys in its manifest.
pub async fn world_of(settings: Settings, server: &Server, keys: &str) -> World {
    let mut world = World::set(settings).await;
    let manifest = format!("[[grants.http]]\nto = \"{}\"\n{keys}", server.url());
    world.handler("web", &manifest).await;
    world
}

/// All ways to spend a wait: parked, dropped after a while, dropped at once; with one slot.
pub fn all_waits() -> [Settings; 3] {
    let parked = Settings {
        slots: 1,
        ..Settings::default()
    };
    let dropped = Settings {
        park: Duration::ZERO,
        ..parked.clone()
    };
    let never_parked = Settings {
        parked_max: 0,
        ..parked.clone()
    };
    [parked, dropped, never_parked]
}

pub async fn submit(world: &World, steps: Value) -> TaskId {
    world
        .submit_to("web", json!({ "steps": steps }), Options::default())
        .await
}

pub async fn run(world: &World, steps: Value) -> Task {
    let id = submit(world, steps).await;
    world.end(id).await
}

/// A host dies: everything in its memory is lost.
pub async fn die(world: &mut World) {
    let broken = Broken::Panicked {
        part: "serves",
        said: "the test".to_owned(),
    };
    world.fail(&broken).await;
    world.restart().await;
}

/// The log of a task.
pub fn log(world: &World, task: TaskId) -> String {
    let lines = world.client.logs(task, Default::default(), 1_000).unwrap();
    let texts: Vec<String> = lines.into_iter().map(|line| line.message).collect();
    texts.join("\n")
}

/// Wait until a task has spawned a child, and waits for a response.
pub async fn until_child(world: &World, task: TaskId) {
    let seen = |client: &Client| {
        let children = client.detail(task).unwrap().child_ids;
        (!children.is_empty() && client.task(task).unwrap().awaits_exchange()).then_some(())
    };
    world.until(seen).await;
}
