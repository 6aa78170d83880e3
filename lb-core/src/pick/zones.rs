//! Zones: the node's own is preferred, and spills over as its capacity falls.
//!
//! With `near` and `far` the weights that can be picked in the own zone and in all others, and `all` the own zone's
//! weight when nothing is wrong, the own zone keeps of all requests
//!
//! ```text
//! max( near / (all × spill_below),  near / (near + far) ),  at most everything.
//! ```
//!
//! The first says: as long as `spill_below` of its weight is up (70 % if nothing else is said) it keeps everything;
//! below, each of its servers has as much to do as at that point, and the rest goes to the others, by weight. The
//! second says: a server of the own zone never has less to do than one elsewhere, however bad things are there.
//! (Envoy's priority levels do the same with an overprovisioning factor of 1.4 = 1 / 71 %.) Connect failures and slow
//! start, which pass, do not change what a zone can take.

use super::Asked;
use crate::share::Share;

/// Whether a request is to stay in the node's own zone.
pub(super) fn stays(asked: &Asked<'_>) -> bool {
    let share = u32::from(asked.outlook.near_share);
    // Other bits than those of the policy, which else would see only some of them.
    let whole = u32::from(Share::WHOLE);
    share >= whole || asked.draw.apart().below(whole) < share
}

/// Weights of primaries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Capacity {
    /// Of the own zone, whatever is wrong.
    pub(super) all: u32,
    /// Of those of the own zone that can be picked.
    pub(super) near: u32,
    /// Of those elsewhere that can be picked.
    pub(super) far: u32,
}

/// The part of requests that stays in the own zone, in hundredths of a percent.
pub(super) fn near_share(capacity: Capacity, spill_below: Share) -> u16 {
    let Capacity { all, near, far } = capacity;
    if near == 0 {
        return 0;
    }
    let whole = u64::from(Share::WHOLE);
    let near = u64::from(near) * whole;
    // What never spills over needs nothing to keep everything.
    let by_need = (near * whole).checked_div(u64::from(all) * u64::from(spill_below.hundredths()));
    let by_capacity = near / (u64::from(capacity.near) + u64::from(far));
    by_need.map_or(whole, |by_need| by_need.max(by_capacity).min(whole)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        for (all, near, far, spill_below, share) in [
            (10, 10, 20, 70, 10_000),
            (10, 7, 20, 70, 10_000),
            (10, 6, 20, 70, 8_571),
            (10, 1, 20, 70, 1_428),
            (10, 0, 20, 70, 0),
            (10, 5, 1, 70, 8_333),
            (10, 5, 0, 70, 10_000),
            (10, 0, 0, 70, 0),
            (10, 9, 20, 100, 9_000),
            (10, 1, 20, 0, 10_000),
            (10, 0, 20, 0, 0),
        ] {
            let capacity = Capacity { all, near, far };
            assert_eq!(
                near_share(capacity, Share::percent(spill_below)),
                share,
                "{capacity:?} {spill_below}"
            );
        }
    }

    proptest! {
        /// More capacity in the own zone never means less for it, more elsewhere never more.
        #[test]
        fn monotone(all in 1_u32..1000, part in 0_u32..1000, far in 0_u32..1000, spill_below in 0_u16..=100) {
            let near = part.min(all);
            let share = |near, far| near_share(Capacity { all, near, far }, Share::percent(spill_below));
            prop_assert!(share(near, far) <= 10_000);
            prop_assert!(share((near + 1).min(all), far) >= share(near, far));
            prop_assert!(share(near, far + 1) <= share(near, far));
        }
    }
}
