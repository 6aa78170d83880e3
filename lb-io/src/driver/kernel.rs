//! What the two kernel drivers do alike: system calls on a connection, and what their outcomes mean.
//!
//! Bytes move by rustix, which makes the system call itself: libc's recv(2) and send(2) are cancellation points
//! and cost 3 % of a request in a process of several threads.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::SockRef;

use super::outbox::{GATHERED_BYTES, LATE_EVENTS, Outbox};
use super::table::{self, Table};
use super::{ConnKey, Event, Pipe, Received, Socket};
use crate::sys;

/// How soon a send that the kernel had no memory for is tried again. No event of the kernel's tells.
pub(super) const STARVED_RETRY: Duration = Duration::from_millis(5);

/// How long an accepted connection with a request under way is not watched: only its client's leaving is noticed so
/// much later.
pub(super) const WATCH_DELAY: Duration = Duration::from_millis(5);

/// The connections and clock of a kernel driver.
pub(super) struct Kernel {
    pub table: RefCell<Table>,
    /// Connections whose send failed for want of memory, to be told `Writable` after [`STARVED_RETRY`].
    starved: RefCell<Vec<ConnKey>>,
    outbox: RefCell<Outbox>,
    /// What came of gathered messages, to be told with the next turn.
    late: RefCell<Vec<Event>>,
    /// Connections for whose room the driver has yet to look.
    roomless: RefCell<Vec<ConnKey>>,
    /// Connections that are not watched, with the time at which they came, in order; some are closed.
    fresh: RefCell<VecDeque<(ConnKey, Duration)>>,
}

/// What a send or connect leaves for the driver to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Nothing,
    /// Tell `Writable` when there is room.
    WatchWritable,
}

impl Kernel {
    pub fn new() -> Kernel {
        Kernel {
            table: RefCell::default(),
            starved: RefCell::default(),
            outbox: RefCell::default(),
            late: RefCell::default(),
            roomless: RefCell::default(),
            fresh: RefCell::default(),
        }
    }

    pub fn now(&self) -> Duration {
        crate::clock::now()
    }

    pub fn descriptor_of(socket: Socket) -> io::Result<OwnedFd> {
        match socket {
            Socket::Kernel(descriptor) => Ok(descriptor),
            Socket::Simulated(_) => Err(ErrorKind::Unsupported.into()),
        }
    }

    pub fn connect_result(&self, conn: ConnKey) -> io::Result<()> {
        let table = self.table.borrow();
        let (_, descriptor) = table.get(conn).ok_or(ErrorKind::NotConnected)?;
        let socket = SockRef::from(descriptor);
        match socket.take_error()? {
            Some(error) => Err(error),
            // A spurious event before the outcome: no error yet, but no peer either.
            None => socket.peer_addr().map(drop),
        }
    }

