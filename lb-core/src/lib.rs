//! Decides where a request goes: no I/O, no clock, no threads, no randomness of its own. Time, random bits and
//! bytes come in as arguments; a decision depends on nothing else.
//!
//! The way of a request through this crate, each step in the file of its name:
//!
//! **find** its route (`find/`: host, path, method, headers, query, cookies, source) → **choose** an arm (`choose.rs`:
//! the testers' word, the mark, the share) → **pick** a server (`pick/`: stickiness, then the backend's policy).
//! `decide.rs` conducts; [`explain()`](explain()) is the same code with a recorder.
//!
//! There are four kinds of types:
//! - **specs** ([`spec`]) say what is wanted: plain data, unchecked;
//! - [`compile()`] makes a [`Snapshot`] of one, or tells everything that is wrong with it;
//! - a [`Table`] is a snapshot with the live state of its servers ([`ServerLive`]), which outlives snapshots;
//! - a [`Decision`] is where one request goes, without effect until it is taken; the [`Permit`] that taking gives
//!   is finished once, with the [`Outcome`].
//!
//! [`guide`] is prose, from the first decision to health, and the `examples` folder has whole programs. [`Handle`] is for
//! runtimes with many threads, [`Monitor`] for health.
//!
//! # Order of calls
//! 1. [`decide()`], then [`Verdict::charge`] where routes have [rates](guide::rates), then [`Decision::take`]. `None` of it
//!    says that the server is full ([`ServerSpec::max_requests`](spec::ServerSpec::max_requests),
//!    [`max_connections`](spec::ServerSpec::max_connections)): wait and ask `again`, or answer 503.
//! 2. Connect ([`ServerLive::connect`] counts it, where connections are bounded) and send; [`Permit::sent`] when the whole
//!    request was sent, or clients that upload slowly make slow servers.
//! 3. [`Permit::answered`] when the response's head is there, or clients that download slowly do: the time between the two
//!    is what `peak_ewma` and outliers go by.
//! 4. [`Decision::write_cookies`] when the response's head is written to the client.
//! 5. [`Permit::finish`] when its body has ended: until then the server works.
//!
//! Where the attempt failed and another is safe: `finish`, then [`Decision::again`], and on from `take`.
//!
//! ```
//! use lb_core::spec::{BackendSpec, RouteSpec, ServerSpec, Spec};
//! use lb_core::{Cursors, Outcome, RequestView, Table, Verdict, compile, decide};
//! use std::time::Duration;
//!
//! let server = |name: &str, port| ServerSpec::new(name, ([127, 0, 0, 1], port).into());
//! let spec = Spec {
//!     routes: vec![RouteSpec { hosts: vec!["shop.example.com".to_owned()], ..RouteSpec::new("shop", "app") }],
//!     backends: vec![BackendSpec::new("app", [server("a", 8001), server("b", 8002)])],
//!     ..Spec::default()
//! };
//! let compiled = compile(&spec)?; // or every problem of the spec, at once
//! let table = Table::new(compiled.snapshot, None);
//! let mut cursors = Cursors::default();
//!
//! let request = RequestView {
//!     listener: 0,
//!     method: b"GET",
//!     host: b"shop.example.com",
//!     path: b"/cart/7",
//!     query: None,
//!     fields: &[("accept", "text/html")],
//!     source: "192.0.2.1".parse()?,
//!     secure: false,
//! };
//! let (now, random) = (Duration::from_secs(1), 0x5eed); // of the caller's clock and generator
//! match decide(&table, &cursors, &request, now, random) {
//!     Verdict::Forward(decision) => {
//!         // `None` says that the server has as many requests as it may.
//!         let mut permit = decision.take(&table, &mut cursors, now).expect("there is no such bound");
//!         assert_eq!(permit.address().port(), 8001);
//!         // Connect, send, and when the response's head is there:
//!         permit.answered(now);
//!         let mut head = Vec::new();
//!         decision.write_cookies(&table, request.secure, &mut head);
//!         permit.finish(Outcome::Responded { status: 200 }, now);
//!     }
//!     Verdict::Answer(route) => println!("a redirect or reply of {}", table.snapshot.route(route).name),
//!     Verdict::Refuse(refusal) => println!("{} {}", refusal.status(), refusal.word()),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Words
//! The engine, the file and its keys, logs and `lb` are of the proxy that uses this crate; where documentation mentions
//! them, they belong to it, and nothing here needs them.
//!
//! # Promises
//! - A decision allocates nothing, takes no lock, and costs the same with ten routes and with ten thousand.
//! - Whatever processes must agree on (shares, marks, sticky cookies, rendezvous hashing) is one specified, keyed
//!   function ([`hash`]) with test vectors.
//! - Nothing that a client sends can cause a panic. Indices and decisions belong to the table they came from; using
//!   them with another is the caller's mistake, and each function says what happens then.
//! - Everything has a bound; [`defaults`] lists them.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod actions;
mod bytes;
mod choose;
mod class;
pub mod compile;
pub mod cookie;
mod cursors;
pub mod decide;
pub mod defaults;
pub mod explain;
mod expression;
mod find;
pub mod guide;
pub mod handle;
pub mod hash;
pub mod health;
pub mod histogram;
mod host;
mod jar;
pub mod live;
mod map;
mod network;
pub mod outlier;
pub mod path;
mod permit;
mod pick;
mod rate;
mod retry;
mod session;
mod share;
pub mod snapshot;
pub mod source;
pub mod spec;
mod sync;
mod text;
mod view;

pub use compile::{CompileError, Compiled, Place, Problem, Severity, Step, compile};
pub use cursors::Cursors;
pub use decide::{ArmReason, Decision, PickReason, Refusal, RefusalReason, Verdict, decide};
pub use explain::{Explanation, explain};
pub use handle::{Handle, Reader};
pub use hash::{ContentHash, SecretKey};
pub use health::Monitor;
pub use live::{Connection, Health, Identity, Live, Outcome, ServerCounters, ServerLive, Table, Why};
pub use network::{Network, NetworkError};
pub use permit::Permit;
pub use retry::{RETRIES_SAVED_MAX, RetryBudget, RetryRules, RetryStatuses, is_idempotent};
pub use share::{Share, ShareError};
pub use snapshot::{ArmIndex, BackendIndex, RouteIndex, ServerIndex, Snapshot, Timeouts};
pub use source::{ListenerRules, Source};
pub use spec::Spec;
pub use text::nearest;
pub use view::{Fields, RequestView};

/// The examples of the README, tested like all others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
