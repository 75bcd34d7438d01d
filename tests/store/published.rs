//! What hosts publish for each other: how long components are kept that nobody publishes. And what it costs the
//! others that a host says what it has loaded.

use fishway::lease::Sign;
use fishway::store::sqlite::Role;
use fishway::store::{
    HandlerRow, HandlersChange, HandlersStanding, Publication, SharedComponent, Store, Writes,
};

use super::hosts::lease;
use super::world::{PostgresEngine, World, key};
use crate::support::line::Line;
use crate::support::postgres;

/// For how long a component is kept at least that nobody publishes any more.
const KEPT_MS: u64 = 600_000;

async fn world() -> World {
    let world = World::new(PostgresEngine::new());
    let lease = lease(&world, 1);
    assert!(world.store().take_lease(lease).await.unwrap());
    world
}

fn publication(changed: &[(&str, &str)], withdrawn: &[&str]) -> Publication {
    let component = |name: &str, digest: &str| SharedComponent {
        digest: digest.to_owned(),
        bytes: vec![1],
        name: name.to_owned(),
        manifest: None,
    };
    Publication {
        publisher: "one".to_owned(),
        host: 1,
        directory: "/handlers".to_owned(),
        changed: (changed.iter())
            .map(|(name, digest)| ((*name).to_owned(), component(name, digest)))
            .collect(),
        withdrawn: withdrawn.iter().map(|&name| name.to_owned()).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_nobody_publishes_is_kept_while_a_task_needs_it_and_a_while_longer() {
    let world = world().await;
    let store = world.store();
    // The dispatch of tests claims with the handler's name as the digest.
    let (needed, old, new) = ("sha256:h", "sha256:old", "sha256:new");
    let there = |digest: &str| store.shared_component(digest).unwrap().is_some();
    let first = publication(&[("h", needed), ("x", old)], &[]);
    store.publish(first).await.unwrap();
    let id = world.submit("h").await;
    let task = world.start(id).await;
    store
        .publish(publication(&[("x", new)], &["h"]))
        .await
        .unwrap();
    assert!(there(needed) && there(old), "one may just be claimed");

    world.clock.advance(KEPT_MS);
    store.publish(publication(&[], &[])).await.unwrap();
    assert!(there(needed), "a task runs it");
    assert!(!there(old));
    assert!(there(new), "it is published");

    world.complete(&task).await;
    store.publish(publication(&[], &[])).await.unwrap();
    assert!(!there(needed));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_the_publications_hears_of_each_change_and_of_nothing_else() {
    let world = world().await;
    let store = world.store();
    let revision = || store.published_revision().unwrap();
    let begun = revision();
    store
        .publish(publication(&[("x", "sha256:x")], &[]))
        .await
        .unwrap();
    let published = revision();
    assert!(published > begun);
    store.publish(publication(&[], &[])).await.unwrap();
    assert_eq!(revision(), published, "nothing has changed");
    assert_eq!(store.unpublish(None).await.unwrap(), 0, "its host serves");
    assert_eq!(revision(), published);
    store.sign_lease(key(1), Sign::Ended(None)).await.unwrap();
    assert_eq!(store.unpublish(None).await.unwrap(), 1);
    assert!(revision() > published);
    assert_eq!(store.published().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_publisher_of_a_name_takes_it_back_for_those_that_are_gone() {
    let world = world().await;
    let store = world.store();
    let gone = Publication {
        publisher: "gone".to_owned(),
        host: 0,
        ..publication(&[("x", "sha256:x"), ("y", "sha256:y")], &[])
    };
    store.publish(gone).await.unwrap();
    store
        .publish(publication(&[("x", "sha256:x2")], &[]))
        .await
        .unwrap();
    store.publish(publication(&[], &["x"])).await.unwrap();
    let left = store.published().unwrap();
    let left: Vec<&str> = left.iter().map(|handler| &*handler.name).collect();
    assert_eq!(left, ["y"], "an older one must not come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_says_what_it_has_loaded_in_a_few_statements_however_much_that_is() {
    let line = Line::to(postgres::cluster());
    let url = line.url(&postgres::name_of(&postgres::database()));
    let store = postgres::open(&url, Role::Host);
    let rows = |many: usize| {
        let row = |number: usize| HandlerRow {
            name: format!("handler-{number:03}"),
            digest: "sha256:x".to_owned(),
            description: number.is_multiple_of(2).then(|| format!("number {number}")),
            function: None,
            generator: number.is_multiple_of(3),
        };
        (0..many).map(row).collect::<Vec<_>>()
    };
    let keep = async |change: HandlersChange| {
        let before = line.statements();
        store.keep_handlers(change).await.unwrap();
        line.statements() - before
    };
    let part = |many: usize| HandlersChange {
        whole: false,
        standing: HandlersStanding::default(),
        ..HandlersChange::whole(rows(many), "here")
    };
    // The first time each statement is prepared, and others are asked for besides.
    keep(HandlersChange::whole(rows(1), "here")).await;
    keep(part(1)).await;
    // Nobody else writes until each of them was answered.
    let few = keep(HandlersChange::whole(rows(2), "here")).await;
    let many = keep(HandlersChange::whole(rows(300), "here")).await;
    assert!(many <= few + 5, "{many} statements, and {few} for two");
    let few = keep(part(2)).await;
    let many = keep(part(299)).await;
    assert!(many <= few + 5, "{many} statements, and {few} for two");
    assert_eq!(store.handlers_after("", 1_000).unwrap(), rows(300));
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_of_one_component_have_manifests_of_their_own() {
    let world = world().await;
    let store = world.store();
    let shared = |name: &str, manifest: Option<&str>| SharedComponent {
        digest: "sha256:same".to_owned(),
        bytes: vec![1],
        name: name.to_owned(),
        manifest: manifest.map(str::to_owned),
    };
    let publish = |name: &str, manifest| {
        let mut publication = publication(&[], &[]);
        let changed = (name.to_owned(), shared(name, manifest));
        publication.changed.push(changed);
        publication
    };
    store.publish(publish("one", Some("first"))).await.unwrap();
    store.publish(publish("two", None)).await.unwrap();
    store
        .share_component(shared("", Some("earlier")))
        .await
        .unwrap();
    let digests = ["sha256:same".to_owned(), "sha256:none".to_owned()];
    let same = |name: &str| ("sha256:same".to_owned(), name.to_owned());
    assert_eq!(
        store.shared_names(&digests).unwrap(),
        ["", "one", "two"].map(same)
    );
    let manifest = |name: &str| store.shared_manifest("sha256:same", name).unwrap();
    let some = |text: &str| Some(Some(text.to_owned()));
    assert_eq!(manifest("one"), some("first"));
    assert_eq!(manifest("two"), Some(None));
    assert_eq!(manifest(""), some("earlier"));
    assert_eq!(manifest("three"), None);
    // The newest of each counts, for it alone.
    store.publish(publish("two", Some("second"))).await.unwrap();
    assert_eq!(
        (manifest("one"), manifest("two")),
        (some("first"), some("second"))
    );
    // They go with the component.
    let withdrawn = publication(&[], &["one", "two"]);
    store.publish(withdrawn).await.unwrap();
    world.clock.advance(KEPT_MS);
    store.publish(publication(&[], &[])).await.unwrap();
    assert_eq!(store.shared_names(&digests).unwrap(), []);
}
