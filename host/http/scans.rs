//! Counts that look at every task.
//!
//! The store does not keep these counts, because that would slow down each start and end of a task. So their cost
//! grows with the number of tasks, and repeated requests (a scrape, a page that is open in ten windows) would each
//! pay it. The answer of a slow count is kept for a moment, and other requests meanwhile get the same answer.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinError;

/// Scans at once; more wait for their turn.
const AT_ONCE: usize = 2;

/// Questions whose answers are kept at most, as they differ by what they are asked with.
const KEPT_MAX: usize = 64;

/// When the answer of a scan is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// The answer of a faster scan is not kept: each request scans again.
    pub from: Duration,
    /// Nor is what has fewer tasks to look at: then it was the machine that was slow, for once.
    pub tasks: u64,
    /// For how long the others are kept.
    pub time: Duration,
}

impl Default for Keeping {
    fn default() -> Keeping {
        Keeping {
            from: Duration::from_millis(20),
            tasks: 20_000,
            time: Duration::from_secs(1),
        }
    }
}

/// The scans of one host.
pub struct Scans {
    keeping: Keeping,
    turns: Arc<Semaphore>,
    slots: StdMutex<BTreeMap<String, Slot>>,
}

/// The answer to one question; locked while it is made.
type Slot = Arc<Mutex<Option<Kept>>>;

struct Kept {
    answer: Arc<dyn Any + Send + Sync>,
    until: Instant,
}

impl Scans {
    /// None yet.
    pub fn new(keeping: Keeping) -> Scans {
        Scans {
            keeping,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            slots: StdMutex::default(),
        }
    }

    /// The answer to `question`: the one that is kept, or the result of `scan`. Other requests with the same question
    /// wait for the same scan. A scan goes on when no request waits for it any more, so that no second one begins
    /// beside it. `has_tasks` says whether there are so many tasks; it is called after slow scans only.
    pub async fn answer<T, E>(
        &self,
        question: &str,
        scan: impl FnOnce() -> Result<T, E> + Send + 'static,
        has_tasks: impl FnOnce(u64) -> bool + Send + 'static,
    ) -> Result<Result<T, E>, JoinError>
    where
        T: Clone + Send + Sync + 'static,
        E: Send + 'static,
    {
        let mut slot = self.slot(question).lock_owned().await;
        let kept = slot.as_ref().filter(|kept| Instant::now() < kept.until);
        if let Some(answer) = kept.and_then(|kept| kept.answer.downcast_ref::<T>()) {
            return Ok(Ok(answer.clone()));
        }
        // Nobody closes it.
        let turn = self.turns.clone().acquire_owned().await;
        let keeping = self.keeping;
        let scanning = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let answer = scan();
            let kept = answer.as_ref().ok();
            let kept = kept.filter(|_| began.elapsed() >= keeping.from && has_tasks(keeping.tasks));
            *slot = kept.map(|answer| Kept {
                answer: Arc::new(answer.clone()),
                until: Instant::now() + keeping.time,
            });
            drop((slot, turn));
            answer
        });
        scanning.await
    }

    /// What was kept is another now.
    pub fn forget(&self, question: &str) {
        self.slots().remove(question);
    }

    fn slot(&self, question: &str) -> Slot {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(question) {
            return slot.clone();
        }
        if slots.len() >= KEPT_MAX {
            // Those that are locked are being made.
            slots.retain(|_, slot| {
                let kept = slot.try_lock();
                kept.map_or(true, |kept| {
                    kept.as_ref()
                        .is_some_and(|kept| Instant::now() < kept.until)
                })
            });
        }
        let slot = Slot::default();
        // With very many different questions some are not kept.
        if slots.len() < KEPT_MAX {
            slots.insert(question.to_owned(), slot.clone());
        }
        slot
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    fn scans(from: Duration) -> Arc<Scans> {
        Arc::new(Scans::new(Keeping {
            from,
            tasks: 10,
            time: Duration::from_secs(3_600),
        }))
    }

    /// A scan that says how many there were before it.
    fn counting(count: &Arc<AtomicUsize>) -> impl FnOnce() -> Result<usize, ()> + Send + use<> {
        let count = count.clone();
        move || Ok(count.fetch_add(1, Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_slow_answer_is_kept_and_a_fast_one_is_made_anew() {
        let count = Arc::default();
        let slow = scans(Duration::ZERO);
        for question in ["a", "a", "b", "a", "b"] {
            let expected = usize::from(question == "b");
            let answer = slow
                .answer(question, counting(&count), |_| true)
                .await
                .unwrap();
            assert_eq!(answer, Ok(expected), "{question}");
        }
        slow.forget("a");
        let answer = slow.answer("a", counting(&count), |many| many > 10).await;
        assert_eq!(answer.unwrap(), Ok(2), "of few tasks nothing is kept");
        let fast = scans(Duration::MAX);
        for expected in 3..6 {
            let answer = fast.answer("a", counting(&count), |_| panic!("it was fast"));
            assert_eq!(answer.await.unwrap(), Ok(expected));
        }
        let failed = slow.answer("c", || Err::<usize, _>("no"), |_| true).await;
        assert_eq!(failed.unwrap(), Err("no"));
        let answer = slow.answer("c", counting(&count), |_| true).await;
        assert_eq!(answer.unwrap(), Ok(6), "no failure is kept");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_asks_while_a_scan_goes_on_begins_no_second_one_even_when_the_first_has_gone() {
        let scans = scans(Duration::ZERO);
        let count = Arc::new(AtomicUsize::new(0));
        let (open, gate) = mpsc::channel::<()>();
        let (tell, begun) = mpsc::channel();
        let gated = {
            let count = count.clone();
            move || {
                tell.send(()).unwrap();
                let _ = gate.recv();
                Ok::<usize, ()>(count.fetch_add(1, Ordering::Relaxed))
            }
        };
        let first = {
            let scans = scans.clone();
            tokio::spawn(async move { scans.answer("a", gated, |_| true).await })
        };
        tokio::task::spawn_blocking(move || begun.recv())
            .await
            .unwrap()
            .unwrap();
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let others: Vec<_> = (0..8)
            .map(|_| {
                let (scans, scan) = (scans.clone(), counting(&count));
                tokio::spawn(async move { scans.answer("a", scan, |_| true).await.unwrap() })
            })
            .collect();
        open.send(()).unwrap();
        for other in others {
            assert_eq!(other.await.unwrap(), Ok(0));
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn answers_to_very_many_questions_are_not_all_kept() {
        let scans = scans(Duration::ZERO);
        let count = Arc::default();
        for number in 0..KEPT_MAX * 2 {
            let question = number.to_string();
            let answer = scans.answer(&question, counting(&count), |_| true).await;
            assert_eq!(answer.unwrap(), Ok(number));
        }
        assert_eq!(scans.slots().len(), KEPT_MAX);
    }
}
