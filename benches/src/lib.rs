//! Side-by-side load against peers: how much CPU one request costs in `lb`, in HAProxy, in nginx and in a
//! blind relay that parses nothing, measured in turn on the same core with the same origin and load.
//!
//! `benches/compare` is the command; `docs/performance.md` tells the method. The way of a run:
//!
//! [`plan`] (rows and order) → [`subject`] (configuration files, start, stop) → [`check`] (are the answers
//! right?) → [`wrk`] or [`idle`] (load) → [`process`] (CPU time and memory) → [`statistics`] →
//! [`report`].
//!
//! [`checks`] is a run of its own: what health checks cost beside a minimal [`prober`].
//!
//! [`flood`] is another: what a flood on one priority class does to the others, asked for by a [`pacer`].
//!
//! [`relay`], [`prober`], [`pacer`] and [`origin`] run as processes of their own, started by the same binary.

pub mod check;
pub mod checks;
pub mod client;
pub mod flood;
pub mod host;
pub mod idle;
pub mod launch;
pub mod origin;
pub mod pacer;
pub mod plan;
pub mod prober;
pub mod process;
pub mod relay;
pub mod report;
pub mod run;
pub mod statistics;
pub mod subject;
pub mod wrk;

/// What went wrong, for the person in front of the terminal.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What everything here returns.
pub type Result<T> = std::result::Result<T, Error>;
