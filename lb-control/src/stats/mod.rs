//! Everything that a person looks at while something changes, in one document: `/stats`, which `lb top` draws.
//!
//! [`document`] has its types, which whoever reads it can use too. Rates and percentiles are about the last ten seconds:
//! of arms as the watch keeps them ([`crate::watch`]), of servers, listeners and workers as `keeping` does.
//!
//! Bounds: [`SERVERS_KEPT_MAX`] servers have numbers of the last seconds, [`ROUTES_SHOWN_MAX`] routes,
//! [`BACKENDS_SHOWN_MAX`] backends and [`SERVERS_SHOWN_MAX`] servers are shown; how many more there are is said.

pub mod document;
mod gather;
pub(crate) mod keeping;
mod lately;
mod splits;

pub(crate) use gather::stats;

/// Servers, by their readings, of which the last seconds are kept, each in at most 8 KiB.
pub const SERVERS_KEPT_MAX: usize = 10_000;

/// Routes in the document at most, in the order of the file.
pub const ROUTES_SHOWN_MAX: usize = 2_000;

/// Backends in the document at most, in the order of the file.
pub const BACKENDS_SHOWN_MAX: usize = 2_000;

/// Servers in the document at most, of all backends together.
pub const SERVERS_SHOWN_MAX: usize = 10_000;
