//! The way of a request: accept → parse → find, choose, pick → acquire → forward → relay → record → release.
//!
//! [`exchange`] is the conductor: it holds the order of the steps and the branches between them. The steps:
//! [`parse`] reads a request head and has the core decide, [`turn`] has higher classes go first, [`take`] waits for a full
//! server where that must be, [`acquire`] gets a connection to the server, [`forward`] sends the request and receives the
//! response (no slower than `pace.rs` allows), `retry.rs` finds another server where that must be (`hold.rs` keeps what is sent
//! again), [`relay`] moves one body ([`splice`] the long ones), [`tunnel`] what follows a 101, [`reply`] makes our own
//! responses, [`record`] ends an exchange in one log line and count.

pub mod acquire;
pub mod exchange;
pub mod forward;
mod hold;
mod pace;
pub mod parse;
pub mod pool;
pub mod record;
pub mod relay;
pub mod reply;
mod retry;
pub mod splice;
pub mod take;
pub mod tunnel;
pub mod turn;
