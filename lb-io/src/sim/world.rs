//! The state of a simulated network: its clock, its calendar, who listens and who is told.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::actor::{Actor, Context};
use super::network::Held;
use super::stream::Endpoint;
use super::{Addresses, Faults, Random};
use crate::driver::ConnKey;

/// Names one end of a simulated connection. Never used again within a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(pub(super) u32);

/// Connections that may wait on one listener; more are refused.
const BACKLOG: usize = 4096;
/// Bytes that a simulated pipe holds.
pub(super) const PIPE_BYTES: usize = 16 * 1024;

/// Whom an endpoint or listener belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Waits in a backlog, or is held as an unattached socket.
    Nobody,
    /// A connection of a driver.
    Driver(usize, ConnKey),
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
pub(super) enum Happening {
    Arrival(EndpointId),
    Room(EndpointId),
    ConnectOutcome(EndpointId),
    TellReadable(EndpointId),
    Timer(usize),
}

pub(super) struct World {
    pub now: Duration,
    pub faults: Faults,
    pub random: Random,
    pub window: usize,
    pub endpoints: Vec<Endpoint>,
    pub listeners: Vec<Listener>,
    pub pipes: Vec<Option<VecDeque<u8>>>,
    calendar: BinaryHeap<Reverse<(Duration, u64, Happening)>>,
    next_happening: u64,
    next_port: u16,
    pub actors: Vec<Option<Box<dyn Actor>>>,
    woken_actors: VecDeque<usize>,
    /// Endpoints of the drivers with something to tell.
    pub to_tell: Vec<EndpointId>,
    /// Whether a driver's waker was called, by driver.
    pub woken: Vec<bool>,
    pub traced: bool,
}

impl World {
    pub fn new(seed: u64, faults: Faults, window: usize) -> World {
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
            woken: Vec::new(),
            traced: false,
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

    pub fn schedule(&mut self, at: Duration, what: Happening) {
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

    pub fn wake_actor(&mut self, index: usize) {
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
    pub fn latency(&mut self) -> Duration {
        let bound = self.random.pick(&[20, 20, 200, 200, 2_000, 30_000]);
        Duration::from_micros(1 + self.random.below(bound))
    }

    pub fn trace(&self, id: EndpointId, what: impl FnOnce() -> String) {
        if self.traced {
            let endpoint = &self.endpoints[id.0 as usize];
            let who = match endpoint.owner {
                Owner::Driver(driver, conn) => format!("engine {driver} {conn:?}"),
                Owner::Actor(actor) => format!("actor {actor}"),
                Owner::Nobody | Owner::Accepting => "nobody".to_owned(),
            };
            eprintln!("{:>14?} {} ({who}, e{}) {}", self.now, endpoint.addresses.peer, id.0, what());
        }
    }

    // Telling owners.

    pub fn tell_readable(&mut self, id: EndpointId) {
        let late = self.faults.late_readiness;
        if matches!(self.endpoint(id).owner, Owner::Driver(..)) && self.random.chance(late) {
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
            Owner::Driver(..) => {
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

    pub fn tell_writable(&mut self, id: EndpointId) {
        self.endpoint(id).wants_writable = false;
        match self.endpoint(id).owner {
            Owner::Driver(..) => {
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

    pub fn is_queued(&mut self, id: EndpointId) -> bool {
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
        let unanswered = matches!(owner, Owner::Driver(..)) && self.random.chance(self.faults.unanswered);
        if !unanswered {
            let at = self.now + self.latency();
            self.schedule(at, Happening::ConnectOutcome(id));
        }
        id
    }

    fn new_endpoint(&mut self, owner: Owner, state: State, addresses: Addresses) -> EndpointId {
        let id = EndpointId(self.endpoints.len() as u32);
        self.endpoints.push(Endpoint::new(owner, state, addresses));
        id
    }

    fn decide_connect(&mut self, id: EndpointId) {
        if self.endpoint(id).state != State::Connecting {
            return;
        }
        let addresses = self.addresses(id);
        let by_driver = matches!(self.endpoint(id).owner, Owner::Driver(..));
        let refused = by_driver && self.random.chance(self.faults.refused);
        let takes = |listener: &Listener| {
            listener.open && listener.address == addresses.peer && listener.backlog.len() < BACKLOG
        };
        let mut listeners: Vec<usize> =
            (0..self.listeners.len()).filter(|at| takes(&self.listeners[*at])).collect();
        // Several that share an address take it in turns by lot, as with SO_REUSEPORT.
        if listeners.len() > 1 {
            listeners = vec![self.random.pick(&listeners)];
        }
        let listener = listeners.first().copied();
        match listener {
            Some(listener) if !refused => {
                let mirrored = Addresses { peer: addresses.local, local: addresses.peer };
                let other = self.new_endpoint(Owner::Nobody, State::Connected, mirrored);
                self.endpoint(other).peer = Some(id);
                self.endpoint(id).peer = Some(other);
                self.endpoint(id).state = State::Connected;
                self.trace(id, || format!("is connected to e{}", other.0));
                self.listeners[listener].backlog.push_back(other);
                if let Owner::Actor(actor) = self.listeners[listener].owner {
                    self.wake_actor(actor);
                }
            }
            _ => {
                self.endpoint(id).state = State::Refused;
                self.trace(id, || "is refused".to_owned());
                self.tell_readable(id);
            }
        }
        self.tell_writable(id);
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

    pub fn held(&self) -> Held {
        let mut held = Held::default();
        for endpoint in &self.endpoints {
            if let Owner::Driver(_, conn) = endpoint.owner {
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
