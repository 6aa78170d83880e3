//! The blind relays: what forwarding bytes costs when nothing is parsed, decided or counted.
//!
//! One thread, edge-triggered epoll, one upstream connection per downstream connection. Either relay is the
//! least that a proxy between two TCP connections can do, so the distance to it is what a load balancer
//! spends on being one. They are yardsticks: lean above all, and never in front of real traffic (no
//! timeouts, no limits but those of the process).
//!
//! A pair of connections ends when the server ends; a client's end is passed on with shutdown(2), so that
//! the server's answer still arrives.

mod copy;
mod splice;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};

/// How bytes get from one socket to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// recv(2) into one buffer, send(2) from it.
    Copy,
    /// splice(2) into a pipe and out of it: bytes never enter user space.
    Splice,
}

/// Which socket of a pair: the one that we accepted.
const CLIENT: usize = 0;
/// Which socket of a pair: the one that we connected.
const SERVER: usize = 1;

/// Events taken from the kernel in one wait.
const EVENTS_PER_TURN: usize = 512;
/// Waiting connections that the kernel may hold for us.
const BACKLOG: i32 = 4096;
/// The event data of the listening socket.
const LISTENER: u64 = u64::MAX;

/// What a flow (the bytes of one direction) reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// Nothing more to read for now.
    Drained,
    /// The receiver takes no more for now; the rest is kept in the flow.
    Blocked,
    /// The sender ended its side and everything was passed on.
    Ended,
    /// A socket failed.
    Broken,
}

/// Moves the bytes of one direction. `Held` is what a flow keeps while its receiver takes no more.
trait Mover {
    type Held;
    /// Moves until nothing is left, the receiver blocks, or the end. A short read counts as "nothing left"
    /// unless `to_the_end`: then only the kernel's word does.
    fn pass(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        held: &mut Option<Self::Held>,
        to_the_end: bool,
    ) -> Reached;
}

struct Pair<H> {
    sockets: [OwnedFd; 2],
    /// By the side that the bytes come from.
    held: [Option<H>; 2],
    ended: [bool; 2],
}

struct Slot<H> {
    /// Told in the event data, so that an event of a closed pair is not taken for its successor's.
    generation: u32,
    pair: Option<Pair<H>>,
}

/// Accepts on `listener` and relays each connection to one of `upstreams` in turn, for ever.
///
/// # Errors
/// If the listener or epoll itself fails; failing connections are closed and forgotten.
pub fn run(listener: TcpListener, upstreams: &[SocketAddr], mode: Mode) -> io::Result<()> {
    match mode {
        Mode::Copy => Relay::new(listener, upstreams, copy::Copier::new())?.run(),
        Mode::Splice => Relay::new(listener, upstreams, splice::Splicer::new())?.run(),
    }
}

struct Relay<'a, M: Mover> {
    epoll: OwnedFd,
    listener: TcpListener,
    upstreams: &'a [SocketAddr],
    next_upstream: usize,
    slots: Vec<Slot<M::Held>>,
    free: Vec<u32>,
    mover: M,
}

impl<'a, M: Mover> Relay<'a, M> {
    fn new(listener: TcpListener, upstreams: &'a [SocketAddr], mover: M) -> io::Result<Self> {
        if upstreams.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a relay needs an upstream"));
        }
        listener.set_nonblocking(true)?;
        net::listen(&listener, BACKLOG)?;
        // Inherited by what is accepted: no call per connection.
        sockopt::set_tcp_nodelay(&listener, true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self { epoll, listener, upstreams, next_upstream: 0, slots: Vec::new(), free: Vec::new(), mover })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_PER_TURN];
        loop {
            let count = match epoll::wait(&self.epoll, &mut events[..], None) {
                Ok(count) => count,
                Err(Errno::INTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..count] {
                let data = event.data.u64();
                if data == LISTENER { self.accept()? } else { self.handle(data, event.flags) }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let client = match net::accept_with(&self.listener, flags) {
                Ok(client) => client,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                // Out of descriptors or worse: a yardstick that drops connections measures nothing.
                Err(error) => return Err(error.into()),
            };
            let upstream = self.upstreams[self.next_upstream];
            self.next_upstream = (self.next_upstream + 1) % self.upstreams.len();
            if let Ok(server) = connect(upstream) {
                self.open(client, server)?;
            }
        }
    }

    fn open(&mut self, client: OwnedFd, server: OwnedFd) -> io::Result<()> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, pair: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let sockets = [client, server];
        // Registered once, for everything: an armed socket costs no epoll_ctl per request.
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        for (side, socket) in sockets.iter().enumerate() {
            let data = u64::from(slot.generation) << 32 | u64::from(index) << 1 | side as u64;
            epoll::add(&self.epoll, socket, EventData::new_u64(data), interest)?;
        }
        slot.pair = Some(Pair { sockets, held: [None, None], ended: [false, false] });
        Ok(())
    }

    fn handle(&mut self, data: u64, flags: EventFlags) {
        let side = (data & 1) as usize;
        let index = (data as u32) >> 1;
        let slot = &mut self.slots[index as usize];
        if slot.generation != (data >> 32) as u32 {
            return;
        }
        let Some(pair) = slot.pair.as_mut() else { return };
        let end = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        let mut open = true;
        if flags.intersects(EventFlags::IN | end) && pair.held[side].is_none() && !pair.ended[side] {
            open = pass(&mut self.mover, pair, side, flags.intersects(end));
        }
        if open && flags.contains(EventFlags::OUT) && pair.held[1 - side].is_some() {
            open = pass(&mut self.mover, pair, 1 - side, true);
        }
        if !open {
            slot.pair = None;
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(index);
        }
    }
}

/// Moves what `side` sent; false if the pair is to be closed.
fn pass<M: Mover>(mover: &mut M, pair: &mut Pair<M::Held>, side: usize, to_the_end: bool) -> bool {
    let [from, to] = [&pair.sockets[side], &pair.sockets[1 - side]];
    match mover.pass(from, to, &mut pair.held[side], to_the_end) {
        Reached::Drained | Reached::Blocked => true,
        Reached::Broken => false,
        Reached::Ended if side == SERVER => false,
        Reached::Ended => {
            pair.ended[CLIENT] = true;
            net::shutdown(&pair.sockets[SERVER], Shutdown::Write).is_ok()
        }
    }
}

fn connect(upstream: SocketAddr) -> io::Result<OwnedFd> {
    let family = if upstream.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match net::connect(&socket, &upstream) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}
