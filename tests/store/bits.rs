//! Single bits of a database file that flip, as disks, memory and cables do it.

use std::path::Path;
use std::sync::Arc;

use fishway::clock::HandClock;
use fishway::journal::{Answer, Entry, Function};
use fishway::store::sqlite::{FILE_NAME, Opening, Role, SqliteStore};
use fishway::store::{End, Filter, LogPosition, Record, Signal, Store, StoreError};
use fishway::task::{NewTask, Options, Status, Task, TaskId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rusqlite::Connection;

use super::world::{START_MS, SqliteEngine, World, call, every_minute, failed, log_line};

/// Bits of the file that are tried, by chance from a seed: some hundred in each of its pages.
const FLIPS: usize = 400;

/// Something of everything that has a checksum.
async fn furnish(world: &World) {
    let long = format!("\"{}\"", "long ".repeat(1_000));
    let metadata = Some("{\"team\":\"blue\"}".into());
    for number in 0..6 {
        let input = if number == 5 {
            long.clone()
        } else {
            format!("{{\"n\":{number}}}")
        };
        let options = Options {
            metadata: metadata.clone(),
            ..Options::default()
        };
        let task = NewTask::root("h", input.as_str(), options);
        world.store().submit(vec![task]).await.unwrap();
        let task = world.claim().await;
        let entry = Entry {
            number: 1,
            call: call(Function::Get, "it"),
            answer: Answer::Document(Some(number.to_string())),
            at_ms: START_MS,
        };
        let place = Record::Checkpoint {
            name: "place".to_owned(),
            value: number.to_string(),
        };
        let records = vec![
            Record::Log(log_line(0, 1, "half way")),
            place,
            Record::Entry(Box::new(entry)),
        ];
        world.record(&task, records).await;
        let signal = Signal {
            to: task.id,
            name: "go".to_owned(),
            value: number.to_string(),
        };
        match number {
            0 => world.store().send(signal, None).await.map(drop).unwrap(),
            1 | 2 => world.finish(&task, failed(number == 1, 0)).await,
            _ => {
                world
                    .finish(&task, End::Completed(long.as_str().into()))
                    .await
            }
        }
        if number == 1 {
            let again = world.claim().await;
            world.finish(&again, End::Completed("[1]".into())).await;
        }
    }
    world.workflow("a, b<a, s>p, p:pool").await;
    let plan = every_minute("nightly");
    world.store().add_schedule(plan, false).await.unwrap();
}

fn open(directory: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(Opening {
        directory: directory.to_owned(),
        role: Role::Visitor,
        watch: false,
        bytes_max: None,
        clock: Arc::new(HandClock::at(START_MS)),
    })
}

fn listed(store: &SqliteStore) -> Result<Vec<Task>, StoreError> {
    store.list(&Filter {
        limit: 1_000,
        ..Filter::default()
    })
}

/// Everything that can be read of a task besides its row; `None` for a read that is an error.
fn besides(store: &SqliteStore, id: TaskId) -> [Option<String>; 5] {
    fn told<T: std::fmt::Debug>(read: Result<T, StoreError>) -> Option<String> {
        read.ok().map(|read| format!("{read:?}"))
    }
    [
        told(store.tasks(&[id])),
        told(store.journal(id, 0)),
        told(store.checkpoint(id, "place")),
        told(store.attempts(id)),
        told(store.logs(id, LogPosition::default(), 10)),
    ]
}

/// How a flip shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shows {
    /// Nothing that is read is another.
    Not,
    /// The file is refused, or a read of it is.
    Refused,
    /// A row is reported as damaged.
    Damaged,
    /// A row is missing, which a deep look names.
    DeepLook,
}

struct Whole {
    tasks: Vec<Task>,
    besides: Vec<[Option<String>; 5]>,
    schedules: String,
}

