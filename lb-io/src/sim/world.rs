//! The state of a simulated network and what happens in it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::actor::{Actor, Context};
use super::driver::SimulatedDriver;
use super::socket::{SimulatedPipe, SimulatedSocket, What};
use super::{Faults, Random};
use crate::driver::{Addresses, ConnKey, Received};

/// Names one end of a simulated connection. Never used again within a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub(super) u32);

/// Connections that may wait on one listener; more are refused.
const BACKLOG: usize = 4096;
/// Bytes that a simulated pipe holds.
pub(super) const PIPE_BYTES: usize = 16 * 1024;

/// A simulated network. Cheap to clone; all clones are the same network.
#[derive(Clone)]
pub struct Network(Arc<Mutex<World>>);

impl Network {
    /// A network in which everything is drawn from `seed`.
    pub fn new(seed: u64, faults: Faults) -> Network {
        let mut random = Random::new(seed);
        let window = random.pick(&[300, 2_000, 16 * 1024, 64 * 1024, 200_000]);
        Network::with_window(seed, faults, window)
    }

    /// As [`Network::new`], with socket buffers of `window` bytes.
    pub fn with_window(seed: u64, faults: Faults, window: usize) -> Network {
        Network(Arc::new(Mutex::new(World::new(seed, faults, window))))
    }

    /// The driver of the one worker in this network.
    pub fn driver(&self) -> SimulatedDriver {
        SimulatedDriver::new(self.clone())
    }

    /// A listening socket for [`crate::driver::Driver::listen`].
    pub fn listening(&self, address: SocketAddr) -> SimulatedSocket {
        let index = self.world().listen(address, Owner::Nobody);
        SimulatedSocket::new(self.clone(), What::Listener(index))
    }

    /// Puts an actor into the world; its first step comes with the next turn.
    pub fn spawn(&self, actor: Box<dyn Actor>) {
        let mut world = self.world();
        let index = world.actors.len();
        world.actors.push(Some(actor));
        world.wake_actor(index);
    }

    /// Whether every actor is done.
    pub fn actors_are_done(&self) -> bool {
        self.world().actors.iter().flatten().all(|actor| actor.is_done())
    }

    /// What the actors that are not done wait for.
    pub fn unfinished(&self) -> Vec<String> {
        let world = self.world();
        world.actors.iter().flatten().filter(|actor| !actor.is_done()).map(|actor| actor.describe()).collect()
    }

    /// Virtual time since the world began.
    pub fn now(&self) -> Duration {
        self.world().now
    }

    /// Changes what may go wrong from here on, such as to let everything end.
    pub fn set_faults(&self, faults: Faults) {
        self.world().faults = faults;
    }

