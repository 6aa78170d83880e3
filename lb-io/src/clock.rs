//! The one clock of a process: monotonic, shared by all workers and the control side, because live state
//! that they share holds times.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Time since this was first asked.
pub fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
