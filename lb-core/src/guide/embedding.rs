//! Embedding the decisions.
//!
//! lb-core answers one question: where does this request go, and what follows from how that ended. It opens no socket,
//! reads no clock, draws no random number and starts no thread; all of that is yours and comes in as arguments. So it fits
//! under hyper, tonic, a proxy of your own or a unit test, and behaves the same in each.
//!
//! # One thread, one request
//!
//! What is wanted is a [`Spec`]: plain data, every field with a default. [`compile`] makes a [`Snapshot`] of it or returns
//! every problem at once, each with its place and a stable code ([`CompileError`], which `?` takes). A [`Table`] is a snapshot with what its servers are doing.
//!
//! ```
//! use lb_core::spec::{BackendSpec, RouteSpec, ServerSpec, Spec};
//! use lb_core::{Cursors, Outcome, RequestView, Table, Verdict, compile, decide};
//! use std::time::Duration;
//!
//! // `new` takes what nobody can do without; what else there is to say stands beside it.
//! let server = |name: &str, port| ServerSpec::new(name, ([127, 0, 0, 1], port).into());
//! let spec = Spec {
//!     routes: vec![RouteSpec { hosts: vec!["shop.example.com".to_owned()], ..RouteSpec::new("shop", "app") }],
//!     backends: vec![BackendSpec::new("app", [server("a", 8001), server("b", 8002)])],
//!     ..Spec::default()
//! };
//! let compiled = match compile(&spec) {
//!     Ok(compiled) => compiled,
//!     Err(error) => {
//!         for problem in &error.problems {
//!             eprintln!("{problem}"); // error[LB012] at route[0].backend (of `spec.routes[0]`): ...
//!         }
//!         return;
//!     }
//! };
//! let table = Table::new(compiled.snapshot, None);
//! let mut cursors = Cursors::new(0x5eed); // each thread's own, with a seed of its own
//!
//! let headers = [("accept", "text/html")]; // or whatever implements `Fields`
//! let request = RequestView {
//!     listener: 0,
//!     method: b"GET",
//!     host: b"shop.example.com",
//!     path: b"/cart/7",
//!     query: None,
//!     fields: &headers,
//!     source: [192, 0, 2, 1].into(),
//!     secure: false,
//! };
//! let now = || Duration::from_secs(1); // your clock: the time since a start of your choice
//! let random = 0x0123_4567_89ab_cdef_u128; // 128 fresh random bits
//! match decide(&table, &cursors, &request, now(), random) {
//!     Verdict::Forward(decision) => {
//!         // `None` says that the server has as many requests as it may (`max_requests`; there is no such bound here).
//!         let Some(mut permit) = decision.take(&table, &mut cursors, now()) else { return };
//!         // Connect to `permit.address()`, send, and when the response's head is there:
//!         permit.answered(now());
//!         let mut lines = Vec::new();
//!         decision.write_cookies(&table, request.secure, &mut lines); // none here
//!         // And when its body has ended:
//!         permit.finish(Outcome::Responded { status: 200 }, now());
//!     }
//!     Verdict::Answer(route) => { /* a redirect or a fixed reply: `Route::target` has it */ }
//!     Verdict::Refuse(refusal) => { /* answer with `refusal.status()`, log `refusal.word()` */ }
//! }
//! ```
//!
//! A decision has no effect until it is taken, and costs nothing to drop. The [`Permit`] counts as in flight until it is
//! finished, so hold it for as long as the server works for you, also across `await`. If it is dropped, because the client
//! left or a future was cancelled, it counts as abandoned: you cannot forget it.
//!
//! # Your own header type
//!
//! [`Fields`] is one method. For the map of the `http` crate, which is hyper's, too (your crate needs `http` for it; lb-core
//! does not depend on it):
//!
//! ```
//! use lb_core::Fields;
//!
//! # mod http { pub type HeaderMap = hyper::HeaderMap; }
//! struct Headers<'a>(&'a http::HeaderMap);
//!
//! impl Fields for Headers<'_> {
//!     fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
//!         self.0.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
//!     }
//! }
//! ```
//!
//! # Many threads
//!
//! A [`Handle`] holds the current table. One side publishes; live state goes on by identity (backend, entry name, address),
//! so attempts under way, health and counters survive. The other side has a [`Reader`] per thread or task, whose question
//! costs one atomic load while nothing changes.
//!
//! ```
//! use lb_core::spec::Spec;
//! use lb_core::{Handle, compile};
//! use std::thread;
//!
//! # fn main() -> Result<(), lb_core::CompileError> {
//! let handle = Handle::new(compile(&Spec::default())?.snapshot);
//! thread::scope(|scope| {
//!     for number in 1..=4 {
//!         let mut reader = handle.reader(number); // different seeds: see `Handle::reader`
//!         scope.spawn(move || {
//!             let (table, cursors) = reader.current(); // per request
//!             // decide(table, cursors, ...), decision.take(table, cursors, ...)
//!             # let _ = (table, cursors);
//!         });
//!     }
//!     handle.publish(compile(&Spec::default()).expect("it compiled before").snapshot);
//! });
//! # Ok(())
//! # }
//! ```
//!
//! Under tokio a task may wake on another thread, so give each connection's task its own reader, or keep a few behind a
//! lock that is never held across `await`. A decision belongs to its table: where you need it after waiting (for cookies,
//! for another attempt), keep an `Arc` of that table until the response's head is written, and no longer. Between several
//! tables of one handle permits and counters are the same.
//!
//! # Another attempt
//!
//! Whether one is safe is yours to know: nothing was sent, or the request may be sent twice
//! ([`RetryRules::may_repeat`] says it of the method, the body is yours) and no byte of the response has gone to the client.
//! Whether it is wanted, and when, is in the arm's [`RetryRules`]. [`Decision::again`] names the next server; a
//! [`RetryBudget`] for each backend, of its [`retry_budget_percent`](crate::snapshot::Backend::retry_budget_percent), keeps
//! retries from multiplying an outage.
//!
//! ```
//! # use lb_core::spec::{BackendSpec, RouteSpec, ServerSpec, Spec};
//! # use lb_core::{Cursors, Outcome, RequestView, RetryBudget, Table, Verdict, compile, decide};
//! # use std::time::Duration;
//! # let server = |name: &str, port| ServerSpec::new(name, ([127, 0, 0, 1], port).into());
//! # let spec = Spec {
//! #     routes: vec![RouteSpec::new("r", "app")],
//! #     backends: vec![BackendSpec::new("app", [server("a", 8001), server("b", 8002)])],
//! #     ..Spec::default()
//! # };
//! # let table = Table::new(compile(&spec).unwrap().snapshot, None);
//! # let (mut cursors, now, random) = (Cursors::default(), Duration::from_secs(1), 1);
//! # let request = RequestView::get("h", "/", [192, 0, 2, 1].into());
//! # let connect = |address: std::net::SocketAddr| if address.port() == 8001 { Err(()) } else { Ok(()) };
//! # let mut budget = RetryBudget::default();
//! # let Verdict::Forward(mut decision) = decide(&table, &cursors, &request, now, random) else { panic!() };
//! let Some(mut permit) = decision.take(&table, &mut cursors, now) else { return }; // full: see below
//! let mut tried = Vec::new();
//! let rules = &table.snapshot.route(decision.route()).arm(decision.arm()).retry;
//! budget.exchange();
//! let connected = loop {
//!     if connect(permit.address()).is_ok() {
//!         break Some(permit);
//!     }
//!     permit.finish(Outcome::ConnectFailed, now); // first, so that `again` knows it
//!     tried.push(decision.server());
//!     // A first retry after a failed connect is free; any other asks the budget.
//!     if tried.len() as u32 > rules.retries || tried.len() > 1 && !budget.retry() {
//!         break None;
//!     }
//!     let Some(next) = decision.again(&table, &cursors, &tried, now, random) else { break None };
//!     decision = next;
//!     let Some(next) = decision.take(&table, &mut cursors, now) else { break None }; // full: a retry does not wait
//!     permit = next;
//! };
//! # assert_eq!(connected.unwrap().name(), "b");
//! ```
//!
//! `take` gives `None` where a server is full; how to wait then says
//! [`policies`](crate::guide::policies#when-servers-are-full). The random bits for `again` may be the same or fresh ones: the
//! session and the arm that it belongs to stay.
//!
//! How an attempt ended is one of four: [`ConnectFailed`](crate::Outcome::ConnectFailed), also where connecting took too long;
//! [`Responded`](crate::Outcome::Responded); [`Failed`](crate::Outcome::Failed), for a reset, a response that did not come in
//! time, and a body that broke off on the server's side; [`Abandoned`](crate::Outcome::Abandoned), where the client left,
//! which says nothing about the server.
//!
//! A failed connect takes the server out of picks for 100 ms, doubling up to 10 s, unless all others are out, too.
//!
//! # What stays yours
//!
//! - *Bytes:* connections and their pools, parsing, bodies. The core expects requests that a strict parser has read.
//! - *The client's address:* [`source::effective`](crate::source::effective) reads it from X-Forwarded-For where the peer
//!   is trusted; `RequestView::source` must be the result, for rules, hashes and sessions use it.
//! - *Actions* of a route ([`Actions`](crate::spec::Actions)): its path ([`forwarded_path`](crate::spec::Actions::forwarded_path)),
//!   host and header edits; redirects and replies where the verdict is [`Verdict::Answer`]; `max_body`.
//! - *Cookies:* the lines that [`Decision::write_cookies`] writes go into the response
//!   ([`cookie::set_values`](crate::cookie::set_values) takes them apart); then it must say `Cache-Control: private` unless
//!   it is stricter. [`Arm::strip_cookies`](crate::snapshot::Arm::strip_cookies) names those that servers must not see.
//! - *Time:* [`Arm::timeouts`](crate::snapshot::Arm::timeouts) has what the spec says, with defaults; you keep the timers.
//! - *Health:* somebody must call [`Monitor`](crate::Monitor); see [`health`](crate::guide::health).
//!
//! # What you must keep
//!
//! The clock never goes back and is the same for all threads. It begins where you like, below 584 years: it is kept in
//! nanoseconds, in 64 bits. Random bits are fresh for each decision, and not to be
//! guessed where cookies matter. Each thread or task has cursors of its own, begun with a seed of its own. Indices and
//! decisions belong to the table that they came from.
//!
//! # Why did it go there?
//!
//! [`explain`] takes what [`decide`] takes, runs the same code with a recorder, and tells: which routes matched and which
//! was beaten, the session's bucket, who was asked and who is down for what reason, and where further attempts would go. Its
//! `Display` is for people, its fields for programs. Use it in the tests of your routes (`examples/routes_test.rs`) and
//! behind an admin page.
//!
//! # Builds
//!
//! Without the default feature `regex` there is no regular expression engine, and a spec that has an expression is a problem
//! that says so. The crate builds for `wasm32-unknown-unknown`. It has no unsafe code. Its dependencies are `arc-swap`,
//! `blake3` and `regex`.
//!
//! # What may change
//!
//! Fields may be added to the types of [`spec`](crate::spec) and to settings: end yours with `..Default::default()` or begin
//! with `new`. What is marked `non_exhaustive` may get fields and variants: reasons, policies, keys, news. [`Verdict`],
//! [`Outcome`], [`Health`] and what a route's [`Target`] is may not, for with a new one your code has something to do. What processes must agree on (hashes, cookies, shares) does not change within a
//! major version. The whole public interface is listed in the crate's `public-api.txt`, and a test keeps the list true.
//!
//! [`Actions`]: crate::spec::Actions
//! [`CompileError`]: crate::CompileError
//! [`Decision::again`]: crate::Decision::again
//! [`Decision::write_cookies`]: crate::Decision::write_cookies
//! [`Fields`]: crate::Fields
//! [`Handle`]: crate::Handle
//! [`Health`]: crate::Health
//! [`Outcome`]: crate::Outcome
//! [`Permit`]: crate::Permit
//! [`Reader`]: crate::Reader
//! [`RetryBudget`]: crate::RetryBudget
//! [`RetryRules`]: crate::RetryRules
//! [`RetryRules::may_repeat`]: crate::RetryRules::may_repeat
//! [`Snapshot`]: crate::Snapshot
//! [`Spec`]: crate::Spec
//! [`Table`]: crate::Table
//! [`Target`]: crate::snapshot::Target
//! [`Verdict`]: crate::Verdict
//! [`Verdict::Answer`]: crate::Verdict::Answer
//! [`compile`]: crate::compile()
//! [`decide`]: crate::decide()
//! [`explain`]: crate::explain()