/// Read everything. Each value is as it was written, or is reported as damaged.
fn look(directory: &Path, whole: &Whole) -> Shows {
    let Ok(store) = open(directory) else {
        return Shows::Refused;
    };
    let Ok(tasks) = listed(&store) else {
        return Shows::Refused;
    };
    let mut shows = Shows::Not;
    let mut see = |other: Shows| shows = shows.max(other);
    for task in &tasks {
        if task.damage.is_some() {
            see(Shows::Damaged);
        } else if !whole.tasks.contains(task) {
            panic!("told as if it had been written: {task:#?}");
        }
    }
    if tasks.len() != whole.tasks.len() {
        see(Shows::DeepLook);
    }
    for (task, expected) in whole.tasks.iter().zip(&whole.besides) {
        for (told, expected) in besides(&store, task.id).iter().zip(expected) {
            match told {
                None => see(Shows::Refused),
                Some(told) if Some(told) == expected.as_ref() => {}
                Some(told) if told.contains("amage") => see(Shows::Damaged),
                // A row is not found, or one less.
                Some(told) if told.len() < expected.as_ref().map_or(0, String::len) => {
                    see(Shows::DeepLook);
                }
                Some(told) => panic!("told as if it had been written: {told}"),
            }
        }
    }
    match store.schedules() {
        Err(_) => see(Shows::Refused),
        Ok(told) if format!("{told:?}") == whole.schedules => {}
        Ok(told) if told.iter().any(|one| one.damaged) => see(Shows::Damaged),
        Ok(told) => {
            assert!(told.is_empty(), "told as if it had been written: {told:?}");
            see(Shows::DeepLook);
        }
    }
    if shows == Shows::DeepLook {
        let found = store.examine();
        assert!(found.is_err() || found.is_ok_and(|found| !found.is_empty()));
    }
    shows
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bit_of_a_file_that_flips_changes_what_is_told_in_silence() {
    let engine = SqliteEngine::new();
    let home = engine.directory.clone();
    let mut world = World::new(engine);
    furnish(&world).await;
    world.close();
    let file = Connection::open(home.path().join(FILE_NAME)).unwrap();
    file.execute_batch("pragma wal_checkpoint(truncate); pragma journal_mode = delete")
        .unwrap();
    drop(file);
    let bytes = std::fs::read(home.path().join(FILE_NAME)).unwrap();
    let seen = tokio::task::spawn_blocking(move || flips(&bytes))
        .await
        .unwrap();
    // Most of a file is free space, text that SQLite keeps of our statements, and rows that no command shows.
    let count = |shows| seen.iter().filter(|one| **one == shows).count();
    assert!(count(Shows::Damaged) > 20, "{seen:?}");
    assert!(count(Shows::Not) > 20, "{seen:?}");
}

fn flips(bytes: &[u8]) -> Vec<Shows> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    let fresh = |bytes: &[u8]| {
        for name in std::fs::read_dir(directory.path()).unwrap() {
            let _ = std::fs::remove_file(name.unwrap().path());
        }
        std::fs::write(&path, bytes).unwrap();
    };
    fresh(bytes);
    let store = open(directory.path()).unwrap();
    let tasks = listed(&store).unwrap();
    assert!(tasks.iter().any(|task| task.status == Status::Running));
    let whole = Whole {
        besides: tasks.iter().map(|task| besides(&store, task.id)).collect(),
        schedules: format!("{:?}", store.schedules().unwrap()),
        tasks,
    };
    drop(store);
    fresh(bytes);
    assert_eq!(look(directory.path(), &whole), Shows::Not);
    let mut chance = StdRng::seed_from_u64(46);
    let flip = |_| {
        let bit = chance.random_range(0..bytes.len() * 8);
        let mut flipped = bytes.to_owned();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fresh(&flipped);
        look(directory.path(), &whole)
    };
    (0..FLIPS).map(flip).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bit_of_a_payload_that_flips_is_told() {
    let mut world = World::new(SqliteEngine::new());
    let text = "{\"pay\":\"12.50\"}";
    let task = NewTask::root("h", text, Options::default());
    let id = world.store().submit(vec![task]).await.unwrap()[0].id;
    for bit in 0..text.len() * 8 {
        let mut bytes = text.as_bytes().to_owned();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        world.damage(&format!("update tasks set input = cast(x'{hex}' as text)"));
        let read = world.store().tasks(&[id]);
        assert!(
            matches!(read, Err(StoreError::DamagedTask { .. })),
            "bit {bit}: {read:?}"
        );
        let listed = world
            .store()
            .list(&Filter {
                limit: 9,
                ..Filter::default()
            })
            .unwrap();
        assert!(listed[0].damage.is_some() && &*listed[0].input == "null");
    }
    // Half of a character in it is no text at all, and the task still fails as any other.
    world.damage("update tasks set input = cast(x'7bff' as text)");
    let none = world.claim_up_to(1).await;
    assert!(none.is_empty());
    world.close();
}
