//! Where the program may wait for a disk, a server or a resolver, and where it may not.
//!
//! A few async workers serve all requests and clocks of a host. One that waits for a disk keeps the
//! others from their time, so what may block goes through [`run`], to threads that are there for it. Futures that
//! live on the workers are wrapped by [`never`]; what may block calls [`may_block`], which panics in a debug build when
//! it stands inside such a future. Guests have threads of their own, which may wait.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;

/// How long none of the threads of a lane takes another read before one more comes: then all of them are held up.
const HELD_UP: Duration = Duration::from_millis(5);

/// Most threads of one lane: more reads than that at once are more than any server has connections for.
const LANE_THREADS_MAX: usize = 64;

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

/// Short reads that share threads. To wake a thread for each of them can take longer than the read itself, so a thread
/// also does what has come meanwhile. Where all threads are held up, another one comes.
#[derive(Clone)]
pub struct Lane {
    queues: Arc<Mutex<HashMap<Id, Queue>>>,
    width: usize,
}

/// The reads of one runtime, whose threads do them.
#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn FnOnce() + Send>>,
    /// Those that work, and those that were asked for.
    threads: usize,
    /// Reads that a thread has taken.
    taken: u64,
}

impl Lane {
    /// A lane whose reads go on beside each other, so many of them.
    pub fn new(width: usize) -> Lane {
        Lane {
            queues: Arc::default(),
            width: width.clamp(1, LANE_THREADS_MAX),
        }
    }

    /// Do what may block, soon, on a thread that is there for it. A panic of it is one of the caller.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let runtime = Handle::current().id();
        let (tell, mut told) = oneshot::channel();
        let job = move || {
            let done = std::panic::catch_unwind(AssertUnwindSafe(work));
            // The caller may be gone.
            let _ = tell.send(done);
        };
        let mut taken = self.push(runtime, Box::new(job));
        let done = loop {
            match tokio::time::timeout(HELD_UP, &mut told).await {
                Ok(done) => break done,
                Err(_) => match self.looks_after(runtime, taken) {
                    Some(later) => taken = later,
                    // Every read has a thread.
                    None => break told.await,
                },
            }
        };
        match done {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            // The runtime is on its way out, and nobody waits for an answer any more.
            Err(_) => std::future::pending().await,
        }
    }

    /// Answers with the number of reads that were taken before.
    fn push(&self, runtime: Id, job: Box<dyn FnOnce() + Send>) -> u64 {
        let mut queues = self.queues();
        let queue = queues.entry(runtime).or_default();
        queue.jobs.push_back(job);
        let (taken, asks) = (queue.taken, queue.threads < self.width);
        queue.threads += usize::from(asks);
        drop(queues);
        if asks {
            self.ask_for_thread(runtime);
        }
        taken
    }

    /// A read has waited for long. Where some have none of the threads, and none was taken since `taken`, one more
    /// thread comes. Answers with the number of those taken now; none where every read has a thread.
    fn looks_after(&self, runtime: Id, taken: u64) -> Option<u64> {
        let mut queues = self.queues();
        let queue = queues.get_mut(&runtime)?;
        if queue.jobs.is_empty() {
            return None;
        }
        let now = queue.taken;
        let asks = now == taken && queue.threads < LANE_THREADS_MAX;
        queue.threads += usize::from(asks);
        drop(queues);
        if asks {
            self.ask_for_thread(runtime);
        }
        Some(now)
    }

    fn ask_for_thread(&self, runtime: Id) {
        let asked = Asked {
            lane: self.clone(),
            runtime,
            came: false,
        };
        tokio::task::spawn_blocking(move || asked.work());
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<Id, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that was asked for.
struct Asked {
    lane: Lane,
    runtime: Id,
    came: bool,
}

impl Asked {
    fn work(mut self) {
        self.came = true;
        while let Some(job) = self.next() {
            job();
        }
    }

    /// The next read; with none left the thread is gone.
    fn next(&self) -> Option<Box<dyn FnOnce() + Send>> {
        let mut queues = self.lane.queues();
        let queue = queues.get_mut(&self.runtime)?;
        let job = queue.jobs.pop_front();
        queue.taken += u64::from(job.is_some());
        if job.is_none() {
            queue.threads -= 1;
            if queue.threads == 0 {
                queues.remove(&self.runtime);
            }
        }
        job
    }
}

impl Drop for Asked {
    /// A runtime that ends gives no more threads, and nobody in it waits for its reads any more.
    fn drop(&mut self) {
        if !self.came {
            let left = self.lane.queues().remove(&self.runtime);
            drop(left);
        }
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

    #[tokio::test]
    async fn reads_of_a_lane_share_a_thread_and_one_that_is_held_up_holds_up_no_other() {
        let lane = Lane::new(1);
        let (open, opened) = std::sync::mpsc::channel::<()>();
        let (comes, came) = oneshot::channel();
        let held = lane.clone();
        let held = tokio::spawn(async move {
            let work = move || {
                let _ = comes.send(());
                opened.recv()
            };
            held.run(work).await
        });
        came.await.unwrap();
        // The thread is held up, so another one comes.
        assert_eq!(lane.run(|| 7).await, 7);
        open.send(()).unwrap();
        held.await.unwrap().unwrap();
        // None is left when there is nothing to do, and the next read finds one.
        let here = lane.run(|| std::thread::current().id()).await;
        assert_ne!(here, std::thread::current().id());
        let panics = tokio::spawn({
            let lane = lane.clone();
            async move { lane.run(|| panic!("gone wrong")).await }
        });
        assert!(panics.await.unwrap_err().is_panic());
        assert_eq!(lane.run(|| 8).await, 8);
    }

    #[test]
    fn a_lane_outlives_a_runtime_that_ends_with_reads_in_it() {
        let lane = Lane::new(1);
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder
                .enable_time()
                .max_blocking_threads(1)
                .build()
                .unwrap()
        };
        let first = runtime();
        let (open, opened) = std::sync::mpsc::channel::<()>();
        // Its only thread is taken, so the read is promised one and never gets it.
        first.spawn_blocking(move || opened.recv());
        first.block_on(async {
            let read = lane.run(|| 1);
            assert!(tokio::time::timeout(5 * HELD_UP, read).await.is_err());
        });
        drop(open);
        first.shutdown_background();
        assert_eq!(runtime().block_on(lane.run(|| 2)), 2);
    }
}
