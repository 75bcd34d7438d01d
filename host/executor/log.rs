//! What a guest prints, line by line, as log lines of its task.
//!
//! Lines are numbered within the run, so a replay that prints them again adds nothing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::clock::Clock;
use crate::journal::Logged;
use crate::store::{LogLevel, LogLine, LogPosition, Record, Store, Urgency};
use crate::task::Token;

/// Bytes that a line counts for besides its text: its row has a cost of its own.
const LINE_COST_BYTES: u64 = 32;

/// Longest line, in bytes; a longer one becomes several.
const LINE_BYTES_MAX: usize = 8 << 10;

/// Lines are handed to the store in batches of this many at most.
const BATCH_LINES: usize = 64;

/// Where the lines of one attempt go.
#[derive(Clone)]
pub struct LogSink {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    token: Token,
    run: u32,
    line: u32,
    bytes: u64,
    bytes_max: u64,
    /// Unfinished lines of standard output and standard error.
    open: [Vec<u8>; 2],
    batch: Vec<LogLine>,
    /// The last lines of standard error: what a panic said.
    last_words: Vec<String>,
}

impl LogSink {
    /// A sink for the run that `token` has claimed, for at most `bytes_max` of text.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        token: Token,
        run: u32,
        bytes_max: u64,
    ) -> LogSink {
        let state = State {
            token,
            // Positions count runs from 1, so that 0 is before all.
            run: run + 1,
            line: 0,
            bytes: 0,
            bytes_max,
            open: [Vec::new(), Vec::new()],
            batch: Vec::new(),
            last_words: Vec::new(),
        };
        LogSink {
            shared: Arc::new(Shared {
                store,
                clock,
                state: Mutex::new(state),
            }),
        }
    }

    /// The attempt goes on under another claim.
    pub fn renew(&self, token: Token) {
        self.state().token = token;
    }

    /// One whole line, as `context.log` gives it.
    pub fn line(&self, level: LogLevel, message: &str) {
        let mut state = self.state();
        for piece in pieces(message) {
            self.add(&mut state, level, piece);
        }
        self.hand_over(&mut state);
    }

    /// Whatever is unfinished is a line now. Called before the attempt waits and when it ends.
    pub fn flush(&self) {
        let mut state = self.state();
        for (index, level) in [(0, LogLevel::Info), (1, LogLevel::Warn)] {
            let rest = std::mem::take(&mut state.open[index]);
            if !rest.is_empty() {
                self.add(&mut state, level, &String::from_utf8_lossy(&rest));
            }
        }
        self.hand_over(&mut state);
    }

    /// How much the run has logged. Ends an unfinished line.
    pub fn logged(&self) -> Logged {
        self.flush();
        let state = self.state();
        Logged {
            lines: state.line,
            bytes: state.bytes,
        }
    }

    /// The lines up to this position were logged before: a replay has skipped them.
    pub fn go_on_after(&self, logged: Logged) {
        let mut state = self.state();
        state.open = [Vec::new(), Vec::new()];
        state.line = logged.lines;
        state.bytes = logged.bytes;
    }

    /// The last lines of standard error, oldest first.
    pub fn last_words(&self) -> Vec<String> {
        self.state().last_words.clone()
    }

    fn write(&self, level: LogLevel, bytes: &[u8]) {
        let mut state = self.state();
        let index = usize::from(level != LogLevel::Info);
        for byte in bytes {
            if *byte != b'\n' && state.open[index].len() < LINE_BYTES_MAX {
                state.open[index].push(*byte);
                continue;
            }
            let mut line = std::mem::take(&mut state.open[index]);
            if *byte != b'\n' {
                // A character that has only begun goes to the next line.
                state.open[index] = line.split_off(whole(&line));
                state.open[index].push(*byte);
            }
            self.add(&mut state, level, &String::from_utf8_lossy(&line));
        }
        self.hand_over(&mut state);
    }

    fn add(&self, state: &mut State, level: LogLevel, message: &str) {
        if level == LogLevel::Warn {
            if state.last_words.len() == 4 {
                state.last_words.remove(0);
            }
            state.last_words.push(message.chars().take(500).collect());
        }
        let left = state.bytes_max.saturating_sub(state.bytes);
        if left == 0 {
            return;
        }
        let cost = message.len() as u64 + LINE_COST_BYTES;
        let (level, message) = if cost > left {
            state.bytes = state.bytes_max;
            (
                LogLevel::Warn,
                "the log of this attempt is full: later lines are dropped (limits.log)".to_owned(),
            )
        } else {
            state.bytes += cost;
            (level, message.trim_end_matches('\r').to_owned())
        };
        state.line += 1;
        let position = LogPosition {
            run: state.run,
            line: state.line,
        };
        let at_ms = self.shared.clock.now_ms();
        state.batch.push(LogLine {
            position,
            at_ms,
            level,
            message,
        });
        if state.batch.len() >= BATCH_LINES {
            self.hand_over(state);
        }
    }

    fn hand_over(&self, state: &mut State) {
        if !state.batch.is_empty() {
            let records = state.batch.drain(..).map(Record::Log).collect();
            self.shared
                .store
                .record(state.token, records, Urgency::Lazy);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a line up to the character at its end that is not whole; all of them where it ends with a whole one, or
/// with what is no UTF-8.
fn whole(line: &[u8]) -> usize {
    let Some(last) = line.utf8_chunks().last() else {
        return 0;
    };
    let open = last.invalid();
    // A character that could still go on is an error without a length.
    match std::str::from_utf8(open) {
        Err(error) if error.error_len().is_none() => line.len() - open.len(),
        _ => line.len(),
    }
}

fn pieces(message: &str) -> impl Iterator<Item = &str> {
    message.lines().flat_map(|line| {
        let mut rest = line;
        let mut first = true;
        std::iter::from_fn(move || {
            if rest.is_empty() && !first {
                return None;
            }
            first = false;
            let mut end = rest.len().min(LINE_BYTES_MAX);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (piece, left) = rest.split_at(end);
            rest = left;
            Some(piece)
        })
    })
}

/// Standard output or standard error of a guest.
pub struct LogStream {
    sink: LogSink,
    level: LogLevel,
}

impl LogStream {
    /// A stream whose lines have that level.
    pub fn new(sink: LogSink, level: LogLevel) -> LogStream {
        LogStream { sink, level }
    }

    fn again(&self) -> LogStream {
        LogStream {
            sink: self.sink.clone(),
            level: self.level,
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.again())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.again())
    }
}

#[async_trait::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.sink.write(self.level, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.sink.write(self.level, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let check = |line: &[u8], expected: usize| assert_eq!(whole(line), expected, "{line:?}");
        check(b"", 0);
        check(b"plain", 5);
        check("aé".as_bytes(), 3);
        check(&"aé".as_bytes()[..2], 1);
        check(&"a\u{1f600}".as_bytes()[..4], 1);
        // No beginning of a character.
        check(b"a\xff", 2);
        check(b"a\x80\x80", 3);
    }
}
