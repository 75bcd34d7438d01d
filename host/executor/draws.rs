//! The random numbers of a run: a generator seeded by a secret of the database, the task and the run. The same run
//! started again draws the same numbers, and they cannot be computed without the secret.
//!
//! A replay skips the contents of a complete step, including its draws. So the numbers after each step have a seed of
//! their own, derived from the number of the call that completed the step.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng, TryRng};
use sha2::{Digest, Sha256};

use crate::store::RandomSecret;
use crate::task::Task;

/// The current part of the numbers: 0 before the first step, then the number of the call that completed the last one.
#[derive(Debug, Clone, Default)]
pub struct Draws(Arc<AtomicU32>);

impl Draws {
    /// The run has passed a step that call `number` completed.
    pub fn begin_part(&self, number: u32) {
        self.0.store(number, Ordering::Relaxed);
    }
}

/// Draws for one purpose.
pub struct Generator {
    seed: [u8; 32],
    draws: Draws,
    part: u32,
    numbers: ChaCha12Rng,
}

impl Generator {
    /// A generator that shares no numbers with those for other purposes.
    pub fn new(
        task: &Task,
        secret: Option<&RandomSecret>,
        purpose: &str,
        draws: &Draws,
    ) -> Generator {
        let seed = seed(task, secret, purpose);
        Generator {
            seed,
            draws: draws.clone(),
            part: 0,
            numbers: ChaCha12Rng::from_seed(seed),
        }
    }

    fn numbers(&mut self) -> &mut ChaCha12Rng {
        let part = self.draws.0.load(Ordering::Relaxed);
        if part != self.part {
            let mut hash = Sha256::new();
            hash.update(self.seed);
            hash.update(part.to_le_bytes());
            self.part = part;
            self.numbers = ChaCha12Rng::from_seed(hash.finalize().into());
        }
        &mut self.numbers
    }
}

impl TryRng for Generator {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.numbers().next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.numbers().next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.numbers().fill_bytes(bytes);
        Ok(())
    }
}

/// The seed for one purpose. Without a `secret`, as for a run that began before there were any, it is derived only from
/// the id of the task and the run.
pub fn seed(task: &Task, secret: Option<&RandomSecret>, purpose: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    // Of a fixed length, as are all others but the last, so that no two seeds have the same text.
    if let Some(secret) = secret {
        hash.update(secret.bytes());
    }
    hash.update(task.id.to_i64().to_le_bytes());
    hash.update(task.run.to_le_bytes());
    hash.update(purpose.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{NewTask, Options, TaskId};

    #[test]
    fn what_was_drawn_inside_a_step_does_not_count_behind_it() {
        let id = TaskId::from_i64(1);
        let task = NewTask::root("handler", "{}", Options::default()).into_task(id, 0, 0, None);
        let drawn = |inside: u32| {
            let draws = Draws::default();
            let mut generator = Generator::new(&task, None, "secure", &draws);
            let before = generator.next_u64();
            for _ in 0..inside {
                generator.next_u64();
            }
            draws.begin_part(7);
            let behind = generator.next_u64();
            draws.begin_part(9);
            (before, behind, generator.next_u64())
        };
        assert_eq!(drawn(0), drawn(5));
        let (before, behind, last) = drawn(0);
        assert!(before != behind && behind != last);
        let plain = ChaCha12Rng::from_seed(seed(&task, None, "secure")).next_u64();
        assert_eq!(before, plain, "a run without steps draws as it always did");
    }
}
