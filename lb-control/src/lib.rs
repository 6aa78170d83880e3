//! Turns the outside world into routing snapshots: config, reload, the admin listener, metrics.
//!
//! It knows the side that moves bytes only through [`Workers`], which the binary fills.
#![forbid(unsafe_code)]

pub mod admin;
pub mod changes;
pub mod config;
pub mod control;
pub mod demo;
pub mod drain;
pub mod explain;
pub mod health;
pub mod metrics;
pub mod report;
mod resolve;
pub mod stats;
mod statsd;
mod traces;
pub mod watch;
mod workers;

pub use control::{Control, Reloaded, Setup};
pub use workers::{
    ArmReading, AttemptNumbers, BackendReading, ByReason, ByStatus, ClassReading, ExchangeNumbers,
    ListenerReading, QueueNumbers, QueueReading, Reading, ServerReading, SpanReading, WorkerReading, Workers,
};
