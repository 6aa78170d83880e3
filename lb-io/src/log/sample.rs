//! Which exchanges are logged, where not all are: every failed and every slow one, and of the rest a share that is
//! the same on every hop.

use std::time::Duration;

use lb_core::SecretKey;
use lb_core::hash::siphash_2_4_128;

use crate::reason::Cause;

/// All, in hundredths of a percent.
pub const ALL: u16 = 10_000;

/// What ids are hashed with. Public and the same everywhere, for every process is to choose the same ones; who could
/// choose an id so that it is left out is trusted to name ids at all, and its failures are kept anyway.
const KEY: [u8; 16] = *b"lb access sample";

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// The share of what is neither failed nor slow, in hundredths of a percent.
    pub share: u16,
    /// From which time on an exchange is slow.
    pub slow: Option<Duration>,
}

impl Default for Sampling {
    /// Everything.
    fn default() -> Self {
        Sampling { share: ALL, slow: None }
    }
}

impl Sampling {
    /// The share of exchanges like this one that is logged, in hundredths of a percent; `None` if this one is not.
    /// A tunnel is never slow.
    #[inline]
    pub fn rate(&self, id: &str, status: u16, cause: Cause, total_us: u64) -> Option<u16> {
        if self.share >= ALL {
            return Some(ALL);
        }
        let is_failed = !cause.is_good() || status >= 500;
        let is_slow = status != 101 && self.slow.is_some_and(|slow| u128::from(total_us) >= slow.as_micros());
        if is_failed || is_slow {
            return Some(ALL);
        }
        is_kept(id, self.share).then_some(self.share)
    }
}

/// Whether an id is among a share in hundredths of a percent.
pub fn is_kept(id: &str, share: u16) -> bool {
    place(id) < share
}

/// Where an id stands, from 0 to 9,999: what is kept at 1 % is kept at 10 %, too.
fn place(id: &str) -> u16 {
    let hash = siphash_2_4_128(&SecretKey::new(KEY), id.as_bytes()) as u64;
    ((u128::from(hash) * u128::from(ALL)) >> 64) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate of an exchange that went to its end.
    fn rate(sampling: Sampling, id: &str, status: u16, total_us: u64) -> Option<u16> {
        sampling.rate(id, status, Cause::Complete, total_us)
    }

    /// Other programs that keep the same exchanges stand on these.
    #[test]
    fn places_are_fixed() {
        assert_eq!(
            ["", "a", "0123456789abcdef0123456789abcdef", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"].map(place),
            PLACES
        );
    }

    const PLACES: [u16; 4] = [9_388, 7_373, 6_584, 30];

    #[test]
    fn a_share_is_kept_and_a_larger_one_keeps_the_same_and_more() {
        let ids: Vec<String> = (0..20_000).map(|number| format!("{number:032x}")).collect();
        let kept = |share: u16| -> Vec<&String> {
            let sampling = Sampling { share, slow: None };
            ids.iter().filter(|id| rate(sampling, id, 200, 0) == Some(share)).collect()
        };
        let (small, large) = (kept(100), kept(1_000));
        // Five standard deviations of 200 and of 2,000.
        assert!((130..=270).contains(&small.len()), "{}", small.len());
        assert!((1_788..=2_212).contains(&large.len()), "{}", large.len());
        assert!(small.iter().all(|id| large.contains(id)));
        assert_eq!((kept(0).len(), kept(ALL).len()), (0, ids.len()));
    }

    #[test]
    fn failed_and_slow_ones_are_all_kept() {
        let sampling = Sampling { share: 0, slow: Some(Duration::from_secs(1)) };
        assert_eq!(rate(sampling, "a", 200, 999_999), None);
        assert_eq!(rate(sampling, "a", 200, 1_000_000), Some(ALL));
        assert_eq!(rate(sampling, "a", 101, 1_000_000), None);
        assert_eq!(rate(sampling, "a", 500, 0), Some(ALL));
        assert_eq!(rate(sampling, "a", 404, 0), None);
        for cause in Cause::ALL {
            let kept = sampling.rate("a", 200, cause, 0).is_some();
            assert_eq!(kept, !matches!(cause, Cause::Complete | Cause::Answered), "{cause:?}");
        }
    }
}
