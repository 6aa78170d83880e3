//! Clients and servers that live in the simulated network beside the engine.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::Random;
use super::world::{EndpointId, World};
use crate::driver::Received;

/// A scripted peer. The world calls [`Actor::step`] whenever one of its endpoints may have something to
/// read, may take more, was accepted or was broken, and when its timer is due. A step does whatever can be
/// done now and returns; it may find nothing to do.
pub trait Actor: Send {
    /// Does what can be done now.
    fn step(&mut self, context: &mut Context<'_>);

    /// Nothing more will come from this actor. A harness waits until all are done.
    fn is_done(&self) -> bool;

    /// What it is waiting for, for the message of a failed run.
    fn describe(&self) -> String {
        String::new()
    }
}

/// What a read brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// Bytes, at least one.
    Bytes(Vec<u8>),
    /// Nothing for now.
    Pending,
    /// The other side ended in order.
    End,
    /// The connection is broken (RST), or could not be made.
    Broken,
}

/// The network as one actor sees it, for the time of a step.
pub struct Context<'a> {
    pub(super) world: &'a mut World,
    pub(super) actor: usize,
}

impl Context<'_> {
    /// Virtual time.
    pub fn now(&self) -> Duration {
        self.world.now()
    }

    /// The world's chance.
    pub fn random(&mut self) -> &mut Random {
        self.world.random()
    }

    /// Calls [`Actor::step`] at this time, or a moment from now if that is over: time moves on whatever an
    /// actor asks for. Each call counts.
    pub fn wake_at(&mut self, time: Duration) {
        let soonest = self.world.now() + Duration::from_micros(10);
        self.world.schedule_timer(time.max(soonest), self.actor);
    }

    /// Listens on `address`. Connections that come are taken with [`Context::accept`].
    pub fn listen(&mut self, address: SocketAddr) {
        self.world.listen_as_actor(address, self.actor);
    }

    /// Closes the listener on `address`: further connects are refused, waiting ones reset.
    pub fn unlisten(&mut self, address: SocketAddr) {
        self.world.unlisten_address(address);
    }

    /// The next connection that came in on one of this actor's listeners.
    pub fn accept(&mut self) -> Option<EndpointId> {
        self.world.accept_as_actor(self.actor)
    }

    /// Begins to connect. Bytes can be sent at once; a failure is told by [`Context::read`].
    pub fn connect(&mut self, to: SocketAddr) -> EndpointId {
        self.world.connect_as_actor(to, self.actor)
    }

    /// The address that `endpoint` has here, on this actor's side.
    pub fn local_address(&self, endpoint: EndpointId) -> SocketAddr {
        self.world.addresses(endpoint).local
    }

    /// Sends what there is room for; 0 while connecting or without room. A broken connection swallows.
    pub fn send(&mut self, endpoint: EndpointId, bytes: &[u8]) -> usize {
        self.world.send(endpoint, &[io::IoSlice::new(bytes)]).unwrap_or(bytes.len())
    }

    /// Receives up to `limit` bytes.
    pub fn read(&mut self, endpoint: EndpointId, limit: usize) -> Read {
        let mut buffer = vec![0; self.world.unread(endpoint).clamp(1, limit)];
        match self.world.recv(endpoint, &mut buffer) {
            Ok(Received::Drained(0)) => Read::Pending,
            Ok(Received::Bytes(n) | Received::Drained(n)) => {
                buffer.truncate(n);
                Read::Bytes(buffer)
            }
            Ok(Received::End) => Read::End,
            Err(_) => Read::Broken,
        }
    }

    /// Ends this side's sending.
    pub fn shutdown(&mut self, endpoint: EndpointId) {
        self.world.shutdown(endpoint);
    }

    /// Closes, with RST if `reset` or if unread bytes wait.
    pub fn close(&mut self, endpoint: EndpointId, reset: bool) {
        self.world.close(endpoint, reset);
    }
}
