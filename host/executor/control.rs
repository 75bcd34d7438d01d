//! The reins of one attempt: its running time, and who asked for its end.
//!
//! Running time is counted while the guest has a slot and stands still while it waits. It stands still, too, while
//! the host waits for its store, as in an outage of the database, which is no doing of the guest's. Whatever
//! ends an attempt from outside comes through here: its time, a cancel after its grace, the host.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::task::Fence;

/// How long each wait of the host for its store counts as running time: what a call takes of a database that is
/// there. So a guest that calls without end has its time used up all the same.
const STORE_COUNTS: Duration = Duration::from_millis(100);

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
    /// The running time from which on the guest is asked to come to an end.
    asked_from: Duration,
    spent: Duration,
    running_since: Option<Instant>,
    /// Waits of the host for its store, each within the one before, and when the first began.
    store_waits: usize,
    store_since: Option<Instant>,
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
                asked_from: Duration::MAX,
                spent: Duration::ZERO,
                running_since: None,
                store_waits: 0,
                store_since: None,
                stop: None,
                hinted: false,
            }),
            bell: Notify::new(),
        }
    }

    /// The attempt begins to run now, after `spent` of the `limit` that it has. The end of the limit is its grace
    /// period, and no more than half of it.
    pub fn start(&self, limit: Duration, spent: Duration, grace: Duration) {
        let mut state = self.state();
        (state.limit, state.spent) = (limit, spent);
        state.asked_from = limit - grace.min(limit / 2);
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
        self.state().pause(Instant::now())
    }

    /// The host waits for its store, on behalf of the guest, until what this gives is dropped.
    pub fn waits_for_store(self: &Arc<Control>) -> StoreWait {
        self.state().enter_store(Instant::now());
        StoreWait(self.clone())
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
        let spent = state.spent + state.running(Instant::now());
        state.hinted || state.stop.is_some() || spent >= state.asked_from
    }

    /// How much time is left of the grace period, where the task was asked to end.
    pub fn grace_left(&self) -> Option<Duration> {
        match self.state().stop {
            Some((Interrupt::Asked, at)) => Some(at.saturating_duration_since(Instant::now())),
            _ => None,
        }
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

/// A wait of the host for its store.
#[derive(Debug)]
pub struct StoreWait(Arc<Control>);

impl Drop for StoreWait {
    fn drop(&mut self) {
        let stood_still = self.0.state().leave_store(Instant::now());
        if stood_still {
            // The end of the running time has moved, so those that wait for it wait anew.
            self.0.bell.notify_waiters();
        }
    }
}

impl State {
    fn pause(&mut self, now: Instant) -> Duration {
        self.spent += self.running(now);
        self.running_since = None;
        self.store_since = None;
        self.spent
    }

    fn enter_store(&mut self, now: Instant) {
        self.store_waits += 1;
        if self.store_waits == 1 {
            self.store_since = Some(now);
        }
    }

    /// Tells whether the running time has stood still.
    fn leave_store(&mut self, now: Instant) -> bool {
        self.store_waits -= 1;
        if self.store_waits > 0 {
            return false;
        }
        let still = self.still(now);
        self.store_since = None;
        self.running_since = self.running_since.map(|since| since + still);
        !still.is_zero()
    }

    /// For how long the time has stood still in the wait for the store that there is now.
    fn still(&self, now: Instant) -> Duration {
        let since = self.store_since.unwrap_or(now);
        now.saturating_duration_since(since)
            .saturating_sub(STORE_COUNTS)
    }

    /// The time since the guest goes on, without what stood still.
    fn running(&self, now: Instant) -> Duration {
        let running = self
            .running_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        running.saturating_sub(self.still(now))
    }

    /// How long it is until the attempt may have to end; `None` while its time stands still, and nobody has asked
    /// it to stop.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let counts = self.running_since.is_some() && self.still(now).is_zero();
        let left = counts.then(|| self.left(now));
        let stop = self.stop.map(|(_, at)| at.saturating_duration_since(now));
        left.into_iter().chain(stop).min()
    }

    fn left(&self, now: Instant) -> Duration {
        self.limit.saturating_sub(self.spent + self.running(now))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    #[test]
    fn the_end_of_the_running_time_is_a_grace_period() {
        let asked = |limit: u64, spent: u64| {
            let control = Control::new(Fence::default());
            control.start(
                Duration::from_secs(limit),
                Duration::from_secs(spent),
                GRACE,
            );
            (control.stop_requested(), control.verdict())
        };
        assert_eq!(asked(3_600, 3_000), (false, None));
        assert_eq!(asked(3_600, 3_590), (true, None));
        // Half of a short one is its own.
        assert_eq!(asked(100, 80), (false, None));
        assert_eq!(asked(12, 5), (false, None));
        assert_eq!(asked(12, 6), (true, None));
        assert_eq!(asked(12, 12), (true, Some(Interrupt::Timeout)));
    }

    #[test]
    fn waiting_uses_no_running_time_and_a_stop_only_comes_nearer() {
        let control = Control::new(Fence::default());
        control.start(Duration::from_secs(3_600), Duration::ZERO, GRACE);
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
        control.start(
            Duration::from_secs(3_600),
            Duration::from_secs(3_599),
            GRACE,
        );
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

    #[test]
    fn time_stands_still_while_the_host_waits_for_its_store_beyond_what_a_call_takes() {
        let control = Control::new(Fence::default());
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        control.start(Duration::from_millis(1_000), Duration::ZERO, GRACE);
        let mut state = control.state();
        state.running_since = Some(start);
        let left = |state: &State, ms: u64| state.left(at(ms)).as_millis();
        assert_eq!(left(&state, 200), 800);
        state.enter_store(at(200));
        // A usual call counts, and who guards the attempt has a time.
        assert_eq!(left(&state, 250), 750);
        assert!(state.rest(at(250)).is_some());
        // From then on it stands still, however long the outage is and whatever waits within the wait.
        state.enter_store(at(260));
        assert!(!state.leave_store(at(4_000)));
        assert_eq!((left(&state, 300), left(&state, 90_000)), (700, 700));
        assert_eq!(state.rest(at(90_000)), None);
        assert!(state.leave_store(at(90_000)));
        assert_eq!((left(&state, 90_000), left(&state, 90_500)), (700, 200));
        // Many short calls use it up as they always did.
        for ms in [90_500, 90_550, 90_600, 90_650] {
            state.enter_store(at(ms));
            assert!(!state.leave_store(at(ms + 49)));
        }
        assert_eq!(left(&state, 90_700), 0);
        // An attempt that begins to wait for something else in there keeps what it has spent.
        state.limit = Duration::from_millis(2_000);
        state.enter_store(at(91_000));
        assert_eq!(state.pause(at(95_000)).as_millis(), 1_400);
        assert!(!state.leave_store(at(96_000)));
    }

    #[test]
    fn who_guards_an_attempt_is_told_when_its_time_goes_on() {
        let control = Arc::new(Control::new(Fence::default()));
        control.start(Duration::from_secs(3_600), Duration::ZERO, GRACE);
        let mut guard = std::pin::pin!(control.interrupted());
        let wait = control.waits_for_store();
        let long_ago = Instant::now().checked_sub(STORE_COUNTS * 2);
        control.state().store_since = long_ago;
        let (woken, waker) = counting();
        let mut context = Context::from_waker(&waker);
        assert!(guard.as_mut().poll(&mut context).is_pending());
        drop(wait);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
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
        control.start(Duration::from_secs(3_600), Duration::ZERO, GRACE);
        control.hint();
        assert!(control.stop_requested() && !control.stopping());
        assert_eq!(control.verdict(), None);
    }

    #[test]
    fn time_that_was_spent_before_counts() {
        let control = Control::new(Fence::default());
        control.start(Duration::from_secs(5), Duration::from_secs(5), GRACE);
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
