//! The server with the least latency times load, by weight (after `PeakEwma` of Finagle and linkerd).
//!
//! What a server costs is its latency, a mean that jumps to peaks and sinks slowly (`live/latency.rs`), times one more
//! than the requests in flight, which count the less the more weight it has. So one that turned slow is left as soon
//! as its first slow answer is there; before that by what waits at it. As its peak is forgotten it is tried again.

use super::two_choices::{self, Load};
use super::{Asked, Group};
use crate::live::{STRENGTH_FULL, ServerLive};
use crate::snapshot::ServerIndex;

/// What a server costs that has yet to answer for the first time, and has been asked to: more than any that has
/// answered. So of a fresh server one answer is waited for, and until then it gets one request.
const UNKNOWN: u128 = 1 << 96;

pub(super) fn pick(group: &Group, asked: &Asked<'_>) -> Option<ServerIndex> {
    // Of two idle servers as quick as each other none is better, whatever they weigh; the draw has seen to that.
    let mean_weight = u64::from(group.mean_weight) * u64::from(STRENGTH_FULL);
    two_choices::pick(group, asked, |live: &ServerLive, weight: u32| {
        let in_flight = u64::from(live.in_flight());
        let load = match live.expected_ns(asked.now) {
            0 if in_flight == 0 => 0,
            0 => UNKNOWN + u128::from(in_flight),
            expected_ns => u128::from(expected_ns) * u128::from(u64::from(weight) + in_flight * mean_weight),
        };
        Load { load, weight }
    })
}
