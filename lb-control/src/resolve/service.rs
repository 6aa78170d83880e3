//! Priorities and weights of a service's records (RFC 2782) as a backend has them.

use super::Target;
use lb_core::defaults::WEIGHT_MAX;

/// What a record means to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Not of the lowest priority number: used when no other can serve.
    pub backup: bool,
    /// From 1 to [`WEIGHT_MAX`].
    pub weight: u32,
}

/// The places of records. Those of the lowest priority number are primaries, all others backups: a backend knows no third
/// rank. Weights are as written where they fit; otherwise the greatest becomes [`WEIGHT_MAX`] and the others keep their
/// proportion to it, rounded down, but at least 1. A weight of 0 beside greater ones is a very small chance in the RFC, and
/// the least there is here; where all are 0, all are equal.
pub(crate) fn places(targets: &[Target]) -> Vec<Place> {
    let lowest = targets.iter().map(|target| target.priority).min().unwrap_or_default();
    let of_rank = |backup: bool| targets.iter().filter(move |target| (target.priority != lowest) == backup);
    let scale = |backup: bool| {
        let greatest = of_rank(backup).map(|target| target.weight).max().unwrap_or_default();
        let least = of_rank(backup).map(|target| target.weight).min().unwrap_or_default();
        let fits = u32::from(greatest) <= WEIGHT_MAX && (least > 0 || greatest == 0);
        (!fits).then_some(u32::from(greatest))
    };
    let scales = [scale(false), scale(true)];
    let place = |target: &Target| {
        let backup = target.priority != lowest;
        let weight = u32::from(target.weight);
        let weight = scales[usize::from(backup)].map_or(weight, |greatest| weight * WEIGHT_MAX / greatest);
        Place { backup, weight: weight.max(1) }
    };
    targets.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(priority: u16, weight: u16) -> Target {
        Target { address: ([10, 0, 0, 1], 80).into(), priority, weight }
    }

    /// Priorities and weights of records, and what they are to be.
    type Case = (&'static [(u16, u16)], &'static [(bool, u32)]);

    #[test]
    fn cases() {
        let cases: [Case; 7] = [
            (&[], &[]),
            (&[(10, 5)], &[(false, 5)]),
            (&[(10, 60), (10, 20), (20, 7)], &[(false, 60), (false, 20), (true, 7)]),
            (&[(1, 0), (1, 0)], &[(false, 1), (false, 1)]),
            (&[(1, 0), (1, 10)], &[(false, 1), (false, 256)]),
            (&[(1, 65_535), (1, 32_768), (1, 1)], &[(false, 256), (false, 128), (false, 1)]),
            (&[(3, 1), (2, 1), (1, 512), (1, 256)], &[(true, 1), (true, 1), (false, 256), (false, 128)]),
        ];
        for (records, wanted) in cases {
            let targets: Vec<Target> = records.iter().map(|(p, w)| record(*p, *w)).collect();
            let found: Vec<(bool, u32)> = places(&targets).iter().map(|it| (it.backup, it.weight)).collect();
            assert_eq!(found, wanted, "{records:?}");
        }
    }

    proptest! {
        #[test]
        fn every_record_has_a_place_and_greater_weights_are_never_smaller(
            records in proptest::collection::vec((0u16..4, any::<u16>()), 1..40)
        ) {
            let targets: Vec<Target> = records.iter().map(|(p, w)| record(*p, *w)).collect();
            let places = places(&targets);
            prop_assert_eq!(places.len(), targets.len());
            prop_assert!(places.iter().any(|place| !place.backup));
            for (place, target) in places.iter().zip(&targets) {
                prop_assert!((1..=WEIGHT_MAX).contains(&place.weight));
                for (other, its) in places.iter().zip(&targets) {
                    if place.backup == other.backup && target.weight >= its.weight {
                        prop_assert!(place.weight >= other.weight);
                    }
                }
            }
        }
    }
}
