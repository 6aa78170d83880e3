//! The statistical tests: are these times longer than those, are these failures more than those.
//!
//! # Times
//! For a quantile q (the median, and the one that a tenth exceeds) the hypothesis is that the q-quantile of the
//! times in question is at most [`FACTOR`] times that of the usual ones. It is a quantile test as in Conover,
//! *Practical Nonparametric Statistics* (3rd ed., 1999, §3.2), of the sign test's family: with an edge at [`FACTOR`]
//! times the usual quantile, a share of at most 1 − q of the times can lie above it if the hypothesis holds, so more
//! than that by more than chance rejects it. Only places in order count, so tails of any weight do no harm: a mean, a
//! variance or a p99 of ten seconds would be ruled by a few outliers.
//!
//! "By chance" is bounded, not approximated: the chance that a binomial share of n comes to at least s although it
//! is p is at most exp(−n·D(s‖p)), D being the Kullback-Leibler divergence (Chernoff 1952; Hoeffding 1963, theorem 1).
//! Normal approximations such as Wilson's interval are too bold for few exchanges and small shares (Brown, Cai and
//! DasGupta, *Interval Estimation for a Binomial Proportion*, 2001). The usual quantile is known from a sample only,
//! so the same bound gives the rank that it does not exceed.
//!
//! # Error
//! Each bound is wrong with a chance of at most [`CHANCE`]. Against the past there are two quantiles, two spans and two
//! bounds: a false alarm in at most 8 of a million checks even where the quantile really is [`FACTOR`] times the usual
//! one. Beside the stable arm there are up to 16 usual quantiles: at most 54 of a million. Where nothing has changed it
//! is far less: then of Pareto times of index a only (1 − q)·[`FACTOR`]^−a lie above the edge.

use super::times::Times;

/// How many times longer a quantile must be. The square root of ten: on a logarithmic scale half the way to ten-fold.
pub const FACTOR: f64 = 3.162_277_660_168_379_5;

/// The chance that one bound is wrong.
pub const CHANCE: f64 = 1e-6;

/// Exchanges of the span in question at least: below that even if all were slow that could be chance.
pub const EXCHANGES_MIN: u64 = 20;

/// Exchanges at least by which one knows what is usual.
pub const USUAL_MIN: u64 = 20;

/// Parts (seconds) of a span that must show it at least: one short stall is no new level.
pub const PARTS_MIN: usize = 3;

/// Shorter times are nobody's concern: edges are never below.
const EDGE_US_MIN: u64 = 1000;

/// A share of failures up to this is nobody's concern.
const FAILURES_MIN: f64 = 0.01;

/// Quantiles that are compared.
const QUANTILES: [f64; 2] = [0.5, 0.9];

/// What a comparison came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// There were too few exchanges to tell.
    Unknown,
    /// Nothing to be seen.
    Calm(Numbers),
    /// It is more than [`FACTOR`] times what it should be, and that is not chance.
    Jumped(Numbers),
}

/// The two sides of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Numbers {
    /// The quantile that is compared; 0 for failures.
    pub quantile: f64,
    /// Seconds, or the share of failures.
    pub now: f64,
    /// The same of what it is compared with.
    pub usual: f64,
    /// Exchanges that `now` is of.
    pub exchanges: u64,
    /// Exchanges that `usual` is of.
    pub usual_exchanges: u64,
}

fn needed() -> f64 {
    -CHANCE.ln()
}

/// The Kullback-Leibler divergence of a share from another.
fn divergence(seen: f64, share: f64) -> f64 {
    let term = |seen: f64, share: f64| if seen == 0.0 { 0.0 } else { seen * (seen / share).ln() };
    term(seen, share) + term(1.0 - seen, 1.0 - share)
}

/// Whether `hits` of `all` are more than a share gives by chance.
fn exceeds(hits: u64, all: u64, share: f64) -> bool {
    let seen = hits as f64 / all.max(1) as f64;
    seen > share && all as f64 * divergence(seen, share) >= needed()
}