    /// What the engine still holds: attached connections, unattached sockets, pipes, listeners. An engine
    /// that has ended all its exchanges holds its idle connections and its listeners.
    pub fn held(&self) -> Held {
        self.world().held()
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        // A panic while the lock is held fails the test by itself; drops that follow must still work.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the engine's side of a network holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Connections with a key.
    pub attached: Vec<(ConnKey, Addresses)>,
    /// Accepted sockets that were neither attached nor dropped.
    pub unattached: usize,
    /// Pipes.
    pub pipes: usize,
    /// Listeners that accept or could.
    pub listeners: usize,
}

/// Whom an endpoint or listener belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Waits in a backlog, or is held as an unattached socket.
    Nobody,
    /// A connection of the driver.
    Driver(ConnKey),
    /// A listener of the driver.
    Accepting,
    Actor(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Refused,
    Connected,
    /// RST came or went.
    Broken,
    /// By its owner.
    Closed,
}

enum Segment {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

pub(super) struct Endpoint {
    pub owner: Owner,
    pub state: State,
    peer: Option<EndpointId>,
    addresses: Addresses,
    /// Arrived and not read.
    inbox: VecDeque<u8>,
    /// On their way to this endpoint, in order, with the time of arrival.
    arriving: VecDeque<(Duration, Segment)>,
    arriving_bytes: usize,
    fin_arrived: bool,
    fin_sent: bool,
    /// A send came up short: tell when there is room.
    pub wants_writable: bool,
    /// The owner was told that the end is known.
    pub hangup_told: bool,
    /// Events that the driver has not delivered yet.
    pub tell_readable: bool,
    pub tell_writable: bool,
}

impl Endpoint {
    pub fn hangup(&self) -> bool {
        self.fin_arrived || matches!(self.state, State::Broken | State::Refused)
    }
}

pub(super) struct Listener {
    pub address: SocketAddr,
    pub owner: Owner,
    pub open: bool,
    pub paused: bool,
    pub backlog: VecDeque<EndpointId>,
}

impl Listener {
    /// Whether a turn has something to accept here.
    pub fn has_waiting(&self) -> bool {
        !self.paused && !self.backlog.is_empty()
    }
}

/// What the calendar holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrival(EndpointId),
    Room(EndpointId),
    ConnectOutcome(EndpointId),
    TellReadable(EndpointId),
    Timer(usize),
}

pub(super) struct World {
    pub now: Duration,
    pub faults: Faults,
    random: Random,
    window: usize,
    pub endpoints: Vec<Endpoint>,
    pub listeners: Vec<Listener>,
    pub pipes: Vec<Option<VecDeque<u8>>>,
    calendar: BinaryHeap<Reverse<(Duration, u64, Happening)>>,
    next_happening: u64,
    next_port: u16,
    actors: Vec<Option<Box<dyn Actor>>>,
    woken_actors: VecDeque<usize>,
    /// Endpoints of the driver with something to tell.
    pub to_tell: Vec<EndpointId>,
    /// The driver's waker was called.
    pub woken: bool,
}

impl World {
    fn new(seed: u64, faults: Faults, window: usize) -> World {
        World {
            now: Duration::ZERO,
            faults,
            random: Random::new(seed),
            window,
            endpoints: Vec::new(),
            listeners: Vec::new(),
            pipes: Vec::new(),
            calendar: BinaryHeap::new(),
            next_happening: 0,
            next_port: 32_768,
            actors: Vec::new(),
            woken_actors: VecDeque::new(),
            to_tell: Vec::new(),
            woken: false,
        }
    }

    pub fn now(&self) -> Duration {
        self.now
    }

    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    pub fn endpoint(&mut self, id: EndpointId) -> &mut Endpoint {
        &mut self.endpoints[id.0 as usize]
    }

    pub fn addresses(&self, id: EndpointId) -> Addresses {
        self.endpoints[id.0 as usize].addresses
    }

    // Time.

    fn schedule(&mut self, at: Duration, what: Happening) {
        self.calendar.push(Reverse((at, self.next_happening, what)));
        self.next_happening += 1;
    }

    pub fn schedule_timer(&mut self, at: Duration, actor: usize) {
        self.schedule(at, Happening::Timer(actor));
    }

