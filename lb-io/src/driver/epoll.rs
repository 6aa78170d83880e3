//! The driver over epoll (mio), for kernels and containers without io_uring.
//!
//! A connection is registered once, edge-triggered for reading and writing, and never again: no epoll_ctl
//! per request. Accepting goes on until EAGAIN, spread over turns when more than one batch waits.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::kernel::{self, Kernel, Next, STARVED_RETRY};
use super::table::{self, MAX_CONNECTIONS};
use super::{ConnKey, Driver, Event, ListenerKey, MAX_EVENTS, Pipe, Received, Socket, Waker};
use crate::sys;

/// Events taken from the kernel at once. Each may become a `Readable` and a `Writable`, and what then still
/// fits into [`MAX_EVENTS`] is left for accepted connections.
const POLL_EVENTS: usize = 112;

const WAKE: Token = Token(usize::MAX);
const FIRST_LISTENER: usize = MAX_CONNECTIONS;

// A token carries index and generation.
const _: () = assert!(size_of::<usize>() == 8);

/// See the module.
pub struct EpollDriver {
    kernel: Kernel,
    poll: RefCell<Poll>,
    ready: RefCell<Events>,
    listeners: RefCell<Vec<Listener>>,
    /// Some listener is `ready` and not `paused`: the next turn does not wait.
    accept_waiting: Cell<bool>,
    waker: Arc<EpollWaker>,
}

struct Listener {
    /// None after `unlisten`.
    descriptor: Option<OwnedFd>,
    paused: bool,
    /// The last accept did not end with EAGAIN.
    ready: bool,
}

struct EpollWaker(mio::Waker);

impl Waker for EpollWaker {
    fn wake(&self) {
        // Fails only for a full counter, and then the worker is being woken already.
        let _ = self.0.wake();
    }
}

impl EpollDriver {
    /// Makes one, for the calling thread.
    ///
    /// # Errors
    /// No descriptor or no memory.
    pub fn new() -> io::Result<EpollDriver> {
        let poll = Poll::new()?;
        let waker = Arc::new(EpollWaker(mio::Waker::new(poll.registry(), WAKE)?));
        Ok(EpollDriver {
            kernel: Kernel::new(),
            poll: RefCell::new(poll),
            ready: RefCell::new(Events::with_capacity(POLL_EVENTS)),
            listeners: RefCell::default(),
            accept_waiting: Cell::new(false),
            waker,
        })
    }

    fn register(&self, conn: ConnKey) -> io::Result<()> {
        let table = self.kernel.table.borrow();
        let (_, descriptor) = table.get(conn).ok_or(ErrorKind::NotConnected)?;
        self.poll.borrow().registry().register(
            &mut SourceFd(&descriptor.as_raw_fd()),
            token_of(conn),
            Interest::READABLE | Interest::WRITABLE,
        )
    }

    /// What is watched is watched for room, too.
    fn watch_writable(&self, conn: ConnKey, next: Next) {
        if next == Next::WatchWritable {
            self.watch(conn);
        }
    }

    fn accept_ready(&self, events: &mut Vec<Event>) {
        let mut waiting = false;
        for (key, listener) in self.listeners.borrow_mut().iter_mut().enumerate() {
            if !listener.ready || listener.paused {
                continue;
            }
            let Some(descriptor) = &listener.descriptor else {
                continue;
            };
            let key = key as ListenerKey;
            while listener.ready && events.len() < MAX_EVENTS {
                match sys::socket::accept(descriptor.as_fd()) {
                    Ok((socket, peer)) => {
                        events.push(Event::Accepted { listener: key, socket: Socket::Kernel(socket), peer });
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => listener.ready = false,
                    Err(error) if kernel::is_of_one_connection(&error) => {}
                    Err(error) => {
                        listener.paused = true;
                        events.push(Event::AcceptFailed { listener: key, error });
                        break;
                    }
                }
            }
            waiting |= listener.ready && !listener.paused;
        }
        self.accept_waiting.set(waiting);
    }
}

fn token_of(conn: ConnKey) -> Token {
    Token((conn.generation as usize) << 32 | conn.index as usize)
}

impl Driver for EpollDriver {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn listen(&self, socket: Socket) -> io::Result<ListenerKey> {
        let descriptor = Kernel::descriptor_of(socket)?;
        let mut listeners = self.listeners.borrow_mut();
        let key = listeners.len();
        self.poll.borrow().registry().register(
            &mut SourceFd(&descriptor.as_raw_fd()),
            Token(FIRST_LISTENER + key),
            Interest::READABLE,
        )?;
        listeners.push(Listener { descriptor: Some(descriptor), paused: false, ready: false });
        Ok(key as ListenerKey)
    }

