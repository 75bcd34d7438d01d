use fishway::journal::{Answer, Function};
use fishway::limits::SIGNALS_UNREAD_MAX;
use fishway::store::{CallBy, End, Sent, Signal, StoreError, Until};
use fishway::task::state::Refusal;
use fishway::task::{Options, Task, TaskId};

use crate::store::world::{START_MS, World, call, done, failed};

fn signal(to: TaskId, name: &str, value: &str) -> Signal {
    let (name, value) = (name.to_owned(), value.to_owned());
    Signal { to, name, value }
}

fn by(task: &Task, number: u32, function: Function) -> CallBy {
    CallBy {
        token: task.token(),
        number,
        call: call(function, "it"),
    }
}

/// Send from outside; answers whether the task was waiting for it.
async fn send(world: &World, to: TaskId, name: &str, value: &str) -> bool {
    let sent = world.store().send(signal(to, name, value), None).await;
    sent.unwrap().awaited
}

async fn refused(world: &World, to: TaskId) -> StoreError {
    let sent = world.store().send(signal(to, "go", "1"), None).await;
    sent.unwrap_err()
}

async fn receive(world: &World, task: &Task, number: u32, name: &str) -> Option<String> {
    let by = by(task, number, Function::SignalReceive);
    let received = world.store().receive(name.to_owned(), by).await;
    received.unwrap().value
}

async fn wait_for(world: &World, task: &Task, number: u32, name: &str) {
    let until = Until::Signal(name.to_owned());
    world.suspend(task, number, until, None).await;
}

fn unread(world: &World, id: TaskId) -> u64 {
    world.store().signals_unread(id).unwrap()
}

async fn running(world: &World) -> Task {
    let id = world.submit("h").await;
    world.start(id).await
}

pub async fn signals_are_received_once_in_the_order_of_their_sending(world: &mut World) {
    let id = world.submit("h").await;
    for value in ["1", "2"] {
        assert!(!send(world, id, "go", value).await, "it has not started");
    }
    let task = world.start(id).await;
    assert_eq!(
        receive(world, &task, 1, "go").await.as_deref(),
        Some("1"),
        "what came before the start counts"
    );
    send(world, id, "go", "3").await;
    assert_eq!(receive(world, &task, 2, "go").await.as_deref(), Some("2"));
    assert_eq!(receive(world, &task, 3, "go").await.as_deref(), Some("3"));
    assert_eq!(receive(world, &task, 4, "go").await, None);
    send(world, id, "go", "4").await;
    assert_eq!(receive(world, &task, 5, "go").await.as_deref(), Some("4"));
}

pub async fn signals_of_other_names_and_other_tasks_are_left_alone(world: &mut World) {
    let (one, other) = (running(world).await, running(world).await);
    for (to, name, value) in [
        (one.id, "stop", "1"),
        (other.id, "go", "2"),
        (one.id, "go", "3"),
    ] {
        send(world, to, name, value).await;
    }
    let store = world.store();
    assert!(store.has_signal(one.id, "stop").unwrap());
    assert!(!store.has_signal(other.id, "stop").unwrap());
    assert_eq!((unread(world, one.id), unread(world, other.id)), (2, 1));
    assert_eq!(receive(world, &one, 1, "go").await.as_deref(), Some("3"));
    assert_eq!(receive(world, &one, 2, "go").await, None);
    assert_eq!(receive(world, &one, 3, "stop").await.as_deref(), Some("1"));
    assert_eq!(receive(world, &other, 1, "go").await.as_deref(), Some("2"));
    assert_eq!((unread(world, one.id), unread(world, other.id)), (0, 0));
}

pub async fn a_send_ends_a_wait_for_its_name_and_no_other(world: &mut World) {
    let task = running(world).await;
    wait_for(world, &task, 1, "go").await;
    assert_eq!(world.get(task.id).awaited_signal(), Some("go"));
    assert!(!send(world, task.id, "stop", "0").await);
    assert_eq!(world.show(&[task.id]), "waiting");
    assert!(send(world, task.id, "go", "1").await);
    assert_eq!(world.show(&[task.id]), "ready");
    assert!(!send(world, task.id, "go", "2").await, "it is awake");
    let task = world.start(task.id).await;
    assert_eq!(receive(world, &task, 1, "go").await.as_deref(), Some("1"));

    // A signal is not what a wait for tasks or for time is for.
    let other = running(world).await;
    world.wait_all(&task, 2, &[other.id]).await;
    assert!(!send(world, task.id, "go", "3").await);
    assert_eq!(world.show(&[task.id]), "waiting");
    world.complete(&other).await;
    let task = world.start(task.id).await;
    let until_ms = Some(START_MS + 1_000);
    world.suspend(&task, 3, Until::Time, until_ms).await;
    assert!(!send(world, task.id, "go", "4").await);
    assert_eq!(world.show(&[task.id]), "waiting");
}

