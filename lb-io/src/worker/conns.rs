//! Connections as the engine knows them: a slot each, beside the driver's own.
//!
//! A slot holds what must survive between two events: who owns the connection, what was received and not
//! consumed, what was accepted for sending and not sent. An idle connection is its slot and nothing else.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use lb_core::Connection;

use super::Worker;
use super::buffers::{Buffer, QUEUE_BYTES, RECEIVE_BYTES};
use super::lines::UNREAD;
use super::tasks::TaskIndex;
use crate::driver::{ConnKey, Pipe, Received, Socket};
use crate::sys;

/// Who gets a connection's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Nobody: the slot is vacant.
    None,
    /// A client's connection between two exchanges; its next byte starts one.
    IdleDownstream,
    /// A pooled connection to a server; any event closes it.
    IdleUpstream {
        /// Which pool it is in.
        pool: u32,
        /// Where in the pool's list it stands.
        place: u32,
    },
    /// An exchange.
    Task(TaskIndex),
}

/// What the engine keeps of a connection.
#[derive(Debug)]
pub struct Slot {
    generation: u32,
    /// Who gets its events.
    pub owner: Owner,
    /// There may be something to receive.
    readable: bool,
    /// The peer has ended its side or the connection is broken, perhaps behind bytes to read.
    hangup: bool,
    /// The peer's end was read.
    ended: bool,
    /// It can't go on, whatever the kernel says.
    broken: bool,
    /// A send came up short; nothing is sent until the driver says `Writable`.
    congested: bool,
    /// Its deadline passed since the owner last asked.
    expired: bool,
    /// The one empty line that may stand before the next request has come.
    pub empty_line: bool,
    /// The line in which its next request is read, where there are classes.
    pub line: u8,
    /// Exchanges served on it so far.
    pub served: u32,
    /// The listener it came in on (its index in the snapshot).
    pub listener: u32,
    /// Received, not consumed. None instead of an empty one.
    unread: Option<Buffer>,
    /// To be sent before anything else. None instead of an empty one.
    unsent: Option<Buffer>,
    /// The other side's address.
    pub peer: SocketAddr,
    /// What a connection to a server counts as.
    counted: Option<Connection>,
}

impl Slot {
    /// Notes what a receive brought, and how many bytes.
    fn note(&mut self, received: io::Result<Received>) -> (Fill, usize) {
        match received {
            Ok(Received::Bytes(count)) => (Fill::More, count),
            Ok(Received::Drained(count)) => {
                // Behind a known end the next receive brings it; no further event will.
                self.readable = self.hangup && count > 0;
                (if count > 0 { Fill::More } else { Fill::Blocked }, count)
            }
            Ok(Received::End) => {
                (self.readable, self.ended) = (false, true);
                (Fill::End, 0)
            }
            Err(error) => {
                (self.readable, self.ended, self.hangup) = (false, true, true);
                (Fill::Broken(error), 0)
            }
        }
    }
}

/// What receiving brought.
#[derive(Debug)]
pub enum Fill {
    /// At least one more byte is unread.
    More,
    /// Nothing for now; the owner is woken when there is.
    Blocked,
    /// The peer has ended its side.
    End,
    /// As many bytes as a connection may hold are unread, or the worker's budget is used up.
    Full,
    /// The connection broke.
    Broken(io::Error),
}

/// The slots of a worker's connections, by the driver's indexes.
#[derive(Debug, Default)]
pub struct Conns {
    slots: Vec<Option<Slot>>,
    open: usize,
}

impl Conns {
    /// An empty table with room for so many.
    pub fn with_room(conns: usize) -> Self {
        Self { slots: Vec::with_capacity(conns), open: 0 }
    }

    fn get(&mut self, conn: ConnKey) -> &mut Slot {
        self.try_get(conn).expect("a connection is used only by its owner, while it is open")
    }

    /// The slot, unless the connection has been closed.
    pub fn try_get(&mut self, conn: ConnKey) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(conn.index as usize)?.as_mut()?;
        (slot.generation == conn.generation).then_some(slot)
    }

    /// Has the processor fetch the slot at `index`, which will be used soon.
    pub fn prefetch(&self, index: u32) {
        if let Some(slot) = self.slots.get(index as usize) {
            sys::prefetch::value(slot);
        }
    }

    /// The open connection at `index`.
    pub fn at(&self, index: u32) -> Option<ConnKey> {
        let slot = self.slots.get(index as usize)?.as_ref()?;
        Some(ConnKey { index, generation: slot.generation })
    }

    /// Every open connection and its owner.
    pub fn all(&self) -> Vec<(ConnKey, Owner)> {
        let indexes = 0..self.slots.len() as u32;
        indexes
            .filter_map(|index| self.at(index).zip(self.slots[index as usize].as_ref().map(|s| s.owner)))
            .collect()
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open
    }
}

