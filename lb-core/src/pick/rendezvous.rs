//! Rendezvous hashing: every server has a score for every key, and the highest serves (Thaler and Ravishankar,
//! "Using name-based mappings to increase hit rates", 1998). A server that comes or goes moves only its own keys.
//!
//! Weighted by the method of logarithms (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005):
//! with `u` in (0, 1) out of the hash, the lowest `-log2(u) / weight` wins. All nodes must agree, and floating
//! point logarithms differ between machines, so this one is computed in whole numbers. Among servers of one weight
//! the order is that of the hashes themselves: a logarithm is needed once for each weight in use.

use super::{Candidate, Member};
use crate::hash::mix;
use crate::live::STRENGTH_FULL;
use crate::snapshot::ServerIndex;

/// Servers by weight.
#[derive(Debug, Default)]
pub(super) struct Tiers {
    tiers: Box<[Tier]>,
}

#[derive(Debug)]
struct Tier {
    weight: u32,
    servers: Box<[(u64, ServerIndex)]>,
}

/// How well a server stands with a key.
#[derive(Clone, Copy)]
struct Score {
    hash: u64,
    /// Breaks ties, as the order of the spec may differ between nodes.
    seed: u64,
    /// Its weight times its strength.
    weight: u64,
    server: ServerIndex,
}

impl Score {
    fn beats(&self, other: &Score) -> bool {
        let cost = |one: &Score, other: &Score| u128::from(minus_log2(one.hash)) * u128::from(other.weight);
        let (mine, others) = (cost(self, other), cost(other, self));
        mine < others || mine == others && self.seed > other.seed
    }

    /// Whether this is plain to see, without a logarithm.
    fn is_above(&self, other: &Score) -> bool {
        (self.hash, self.seed) > (other.hash, other.seed) && self.weight >= other.weight
    }
}

fn better(best: Option<Score>, other: Score) -> Option<Score> {
    match best {
        Some(best) if best.is_above(&other) || (!other.is_above(&best) && !other.beats(&best)) => Some(best),
        _ => Some(other),
    }
}

impl Tiers {
    pub(super) fn new<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Tiers {
        let mut sorted: Vec<&Candidate> = candidates.collect();
        sorted.sort_by_key(|it| it.member.weight);
        let tier = |of_weight: &[&Candidate]| Tier {
            weight: of_weight[0].member.weight,
            servers: of_weight.iter().map(|it| (it.seed, it.member.server)).collect(),
        };
        let same_weight = |left: &&Candidate, right: &&Candidate| left.member.weight == right.member.weight;
        Tiers { tiers: sorted.chunk_by(same_weight).map(tier).collect() }
    }

    /// The server with the highest score for a key, `strength` being how much of its weight each is to have; 0 keeps
    /// it out. As a server's strength grows, keys move to it and nowhere else.
    pub(super) fn highest(&self, hash: u64, strength: impl Fn(Member) -> u32) -> Option<ServerIndex> {
        let best = self.tiers.iter().fold(None, |best, tier| tier.highest(hash, &strength, best));
        best.map(|best| best.server)
    }
}

impl Tier {
    /// The best so far or here. A server is asked for its strength only if it beats all that have the whole weight of
    /// this tier: a handful, however many there are. Logarithms are taken for the best of the tier, and for servers
    /// without their whole strength, as far as they are not plainly beaten.
    fn highest(&self, key: u64, strength: &impl Fn(Member) -> u32, mut best: Option<Score>) -> Option<Score> {
        let mut of_tier: Option<Score> = None;
        for &(seed, server) in &self.servers {
            let hash = mix(key ^ seed);
            if of_tier.is_some_and(|of_tier| (hash, seed) <= (of_tier.hash, of_tier.seed)) {
                continue;
            }
            let strength = strength(Member { server, weight: self.weight });
            let score = Score { hash, seed, weight: u64::from(self.weight * strength), server };
            match strength {
                0 => {}
                STRENGTH_FULL => of_tier = Some(score),
                _ => best = better(best, score),
            }
        }
        match of_tier {
            Some(of_tier) => better(best, of_tier),
            None => best,
        }
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
        let candidate = |(place, weight): (usize, &u32)| Candidate {
            member: Member { server: ServerIndex(place as u32), weight: *weight },
            backup: false,
            is_near: false,
            seed: mix(place as u64 + 1),
            step: 0,
        };
        let all: Vec<Candidate> = weights.iter().enumerate().map(candidate).collect();
        Tiers::new(all.iter().filter(|it| it.member.weight > 0))
    }

    fn home(tiers: &Tiers, key: u64) -> u32 {
        tiers.highest(mix(key), |_| STRENGTH_FULL).unwrap().0
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
