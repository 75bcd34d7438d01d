//! Where a guest that computes goes on: apart from the others, on threads that stand behind theirs.
//!
//! Every guest begins on the threads of all. One that does not give its thread back soon is moved at
//! the end of its turn, and stays where it is moved to until it ends. There the machine lets the
//! host and those that begin go first.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};

use super::engine::EPOCH;

/// A turn that lasts longer belongs to a guest that computes: a good part of what it gets at once.
const LONG: Duration = Duration::from_millis(EPOCH.as_millis() as u64 / 2);

/// How far the threads of those that compute stand behind, in the steps of `nice`. Beside anything else
/// they get a tenth of a processor, and all of it when nobody wants it.
#[cfg(target_os = "linux")]
const BEHIND: i32 = 10;

/// The threads of those that compute.
pub fn apart(threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("fishway-compute")
        .on_thread_start(stand_behind)
        .global_queue_interval(1)
        .event_interval(8)
        .enable_all()
        .build()
}

/// Let this thread stand behind the others. Where that cannot be, it is one of them.
fn stand_behind() {
    // Elsewhere a thread has no place of its own.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, BEHIND) {
        tracing::debug!(%error, "guests that compute stand beside the host");
    }
}

/// Do it, and go on apart from the first long turn on.
pub async fn taking_turns(
    mut work: Pin<Box<impl Future<Output = ()> + Send + 'static>>,
    apart: &Handle,
) {
    let over = poll_fn(|context| {
        let began = Instant::now();
        match work.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if began.elapsed() >= LONG => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    });
    if !over.await {
        // It ends without an end only when the host does.
        let _ = apart.spawn(work).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the threads on which the turns of work were, which lasted so long.
    async fn threads(turns: &'static [Duration]) -> Vec<String> {
        let names = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let told = names.clone();
        let work = async move {
            for turn in turns {
                let began = Instant::now();
                let name = std::thread::current().name().map(str::to_owned);
                told.lock().unwrap().push(name.unwrap());
                while began.elapsed() < *turn {
                    std::hint::spin_loop();
                }
                tokio::task::yield_now().await;
            }
        };
        let runtime = apart(1).unwrap();
        let own = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("own")
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        let all = own.spawn(async move { taking_turns(Box::pin(work), &handle).await });
        all.await.unwrap();
        runtime.shutdown_background();
        own.shutdown_background();
        names.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn who_keeps_a_thread_for_long_goes_on_apart_and_stays_there() {
        const NONE: Duration = Duration::ZERO;
        assert_eq!(threads(&[NONE, NONE]).await, ["own", "own"]);
        let moved = threads(&[LONG, NONE, NONE]).await;
        assert_eq!(moved, ["own", "fishway-compute", "fishway-compute"]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_threads_apart_stand_behind_the_others() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let own = nice();
        let runtime = apart(1).unwrap();
        let behind = runtime.spawn(async move { nice() }).await.unwrap();
        runtime.shutdown_background();
        assert_eq!((own, behind), (0, BEHIND));
    }
}
