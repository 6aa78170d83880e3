//! Moves bytes: a thread-per-core proxy engine over io_uring, epoll or a simulated network.
//!
//! [`engine::Engine`] is all that a program needs. Below it, a [`worker::Worker`] runs the tasks of one
//! thread over a [`driver::Driver`]; [`proxy`] is the way of a request through it; [`http1`] knows the
//! protocol and nothing else; [`sys`] holds every line of unsafe code.

#![deny(unsafe_code)]

pub mod clock;
pub mod counters;
pub mod driver;
pub mod engine;
pub mod handover;
pub mod http1;
pub mod log;
pub mod metrics;
pub mod proxy;
pub mod reason;
pub mod sim;
pub mod spans;
#[allow(unsafe_code)]
pub mod sys;
pub mod trace;
pub mod worker;
