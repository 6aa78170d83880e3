//! The seam between the engine and the kernel.
//!
//! A [`Driver`] tells when descriptors are ready and moves bytes when asked. The engine pulls: nothing is
//! received before the engine offers memory for it, so back-pressure is simply not asking. Every driver
//! keeps the same contract, which `driver/contract.rs` tests on all of them:
//!
//! - Readiness is edge-like. After an event `Readable` the engine reads until [`Received::Drained`] (or
//!   remembers that it did not); only then is a further `Readable` due. The same for `Writable` after a
//!   send that accepted less than it was given.
//! - Events may be spurious. An event for a key whose connection was closed may still be in the batch
//!   being handled: the key's generation tells. (The kernel drivers deliver none in later turns; the
//!   simulated one does when told to, for the generation tells then too.)
//! - `Writable` comes for a connection only after a connect or a send that accepted less than given; when
//!   it comes without such cause it is spurious too.
//! - No call blocks. No call but [`Driver::turn`] delivers events.

#[cfg(test)]
mod contract;
mod epoll;
mod kernel;
mod outbox;
pub mod probe;
mod table;
mod uring;

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub use epoll::EpollDriver;
pub use uring::UringDriver;

pub(crate) use outbox::{GATHERED_BYTES, GATHERED_MESSAGES, LATE_EVENTS};

use crate::sim::{SimulatedPipe, SimulatedSocket};

/// Names a connection for as long as it is open: an index, reused, and a generation, which is not.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnKey {
    /// Place in the driver's and the engine's tables.
    pub index: u32,
    /// Differs between two connections that used the same index one after the other.
    pub generation: u32,
}

impl fmt::Debug for ConnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.index, self.generation)
    }
}

/// Names a listening socket: its place in the order of [`Driver::listen`] calls.
pub type ListenerKey = u32;

/// What the driver saw, delivered by [`Driver::turn`].
#[derive(Debug)]
pub enum Event {
    /// A connection was accepted. It belongs to nobody until [`Driver::attach`].
    Accepted {
        /// On which listener.
        listener: ListenerKey,
        /// The new socket: non-blocking, close-on-exec, `TCP_NODELAY`.
        socket: Socket,
        /// Its other side's address.
        peer: SocketAddr,
    },
    /// Accepting failed for want of descriptors or memory. The listener is paused until
    /// [`Driver::resume_accept`].
    AcceptFailed {
        /// On which listener.
        listener: ListenerKey,
        /// Why: EMFILE, ENFILE, ENOBUFS or ENOMEM as a rule.
        error: io::Error,
    },
    /// There may be bytes to read, or the peer ended its side.
    Readable {
        /// Where.
        conn: ConnKey,
        /// The peer's end or an error is known to be waiting behind the bytes: read on after a short read.
        hangup: bool,
    },
    /// A connect finished (well or not: [`Driver::connect_result`] tells), or there is room to send again.
    Writable {
        /// Where.
        conn: ConnKey,
    },
    /// The end of what [`Driver::send_soon`] took found no room: it is to be sent before anything else, once
    /// `Writable` tells that there is.
    Unsent {
        /// Where.
        conn: ConnKey,
        /// What is left.
        bytes: Vec<u8>,
    },
    /// Another thread called [`Waker::wake`].
    Woken,
}

/// A socket that no connection key names yet.
#[derive(Debug)]
pub enum Socket {
    /// A descriptor of the kernel's.
    Kernel(OwnedFd),
    /// An endpoint of the simulated network. Dropping it closes it, as dropping a descriptor does.
    Simulated(SimulatedSocket),
}

/// What a receive call brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// This many bytes (at least 1), and there may be more.
    Bytes(usize),
    /// This many bytes (0 or more) and nothing more for now: the next `Readable` tells.
    Drained(usize),
    /// The peer has ended its side in order (FIN).
    End,
}

/// Wakes a worker from another thread. Cheap to clone.
pub trait Waker: Send + Sync {
    /// Makes the driver's current or next [`Driver::turn`] return with [`Event::Woken`].
    fn wake(&self);
}

/// Moves bytes and tells readiness for one worker, on that worker's thread only.
///
/// All methods take `&self`: the engine calls them from many tasks of the one thread.
pub trait Driver {
    /// A word for logs and metrics: `io_uring`, `epoll`, `simulated`.
    fn name(&self) -> &'static str;

    /// Begins to accept on a bound, listening socket. Keys count up from 0.
    fn listen(&self, socket: Socket) -> io::Result<ListenerKey>;

