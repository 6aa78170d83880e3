//! Exchanges of sampled traces, told to an OpenTelemetry collector: OTLP over HTTP, in protobuf.
//!
//! ```text
//! workers' buffers ─ take (span.rs) ─► waiting ─ batch (message.rs) ─► attempt (client.rs) ─► collector
//!                                                      ▲                   │ not now
//!                                                      └──── pace.rs ◄─────┘
//! ```
//!
//! Nobody waits for a collector: what finds no room is dropped, what is not taken in time has failed, and both are
//! counted. A span may be delivered twice, where the answer to the first delivery was lost.

#[cfg(feature = "otlp")]
mod client;
#[cfg(feature = "otlp")]
mod export;
#[cfg(not(feature = "otlp"))]
#[path = "absent.rs"]
mod export;
#[cfg(feature = "otlp")]
mod message;
#[cfg(feature = "otlp")]
mod pace;
#[cfg(feature = "otlp")]
mod span;

use std::sync::atomic::AtomicU64;

pub(crate) use self::export::Exporter;

/// Spans, by what became of them.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// The collector took them.
    pub(crate) sent: AtomicU64,
    /// It did not: it refused them, or was not there for too long.
    pub(crate) failed: AtomicU64,
    /// Too many waited already. Those that not even a worker had room for are the workers' count.
    pub(crate) dropped: AtomicU64,
}
