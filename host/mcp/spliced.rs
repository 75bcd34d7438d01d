//! The objects of answers as they were written.
//!
//! The SDK takes an answer's object as a value, which loses digits of numbers: 12345678901234567890 would reach the
//! client as 12345678901234567000. So it is given a mark in place of the object, and the mark is replaced by the
//! object's text where the line with the answer is written.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use serde_json::{Value, json};
use tokio::io::AsyncWrite;

/// Objects that wait for their line at most. The SDK writes an answer as soon as it has it; one that a client has
/// taken back is never written, and its object gives way to later ones.
const KEPT_MAX: usize = 1_024;

/// The name of the one member of a mark.
const MARK: &str = "fishway-object";

/// The objects of the answers that have not been written.
#[derive(Clone)]
pub struct Objects {
    kept: Arc<Mutex<BTreeMap<u64, String>>>,
    /// What no handler can write: it is made at random when the server starts.
    secret: u128,
}

impl Default for Objects {
    fn default() -> Objects {
        Objects {
            kept: Arc::default(),
            secret: rand::random(),
        }
    }
}

impl Objects {
    /// Keep the text of an object; answers with the mark that stands for it.
    pub fn keep(&self, text: &str) -> Value {
        let mut kept = self.kept();
        let number = kept.last_key_value().map_or(0, |(last, _)| last + 1);
        // A message is one line. Between the parts of a document an end of line is a space like any other, and
        // within its texts there is none.
        kept.insert(number, text.replace(['\n', '\r'], " "));
        if kept.len() > KEPT_MAX {
            kept.pop_first();
        }
        json!({ MARK: format!("{:032x}-{number}", self.secret) })
    }

    /// The line with its object in the place of the mark, where it has one.
    fn spliced(&self, line: &[u8]) -> Option<Vec<u8>> {
        let line = std::str::from_utf8(line).ok()?;
        let begins = format!("{{\"{MARK}\":\"{:032x}-", self.secret);
        let (before, rest) = line.split_once(&begins)?;
        let (number, after) = rest.split_once("\"}")?;
        let object = self.kept().remove(&number.parse().ok()?);
        let object = object.as_deref().unwrap_or("null");
        Some([before, object, after].concat().into_bytes())
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream of lines that gets the objects of answers in the place of their marks.
pub struct Spliced<W> {
    to: W,
    objects: Objects,
    /// A line that is not whole yet.
    line: Vec<u8>,
    /// Lines that are on their way, and how much of them has gone.
    whole: Vec<u8>,
    gone: usize,
}

impl<W> Spliced<W> {
    /// The lines that are written to a stream.
    pub fn new(to: W, objects: Objects) -> Spliced<W> {
        Spliced {
            to,
            objects,
            line: Vec::new(),
            whole: Vec::new(),
            gone: 0,
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&bytes[..=end]);
            let line = std::mem::take(&mut self.line);
            let spliced = self.objects.spliced(&line);
            self.whole.extend(spliced.unwrap_or(line));
            bytes = &bytes[end + 1..];
        }
        self.line.extend_from_slice(bytes);
    }
}

impl<W: AsyncWrite + Unpin> Spliced<W> {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.gone < self.whole.len() {
            let rest = &self.whole[self.gone..];
            match ready!(Pin::new(&mut self.to).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.gone += written,
            }
        }
        self.whole.clear();
        self.gone = 0;
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Spliced<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // What came before goes first, so that no more is kept than one message.
        ready!(self.poll_send(context))?;
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.to).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.to).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn an_object_is_written_as_it_is_however_the_line_with_its_mark_comes() {
        let objects = Objects::default();
        let first = objects.keep("{\"n\": 1.50,\n\"m\":12345678901234567890123}");
        let second = objects.keep("{}");
        let mut spliced = Spliced::new(Vec::new(), objects.clone());
        let lines = format!("{{\"a\":{first}}}\nnone\n{{\"b\":{second}}}\n{{\"c\":{second}}}\n");
        for byte in lines.as_bytes() {
            spliced.write_all(&[*byte]).await.unwrap();
        }
        spliced.flush().await.unwrap();
        let written = String::from_utf8(spliced.to).unwrap();
        let expected = "{\"a\":{\"n\": 1.50, \"m\":12345678901234567890123}}\nnone\n{\"b\":{}}\n{\"c\":null}\n";
        assert_eq!(written, expected);
        assert!(objects.kept().is_empty());
    }

    #[test]
    fn objects_that_are_never_written_give_way() {
        let objects = Objects::default();
        let marks: Vec<Value> = (0..=KEPT_MAX)
            .map(|one| objects.keep(&one.to_string()))
            .collect();
        assert_eq!(objects.kept().len(), KEPT_MAX);
        let first = objects.spliced(marks[0].to_string().as_bytes());
        assert_eq!(first.as_deref(), Some(&b"null"[..]));
        let last = objects.spliced(marks[KEPT_MAX].to_string().as_bytes());
        assert_eq!(last.as_deref(), Some(&b"1024"[..]));
        let other = Objects::default();
        let foreign = other.keep("1").to_string();
        assert_eq!(objects.spliced(foreign.as_bytes()), None);
    }
}
