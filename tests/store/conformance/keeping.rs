use fishway::journal::{Answer, Entry, Function};
use fishway::store::{
    BrokenRow, ComponentChange, End, Filter, HandlerRow, HandlersChange, HandlersStanding,
    JournalPage, JournalPosition, LogPosition, Node, Rank, Record,
};
use fishway::task::{
    Failure, FailureKind, NewTask, Options, PendingReason, Progress, Spawner, Status, TaskId,
};

use crate::store::world::{START_MS, World, call, done, failed, keyed, log_line, set};

fn entry(number: u32, function: Function, answer: Answer) -> Entry {
    Entry {
        number,
        call: call(function, "x"),
        answer,
        at_ms: START_MS + u64::from(number),
    }
}

pub async fn a_journal_holds_answers_and_spawns(world: &mut World) {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let two = world.spawn_many(&task, 1, "child", 2).await;
    let load = entry(2, Function::CheckpointLoad, Answer::Document(None));
    let get = entry(4, Function::Get, Answer::Done);
    let other = entry(2, Function::Cancel, Answer::Flag(true));
    let records = [&get, &load, &other].map(|entry| Record::Entry(Box::new(entry.clone())));
    world.record(&task, records.to_vec()).await;
    let one = world.spawn(&task, 3, "other").await;

    let mut journal = world.store().journal(id, 0).unwrap();
    journal.sort_by_key(|entry| entry.number);
    let numbers: Vec<u32> = journal.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(journal[0].answer, Answer::Tasks(two));
    assert_eq!(journal[0].call.to_string(), "tasks.spawn(2 x child)");
    assert_eq!(journal[1], load, "an answer that was given stands");
    assert_eq!(journal[2].answer, Answer::Tasks(vec![one]));
    assert_eq!(journal[3], get);
    assert_eq!(world.store().journal(id, 1).unwrap(), []);
}

pub async fn a_journal_is_read_in_parts_that_are_bounded(world: &mut World) {
    const BYTES: u64 = 40_000;
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let load = |number: u32, bytes: usize| {
        let value = Answer::Document(Some(format!("\"{}\"", "x".repeat(bytes))));
        Record::Entry(Box::new(entry(number, Function::CheckpointLoad, value)))
    };
    // Many small ones, some large ones, one that is larger than a part, and calls that leave no record between them.
    let small = (1..=1_200).map(|number| load(number, 10));
    let large = (1_201..=1_220).map(|number| load(number, 15_000));
    let records = small.chain(large).chain([load(1_230, 100_000)]).collect();
    world.record(&task, records).await;
    let one = world.spawn(&task, 1_240, "child").await;
    // More children than are read at once, of one call, and some of the next.
    let many = world.spawn_many(&task, 1_241, "child", 2_500).await;
    let few = world.spawn_many(&task, 1_242, "child", 3).await;
    world.record(&task, vec![load(1_250, 10)]).await;

    let store = world.store();
    let mut from = Some(JournalPosition::default());
    let (mut numbers, mut pages) = (Vec::new(), 0);
    while let Some(position) = from {
        let page = store.journal_page(id, 0, position, BYTES).unwrap();
        let mut entries = page.entries;
        entries.sort_by_key(|entry| entry.number);
        assert!(page.bytes <= BYTES || entries.len() == 1, "{}", page.bytes);
        assert!(entries.len() <= 1_100, "{}", entries.len());
        let until = page.next.map_or(u32::MAX, |next| next.number);
        assert!(entries.iter().all(|entry| entry.number <= until));
        for entry in entries {
            let children = match entry.number {
                1_240 => Some(vec![one]),
                1_241 => Some(many.clone()),
                1_242 => Some(few.clone()),
                _ => None,
            };
            assert!(children.is_none_or(|all| entry.answer == Answer::Tasks(all)));
            numbers.push(entry.number);
        }
        (from, pages) = (page.next, pages + 1);
    }
    let all = (1..=1_220).chain([1_230, 1_240, 1_241, 1_242, 1_250]);
    assert_eq!(numbers, all.collect::<Vec<u32>>());
    assert!(pages > 10, "{pages}");
    assert_eq!(store.journal_end(id, 0).unwrap(), 1_250);
    assert_eq!(store.journal_end(id, 1).unwrap(), 0);
    let empty = JournalPage::default();
    let begin = JournalPosition::default();
    assert_eq!(store.journal_page(id, 1, begin, BYTES).unwrap(), empty);
}

