//! Policies: how a backend chooses a server.
//!
//! # Who may be chosen at all
//!
//! Before any policy is asked, in this order:
//! 1. a server that is down or in maintenance takes nobody;
//! 2. one that drains or has weight 0 takes only its own sticky sessions;
//! 3. a session's sticky server wins, if it may take it ([`shares`](crate::guide::shares));
//! 4. then the policy chooses among the primaries;
//! 5. backups are asked when no primary can serve, by the same policy.
//!
//! A server to which a connection has just failed is passed over for a moment, unless nobody else is left in any arm that
//! may serve: a last resort is better than a refusal.
//!
//! # Which policy
//!
//! | policy | chooses | good for |
//! |---|---|---|
//! | `round_robin` | in turn, by weight, smoothly | equal servers and equal requests; the default |
//! | `least_request` | the fewest requests in flight for its weight | requests that take differently long |
//! | `rendezvous` | by a key, the same server as long as it can serve | caches, shards, whatever is warm |
//!
//! ## `round_robin`
//!
//! The order is made when the snapshot is compiled, so that a server of weight 3 does not get three requests in a row.
//! Where a turn stands is the caller's: each thread has [`Cursors`] of its own, begun at a place of its own.
//!
//! ## `least_request`
//!
//! In flight is what permits say that all threads together have under way. With a few servers all are looked at; with more,
//! two are drawn by weight and the better one is taken, which is nearly as good and costs the same with a thousand.
//!
//! ## `rendezvous`
//!
//! Each server has a score for each key, and the highest one wins (Thaler and Ravishankar, 1998; with weights as
//! Schindelhauer and Schomaker, 2005). Removing a server moves its keys only, each to its own next choice; adding one takes only
//! what is its own. What is the key says [`HashKey`]: the session, the source, a header, the path or a query parameter.
//!
//! ```
//! use lb_core::spec::{Address, BackendSpec, HashKey, Policy, RouteSpec, Secrets, ServerSpec, Spec};
//! use lb_core::{Cursors, RequestView, SecretKey, Table, Verdict, compile, decide};
//! use std::time::Duration;
//!
//! let table_of = |count: u8| {
//!     let server = |number: u8| ServerSpec {
//!         name: format!("cache-{number}"),
//!         address: Address::Literal(([10, 0, 0, number], 80).into()),
//!         ..ServerSpec::default()
//!     };
//!     let backend = BackendSpec {
//!         name: "cache".into(),
//!         balance: Policy::Rendezvous,
//!         hash_key: HashKey::Path,
//!         servers: (1..=count).map(server).collect(),
//!         ..BackendSpec::default()
//!     };
//!     let route = RouteSpec { name: "all".into(), backend: Some("cache".into()), ..RouteSpec::default() };
//!     let secrets = Secrets { share: Some(SecretKey::new([7; 16])), ..Secrets::default() };
//!     let spec = Spec { secrets, routes: vec![route], backends: vec![backend], ..Spec::default() };
//!     Table::new(compile(&spec).unwrap().snapshot, None)
//! };
//! let home = |table: &Table, path: &str| {
//!     let request = RequestView {
//!         listener: 0, method: b"GET", host: b"h", path: path.as_bytes(), query: None,
//!         fields: &(), source: [192, 0, 2, 1].into(), secure: false,
//!     };
//!     match decide(table, &Cursors::default(), &request, Duration::from_secs(1), 1) {
//!         Verdict::Forward(decision) => table.snapshot.server(decision.server()).name().to_owned(),
//!         other => panic!("{other:?}"),
//!     }
//! };
//! let (nine, ten) = (table_of(9), table_of(10));
//! let paths: Vec<String> = (0..1000).map(|path| format!("/item/{path}")).collect();
//! let moved: Vec<&String> = paths.iter().filter(|path| home(&nine, path) != home(&ten, path)).collect();
//! assert!((60..140).contains(&moved.len()), "about a tenth");
//! assert!(moved.iter().all(|path| home(&ten, path) == "cache-10"), "and only to the new one");
//! ```
//!
//! # Weights
//!
//! 0 to 256, 1 where none is given. They count among the servers that can serve: primaries among primaries, backups among
//! backups. Each address of a name has the whole weight of its entry.
//!
//! [`Cursors`]: crate::Cursors
//! [`HashKey`]: crate::spec::HashKey
