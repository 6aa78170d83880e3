//! One question for a server.

use super::Affinity;
use super::sticky::StickySeen;
use crate::cursors::Cursors;
use crate::hash::mix;
use crate::live::{Live, Now, Outlook, STRENGTH_FULL, ServerLive};
use crate::snapshot::{BackendIndex, ServerIndex};

/// How much a server must promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// It is up, and no connection to it has failed just now.
    Careful,
    /// The same, except where a backend has failed open of which nobody is up.
    Opened,
    /// Connections may have failed: all others are out, too.
    LastResort,
}

/// One question for a server.
#[derive(Clone)]
pub(crate) struct Asked<'a> {
    pub(crate) live: &'a Live,
    pub(crate) backend: BackendIndex,
    pub(crate) now: Now,
    pub(crate) care: Care,
    pub(crate) outlook: Outlook,
    /// 0: there is no slow start.
    pub(crate) slow_start_ns: u64,
    /// Servers that this exchange has tried.
    pub(crate) tried: &'a [ServerIndex],
    /// Whether servers that have as much as they may are out, too.
    pub(crate) with_room: bool,
    pub(crate) affinity: Affinity<'a>,
    pub(crate) sticky: StickySeen,
    pub(crate) cursors: &'a Cursors,
    /// Random bits.
    pub(crate) draw: Draw,
}

impl Asked<'_> {
    pub(super) fn live(&self, server: ServerIndex) -> &ServerLive {
        self.live.server(server)
    }

    /// Whether anybody may be sent to this server.
    #[inline]
    pub(super) fn can_serve(&self, server: ServerIndex) -> bool {
        let live = self.live(server);
        let stands = if self.is_open() { live.is_ready() } else { live.is_ready_and_up() };
        stands && self.is_left(server, live)
    }

    /// Whether a session may stay with this server.
    pub(super) fn can_keep(&self, server: ServerIndex) -> bool {
        let live = self.live(server);
        live.is_open_to_its_own(self.now, self.is_open()) && self.is_left(server, live)
    }

    /// Whether health is ignored.
    #[inline]
    fn is_open(&self) -> bool {
        self.outlook.is_open(self.care)
    }

    /// Whether neither connect failures nor this exchange rule it out.
    #[inline]
    fn is_left(&self, server: ServerIndex, live: &ServerLive) -> bool {
        (self.care == Care::LastResort || !live.is_removed(self.now))
            && !self.tried.contains(&server)
            && (!self.with_room || live.has_room())
    }

    /// How much of its weight a policy is to give a server: 0 if nobody may be sent to it, else
    /// [`STRENGTH_FULL`], or less in slow start.
    #[inline]
    pub(super) fn strength(&self, server: ServerIndex) -> u32 {
        match self.can_serve(server) {
            false => 0,
            true if self.slow_start_ns == 0 => STRENGTH_FULL,
            true => self.live(server).strength(self.now, self.slow_start_ns),
        }
    }
}

/// Random bits, made longer: splitmix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(random: u128) -> Draw {
        Draw(random as u64 ^ (random >> 64) as u64)
    }

    /// Bits that have nothing to do with these.
    pub(super) fn apart(self) -> Draw {
        Draw(mix(!self.0))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, each as likely as the others but for one part in 2^32.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// Whether a server of this strength takes its turn: as often as its strength says.
    #[inline]
    pub(super) fn admits(&mut self, strength: u32) -> bool {
        strength == STRENGTH_FULL || self.below(STRENGTH_FULL) < strength
    }
}
