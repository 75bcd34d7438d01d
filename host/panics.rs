//! Panics, caught: each is a fault of ours, and becomes an error that somebody hears.
//!
//! Called by whoever runs what must not end unheard: attempts, the writer, what the host does
//! beside them. What a panic says on stderr is said there all the same.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::task::Poll;

/// Run a future to its end, or to its panic: then what the panic said.
pub async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        // After a panic it is not looked at again.
        let polled = AssertUnwindSafe(|| future.as_mut().poll(context));
        match std::panic::catch_unwind(polled) {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(said(&*panic))),
        }
    })
    .await
}

/// Run something to its end, or to its panic: then what the panic said. After that nothing that it
/// had in its hands may be used.
pub fn caught_in<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).map_err(|panic| said(&*panic))
}

fn said(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()))
        .unwrap_or_else(|| "it panicked".to_owned())
}
