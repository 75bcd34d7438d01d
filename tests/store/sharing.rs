//! What one transaction takes on. Many rows are several transactions, and what comes meanwhile does not
//! stand behind all of them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use fishway::bus::Bus;
use fishway::clock::SystemClock;
use fishway::limits::{AFTER_MAX, TRANSACTION_ROWS};
use fishway::store::StoreError;
use fishway::store::kernel::{self, Turn};
use fishway::store::sqlite::{Opening, Role, SqliteEngine};
use fishway::store::writer::{Ask, Begun, Engine, Job, Left, Message, Writer};
use fishway::task::{Fence, NewTask, Options, TaskId, Token};

/// Something that the writer does, and the word that is noted when it is done.
struct Noted<F> {
    word: String,
    token: Option<Token>,
    after_all: bool,
    notes: Arc<Mutex<Vec<String>>>,
    run: F,
}

impl<F: FnMut(&mut Turn<'_>) -> Result<(), StoreError> + Send> Job for Noted<F> {
    fn run(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        assert!(turn.rows_touched() < TRANSACTION_ROWS, "{}", self.word);
        (self.run)(turn)
    }

    fn settle(self: Box<Self>, outcome: Result<(), StoreError>) {
        outcome.unwrap();
        self.notes.lock().unwrap().push(self.word);
    }

    fn token(&self) -> Option<Token> {
        self.token
    }

    fn heard(&self) -> bool {
        true
    }

    fn after_all(&self) -> bool {
        self.after_all
    }
}

struct Line {
    writer: Writer<SqliteEngine>,
    queue: mpsc::Sender<Message>,
    notes: Arc<Mutex<Vec<String>>>,
    _directory: tempfile::TempDir,
}

impl Line {
    fn open() -> Line {
        let directory = tempfile::tempdir().unwrap();
        let opening = Opening {
            directory: directory.path().to_owned(),
            role: Role::Visitor,
            watch: false,
            bytes_max: None,
            clock: Arc::new(SystemClock),
        };
        let (engine, ids) = SqliteEngine::open(&opening).unwrap();
        let (queue, taken) = mpsc::channel();
        let writer = Writer {
            engine,
            queue: taken,
            nudged: Arc::new(AtomicBool::new(false)),
            bus: Arc::new(Bus::default()),
            ids: Arc::new(ids),
            dispatch: None,
            lost: HashSet::new(),
            kept: Default::default(),
            unfinished: Arc::default(),
        };
        Line {
            writer,
            queue,
            notes: Arc::default(),
            _directory: directory,
        }
    }

    fn put(
        &self,
        word: &str,
        token: Option<Token>,
        after_all: bool,
        run: impl FnMut(&mut Turn<'_>) -> Result<(), StoreError> + Send + 'static,
    ) {
        put(&self.queue, &self.notes, word, token, after_all, run);
    }

    /// Do all that was put, and tell in which order it was on disk.
    fn run(self) -> Vec<String> {
        self.queue
            .send(Message::Job(
                Box::new(Noted {
                    word: "close".to_owned(),
                    token: None,
                    after_all: true,
                    notes: self.notes.clone(),
                    run: {
                        let queue = self.queue.clone();
                        move |_: &mut Turn<'_>| {
                            queue.send(Message::Close).unwrap();
                            Ok(())
                        }
                    },
                }),
                fishway::store::Urgency::Soon,
            ))
            .unwrap();
        self.writer.run();
        self.notes.lock().unwrap().clone()
    }
}