pub async fn a_journal_ends_with_its_run(world: &mut World) {
    let answer = || {
        vec![Record::Entry(Box::new(entry(
            1,
            Function::Get,
            Answer::Done,
        )))]
    };
    let id = world.submit("h").await;
    let task = world.start(id).await;
    world.record(&task, answer()).await;
    world.finish(&task, fishway::store::End::Interrupted).await;
    assert_eq!(world.store().journal(id, 0).unwrap().len(), 1);
    for end in [failed(true, 0), fishway::store::End::Rescheduled(0), done()] {
        world.store().tick().await.unwrap();
        let task = world.start(id).await;
        world.record(&task, answer()).await;
        assert_eq!(world.store().journal(id, task.run).unwrap().len(), 1);
        let child = world.spawn(&task, 2, "child").await;
        world.cancel(child).await;
        world.finish(&task, end).await;
        let left = world.store().journal(id, task.run).unwrap();
        assert_eq!(left.len(), 1, "the child, and it is no row of the journal");
        assert_eq!(left[0].answer, Answer::Tasks(vec![child]));
    }
    let earlier = world.store().earlier_children(id).unwrap();
    let ranks: Vec<_> = earlier.iter().map(|child| child.sequence).collect();
    assert_eq!(ranks, [1, 2, 3]);
    assert!(
        earlier
            .iter()
            .all(|child| child.status == Status::Cancelled)
    );
}

pub async fn a_log_line_is_kept_once_by_its_position(world: &mut World) {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let lines = [
        log_line(1, 2, "b"),
        log_line(1, 1, "a"),
        log_line(2, 1, "c"),
    ];
    let replayed = [log_line(1, 1, "z"), log_line(2, 2, "d")];
    for lines in [&lines[..], &replayed[..]] {
        let records = lines.iter().cloned().map(Record::Log).collect();
        world.record(&task, records).await;
    }
    let mut position = LogPosition::default();
    let mut pages = Vec::new();
    loop {
        let page = world.store().logs(id, position, 3).unwrap();
        let Some(last) = page.last() else { break };
        position = last.position;
        let words: Vec<_> = page.iter().map(|line| line.message.as_str()).collect();
        pages.push(words.concat());
    }
    assert_eq!(pages, ["abc", "d"]);
    let first = &world.store().logs(id, LogPosition::default(), 1).unwrap()[0];
    assert_eq!(*first, lines[1]);
}

