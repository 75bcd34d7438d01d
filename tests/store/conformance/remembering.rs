//! Reads that a client skips, because its process has the data: the end of a task, and the handlers.

use fishway::client::{Client, ClientError};
use fishway::clock::Clock;
use fishway::store::{End, HandlerRow, HandlersChange, Record, StoreError, Until};
use fishway::task::{
    Damage, Failure, FailureKind, NewTask, Options, Progress, Status, StatusSet, Task, TaskId,
};
use fishway::types::{Function, Type};

use crate::store::world::{World, failed, keyed};
use crate::support::PATIENCE;

fn long() -> String {
    format!("\"{}\"", "x".repeat(5_000))
}

/// The task in the notice of its end; none if it has to be read.
async fn handed(world: &World, id: TaskId, end: impl AsyncFnOnce()) -> Option<Task> {
    let mut watch = world.store().bus().watch_for_end(id);
    end().await;
    let news = watch.news().await;
    assert!(news.moved[&id].is_terminal());
    news.ended.map(|task| (*task).clone())
}

/// A waiting client gets the same task as a read would return, in the notice.
async fn is_handed(world: &World, id: TaskId, end: impl AsyncFnOnce()) -> Task {
    let task = handed(world, id, end)
        .await
        .expect("it comes with the news");
    assert_eq!(task, world.get(id));
    task
}

pub async fn a_task_that_ends_comes_with_the_news_as_a_read_finds_it(world: &mut World) {
    // All parts that a task may have, and each way to end.
    let options = Options {
        metadata: Some("{\"team\":\"blue\"}".into()),
        timeout_ms: Some(1_000),
        priority: Some(3),
        expires_ms: Some(9_000),
        on_complete: Some("next".into()),
        ..keyed("k")
    };
    let id = world.submit_with("h", options).await;
    let task = world.start(id).await;
    let progress = Progress {
        done: 1,
        total: Some(2),
        message: Some("half\u{0}way".to_owned()),
    };
    world.record(&task, vec![Record::Progress(progress)]).await;
    let until = Until::Signal("go".to_owned());
    world
        .suspend(&task, 1, until, Some(world.clock.now_ms() + 5))
        .await;
    world.advance(5).await;
    let task = world.start(id).await;
    let next = End::PhaseEnded {
        phase: "two".into(),
        input: "[1]".into(),
        after: Vec::new(),
        until_ms: None,
    };
    world.finish(&task, next).await;
    let task = world.start(id).await;
    let end = async || world.finish(&task, End::Completed("[2]".into())).await;
    let ended = is_handed(world, id, end).await;
    assert_eq!(ended.output.as_deref(), Some("[2]"));
    assert!(ended.progress.is_some() && ended.wait.is_some() && ended.phase_input.is_some());
    let next = world.claim().await;
    world.complete(&next).await;

    let id = world.submit_with("h", keyed("fails")).await;
    let task = world.start(id).await;
    world.finish(&task, failed(true, 0)).await;
    let task = world.start(id).await;
    let mut failure = Failure::new(FailureKind::Handler, "no\u{0}luck", false);
    failure.details = Some("{\"a\":[1.50, \"\\u0000\"]}".to_owned());
    let end = async || world.finish(&task, End::Failed(failure, 0)).await;
    assert_eq!(is_handed(world, id, end).await.attempt, 2);

    let id = world.submit("h").await;
    let end = async || {
        world.cancel(id).await;
    };
    assert_eq!(is_handed(world, id, end).await.status, Status::Cancelled);

    let options = Options {
        expires_ms: Some(10),
        ..Options::default()
    };
    let id = world.submit_with("h", options).await;
    let end = async || {
        world.advance(10).await;
    };
    assert_eq!(is_handed(world, id, end).await.status, Status::Expired);

    let first = world.submit("h").await;
    let id = world.submit_after("h", &[first]).await;
    let end = async || {
        world.cancel(first).await;
    };
    assert_eq!(is_handed(world, id, end).await.status, Status::Skipped);
}

/// A waiting client reads a task that is not in the notice.
async fn waits(world: &World, id: TaskId, end: impl AsyncFnOnce()) -> Result<Task, ClientError> {
    let client = world.client();
    let (ids, ended) = ([id], StatusSet::terminal());
    let mut wait = std::pin::pin!(client.wait(&ids, false, ended, None));
    // It subscribes before it reads, and it reads on another thread.
    let looks = std::future::poll_fn(|context| {
        assert!(wait.as_mut().poll(context).is_pending());
        std::task::Poll::Ready(())
    });
    looks.await;
    end().await;
    Ok(wait.await?.expect("it has no time of its own").remove(0))
}

pub async fn a_payload_that_is_kept_apart_is_read_by_who_waits(world: &mut World) {
    let long = long();
    for (input, output) in [("1", &*long), (&*long, "2"), (&*long, &*long)] {
        let end = async |id| {
            let task = world.start(id).await;
            world.finish(&task, End::Completed(output.into())).await;
        };
        let submit = async || {
            let task = NewTask::root("h", input, Options::default());
            world.store().submit(vec![task]).await.unwrap()[0].id
        };
        let id = submit().await;
        let comes = handed(world, id, async || end(id).await).await;
        assert_eq!(comes, None);
        let id = submit().await;
        let found = waits(world, id, async || end(id).await).await.unwrap();
        assert_eq!(
            (&*found.input, found.output.as_deref()),
            (input, Some(output))
        );
        assert_eq!(found, world.get(id));
    }
}

