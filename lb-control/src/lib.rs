//! Turns the outside world into routing snapshots: config, reload, the admin listener, metrics.
//!
//! It knows the side that moves bytes only through [`Workers`], which the binary fills.
#![forbid(unsafe_code)]

pub mod admin;
pub mod config;
pub mod control;
pub mod demo;
pub mod explain;
pub mod report;
mod workers;

pub use control::{Control, Reloaded, Setup};
pub use workers::{Reading, WorkerReading, Workers};