pub async fn checkpoints_outlive_attempts(world: &mut World) {
    let keep = |name: &str, value: &str| Record::Checkpoint {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let large = format!("\"{}\"", "x".repeat(100_000));
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let records = vec![keep("a", "1"), keep("b", &large), keep("a", "2")];
    world.record(&task, records).await;
    world.finish(&task, failed(true, 0)).await;
    world.start(id).await;
    world.reopen();
    let load = |name: &str| world.store().checkpoint(id, name).unwrap();
    assert_eq!(load("a").as_deref(), Some("2"));
    assert_eq!(load("b"), Some(large));
    assert_eq!(load("c"), None);
}

pub async fn progress_is_the_last_that_was_told(world: &mut World) {
    let progress = |done| Progress {
        done,
        total: Some(3),
        message: Some("rows".to_owned()),
    };
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let records = [1, 2].map(|done| Record::Progress(progress(done)));
    world.record(&task, records.to_vec()).await;
    assert_eq!(world.get(id).progress, Some(progress(2)));
    world.complete(&task).await;
    assert_eq!(world.get(id).progress, Some(progress(2)));
}

pub async fn a_list_is_filtered_ordered_and_continued(world: &mut World) {
    let options = Options {
        queue: Some("other".into()),
        delay_ms: Some(10),
        ..Options::default()
    };
    let a = world.submit("h").await;
    let task = world.start(a).await;
    let children = world.spawn_many(&task, 1, "child", 3).await;
    world.complete(&task).await;
    let b = world.submit_with("h", options).await;
    let c = world.submit_after("h", &[b]).await;
    let known = HandlerRow {
        name: "child".into(),
        digest: "d".into(),
        description: None,
        function: None,
        generator: false,
    };
    let known = HandlersChange::whole(vec![known], "x");
    world.store().keep_handlers(known).await.unwrap();
    let d = world.submit("lost").await;

    let all = || Filter::default();
    let handler = |name: &str| Some(name.to_owned());
    let reason = |reason| Filter {
        reason: Some(reason),
        ..all()
    };
    let below = |after| Filter {
        parent: Some(a),
        after,
        ..all()
    };
    let newest: Vec<TaskId> = children.iter().rev().copied().collect();
    let check = |filter: Filter, expected: &[TaskId]| {
        let shown = format!("{filter:?}");
        assert_eq!(world.list(filter), expected, "{shown}");
    };
    check(all(), &[&[d, c, b], &newest[..], &[a]].concat());
    check(Filter { limit: 2, ..all() }, &[d, c]);
    check(
        Filter {
            limit: 1,
            after: Some(c),
            ..all()
        },
        &[b],
    );
    check(
        Filter {
            handler: handler("h"),
            ..all()
        },
        &[c, b, a],
    );
    check(
        Filter {
            queue: handler("other"),
            ..all()
        },
        &[b],
    );
    check(
        Filter {
            statuses: set(&[Status::Completed]),
            ..all()
        },
        &[a],
    );
    let two = set(&[Status::Completed, Status::Pending]);
    check(
        Filter {
            statuses: two,
            handler: handler("h"),
            ..all()
        },
        &[c, b, a],
    );
    check(reason(PendingReason::Blocked), &[c]);
    check(reason(PendingReason::Scheduled), &[b]);
    check(reason(PendingReason::Held), &[d]);
    check(reason(PendingReason::Ready), &newest);
    check(below(None), &children);
    check(below(Some(children[0])), &children[1..]);
}

pub async fn nodes_come_in_pages_and_say_what_kin_they_have(world: &mut World) {
    let a = world.submit("h").await;
    let task = world.start(a).await;
    let children = world.spawn_many(&task, 1, "child", 3).await;
    let mut tries = vec![children[1]];
    for sequence in [4, 5] {
        let input = format!("\"{}\"", "x".repeat(10_000));
        let again = NewTask {
            id: Some(world.store().ids().next(START_MS)),
            retry_of: tries.last().copied(),
            spawner: Some(Spawner {
                parent: a,
                sequence,
                depth: 1,
                scope: a,
                member: false,
                place: None,
            }),
            ..NewTask::root("child", input, Options::default())
        };
        tries.extend(again.id);
        world
            .record(&task, vec![Record::Task(Box::new(again))])
            .await;
    }
    let ids = |nodes: &[Node]| nodes.iter().map(|node| node.task.id).collect::<Vec<_>>();
    let store = world.store();
    let first = store.child_nodes(a, Rank::START, 2).unwrap();
    assert_eq!(ids(&first), children[..2]);
    let rest = store.child_nodes(a, first[1].rank(), 9).unwrap();
    assert_eq!(ids(&rest), [children[2], tries[1], tries[2]]);
    assert_eq!(store.child_nodes(a, rest[2].rank(), 9).unwrap(), []);
    let kin = |node: &Node| (node.has_children, node.was_retried, node.is_retry);
    assert_eq!(kin(&first[0]), (false, false, false));
    assert_eq!(kin(&first[1]), (false, true, false));
    assert_eq!(kin(&rest[1]), (false, true, true));
    assert_eq!(kin(&rest[2]), (false, false, true));
    assert_eq!(
        &*rest[2].task.input, "",
        "a large payload stays where it is"
    );
    let retries = store.retry_nodes(children[1], Rank::START, 9).unwrap();
    assert_eq!(ids(&retries), tries[1..]);
    let last = store
        .retry_nodes(children[1], retries[0].rank(), 9)
        .unwrap();
    assert_eq!(ids(&last), tries[2..]);
    assert_eq!(store.retry_nodes(children[0], Rank::START, 9).unwrap(), []);
    let root = store.node(a).unwrap().unwrap();
    assert_eq!((root.task.id, kin(&root)), (a, (true, false, false)));
    assert_eq!(store.node(TaskId::from_i64(1)).unwrap(), None);
}

pub async fn counts_are_by_status(world: &mut World) {
    assert_eq!(world.store().counts(None).unwrap(), []);
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let children = world.spawn_many(&task, 1, "child", 3).await;
    world.cancel(children[0]).await;
    assert_eq!(
        world.store().counts(None).unwrap(),
        [
            (Status::Pending, 2),
            (Status::Running, 1),
            (Status::Cancelled, 1)
        ]
    );
    assert_eq!(
        world.store().counts(Some(id)).unwrap(),
        [(Status::Pending, 2), (Status::Cancelled, 1)]
    );
}

pub async fn ids_are_found_by_their_range(world: &mut World) {
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(world.submit("h").await);
    }
    let between = |low, high, limit| world.store().ids_between(low, high, limit).unwrap();
    assert_eq!(between(ids[1], ids[2], 9), ids[1..3]);
    assert_eq!(between(ids[0], ids[3], 2), ids[..2]);
    assert_eq!(between(ids[3], ids[0], 9), []);
    let found = world
        .store()
        .tasks(&[ids[2], TaskId::from_i64(1), ids[0]])
        .unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|task| task.as_ref().map(|task| task.id))
        .collect();
    assert_eq!(found, [Some(ids[2]), None, Some(ids[0])]);
}

