//! Rates: how many requests one client may make on a route.
//!
//! # What is counted
//!
//! A route's [`RateSpec`] says how many `requests` a client may make in a time (`per`), and how many at once (`burst`; as
//! many as `requests`, unless it says). Each client has a rate of its own on each route:
//! - by its address ([`RateKey::Source`], the default), of IPv6 by its network of 64 bits, for whoever has one address there
//!   has them all. It is [`RequestView::source`](crate::RequestView::source): behind a proxy make sure that it is the
//!   client's and not the proxy's ([`source::effective`](crate::source::effective()));
//! - by a header ([`RateKey::Header`]), such as an API key. Somebody in front of you or behind must refuse values that are
//!   made up, or each new one is a new client;
//! - all together ([`RateKey::Route`]), to bound what a route's servers get from this process.
//!
//! Nothing is counted by session: whoever is to be bounded would leave the cookie away.
//!
//! # Where it stands
//!
//! Deciding has no effect, so it charges nobody: [`Verdict::charge`] does, once for each request, before
//! [`Decision::take`]. So a request that is refused takes nothing of the servers', a further attempt or one that waits for
//! room costs nothing more, and redirects and fixed replies cost as much as what goes to a server.
//!
//! ```
//! use lb_core::spec::{BackendSpec, RateSpec, RouteSpec, Secrets, ServerSpec, Spec};
//! use lb_core::{Cursors, Outcome, RequestView, SecretKey, Table, Verdict, compile, decide};
//! use std::time::Duration;
//!
//! // Five at once, and one more every ten seconds.
//! let rate = RateSpec { burst: Some(5), ..RateSpec::new(6, Duration::from_secs(60)) };
//! let spec = Spec {
//!     // Decides which clients share a part of the table, so that nobody can know it: see "Keys" of the chapter on shares.
//!     secrets: Secrets { share: Some(SecretKey::new([7; 16])), ..Secrets::default() },
//!     routes: vec![RouteSpec { rate: Some(rate), ..RouteSpec::new("login", "app") }],
//!     backends: vec![BackendSpec::new("app", [ServerSpec::new("a", ([127, 0, 0, 1], 8001).into())])],
//!     ..Spec::default()
//! };
//! let table = Table::new(compile(&spec)?.snapshot, None);
//! let mut cursors = Cursors::default();
//!
//! let request = RequestView::get("shop.example.com", "/login", [192, 0, 2, 1].into());
//! let mut answer = |now: Duration| {
//!     let verdict = decide(&table, &cursors, &request, now, 1);
//!     if let Err(refusal) = verdict.charge(&table, &request, now) {
//!         // 429, with this in `Retry-After`.
//!         return (refusal.status(), refusal.retry_after_s());
//!     }
//!     let Verdict::Forward(decision) = verdict else { return (503, None) };
//!     let permit = decision.take(&table, &mut cursors, now).expect("there is no bound");
//!     permit.finish(Outcome::Responded { status: 200 }, now);
//!     (200, None)
//! };
//! let start = Duration::from_secs(3_600);
//! assert!((0..5).all(|_| answer(start).0 == 200));
//! assert_eq!(answer(start), (429, Some(10)));
//! assert_eq!(answer(start + Duration::from_secs(4)), (429, Some(6)));
//! assert_eq!(answer(start + Duration::from_secs(10)), (200, None));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it is counted
//!
//! By the generic cell rate algorithm (ITU-T I.371): a request costs the time between two at the rate, and a client owes
//! what it has cost until that has passed. In no window of time is more taken than the burst and what the rate gives in it,
//! and whoever keeps to the rate is never refused. A refused request costs nothing, so there is no need to be quiet to be
//! taken again.
//!
//! All rates of all routes share one table of [`RATE_CLIENTS`] clients, 1 MiB, which hangs on the [`Table`] and is carried
//! from one to the next: all threads charge the same, debts outlive a change of the spec, and where a rate has changed they
//! are cut to what the new one lets anybody owe. Where more clients owe something at a time than there are cells, newcomers
//! take the place of those who owe least, of eight that a keyed hash decides. So however many addresses come, the table does
//! not grow, and who owes much is not forgotten: that would take eight others in the same place that owe more. What is
//! wrong then is that some who owe little begin anew; [`Live::rate_clients`] says how many did.
//!
//! Processes do not tell each other: behind two, a client has twice the rate.
//!
//! [`Decision::take`]: crate::Decision::take
//! [`Live::rate_clients`]: crate::Live::rate_clients
//! [`RATE_CLIENTS`]: crate::defaults::RATE_CLIENTS
//! [`RateKey::Header`]: crate::spec::RateKey::Header
//! [`RateKey::Route`]: crate::spec::RateKey::Route
//! [`RateKey::Source`]: crate::spec::RateKey::Source
//! [`RateSpec`]: crate::spec::RateSpec
//! [`Table`]: crate::Table
//! [`Verdict::charge`]: crate::Verdict::charge