/// The smallest x between `low` and 1 for which `holds`, which stays true once it is.
fn smallest(mut low: f64, holds: impl Fn(f64) -> bool) -> Option<f64> {
    let mut high = 1.0;
    if !holds(high) {
        return None;
    }
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if holds(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

/// The share of a sample of `all` at which the sample is not below the true quantile; none if it is too small.
fn safe_rank(all: u64, quantile: f64) -> Option<f64> {
    smallest(quantile, |rank| all as f64 * divergence(rank, quantile) >= needed())
}

/// The largest share that could have given `hits` of `all`.
fn safe_share(hits: u64, all: u64) -> f64 {
    let seen = hits as f64 / all.max(1) as f64;
    // At 1 the divergence is infinite (or, if all were hits, nothing).
    smallest(seen, |share| share >= 1.0 || all as f64 * divergence(seen, share) >= needed()).unwrap_or(1.0)
}

/// Parts of a span, and what each of them is compared with.
struct Stratum<'a, T, U> {
    parts: Vec<&'a T>,
    usual: U,
}

/// Pairs of the same seconds, joined with the next ones as long as `enough` is not known of the second of them. What
/// is left at the end is left out.
fn strata<'a, T, U: Default>(
    pairs: &[(&'a T, &'a T)],
    add: impl Fn(&mut U, &T),
    enough: impl Fn(&U) -> bool,
) -> Vec<Stratum<'a, T, U>> {
    let mut strata = Vec::new();
    let mut open = Stratum { parts: Vec::new(), usual: U::default() };
    for (now, usual) in pairs {
        open.parts.push(*now);
        add(&mut open.usual, usual);
        if enough(&open.usual) {
            strata.push(std::mem::replace(&mut open, Stratum { parts: Vec::new(), usual: U::default() }));
        }
    }
    strata
}

/// Whether times, in parts of the span that they are of, are longer than usual ones.
pub fn longer(parts: &[&Times], usual: &Times) -> Verdict {
    judge_times(|_| vec![Stratum { parts: parts.to_vec(), usual: usual.clone() }])
}

/// Whether times are longer than others of the same seconds, in pairs. Each is compared with what came beside it and
/// not with the sum: if all becomes slow in the second in which a canary's share is raised, most of the canary's times
/// are slow and most of the others' are not, and still the canary is not slower.
pub fn longer_beside(pairs: &[(&Times, &Times)]) -> Verdict {
    judge_times(|quantile| {
        // Five times what a rank needs, so that it is not the longest time of all.
        strata(pairs, Times::merge, |usual: &Times| safe_rank(usual.count() / 5, quantile).is_some())
    })
}

fn judge_times<'a>(strata: impl Fn(f64) -> Vec<Stratum<'a, Times, Times>>) -> Verdict {
    let mut verdict = Verdict::Unknown;
    for quantile in QUANTILES {
        let may = 1.0 - quantile;
        let (mut now, mut usual) = (Times::default(), Times::default());
        let (mut hits, mut lasting) = (0, 0);
        for stratum in strata(quantile) {
            let Some(rank) = safe_rank(stratum.usual.count(), quantile) else { continue };
            // What is above the longest time that has a bucket cannot be told apart.
            let Some(highest) = stratum.usual.upper_edge_us(rank) else { continue };
            let edge_us = ((highest as f64 * FACTOR) as u64).max(EDGE_US_MIN);
            usual.merge(&stratum.usual);
            for part in stratum.parts {
                let above = part.above(edge_us);
                hits += above;
                lasting += usize::from(above as f64 > may * part.count() as f64);
                now.merge(part);
            }
        }
        let all = now.count();
        if all < EXCHANGES_MIN || usual.count() < USUAL_MIN {
            continue;
        }
        let numbers = Numbers {
            quantile,
            now: now.quantile(quantile).unwrap_or_default(),
            usual: usual.quantile(quantile).unwrap_or_default(),
            exchanges: all,
            usual_exchanges: usual.count(),
        };
        if lasting >= PARTS_MIN && exceeds(hits, all, may) {
            return Verdict::Jumped(numbers);
        }
        if verdict == Verdict::Unknown {
            verdict = Verdict::Calm(numbers);
        }
    }
    verdict
}

/// Hits of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Part {
    /// Failures.
    pub hits: u64,
    /// Exchanges.
    pub all: u64,
}

