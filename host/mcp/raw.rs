//! The arguments of calls as the client wrote them.
//!
//! The SDK reads a message into values, which lose digits of numbers and the order of members; a payload has to reach
//! its handler as it was written. So the text of each call's arguments is put aside while standard input is read, and
//! taken by the call.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use rmcp::model::RequestId;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, ReadBuf};

/// Calls whose arguments are kept at most. The SDK answers calls as they come, so that many only wait where a client
/// repeats ids; what comes on top is read as values.
const KEPT_MAX: usize = 1_024;

/// The arguments of the calls that have come and have not begun.
#[derive(Clone, Default)]
pub struct Arguments(Arc<Mutex<HashMap<RequestId, Box<RawValue>>>>);

impl Arguments {
    /// Those of a call, which takes them.
    pub fn take(&self, id: &RequestId) -> Option<Box<RawValue>> {
        self.kept().remove(id)
    }

    fn keep(&self, line: &[u8]) {
        #[derive(Deserialize)]
        struct Message {
            id: RequestId,
            method: String,
            params: Parameters,
        }
        #[derive(Deserialize)]
        struct Parameters {
            arguments: Option<Box<RawValue>>,
        }
        let Ok(message) = serde_json::from_slice::<Message>(line) else {
            // Something else, or an error that the SDK reports.
            return;
        };
        if message.method != "tools/call" {
            return;
        }
        let mut kept = self.kept();
        // An earlier call of this id that the SDK refused has left its own behind.
        kept.remove(&message.id);
        // The SDK refuses whatever is no object, so that nobody would take it.
        let object = (message.params.arguments).filter(|text| text.get().starts_with('{'));
        if let (Some(arguments), true) = (object, kept.len() < KEPT_MAX) {
            kept.insert(message.id, arguments);
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<RequestId, Box<RawValue>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream of lines, of which the arguments of calls are kept before anybody else reads them.
pub struct Watched<R> {
    lines: R,
    arguments: Arguments,
    line: Vec<u8>,
    line_bytes_max: usize,
}

impl<R> Watched<R> {
    /// The lines of a stream. The reader of the stream refuses lines longer than `line_bytes_max`.
    pub fn new(lines: R, arguments: Arguments, line_bytes_max: usize) -> Watched<R> {
        Watched {
            lines,
            arguments,
            line: Vec::new(),
            line_bytes_max,
        }
    }

    fn see(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&bytes[..end]);
            self.arguments.keep(&self.line);
            self.line.clear();
            bytes = &bytes[end + 1..];
        }
        if self.line.len() <= self.line_bytes_max {
            self.line.extend_from_slice(bytes);
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Watched<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.lines).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = &read {
            self.see(&buffer.filled()[before..]);
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_kept_as_they_are_written_however_they_come() {
        let arguments = Arguments::default();
        let mut watched = Watched::new(tokio::io::empty(), arguments.clone(), 1 << 20);
        let line = "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"submit\",\"arguments\":{\"z\": 1.50,\"a\":12345678901234567890123}}}\n";
        for byte in line.as_bytes() {
            watched.see(&[*byte]);
        }
        let id = RequestId::Number(7);
        let kept = arguments.take(&id).unwrap();
        assert_eq!(kept.get(), "{\"z\": 1.50,\"a\":12345678901234567890123}");
        assert!(arguments.take(&id).is_none());
        // What the SDK refuses is not kept, and no later call of the same id gets the arguments of an earlier one.
        let call = |arguments: &str| {
            format!(
                "{{\"id\":7,\"method\":\"tools/call\",\"params\":{{\"name\":\"list\"{arguments}}}}}\n"
            )
        };
        watched.see(call(",\"arguments\":[]").as_bytes());
        assert!(arguments.take(&id).is_none());
        watched.see(call(",\"arguments\":{\"a\":1}").as_bytes());
        watched.see(call("").as_bytes());
        assert!(arguments.take(&id).is_none());
        watched.see(b"nonsense\n{\"id\":8,\"method\":\"ping\",\"params\":{\"arguments\":1}}\n");
        assert!(arguments.take(&RequestId::Number(8)).is_none());
    }
}
