//! The driver over a simulated network.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::network::Network;
use super::socket::{SimulatedSocket, What};
use super::world::{EndpointId, Owner, PIPE_BYTES, State, World};
use crate::driver::{
    ConnKey, Driver, Event, GATHERED_BYTES, GATHERED_MESSAGES, LATE_EVENTS, ListenerKey, MAX_EVENTS, Pipe,
    Received, Socket, Waker,
};

/// Where the engine's own connections come from.
pub(super) const ENGINE_HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// What a turn costs, so that time moves even for a worker that never waits.
const TURN_COST: Duration = Duration::from_micros(1);
/// Events of a turn that are reserved: `Woken`, two for a connection in a batch of one, three of noise.
const NOISE: usize = 6;
/// Closed keys that late events are made for.
const REMEMBERED: usize = 16;

/// See [`crate::sim`].
pub struct SimulatedDriver {
    network: Network,
    /// Among the drivers of this network.
    place: usize,
    keys: RefCell<Keys>,
    listeners: RefCell<Vec<usize>>,
    /// Messages to be sent with the next turn.
    gathered: RefCell<Vec<(ConnKey, Vec<u8>)>>,
    /// What came of them, to be told with the next turn.
    late: RefCell<Vec<Event>>,
}

#[derive(Default)]
struct Keys {
    slots: Vec<Slot>,
    free: Vec<u32>,
    closed: Vec<ConnKey>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    endpoint: Option<EndpointId>,
}

impl Keys {
    fn insert(&mut self) -> ConnKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        ConnKey { index, generation: self.slots[index as usize].generation }
    }

    fn get(&self, conn: ConnKey) -> io::Result<EndpointId> {
        let slot = self.slots.get(conn.index as usize).filter(|slot| slot.generation == conn.generation);
        slot.and_then(|slot| slot.endpoint).ok_or_else(|| ErrorKind::NotConnected.into())
    }

    fn remove(&mut self, conn: ConnKey) {
        let slot = &mut self.slots[conn.index as usize];
        slot.endpoint = None;
        slot.generation += 1;
        self.free.push(conn.index);
        self.closed.push(conn);
        if self.closed.len() > REMEMBERED {
            self.closed.remove(0);
        }
    }
}

struct SimulatedWaker(Network, usize);

impl Waker for SimulatedWaker {
    fn wake(&self) {
        self.0.world().woken[self.1] = true;
    }
}

impl SimulatedDriver {
    pub(super) fn new(network: Network) -> SimulatedDriver {
        let place = {
            let mut world = network.world();
            world.woken.push(false);
            world.woken.len() - 1
        };
        SimulatedDriver {
            network,
            place,
            keys: RefCell::default(),
            listeners: RefCell::default(),
            gathered: RefCell::default(),
            late: RefCell::default(),
        }
    }

    /// Whether the engine has yet to be told that bytes of this connection are left.
    fn has_left(&self, conn: ConnKey) -> bool {
        self.late.borrow().iter().any(|event| matches!(event, Event::Unsent { conn: of, .. } if *of == conn))
    }

    /// Sends what was gathered.
    fn send_gathered(&self) {
        for (conn, bytes) in self.gathered.take() {
            let Ok(id) = self.endpoint(conn) else { continue };
            let sent = match self.has_left(conn) {
                true => Ok(0),
                false => self.network.world().send(id, &[IoSlice::new(&bytes)]),
            };
            match sent {
                Ok(sent) if sent == bytes.len() => {}
                Ok(sent) => {
                    self.late.borrow_mut().push(Event::Unsent { conn, bytes: bytes[sent..].to_vec() });
                }
                Err(_) => self.late.borrow_mut().push(Event::Readable { conn, hangup: true }),
            }
        }
    }

    /// Nothing may overtake what was gathered of this connection.
    fn send_gathered_of(&self, conn: ConnKey) {
        let any = self.gathered.borrow().iter().any(|(of, _)| *of == conn);
        if any {
            self.send_gathered();
        }
    }

    fn is_mine(&self, world: &World, id: EndpointId) -> bool {
        matches!(world.endpoints[id.0 as usize].owner, Owner::Driver(place, _) if place == self.place)
    }

    /// Whether this driver has something to tell.
    fn has_news(&self, world: &World) -> bool {
        self.listeners.borrow().iter().any(|&index| world.listeners[index].has_waiting())
            || world.woken[self.place]
            || world.to_tell.iter().any(|id| self.is_mine(world, *id))
    }

