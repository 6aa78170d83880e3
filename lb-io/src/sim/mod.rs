//! A network that does not exist: virtual time, seeds, faults.
//!
//! [`Network`] holds endpoints, listeners and scripted [`Actor`]s in one deterministic world. Its
//! [`Network::driver`] is the third driver of the engine, beside io_uring and epoll: the same engine code
//! runs over it, and [`crate::driver::Driver::turn`] does not wait but moves the world's clock to the next
//! thing that is due. Everything that varies (latency, how bytes are cut, order of events, faults) is drawn
//! from one seed, so a seed is a bug report.
//!
//! What it reproduces of TCP: bounded buffers with back-pressure, order within a direction, half-close, FIN
//! after the bytes, RST for bytes that reach a closed socket and for closing with unread bytes (which may
//! overtake bytes under way), refusal, backlog. What it leaves out: congestion, urgent data, addresses in use.

mod actor;
mod driver;
mod faults;
mod network;
mod random;
mod socket;
mod stream;
mod world;

pub use actor::{Actor, Context, Read};
pub use driver::SimulatedDriver;
pub use faults::Faults;
pub use network::{Held, Network};
pub use random::Random;
pub use socket::{SimulatedPipe, SimulatedSocket};
pub use stream::Addresses;
pub use world::EndpointId;
