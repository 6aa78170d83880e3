//! Rendezvous hashing: every server has a score for every key, and the highest serves (Thaler and Ravishankar,
//! "Using name-based mappings to increase hit rates", 1998). A server that comes or goes moves only its own keys.
//!
//! Weighted by the method of logarithms (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005):
//! with `u` in (0, 1) out of the hash, the lowest `-log2(u) / weight` wins. All nodes must agree, and floating
//! point logarithms differ between machines, so this one is computed in whole numbers. Among servers of one weight
//! the order is that of the hashes themselves: a logarithm is needed once for each weight in use.

use super::{Asked, Member};
use crate::hash::mix;
use crate::snapshot::ServerIndex;

/// Members by weight.
#[derive(Debug, Default)]
pub(crate) struct Tiers {
    tiers: Box<[Tier]>,
}

#[derive(Debug)]
struct Tier {
    weight: u32,
    members: Box<[(u64, ServerIndex)]>,
}

impl Tiers {
    pub(crate) fn new(members: &[Member]) -> Tiers {
        let mut sorted: Vec<&Member> = members.iter().collect();
        sorted.sort_by_key(|member| member.weight);
        let tier = |members: &[&Member]| Tier {
            weight: members[0].weight,
            members: members.iter().map(|member| (member.seed, member.server)).collect(),
        };
        Tiers { tiers: sorted.chunk_by(|left, right| left.weight == right.weight).map(tier).collect() }
    }

    /// The server with the highest score among those that can serve.
    pub(super) fn pick(&self, hash: u64, asked: &Asked<'_>) -> Option<ServerIndex> {
        self.highest(hash, |server| asked.can_serve(server))
    }

    fn highest(&self, affinity: u64, can_serve: impl Fn(ServerIndex) -> bool) -> Option<ServerIndex> {
        let mut best: Option<(u64, u64, u32, ServerIndex)> = None;
        for tier in &self.tiers {
            let Some((hash, seed, server)) = tier.highest(affinity, &can_serve) else { continue };
            let wins = match best {
                None => true,
                Some((other_hash, other_seed, other_weight, _)) => {
                    let cost = u128::from(minus_log2(hash)) * u128::from(other_weight);
                    let other_cost = u128::from(minus_log2(other_hash)) * u128::from(tier.weight);
                    cost < other_cost || cost == other_cost && seed > other_seed
                }
            };
            if wins {
                best = Some((hash, seed, tier.weight, server));
            }
        }
        best.map(|(_, _, _, server)| server)
    }
}

impl Tier {
    /// The highest hash of those that can serve, with seed and server. Whether one can is asked only of those that
    /// beat all before them: a handful, however many there are.
    fn highest(
        &self,
        affinity: u64,
        can_serve: &impl Fn(ServerIndex) -> bool,
    ) -> Option<(u64, u64, ServerIndex)> {
        let mut best: Option<(u64, u64, ServerIndex)> = None;
        for &(seed, server) in &self.members {
            let hash = mix(affinity ^ seed);
            // Seeds break ties, as the order of the spec may differ between nodes.
            if best.is_none_or(|(other, other_seed, _)| (hash, seed) > (other, other_seed))
                && can_serve(server)
            {
                best = Some((hash, seed, server));
            }
        }
        best
    }
}

/// Bits after the point of [`minus_log2`].
const FRACTION_BITS: u32 = 48;

/// `-log2((hash + 1) / 2^64)`, rounded up to a multiple of 2^-48: 0 to 64. Digit by digit: squaring a number
/// doubles its logarithm, so each squaring brings the next bit to the point (Knuth, TAOCP 1, 1.2.2, exercise 25).
fn minus_log2(hash: u64) -> u64 {
    let Some(number) = hash.checked_add(1) else { return 0 };
    let whole = 63 - u64::from(number.leading_zeros());
    // In [1, 2), with 63 bits after the point.
    let mut rest = number << number.leading_zeros();
    let mut log = whole;
    for _ in 0..FRACTION_BITS {
        let square = (u128::from(rest) * u128::from(rest)) >> 63;
        let carry = (square >> 64) as u64;
        log = log << 1 | carry;
        rest = (square >> carry) as u64;
    }
    (64 << FRACTION_BITS) - log
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tiers(weights: &[u32]) -> Tiers {
        let member = |(place, weight): (usize, &u32)| Member {
            server: ServerIndex(place as u32),
            weight: *weight,
            seed: mix(place as u64 + 1),
        };
        Tiers::new(&weights.iter().enumerate().map(member).filter(|it| it.weight > 0).collect::<Vec<_>>())
    }

    fn home(tiers: &Tiers, key: u64) -> u32 {
        tiers.highest(mix(key), |_| true).unwrap().0
    }

    #[test]
    fn logarithms() {
        assert_eq!(minus_log2(u64::MAX), 0);
        assert_eq!(minus_log2(0), 64 << FRACTION_BITS);
        assert_eq!(minus_log2((1 << 63) - 1), 1 << FRACTION_BITS);
        for hash in [1, 12345, 1 << 40, u64::MAX / 3, u64::MAX / 3 * 2, u64::MAX - (1 << 40)] {
            let exact = 64.0 - (hash as f64 + 1.0).log2();
            let found = minus_log2(hash) as f64 / (1_u64 << FRACTION_BITS) as f64;
            assert!((found - exact).abs() < 1e-9, "{hash}: {found} for {exact}");
        }
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        let weights = [1, 2, 4, 4, 9];
        let tiers = tiers(&weights);
        let mut count = [0_f64; 5];
        let keys = 100_000;
        (0..keys).for_each(|key| count[home(&tiers, key) as usize] += 1.0);
        for (count, weight) in count.iter().zip(weights) {
            let share = f64::from(weight) / 20.0;
            let deviation = (share * (1.0 - share) * keys as f64).sqrt();
            assert!((count - share * keys as f64).abs() < 5.0 * deviation, "{count} of weight {weight}");
        }
    }

    proptest! {
        /// A server that goes, or whose weight grows, moves its own keys or to itself, and no others.
        #[test]
        fn only_what_must_moves(weights in proptest::collection::vec(1_u32..=256, 2..20), pick: usize, keys: [u64; 50]) {
            let place = pick % weights.len();
            let all = tiers(&weights);
            let (mut gone, mut grown) = (weights.clone(), weights.clone());
            gone[place] = 0;
            grown[place] += 1;
            let (gone, grown) = (tiers(&gone), tiers(&grown));
            for key in keys {
                let before = home(&all, key);
                if before as usize != place {
                    prop_assert_eq!(home(&gone, key), before);
                }
                let after = home(&grown, key);
                prop_assert!(after == before || after as usize == place);
                prop_assert!(before as usize != place || after == before);
            }
        }
    }
}