    /// Stops accepting for now; connections wait in the kernel's queue. Already accepted ones may still
    /// arrive as events.
    fn pause_accept(&self, listener: ListenerKey);

    /// Accepts again after [`Driver::pause_accept`] or [`Event::AcceptFailed`].
    fn resume_accept(&self, listener: ListenerKey);

    /// Stops accepting for good and closes the listener's descriptor.
    fn unlisten(&self, listener: ListenerKey);

    /// Takes a connected socket in. Its first `Readable` is due: receive at once. It is watched when a receive finds
    /// nothing, after [`Driver::watch`], and a few milliseconds later in any case. On failure the socket is closed.
    fn attach(&self, socket: Socket) -> io::Result<ConnKey>;

    /// Begins to watch an attached connection now: it waits for its next request.
    fn watch(&self, conn: ConnKey) {
        let _ = conn;
    }

    /// Begins to connect. One `Writable` follows when the outcome is known, unless closed before.
    fn connect(&self, address: SocketAddr) -> io::Result<ConnKey>;

    /// The outcome of a connect, asked after its `Writable`. Call once.
    fn connect_result(&self, conn: ConnKey) -> io::Result<()>;

    /// Receives into `into`, which must not be empty.
    ///
    /// # Errors
    /// The connection's error (reset, timed out). It is then good for nothing but [`Driver::close`].
    fn recv(&self, conn: ConnKey, into: &mut [u8]) -> io::Result<Received>;

    /// Sends some of `bufs` (at most [`MAX_SLICES`]) and tells how many bytes were accepted. Fewer than
    /// given, 0 included: the rest must wait for `Writable`.
    ///
    /// # Errors
    /// The connection's error (broken pipe, reset).
    fn send(&self, conn: ConnKey, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// As [`Driver::send`], but a driver may take a short message in whole and send it by its next turn, together
    /// with others. What then does not get through is told by [`Event::Unsent`] or, if the connection is broken, by a
    /// `Readable` whose receive fails. So this is for what may be lost without anyone being told at once: what closes
    /// the connection goes by [`Driver::send`].
    ///
    /// # Errors
    /// The connection's.
    fn send_soon(&self, conn: ConnKey, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send(conn, bufs)
    }

    /// Moves up to `limit` bytes from `from` into `pipe` without copying. Same outcome as [`Driver::recv`].
    /// A full pipe is [`Received::Bytes`]`(0)`.
    fn splice_in(&self, from: ConnKey, pipe: &Pipe, limit: usize) -> io::Result<Received>;

    /// Moves up to `limit` bytes from `pipe` to `to`. Same outcome as [`Driver::send`].
    fn splice_out(&self, pipe: &Pipe, to: ConnKey, limit: usize, more: bool) -> io::Result<usize>;

    /// Ends our sending side (FIN after what was sent).
    fn shutdown(&self, conn: ConnKey);

    /// Closes. No event names this key afterwards except ones already in the batch being handled.
    /// With `reset` the peer sees RST and unsent bytes are dropped.
    fn close(&self, conn: ConnKey, reset: bool);

    /// Gives a connection's socket away, to be attached to another driver: nothing of it is gathered or half read, and
    /// who takes it looks for what has come. No event names this key afterwards except ones already in the batch being
    /// handled. None: there is no such connection.
    fn detach(&self, conn: ConnKey) -> Option<Socket>;

    /// Waits for events until `timeout` (None: for ever) and appends them to `events`, at most
    /// [`MAX_EVENTS`] of them. Returns at once when some are due already.
    fn turn(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;

    /// Monotonic time since an arbitrary start, the same for all drivers of a process: workers share times.
    fn now(&self) -> Duration;

    /// A handle with which other threads wake this driver.
    fn waker(&self) -> std::sync::Arc<dyn Waker>;

    /// A new empty pipe for splicing. None where splice is not to be had (the simulator may say so too).
    fn pipe(&self) -> Option<Pipe>;
}

/// A kernel pipe, or the simulator's stand-in, through which bytes are spliced. Dropping closes it.
#[derive(Debug)]
pub enum Pipe {
    /// Read end, write end.
    Kernel(OwnedFd, OwnedFd),
    /// A queue of the simulated network.
    Simulated(SimulatedPipe),
}

/// Slices that one [`Driver::send`] takes.
pub const MAX_SLICES: usize = 8;

/// Events that one [`Driver::turn`] delivers: a longer batch would let the first wait for the last.
pub const MAX_EVENTS: usize = 400;