    /// Whether another one has.
    fn others_have_news(&self, world: &World) -> bool {
        let waiting = world.listeners.iter().enumerate().any(|(index, listener)| {
            listener.owner == Owner::Accepting
                && listener.has_waiting()
                && !self.listeners.borrow().contains(&index)
        });
        waiting
            || world.woken.iter().enumerate().any(|(place, woken)| *woken && place != self.place)
            || world.to_tell.iter().any(|id| !self.is_mine(world, *id))
    }

    /// Adds what is due now; whether that was anything.
    fn deliver(&self, world: &mut World, events: &mut Vec<Event>) {
        if std::mem::take(&mut world.woken[self.place]) {
            events.push(Event::Woken);
        }
        let mut limit = MAX_EVENTS - NOISE;
        let small_batch = world.faults.small_batch;
        if world.random().chance(small_batch) {
            limit = 1 + world.random().index(3);
        }
        self.deliver_accepted(world, events, limit.div_ceil(2));
        limit -= events.len().min(limit);
        let (mut queued, others) = std::mem::take(&mut world.to_tell)
            .into_iter()
            .partition::<Vec<_>, _>(|id| self.is_mine(world, *id));
        world.to_tell = others;
        world.random().shuffle(&mut queued);
        let mut batch = Vec::new();
        for id in queued {
            // An endpoint may have two events. Whatever does not fit stays queued.
            if batch.len() + 2 > limit.max(2) {
                world.to_tell.push(id);
                continue;
            }
            let endpoint = world.endpoint(id);
            let Owner::Driver(_, conn) = endpoint.owner else { continue };
            if std::mem::take(&mut endpoint.tell_readable) {
                let hangup = endpoint.hangup();
                endpoint.hangup_told |= hangup;
                batch.push(Event::Readable { conn, hangup });
            }
            if std::mem::take(&mut endpoint.tell_writable) {
                batch.push(Event::Writable { conn });
            }
        }
        self.add_noise(world, &mut batch);
        world.random().shuffle(&mut batch);
        events.append(&mut batch);
    }

    fn deliver_accepted(&self, world: &mut World, events: &mut Vec<Event>, limit: usize) {
        for (key, &index) in self.listeners.borrow().iter().enumerate() {
            let key = key as ListenerKey;
            while events.len() < limit && world.listeners[index].has_waiting() {
                let exhausted = world.faults.accept_exhausted;
                if world.random().chance(exhausted) {
                    world.listeners[index].paused = true;
                    let error = io::Error::from_raw_os_error(libc::EMFILE);
                    events.push(Event::AcceptFailed { listener: key, error });
                } else if let Some(id) = world.listeners[index].backlog.pop_front() {
                    let socket = SimulatedSocket::new(self.network.clone(), What::Stream(id));
                    let (socket, peer) = (Socket::Simulated(socket), world.addresses(id).peer);
                    events.push(Event::Accepted { listener: key, socket, peer });
                }
            }
        }
    }

    /// Events that say nothing new, and events for keys that are no more.
    fn add_noise(&self, world: &mut World, batch: &mut Vec<Event>) {
        let keys = self.keys.borrow();
        let spurious = world.faults.spurious;
        if !keys.slots.is_empty() && world.random().chance(spurious) {
            let index = world.random().index(keys.slots.len());
            let slot = &keys.slots[index];
            let conn = ConnKey { index: index as u32, generation: slot.generation };
            if let Some(id) = slot.endpoint
                && world.endpoint(id).state != State::Connecting
            {
                let endpoint = world.endpoint(id);
                let hangup = endpoint.hangup();
                endpoint.hangup_told |= hangup;
                batch.push(Event::Readable { conn, hangup });
                if world.random().chance(5_000) {
                    batch.push(Event::Writable { conn });
                }
            }
        }
        let late = world.faults.late_event;
        if !keys.closed.is_empty() && world.random().chance(late) {
            let conn = keys.closed[world.random().index(keys.closed.len())];
            let hangup = world.random().chance(5_000);
            batch.push(match world.random().chance(5_000) {
                true => Event::Readable { conn, hangup },
                false => Event::Writable { conn },
            });
        }
    }

    fn endpoint(&self, conn: ConnKey) -> io::Result<EndpointId> {
        self.keys.borrow().get(conn)
    }

