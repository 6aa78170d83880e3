//! What the engine holds of the simulated network: closed when dropped, like a descriptor.

use std::fmt;

use super::network::Network;
use super::world::EndpointId;

/// A listening or connected socket that no connection key names. Dropping it closes it.
pub struct SimulatedSocket {
    network: Network,
    what: Option<What>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Stream(EndpointId),
    Listener(usize),
}

impl SimulatedSocket {
    pub(super) fn new(network: Network, what: What) -> SimulatedSocket {
        SimulatedSocket { network, what: Some(what) }
    }

    /// Gives up the duty to close.
    pub(super) fn release(mut self) -> Option<What> {
        self.what.take()
    }
}

impl Drop for SimulatedSocket {
    fn drop(&mut self) {
        match self.what.take() {
            Some(What::Stream(id)) => self.network.world().close(id, false),
            Some(What::Listener(index)) => self.network.world().unlisten(index),
            None => {}
        }
    }
}

impl fmt::Debug for SimulatedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedSocket({:?})", self.what)
    }
}

/// A pipe of the simulated network. Dropping it closes it, with what it holds.
pub struct SimulatedPipe {
    network: Network,
    pub(super) index: usize,
}

impl SimulatedPipe {
    pub(super) fn new(network: Network, index: usize) -> SimulatedPipe {
        SimulatedPipe { network, index }
    }
}

impl Drop for SimulatedPipe {
    fn drop(&mut self) {
        self.network.world().close_pipe(self.index);
    }
}

impl fmt::Debug for SimulatedPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedPipe({})", self.index)
    }
}
