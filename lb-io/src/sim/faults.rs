//! What may go wrong in a simulated network, and how often.

use super::Random;

/// Chances in ten thousand, each drawn where its name says.
///
/// The first group must be invisible: an engine that keeps the driver's contract serves every exchange in
/// spite of it. The second group ends exchanges, and the engine must end them well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// A receive brings fewer bytes than are there.
    pub short_read: u32,
    /// A send accepts fewer bytes than there is room for (0 included); `Writable` follows.
    pub short_write: u32,
    /// A send finds no memory (ENOBUFS): 0 bytes, and `Writable` some milliseconds later.
    pub starved_send: u32,
    /// An event comes up to 20 ms late.
    pub late_readiness: u32,
    /// A turn delivers `Readable` or `Writable` where nothing changed.
    pub spurious: u32,
    /// A turn delivers an event for a key that was closed some turns ago.
    pub late_event: u32,
    /// A turn delivers some of its events only.
    pub small_batch: u32,
    /// A pipe is not to be had.
    pub no_pipe: u32,

    /// A send breaks the connection: both ends see RST.
    pub reset: u32,
    /// Bytes take between 0.1 and 90 seconds to arrive.
    pub stall: u32,
    /// A connect is refused though somebody listens.
    pub refused: u32,
    /// A connect is never answered.
    pub unanswered: u32,
    /// A connect fails at once for want of a descriptor (EMFILE).
    pub connect_exhausted: u32,
    /// An accept fails for want of a descriptor (EMFILE).
    pub accept_exhausted: u32,
    /// Attaching fails for want of memory (ENOMEM).
    pub attach_failed: u32,
}

impl Faults {
    /// A network in which nothing goes wrong.
    pub fn none() -> Faults {
        Faults::default()
    }

    /// Any of the invisible faults.
    pub fn invisible(random: &mut Random) -> Faults {
        const CHANCES: [u32; 6] = [0, 0, 20, 200, 2_000, 6_000];
        Faults {
            short_read: random.pick(&CHANCES),
            short_write: random.pick(&CHANCES),
            starved_send: random.pick(&[0, 0, 50, 500]),
            late_readiness: random.pick(&[0, 100, 2_000]),
            spurious: random.pick(&[0, 500, 3_000]),
            late_event: random.pick(&[0, 500, 3_000]),
            small_batch: random.pick(&[0, 1_000, 5_000]),
            no_pipe: random.pick(&[0, 0, 5_000, 10_000]),
            ..Faults::none()
        }
    }

    /// Any fault, the visible ones seldom enough that most exchanges get somewhere.
    pub fn any(random: &mut Random) -> Faults {
        const SELDOM: [u32; 4] = [0, 0, 20, 200];
        Faults {
            reset: random.pick(&SELDOM),
            stall: random.pick(&SELDOM),
            refused: random.pick(&[0, 0, 100, 2_000]),
            unanswered: random.pick(&[0, 0, 0, 500]),
            connect_exhausted: random.pick(&[0, 0, 100, 1_000]),
            accept_exhausted: random.pick(&[0, 0, 500, 3_000]),
            attach_failed: random.pick(&[0, 0, 0, 500]),
            ..Faults::invisible(random)
        }
    }

    /// Whether some exchange may end without its response though both sides behave.
    pub fn are_visible(&self) -> bool {
        let visible = [
            self.reset,
            self.stall,
            self.refused,
            self.unanswered,
            self.connect_exhausted,
            self.accept_exhausted,
            self.attach_failed,
        ];
        visible.iter().any(|&chance| chance > 0)
    }
}