impl Worker {
    /// Takes a connection of the driver's into the table.
    pub fn enter(&self, conn: ConnKey, owner: Owner, peer: SocketAddr, listener: u32) {
        let mut conns = self.conns.borrow_mut();
        let index = conn.index as usize;
        if conns.slots.len() <= index {
            conns.slots.resize_with(index + 1, || None);
        }
        debug_assert!(conns.slots[index].is_none(), "the driver reused an open index");
        conns.slots[index] = Some(Slot {
            generation: conn.generation,
            owner,
            readable: false,
            hangup: false,
            ended: false,
            broken: false,
            congested: false,
            expired: false,
            empty_line: false,
            line: UNREAD,
            served: 0,
            listener,
            unread: None,
            unsent: None,
            peer,
            counted: None,
        });
        conns.open += 1;
    }

    /// Takes a connection to a server in.
    pub fn enter_upstream(&self, conn: ConnKey, owner: Owner, counted: Connection) {
        self.enter(conn, owner, counted.server().address(), 0);
        self.slot(conn, |slot| slot.counted = Some(counted));
    }

    /// Takes a connection in that is being made: it counts as congested until the outcome is known.
    pub fn enter_connecting(&self, conn: ConnKey, owner: Owner, counted: Connection) {
        self.enter_upstream(conn, owner, counted);
        self.await_writable(conn);
    }

    /// Counts the connection as congested until the driver says `Writable`.
    pub fn await_writable(&self, conn: ConnKey) {
        self.slot(conn, |slot| slot.congested = true);
    }

    /// Reads or changes a connection's slot.
    pub fn slot<R>(&self, conn: ConnKey, with: impl FnOnce(&mut Slot) -> R) -> R {
        with(self.conns.borrow_mut().get(conn))
    }

    /// Closes a connection and gives back all it held. With `reset` the peer sees RST. Returns what a connection to a
    /// server counted as until now.
    pub fn close(&self, conn: ConnKey, reset: bool) -> Option<Connection> {
        let counted = self.vacate(conn);
        self.driver.close(conn, reset);
        counted
    }

    /// Gives the socket of a connection to a server away, on which nothing is under way, with what it counts as.
    pub(super) fn give_away(&self, conn: ConnKey) -> Option<(Socket, Connection)> {
        let counted = self.vacate(conn);
        self.counters().upstream_active.subtract(1);
        self.driver.detach(conn).zip(counted)
    }

    fn vacate(&self, conn: ConnKey) -> Option<Connection> {
        let slot = {
            let mut conns = self.conns.borrow_mut();
            conns.get(conn);
            conns.open -= 1;
            conns.slots[conn.index as usize].take()?
        };
        let mut buffers = self.buffers.borrow_mut();
        for buffer in [slot.unread, slot.unsent].into_iter().flatten() {
            buffers.give_back(buffer);
        }
        self.timers.borrow_mut().remove(conn.index);
        slot.counted
    }

    /// Notes an event `Readable`. Returns the owner to be told.
    pub(super) fn note_readable(&self, conn: ConnKey, hangup: bool) -> Owner {
        let mut conns = self.conns.borrow_mut();
        let Some(slot) = conns.try_get(conn) else { return Owner::None };
        slot.readable = true;
        slot.hangup |= hangup;
        slot.owner
    }

    /// Notes an event `Writable`, and sends what is queued. Returns the owner to be told.
    pub(super) fn note_writable(&self, conn: ConnKey) -> Owner {
        let (owner, queued) = {
            let mut conns = self.conns.borrow_mut();
            let Some(slot) = conns.try_get(conn) else { return Owner::None };
            slot.congested = false;
            (slot.owner, slot.unsent.is_some())
        };
        // Whoever queued it may be through with the connection. A failure comes back with the next receive.
        if queued && self.flush(conn).is_err() {
            self.note_broken(conn);
        }
        owner
    }

    /// Has the next receive tell that the connection broke.
    pub(super) fn note_broken(&self, conn: ConnKey) {
        self.slot(conn, |slot| (slot.readable, slot.hangup) = (true, true));
    }

    /// Notes that the deadline passed. Returns the owner to be told.
    pub(super) fn note_expired(&self, conn: ConnKey) -> Owner {
        self.slot(conn, |slot| {
            slot.expired = true;
            slot.owner
        })
    }

