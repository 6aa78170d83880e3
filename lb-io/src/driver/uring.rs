//! The driver over io_uring: multishot accept, multishot poll, one call per turn.
//!
//! The ring tells readiness; bytes move by recv(2), send(2) and splice(2) directly, which is what costs
//! least once a connection is known to be ready. A connection has one poll armed for reading, and one for
//! writing from its first send that came up short. Both are edge-like and stay armed, so a busy connection
//! pushes no entries at all.
//!
//! Each poll holds a reference to the socket, so close(2) alone would send no FIN: closing sends it by
//! shutdown(2) and removes the polls. Their last completions come later and find another generation.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use libc::{POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP};
use socket2::SockRef;

use super::kernel::{self, Kernel, Next, STARVED_RETRY};
use super::outbox::{GATHERED_MESSAGES, LATE_EVENTS};
use super::table::{self, POLLS_BOTH, POLLS_READABLE, POLLS_WRITABLE, Table};
use super::{ConnKey, Driver, Event, ListenerKey, MAX_EVENTS, Pipe, Received, Socket, Waker};
use crate::sys;
use crate::sys::eventfd::EventFd;
use crate::sys::ring::{Completion, Kind, Outcome, Ring, Size, Tag};

/// Completions taken in one turn: each makes at most two events.
const COMPLETIONS: usize = (MAX_EVENTS - LATE_EVENTS - GATHERED_MESSAGES) / 2 - 8;

const WAKE: Tag = Tag { kind: Kind::Wake, index: 0, generation: 0 };

/// See the module.
pub struct UringDriver {
    // Before the table: when the ring goes first, its polls let go of the sockets.
    ring: RefCell<Ring>,
    kernel: Kernel,
    taken: RefCell<Vec<Completion>>,
    listeners: RefCell<Vec<Listener>>,
    waker: Arc<UringWaker>,
}

struct Listener {
    /// None after `unlisten`.
    descriptor: Option<OwnedFd>,
    paused: bool,
    /// The ring has an accept that has not had its last completion.
    armed: bool,
    /// That accept was cancelled.
    cancelled: bool,
}

impl Listener {
    fn arm(&mut self, ring: &mut Ring, key: usize) {
        if let Some(descriptor) = &self.descriptor
            && !self.armed
            && !self.paused
        {
            ring.accept(descriptor.as_fd(), key as u32);
            self.armed = true;
            self.cancelled = false;
        }
    }

    fn cancel(&mut self, ring: &mut Ring, key: usize) {
        if self.armed && !self.cancelled {
            ring.cancel(Ring::accept_tag(key as u32));
            self.cancelled = true;
        }
    }
}

struct UringWaker(EventFd);

impl Waker for UringWaker {
    fn wake(&self) {
        self.0.add();
    }
}

impl UringDriver {
    /// Makes one, for the calling thread, and tries it: a ring that can be made but does not tell of an
    /// eventfd twice from one poll is refused.
    ///
    /// # Errors
    /// Those of [`Ring::new`]; `Unsupported` when the trial fails.
    pub fn new() -> io::Result<UringDriver> {
        UringDriver::with_size(Size::default())
    }

    /// As [`UringDriver::new`], with queues of another size.
    pub(super) fn with_size(size: Size) -> io::Result<UringDriver> {
        let driver = UringDriver {
            ring: RefCell::new(Ring::new(size)?),
            kernel: Kernel::new(),
            taken: RefCell::default(),
            listeners: RefCell::default(),
            waker: Arc::new(UringWaker(EventFd::new()?)),
        };
        driver.ring.borrow_mut().poll(driver.waker.0.as_fd(), POLLIN, WAKE);
        driver.try_out()?;
        Ok(driver)
    }

