//! Medians, quartiles, and ratios of paired rounds.
//!
//! Rounds are interleaved, so what disturbs the machine for a while disturbs neighbours alike: a ratio is
//! taken within each round first, and the median over the rounds afterwards.

/// The middle and the edges of some samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The smallest.
    pub min: f64,
    /// A quarter is below.
    pub lower: f64,
    /// Half is below.
    pub median: f64,
    /// A quarter is above.
    pub upper: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// None without samples, or if one is not a number.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        if sorted.is_empty() || sorted.iter().any(|sample| sample.is_nan()) {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        let at = |share| quantile(&sorted, share);
        Some(Self { min: at(0.0), lower: at(0.25), median: at(0.5), upper: at(0.75), max: at(1.0) })
    }
}

/// Of sorted samples, with linear interpolation between neighbours (Hyndman and Fan's type 7).
///
/// # Panics
/// Without samples.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = sorted[place.floor() as usize];
    let above = sorted[place.ceil() as usize];
    below + (above - below) * place.fract()
}

/// What `these` are as multiples of `those`, round by round. Rounds that either lacks are left out.
pub fn paired_ratio(these: &[Option<f64>], those: &[Option<f64>]) -> Option<Summary> {
    let pairs = these.iter().zip(those).filter_map(|(this, that)| Some((*this)? / (*that)?));
    Summary::of(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_even_and_single_medians() {
        let median = |samples: &[f64]| Summary::of(samples.iter().copied()).map(|summary| summary.median);
        assert_eq!(median(&[5.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn quartiles_interpolate() {
        let summary = Summary::of((1..=7).map(f64::from)).expect("seven samples");
        assert_eq!(summary, Summary { min: 1.0, lower: 2.5, median: 4.0, upper: 5.5, max: 7.0 });
        let two = Summary::of([10.0, 20.0]).expect("two samples");
        assert_eq!((two.lower, two.upper), (12.5, 17.5));
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        // The machine was ten times slower in the second round: the ratio does not see it.
        let these = [Some(1.0), Some(10.0), Some(1.0)];
        let those = [Some(2.0), Some(20.0), Some(2.0)];
        let ratio = paired_ratio(&these, &those).expect("three pairs");
        assert_eq!((ratio.min, ratio.median, ratio.max), (0.5, 0.5, 0.5));
    }

    #[test]
    fn rounds_that_either_lacks_do_not_count() {
        let ratio = paired_ratio(&[Some(3.0), None, Some(8.0)], &[Some(1.0), Some(1.0), None]);
        assert_eq!(ratio.map(|ratio| (ratio.min, ratio.max)), Some((3.0, 3.0)));
        assert_eq!(paired_ratio(&[None], &[Some(1.0)]), None);
    }
}
