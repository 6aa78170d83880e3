//! Decides where a request goes.
#![forbid(unsafe_code)]

pub mod actions;
mod choose;
pub mod compile;
pub mod cookie;
mod cursors;
pub mod decide;
pub mod defaults;
pub mod explain;
mod find;
pub mod hash;
mod host;
mod jar;
pub mod live;
mod network;
pub mod path;
mod permit;
mod pick;
mod retry;
mod session;
mod share;
pub mod snapshot;
pub mod source;
pub mod spec;
mod text;
mod view;

pub use compile::{Compiled, Place, Problem, Severity, Step, compile};
pub use cursors::Cursors;
pub use decide::{ArmReason, Decision, PickReason, Refusal, RefusalReason, Verdict, decide};
pub use explain::{Explanation, explain};
pub use hash::{ContentHash, SecretKey};
pub use live::{Health, Identity, Live, Outcome, ServerCounters, ServerLive, Table, Why};
pub use network::{Network, NetworkError};
pub use permit::Permit;
pub use retry::{RETRIES_SAVED_MAX, RetryBudget};
pub use share::{Share, ShareError};
pub use snapshot::{ArmIndex, BackendIndex, RouteIndex, ServerIndex, Snapshot, Timeouts};
pub use source::{ListenerRules, Source};
pub use spec::Spec;
pub use text::nearest;
pub use view::{Fields, RequestView};