    fn try_out(&self) -> io::Result<()> {
        let mut taken = Vec::new();
        for _ in 0..2 {
            self.waker.wake();
            let mut ring = self.ring.borrow_mut();
            ring.turn(Some(Duration::from_secs(1)), 1)?;
            ring.take(usize::MAX, &mut taken);
            self.waker.0.clear();
            match taken.pop() {
                Some(Completion { tag: WAKE, more: true, outcome: Outcome::Ready(_) }) => {}
                Some(Completion { outcome: Outcome::Failed(error), .. }) => return Err(error),
                _ => return Err(ErrorKind::Unsupported.into()),
            }
        }
        Ok(())
    }

    /// Arms the poll of a connection that has none, if it is still there.
    fn arm(&self, conn: ConnKey) {
        let mut table = self.kernel.table.borrow_mut();
        if let Some(flags) = table.flags(conn) {
            *flags |= POLLS_READABLE;
            arm_readable(&table, &mut self.ring.borrow_mut(), conn);
        }
    }

    fn watch_writable(&self, conn: ConnKey, next: Next) {
        if next == Next::WatchWritable {
            arm_writable(&mut self.kernel.table.borrow_mut(), &mut self.ring.borrow_mut(), conn);
        }
    }

    /// Has the ring let go of a connection that is forgotten, with the next turn.
    fn end_polls(&self, conn: ConnKey, flags: u16) {
        let mut ring = self.ring.borrow_mut();
        if flags & POLLS_READABLE != 0 {
            ring.remove_poll(readable_tag(conn));
        }
        if flags & POLLS_WRITABLE != 0 {
            ring.remove_poll(writable_tag(conn));
        }
    }

    fn handle(&self, ring: &mut Ring, completion: Completion, events: &mut Vec<Event>) {
        let Completion { tag, more, outcome } = completion;
        match tag.kind {
            Kind::Accept => self.handle_accept(ring, tag.index as usize, more, outcome, events),
            Kind::Readable | Kind::Writable => self.handle_poll(ring, tag, more, outcome, events),
            Kind::Wake => {
                self.waker.0.clear();
                events.push(Event::Woken);
                if !more {
                    ring.poll(self.waker.0.as_fd(), POLLIN, WAKE);
                }
            }
            Kind::Nothing => {}
        }
    }

    fn handle_accept(
        &self,
        ring: &mut Ring,
        key: usize,
        more: bool,
        outcome: Outcome,
        events: &mut Vec<Event>,
    ) {
        let mut listeners = self.listeners.borrow_mut();
        let Some(listener) = listeners.get_mut(key) else {
            return;
        };
        match outcome {
            // One that is broken off already has no peer any more, and nobody to serve.
            Outcome::Accepted(socket) => {
                if let Ok(peer) = sys::socket::peer(&socket) {
                    let socket = Socket::Kernel(socket);
                    events.push(Event::Accepted { listener: key as ListenerKey, socket, peer });
                }
            }
            Outcome::Failed(error)
                if error.raw_os_error() == Some(libc::ECANCELED) || kernel::is_of_one_connection(&error) => {}
            Outcome::Failed(error) => {
                listener.paused = true;
                events.push(Event::AcceptFailed { listener: key as ListenerKey, error });
            }
            Outcome::Ready(_) => {}
        }
        if !more {
            listener.armed = false;
            listener.arm(ring, key);
        }
    }

    fn handle_poll(&self, ring: &mut Ring, tag: Tag, more: bool, outcome: Outcome, events: &mut Vec<Event>) {
        let conn = ConnKey { index: tag.index, generation: tag.generation };
        let mut table = self.kernel.table.borrow_mut();
        let Some(flags) = table.flags(conn) else {
            // Closed: the last completion of a removed poll, or one that was under way.
            return;
        };
        let bits = match outcome {
            Outcome::Ready(bits) => bits as i16,
            // The poll could not be armed or was ended (no memory, overflow): look, and arm anew.
            _ => POLLIN | POLLOUT,
        };
        if bits & (POLLRDHUP | POLLHUP | POLLERR) != 0 {
            *flags |= table::HANGUP;
        }
        let hangup = *flags & table::HANGUP != 0;
        let over = bits & (POLLHUP | POLLERR) != 0;
        if bits & (POLLOUT | POLLHUP | POLLERR) != 0 && *flags & table::WANTS_WRITABLE != 0 {
            *flags &= !table::WANTS_WRITABLE;
            events.push(Event::Writable { conn });
        }
        if tag.kind == Kind::Readable && (bits & POLLIN != 0 || hangup) {
            events.push(Event::Readable { conn, hangup });
        }
        if more {
            return;
        }
        // A poll that ended with POLLHUP or POLLERR would only end again: its hang-up is known, and readers
        // read on to it. A sender that still waits was told just now.
        match tag.kind {
            Kind::Readable if over => *flags &= !(POLLS_READABLE | POLLS_BOTH),
            Kind::Readable => {
                // Ended by an overflow of completions: a poll for writing would complete again at once and
                // keep the overflow going. It comes back when a send comes up short.
                *flags &= !POLLS_BOTH;
                arm_readable(&table, ring, conn);
            }
            _ => *flags &= !POLLS_WRITABLE,
        }
        if !over {
            arm_writable(&mut table, ring, conn);
        }
    }
}