    fn pause_accept(&self, listener: ListenerKey) {
        if let Some(listener) = self.listeners.borrow_mut().get_mut(listener as usize) {
            listener.paused = true;
        }
    }

    fn resume_accept(&self, listener: ListenerKey) {
        if let Some(listener) = self.listeners.borrow_mut().get_mut(listener as usize) {
            listener.paused = false;
            listener.ready = listener.descriptor.is_some();
            self.accept_waiting.set(true);
        }
    }

    fn unlisten(&self, listener: ListenerKey) {
        if let Some(listener) = self.listeners.borrow_mut().get_mut(listener as usize) {
            listener.descriptor = None;
            listener.ready = false;
        }
    }

    fn attach(&self, socket: Socket) -> io::Result<ConnKey> {
        let descriptor = Kernel::descriptor_of(socket)?;
        self.kernel.insert_fresh(descriptor)
    }

    fn watch(&self, conn: ConnKey) {
        if self.kernel.begins_to_watch(conn) && self.register(conn).is_err() {
            // No memory, or as many watched as a user may have: nobody would ever hear of it.
            self.kernel.break_off(conn);
        }
    }

    fn connect(&self, address: SocketAddr) -> io::Result<ConnKey> {
        let descriptor = sys::socket::connecting(address)?;
        let conn = self.kernel.table.borrow_mut().insert(descriptor, table::WANTS_WRITABLE)?;
        if let Err(error) = self.register(conn) {
            self.close(conn, false);
            return Err(error);
        }
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
        if let Some((descriptor, _)) = self.kernel.remove(conn) {
            // Closing the only descriptor takes it out of epoll too.
            kernel::close(descriptor, reset);
        }
    }

    fn detach(&self, conn: ConnKey) -> Option<Socket> {
        let (descriptor, _) = self.kernel.remove(conn)?;
        // Fails only for one that was not watched.
        let _ = self.poll.borrow().registry().deregister(&mut SourceFd(&descriptor.as_raw_fd()));
        Some(Socket::Kernel(descriptor))
    }

    fn turn(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.kernel.send_gathered();
        let starved = self.kernel.has_starved();
        let timeout = if self.accept_waiting.get() || self.kernel.has_late() {
            Some(Duration::ZERO)
        } else if starved {
            Some(timeout.map_or(STARVED_RETRY, |timeout| timeout.min(STARVED_RETRY)))
        } else {
            timeout
        };
        let timeout = match self.kernel.take_fresh(|conn| self.watch(conn)) {
            Some(left) => Some(timeout.map_or(left, |timeout| timeout.min(left))),
            None => timeout,
        };
        self.kernel.take_late(events, |conn| self.watch(conn));
        let mut ready = self.ready.borrow_mut();
        match self.poll.borrow_mut().poll(&mut ready, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => ready.clear(),
            Err(error) => return Err(error),
        }
        let mut accept = self.accept_waiting.get();
        let mut table = self.kernel.table.borrow_mut();
        for event in ready.iter() {
            let token = event.token();
            if token == WAKE {
                events.push(Event::Woken);
                continue;
            }
            let index = token.0 & 0xffff_ffff;
            if index >= FIRST_LISTENER {
                if let Some(listener) = self.listeners.borrow_mut().get_mut(index - FIRST_LISTENER) {
                    listener.ready = true;
                    accept = true;
                }
                continue;
            }
            let conn = ConnKey { index: index as u32, generation: (token.0 >> 32) as u32 };
            let Some(flags) = table.flags(conn) else {
                continue;
            };
            if event.is_read_closed() || event.is_error() {
                *flags |= table::HANGUP;
            }
            let hangup = *flags & table::HANGUP != 0;
            if event.is_writable() || event.is_error() || event.is_write_closed() {
                // A reader's edge reports the room for writing again: only who waits is told.
                if *flags & table::WANTS_WRITABLE != 0 {
                    *flags &= !table::WANTS_WRITABLE;
                    events.push(Event::Writable { conn });
                }
            }
            if event.is_readable() || hangup {
                events.push(Event::Readable { conn, hangup });
            }
        }
        drop(table);
        if starved {
            let room = MAX_EVENTS.saturating_sub(events.len());
            self.kernel.take_starved(room, |conn| events.push(Event::Writable { conn }));
        }
        if accept {
            self.accept_ready(events);
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
