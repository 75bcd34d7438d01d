//! The host memory that a request reserves: for its body until it is answered, and for an answer with
//! payloads until the last byte of the answer is sent.
//!
//! Both are reserved deep inside a request, by [`super::given`] and [`Shared::answer`](super::Shared), and
//! kept here beside the request, so that no function has to pass them on.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use crate::memory::Taken;

#[derive(Default)]
struct Held {
    body: Option<Taken>,
    answer: Option<Taken>,
}

tokio::task_local! {
    static HELD: RefCell<Held>;
}

/// The request has a body that reserves this memory.
pub fn hold_body(room: Taken) {
    let _ = HELD.try_with(|held| held.borrow_mut().body = Some(room));
}

/// Its answer reserves this memory.
pub fn hold_answer(room: Taken) {
    let _ = HELD.try_with(|held| held.borrow_mut().answer = Some(room));
}

/// Its answer reserves no memory, or releases it.
pub fn drop_answer() {
    let _ = HELD.try_with(|held| held.borrow_mut().answer = None);
}

/// Keeps the memory of a request reserved for as long as the request needs it.
pub async fn keep(request: Request, next: Next) -> Response {
    let answered = async {
        let response = next.run(request).await;
        (response, HELD.with(|held| held.take()))
    };
    let (response, held) = HELD.scope(RefCell::default(), answered).await;
    drop(held.body);
    let Some(mut room) = held.answer else {
        return response;
    };
    response.map(|body| {
        // What was read is gone; what is left of it is the text.
        if let Some(bytes) = body.size_hint().exact() {
            room.shrink(bytes);
        }
        let room = Arc::new(room);
        Body::new(Sent { body, room })
    })
}

/// A body that is sent, with its reserved memory.
struct Sent {
    body: Body,
    room: Arc<Taken>,
}

/// Bytes that are being sent, with their reserved memory: the connection keeps them until the peer has read them.
struct OnItsWay {
    bytes: Bytes,
    _room: Arc<Taken>,
}

impl AsRef<[u8]> for OnItsWay {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        let with_room = |bytes| {
            Bytes::from_owner(OnItsWay {
                bytes,
                _room: self.room.clone(),
            })
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(with_room))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