    pub fn recv(&self, conn: ConnKey, into: &mut [u8]) -> io::Result<Received> {
        debug_assert!(!into.is_empty(), "an empty receive cannot be told from the peer's end");
        let table = self.table.borrow();
        let (slot, descriptor) = table.get(conn).ok_or(ErrorKind::NotConnected)?;
        let whole = into.len();
        loop {
            return match rustix::net::recv(descriptor, &mut *into, RecvFlags::empty()) {
                // The reset was told to a send, and only the end is left to tell.
                Ok((0, _)) if slot.flags & table::BROKEN != 0 => Err(ErrorKind::ConnectionReset.into()),
                Ok((0, _)) => Ok(Received::End),
                Ok((n, _)) if n == whole || slot.flags & table::HANGUP != 0 => Ok(Received::Bytes(n)),
                // Reading on to EAGAIN costs a call per request and tells nothing new: what comes later
                // raises a new event.
                Ok((n, _)) => Ok(Received::Drained(n)),
                Err(Errno::WOULDBLOCK) => Ok(Received::Drained(0)),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Takes a short message in, to be sent with others; a longer one goes out at once.
    pub fn send_soon(&self, conn: ConnKey, bufs: &[IoSlice<'_>]) -> io::Result<(usize, Next)> {
        let whole: usize = bufs.iter().map(|buf| buf.len()).sum();
        if whole > GATHERED_BYTES {
            return self.send(conn, bufs);
        }
        {
            let mut table = self.table.borrow_mut();
            let flags = table.flags(conn).ok_or(ErrorKind::NotConnected)?;
            if *flags & (table::BROKEN | table::LEFT) != 0 || self.late.borrow().len() >= LATE_EVENTS {
                drop(table);
                return self.send(conn, bufs);
            }
            *flags |= table::GATHERED;
        }
        let is_full = {
            let mut outbox = self.outbox.borrow_mut();
            outbox.add(conn, bufs.iter().map(|buf| &**buf));
            outbox.is_full()
        };
        if is_full {
            self.send_gathered();
        }
        Ok((whole, Next::Nothing))
    }

    /// Sends what was gathered.
    pub fn send_gathered(&self) {
        if self.outbox.borrow().is_empty() {
            return;
        }
        let (mut outbox, mut late) = (self.outbox.borrow_mut(), self.late.borrow_mut());
        outbox.drain(|conn, bytes| {
            let Some(flags) = self.table.borrow_mut().flags(conn).map(|flags| {
                *flags &= !table::GATHERED;
                *flags
            }) else {
                return;
            };
            // What comes behind bytes that are left is left, too.
            let is_behind = flags & table::LEFT != 0;
            let outcome = match is_behind {
                true => Ok((0, Next::Nothing)),
                false => self.send_slices(conn, &[IoSlice::new(bytes)]),
            };
            match outcome {
                Ok((sent, _)) if sent == bytes.len() => {}
                Ok((sent, next)) => {
                    if let Some(flags) = self.table.borrow_mut().flags(conn) {
                        *flags |= table::LEFT;
                    }
                    late.push(Event::Unsent { conn, bytes: bytes[sent..].to_vec() });
                    if next == Next::WatchWritable {
                        self.roomless.borrow_mut().push(conn);
                    }
                }
                Err(_) => late.push(Event::Readable { conn, hangup: true }),
            }
        });
    }

    /// Sends what was gathered, if some of it is of this connection: nothing may overtake it.
    fn send_gathered_of(&self, conn: ConnKey) {
        let gathered = self.table.borrow_mut().flags(conn).is_some_and(|flags| *flags & table::GATHERED != 0);
        if gathered {
            self.send_gathered();
        }
    }

    /// What came of gathered messages, and whom to watch for room.
    pub fn take_late(&self, events: &mut Vec<Event>, watch: impl FnMut(ConnKey)) {
        let mut table = self.table.borrow_mut();
        events.extend(self.late.borrow_mut().drain(..).filter(|event| match event {
            Event::Unsent { conn, .. } | Event::Readable { conn, .. } => {
                let flags = table.flags(*conn);
                flags.map(|flags| *flags &= !table::LEFT).is_some()
            }
            _ => true,
        }));
        drop(table);
        self.roomless.borrow_mut().drain(..).for_each(watch);
    }

    /// Whether [`Kernel::take_late`] has something to tell.
    pub fn has_late(&self) -> bool {
        !self.late.borrow().is_empty()
    }

    pub fn send(&self, conn: ConnKey, bufs: &[IoSlice<'_>]) -> io::Result<(usize, Next)> {
        self.send_gathered_of(conn);
        match self.table.borrow_mut().flags(conn) {
            Some(flags) if *flags & table::BROKEN != 0 => return Err(ErrorKind::BrokenPipe.into()),
            Some(flags) if *flags & table::LEFT != 0 => return Ok((0, Next::Nothing)),
            _ => {}
        }
        self.send_slices(conn, bufs)
    }

    fn send_slices(&self, conn: ConnKey, bufs: &[IoSlice<'_>]) -> io::Result<(usize, Next)> {
        let whole: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut table = self.table.borrow_mut();
        let outcome = {
            let (_, descriptor) = table.get(conn).ok_or(ErrorKind::NotConnected)?;
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            loop {
                let outcome = match bufs {
                    [one] => rustix::net::send(descriptor, one, flags),
                    many => {
                        rustix::net::sendmsg(descriptor, many, &mut SendAncillaryBuffer::default(), flags)
                    }
                };
                match outcome {
                    Err(Errno::INTR) => continue,
                    other => break other,
                }
            }
        };
        match outcome {
            Ok(n) if n == whole => Ok((n, Next::Nothing)),
            Ok(n) => {
                want_writable(&mut table, conn);
                Ok((n, Next::WatchWritable))
            }
            Err(Errno::WOULDBLOCK) => {
                want_writable(&mut table, conn);
                Ok((0, Next::WatchWritable))
            }
            Err(Errno::NOBUFS | Errno::NOMEM) => {
                want_writable(&mut table, conn);
                self.starved.borrow_mut().push(conn);
                Ok((0, Next::Nothing))
            }
            Err(error) => {
                if let Some(flags) = table.flags(conn) {
                    *flags |= table::BROKEN | table::HANGUP;
                }
                Err(error.into())
            }
        }
    }

    pub fn splice_in(&self, from: ConnKey, pipe: &Pipe, limit: usize) -> io::Result<Received> {
        let Pipe::Kernel(_, write_end) = pipe else {
            return Err(ErrorKind::Unsupported.into());
        };
        let table = self.table.borrow();
        let (_, descriptor) = table.get(from).ok_or(ErrorKind::NotConnected)?;
        loop {
            return match sys::pipe::splice(descriptor.as_fd(), write_end.as_fd(), limit, false) {
                Ok(0) => Ok(Received::End),
                // A pipe is full by segments, not by bytes: a short splice says nothing of the socket.
                Ok(n) => Ok(Received::Bytes(n)),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => match sys::pipe::has_room(write_end) {
                    true => Ok(Received::Drained(0)),
                    false => Ok(Received::Bytes(0)),
                },
                Err(error) => Err(error),
            };
        }
    }

    pub fn splice_out(
        &self,
        pipe: &Pipe,
        to: ConnKey,
        limit: usize,
        more: bool,
    ) -> io::Result<(usize, Next)> {
        let Pipe::Kernel(read_end, _) = pipe else {
            return Err(ErrorKind::Unsupported.into());
        };
        self.send_gathered_of(to);
        let mut table = self.table.borrow_mut();
        if table.flags(to).is_some_and(|flags| *flags & table::LEFT != 0) {
            return Ok((0, Next::Nothing));
        }
        let mut moved = 0;
        // The loop ends with everything moved or with EAGAIN: only then is the kernel sure to tell of room.
        while moved < limit {
            let (_, descriptor) = table.get(to).ok_or(ErrorKind::NotConnected)?;
            match sys::pipe::splice(read_end.as_fd(), descriptor.as_fd(), limit - moved, more) {
                Ok(0) => break,
                Ok(n) => moved += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    want_writable(&mut table, to);
                    return Ok((moved, Next::WatchWritable));
                }
                Err(error) if is_starvation(&error) => {
                    want_writable(&mut table, to);
                    self.starved.borrow_mut().push(to);
                    return Ok((moved, Next::Nothing));
                }
                // What was moved counts; the error comes back with the next call.
                Err(_) if moved > 0 => {
                    want_writable(&mut table, to);
                    self.starved.borrow_mut().push(to);
                    return Ok((moved, Next::Nothing));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((moved, Next::Nothing))
    }

    pub fn shutdown(&self, conn: ConnKey) {
        self.send_gathered_of(conn);
        if let Some((_, descriptor)) = self.table.borrow().get(conn) {
            // Fails only where the connection is gone, which its reader learns.
            let _ = SockRef::from(descriptor).shutdown(std::net::Shutdown::Write);
        }
    }

    pub fn pipe() -> Option<Pipe> {
        sys::pipe::new().ok().map(|(read_end, write_end)| Pipe::Kernel(read_end, write_end))
    }

    /// Takes an accepted connection in, not watched.
    pub fn insert_fresh(&self, descriptor: OwnedFd) -> io::Result<ConnKey> {
        let conn = self.table.borrow_mut().insert(descriptor, table::UNWATCHED)?;
        self.fresh.borrow_mut().push_back((conn, self.now()));
        Ok(conn)
    }

    /// Hands those that have been unwatched for long enough to `watch`. Returns how long it is to the next.
    pub fn take_fresh(&self, mut watch: impl FnMut(ConnKey)) -> Option<Duration> {
        let mut fresh = self.fresh.borrow_mut();
        let now = if fresh.is_empty() { return None } else { self.now() };
        while let Some((conn, since)) = fresh.front() {
            let unwatched =
                self.table.borrow_mut().flags(*conn).is_some_and(|flags| *flags & table::UNWATCHED != 0);
            let left = (*since + WATCH_DELAY).saturating_sub(now);
            if unwatched && !left.is_zero() {
                return Some(left);
            }
            if unwatched {
                watch(*conn);
            }
            fresh.pop_front();
        }
        None
    }

    /// Whether a connection is there and not watched. It counts as watched from now on.
    pub fn begins_to_watch(&self, conn: ConnKey) -> bool {
        let mut table = self.table.borrow_mut();
        let Some(flags) = table.flags(conn) else { return false };
        let unwatched = *flags & table::UNWATCHED != 0;
        *flags &= !table::UNWATCHED;
        unwatched
    }

    /// Has the connection's owner find it broken.
    pub fn break_off(&self, conn: ConnKey) {
        if let Some((_, descriptor)) = self.table.borrow().get(conn) {
            let _ = SockRef::from(descriptor).shutdown(std::net::Shutdown::Both);
        }
        if let Some(flags) = self.table.borrow_mut().flags(conn) {
            *flags |= table::BROKEN | table::HANGUP;
        }
        self.late.borrow_mut().push(Event::Readable { conn, hangup: true });
    }

    /// Forgets a connection. Gives what is to be closed.
    pub fn remove(&self, conn: ConnKey) -> Option<(OwnedFd, u16)> {
        self.send_gathered_of(conn);
        self.table.borrow_mut().remove(conn)
    }

    /// Whether somebody waits for [`Kernel::take_starved`].
    pub fn has_starved(&self) -> bool {
        !self.starved.borrow().is_empty()
    }

    /// Connections, at most `limit`, whose starved send should be tried again now.
    pub fn take_starved(&self, limit: usize, mut tell: impl FnMut(ConnKey)) {
        let mut starved = self.starved.borrow_mut();
        let count = starved.len().min(limit);
        for conn in starved.drain(..count) {
            let mut table = self.table.borrow_mut();
            if let Some(flags) = table.flags(conn)
                && *flags & table::WANTS_WRITABLE != 0
            {
                *flags &= !table::WANTS_WRITABLE;
                tell(conn);
            }
        }
    }
}

fn want_writable(table: &mut Table, conn: ConnKey) {
    if let Some(flags) = table.flags(conn) {
        *flags |= table::WANTS_WRITABLE;
    }
}

/// The kernel lacks memory for now; the connection itself is well.
pub(super) fn is_starvation(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}

/// An accept failed for a reason of the one connection (accept(2) lists them): the next may be well. Anything
/// else would come again at once, so accepting pauses.
pub(super) fn is_of_one_connection(error: &io::Error) -> bool {
    const OF_ONE: [i32; 13] = [
        libc::ECONNABORTED,
        libc::EINTR,
        libc::EPERM,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::EOPNOTSUPP,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::ETIMEDOUT,
        libc::ECONNRESET,
    ];
    error.raw_os_error().is_some_and(|number| OF_ONE.contains(&number))
}

/// Closes with RST (`reset`) or in order.
pub(super) fn close(descriptor: OwnedFd, reset: bool) {
    if reset {
        let _ = SockRef::from(&descriptor).set_linger(Some(Duration::ZERO));
    }
    drop(descriptor);
}
