//! Small sends, gathered over a turn and made one after the other.
//!
//! Sending from within each event has the kernel's and our own code push each other out of the instruction caches,
//! and a peer on this machine wake up for every message. Gathered, a request costs 2 % less with 64 busy connections
//! and 5 to 9 % less with 1,024 (`docs/performance.md`).

use super::ConnKey;

/// The longest message that is gathered: copying more costs as much as is gained.
pub(crate) const GATHERED_BYTES: usize = 2 << 10;

/// Messages after which they are sent, though the turn goes on.
pub(crate) const GATHERED_MESSAGES: usize = 128;

/// Connections of which something is to be told: from so many on nothing more is gathered until it is.
pub(crate) const LATE_EVENTS: usize = 16;

/// Messages that wait to be sent, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// Whose, and where the message ends in `bytes`.
    messages: Vec<(ConnKey, usize)>,
}

impl Outbox {
    /// Adds a message, in pieces.
    pub fn add<'a>(&mut self, conn: ConnKey, pieces: impl Iterator<Item = &'a [u8]>) {
        pieces.for_each(|piece| self.bytes.extend_from_slice(piece));
        self.messages.push((conn, self.bytes.len()));
    }

    /// Whether it is time to send.
    pub fn is_full(&self) -> bool {
        self.messages.len() >= GATHERED_MESSAGES
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Hands each message to `send`, in order, and is empty.
    pub fn drain(&mut self, mut send: impl FnMut(ConnKey, &[u8])) {
        let mut start = 0;
        for (conn, end) in self.messages.drain(..) {
            send(conn, &self.bytes[start..end]);
            start = end;
        }
        self.bytes.clear();
    }
}