    fn pipe_index(pipe: &Pipe) -> io::Result<usize> {
        match pipe {
            Pipe::Simulated(pipe) => Ok(pipe.index),
            Pipe::Kernel(..) => Err(ErrorKind::Unsupported.into()),
        }
    }
}

fn what(socket: Socket) -> io::Result<What> {
    match socket {
        Socket::Simulated(socket) => socket.release().ok_or_else(|| ErrorKind::NotConnected.into()),
        Socket::Kernel(_) => Err(ErrorKind::Unsupported.into()),
    }
}

impl Driver for SimulatedDriver {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn listen(&self, socket: Socket) -> io::Result<ListenerKey> {
        let What::Listener(index) = what(socket)? else {
            return Err(ErrorKind::InvalidInput.into());
        };
        self.network.world().listeners[index].owner = Owner::Accepting;
        let mut listeners = self.listeners.borrow_mut();
        listeners.push(index);
        Ok(listeners.len() as ListenerKey - 1)
    }

    fn pause_accept(&self, listener: ListenerKey) {
        if let Some(&index) = self.listeners.borrow().get(listener as usize) {
            self.network.world().listeners[index].paused = true;
        }
    }

    fn resume_accept(&self, listener: ListenerKey) {
        if let Some(&index) = self.listeners.borrow().get(listener as usize) {
            self.network.world().listeners[index].paused = false;
        }
    }

    fn unlisten(&self, listener: ListenerKey) {
        if let Some(&index) = self.listeners.borrow().get(listener as usize) {
            self.network.world().unlisten(index);
        }
    }

