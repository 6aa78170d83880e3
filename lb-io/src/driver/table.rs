//! What a kernel driver remembers of each connection: twelve bytes.

use std::io;
use std::os::fd::OwnedFd;

use super::ConnKey;

/// Connections that one driver can hold: an index must fit into 24 bits of a completion's user data.
pub(super) const MAX_CONNECTIONS: usize = 1 << 24;

/// The peer's end or an error was seen: a short receive does not mean that nothing more is due.
pub(super) const HANGUP: u16 = 1;
/// Somebody waits for `Writable`.
pub(super) const WANTS_WRITABLE: u16 = 2;
/// The ring has a poll armed under the connection's `Readable` tag.
pub(super) const POLLS_READABLE: u16 = 4;
/// That poll tells of room to send too.
pub(super) const POLLS_BOTH: u16 = 8;
/// The ring has a poll armed under the connection's `Writable` tag.
pub(super) const POLLS_WRITABLE: u16 = 16;

/// A message of its waits in the outbox.
pub(super) const GATHERED: u16 = 32;
/// A send failed: the connection is broken, though the kernel says so only once.
pub(super) const BROKEN: u16 = 64;

/// Bytes of a gathered message are left, and the engine has not been told: nothing is sent before it has.
pub(super) const LEFT: u16 = 128;

/// The kernel does not tell of it yet: most connections that serve one exchange are closed before that pays.
pub(super) const UNWATCHED: u16 = 256;

/// One place in the table.
#[derive(Debug)]
pub(super) struct Slot {
    /// None while the place is free.
    pub descriptor: Option<OwnedFd>,
    generation: u32,
    /// Of the constants above.
    pub flags: u16,
}

const _: () = assert!(size_of::<Slot>() == 12);

/// All connections of a driver.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Table {
    /// Takes a descriptor in. Places are used again last in first out, so the warm ones stay warm.
    pub fn insert(&mut self, descriptor: OwnedFd, flags: u16) -> io::Result<ConnKey> {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.descriptor = Some(descriptor);
            slot.flags = flags;
            return Ok(ConnKey { index, generation: slot.generation });
        }
        if self.slots.len() >= MAX_CONNECTIONS {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let index = self.slots.len() as u32;
        self.slots.push(Slot { descriptor: Some(descriptor), generation: 0, flags });
        Ok(ConnKey { index, generation: 0 })
    }

    /// The connection that `conn` names, if it is still open.
    pub fn get(&self, conn: ConnKey) -> Option<(&Slot, &OwnedFd)> {
        let slot = self.slots.get(conn.index as usize)?;
        if slot.generation != conn.generation {
            return None;
        }
        let descriptor = slot.descriptor.as_ref()?;
        Some((slot, descriptor))
    }

    /// The flags of the connection that `conn` names, if it is still open.
    pub fn flags(&mut self, conn: ConnKey) -> Option<&mut u16> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        (slot.generation == conn.generation && slot.descriptor.is_some()).then_some(&mut slot.flags)
    }

    /// Gives the place back. From now on `conn` names nothing.
    pub fn remove(&mut self, conn: ConnKey) -> Option<(OwnedFd, u16)> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        if slot.generation != conn.generation {
            return None;
        }
        let descriptor = slot.descriptor.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(conn.index);
        Some((descriptor, slot.flags))
    }
}