pub async fn what_is_damaged_is_read_by_who_waits(world: &mut World) {
    let id = world.submit("h").await;
    world.damage("update tasks set input = '{ }'");
    let comes = handed(world, id, async || {
        world.cancel(id).await;
    })
    .await;
    assert_eq!(comes, None);

    let id = world.submit("h").await;
    world.damage(&format!(
        "update tasks set input = '{{ }}' where id = {}",
        id.to_i64()
    ));
    let found = waits(world, id, async || {
        world.cancel(id).await;
    })
    .await;
    let expected = |error| matches!(error, ClientError::Store(StoreError::DamagedTask { id: of, damage: Damage::Row }) if of == id);
    assert!(expected(found.unwrap_err()));
}

pub async fn a_wait_for_a_task_of_its_own_ends_whenever_it_begins(world: &mut World) {
    let client = world.client().remembering_handlers(world.clock.clone());
    let running = StatusSet::from_iter([Status::Running]);
    let waits = async |id, wanted| {
        let wait = client.wait(std::slice::from_ref(id), false, wanted, Some(PATIENCE));
        let found = wait.await.unwrap().expect("it ends");
        assert_eq!(found[0], world.get(*id));
        found[0].status
    };
    let submit = async || {
        let inputs = vec!["1".to_owned()];
        let made = client.submit("h", inputs, Options::default()).await;
        made.unwrap()[0].id
    };
    let ended = StatusSet::terminal();
    // It waits first.
    let id = submit().await;
    let (status, ()) = tokio::join!(waits(&id, ended), async {
        let task = world.start(id).await;
        world.complete(&task).await;
    });
    assert_eq!(status, Status::Completed);
    // It runs already, and has ended already.
    let id = submit().await;
    let task = world.start(id).await;
    assert_eq!(waits(&id, running).await, Status::Running);
    world.complete(&task).await;
    assert_eq!(waits(&id, ended).await, Status::Completed);
    // It had ended, and runs again.
    let id = submit().await;
    world.cancel(id).await;
    assert_eq!(waits(&id, ended).await, Status::Cancelled);
    world.store().retry(id).await.unwrap();
    let task = world.start(id).await;
    world.complete(&task).await;
    assert_eq!(waits(&id, ended).await, Status::Completed);
}

fn row(name: &str, function: Option<Function>) -> HandlerRow {
    HandlerRow {
        name: name.to_owned(),
        digest: "d".to_owned(),
        description: None,
        function,
        generator: false,
    }
}

/// A function that takes one value of a type.
fn takes(one: Type) -> Option<Function> {
    Some(Function {
        name: "f".to_owned(),
        params: vec![("one".to_owned(), one)],
        result: None,
    })
}

async fn keep(world: &World, rows: Vec<HandlerRow>) {
    let change = HandlersChange::whole(rows, "nowhere");
    world.store().keep_handlers(change).await.unwrap();
}

async fn submit(client: &Client, handler: &str, input: &str) -> Result<(), ClientError> {
    let inputs = vec![input.to_owned()];
    let made = client.submit(handler, inputs, Options::default()).await;
    made.map(|_| ())
}

pub async fn a_handler_that_is_withdrawn_or_replaced_is_remembered_no_longer(world: &mut World) {
    let client = world.client().remembering_handlers(world.clock.clone());
    keep(world, vec![row("a", None), row("f", takes(Type::U8))]).await;
    for _ in 0..2 {
        submit(&client, "a", "1").await.unwrap();
        submit(&client, "f", "7").await.unwrap();
        let refused = submit(&client, "f", "\"x\"").await.unwrap_err();
        assert!(matches!(refused, ClientError::TypeMismatch { .. }));
    }
    // Another type, and another handler.
    keep(world, vec![row("b", None), row("f", takes(Type::String))]).await;
    submit(&client, "f", "\"x\"").await.unwrap();
    let refused = submit(&client, "f", "7").await.unwrap_err();
    assert!(matches!(refused, ClientError::TypeMismatch { .. }));
    let refused = submit(&client, "a", "1").await.unwrap_err();
    assert!(matches!(refused, ClientError::UnknownHandler { .. }));
    // A missing handler is not cached.
    let generator = HandlerRow {
        generator: true,
        ..row("b", None)
    };
    submit(&client, "b", "1").await.unwrap();
    keep(world, vec![row("a", None), generator]).await;
    submit(&client, "a", "1").await.unwrap();
    let refused = submit(&client, "b", "1").await.unwrap_err();
    assert!(matches!(refused, ClientError::IsGenerator { .. }));
}

pub async fn a_handler_that_was_found_is_remembered_for_a_second(world: &mut World) {
    let client = world.client().remembering_handlers(world.clock.clone());
    let visitor = world.client();
    keep(world, vec![row("a", None), row("f", takes(Type::U8))]).await;
    let found = async |client: &Client| match submit(client, "a", "1").await {
        Ok(()) => true,
        Err(ClientError::UnknownHandler { .. }) => false,
        Err(error) => panic!("{error}"),
    };
    assert!(found(&client).await);
    submit(&client, "f", "7").await.unwrap();
    // There is no notice of this, so a read shows more than the cache.
    world.change("delete from handlers where name = 'a'; update handlers set function = null");
    assert!(!found(&visitor).await);
    assert!(found(&client).await);
    // The cache never refuses anything.
    submit(&client, "f", "\"x\"").await.unwrap();
    world.clock.advance(1_000);
    assert!(!found(&client).await);
}
