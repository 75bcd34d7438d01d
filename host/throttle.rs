//! Limits messages that would be logged many times a second: the first is logged at once, then one now and
//! then, with the number of skipped ones. Called where an operation is retried and each failure is logged.

use std::time::{Duration, Instant};

/// Lets a message through at most once in a while.
#[derive(Debug)]
pub struct Throttle {
    every: Duration,
    said_at: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// One that lets the first message through, and later ones when `every` has passed since.
    pub fn new(every: Duration) -> Throttle {
        Throttle {
            every,
            said_at: None,
            left_out: 0,
        }
    }

    /// Whether a message of this moment is said: then with how many were left out before it.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        let due = self
            .said_at
            .is_none_or(|at| now.saturating_duration_since(at) >= self.every);
        if due {
            self.said_at = Some(now);
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out += 1;
        None
    }

    /// What was tried again has worked: the next message is a first one.
    pub fn reset(&mut self) {
        *self = Throttle::new(self.every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_is_said_at_once_and_later_ones_with_a_count() {
        let mut throttle = Throttle::new(Duration::from_secs(5));
        let start = Instant::now();
        let mut pass = |ms| throttle.pass(start + Duration::from_millis(ms));
        assert_eq!(pass(0), Some(0));
        assert_eq!([100, 200, 4_999].map(&mut pass), [None; 3]);
        assert_eq!(pass(5_000), Some(3));
        assert_eq!(pass(5_100), None);
        throttle.reset();
        assert_eq!(throttle.pass(start), Some(0), "it begins anew");
    }
}
