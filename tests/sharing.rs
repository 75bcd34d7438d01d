//! Handlers that hosts share through their database: what a publisher has is what the mirrors have.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fishway::client::Client;
use fishway::clock::SystemClock;
use fishway::daemon::{Host, Setup};
use fishway::executor::Settings;
use fishway::http::guard::Guard;
use fishway::http::{Bounds, Http};
use fishway::loader::{Change, Handler};
use fishway::store::Keep;
use fishway::store::postgres::Address;
use fishway::task::{Options, Status, StatusSet, Task, TaskId};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::place::Place;
use crate::support::{PATIENCE, guests, postgres, results, warm_guests};

/// A host on a database that it shares, with a directory of its own.
pub struct Member {
    url: String,
    directory: tempfile::TempDir,
    host: Option<Host>,
    changes: Option<mpsc::UnboundedReceiver<Vec<Change>>>,
}

impl Member {
    /// One that has the test guests.
    pub async fn publisher(url: &str) -> Member {
        let mut member = Member::stopped(url);
        guests::place_guests(&member.handlers());
        member.start().await;
        member
    }

    /// One that has no handlers of its own.
    async fn mirror(url: &str) -> Member {
        let mut member = Member::stopped(url);
        member.start().await;
        member
    }

    fn stopped(url: &str) -> Member {
        let directory = tempfile::tempdir().unwrap();
        warm_guests(&directory.path().join("data"));
        Member {
            url: url.to_owned(),
            directory,
            host: None,
            changes: None,
        }
    }

    async fn start(&mut self) {
        let setup = Setup {
            handlers_dir: self.handlers(),
            data_dir: self.directory.path().join("data"),
            settings: Settings::default(),
            database: Some(Address::parse(&self.url).unwrap()),
            database_bytes_max: None,
            keep: Keep::for_ever(),
            clock: Arc::new(SystemClock),
        };
        let mut host = Host::start(setup).await.unwrap();
        self.changes = host.changes();
        self.host = Some(host);
    }

    async fn stop(&mut self) {
        self.host.take().unwrap().stop(Duration::ZERO).await;
    }

    pub fn host(&self) -> &Host {
        self.host.as_ref().unwrap()
    }

    fn handlers(&self) -> PathBuf {
        self.directory.path().join("handlers")
    }

    /// Write a file as a deployment would: whole, or not at all.
    fn put(&self, name: &str, text: &str) {
        let file = self.handlers().join(name);
        fishway::loader::write_atomically(&file, text.as_bytes()).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.handlers().join(name)).unwrap();
    }

    fn names(&self) -> BTreeSet<String> {
        let handlers = self.host().loader().handlers();
        handlers.iter().map(|one| one.name.clone()).collect()
    }

    fn handler(&self, name: &str) -> Arc<Handler> {
        self.host().loader().get(name).expect("it is loaded")
    }

    /// What this host sees as a variable's value when it runs `script`.
    fn variable(&self, name: &str) -> Option<String> {
        let handler = self.handler("script");
        handler.manifest.grants.env.get(name).cloned()
    }

    /// Wait until a look at the handlers directory has brought what is looked for.
    async fn until(&mut self, what: &str, reached: impl Fn(&Member) -> bool) {
        let looking = async {
            while !reached(self) {
                let changes = self.changes.as_mut().unwrap();
                changes.recv().await.expect("the host serves");
            }
        };
        let looked = tokio::time::timeout(PATIENCE, looking).await;
        looked.unwrap_or_else(|_| panic!("{what}"));
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn client(&self) -> Client {
        self.host().client()
    }
}

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|&name| name.to_owned()).collect()
}

async fn submit(client: &Client, steps: Value) -> TaskId {
    let input = json!({ "steps": steps }).to_string();
    let options = Options::default();
    let submitted = client.submit("script", vec![input], options).await.unwrap();
    submitted[0].id
}

async fn reach(client: &Client, id: TaskId, wanted: StatusSet) -> Task {
    let found = client.wait(&[id], false, wanted, Some(PATIENCE)).await;
    let found = found.unwrap();
    found.expect("the task gets there").remove(0)
}