fn readable_tag(conn: ConnKey) -> Tag {
    Tag { kind: Kind::Readable, index: conn.index, generation: conn.generation }
}

fn writable_tag(conn: ConnKey) -> Tag {
    Tag { kind: Kind::Writable, index: conn.index, generation: conn.generation }
}

fn arm_readable(table: &Table, ring: &mut Ring, conn: ConnKey) {
    if let Some((slot, descriptor)) = table.get(conn) {
        let both = if slot.flags & POLLS_BOTH != 0 { POLLOUT } else { 0 };
        ring.poll(descriptor.as_fd(), POLLIN | POLLRDHUP | both, readable_tag(conn));
    }
}

/// Multishot, though one event is waited for: a one-shot poll is level-triggered and always asks for
/// POLLRDHUP too, so after the peer's FIN it would complete at once, again and again, without any room.
fn arm_writable(table: &mut Table, ring: &mut Ring, conn: ConnKey) {
    let Some((slot, descriptor)) = table.get(conn) else {
        return;
    };
    let wanted = slot.flags & table::WANTS_WRITABLE != 0;
    if wanted && slot.flags & (POLLS_BOTH | POLLS_WRITABLE) == 0 {
        ring.poll(descriptor.as_fd(), POLLOUT, writable_tag(conn));
        if let Some(flags) = table.flags(conn) {
            *flags |= POLLS_WRITABLE;
        }
    }
}

impl Driver for UringDriver {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn listen(&self, socket: Socket) -> io::Result<ListenerKey> {
        let descriptor = Kernel::descriptor_of(socket)?;
        let mut listeners = self.listeners.borrow_mut();
        let key = listeners.len();
        let mut listener =
            Listener { descriptor: Some(descriptor), paused: false, armed: false, cancelled: false };
        listener.arm(&mut self.ring.borrow_mut(), key);
        listeners.push(listener);
        Ok(key as ListenerKey)
    }

    fn pause_accept(&self, listener: ListenerKey) {
        let key = listener as usize;
        if let Some(listener) = self.listeners.borrow_mut().get_mut(key) {
            listener.paused = true;
            listener.cancel(&mut self.ring.borrow_mut(), key);
        }
    }

    fn resume_accept(&self, listener: ListenerKey) {
        let key = listener as usize;
        if let Some(listener) = self.listeners.borrow_mut().get_mut(key) {
            listener.paused = false;
            // One that was cancelled is armed anew by its last completion.
            listener.arm(&mut self.ring.borrow_mut(), key);
        }
    }

    fn unlisten(&self, listener: ListenerKey) {
        let key = listener as usize;
        if let Some(listener) = self.listeners.borrow_mut().get_mut(key) {
            let mut ring = self.ring.borrow_mut();
            listener.paused = true;
            listener.cancel(&mut ring, key);
            listener.descriptor = None;
            // The accept holds the socket: it closes when the ring has let go of it. A failure here comes
            // back with the next turn.
            let _ = ring.turn(Some(Duration::ZERO), 0);
        }
    }

