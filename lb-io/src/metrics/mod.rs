//! What is counted, for whom, and how it is read.
//!
//! # Who writes and who reads
//! Every worker has series of its own for every listener, arm and server, and is the only one to write them: adding
//! is a load and a store, with neither lock nor locked instruction. Whoever reads adds the workers' numbers up; no
//! worker notices, and what is read may be a moment old. A set of numbers is not read at one instant: each only
//! grows (but for those under way), and that is all that may be relied on.
//!
//! # Identity
//! A series belongs to names: an arm's to (route, arm, backend), a server's to (backend, name, address). So counts
//! survive every reload. When a table is published, control has the places of its arms and servers looked up once
//! ([`Layout`]); on the way of a request there is an index. What has left the configuration is dropped when nobody
//! decides by a table that has it and its last exchange has ended; a backend keeps what its former servers and arms
//! have counted, so that its totals never go back.
//!
//! # Reading
//! [`Metrics::workers`], with their listeners, is small. [`Metrics::arms`] has what a comparison of canary and
//! stable needs and may be called every second; [`Metrics::servers`] and [`Metrics::backends`] are for who wants
//! everything. Differences between two readings ([`Histogram::since`]) are what happened in between.
//!
//! [`Histogram::since`]: lb_core::histogram::Histogram::since

pub mod histogram;
pub mod meter;
pub mod read;
pub mod reasons;
pub mod recorder;
pub mod registry;
pub mod series;
mod slots;
pub mod statuses;

pub use meter::{Meter, Phases};
pub use recorder::Recorder;
pub use registry::{Layout, Metrics, Options, Published};
