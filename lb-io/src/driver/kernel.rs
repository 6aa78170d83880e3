//! What the two kernel drivers do alike: system calls on a connection, and what their outcomes mean.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use socket2::SockRef;

use super::table::{self, Table};
use super::{Addresses, ConnKey, Pipe, Received, Socket};
use crate::sys;

/// How soon a send that the kernel had no memory for is tried again. No event of the kernel's tells.
pub(super) const STARVED_RETRY: Duration = Duration::from_millis(5);

/// The connections and clock of a kernel driver.
pub(super) struct Kernel {
    pub table: RefCell<Table>,
    /// Connections whose send failed for want of memory, to be told `Writable` after [`STARVED_RETRY`].
    starved: RefCell<Vec<ConnKey>>,
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
        Kernel { table: RefCell::default(), starved: RefCell::default() }
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

    pub fn addresses(socket: &Socket) -> io::Result<Addresses> {
        let Socket::Kernel(descriptor) = socket else {
            return Err(ErrorKind::Unsupported.into());
        };
        let socket = SockRef::from(descriptor);
        let peer = socket.peer_addr()?.as_socket().ok_or(ErrorKind::Unsupported)?;
        let local = socket.local_addr()?.as_socket().ok_or(ErrorKind::Unsupported)?;
        Ok(Addresses { peer, local })
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
        let socket = SockRef::from(descriptor);
        loop {
            return match (&*socket).read(into) {
                Ok(0) => Ok(Received::End),
                Ok(n) if n == into.len() || slot.flags & table::HANGUP != 0 => Ok(Received::Bytes(n)),
                // Reading on to EAGAIN costs a call per request and tells nothing new: what comes later
                // raises a new event.
                Ok(n) => Ok(Received::Drained(n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::Drained(0)),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    pub fn send(&self, conn: ConnKey, bufs: &[IoSlice<'_>]) -> io::Result<(usize, Next)> {
        let whole: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut table = self.table.borrow_mut();
        let outcome = {
            let (_, descriptor) = table.get(conn).ok_or(ErrorKind::NotConnected)?;
            let socket = SockRef::from(descriptor);
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            loop {
                let outcome = match bufs {
                    [one] => socket.send_with_flags(one, flags),
                    many => socket.send_vectored_with_flags(many, flags),
                };
                match outcome {
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
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
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                want_writable(&mut table, conn);
                Ok((0, Next::WatchWritable))
            }
            Err(error) if is_starvation(&error) => {
                want_writable(&mut table, conn);
                self.starved.borrow_mut().push(conn);
                Ok((0, Next::Nothing))
            }
            Err(error) => Err(error),
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
        let mut table = self.table.borrow_mut();
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
        if let Some((_, descriptor)) = self.table.borrow().get(conn) {
            // Fails only where the connection is gone, which its reader learns.
            let _ = SockRef::from(descriptor).shutdown(std::net::Shutdown::Write);
        }
    }

    pub fn pipe() -> Option<Pipe> {
        sys::pipe::new().ok().map(|(read_end, write_end)| Pipe::Kernel(read_end, write_end))
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
