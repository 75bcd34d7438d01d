//! Secrets of a database, from which the random numbers of handlers are derived.
//!
//! A run draws from a generator whose seed is a hash of a secret, the task and the run, so that a
//! replay draws the same numbers and nobody can compute them from the id of a task. A secret never leaves the database:
//! no interface shows it, and no log contains it. Each has a number, and a task records the one that its run began
//! with, so a new secret changes nothing for runs in progress.

use std::fmt;

/// Bytes of a secret: as many as a seed has.
const BYTES: usize = 32;

/// Number, time and runs in progress of each secret, and of runs without one. The same for both engines.
pub const INFO: &str = "\
    select numbers.number, secrets.made_at_ms, (
      select count(*)
      from tasks
      where secret_number = numbers.number and ended_at_ms is null and run_at_start_ms is not null)
    from (
      select number from secrets
      union
      select secret_number as number from tasks where ended_at_ms is null and run_at_start_ms is not null
    ) as numbers
    left join secrets on secrets.number = numbers.number
    order by numbers.number";

/// Largest distance of a new secret's number from the newest.
const STEP_MAX: u32 = 1 << 20;

/// The number of a new secret: a random distance above the newest. A standby that takes over may lack the last commits,
/// and with them a secret. Then the lost number, which hosts may still know, is not reused.
pub fn next_number(newest: u32) -> u32 {
    let room = (u32::MAX - newest).clamp(1, STEP_MAX);
    newest.saturating_add(1 + rand::random::<u32>() % room)
}

/// The secret from which seeds are derived.
#[derive(Clone, PartialEq, Eq)]
pub struct RandomSecret([u8; BYTES]);

impl RandomSecret {
    /// A new one, from the random source of the system.
    pub fn random() -> RandomSecret {
        RandomSecret(rand::random())
    }

    /// The bytes for a seed.
    pub fn bytes(&self) -> &[u8; BYTES] {
        &self.0
    }

    /// As the text of a column.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The secret from a column; none if that is not 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<RandomSecret> {
        let digits = text.as_bytes();
        if digits.len() != 2 * BYTES || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = [0; BYTES];
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        Some(RandomSecret(bytes))
    }
}

/// Without its bytes, so that no message contains them by mistake.
impl fmt::Debug for RandomSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RandomSecret(..)")
    }
}

/// The public data of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomSecretInfo {
    /// Its number. 0 means none: runs that began before the database had a secret.
    pub number: u32,
    /// When it was created, in milliseconds since the Unix epoch; `None` for number 0.
    pub made_at_ms: Option<u64>,
    /// Runs in progress that draw from it.
    pub runs: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_lost_secret_does_not_come_again() {
        let numbers: std::collections::BTreeSet<u32> = (0..100).map(|_| next_number(7)).collect();
        assert!(numbers.len() > 90, "{numbers:?}");
        assert!(
            numbers
                .iter()
                .all(|number| (8..=7 + STEP_MAX).contains(number))
        );
        assert_eq!(next_number(u32::MAX - 1), u32::MAX);
    }

    #[test]
    fn a_secret_survives_its_text_and_shows_itself_to_nobody() {
        let secret = RandomSecret::random();
        assert_eq!(
            RandomSecret::from_hex(&secret.to_hex()).as_ref(),
            Some(&secret)
        );
        assert_ne!(secret, RandomSecret::random());
        assert_eq!(format!("{secret:?}"), "RandomSecret(..)");
        let text = secret.to_hex();
        for wrong in [
            "",
            &text[1..],
            &format!("{text}00"),
            &"x".repeat(64),
            &"é".repeat(32),
        ] {
            assert_eq!(RandomSecret::from_hex(wrong), None, "{wrong}");
        }
    }
}
