//! The claim that a task is under: a number that increases, and a random mark.

use serde::{Deserialize, Serialize};

/// Bits of the number: at a thousand claims a second, one task uses them up in two years.
const NUMBER_BITS: u32 = 36;

/// Bits of the mark.
const MARK_BITS: u32 = 27;

/// The claim of a task. Two claims are the same when both parts are.
///
/// The number alone does not tell claims apart: a standby that takes over may lack the last commits,
/// and then gives the number of a lost claim to another. The mark is drawn by chance for each claim,
/// so a lost one does not come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub struct Fence {
    /// How many claims of the task there were; 0 before the first.
    pub number: u64,
    /// Tells this claim from another one of the same number.
    pub mark: u32,
}

impl Fence {
    /// The claim that follows, with a mark of which the lowest 27 bits count.
    pub fn next(self, mark: u32) -> Fence {
        Fence {
            number: (self.number + 1) & ((1 << NUMBER_BITS) - 1),
            mark: mark & ((1 << MARK_BITS) - 1),
        }
    }

    /// The fence as the store keeps it: an integer that is not negative. A number without a mark, as
    /// earlier versions kept it, is itself.
    pub fn to_i64(self) -> i64 {
        (u64::from(self.mark) << NUMBER_BITS | self.number) as i64
    }

    /// The reverse of [`Fence::to_i64`]; the sign bit is dropped.
    pub fn from_i64(value: i64) -> Fence {
        let value = value as u64 & i64::MAX as u64;
        Fence {
            number: value & ((1 << NUMBER_BITS) - 1),
            mark: (value >> NUMBER_BITS) as u32,
        }
    }
}

impl From<i64> for Fence {
    fn from(value: i64) -> Fence {
        Fence::from_i64(value)
    }
}

impl From<Fence> for i64 {
    fn from(fence: Fence) -> i64 {
        fence.to_i64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_one_integer_and_one_of_an_earlier_version_is_its_number() {
        let check = |number, mark, value| {
            let fence = Fence { number, mark };
            assert_eq!((fence.to_i64(), Fence::from_i64(value)), (value, fence));
        };
        check(0, 0, 0);
        check(7, 0, 7);
        check(1, 1, 1 << 36 | 1);
        check((1 << 36) - 1, (1 << 27) - 1, i64::MAX);
    }

    #[test]
    fn a_claim_that_was_lost_and_the_one_in_its_place_differ() {
        let before = Fence::from_i64(3);
        let (lost, again) = (before.next(1), before.next(2));
        assert_eq!((lost.number, again.number), (4, 4));
        assert_ne!(lost, again);
        assert_eq!(lost.next(u32::MAX).mark, (1 << 27) - 1);
    }
}