    fn attach(&self, socket: Socket) -> io::Result<ConnKey> {
        self.kernel.insert_fresh(Kernel::descriptor_of(socket)?)
    }

    fn watch(&self, conn: ConnKey) {
        if self.kernel.begins_to_watch(conn) {
            self.arm(conn);
        }
    }

    fn connect(&self, address: SocketAddr) -> io::Result<ConnKey> {
        // One poll for both: the outcome is told as room to send.
        let flags = table::WANTS_WRITABLE | POLLS_BOTH;
        let conn = self.kernel.table.borrow_mut().insert(sys::socket::connecting(address)?, flags)?;
        self.arm(conn);
        Ok(conn)
    }

    fn connect_result(&self, conn: ConnKey) -> io::Result<()> {
        self.kernel.connect_result(conn)
    }

    fn recv(&self, conn: ConnKey, into: &mut [u8]) -> io::Result<Received> {
        let received = self.kernel.recv(conn, into);
        if let Ok(Received::Drained(0)) = received {
            self.watch(conn);
        }
        received
    }

    fn send(&self, conn: ConnKey, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let (accepted, next) = self.kernel.send(conn, bufs)?;
        self.watch_writable(conn, next);
        Ok(accepted)
    }

    fn send_soon(&self, conn: ConnKey, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let (accepted, next) = self.kernel.send_soon(conn, bufs)?;
        self.watch_writable(conn, next);
        Ok(accepted)
    }

    fn splice_in(&self, from: ConnKey, pipe: &Pipe, limit: usize) -> io::Result<Received> {
        self.kernel.splice_in(from, pipe, limit)
    }

    fn splice_out(&self, pipe: &Pipe, to: ConnKey, limit: usize, more: bool) -> io::Result<usize> {
        let (moved, next) = self.kernel.splice_out(pipe, to, limit, more)?;
        self.watch_writable(to, next);
        Ok(moved)
    }

    fn shutdown(&self, conn: ConnKey) {
        self.kernel.shutdown(conn);
    }

    fn close(&self, conn: ConnKey, reset: bool) {
        let Some((descriptor, flags)) = self.kernel.remove(conn) else {
            return;
        };
        if !reset && flags & (POLLS_READABLE | POLLS_WRITABLE) != 0 {
            let _ = SockRef::from(&descriptor).shutdown(std::net::Shutdown::Both);
        }
        self.end_polls(conn, flags);
        // An RST goes out when the removals are submitted, at the end of the turn.
        kernel::close(descriptor, reset);
    }

    fn detach(&self, conn: ConnKey) -> Option<Socket> {
        let (descriptor, flags) = self.kernel.remove(conn)?;
        self.end_polls(conn, flags);
        Some(Socket::Kernel(descriptor))
    }

    fn turn(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.kernel.send_gathered();
        let starved = self.kernel.has_starved();
        let timeout = match starved {
            _ if self.kernel.has_late() => Some(Duration::ZERO),
            true => Some(timeout.map_or(STARVED_RETRY, |timeout| timeout.min(STARVED_RETRY))),
            false => timeout,
        };
        let timeout = match self.kernel.take_fresh(|conn| self.watch(conn)) {
            Some(left) => Some(timeout.map_or(left, |timeout| timeout.min(left))),
            None => timeout,
        };
        self.kernel.take_late(events, |conn| self.watch_writable(conn, Next::WatchWritable));
        let mut ring = self.ring.borrow_mut();
        ring.turn(timeout, COMPLETIONS)?;
        let mut taken = self.taken.borrow_mut();
        ring.take(COMPLETIONS, &mut taken);
        for completion in taken.drain(..) {
            self.handle(&mut ring, completion, events);
        }
        if starved {
            let room = MAX_EVENTS.saturating_sub(events.len());
            self.kernel.take_starved(room, |conn| events.push(Event::Writable { conn }));
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        self.kernel.now()
    }

    fn waker(&self) -> Arc<dyn Waker> {
        self.waker.clone()
    }

    fn pipe(&self) -> Option<Pipe> {
        Kernel::pipe()
    }
}
