//! The handle of a simulated network.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Addresses;
use super::actor::Actor;
use super::driver::{ENGINE_HOST, SimulatedDriver};
use super::socket::{SimulatedPipe, SimulatedSocket, What};
use super::stream::Endpoint;
use super::world::{Owner, State, World};
use super::{Faults, Random};
use crate::driver::ConnKey;

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

    /// The driver of a worker in this network. Several take turns; time passes when none has anything to do.
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

    /// Tells on stderr what happens from here on: for the replay of a seed.
    pub fn trace(&self) {
        self.world().traced = true;
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

    /// How many connections to this address the engine has made, or is making, and not closed.
    pub fn engine_connections_to(&self, address: SocketAddr) -> usize {
        let world = self.world();
        let is_one = |endpoint: &&Endpoint| {
            let Addresses { peer, local } = endpoint.addresses;
            peer == address && local.ip() == ENGINE_HOST && endpoint.state != State::Closed
        };
        world.endpoints.iter().filter(is_one).count()
    }

    pub(super) fn open_pipe(&self) -> Option<SimulatedPipe> {
        let index = self.world().open_pipe()?;
        Some(SimulatedPipe::new(self.clone(), index))
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