impl Part {
    fn merge(&mut self, other: &Part) {
        self.hits += other.hits;
        self.all += other.all;
    }
}

/// Whether there are more failures than usually: more than [`FACTOR`] times as many, and more than one in a hundred.
pub fn more(parts: &[Part], usual: Part) -> Verdict {
    judge_failures(vec![Stratum { parts: parts.iter().collect(), usual }])
}

/// The same against others of the same seconds, as [`longer_beside`].
pub fn more_beside(pairs: &[(Part, Part)]) -> Verdict {
    let pairs: Vec<(&Part, &Part)> = pairs.iter().map(|(now, usual)| (now, usual)).collect();
    judge_failures(strata(&pairs, Part::merge, |usual: &Part| usual.all >= 5 * USUAL_MIN))
}

fn judge_failures(strata: Vec<Stratum<'_, Part, Part>>) -> Verdict {
    let (mut now, mut usual) = (Part::default(), Part::default());
    let (mut expected, mut lasting) = (0.0, 0);
    for stratum in strata {
        let safe = safe_share(stratum.usual.hits, stratum.usual.all);
        let may = (FACTOR * safe).clamp(FAILURES_MIN, 1.0);
        usual.merge(&stratum.usual);
        for part in stratum.parts {
            now.merge(part);
            // Hoeffding's bound holds for the mean of different shares.
            expected += may * part.all as f64;
            lasting += usize::from(part.hits as f64 > may * part.all as f64);
        }
    }
    if now.all < EXCHANGES_MIN || usual.all < USUAL_MIN {
        return Verdict::Unknown;
    }
    let may = expected / now.all as f64;
    let numbers = Numbers {
        quantile: 0.0,
        now: now.hits as f64 / now.all as f64,
        usual: usual.hits as f64 / usual.all as f64,
        exchanges: now.all,
        usual_exchanges: usual.all,
    };
    if may >= 1.0 {
        Verdict::Unknown
    } else if lasting >= PARTS_MIN && exceeds(now.hits, now.all, may) {
        Verdict::Jumped(numbers)
    } else {
        Verdict::Calm(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exact chance of at least `hits` of `all`.
    fn tail(hits: u64, all: u64, share: f64) -> f64 {
        let ln_factorial = |n: u64| (1..=n).map(|it| (it as f64).ln()).sum::<f64>();
        let chance = |hits: u64| {
            (ln_factorial(all) - ln_factorial(hits) - ln_factorial(all - hits)
                + hits as f64 * share.ln()
                + (all - hits) as f64 * (1.0 - share).ln())
            .exp()
        };
        (hits..=all).map(chance).sum()
    }

    #[test]
    fn the_bound_is_one() {
        for all in [20, 50, 131, 400] {
            for share in [0.01, 0.1, 0.5] {
                let first = (0..=all).find(|hits| exceeds(*hits, all, share)).expect("enough of them");
                assert!(tail(first, all, share) <= CHANCE, "{first} of {all} at {share}");
                assert!(tail(first - 1, all, share) > CHANCE / 1000.0, "needlessly careful");
            }
        }
        assert!(!exceeds(0, 0, 0.5) && !exceeds(50, 100, 0.5));
        assert!((0..=19).all(|hits| !exceeds(hits, 19, 0.5)), "too few for any verdict");
    }

    #[test]
    fn ranks_and_shares_are_on_the_safe_side() {
        assert_eq!(safe_rank(19, 0.5), None);
        assert_eq!(safe_rank(131, 0.9), None);
        let (few, many) = (safe_rank(132, 0.9).expect("enough"), safe_rank(100_000, 0.9).expect("enough"));
        assert!(few > 0.99 && many > 0.9 && many < 0.91, "{few} {many}");
        assert!(
            tail((0.5_f64.max(safe_rank(100, 0.5).expect("enough")) * 100.0).ceil() as u64, 100, 0.5)
                <= CHANCE
        );
        for (hits, all) in [(0, 200), (10, 200), (199, 200)] {
            let share = safe_share(hits, all);
            // The chance of so few, were it that share.
            assert!(1.0 - tail(hits + 1, all, share) <= CHANCE * 1.01, "{hits} of {all}: {share}");
        }
        assert_eq!(safe_share(200, 200), 1.0);
    }
}