pub async fn handlers_are_remembered(world: &mut World) {
    assert_eq!(world.store().handlers_standing().unwrap(), None);
    assert_eq!(world.store().handlers_after("", 10).unwrap(), []);
    let row = |name: &str, description: Option<&str>| HandlerRow {
        name: name.to_owned(),
        digest: format!("sha256:{name}"),
        description: description.map(str::to_owned),
        function: None,
        generator: name == "c",
    };
    let mut typed = row("b/add", None);
    typed.function = Some(fishway::types::Function {
        name: "add".to_owned(),
        params: vec![("one".to_owned(), fishway::types::Type::U8)],
        result: None,
    });
    let first = vec![row("a", None), row("b", Some("Adds.")), typed];
    let second = vec![row("b", None), row("c", None)];
    for rows in [first, second] {
        let whole = HandlersChange::whole(rows.clone(), "some/where");
        let standing = whole.standing.clone();
        world.store().keep_handlers(whole).await.unwrap();
        world.reopen();
        let store = world.store();
        assert_eq!(store.handlers_standing().unwrap(), Some(standing));
        assert_eq!(store.handlers_after("", 10).unwrap(), rows);
        assert_eq!(store.handlers_after("a", 1).unwrap()[0].name, "b");
        let names = ["c", "b", "nobody"];
        let mut named = store.handlers_named(&names).unwrap();
        named.sort_by(|one, other| one.name.cmp(&other.name));
        let mut expected = rows;
        expected.retain(|row| names.contains(&&*row.name));
        assert_eq!(named, expected);
    }
}

