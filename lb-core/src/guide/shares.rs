//! Shares and stickiness: which sessions a canary takes, and which server a session stays with.
//!
//! # Sessions
//!
//! A *session* is a client as something makes it recognisable ([`SessionKey`]): our session cookie (the default; it is set
//! where it is missing), a header such as a user's id, or the address. With `Draw` each request is its own session.
//!
//! # Shares count sessions
//!
//! A route has a stable arm and at most one canary. A session falls into one of 10,000 *buckets* by a keyed hash of route,
//! release and session, and the canary takes the buckets below its share. Nobody stores who belongs where, and still:
//! - raising the share moves exactly the sessions that it must, lowering it returns exactly those;
//! - every thread and every node with the same share key says the same about a session;
//! - another [`release`](crate::spec::CanarySpec::release) takes other people first; where it is left empty, or as it was, the
//!   same people are first again.
//!
//! ```
//! use lb_core::spec::{Address, BackendSpec, CanarySpec, RouteSpec, Secrets, ServerSpec, SessionKey, SigningKey, Spec};
//! use lb_core::{Cursors, RequestView, SecretKey, Share, Table, Verdict, compile, decide};
//! use std::time::Duration;
//!
//! let backend = |name: &str, port| {
//!     let address = Address::Literal(([127, 0, 0, 1], port).into());
//!     let server = ServerSpec { name: "a".into(), address, ..ServerSpec::default() };
//!     BackendSpec { name: name.into(), servers: vec![server], ..BackendSpec::default() }
//! };
//! let table_at = |share: &str| {
//!     let canary = CanarySpec {
//!         backend: "new".into(),
//!         share: share.parse::<Share>().unwrap(),
//!         release: "2026-11-21".into(),
//!         key: SessionKey::Header("x-user".into()),
//!         ..CanarySpec::default()
//!     };
//!     let key = SecretKey::new([7; 16]); // from where you keep secrets; the same on all nodes
//!     let spec = Spec {
//!         secrets: Secrets { signing: vec![SigningKey { id: "k1".into(), key }], share: Some(key) },
//!         routes: vec![RouteSpec {
//!             name: "cart".into(),
//!             backend: Some("old".into()),
//!             canary: Some(canary),
//!             ..RouteSpec::default()
//!         }],
//!         backends: vec![backend("old", 8001), backend("new", 8002)],
//!         ..Spec::default()
//!     };
//!     Table::new(compile(&spec).unwrap().snapshot, None)
//! };
//! let arm_of = |table: &Table, user: &str| {
//!     let fields = [("x-user", user)];
//!     let request = RequestView {
//!         listener: 0, method: b"GET", host: b"h", path: b"/", query: None,
//!         fields: &fields, source: [192, 0, 2, 1].into(), secure: false,
//!     };
//!     match decide(table, &Cursors::default(), &request, Duration::from_secs(1), 1) {
//!         Verdict::Forward(decision) => table.snapshot.route(decision.route()).arm(decision.arm()).name,
//!         other => panic!("{other:?}"),
//!     }
//! };
//! let (two, ten) = (table_at("2%"), table_at("10%"));
//! let users: Vec<String> = (0..10_000).map(|user| format!("user-{user}")).collect();
//! let taken = |table: &Table| users.iter().filter(|user| arm_of(table, user) == "canary").count();
//! assert!((140..260).contains(&taken(&two)) && (880..1120).contains(&taken(&ten)));
//! for user in &users {
//!     // Whoever is in the canary at 2 % is in it at 10 %.
//!     assert!(arm_of(&two, user) == "stable" || arm_of(&ten, user) == "canary");
//! }
//! ```
//!
//! # Marks and testers
//!
//! A session that the canary has served carries a signed *mark*. With [`Marked::Follow`] the mark's bucket counts, so a
//! client that loses its session cookie or changes its address stays where it was, as long as the share still has its
//! bucket. With [`Marked::Stay`] it stays until the release changes, even at 0 %. Testers say `always` or `never` in a
//! cookie of their own ([`CanarySpec::cookie`]), from some networks only or with a private word, if you like.
//!
//! If the arm that a session belongs to has no server for it, the other arm serves ([`Fallback`]), the session is not
//! marked again, and returns when its arm can. A session under the testers' word is refused instead, unless
//! `forced_fallback` says otherwise: whoever asks for the canary wants to see that it is gone.
//!
//! # Stickiness
//!
//! With [`BackendSpec::sticky`] the response names the server in a cookie, and the session comes back to it:
//! - as long as the server is ready and up, whatever the policy would prefer;
//! - also while it drains (until its deadline) or has weight 0: that is how a server is emptied without losing a cart;
//! - not while it is down, in maintenance, or connections to it have just failed: then the session *moves*, to the server
//!   that rendezvous hashing gives, which is the same on every node, and gets a new cookie.
//!
//! The cookie is opaque and keyed: a keyed hash of backend and server name, with the address only where it came out of a
//! name. So a server that was written down may move to another address, and changes of other servers move nobody. No cookie
//! ever names a backup or a server of a fallback arm: sessions return from them by themselves.
//!
//! # Keys
//!
//! [`Secrets::signing`] is needed for canaries and stickiness, [`Secrets::share`] for these and for policies that hash; plain
//! balancing needs neither, and what is missing is the problem `LB021`.
//!
//! Of the signing keys the first signs and all verify. To change it: add the new one as the second on every node, for a node
//! that lacks it reads nothing that it signed; then put it first; then wait, and take the old one away. A cookie or mark by
//! an old key is written anew with the next response to its session: a sticky cookie if a primary of the session's own arm
//! serves it, a mark if the canary does and not by the testers' word. Browsers keep our cookies until their session ends, so
//! wait as long as a session on your servers lives: a cart of a week, a week. Who comes later with a cookie of a key that is
//! gone is no error: a sticky session goes to the next home that its hash gives and gets a new cookie, and without its
//! mark a session counts by its own bucket.
//!
//! [`Secrets::share`] decides buckets and hashes: changing it moves every session, so it never rotates along.
//!
//! [`BackendSpec::sticky`]: crate::spec::BackendSpec::sticky
//! [`CanarySpec::cookie`]: crate::spec::CanarySpec::cookie
//! [`Fallback`]: crate::spec::Fallback
//! [`Marked::Follow`]: crate::spec::Marked::Follow
//! [`Marked::Stay`]: crate::spec::Marked::Stay
//! [`Secrets::share`]: crate::spec::Secrets::share
//! [`Secrets::signing`]: crate::spec::Secrets::signing
//! [`SessionKey`]: crate::spec::SessionKey
