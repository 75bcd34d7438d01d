use fishway::store::{End, StoreError};
use fishway::task::{NewTask, Options, Spawner, Task};

use crate::store::world::{START_MS, World, done, failed, keyed};

pub async fn submit_claim_and_finish_are_one_walk(world: &mut World) {
    let id = world.submit("h").await;
    assert_eq!(world.show(&[id]), "ready");

    let claimed = world.start(id).await;
    assert_eq!(world.show(&[id]), "running");
    assert_eq!(
        (claimed.attempt, claimed.fence.number, claimed.run),
        (1, 1, 0)
    );
    assert_eq!(claimed.digest.as_deref(), Some("sha256:h"));
    assert_eq!(claimed, world.get(id));

    world.finish(&claimed, End::Completed("[1]".into())).await;
    let ended = world.get(id);
    assert_eq!(world.show(&[id]), "completed");
    assert_eq!(ended.output.as_deref(), Some("[1]"));
    assert_eq!(ended.ended_at_ms, Some(START_MS));
    world.nothing_ready().await;
}

pub async fn a_key_names_the_same_task_again(world: &mut World) {
    let first = world.submit_with("h", keyed("k")).await;
    assert_eq!(world.submit_with("h", keyed("k")).await, first);
    assert_ne!(world.submit_with("h", keyed("l")).await, first);

    world.start(first).await;
    let twice = vec![
        NewTask::root("h", "{}", keyed("k")),
        NewTask::root("h", "{}", keyed("m")),
        NewTask::root("h", "{}", keyed("m")),
    ];
    let answers = world.store().submit(twice).await.unwrap();
    let created: Vec<bool> = answers.iter().map(|answer| answer.created).collect();
    assert_eq!(created, [false, true, false]);
    assert_eq!(answers[1].id, answers[2].id);
}

pub async fn a_key_names_a_task_within_its_parent(world: &mut World) {
    let root = world.submit_with("h", keyed("k")).await;
    let parent = world.start(root).await;
    let child = |sequence| NewTask {
        spawner: Some(Spawner {
            parent: root,
            sequence,
            depth: 1,
            scope: root,
            member: false,
            place: None,
        }),
        ..NewTask::root("c", "{}", keyed("k"))
    };
    let records = [1, 2].map(|sequence| fishway::store::Record::Task(Box::new(child(sequence))));
    world.record(&parent, records.to_vec()).await;

    let children = world.store().child_ids(root).unwrap();
    assert_eq!(children.len(), 1, "the second is the first");
    assert_eq!(
        world.store().child_by_key(root, "k").unwrap(),
        Some(children[0])
    );
    assert_eq!(world.store().child_by_key(root, "l").unwrap(), None);
    assert_eq!(world.submit_with("h", keyed("k")).await, root);
}

pub async fn a_key_of_another_handler_is_refused(world: &mut World) {
    let first = world.submit_with("h", keyed("k")).await;
    match world.try_submit("other", keyed("k")).await {
        Err(StoreError::KeyTaken { id, handler, .. }) => {
            assert_eq!((id, &*handler), (first, "h"));
        }
        other => panic!("{other:?}"),
    }
}

pub async fn a_submit_is_all_or_none(world: &mut World) {
    let taken = world.submit_with("h", keyed("k")).await;
    let unknown = Options {
        after: vec![fishway::task::TaskId::from_i64(5)],
        ..Options::default()
    };
    for bad in [
        NewTask::root("other", "{}", keyed("k")),
        NewTask::root("h", "{}", unknown),
    ] {
        let tasks = vec![NewTask::root("h", "{}", Options::default()), bad];
        assert!(world.store().submit(tasks).await.is_err());
    }
    assert_eq!(world.list(Default::default()), [taken]);
}

pub async fn a_submit_is_all_or_none_within_itself_too(world: &mut World) {
    let tasks = vec![
        NewTask::root("h", "{}", keyed("k")),
        NewTask::root("other", "{}", keyed("k")),
    ];
    let answer = world.store().submit(tasks).await;
    assert!(
        matches!(answer, Err(StoreError::KeyTwice { .. })),
        "{answer:?}"
    );
    assert_eq!(world.list(Default::default()), []);
}

fn document(size: usize, letter: &str) -> String {
    format!("\"{}\"", letter.repeat(size))
}

pub async fn payloads_small_and_large_come_back_whole(world: &mut World) {
    for size in [1, 1_022, 1_023, 100_000] {
        let (input, output) = (document(size, "i"), document(size, "o"));
        let task = NewTask::root("h", input.as_str(), Options::default());
        let id = world.store().submit(vec![task]).await.unwrap()[0].id;
        assert_eq!(*world.get(id).input, *input);

        let claimed = world.start(id).await;
        assert_eq!(*claimed.input, *input);
        world.finish(&claimed, failed(true, 0)).await;
        let claimed = world.start(id).await;
        assert_eq!(*claimed.input, *input);
        world
            .finish(&claimed, End::Completed(output.as_str().into()))
            .await;

        world.reopen();
        let task = world.get(id);
        assert_eq!(*task.input, *input);
        assert_eq!(task.output.as_deref(), Some(&*output));
        let listed = world.store().list(&fishway::store::Filter {
            limit: 1,
            ..Default::default()
        });
        assert_eq!(listed.unwrap(), [task]);
    }
}

pub async fn the_input_of_each_phase_replaces_the_one_before(world: &mut World) {
    let id = world.submit("h").await;
    let sizes = [100_000, 1, 2_000, 200_000, 10, 3];
    for (index, size) in sizes.into_iter().enumerate() {
        let claimed = world.start(id).await;
        let letter = format!("{index}");
        let end = End::PhaseEnded {
            phase: format!("p{index}").into(),
            input: document(size, &letter).into(),
            after: vec![],
            until_ms: None,
        };
        world.finish(&claimed, end).await;
        assert_eq!(gist(&world.get(id)), format!("{index} x {size}"));
        // Seen by the transaction of the claim, too.
        let claimed = world.start(id).await;
        assert_eq!(gist(&claimed), format!("{index} x {size}"));
        assert_eq!(&*claimed.input, "{}");
        world.finish(&claimed, End::Interrupted).await;
    }
    let claimed = world.start(id).await;
    world.finish(&claimed, done()).await;
    assert_eq!(gist(&world.get(id)), "5 x 3");
}

/// The letter of a document, and how often it stands there.
fn gist(task: &Task) -> String {
    let input = task.phase_input.as_deref().unwrap();
    format!("{} x {}", &input[1..2], input.len() - 2)
}

pub async fn ids_rise_over_reopening_and_a_clock_set_back(world: &mut World) {
    let mut last = world.submit("h").await;
    for _ in 0..3 {
        world.reopen();
        for _ in 0..5 {
            let told = world.store().ids().next(START_MS - 60_000);
            assert!(told > last, "{told} after {last}");
            let id = world.submit("h").await;
            assert!(id > told, "{id} after {told}");
            last = id;
        }
    }
}