    /// Sets the connection's one deadline.
    pub fn set_deadline(&self, conn: ConnKey, deadline: Duration) {
        self.slot(conn, |slot| slot.expired = false);
        self.timers.borrow_mut().set(conn.index, deadline);
    }

    /// Takes the deadline away.
    pub fn clear_deadline(&self, conn: ConnKey) {
        self.slot(conn, |slot| slot.expired = false);
        self.timers.borrow_mut().clear(conn.index);
    }

    /// Whether the deadline passed since it was set.
    pub fn is_expired(&self, conn: ConnKey) -> bool {
        self.slot(conn, |slot| slot.expired)
    }

    /// Whether the peer is known to have ended its side or broken off, perhaps behind bytes to read.
    pub fn is_hung_up(&self, conn: ConnKey) -> bool {
        self.slot(conn, |slot| slot.hangup || slot.ended)
    }

    /// Whether receiving could bring something.
    pub fn is_readable(&self, conn: ConnKey) -> bool {
        self.slot(conn, |slot| slot.readable)
    }

    /// Whether received bytes wait to be consumed.
    pub fn has_unread(&self, conn: ConnKey) -> bool {
        self.slot(conn, |slot| slot.unread.is_some())
    }

    /// Takes the unread bytes out to work on them. [`Worker::put_unread`] must follow before the task
    /// suspends.
    pub fn take_unread(&self, conn: ConnKey) -> Option<Buffer> {
        self.slot(conn, |slot| slot.unread.take())
    }

    /// Puts what is left of the unread bytes back.
    pub fn put_unread(&self, conn: ConnKey, buffer: Buffer) {
        if buffer.is_empty() {
            self.buffers.borrow_mut().give_back(buffer);
        } else {
            let before = self.slot(conn, |slot| slot.unread.replace(buffer));
            debug_assert!(before.is_none(), "received behind the back of who took the unread bytes");
        }
    }

    /// Moves unread bytes of a connection that is about to wait into a buffer of their size.
    pub fn settle(&self, conn: ConnKey) {
        self.slot(conn, |slot| {
            if let Some(buffer) = slot.unread.take() {
                slot.unread = Some(self.buffers.borrow_mut().settle(buffer));
            }
        });
    }

    /// Receives once, if there may be something to receive, behind what is unread already.
    pub fn fill(&self, conn: ConnKey) -> Fill {
        let mut conns = self.conns.borrow_mut();
        let slot = conns.get(conn);
        if slot.ended {
            return if slot.broken { Fill::Broken(io::ErrorKind::ConnectionReset.into()) } else { Fill::End };
        }
        if !slot.readable {
            return Fill::Blocked;
        }
        let mut buffers = self.buffers.borrow_mut();
        let mut buffer = match slot.unread.take() {
            Some(buffer) => buffer,
            None => match buffers.take(RECEIVE_BYTES) {
                Some(buffer) => buffer,
                None => return Fill::Full,
            },
        };
        if !buffers.make_room(&mut buffer) {
            slot.unread = Some(buffer);
            return Fill::Full;
        }
        let received = self.driver.recv(conn, buffer.spare());
        let (fill, count) = slot.note(received);
        buffer.filled(count);
        if buffer.is_empty() {
            buffers.give_back(buffer);
        } else {
            slot.unread = Some(buffer);
        }
        fill
    }

    /// Moves up to `limit` bytes into an empty pipe. Tells how many when it says [`Fill::More`].
    pub fn splice_in(&self, conn: ConnKey, pipe: &Pipe, limit: usize) -> (Fill, usize) {
        let mut conns = self.conns.borrow_mut();
        let slot = conns.get(conn);
        debug_assert!(slot.unread.is_none(), "received bytes go first");
        if slot.ended {
            return (Fill::End, 0);
        }
        if !slot.readable {
            return (Fill::Blocked, 0);
        }
        let received = self.driver.splice_in(conn, pipe, limit);
        slot.note(received)
    }

    /// Moves up to `limit` bytes out of a pipe and tells how many. Nothing may be waiting to be sent.
    ///
    /// # Errors
    /// The connection's.
    pub fn splice_out(&self, pipe: &Pipe, conn: ConnKey, limit: usize, more: bool) -> io::Result<usize> {
        let mut conns = self.conns.borrow_mut();
        let slot = conns.get(conn);
        if slot.congested {
            return Ok(0);
        }
        let count = self.driver.splice_out(pipe, conn, limit, more)?;
        slot.congested = count < limit;
        Ok(count)
    }