    /// When the next thing happens.
    pub fn next_due(&self) -> Option<Duration> {
        self.calendar.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Moves the clock to `time` and lets happen all that is due by then, actors included.
    pub fn advance(&mut self, time: Duration) {
        self.now = self.now.max(time);
        while let Some(Reverse((at, _, _))) = self.calendar.peek()
            && *at <= self.now
        {
            if let Some(Reverse((_, _, what))) = self.calendar.pop() {
                self.happen(what);
            }
        }
        self.run_actors();
    }

    /// Steps every woken actor until none is.
    pub fn run_actors(&mut self) {
        while let Some(index) = self.woken_actors.pop_front() {
            if let Some(mut actor) = self.actors[index].take() {
                actor.step(&mut Context { world: self, actor: index });
                self.actors[index] = Some(actor);
            }
        }
    }

    fn wake_actor(&mut self, index: usize) {
        if !self.woken_actors.contains(&index) {
            self.woken_actors.push_back(index);
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrival(id) => self.arrive(id),
            Happening::Room(id) => self.tell_room(id),
            Happening::ConnectOutcome(id) => self.decide_connect(id),
            Happening::TellReadable(id) => self.tell_readable_now(id),
            Happening::Timer(actor) => self.wake_actor(actor),
        }
    }

    /// Microseconds mostly, milliseconds at times.
    fn latency(&mut self) -> Duration {
        let bound = self.random.pick(&[20, 20, 200, 200, 2_000, 30_000]);
        Duration::from_micros(1 + self.random.below(bound))
    }

    // Telling owners.

    fn tell_readable(&mut self, id: EndpointId) {
        let late = self.faults.late_readiness;
        if matches!(self.endpoint(id).owner, Owner::Driver(_)) && self.random.chance(late) {
            let delay = Duration::from_micros(self.random.below(20_000));
            self.schedule(self.now + delay, Happening::TellReadable(id));
        } else {
            self.tell_readable_now(id);
        }
    }

    /// Tells what was there before somebody took the endpoint over.
    pub fn tell_if_readable(&mut self, id: EndpointId) {
        let endpoint = self.endpoint(id);
        if !endpoint.inbox.is_empty() || endpoint.hangup() {
            self.tell_readable(id);
        }
    }

    fn tell_readable_now(&mut self, id: EndpointId) {
        match self.endpoint(id).owner {
            Owner::Driver(_) => {
                let queued = self.is_queued(id);
                self.endpoint(id).tell_readable = true;
                if !queued {
                    self.to_tell.push(id);
                }
            }
            Owner::Actor(actor) => self.wake_actor(actor),
            Owner::Nobody | Owner::Accepting => {}
        }
    }

    fn tell_writable(&mut self, id: EndpointId) {
        self.endpoint(id).wants_writable = false;
        match self.endpoint(id).owner {
            Owner::Driver(_) => {
                let queued = self.is_queued(id);
                self.endpoint(id).tell_writable = true;
                if !queued {
                    self.to_tell.push(id);
                }
            }
            Owner::Actor(actor) => self.wake_actor(actor),
            Owner::Nobody | Owner::Accepting => {}
        }
    }

    fn is_queued(&mut self, id: EndpointId) -> bool {
        let endpoint = self.endpoint(id);
        endpoint.tell_readable || endpoint.tell_writable
    }

    // Listening and connecting.

    pub fn listen(&mut self, address: SocketAddr, owner: Owner) -> usize {
        self.listeners.push(Listener { address, owner, open: true, paused: false, backlog: VecDeque::new() });
        self.listeners.len() - 1
    }

    pub fn listen_as_actor(&mut self, address: SocketAddr, actor: usize) {
        self.listen(address, Owner::Actor(actor));
    }

    pub fn unlisten(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        listener.open = false;
        for waiting in std::mem::take(&mut listener.backlog) {
            self.close(waiting, true);
        }
    }

    pub fn unlisten_address(&mut self, address: SocketAddr) {
        for index in 0..self.listeners.len() {
            if self.listeners[index].address == address && self.listeners[index].open {
                self.unlisten(index);
            }
        }
    }

    pub fn accept_as_actor(&mut self, actor: usize) -> Option<EndpointId> {
        let owner = Owner::Actor(actor);
        let listener = self
            .listeners
            .iter_mut()
            .find(|listener| listener.owner == owner && !listener.backlog.is_empty())?;
        let id = listener.backlog.pop_front()?;
        self.endpoint(id).owner = owner;
        Some(id)
    }

    pub fn connect_as_actor(&mut self, to: SocketAddr, actor: usize) -> EndpointId {
        // Clients come from many places.
        let host = Ipv4Addr::new(192, 0, 2, 1 + self.random.below(250) as u8);
        self.connect(to, host, Owner::Actor(actor))
    }

    pub fn connect(&mut self, to: SocketAddr, from: Ipv4Addr, owner: Owner) -> EndpointId {
        let port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(1_024);
        let local = SocketAddr::from((from, port));
        let id = self.new_endpoint(owner, State::Connecting, Addresses { peer: to, local });
        self.endpoint(id).wants_writable = true;
        let unanswered = matches!(owner, Owner::Driver(_)) && self.random.chance(self.faults.unanswered);
        if !unanswered {
            let at = self.now + self.latency();
            self.schedule(at, Happening::ConnectOutcome(id));
        }
        id
    }

    fn new_endpoint(&mut self, owner: Owner, state: State, addresses: Addresses) -> EndpointId {
        let id = EndpointId(self.endpoints.len() as u32);
        self.endpoints.push(Endpoint {
            owner,
            state,
            peer: None,
            addresses,
            inbox: VecDeque::new(),
            arriving: VecDeque::new(),
            arriving_bytes: 0,
            fin_arrived: false,
            fin_sent: false,
            wants_writable: false,
            hangup_told: false,
            tell_readable: false,
            tell_writable: false,
        });
        id
    }

    fn decide_connect(&mut self, id: EndpointId) {
        if self.endpoint(id).state != State::Connecting {
            return;
        }
        let addresses = self.addresses(id);
        let by_driver = matches!(self.endpoint(id).owner, Owner::Driver(_));
        let refused = by_driver && self.random.chance(self.faults.refused);
        let listener = self.listeners.iter().position(|listener| {
            listener.open && listener.address == addresses.peer && listener.backlog.len() < BACKLOG
        });
        match listener {
            Some(listener) if !refused => {
                let mirrored = Addresses { peer: addresses.local, local: addresses.peer };
                let other = self.new_endpoint(Owner::Nobody, State::Connected, mirrored);
                self.endpoint(other).peer = Some(id);
                self.endpoint(id).peer = Some(other);
                self.endpoint(id).state = State::Connected;
                self.listeners[listener].backlog.push_back(other);
                if let Owner::Actor(actor) = self.listeners[listener].owner {
                    self.wake_actor(actor);
                }
            }
            _ => {
                self.endpoint(id).state = State::Refused;
                self.tell_readable(id);
            }
        }
        self.tell_writable(id);
    }

    // Bytes.

    pub fn recv(&mut self, id: EndpointId, into: &mut [u8]) -> io::Result<Received> {
        let limit = self.short(into.len(), self.faults.short_read);
        let endpoint = self.endpoint(id);
        if endpoint.inbox.is_empty() {
            return match endpoint.state {
                State::Closed => Err(ErrorKind::NotConnected.into()),
                State::Broken => Err(ErrorKind::ConnectionReset.into()),
                State::Refused => Err(ErrorKind::ConnectionRefused.into()),
                State::Connecting | State::Connected if endpoint.fin_arrived => Ok(Received::End),
                State::Connecting | State::Connected => Ok(Received::Drained(0)),
            };
        }
        let taken = limit.max(1).min(endpoint.inbox.len()).min(into.len());
        for (place, byte) in into.iter_mut().zip(endpoint.inbox.drain(..taken)) {
            *place = byte;
        }
        let more = !endpoint.inbox.is_empty() || taken == into.len() || endpoint.hangup_told;
        self.made_room(id);
        Ok(if more { Received::Bytes(taken) } else { Received::Drained(taken) })
    }

    /// The reader at `id` took bytes: its peer may be waiting for that.
    fn made_room(&mut self, id: EndpointId) {
        let Some(peer) = self.endpoint(id).peer else { return };
        if self.endpoint(peer).wants_writable {
            let at = self.now + self.latency();
            self.schedule(at, Happening::Room(peer));
        }
    }

    /// `limit`, or less by the fault's chance.
    fn short(&mut self, limit: usize, chance: u32) -> usize {
        if self.random.chance(chance) { self.random.index(limit + 1) } else { limit }
    }

    /// Bytes that `id` can send now.
    fn room(&mut self, id: EndpointId) -> usize {
        let Some(peer) = self.endpoint(id).peer else { return 0 };
        let window = self.window;
        let peer = self.endpoint(peer);
        window.saturating_sub(peer.inbox.len() + peer.arriving_bytes)
    }

    fn tell_room(&mut self, id: EndpointId) {
        let waits = self.endpoint(id).wants_writable;
        if waits && (self.room(id) > 0 || self.endpoint(id).state != State::Connected) {
            self.tell_writable(id);
        }
    }

    pub fn send(&mut self, id: EndpointId, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let endpoint = self.endpoint(id);
        match endpoint.state {
            State::Connecting => {
                endpoint.wants_writable = true;
                return Ok(0);
            }
            State::Refused | State::Broken => return Err(ErrorKind::BrokenPipe.into()),
            State::Closed => return Err(ErrorKind::NotConnected.into()),
            State::Connected if endpoint.fin_sent => return Err(ErrorKind::BrokenPipe.into()),
            State::Connected => {}
        }
        let by_driver = matches!(endpoint.owner, Owner::Driver(_));
        let whole: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.random.chance(self.faults.reset) {
            self.break_both(id);
            return Err(ErrorKind::ConnectionReset.into());
        }
        if by_driver && self.random.chance(self.faults.starved_send) {
            self.endpoint(id).wants_writable = true;
            let at = self.now + Duration::from_millis(5);
            self.schedule(at, Happening::Room(id));
            return Ok(0);
        }
        let room = self.room(id);
        let wish = whole.min(room);
        let accepted = self.short(wish, self.faults.short_write).min(wish);
        if accepted < whole {
            self.endpoint(id).wants_writable = true;
            if accepted < room {
                let at = self.now + self.latency();
                self.schedule(at, Happening::Room(id));
            }
        }
        let mut bytes: Vec<u8> = Vec::with_capacity(accepted);
        for buf in bufs {
            let wanted = accepted - bytes.len();
            bytes.extend_from_slice(&buf[..buf.len().min(wanted)]);
        }
        // Bytes may arrive cut anywhere.
        while !bytes.is_empty() {
            let cut =
                if self.random.chance(2_000) { 1 + self.random.index(bytes.len()) } else { bytes.len() };
            let rest = bytes.split_off(cut);
            self.transmit(id, Segment::Bytes(std::mem::replace(&mut bytes, rest)));
        }
        Ok(accepted)
    }

    fn transmit(&mut self, from: EndpointId, segment: Segment) {
        let Some(peer) = self.endpoint(from).peer else { return };
        let mut at = self.now + self.latency();
        if self.random.chance(self.faults.stall) {
            at += Duration::from_millis(self.random.between(100, 90_000));
        }
        let endpoint = self.endpoint(peer);
        if let Some((last, _)) = endpoint.arriving.back() {
            at = at.max(*last);
        }
        if let Segment::Bytes(bytes) = &segment {
            endpoint.arriving_bytes += bytes.len();
        }
        endpoint.arriving.push_back((at, segment));
        self.schedule(at, Happening::Arrival(peer));
    }

    fn arrive(&mut self, id: EndpointId) {
        let now = self.now;
        let endpoint = self.endpoint(id);
        // What an overtaking RST dropped leaves its arrivals in the calendar.
        if endpoint.arriving.front().is_none_or(|(at, _)| *at > now) {
            return;
        }
        let Some((_, segment)) = endpoint.arriving.pop_front() else { return };
        match segment {
            Segment::Bytes(bytes) => {
                endpoint.arriving_bytes -= bytes.len();
                match endpoint.state {
                    State::Connected => {
                        endpoint.inbox.extend(bytes);
                        self.tell_readable(id);
                    }
                    // Nobody reads this any more: RST.
                    State::Closed => self.transmit_reset(id),
                    State::Broken | State::Connecting | State::Refused => {}
                }
            }
            Segment::Fin => {
                endpoint.fin_arrived = true;
                if endpoint.state == State::Connected {
                    self.tell_readable(id);
                }
            }
            Segment::Reset => {
                if endpoint.state == State::Connected {
                    self.break_one(id);
                }
            }
        }
    }

    fn break_one(&mut self, id: EndpointId) {
        self.endpoint(id).state = State::Broken;
        self.tell_readable(id);
        if self.endpoint(id).wants_writable {
            self.tell_writable(id);
        }
    }

    /// The network breaks the connection under both ends.
    fn break_both(&mut self, id: EndpointId) {
        self.transmit_reset(id);
        if self.endpoint(id).state == State::Connected {
            self.break_one(id);
        }
    }

    /// Sends RST from `id`. It may overtake bytes: what a kernel has not sent when it resets is lost.
    fn transmit_reset(&mut self, id: EndpointId) {
        let Some(peer) = self.endpoint(id).peer else { return };
        if self.random.chance(5_000) {
            let endpoint = self.endpoint(peer);
            endpoint.arriving.clear();
            endpoint.arriving_bytes = 0;
        }
        self.transmit(id, Segment::Reset);
    }

    pub fn shutdown(&mut self, id: EndpointId) {
        let endpoint = self.endpoint(id);
        if endpoint.state == State::Connected && !endpoint.fin_sent {
            endpoint.fin_sent = true;
            self.transmit(id, Segment::Fin);
        }
    }

    pub fn close(&mut self, id: EndpointId, reset: bool) {
        let endpoint = self.endpoint(id);
        let before = std::mem::replace(&mut endpoint.state, State::Closed);
        let unread = !endpoint.inbox.is_empty();
        endpoint.inbox.clear();
        endpoint.owner = Owner::Nobody;
        if before == State::Connected {
            if reset || unread {
                self.transmit_reset(id);
            } else if !self.endpoint(id).fin_sent {
                self.transmit(id, Segment::Fin);
            }
        }
        if self.is_queued(id) {
            self.to_tell.retain(|queued| *queued != id);
            self.endpoint(id).tell_readable = false;
            self.endpoint(id).tell_writable = false;
        }
    }

    // Pipes.

    pub fn open_pipe(&mut self) -> Option<usize> {
        if self.random.chance(self.faults.no_pipe) {
            return None;
        }
        self.pipes.push(Some(VecDeque::new()));
        Some(self.pipes.len() - 1)
    }

    pub fn close_pipe(&mut self, index: usize) {
        self.pipes[index] = None;
    }

    /// Bytes in the pipe.
    pub fn pipe_bytes(&mut self, index: usize) -> &mut VecDeque<u8> {
        self.pipes[index].get_or_insert_default()
    }

    // Looking.

    fn held(&self) -> Held {
        let mut held = Held::default();
        for endpoint in &self.endpoints {
            if let Owner::Driver(conn) = endpoint.owner {
                held.attached.push((conn, endpoint.addresses));
            }
        }
        let in_backlog: usize = self.listeners.iter().map(|listener| listener.backlog.len()).sum();
        let unowned = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.owner == Owner::Nobody && endpoint.state != State::Closed)
            .count();
        held.unattached = unowned - in_backlog.min(unowned);
        held.pipes = self.pipes.iter().flatten().count();
        held.listeners = self
            .listeners
            .iter()
            .filter(|listener| listener.open && listener.owner == Owner::Accepting)
            .count();
        held
    }
}

impl Network {
    pub(super) fn open_pipe(&self) -> Option<SimulatedPipe> {
        let index = self.world().open_pipe()?;
        Some(SimulatedPipe::new(self.clone(), index))
    }
}