pub async fn a_host_writes_what_has_changed_of_its_handlers(world: &mut World) {
    let row = |name: &str, digest: &str| HandlerRow {
        name: name.to_owned(),
        digest: digest.to_owned(),
        description: None,
        function: None,
        generator: false,
    };
    let broken = |name: &str| BrokenRow {
        name: name.to_owned(),
        file: format!("{name}.wasm"),
        problem: "it is damaged".to_owned(),
        hint: "build it again".to_owned(),
    };
    let rows = ["a", "a-b", "a/f", "a/g", "a0", "b"].map(|name| row(name, "1"));
    let whole = HandlersChange::whole(rows.into(), "x");
    world.store().keep_handlers(whole).await.unwrap();
    let component = |name: &str, rows: Vec<HandlerRow>, broken| ComponentChange {
        name: name.to_owned(),
        rows,
        broken,
    };
    let standing = HandlersStanding {
        directory: "y".into(),
        loaded: 4,
        broken: 2,
        loading: 3,
        unwatched: Some("no instance is free".to_owned()),
    };
    let change = HandlersChange {
        whole: false,
        components: vec![
            component("a", vec![row("a/g", "2")], Some(broken("a"))),
            component("b", Vec::new(), Some(broken("b"))),
        ],
        standing: standing.clone(),
    };
    world.store().keep_handlers(change).await.unwrap();
    let store = world.store();
    let all = store.handlers_after("", 10).unwrap();
    let all: Vec<(&str, &str)> = all.iter().map(|row| (&*row.name, &*row.digest)).collect();
    assert_eq!(all, [("a-b", "1"), ("a/g", "2"), ("a0", "1")]);
    assert_eq!(store.handlers_standing().unwrap(), Some(standing));
    assert_eq!(store.broken_named(&["b", "c"]).unwrap(), [broken("b")]);
    assert_eq!(store.broken_after(None, 1).unwrap(), [broken("a")]);
    assert_eq!(store.broken_after(Some("a"), 9).unwrap(), [broken("b")]);
    let change = HandlersChange {
        components: vec![component("b", vec![row("b", "3")], None)],
        ..HandlersChange::default()
    };
    world.store().keep_handlers(change).await.unwrap();
    let store = world.store();
    assert_eq!(store.handlers_named(&["b"]).unwrap(), [row("b", "3")]);
    assert_eq!(store.broken_named(&["b"]).unwrap(), []);
}

pub async fn text_with_a_nul_is_the_same_on_every_engine(world: &mut World) {
    let input = r#"{"a\u0000b":"\u0000"}"#;
    let task = NewTask::root("h", input, Options::default());
    let id = world.store().submit(vec![task]).await.unwrap()[0].id;
    let task = world.start(id).await;
    let progress = Progress {
        done: 1,
        total: None,
        message: Some("half\0way".into()),
    };
    let line = log_line(1, 1, "a\0b");
    let records = vec![Record::Log(line), Record::Progress(progress.clone())];
    world.record(&task, records).await;
    let failure = Failure::new(FailureKind::Handler, "no\0luck", false);
    world.finish(&task, End::Failed(failure.clone(), 0)).await;

    let logs = world.store().logs(id, Default::default(), 9).unwrap();
    assert_eq!(logs[0].message, "a\u{2400}b", "its picture");
    let kept = world.get(id);
    assert_eq!(&*kept.input, input);
    assert_eq!(kept.failure, Some(failure), "JSON has an escape for it");
    assert_eq!(kept.progress, Some(progress));
    let described = HandlerRow {
        name: "a".to_owned(),
        digest: "sha256:a".to_owned(),
        description: Some("x\0y".to_owned()),
        function: None,
        generator: false,
    };
    let change = HandlersChange::whole(vec![described], "d");
    world.store().keep_handlers(change).await.unwrap();
    let handlers = world.store().handlers_after("", 9).unwrap();
    assert_eq!(handlers[0].description.as_deref(), Some("x\u{2400}y"));
}

pub async fn components_are_needed_until_their_tasks_end(world: &mut World) {
    let needed = |world: &World| world.store().digests_needed().unwrap().join(" ");
    let (a, b) = (world.submit("a").await, world.submit("b").await);
    assert_eq!(needed(world), "");
    let (a, b) = (world.start(a).await, world.start(b).await);
    assert_eq!(needed(world), "sha256:a sha256:b");
    world.wait_all(&a, 1, &[b.id]).await;
    assert_eq!(needed(world), "sha256:a sha256:b");
    world.complete(&b).await;
    assert_eq!(needed(world), "sha256:a");
    let a = world.start(a.id).await;
    world.finish(&a, failed(true, 0)).await;
    assert_eq!(
        needed(world),
        "",
        "the next attempt takes what is loaded then"
    );
}