    fn attach(&self, socket: Socket) -> io::Result<ConnKey> {
        let What::Stream(id) = what(socket)? else {
            return Err(ErrorKind::InvalidInput.into());
        };
        let mut world = self.network.world();
        let failed = world.faults.attach_failed;
        if world.random().chance(failed) {
            world.close(id, false);
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        let mut keys = self.keys.borrow_mut();
        let conn = keys.insert();
        keys.slots[conn.index as usize].endpoint = Some(id);
        world.endpoint(id).owner = Owner::Driver(self.place, conn);
        world.tell_if_readable(id);
        Ok(conn)
    }

    fn connect(&self, address: SocketAddr) -> io::Result<ConnKey> {
        let mut world = self.network.world();
        let exhausted = world.faults.connect_exhausted;
        if world.random().chance(exhausted) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let mut keys = self.keys.borrow_mut();
        let conn = keys.insert();
        let id = world.connect(address, ENGINE_HOST, Owner::Driver(self.place, conn));
        keys.slots[conn.index as usize].endpoint = Some(id);
        Ok(conn)
    }

    fn connect_result(&self, conn: ConnKey) -> io::Result<()> {
        let id = self.endpoint(conn)?;
        match self.network.world().endpoint(id).state {
            State::Connected => Ok(()),
            State::Refused => Err(ErrorKind::ConnectionRefused.into()),
            State::Broken => Err(ErrorKind::ConnectionReset.into()),
            State::Connecting | State::Closed => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn recv(&self, conn: ConnKey, into: &mut [u8]) -> io::Result<Received> {
        assert!(!into.is_empty(), "an empty receive cannot be told from the peer's end");
        let id = self.endpoint(conn)?;
        self.network.world().recv(id, into)
    }

    fn send(&self, conn: ConnKey, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(bufs.len() <= crate::driver::MAX_SLICES, "{} slices in one send", bufs.len());
        self.send_gathered_of(conn);
        let id = self.endpoint(conn)?;
        if self.has_left(conn) {
            return Ok(0);
        }
        self.network.world().send(id, bufs)
    }

    fn send_soon(&self, conn: ConnKey, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let whole: usize = bufs.iter().map(|buf| buf.len()).sum();
        let direct = self.network.world().random().chance(3_000);
        if direct || whole > GATHERED_BYTES || self.has_left(conn) || self.late.borrow().len() >= LATE_EVENTS
        {
            return self.send(conn, bufs);
        }
        let bytes = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        self.gathered.borrow_mut().push((conn, bytes));
        if self.gathered.borrow().len() >= GATHERED_MESSAGES {
            self.send_gathered();
        }
        Ok(whole)
    }

    fn splice_in(&self, from: ConnKey, pipe: &Pipe, limit: usize) -> io::Result<Received> {
        let index = Self::pipe_index(pipe)?;
        let id = self.endpoint(from)?;
        let mut world = self.network.world();
        let room = PIPE_BYTES.saturating_sub(world.pipe_bytes(index).len()).min(limit);
        if room == 0 {
            return Ok(Received::Bytes(0));
        }
        let mut buffer = vec![0; room];
        let outcome = world.recv(id, &mut buffer)?;
        match outcome {
            Received::Bytes(n) | Received::Drained(n) => world.pipe_bytes(index).extend(&buffer[..n]),
            Received::End => {}
        }
        // As the kernel's: a splice that brought bytes never says that it drained.
        Ok(match outcome {
            Received::Drained(n) if n > 0 => Received::Bytes(n),
            other => other,
        })
    }

    fn splice_out(&self, pipe: &Pipe, to: ConnKey, limit: usize, _more: bool) -> io::Result<usize> {
        self.send_gathered_of(to);
        if self.has_left(to) {
            return Ok(0);
        }
        let index = Self::pipe_index(pipe)?;
        let id = self.endpoint(to)?;
        let mut world = self.network.world();
        let bytes: Vec<u8> = world.pipe_bytes(index).iter().copied().take(limit).collect();
        if bytes.is_empty() {
            return Ok(0);
        }
        let moved = world.send(id, &[IoSlice::new(&bytes)])?;
        world.pipe_bytes(index).drain(..moved);
        Ok(moved)
    }

    fn shutdown(&self, conn: ConnKey) {
        self.send_gathered_of(conn);
        if let Ok(id) = self.endpoint(conn) {
            self.network.world().shutdown(id);
        }
    }

    fn close(&self, conn: ConnKey, reset: bool) {
        self.send_gathered_of(conn);
        if let Ok(id) = self.endpoint(conn) {
            self.network.world().close(id, reset);
            self.keys.borrow_mut().remove(conn);
        }
    }

    fn detach(&self, conn: ConnKey) -> Option<Socket> {
        let id = self.endpoint(conn).ok()?;
        self.network.world().detach(id);
        self.keys.borrow_mut().remove(conn);
        Some(Socket::Simulated(SimulatedSocket::new(self.network.clone(), What::Stream(id))))
    }

    fn turn(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.send_gathered();
        let is_open = |conn: &ConnKey| self.endpoint(*conn).is_ok();
        events.extend(self.late.take().into_iter().filter(|event| match event {
            Event::Unsent { conn, .. } | Event::Readable { conn, .. } => is_open(conn),
            _ => true,
        }));
        let timeout = if events.is_empty() { timeout } else { Some(Duration::ZERO) };
        let mut world = self.network.world();
        let start = world.now();
        let deadline = timeout.map(|timeout| start + timeout);
        world.advance(start + TURN_COST);
        loop {
            if self.has_news(&world) {
                // What comes a little later may share the batch.
                let grace = Duration::from_micros(world.random().pick(&[0, 0, 50, 1_000]));
                let grace =
                    deadline.map_or(grace, |deadline| grace.min(deadline.saturating_sub(world.now())));
                let end = world.now() + grace;
                world.advance(end);
                self.deliver(&mut world, events);
                return Ok(());
            }
            // Time does not pass over what another driver has to do.
            if self.others_have_news(&world) {
                return Ok(());
            }
            match (world.next_due(), deadline) {
                (Some(due), Some(deadline)) if due > deadline => world.advance(deadline),
                (Some(due), _) => {
                    world.advance(due);
                    continue;
                }
                (None, Some(deadline)) => world.advance(deadline),
                // Nothing will ever happen again, unless another thread wakes us.
                (None, None) => {}
            }
            self.deliver(&mut world, events);
            return Ok(());
        }
    }

    fn now(&self) -> Duration {
        self.network.world().now()
    }

    fn waker(&self) -> Arc<dyn Waker> {
        Arc::new(SimulatedWaker(self.network.clone(), self.place))
    }

    fn pipe(&self) -> Option<Pipe> {
        self.network.open_pipe().map(Pipe::Simulated)
    }
}

impl Drop for SimulatedDriver {
    /// As a process that ends: what is still attached is closed.
    fn drop(&mut self) {
        let mut world = self.network.world();
        for slot in &mut self.keys.borrow_mut().slots {
            if let Some(id) = slot.endpoint.take() {
                world.close(id, false);
            }
        }
        for &index in self.listeners.borrow().iter() {
            world.unlisten(index);
        }
    }
}
