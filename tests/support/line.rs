//! A line to a server that a test holds up: altogether, or one that is about to commit.

use std::collections::HashSet;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use tokio::sync::Notify;

use super::PATIENCE;
use super::postgres::Cluster;

/// Carries what one or more clients and a server say to each other.
pub struct Line {
    port: u16,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    moved: Condvar,
    /// A commit is held.
    held: Notify,
    /// Statements that were sent.
    statements: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Nothing is carried.
    stalls: bool,
    /// The next commit is not carried.
    holds: bool,
    /// The answer to the next commit is not carried, and the line is cut.
    cuts: bool,
}

impl Line {
    /// A line to a cluster.
    pub fn to(cluster: &Cluster) -> Line {
        let socket: PathBuf = cluster.directory().join(".s.PGSQL.5432");
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Arc::new(Gate::default());
        let of_line = gate.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // While the server is away nobody is let in.
                let Ok(far) = UnixStream::connect(&socket) else {
                    continue;
                };
                near.set_nodelay(true).unwrap();
                let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (there, back) = (of_line.clone(), of_line.clone());
                std::thread::spawn(move || there.carry(near, far));
                std::thread::spawn(move || back.carry_back(far_too, near_too));
            }
        });
        Line { port, gate }
    }

    /// The address of a database at the other end.
    pub fn url(&self, database: &str) -> String {
        let port = self.port;
        format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// How many statements were sent, all clients together.
    pub fn statements(&self) -> u64 {
        self.gate.statements.load(Ordering::Relaxed)
    }

    /// Carry nothing from now on.
    pub fn stall(&self) {
        self.gate.change(|state| state.stalls = true);
    }

    /// Hold the next transaction that has written and is about to commit: all that it did is done, and not
    /// committed.
    pub fn hold_commit(&self) {
        self.gate.change(|state| state.holds = true);
    }

    /// Let the next commit of something written through, and cut its connection before the answer.
    pub fn cut_after_commit(&self) {
        self.gate.change(|state| state.cuts = true);
    }

    /// Ends when one is held.
    pub async fn held(&self) {
        let held = tokio::time::timeout(PATIENCE, self.gate.held.notified());
        held.await.expect("nobody commits");
    }

    /// Carry again what was held.
    pub fn go_on(&self) {
        self.gate.change(|state| *state = State::default());
    }
}

impl Gate {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.moved.notify_all();
    }

    /// Ends when the line is not held up.
    fn pass(&self) {
        let state = self.state.lock().unwrap();
        drop(self.moved.wait_while(state, |state| state.stalls).unwrap());
    }

    /// What a client says, message by message. The first has no kind.
    fn carry(&self, near: TcpStream, mut far: UnixStream) {
        let mut from = BufReader::new(near.try_clone().unwrap());
        let mut first = true;
        let mut cut = false;
        let mut writing = Writing::default();
        // A client sends the messages up to a sync together: half of them never get stuck.
        let mut begins = true;
        while let Some(message) = message(&mut from, first) {
            let first_of_all = std::mem::take(&mut first);
            writing.hears(&message);
            if !first_of_all && matches!(message.first(), Some(b'B' | b'Q')) {
                self.statements.fetch_add(1, Ordering::Relaxed);
            }
            if message.ends_with(b"commit\0") && std::mem::take(&mut writing.has_written) {
                let mut state = self.state.lock().unwrap();
                cut = std::mem::take(&mut state.cuts);
                if state.holds {
                    (state.holds, state.stalls) = (false, true);
                    self.held.notify_one();
                }
            }
            if std::mem::replace(&mut begins, ends_batch(&message, first_of_all)) {
                self.pass();
            }
            if cut {
                let _ = near.shutdown(Shutdown::Both);
            }
            if far.write_all(&message).is_err() || cut {
                break;
            }
        }
        let _ = near.shutdown(Shutdown::Both);
        // It goes on with what it has heard, as long as somebody takes its answers.
        let _ = far.shutdown(Shutdown::Write);
    }

    /// What the server says, also to one that has gone, and that it has gone itself.
    fn carry_back(&self, mut far: UnixStream, mut near: TcpStream) {
        let mut bytes = [0; 16 << 10];
        loop {
            let read = far.read(&mut bytes);
            self.pass();
            match read {
                Ok(count @ 1..) => drop(near.write_all(&bytes[..count])),
                _ => break,
            }
        }
        let _ = near.shutdown(Shutdown::Both);
        let _ = far.shutdown(Shutdown::Both);
    }
}

/// Whether the server answers a message without waiting for more: a sync, a simple query, or the first of all.
fn ends_batch(message: &[u8], first_of_all: bool) -> bool {
    first_of_all
        || !matches!(
            message.first(),
            Some(b'P' | b'B' | b'D' | b'E' | b'C' | b'd')
        )
}

/// Whether a transaction has written: its last statement before the commit leaves a mark of it. Others only
/// tell something, or have looked.
#[derive(Default)]
struct Writing {
    /// Names of the statements that leave marks.
    marks: HashSet<Vec<u8>>,
    has_written: bool,
}

impl Writing {
    fn hears(&mut self, message: &[u8]) {
        let mut words = message
            .get(5..)
            .unwrap_or_default()
            .split(|&byte| byte == 0);
        match message.first() {
            // Parse: the name of a statement, and its text.
            Some(b'P') => {
                let name = words.next().unwrap_or_default();
                let text = String::from_utf8_lossy(words.next().unwrap_or_default());
                if text.starts_with("insert into writers") {
                    self.marks.insert(name.to_vec());
                }
            }
            // Bind: a portal, and the name of its statement.
            Some(b'B') => {
                let name = words.nth(1).unwrap_or_default();
                self.has_written |= self.marks.contains(name);
            }
            _ => {}
        }
    }
}

fn message(from: &mut impl Read, first: bool) -> Option<Vec<u8>> {
    let head = if first { 4 } else { 5 };
    let mut message = vec![0; head];
    from.read_exact(&mut message).ok()?;
    let length = u32::from_be_bytes(message[head - 4..].try_into().unwrap()) as usize;
    message.resize(head - 4 + length, 0);
    from.read_exact(&mut message[head..]).ok()?;
    Some(message)
}