pub async fn everything_is_there_after_reopening(world: &mut World) {
    let blocked_by = world.submit_with("a", keyed("k")).await;
    let blocked = world.submit_after("b", &[blocked_by]).await;
    let waiter = world.submit("c").await;
    world.dispatch.set_room("a", 0);
    let task = world.start(waiter).await;
    let child = world.spawn(&task, 1, "a").await;
    world.wait_all(&task, 2, &[child]).await;
    let all = [blocked_by, blocked, waiter, child];
    let before: Vec<_> = all.map(|id| world.get(id)).to_vec();

    world.reopen();
    assert_eq!(all.map(|id| world.get(id)).to_vec(), before);
    assert_eq!(world.show(&all), "ready blocked waiting ready");
    assert_eq!(world.submit_with("a", keyed("k")).await, blocked_by);
    world.dispatch.set_room("a", 9);
    for task in world.claim_up_to(9).await {
        world.complete(&task).await;
    }
    assert_eq!(world.show(&all), "completed ready ready completed");
}

pub async fn tasks_are_listed_and_counted_by_error_time_and_metadata(world: &mut World) {
    let tagged = |metadata: &str| Options {
        metadata: Some(metadata.into()),
        ..Options::default()
    };
    let blue = world
        .submit_with("h", tagged(r#"{"team":"blue","n":1}"#))
        .await;
    let red = world
        .submit_with(
            "h",
            tagged(r#"{"team":"red","on":true,"a.b":{"c":1},"d":[2]}"#),
        )
        .await;
    world.advance(1_000).await;
    let late = world.submit("h").await;
    // None of these is an object with the member, and none is an error of the others.
    for odd in [r#""team""#, "[1]", "null", r#"{"team":"\u0000"}"#] {
        world.submit_with("other", tagged(odd)).await;
    }
    for (id, message) in [(blue, "no \"disk\" left, 100 %"), (red, "NO disk")] {
        let task = world.start(id).await;
        let failure = Failure::new(FailureKind::Handler, message, false);
        world.finish(&task, End::Failed(failure, 0)).await;
    }
    let check = |filter: Filter, expected: &[fishway::task::TaskId]| {
        let filter = Filter {
            limit: 10,
            ..filter
        };
        assert_eq!(world.list(filter.clone()), expected, "{filter:?}");
        let counted = world.store().tally(&filter).unwrap();
        let counted: u64 = counted.iter().map(|(_, many)| many).sum();
        assert_eq!(counted, expected.len() as u64, "{filter:?}");
    };
    let error = |text: &str| Filter {
        error: Some(text.to_owned()),
        ..Filter::default()
    };
    check(error("no \"disk\""), &[blue]);
    check(error("100 %"), &[blue]);
    check(error("disk"), &[red, blue]);
    check(error("%"), &[blue]);
    check(error("_"), &[]);
    let since = |from, before| Filter {
        created_from_ms: from,
        created_before_ms: before,
        ..Filter::default()
    };
    let new = Filter {
        handler: Some("h".to_owned()),
        ..since(Some(START_MS + 1_000), None)
    };
    check(new, &[late]);
    check(since(None, Some(START_MS + 1_000)), &[red, blue]);
    check(since(Some(START_MS), Some(START_MS + 1)), &[red, blue]);
    let member = |name: &str, value: &str| Filter {
        metadata: Some((name.to_owned(), value.to_owned())),
        ..Filter::default()
    };
    check(member("team", "blue"), &[blue]);
    check(member("n", "1"), &[blue]);
    check(member("on", "true"), &[red]);
    check(member("a.b", "{\"c\":1}"), &[]);
    check(member("d", "[2]"), &[]);
    check(member("0", "1"), &[]);
    check(member("$.team", "blue"), &[]);
    check(member("team", "green"), &[]);
    check(member("none", "blue"), &[]);
}
