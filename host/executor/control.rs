//! The reins of one attempt: its running time, and who asked for its end.
//!
//! Running time is counted while the guest has a slot and stands still while it waits. Whatever
//! ends an attempt from outside comes through here: its time, a cancel after its grace, the host.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::task::Fence;

/// Why an attempt is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// Its running time is used up.
    Timeout,
    /// Its task was cancelled, or a clock of the task ran out, and the grace has passed.
    Asked,
    /// The host stops, and the grace has passed.
    HostStops,
    /// The task has been claimed anew: this attempt has lost its claim, and may write nothing.
    Replaced,
}

/// The reins; shared by whoever runs the attempt and whoever may end it.
#[derive(Debug)]
pub struct Control {
    state: Mutex<State>,
    bell: Notify,
}

#[derive(Debug)]
struct State {
    /// The claim that the attempt runs under; none while it waits.
    claim: Option<Fence>,
    limit: Duration,
    spent: Duration,
    running_since: Option<Instant>,
    stop: Option<(Interrupt, Instant)>,
    hinted: bool,
}

impl Control {
    /// The reins of an attempt under a claim, that does not run yet: it can be asked to stop already.
    pub fn new(claim: Fence) -> Control {
        Control {
            state: Mutex::new(State {
                claim: Some(claim),
                limit: Duration::MAX,
                spent: Duration::ZERO,
                running_since: None,
                stop: None,
                hinted: false,
            }),
            bell: Notify::new(),
        }
    }

    /// The attempt begins to run now, after `spent` of the `limit` that it has.
    pub fn start(&self, limit: Duration, spent: Duration) {
        let mut state = self.state();
        (state.limit, state.spent) = (limit, spent);
        state.running_since = Some(Instant::now());
    }

    /// The attempt goes on under another claim: its wait is over.
    pub fn claimed(&self, claim: Fence) {
        self.state().claim = Some(claim);
    }

    /// That the attempt waits is on disk. It may have been claimed again since.
    pub fn waits(&self, claim: Fence) {
        let mut state = self.state();
        if state.claim == Some(claim) {
            state.claim = None;
        }
    }

    /// The claim that the attempt runs under; none while it waits.
    pub fn claim(&self) -> Option<Fence> {
        self.state().claim
    }

    /// The guest stops running; answers with the running time so far.
    pub fn pause(&self) -> Duration {
        let mut state = self.state();
        if let Some(since) = state.running_since.take() {
            state.spent += since.elapsed();
        }
        state.spent
    }

    /// The guest goes on running.
    pub fn go_on(&self) {
        self.state().running_since = Some(Instant::now());
        // A task that waits for the end of the running time has a time to wait for again.
        self.bell.notify_waiters();
    }

    /// Ask for the end: the guest may see it at once, and is interrupted after `grace`.
    pub fn stop(&self, why: Interrupt, grace: Duration) {
        let mut state = self.state();
        let at = Instant::now() + grace;
        // An earlier end stands; a later one would give more time than was said.
        if state.stop.is_none_or(|(_, earlier)| at < earlier) {
            state.stop = Some((why, at));
        }
        drop(state);
        self.bell.notify_waiters();
    }

    /// It should come to an end, and is not interrupted for that.
    pub fn hint(&self) {
        self.state().hinted = true;
    }

    /// Whether the guest should come to an end: it was asked to, or given a hint.
    pub fn stop_requested(&self) -> bool {
        let state = self.state();
        state.hinted || state.stop.is_some()
    }

    /// Whether it is interrupted, at the latest when the grace has passed.
    pub fn stopping(&self) -> bool {
        self.state().stop.is_some()
    }

    /// Why the attempt has to end now, if it has to.
    pub fn verdict(&self) -> Option<Interrupt> {
        let state = self.state();
        let now = Instant::now();
        match state.stop {
            Some((why, at)) if at <= now => Some(why),
            _ if state.left(now).is_zero() => Some(Interrupt::Timeout),
            _ => None,
        }
    }

    /// Ends when the attempt has to. Guards what no epoch interrupts: a guest inside a host call.
    pub async fn interrupted(&self) -> Interrupt {
        loop {
            let bell = self.bell.notified();
            if let Some(why) = self.verdict() {
                return why;
            }
            let rest = self.state().rest(Instant::now());
            match rest {
                None => bell.await,
                Some(rest) => tokio::select! {
                    () = bell => {}
                    () = tokio::time::sleep(rest.max(Duration::from_millis(1))) => {}
                },
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How long it is until the attempt may have to end; `None` while the guest waits, as its time stands
    /// still, and nobody has asked it to stop.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let left = self.running_since.map(|_| self.left(now));
        let stop = self.stop.map(|(_, at)| at.saturating_duration_since(now));
        left.into_iter().chain(stop).min()
    }

    fn left(&self, now: Instant) -> Duration {
        let running = self
            .running_since
            .map_or(Duration::ZERO, |since| now.duration_since(since));
        self.limit.saturating_sub(self.spent + running)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    use super::*;

    #[test]
    fn waiting_uses_no_running_time_and_a_stop_only_comes_nearer() {
        let control = Control::new(Fence::default());
        control.start(Duration::from_secs(3_600), Duration::ZERO);
        assert_eq!(control.verdict(), None);
        control.pause();
        assert_eq!(
            control.pause(),
            control.pause(),
            "a paused attempt spends nothing"
        );
        control.stop(Interrupt::Asked, Duration::from_secs(3_600));
        assert!(control.stop_requested());
        assert_eq!(control.verdict(), None);
        control.stop(Interrupt::HostStops, Duration::ZERO);
        control.stop(Interrupt::Asked, Duration::from_secs(1));
        assert_eq!(control.verdict(), Some(Interrupt::HostStops));
    }

    #[test]
    fn who_guards_an_attempt_that_waits_has_no_clock_and_is_told_when_it_goes_on() {
        let control = Control::new(Fence::default());
        let rest = || control.state().rest(Instant::now());
        control.start(Duration::from_secs(3_600), Duration::from_secs(3_599));
        assert!(rest().is_some_and(|rest| rest <= Duration::from_secs(1)));
        control.pause();
        assert_eq!(rest(), None);
        let mut guard = std::pin::pin!(control.interrupted());
        let (woken, waker) = counting();
        let mut context = Context::from_waker(&waker);
        assert!(guard.as_mut().poll(&mut context).is_pending());
        control.go_on();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        control.pause();
        control.stop(Interrupt::Asked, Duration::from_secs(3_600));
        assert!(rest().is_some_and(|rest| rest > Duration::from_secs(3_000)));
    }

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counting() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        (woken.clone(), woken.into())
    }

    #[test]
    fn a_hint_is_seen_and_interrupts_nothing() {
        let control = Control::new(Fence::default());
        control.start(Duration::from_secs(3_600), Duration::ZERO);
        control.hint();
        assert!(control.stop_requested() && !control.stopping());
        assert_eq!(control.verdict(), None);
    }

    #[test]
    fn time_that_was_spent_before_counts() {
        let control = Control::new(Fence::default());
        control.start(Duration::from_secs(5), Duration::from_secs(5));
        assert_eq!(control.verdict(), Some(Interrupt::Timeout));
    }

    #[test]
    fn an_attempt_that_was_claimed_again_before_it_heard_of_its_wait_holds_the_new_claim() {
        let first = Fence::default().next(1);
        let second = first.next(2);
        let control = Control::new(first);
        assert_eq!(control.claim(), Some(first));
        control.claimed(second);
        control.waits(first);
        assert_eq!(control.claim(), Some(second));
        control.waits(second);
        assert_eq!(control.claim(), None);
    }
}