fn put(
    queue: &mpsc::Sender<Message>,
    notes: &Arc<Mutex<Vec<String>>>,
    word: &str,
    token: Option<Token>,
    after_all: bool,
    run: impl FnMut(&mut Turn<'_>) -> Result<(), StoreError> + Send + 'static,
) {
    let job = Noted {
        word: word.to_owned(),
        token,
        after_all,
        notes: notes.clone(),
        run,
    };
    let message = Message::Job(Box::new(job), fishway::store::Urgency::Soon);
    queue.send(message).unwrap();
}

/// A task that starts after as many others as it may.
fn wide(after: TaskId) -> NewTask {
    let options = Options {
        after: vec![after; AFTER_MAX],
        ..Options::default()
    };
    NewTask::root("echo", "1", options)
}

fn attempt(number: i64) -> Option<Token> {
    Some(Token {
        task: TaskId::from_i64(number),
        fence: Fence::from_i64(1),
    })
}

#[test]
fn what_comes_later_is_not_behind_all_that_was_too_much_for_one_transaction() {
    let mut line = Line::open();
    let upstream = line.first();
    let (queue, notes) = (line.queue.clone(), line.notes.clone());
    // Sixty thousand rows: six transactions and more, which stand in the line at once.
    for number in 0..60 {
        let (queue, notes) = (queue.clone(), notes.clone());
        line.put(
            &format!("large {number}"),
            attempt(number + 1),
            false,
            move |turn| {
                if number == 0 {
                    // This comes when the line is as long as it gets.
                    put(&queue, &notes, "small", None, false, |turn| {
                        kernel::submit(turn, &[NewTask::root("echo", "2", Options::default())])?;
                        Ok(())
                    });
                    put(
                        &queue,
                        &notes,
                        "of the last",
                        attempt(60),
                        false,
                        |_| Ok(()),
                    );
                    put(&queue, &notes, "flush", None, true, |_| Ok(()));
                    put(&queue, &notes, "of another", attempt(99), false, |_| Ok(()));
                }
                kernel::submit(turn, &[wide(upstream)])?;
                Ok(())
            },
        );
    }
    let order = line.run();
    let place = |word: &str| order.iter().position(|other| other == word).unwrap();
    // The transaction that it came in, and no other.
    assert!(place("small") <= place("large 10"), "{order:?}");
    // An attempt's writes stay in their order, and a flush is behind all that came before it.
    assert!(place("of the last") > place("large 59"), "{order:?}");
    assert!(place("flush") > place("of the last"), "{order:?}");
    assert!(place("of another") <= place("large 11"), "{order:?}");
    let large: Vec<usize> = (0..60)
        .map(|number| place(&format!("large {number}")))
        .collect();
    assert!(large.is_sorted(), "{order:?}");
    assert_eq!(order.len(), 65, "each is done once");
}

impl Line {
    /// A task to start after.
    fn first(&mut self) -> TaskId {
        let made = Arc::new(Mutex::new(None));
        let told = made.clone();
        let job = Noted {
            word: "first".to_owned(),
            token: None,
            after_all: false,
            notes: Arc::default(),
            run: move |turn: &mut Turn<'_>| {
                let new = NewTask::root("echo", "0", Options::default());
                *told.lock().unwrap() = Some(kernel::submit(turn, &[new])?[0].id);
                Ok(())
            },
        };
        self.writer.turn(vec![Box::new(job)]);
        let id = made.lock().unwrap().take();
        id.unwrap()
    }
}

/// A database that nobody can get at, and how often that was tried.
struct Away {
    engine: SqliteEngine,
    tries: Arc<AtomicUsize>,
}

impl Engine for Away {
    type Rows<'a> = <SqliteEngine as Engine>::Rows<'a>;

    fn begin(&mut self, _: bool, _: bool, _: &[TaskId]) -> Result<Begun, StoreError> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        Err(StoreError::Server {
            what: "nobody answers".to_owned(),
            hint: None,
            passing: true,
        })
    }

    fn rows(&mut self) -> Self::Rows<'_> {
        self.engine.rows()
    }

    fn commit(&mut self, left: &Left<'_>) -> Result<(), StoreError> {
        self.engine.commit(left)
    }

    fn rollback(&mut self) {
        self.engine.rollback();
    }

    fn again(&mut self, error: &StoreError) -> bool {
        self.engine.again(error)
    }

    fn changed_outside(&mut self) -> bool {
        self.engine.changed_outside()
    }

    fn noticed(&mut self) {
        self.engine.noticed();
    }

    fn owes_at(&self) -> Option<Instant> {
        self.engine.owes_at()
    }

    fn committed(&mut self) {
        self.engine.committed();
    }

    fn close(&mut self) {
        self.engine.close();
    }
}

#[test]
fn a_database_that_is_away_is_not_tried_once_more_for_each_of_those_who_ask() {
    let Line {
        writer,
        queue: _queue,
        _directory,
        ..
    } = Line::open();
    let tries = Arc::new(AtomicUsize::new(0));
    let mut writer = Writer {
        engine: Away {
            engine: writer.engine,
            tries: tries.clone(),
        },
        queue: writer.queue,
        nudged: writer.nudged,
        bus: writer.bus,
        ids: writer.ids,
        dispatch: None,
        lost: HashSet::new(),
        kept: Default::default(),
        unfinished: Arc::default(),
    };
    let mut jobs: Vec<Box<dyn Job>> = Vec::new();
    let mut answers = Vec::new();
    for _ in 0..100 {
        let (job, answer) = Ask::new(None, |_: &mut Turn<'_>| Ok(()));
        jobs.push(Box::new(job));
        answers.push(answer);
    }
    writer.turn(jobs);
    for mut answer in answers {
        let said = answer.try_recv().unwrap().unwrap_err();
        assert_eq!(said.to_string(), "nobody answers");
    }
    assert_eq!(tries.load(Ordering::Relaxed), 1);
}