const SECRET: &str = "[grants]\nenv = { SECRET = \"4711\" }\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_its_publisher_removes_is_gone_on_the_mirrors_and_what_is_in_progress_goes_on()
 {
    let url = postgres::database();
    let mut publisher = Member::publisher(&url).await;
    let mut mirror = Member::mirror(&url).await;
    assert_eq!(mirror.names(), names(&["echo", "script"]));
    let client = mirror.client();
    let steps = json!([{ "signal-receive": { "name": "go" } }, { "return": { "results": 7 } }]);
    let id = submit(&client, steps).await;
    reach(&client, id, [Status::Waiting].into_iter().collect()).await;
    let digest = mirror.handler("script").digest.to_string();

    publisher.remove("script.wasm");
    mirror
        .until("the mirror forgets it", |mirror| {
            mirror.names() == names(&["echo"])
        })
        .await;
    let published = client.store().published().unwrap();
    let published: Vec<_> = published.iter().map(|one| &*one.name).collect();
    assert_eq!(published, ["echo"]);

    // The task goes on with what it began with, also where nobody publishes that.
    publisher.stop().await;
    let kept = client.store().shared_component(&digest).unwrap();
    assert!(kept.is_some(), "a task needs it");
    client.signal(id, "go", "1").await.unwrap();
    let task = reach(&client, id, StatusSet::terminal()).await;
    assert_eq!(results(&task), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_taken_back_is_taken_back_on_the_mirrors() {
    let url = postgres::database();
    let mut publisher = Member::stopped(&url);
    guests::place_guests(&publisher.handlers());
    publisher.put("script.toml", SECRET);
    publisher.start().await;
    let mut mirror = Member::mirror(&url).await;
    assert_eq!(mirror.variable("SECRET").as_deref(), Some("4711"));

    // The component stays as it is.
    publisher.put("script.toml", "[grants]\nenv = { MODE = \"test\" }\n");
    mirror
        .until("the mirror takes the manifest over", |mirror| {
            mirror.variable("SECRET").is_none()
        })
        .await;
    assert_eq!(mirror.variable("MODE").as_deref(), Some("test"));
    publisher.remove("script.toml");
    mirror
        .until("the mirror has no manifest either", |mirror| {
            mirror.variable("MODE").is_none()
        })
        .await;
    publisher.stop().await;
    let client = mirror.client();
    let id = submit(&client, json!([{ "env": "SECRET" }])).await;
    let task = reach(&client, id, StatusSet::terminal()).await;
    assert_eq!(results(&task), json!([null]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_publisher_or_mirror_did_not_run_is_so_when_they_do() {
    let url = postgres::database();
    let mut publisher = Member::publisher(&url).await;
    let mut mirror = Member::mirror(&url).await;
    publisher.stop().await;
    publisher.remove("echo.wasm");
    publisher.put("script.toml", SECRET);
    assert_eq!(
        mirror.names(),
        names(&["echo", "script"]),
        "a publisher that is away takes nothing back"
    );
    publisher.start().await;
    mirror
        .until("the mirror follows", |mirror| {
            mirror.names() == names(&["script"]) && mirror.variable("SECRET").is_some()
        })
        .await;

    mirror.stop().await;
    publisher.put("script.toml", "description = \"no grants\"\n");
    publisher
        .until("the publisher has loaded it", |publisher| {
            publisher.variable("SECRET").is_none()
        })
        .await;
    std::fs::copy(
        guests::guest("echo"),
        publisher.handlers().join("other.wasm"),
    )
    .unwrap();
    publisher
        .until("the publisher has loaded it", |publisher| {
            publisher.names() == names(&["other", "script"])
        })
        .await;
    mirror.start().await;
    assert_eq!(mirror.names(), names(&["other", "script"]));
    assert_eq!(mirror.variable("SECRET"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_publisher_still_loads_after_its_start_is_not_taken_back() {
    let url = postgres::database();
    let mut publisher = Member::publisher(&url).await;
    publisher.stop().await;
    let component = std::fs::read(guests::guest("script")).unwrap();
    publisher.put("script.toml", "# slow");
    let pipe = crate::loader::hold_up(&publisher.data_dir(), "script", &component);
    publisher.start().await;
    assert!(publisher.host().loader().loads("script"));
    let client = publisher.client();
    std::fs::copy(guests::guest("echo"), publisher.handlers().join("new.wasm")).unwrap();
    let published = || -> BTreeSet<String> {
        let published = client.store().published().unwrap().into_iter();
        published.map(|one| one.name).collect()
    };
    crate::hosting::until(&client, || published().contains("new")).await;
    assert_eq!(published(), names(&["echo", "new", "script"]));
    std::fs::write(&pipe, "another").unwrap();
    publisher
        .until("it is loaded", |publisher| {
            publisher.names() == names(&["echo", "new", "script"])
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_mirror_that_somebody_changes_are_written_again() {
    let url = postgres::database();
    let _publisher = Member::publisher(&url).await;
    let mut mirror = Member::mirror(&url).await;
    let mirrored = mirror.data_dir().join("mirrored");
    let (manifest, component) = (mirrored.join("script.toml"), mirrored.join("echo.wasm"));
    fishway::loader::write_atomically(&manifest, SECRET.as_bytes()).unwrap();
    std::fs::remove_file(&component).unwrap();
    let back = async {
        while manifest.exists() || !component.exists() {
            tokio::task::yield_now().await;
        }
    };
    let back = tokio::time::timeout(PATIENCE, back).await;
    back.expect("they are as the publisher has them");
    mirror
        .until("that is what is loaded, too", |mirror| {
            mirror.names() == names(&["echo", "script"]) && mirror.variable("SECRET").is_none()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_mirror_could_not_write_is_written_when_it_can_be() {
    let url = postgres::database();
    let publisher = Member::publisher(&url).await;
    let mut mirror = Member::mirror(&url).await;
    let in_the_way = mirror.data_dir().join("mirrored/other.wasm");
    std::fs::create_dir(&in_the_way).unwrap();
    for name in ["other", "then"] {
        let file = publisher.handlers().join(format!("{name}.wasm"));
        std::fs::copy(guests::guest("echo"), file).unwrap();
    }
    mirror
        .until("the mirror has what it can write", |mirror| {
            mirror.names() == names(&["echo", "script", "then"])
        })
        .await;
    std::fs::remove_dir(&in_the_way).unwrap();
    mirror
        .until("it tries again", |mirror| {
            mirror.names() == names(&["echo", "other", "script", "then"])
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_publishers_of_a_name_the_one_that_changed_last_is_mirrored() {
    let url = postgres::database();
    let one = Member::publisher(&url).await;
    let mut two = Member::stopped(&url);
    guests::place_guests(&two.handlers());
    two.put("script.toml", SECRET);
    two.start().await;
    let mut mirror = Member::mirror(&url).await;
    assert!(mirror.variable("SECRET").is_some(), "two published later");

    one.put("script.toml", "[grants]\nenv = { MODE = \"one\" }\n");
    mirror
        .until("one changed last", |mirror| {
            mirror.variable("MODE").is_some()
        })
        .await;
    assert_eq!(mirror.variable("SECRET"), None);
    // A restart changes nothing.
    two.stop().await;
    two.start().await;
    one.remove("script.wasm");
    one.remove("script.toml");
    mirror
        .until("two has it still", |mirror| {
            mirror.variable("SECRET").is_some()
        })
        .await;
    two.remove("script.wasm");
    mirror
        .until("nobody has it", |mirror| mirror.names() == names(&["echo"]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_published_that_is_gone_is_shown_and_can_be_taken_out() {
    let url = postgres::database();
    let mut publisher = Member::publisher(&url).await;
    let mut mirror = Member::mirror(&url).await;
    let place = Place::new();
    let database = [("FISHWAY_DATABASE", url.as_str())];
    let run = |arguments: &[&str]| place.run_env(arguments, &database);
    let shown = run(&["handler", "published", "--json"]).ok();
    let of_script: Value = serde_json::from_str(shown.lines().nth(1).unwrap()).unwrap();
    assert_eq!(
        (
            &of_script["name"],
            &of_script["serves"],
            &of_script["mirrored"]
        ),
        (&json!("script"), &json!(true), &json!(true))
    );
    assert_eq!(of_script["host"], 1);
    run(&["handler", "unpublish", "script"]).refused(
        1,
        "host 1 serves, and publishes \"script\"",
        "remove its file from ",
    );
    run(&["handler", "unpublish", "nothing"]).refused(1, "no host publishes", "handler published");

    publisher.stop().await;
    let shown = run(&["handler", "published"]).ok();
    assert!(shown.contains("1 gone"), "{shown}");
    assert_eq!(mirror.names(), names(&["echo", "script"]), "it stays");
    run(&["handler", "unpublish", "script"]).ok();
    mirror
        .until("it is taken out", |mirror| {
            mirror.names() == names(&["echo"])
        })
        .await;
    run(&["handler", "unpublish", "--gone"]).ok();
    mirror
        .until("all is taken out", |mirror| mirror.names().is_empty())
        .await;
    let file = place.run(&["handler", "published"]);
    file.refused(2, "through a PostgreSQL database", "--database");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_whose_data_directories_are_copies_publish_beside_each_other() {
    let url = postgres::database();
    let mut one = Member::publisher(&url).await;
    one.stop().await;
    let mut two = Member::stopped(&url);
    guests::place_guests(&two.handlers());
    two.remove("script.wasm");
    let identity = |member: &Member| member.directory.path().join("data/publisher.id");
    std::fs::copy(identity(&one), identity(&two)).unwrap();
    one.start().await;
    two.start().await;
    let client = one.client();
    crate::hosting::until(&client, || {
        let published = client.store().published().unwrap();
        let of: BTreeSet<_> = (published.iter())
            .map(|handler| (&*handler.name, handler.host))
            .collect();
        of == [("echo", 2), ("echo", 3), ("script", 2)]
            .into_iter()
            .collect()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_takes_no_uploads() {
    let url = postgres::database();
    let _publisher = Member::publisher(&url).await;
    // Its data directory is reached by a link, as a home directory may be.
    let mut mirror = Member::stopped(&url);
    let data = mirror.data_dir();
    let elsewhere = data.with_file_name("elsewhere");
    std::fs::rename(&data, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &data).unwrap();
    mirror.start().await;
    let setup = fishway::http::Setup {
        client: mirror.client(),
        loader: mirror.host().loader().clone(),
        data_dir: mirror.data_dir(),
        number: mirror.host().number(),
        guard: Guard::new(Vec::new(), None, None),
        allow_upload: true,
        bounds: Bounds::default(),
    };
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let http = Http::open(any, setup).await.unwrap();
    let to = format!("{}/v1/handlers/mine", http.url());
    let bytes = std::fs::read(guests::guest("echo")).unwrap();
    let sent = tokio::task::spawn_blocking(move || {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build();
        let agent = ureq::Agent::new_with_config(config);
        let request = agent.put(to).header("content-type", "application/wasm");
        let mut answer = request.send(&bytes).unwrap();
        (
            answer.status().as_u16(),
            answer.body_mut().read_to_string().unwrap(),
        )
    });
    let (status, text) = sent.await.unwrap();
    assert_eq!(status, 403, "{text}");
    assert!(text.contains("mirrors the handlers"), "{text}");
    http.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_claims_a_task_before_it_has_looked_for_its_component_fetches_that() {
    let url = postgres::database();
    let mut first = Member::publisher(&url).await;
    let digest = first.handler("script").digest.to_string();
    let later = Options {
        delay_ms: Some(3_600_000),
        ..Options::default()
    };
    let input = json!({ "steps": [{ "return": { "results": 7 } }] }).to_string();
    let client = first.client();
    let submitted = client.submit("script", vec![input], later).await.unwrap();
    let id = submitted[0].id;
    drop(client);
    first.stop().await;

    // It has another handler, and looks once a second what tasks in progress need.
    let mut second = Member::stopped(&url);
    guests::place_guests(&second.handlers());
    second.remove("script.wasm");
    second.start().await;
    // As a host leaves it that began the task and stopped in the same moment.
    let left = format!(
        "update fishway.tasks set digest = '{digest}', run_at_ms = null, checksum = null where id = {}",
        id.to_i64()
    );
    postgres::cluster().run(&postgres::name_of(&url), &left);
    let client = second.client();
    let options = Options::default();
    let input = "1".to_owned();
    client.submit("echo", vec![input], options).await.unwrap();
    let task = reach(&client, id, StatusSet::terminal()).await;
    assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
    assert_eq!(results(&task), 7);
}
