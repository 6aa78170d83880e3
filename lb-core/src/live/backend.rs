//! What the servers of one backend have in common while they live.

use super::{Live, ServerLive};
use crate::defaults::{SERVERS_PER_BACKEND_MAX, WEIGHT_MAX};
use crate::snapshot::BackendIndex;
use crate::sync::{Acquire, AtomicU32, AtomicU64, Relaxed, Release};
use std::sync::Arc;

/// The live state of a backend. It hangs on the backend's name.
#[derive(Debug, Default)]
pub(crate) struct BackendLive {
    /// Grows whenever what a server is like changes.
    changes: Changes,
    in_flight: InFlight,
}

/// On lines of their own: one is read by every pick that asks, the other is written by every exchange that counts.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Changes(AtomicU32);

#[derive(Debug, Default)]
#[repr(align(128))]
struct InFlight(AtomicU32);

impl BackendLive {
    /// To be called when a server has changed.
    pub(super) fn changed(&self) {
        // Whoever sees the number sees the change.
        self.changes.0.fetch_add(1, Release);
    }

    /// Attempts under way, of those that were counted.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.0.load(Relaxed)
    }

    pub(super) fn begin(&self) {
        self.in_flight.0.fetch_add(1, Relaxed);
    }

    pub(super) fn end(&self) {
        self.in_flight.0.fetch_sub(1, Relaxed);
    }
}

/// A backend in a table: its live state, and what was last found when its servers were looked over.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) live: Arc<BackendLive>,
    /// An [`Outlook`], and the number of changes that it is of.
    outlook: AtomicU64,
}

impl Place {
    pub(super) fn new(live: Arc<BackendLive>) -> Place {
        Place { live, outlook: AtomicU64::default() }
    }
}

/// What can be said of a backend's servers together. To look them all over takes long; they change seldom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// The part of requests that stays in the node's own zone, in hundredths of a percent.
    pub(crate) near_share: u16,
    /// Whether health is ignored.
    pub(crate) open: Open,
    /// Weight of the primaries that can be picked.
    pub(crate) weight: u32,
}

/// Whether a backend has failed open: health is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    No,
    Yes,
    /// Only where no other arm can serve: not one of its own is up.
    AtLast,
}

impl Outlook {
    /// The outlook of a backend whose servers need not be looked over.
    pub(crate) const FINE: Outlook = Outlook { near_share: 10_000, open: Open::No, weight: 0 };
}

/// Bits of a packed outlook, from the lowest: weight, share, open, known, changes.
const WEIGHT_BITS: u32 = 21;
const SHARE_BITS: u32 = 14;
const KNOWN: u64 = 1 << (WEIGHT_BITS + SHARE_BITS + 2);
const CHANGES_SHIFT: u32 = WEIGHT_BITS + SHARE_BITS + 3;
const _: () = assert!(SERVERS_PER_BACKEND_MAX * (WEIGHT_MAX as usize) < 1 << WEIGHT_BITS);

/// What a packed outlook must be of: so many changes. Of their number 26 bits are kept: a table would have to be asked
/// nothing while its servers change 67 million times, exactly.
fn stamp(changes: u32) -> u64 {
    u64::from(changes) << CHANGES_SHIFT | KNOWN
}

fn pack(outlook: Outlook, changes: u32) -> u64 {
    let open = match outlook.open {
        Open::No => 0,
        Open::Yes => 1,
        Open::AtLast => 2,
    };
    let share = u64::from(outlook.near_share) << WEIGHT_BITS;
    stamp(changes) | open << (WEIGHT_BITS + SHARE_BITS) | share | u64::from(outlook.weight)
}

fn unpack(word: u64) -> Outlook {
    Outlook {
        near_share: (word >> WEIGHT_BITS) as u16 & ((1 << SHARE_BITS) - 1),
        open: match word >> (WEIGHT_BITS + SHARE_BITS) & 3 {
            0 => Open::No,
            1 => Open::Yes,
            _ => Open::AtLast,
        },
        weight: word as u32 & ((1 << WEIGHT_BITS) - 1),
    }
}

impl Live {
    /// What `look` finds when it looks over a backend's servers: asked only if one of them has changed since the last
    /// time. Threads that ask at once may all look; they find the same.
    pub(crate) fn outlook(&self, backend: BackendIndex, look: impl FnOnce() -> Outlook) -> Outlook {
        let place = &self.backends[backend.0 as usize];
        let changes = place.live.changes.0.load(Acquire);
        let word = place.outlook.load(Relaxed);
        let mask = stamp(u32::MAX);
        if word & mask == stamp(changes) {
            return unpack(word);
        }
        let outlook = look();
        place.outlook.store(pack(outlook, changes), Relaxed);
        outlook
    }

    /// Attempts under way at a backend, of those that were counted.
    pub(crate) fn in_flight_of(&self, backend: BackendIndex) -> u32 {
        self.backends[backend.0 as usize].live.in_flight()
    }
}

impl ServerLive {
    /// What it shares with the other servers of its backend.
    pub(super) fn shared(&self) -> &BackendLive {
        &self.backend
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlooks_are_packed_and_unpacked() {
        let weight_max = (SERVERS_PER_BACKEND_MAX as u32) * WEIGHT_MAX;
        for open in [Open::No, Open::Yes, Open::AtLast] {
            for (near_share, weight) in [(0, 0), (10_000, weight_max), (1, 7)] {
                for changes in [0, 1, 1 << 25, u32::MAX] {
                    let outlook = Outlook { near_share, open, weight };
                    let word = pack(outlook, changes);
                    assert_eq!(unpack(word), outlook);
                    assert_eq!(word & stamp(u32::MAX), stamp(changes));
                }
            }
        }
        assert_ne!(0, stamp(0), "nothing is known at first");
    }
}