    /// Sends what was queued. True if nothing is left of it.
    ///
    /// # Errors
    /// The connection's.
    pub fn flush(&self, conn: ConnKey) -> io::Result<bool> {
        let mut conns = self.conns.borrow_mut();
        let slot = conns.get(conn);
        let Some(buffer) = slot.unsent.as_mut() else { return Ok(true) };
        if slot.congested {
            return Ok(false);
        }
        let count = self.driver.send(conn, &[IoSlice::new(buffer.bytes())])?;
        buffer.consume(count);
        if buffer.is_empty() {
            self.buffers.borrow_mut().give_back(slot.unsent.take().expect("it was there"));
            return Ok(true);
        }
        slot.congested = true;
        Ok(false)
    }

    /// Sends `head`, all of it or the rest of it later, and then as much of `body` as goes at once; tells
    /// how many bytes of `body` went. What is left of `head` is kept and sent first.
    ///
    /// # Errors
    /// The connection's, or `OutOfMemory` where the worker's buffer budget is used up.
    pub fn send(&self, conn: ConnKey, head: &[u8], body: &[u8]) -> io::Result<usize> {
        self.send_by(conn, head, body, |bufs| self.driver.send(conn, bufs))
    }

    /// As [`Worker::send`], for a message that ends nothing: it may go out with others at the end of the turn, and a
    /// failure then is told by the connection's next receive.
    ///
    /// # Errors
    /// As those of [`Worker::send`].
    pub fn send_soon(&self, conn: ConnKey, head: &[u8], body: &[u8]) -> io::Result<usize> {
        self.send_by(conn, head, body, |bufs| self.driver.send_soon(conn, bufs))
    }

    fn send_by(
        &self,
        conn: ConnKey,
        head: &[u8],
        body: &[u8],
        send: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let flushed = self.flush(conn)?;
        let mut conns = self.conns.borrow_mut();
        let slot = conns.get(conn);
        let count = if !flushed || slot.congested {
            0
        } else {
            let count = match (head.is_empty(), body.is_empty()) {
                (true, true) => return Ok(0),
                (true, false) => send(&[IoSlice::new(body)])?,
                (false, true) => send(&[IoSlice::new(head)])?,
                (false, false) => send(&[IoSlice::new(head), IoSlice::new(body)])?,
            };
            slot.congested = count < head.len() + body.len();
            count
        };
        if count < head.len() {
            self.queue(slot, &head[count..])?;
            return Ok(0);
        }
        Ok(count - head.len())
    }

    /// Takes back what the driver took and found no room for. Nothing was sent behind it. Where there is no memory
    /// for it the connection cannot go on, and the owner is returned, to be told.
    pub(super) fn take_back(&self, conn: ConnKey, bytes: &[u8]) -> Owner {
        let mut conns = self.conns.borrow_mut();
        let Some(slot) = conns.try_get(conn) else { return Owner::None };
        slot.congested = true;
        let behind = slot.unsent.take();
        let queued = self.queue(slot, bytes).and_then(|()| {
            behind.map_or(Ok(()), |behind| {
                let queued = self.queue(slot, behind.bytes());
                self.buffers.borrow_mut().give_back(behind);
                queued
            })
        });
        if queued.is_err() {
            (slot.readable, slot.ended, slot.hangup, slot.broken) = (false, true, true, true);
        }
        if queued.is_err() { slot.owner } else { Owner::None }
    }

    fn queue(&self, slot: &mut Slot, bytes: &[u8]) -> io::Result<()> {
        let mut buffers = self.buffers.borrow_mut();
        let waiting = slot.unsent.as_ref().map_or(0, Buffer::len);
        let full = || io::Error::from(io::ErrorKind::OutOfMemory);
        if waiting + bytes.len() > QUEUE_BYTES {
            return Err(full());
        }
        let mut buffer = buffers.take(waiting + bytes.len()).ok_or_else(full)?;
        if let Some(before) = slot.unsent.take() {
            buffer.append(before.bytes());
            buffers.give_back(before);
        }
        buffer.append(bytes);
        slot.unsent = Some(buffer);
        Ok(())
    }

    /// Whether a send would have to wait.
    pub fn is_congested(&self, conn: ConnKey) -> bool {
        self.slot(conn, |slot| slot.congested)
    }

    /// Whether queued bytes wait to be sent.
    pub fn has_unsent(&self, conn: ConnKey) -> bool {
        self.slot(conn, |slot| slot.unsent.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle connection costs this, its place among the timers and the driver's own few bytes.
    #[test]
    fn the_slot_stays_small() {
        assert!(size_of::<Option<Slot>>() <= 128, "{} bytes", size_of::<Option<Slot>>());
    }
}