pub async fn a_wait_for_a_signal_that_is_there_is_no_wait(world: &mut World) {
    let task = running(world).await;
    send(world, task.id, "go", "1").await;
    wait_for(world, &task, 1, "go").await;
    assert_eq!(world.show(&[task.id]), "ready");
    assert!(!world.get(task.id).wait.unwrap().woken.unwrap().timed_out);
    let task = world.start(task.id).await;
    wait_for(world, &task, 2, "stop").await;
    assert_eq!(world.show(&[task.id]), "waiting");
}

pub async fn a_wait_for_a_signal_ends_when_its_time_runs_out(world: &mut World) {
    let task = running(world).await;
    let until = Until::Signal("go".to_owned());
    world
        .suspend(&task, 1, until.clone(), Some(START_MS + 1_000))
        .await;
    assert_eq!(world.advance(999).await, Some(START_MS + 1_000));
    assert_eq!(world.show(&[task.id]), "waiting");
    world.advance(1).await;
    assert!(world.get(task.id).wait.unwrap().woken.unwrap().timed_out);
    let task = world.start(task.id).await;
    assert_eq!(receive(world, &task, 1, "go").await, None);

    // What came in time counts, though the clock is told later.
    world.suspend(&task, 2, until, Some(START_MS + 2_000)).await;
    world.clock.advance(1_500);
    assert!(send(world, task.id, "go", "1").await);
    assert!(!world.get(task.id).wait.unwrap().woken.unwrap().timed_out);
}

pub async fn a_receipt_and_its_record_are_one(world: &mut World) {
    let task = running(world).await;
    send(world, task.id, "go", "1").await;
    send(world, task.id, "go", "2").await;
    receive(world, &task, 4, "go").await;
    receive(world, &task, 5, "stop").await;
    world.reopen();
    world.recover().await.unwrap();
    let journal = world.store().journal(task.id, 0).unwrap();
    let found: Vec<_> = journal
        .iter()
        .map(|entry| (entry.number, entry.call.function, entry.answer.clone()))
        .collect();
    let answer = |value: Option<&str>| Answer::Document(value.map(str::to_owned));
    assert_eq!(
        found,
        [
            (4, Function::SignalReceive, answer(Some("1"))),
            (5, Function::SignalReceive, answer(None)),
        ]
    );

    // The claim of the dead host takes nothing; that of the next does.
    let stale = by(&task, 6, Function::SignalReceive);
    let taken = world.store().receive("go".to_owned(), stale).await;
    assert!(matches!(taken, Err(StoreError::Stale(_))), "{taken:?}");
    let again = world.start(task.id).await;
    assert_eq!(receive(world, &again, 6, "go").await.as_deref(), Some("2"));
}

pub async fn a_send_and_its_record_are_one(world: &mut World) {
    let (sender, receiver) = (running(world).await, running(world).await);
    let store = world.shared();
    let send = |sender: &Task, number, to| {
        let by = by(sender, number, Function::SignalSend);
        store.send(signal(to, "go", "1"), Some(by))
    };
    world.clock.advance(7);
    let expected = Sent {
        awaited: false,
        at_ms: START_MS + 7,
    };
    assert_eq!(send(&sender, 3, receiver.id).await.unwrap(), expected);
    let journal = store.journal(sender.id, 0).unwrap();
    assert_eq!((journal.len(), journal[0].number), (1, 3));
    assert_eq!(journal[0].answer, Answer::Done);
    assert_eq!(journal[0].at_ms, START_MS + 7);
    send(&sender, 4, sender.id).await.unwrap();
    assert_eq!(unread(world, sender.id), 1, "a task may signal itself");

    // Refused, so neither is kept; the caller records the refusal itself.
    world.complete(&receiver).await;
    send(&sender, 5, receiver.id).await.unwrap_err();
    assert_eq!(store.journal(sender.id, 0).unwrap().len(), 2);

    // Nor is either under a claim that is lost.
    let receiver = running(world).await;
    world.finish(&sender, End::Interrupted).await;
    let sent = send(&sender, 5, receiver.id).await;
    assert!(matches!(sent, Err(StoreError::Stale(_))), "{sent:?}");
    assert_eq!(unread(world, receiver.id), 0);
    assert_eq!(store.journal(sender.id, 0).unwrap().len(), 2);
}

