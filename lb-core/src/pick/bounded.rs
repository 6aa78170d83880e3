//! Bounded load: no server of a key has more in flight than its part of all, by weight, times a factor (Mirrokni,
//! Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", 2018). What is beyond goes to the key's next
//! server.
//!
//! With `m` the requests in flight at all servers, this one included, and `w` of the weight `W`, a server has at most
//! `⌈factor × m × w / W⌉`. As the factor is above 1, some server always has room.

use crate::live::ServerLive;

/// The bound for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// The factor, in percent, times the requests in flight at all servers.
    load: u64,
    /// Weight of all servers that can be picked, times 100.
    weight: u64,
}

impl Bound {
    /// For a request that comes to so many others in flight.
    pub(crate) fn new(max_load_percent: u32, in_flight: u32, weight: u32) -> Bound {
        let requests = u64::from(in_flight) + 1;
        Bound { load: u64::from(max_load_percent) * requests, weight: u64::from(weight) * 100 }
    }

    /// Whether a server of this weight has room for one more.
    pub(super) fn has_room(&self, live: &ServerLive, weight: u32) -> bool {
        self.admits(live.in_flight(), weight)
    }

    /// What is below `⌈x⌉` is below `x`, as it is a whole number.
    fn admits(&self, in_flight: u32, weight: u32) -> bool {
        u128::from(in_flight) * u128::from(self.weight) < u128::from(self.load) * u128::from(weight)
    }

    /// What a server of this weight may have in flight.
    pub(crate) fn most(&self, weight: u32) -> u64 {
        (self.load * u64::from(weight)).div_ceil(self.weight.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        // 125 % of 8 requests (7 and this one) over weights 1 and 3.
        let bound = Bound::new(125, 7, 4);
        assert_eq!((bound.most(1), bound.most(3)), (3, 8));
        assert!(bound.admits(2, 1) && !bound.admits(3, 1));
        assert!(bound.admits(7, 3) && !bound.admits(8, 3));
        // The first request finds room everywhere.
        assert!(Bound::new(105, 0, 1000).admits(0, 1));
    }

    proptest! {
        /// Whoever is admitted is within the bound, and somebody always is.
        #[test]
        fn somebody_has_room(loads in proptest::collection::vec((0_u32..50, 1_u32..=256), 1..20), percent in 105_u32..=1000) {
            let in_flight = loads.iter().map(|(load, _)| load).sum();
            let bound = Bound::new(percent, in_flight, loads.iter().map(|(_, weight)| weight).sum());
            for (load, weight) in &loads {
                prop_assert_eq!(bound.admits(*load, *weight), u64::from(*load) < bound.most(*weight));
            }
            prop_assert!(loads.iter().any(|(load, weight)| bound.admits(*load, *weight)));
        }
    }
}
