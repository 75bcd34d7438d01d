//! Where the program may wait for a disk, a server or a resolver, and where it may not.
//!
//! A few async workers serve all requests and clocks of a host. One that waits for a disk keeps the
//! others from their time, so what may block goes through [`run`], to threads that are there for it. Futures that
//! live on the workers are wrapped by [`never`]; what may block calls [`may_block`], which panics in a debug build when
//! it stands inside such a future. Guests have threads of their own, which may wait.

use std::future::Future;

tokio::task_local! {
    static NEVER: ();
}

/// The same future, which must not block.
pub async fn never<F: Future>(future: F) -> F::Output {
    match cfg!(debug_assertions) {
        true => NEVER.scope((), future).await,
        false => future.await,
    }
}

/// Do what may block on a thread that is there for it. A panic of it is one of the caller.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is on its way out, and nobody waits for an answer any more.
            Err(_) => std::future::pending().await,
        },
    }
}

/// What follows may block, so no async worker may come here.
pub fn may_block(what: &str) {
    debug_assert!(
        NEVER.try_with(|()| ()).is_err(),
        "{what} on an async worker: it goes through blocking::run"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_may_block_is_done_beside_a_future_that_must_not() {
        let looked = never(run(|| {
            may_block("a look");
            7
        }));
        assert_eq!(looked.await, 7);
    }

    #[tokio::test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "a look on an async worker")]
    async fn what_may_block_panics_inside_of_one() {
        never(async { may_block("a look") }).await;
    }

    #[tokio::test]
    #[should_panic(expected = "gone wrong")]
    async fn a_panic_comes_back_to_who_asked() {
        run(|| panic!("gone wrong")).await
    }
}