pub async fn unread_signals_outlive_attempts_phases_and_hosts(world: &mut World) {
    let mut task = running(world).await;
    for value in ["1", "2", "3", "4", "5"] {
        send(world, task.id, "go", value).await;
    }
    let phase = End::PhaseEnded {
        phase: "next".into(),
        input: "1".into(),
        after: vec![],
        until_ms: None,
    };
    for (value, end) in [
        ("1", failed(true, 0)),
        ("2", End::Rescheduled(0)),
        ("3", phase),
        ("4", End::Interrupted),
    ] {
        // What was received stays so, also by an attempt that fails.
        let received = receive(world, &task, 1, "go").await;
        assert_eq!(received.as_deref(), Some(value));
        world.finish(&task, end).await;
        world.reopen();
        world.store().tick().await.unwrap();
        task = world.start(task.id).await;
    }
    world.reopen();
    world.recover().await.unwrap();
    let task = world.start(task.id).await;
    assert_eq!(unread(world, task.id), 1);
    assert_eq!(receive(world, &task, 2, "go").await.as_deref(), Some("5"));
}

pub async fn a_wait_for_a_signal_goes_on_when_its_host_is_gone(world: &mut World) {
    let task = running(world).await;
    wait_for(world, &task, 1, "go").await;
    world.reopen();
    assert_eq!(world.recover().await.unwrap(), 0);
    assert!(send(world, task.id, "go", "1").await);
    world.reopen();
    let task = world.start(task.id).await;
    assert_eq!(receive(world, &task, 1, "go").await.as_deref(), Some("1"));
}

pub async fn unread_signals_end_with_their_task(world: &mut World) {
    for end in [done(), failed(false, 0)] {
        let task = running(world).await;
        send(world, task.id, "go", "1").await;
        world.finish(&task, end).await;
        assert_eq!(unread(world, task.id), 0);
    }
    let expires = Options {
        expires_ms: Some(10),
        ..Options::default()
    };
    let cancelled = world.submit("h").await;
    let skipped = world.submit_after("h", &[cancelled]).await;
    let expired = world.submit_with("h", expires).await;
    for id in [cancelled, skipped, expired] {
        send(world, id, "go", "1").await;
        assert_eq!(unread(world, id), 1);
    }
    world.cancel(cancelled).await;
    world.advance(10).await;
    assert_eq!(
        world.show(&[cancelled, skipped, expired]),
        "cancelled skipped expired"
    );
    for id in [cancelled, skipped, expired] {
        assert_eq!(unread(world, id), 0);
    }
    world.store().retry(cancelled).await.unwrap();
    let again = world.start(cancelled).await;
    assert_eq!(receive(world, &again, 1, "go").await, None);
}

pub async fn a_task_that_has_ended_or_never_was_is_sent_nothing(world: &mut World) {
    let unknown = TaskId::from_i64(3);
    let error = refused(world, unknown).await;
    assert!(matches!(error, StoreError::UnknownTask(id) if id == unknown));
    let task = running(world).await;
    world.complete(&task).await;
    let error = refused(world, task.id).await;
    assert!(
        matches!(error, StoreError::Refused(Refusal::Ended { id, .. }) if id == task.id),
        "{error:?}"
    );
    assert_eq!((unread(world, unknown), unread(world, task.id)), (0, 0));
}

pub async fn unread_signals_are_bounded_and_a_receipt_makes_room(world: &mut World) {
    let (task, other) = (running(world).await, running(world).await);
    let store = world.shared();
    let sends = (0..SIGNALS_UNREAD_MAX).map(|number| {
        // The first by a name of its own, so that it can be taken from behind the others.
        let name = if number < 2 { "first" } else { "go" };
        let (store, signal) = (store.clone(), signal(task.id, name, "1"));
        tokio::spawn(async move { store.send(signal, None).await })
    });
    for sent in sends.collect::<Vec<_>>() {
        sent.await.unwrap().unwrap();
    }
    let full = refused(world, task.id).await;
    assert!(
        matches!(full, StoreError::SignalsFull { task: id, unread } if id == task.id && unread == SIGNALS_UNREAD_MAX),
        "{full:?}"
    );
    send(world, other.id, "go", "1").await;
    for (name, number) in [("go", 1), ("first", 2)] {
        assert!(receive(world, &task, number, name).await.is_some());
        send(world, task.id, "go", "1").await;
        refused(world, task.id).await;
    }
    assert_eq!(unread(world, task.id), SIGNALS_UNREAD_MAX);
}
