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
//! may serve: a last resort is better than a refusal. A server that has as many requests as it may is passed over, too, as
//! long as another one has room: see [When servers are full](#when-servers-are-full).
//!
//! # Which policy
//!
//! | policy | chooses | take it for | a pick costs |
//! |---|---|---|---|
//! | `round_robin` | in turn, by weight, smoothly | equal servers and equal requests; the default | one server's state |
//! | `least_request` | the fewest requests in flight for its weight | requests that take differently long | two servers' state (of four servers or fewer: all) |
//! | `peak_ewma` | the least latency times requests in flight | servers that are differently fast, or turn slow | the same, and their latencies |
//! | `random` | any, by weight | many small clients, each with little traffic | one server's state |
//! | `maglev` | by a key, from a table | caches and shards with hundreds of servers | one look into 128 KiB |
//! | `rendezvous` | by a key, the highest score | caches and shards; whatever must move least | some nanoseconds for each server |
//!
//! None of them allocates, waits or takes a lock, and all but `rendezvous` cost the same with three servers as with a
//! thousand (`docs/performance.md` in the repository has numbers). In doubt take `least_request`: where requests are equal it
//! shares as evenly as `round_robin`, and where they are not it notices. Where the answer depends on who is asked (warm
//! caches, shards, limits kept per server), hash.
//!
//! The examples below ask the same way; only the backend is different.
//!
//! ## `round_robin`
//!
//! The order is made when the snapshot is compiled, and as even as weights allow: at no time is a server more than one turn
//! ahead of or behind its share. Where a turn stands is the caller's: each thread has [`Cursors`] of its own, begun at a
//! place of its own, so threads disturb each other neither in turns nor in caches.
//!
//! ```
//! use lb_core::spec::{BackendSpec, Policy, RouteSpec, ServerSpec, Spec};
//! use lb_core::{Cursors, RequestView, Table, Verdict, compile, decide};
//! use std::time::Duration;
//!
//! let server = |name: &str, last, weight| ServerSpec {
//!     weight: Some(weight),
//!     ..ServerSpec::new(name, ([10, 0, 0, last], 80).into())
//! };
//! let servers = [server("a", 1, 3), server("b", 2, 1), server("c", 3, 1), server("d", 4, 1)];
//! let backend = BackendSpec { balance: Policy::RoundRobin, ..BackendSpec::new("app", servers) };
//! let spec = Spec { routes: vec![RouteSpec::new("all", "app")], backends: vec![backend], ..Spec::default() };
//! let table = Table::new(compile(&spec).unwrap().snapshot, None);
//!
//! let request = RequestView::get("h", "/", [192, 0, 2, 1].into());
//! let mut cursors = Cursors::default(); // seed 0: from the top
//! let now = Duration::from_secs(1);
//! let turns: String = (0..12)
//!     .map(|random| {
//!         let Verdict::Forward(decision) = decide(&table, &cursors, &request, now, random) else { panic!() };
//!         // Taking moves the cursor.
//!         let permit = decision.take(&table, &mut cursors, now).expect("no server has a bound");
//!         permit.name().to_owned()
//!     })
//!     .collect();
//! assert_eq!(turns, "abacadabacad");
//! ```
//!
//! ## `least_request`
//!
//! In flight is what permits say that all threads together have under way, so hold a permit for as long as its server works.
//! Of four servers or fewer all are compared; of more, two are drawn by weight and the better one is taken, which is nearly
//! as good (Mitzenmacher, 2001) and reads two counters instead of all. Among servers with equally much to do the lot
//! decides, by weight.
//!
//! ```
//! # use lb_core::spec::{BackendSpec, Policy, RouteSpec, ServerSpec, Spec};
//! # use lb_core::{Cursors, RequestView, Table, Verdict, compile, decide};
//! # use std::time::Duration;
//! # let server = |name: &str, last, weight| ServerSpec {
//! #     weight: Some(weight),
//! #     ..ServerSpec::new(name, ([10, 0, 0, last], 80).into())
//! # };
//! let servers = [server("large", 1, 3), server("small", 2, 1)];
//! let backend = BackendSpec { balance: Policy::LeastRequest, ..BackendSpec::new("app", servers) };
//! # let spec = Spec { routes: vec![RouteSpec::new("all", "app")], backends: vec![backend], ..Spec::default() };
//! # let table = Table::new(compile(&spec).unwrap().snapshot, None);
//! # let request = RequestView::get("h", "/", [192, 0, 2, 1].into());
//! # let mut cursors = Cursors::default();
//! # let now = Duration::from_secs(1);
//! # let mut next = |random: u64| {
//! #     let random = lb_core::hash::mix(random).into();
//! #     let Verdict::Forward(decision) = decide(&table, &cursors, &request, now, random) else { panic!() };
//! #     decision.take(&table, &mut cursors, now).expect("no server has a bound")
//! # };
//! // Forty requests that have not been answered yet: three in four are with the one that is three times as strong.
//! let mut under_way: Vec<_> = (0..40).map(|random| next(random)).collect();
//! let in_flight = |name| table.live.servers().iter().find(|live| live.name() == name).unwrap().in_flight();
//! assert_eq!((in_flight("large"), in_flight("small")), (30, 10));
//!
//! // Whoever gets rid of work gets the next.
//! under_way.retain(|permit| permit.name() == "large");
//! assert!((40..50).all(|random| next(random).name() == "small"));
//! ```
//!
//! ## `peak_ewma`
//!
//! What a server costs is how long it takes to answer, times one more than what it has in flight by weight; the least is
//! taken, of two or of all as above. How long it takes is a mean that jumps to every peak at once and forgets half of what
//! it knows in 7 seconds ([`PEAK_EWMA_HALF_LIFE`]). So a server that turns slow is left with its first slow answer, and as
//! its peak is forgotten it is tried again. Of a server that has never answered one answer is waited for. A quick error is
//! no merit: an answer of 500 and above never makes a server look better.
//!
//! It is about being answered soon, not about sharing evenly: requests that come one after the other all go to the fastest
//! (of two that are drawn, where there are more than four servers), but for a try of the others when what was seen of them
//! has faded. Servers share as requests pile up: one that is twice as fast has about twice as much in flight.
//!
//! It goes by the time between [`Permit::sent`] (or taking) and [`Permit::answered`] (or the end): tell it both, or slow
//! clients make slow servers. Beyond what `least_request` costs there is a shared
//! write for every new peak, and else one in 134 ms for each server.
//!
//! ```
//! # use lb_core::spec::{BackendSpec, Policy, RouteSpec, ServerSpec, Spec};
//! # use lb_core::{Cursors, Outcome, RequestView, Table, Verdict, compile, decide};
//! # use std::time::Duration;
//! # let server = |name: &str, last| ServerSpec::new(name, ([10, 0, 0, last], 80).into());
//! let servers = [server("a", 1), server("b", 2), server("c", 3)];
//! let backend = BackendSpec { balance: Policy::PeakEwma, ..BackendSpec::new("app", servers) };
//! # let spec = Spec { routes: vec![RouteSpec::new("all", "app")], backends: vec![backend], ..Spec::default() };
//! # let table = Table::new(compile(&spec).unwrap().snapshot, None);
//! # let request = RequestView::get("h", "/", [192, 0, 2, 1].into());
//! # let mut cursors = Cursors::default();
//! # let (mut now, mut random) = (Duration::from_secs(1), 0_u64);
//! // One request after the other, ten in a second. `b` takes as long as it is told, the others 10 ms.
//! let mut ask = |b_takes: u64| {
//!     # random += 1;
//!     # let random = lb_core::hash::mix(random).into();
//!     # let Verdict::Forward(decision) = decide(&table, &cursors, &request, now, random) else { panic!() };
//!     let mut permit = decision.take(&table, &mut cursors, now).expect("no server has a bound");
//!     let name = permit.name().to_owned();
//!     let takes = Duration::from_millis(if name == "b" { b_takes } else { 10 });
//!     permit.answered(now + takes);
//!     permit.finish(Outcome::Responded { status: 200 }, now + takes);
//!     now += Duration::from_millis(100);
//!     name
//! };
//! let mut first: Vec<String> = (0..3).map(|_| ask(10)).collect();
//! first.sort();
//! assert_eq!(first, ["a", "b", "c"], "whoever is new is asked first");
//!
//! while ask(90) != "b" {}
//! assert!((0..100).all(|_| ask(90) != "b"), "one slow answer, and it has ten seconds of rest");
//! assert!((0..600).any(|_| ask(90) == "b"), "then it is tried again");
//! ```
//!
//! ## `random`
//!
//! By weight, and by nothing but the random bits of the decision: no cursor, no counter, no latency is read. Chance is
//! uneven: of a thousand servers with ten requests each the fullest has about ten more, where `least_request` has four more
//! at most. Take it where each of very many clients sends too little for turns or counters of its own to mean anything.
//!
//! ```
//! # use lb_core::spec::{BackendSpec, Policy, RouteSpec, ServerSpec, Spec};
//! # use lb_core::{Cursors, RequestView, Table, Verdict, compile, decide};
//! # use std::time::Duration;
//! # let server = |number: u8| ServerSpec::new(format!("s{number}"), ([10, 0, 0, number], 80).into());
//! let backend = BackendSpec { balance: Policy::Random, ..BackendSpec::new("app", (1..=9).map(server)) };
//! # let spec = Spec { routes: vec![RouteSpec::new("all", "app")], backends: vec![backend], ..Spec::default() };
//! # let table = Table::new(compile(&spec).unwrap().snapshot, None);
//! # let request = RequestView::get("h", "/", [192, 0, 2, 1].into());
//! # let now = Duration::from_secs(1);
//! # let ask = |cursors: &Cursors, random: u64| {
//! #     let random = lb_core::hash::mix(random).into();
//! #     let Verdict::Forward(decision) = decide(&table, cursors, &request, now, random) else { panic!() };
//! #     decision
//! # };
//! let mut cursors = Cursors::default();
//! let of_bits = |cursors: &Cursors| -> Vec<_> { (0..100).map(|random| ask(cursors, random).server()).collect() };
//! let before = of_bits(&cursors);
//! let mut take = |random| ask(&cursors, random).take(&table, &mut cursors, now).expect("no server has a bound");
//! let _under_way: Vec<_> = (0..50).map(|random| take(random)).collect();
//! assert_eq!(of_bits(&cursors), before, "what is under way changes nothing");
//! ```
//!
//! ## `rendezvous`
//!
//! Each server has a score for each key, and the highest one wins (Thaler and Ravishankar, 1998; with weights as
//! Schindelhauer and Schomaker, 2005). Removing a server moves its keys only, each to its own next choice; adding one takes only
//! what is its own. What is the key says [`HashKey`]: the session, the source, a header, the path or a query parameter.
//! Every node with the same share key says the same, whatever the order of its spec. Each server is looked at, which is a
//! few nanoseconds for each: fine for a hundred, and for a thousand if your requests are worth some microseconds.
//!
//! ```
//! use lb_core::spec::{BackendSpec, HashKey, Policy, RouteSpec, Secrets, ServerSpec, Spec};
//! use lb_core::{Cursors, RequestView, SecretKey, Table, Verdict, compile, decide};
//! use std::time::Duration;
//!
//! let table_of = |count: u8| {
//!     let server = |number: u8| ServerSpec::new(format!("cache-{number}"), ([10, 0, 0, number], 80).into());
//!     let backend = BackendSpec {
//!         balance: Policy::Rendezvous,
//!         hash_key: HashKey::Path,
//!         ..BackendSpec::new("cache", (1..=count).map(server))
//!     };
//!     let secrets = Secrets { share: Some(SecretKey::new([7; 16])), ..Secrets::default() };
//!     let routes = vec![RouteSpec::new("all", "cache")];
//!     let spec = Spec { secrets, routes, backends: vec![backend], ..Spec::default() };
//!     Table::new(compile(&spec).unwrap().snapshot, None)
//! };
//! let home = |table: &Table, path: &str| {
//!     let request = RequestView::get("h", path, [192, 0, 2, 1].into());
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
//! ## `maglev`
//!
//! The same by a table that is made when the snapshot is compiled (Eisenbud et al., 2016): a pick is one hash and one look,
//! with three servers as with four thousand. In exchange each backend has 128 KiB of its own, which compiling fills anew, and
//! when a server is added to the spec or taken out of it, a few keys of others move as well. A server that only goes *down*
//! moves its own keys and no others, for the table stays. With up to 655 servers of equal weight no share is off by more
//! than about one percent of itself ([`MAGLEV_ENTRIES`]).
//!
//! ```
//! # use lb_core::spec::{BackendSpec, HashKey, Policy, RouteSpec, Secrets, ServerSpec, Spec};
//! # use lb_core::{Cursors, Health, RequestView, SecretKey, Table, Verdict, Why, compile, decide};
//! # use std::time::Duration;
//! # let table_of = |count: u8| {
//! #     let server = |number: u8| ServerSpec::new(format!("cache-{number}"), ([10, 0, 0, number], 80).into());
//! #     let backend = BackendSpec {
//! #         balance: Policy::Maglev,
//! #         hash_key: HashKey::Path,
//! #         ..BackendSpec::new("cache", (1..=count).map(server))
//! #     };
//! #     let secrets = Secrets { share: Some(SecretKey::new([7; 16])), ..Secrets::default() };
//! #     let routes = vec![RouteSpec::new("all", "cache")];
//! #     let spec = Spec { secrets, routes, backends: vec![backend], ..Spec::default() };
//! #     Table::new(compile(&spec).unwrap().snapshot, None)
//! # };
//! # let home = |table: &Table, path: &str| {
//! #     let request = RequestView::get("h", path, [192, 0, 2, 1].into());
//! #     match decide(table, &Cursors::default(), &request, Duration::from_secs(1), 1) {
//! #         Verdict::Forward(decision) => table.snapshot.server(decision.server()).name().to_owned(),
//! #         other => panic!("{other:?}"),
//! #     }
//! # };
//! let (nine, ten) = (table_of(9), table_of(10)); // as above, with `Policy::Maglev`
//! let paths: Vec<String> = (0..1000).map(|path| format!("/item/{path}")).collect();
//! let homes = |table: &Table| -> Vec<String> { paths.iter().map(|path| home(table, path)).collect() };
//! let (of_nine, of_ten) = (homes(&nine), homes(&ten));
//! let moved = of_nine.iter().zip(&of_ten).filter(|(before, after)| before != after).count();
//! assert!((60..200).contains(&moved), "a tenth, and a little more");
//!
//! ten.live.servers()[9].set_health(Health::Down(Why::Told));
//! let down = homes(&ten);
//! assert!(of_ten.iter().zip(&down).all(|(before, after)| before == after || before == "cache-10"));
//! ```
//!
//! # Bounded load
//!
//! One hot key must not drown its server. [`max_load_percent`](crate::spec::BackendSpec::max_load_percent) bounds what a server
//! of a hashing policy has in flight: with 125, at most 1.25 times its part of all by weight, rounded up; what is beyond
//! goes to the key's next server (Mirrokni, Thorup and Zadimoghaddam, 2018). Keys that find room stay at home. A sticky cookie
//! beats the bound, and backups have none. 105 to 1000 can be asked for: the less, the more even, and the more keys travel. It
//! costs one more shared counter per attempt, for the sum.
//!
//! ```
//! # use lb_core::spec::{BackendSpec, HashKey, Policy, RouteSpec, Secrets, ServerSpec, Spec};
//! # use lb_core::{Cursors, RequestView, SecretKey, Table, Verdict, compile, decide};
//! # use std::time::Duration;
//! # let server = |number: u8| ServerSpec::new(format!("cache-{number}"), ([10, 0, 0, number], 80).into());
//! let most_in_flight = |max_load_percent| {
//!     let backend = BackendSpec {
//!         balance: Policy::Rendezvous,
//!         hash_key: HashKey::Path,
//!         max_load_percent,
//!         ..BackendSpec::new("cache", (1..=4).map(server))
//!     };
//!     # let secrets = Secrets { share: Some(SecretKey::new([7; 16])), ..Secrets::default() };
//!     # let routes = vec![RouteSpec::new("all", "cache")];
//!     # let spec = Spec { secrets, routes, backends: vec![backend], ..Spec::default() };
//!     # let table = Table::new(compile(&spec).unwrap().snapshot, None);
//!     # let (mut cursors, now) = (Cursors::default(), Duration::from_secs(1));
//!     let request = RequestView::get("h", "/the-hot-one", [192, 0, 2, 1].into());
//!     let _under_way: Vec<_> = (0..16)
//!         .map(|_| match decide(&table, &cursors, &request, now, 1) {
//!             Verdict::Forward(decision) => {
//!                 decision.take(&table, &mut cursors, now).expect("no server has a bound")
//!             }
//!             other => panic!("{other:?}"),
//!         })
//!         .collect();
//!     table.live.servers().iter().map(|live| live.in_flight()).max().unwrap()
//! };
//! assert_eq!(most_in_flight(None), 16);
//! assert_eq!(most_in_flight(Some(125)), 5, "1.25 × 16 / 4");
//! ```
//!
//! # When servers are full
//!
//! With [`max_requests`](crate::spec::ServerSpec::max_requests) (or [`max_connections`](#connections)) a server takes only so many requests at a time; one with as
//! many in flight is *full*. The policy passes over it as long as another primary of the same arm has room (of a backup,
//! another backup). Full is not down: neither backups nor the other arm take over, and a sticky session waits for its own
//! server. If all are full, [`decide`](crate::decide()) says `Forward` all the same, [`Decision::take`] gives `None`, and
//! [`explain`](crate::explain()) says that the request `waits`.
//!
//! The waiting is yours, for it needs a queue and a clock:
//! - Do not take the same decision again: it is bound to the server that it names. Ask [`Decision::again`] with nothing tried
//!   (nothing was), and decide anew if that gives `None`: then the table is another one, or nobody can serve any more.
//! - Wake somebody whenever a permit of the backend ends, finished or dropped, a server of it comes up, or a table is
//!   published. Where you cannot tell the last two, look again every 100 ms or so.
//! - Serve those who wait in order, and before new requests; who waits for a server of its own stands in nobody's way.
//! - A sticky session that has waited too long moves if its server counts as tried: `again(.., &[own], ..)`.
//! - [`Backend::queue`] says how many may wait and for how long ([`QueueSpec`]); answer the others with 503. The core has no
//!   refusal for it, since it does not see the waiting; the proxy that uses this crate says `queue_full` and
//!   `queue_timeout`.
//!
//! ```
//! use lb_core::spec::{BackendSpec, RouteSpec, ServerSpec, Spec};
//! use lb_core::{Cursors, Decision, Outcome, Permit, RequestView, Table, Verdict, compile, decide};
//! use std::collections::VecDeque;
//! use std::time::Duration;
//!
//! struct Waiter {
//!     path: &'static str, // and what else deciding anew needs
//!     decision: Decision,
//!     until: Duration,
//! }
//!
//! fn request(path: &str) -> RequestView<'_, ()> {
//!     RequestView::get("h", path, [192, 0, 2, 1].into())
//! }
//!
//! /// The first in the queue for whom there is room, and its permit; or what else has become of it.
//! fn next(
//!     queue: &mut VecDeque<Waiter>,
//!     table: &Table,
//!     cursors: &mut Cursors,
//!     now: Duration,
//!     random: u128,
//! ) -> Option<(Waiter, Result<Permit, Verdict>)> {
//!     for place in 0..queue.len() {
//!         let waiter = &mut queue[place];
//!         let verdict = match waiter.decision.again(table, cursors, &[], now, random) {
//!             Some(decision) => Verdict::Forward(decision),
//!             None => decide(table, cursors, &request(waiter.path), now, random),
//!         };
//!         let result = match verdict {
//!             Verdict::Forward(decision) => {
//!                 waiter.decision = decision; // whose cookies are to be written
//!                 let Some(permit) = decision.take(table, cursors, now) else { continue };
//!                 Ok(permit)
//!             }
//!             other => Err(other),
//!         };
//!         return queue.remove(place).map(|waiter| (waiter, result));
//!     }
//!     None
//! }
//!
//! let server = |name: &str, last| ServerSpec {
//!     max_requests: Some(1),
//!     ..ServerSpec::new(name, ([10, 0, 0, last], 80).into())
//! };
//! let backend = BackendSpec::new("app", [server("a", 1), server("b", 2)]);
//! let spec = Spec { routes: vec![RouteSpec::new("all", "app")], backends: vec![backend], ..Spec::default() };
//! let table = Table::new(compile(&spec).unwrap().snapshot, None);
//! let (mut cursors, now, random) = (Cursors::default(), Duration::from_secs(1), 1);
//!
//! let (mut queue, mut under_way) = (VecDeque::new(), Vec::new());
//! for path in ["/1", "/2", "/3", "/4"] {
//!     let Verdict::Forward(decision) = decide(&table, &cursors, &request(path), now, random) else { panic!() };
//!     let backend = table.snapshot.server(decision.server()).backend;
//!     let bounds = table.snapshot.backend(backend).queue.expect("its servers have a bound");
//!     let permit = if queue.is_empty() { decision.take(&table, &mut cursors, now) } else { None };
//!     match permit {
//!         Some(permit) => under_way.push(permit),
//!         None if queue.len() < bounds.requests as usize => {
//!             queue.push_back(Waiter { path, decision, until: now + bounds.timeout });
//!         }
//!         None => println!("503"),
//!     }
//! }
//! assert_eq!((under_way.len(), queue.len()), (2, 2));
//! assert!(next(&mut queue, &table, &mut cursors, now, random).is_none(), "nobody has room");
//!
//! // A permit ends: the first that waits has its place, whichever server it waited for.
//! under_way.pop().unwrap().finish(Outcome::Responded { status: 200 }, now);
//! let (waiter, result) = next(&mut queue, &table, &mut cursors, now, random).unwrap();
//! assert_eq!((waiter.path, result.unwrap().name()), ("/3", "b"));
//!
//! // Who has waited too long is told so.
//! let late = now + Duration::from_secs(3);
//! queue.retain(|waiter| late < waiter.until); // 503 to the others
//! assert!(queue.is_empty());
//! ```
//!
//! ## Connections
//!
//! [`max_connections`](crate::spec::ServerSpec::max_connections) bounds what is open to a server, idle connections in pools
//! included, for servers to which each costs a thread. An attempt holds one of its own, so the bound holds for requests in
//! flight as well: who finds all in use waits as above. The count is yours to keep: [`ServerLive::connect`] before you
//! make a connection, and what it gives dropped after that is closed.
//!
//! With a permit you can always have one. If `connect` gives `None`, some are idle, in this pool or in another of this
//! process: use one, or close one and ask again. Pool each connection before you finish its permit, or the next in line
//! finds neither.
//!
//! ```
//! use lb_core::spec::{BackendSpec, RouteSpec, ServerSpec, Spec};
//! use lb_core::{Connection, Cursors, Outcome, RequestView, Table, Verdict, compile, decide};
//! use std::time::Duration;
//!
//! /// What a pool keeps: the socket, and what it counts as. In this order, as fields are dropped in order.
//! struct Pooled {
//!     socket: std::io::Empty,
//!     counted: Connection,
//! }
//!
//! let server = ServerSpec { max_connections: Some(1), ..ServerSpec::new("a", ([10, 0, 0, 1], 80).into()) };
//! let backend = BackendSpec::new("app", [server]);
//! let spec = Spec { routes: vec![RouteSpec::new("all", "app")], backends: vec![backend], ..Spec::default() };
//! let table = Table::new(compile(&spec).unwrap().snapshot, None);
//! let (mut cursors, now, random) = (Cursors::default(), Duration::from_secs(1), 1);
//! let request = RequestView::get("h", "/", [192, 0, 2, 1].into());
//!
//! let mut pool: Vec<Pooled> = Vec::new();
//! for _ in 0..3 {
//!     let Verdict::Forward(decision) = decide(&table, &cursors, &request, now, random) else { panic!() };
//!     let permit = decision.take(&table, &mut cursors, now).expect("its connection is idle, or not made yet");
//!     assert!(!permit.has_room(), "in use");
//!     let pooled = pool.pop().unwrap_or_else(|| {
//!         let counted = permit.server().connect().expect("none is open"); // else ask the other pools
//!         Pooled { socket: std::io::empty(), counted } // connect
//!     });
//!     // The exchange. Then the connection comes first:
//!     if !permit.has_excess_connections() {
//!         pool.push(pooled);
//!     }
//!     permit.finish(Outcome::Responded { status: 200 }, now);
//! }
//! assert_eq!((pool.len(), pool[0].counted.server().connections()), (1, 1));
//! ```
//!
//! # Weights
//!
//! 0 to 256, 1 where none is given. They count among the servers that can serve: primaries among primaries, backups among
//! backups. Each address of a name has the whole weight of its entry.
//!
//! # Slow start
//!
//! A server that comes up is cold. With [`slow_start`](crate::spec::BackendSpec::slow_start) it gets a tenth of its weight at
//! first and then, evenly with time, all of it. This holds for every policy (under hashing ones keys move to it
//! and nowhere else as it grows) and for
//! - a server that was down, drained or in maintenance, when it is ready and up again;
//! - a server that a new table brings into a backend that was there before.
//!
//! Time begins with the first attempt that it gets, not with the health check that brought it up. The servers of a first
//! table have all of their weight, and so have those of a new backend: none is colder than the others; where all come up
//! together after their first checks, they share as if there were no slow start. Sticky sessions have their server at once. Without `slow_start` it costs nothing, with it a look at one more word of each server that is considered.
//!
//! ```
//! # use lb_core::spec::{BackendSpec, Policy, RouteSpec, ServerSpec, Spec};
//! # use lb_core::{Cursors, Health, RequestView, Table, Verdict, Why, compile, decide};
//! # use std::time::Duration;
//! # let server = |name: &str, last| ServerSpec::new(name, ([10, 0, 0, last], 80).into());
//! let backend = BackendSpec {
//!     slow_start: Some(Duration::from_secs(60)),
//!     ..BackendSpec::new("app", [server("a", 1), server("b", 2)])
//! };
//! # let spec = Spec { routes: vec![RouteSpec::new("all", "app")], backends: vec![backend], ..Spec::default() };
//! # let table = Table::new(compile(&spec).unwrap().snapshot, None);
//! # let request = RequestView::get("h", "/", [192, 0, 2, 1].into());
//! # let mut cursors = Cursors::default();
//! # let mut percent_of_b = |at_s: u64| {
//! #     let now = Duration::from_secs(at_s);
//! #     let mut to_b = 0;
//! #     for random in 0..10_000 {
//! #         let random = lb_core::hash::mix(random).into();
//! #         let Verdict::Forward(decision) = decide(&table, &cursors, &request, now, random) else { panic!() };
//! #         let permit = decision.take(&table, &mut cursors, now).expect("no server has a bound");
//! #         to_b += u32::from(permit.name() == "b");
//! #     }
//! #     to_b / 100
//! # };
//! let b = &table.live.servers()[1];
//! b.set_health(Health::Down(Why::Answer));
//! b.set_health(Health::Up);
//! assert!((7..=11).contains(&percent_of_b(100)), "0.1 of 1.1: the first request begins it");
//! assert!((31..=35).contains(&percent_of_b(130)), "0.5 of 1.5");
//! assert_eq!(percent_of_b(160), 50);
//! ```
//!
//! # Zones
//!
//! Traffic between zones costs money and time. A node that knows where it stands ([`Spec::zone`](crate::Spec::zone)) prefers
//! servers whose [`zone`](crate::spec::ServerSpec::zone) is the same: all of its requests stay there as long as
//! [`spill_below`](crate::spec::BackendSpec::spill_below) (70 % where none is given) of the zone's weight is ready and up. Below it
//! each server that is left keeps as much as it had at that point, and the rest spills over to the other zones, by weight;
//! but a server of the own zone never has less to do than one elsewhere. With `near` of `all` up here and `far` elsewhere,
//!
//! ```text
//! max( near / (all × spill_below),  near / (near + far) ),  at most everything
//! ```
//!
//! stays. Within a zone the policy chooses as ever. Connect failures and slow start pass, and do not change what a zone
//! can take. Hashing policies know no zones: a key has one home on every node. Nor do backups. All servers of a backend are
//! looked over once after one of them has changed, not for each request.
//!
//! ```
//! use lb_core::spec::{BackendSpec, Policy, RouteSpec, ServerSpec, Spec};
//! use lb_core::{Cursors, Health, RequestView, Table, Why, compile, explain};
//! use std::time::Duration;
//!
//! let server = |number: u8| ServerSpec {
//!     zone: Some(if number < 10 { "eu-1a" } else { "eu-1b" }.into()),
//!     ..ServerSpec::new(format!("s{number}"), ([10, 0, 0, number], 80).into())
//! };
//! let backend = BackendSpec {
//!     balance: Policy::LeastRequest,
//!     ..BackendSpec::new("app", (0..30).map(server))
//! };
//! let spec = Spec {
//!     zone: Some("eu-1a".into()),
//!     routes: vec![RouteSpec::new("all", "app")],
//!     backends: vec![backend],
//!     ..Spec::default()
//! };
//! let table = Table::new(compile(&spec).unwrap().snapshot, None);
//! let request = RequestView::get("h", "/", [192, 0, 2, 1].into());
//! let stays = || {
//!     let told = explain(&table, &Cursors::default(), &request, Duration::from_secs(1), 1);
//!     told.pick.unwrap().zone.unwrap().share // in hundredths of a percent
//! };
//! let take_down = |count: usize| {
//!     table.live.servers()[..count].iter().for_each(|live| live.set_health(Health::Down(Why::Timeout)));
//! };
//! take_down(3);
//! assert_eq!(stays(), 10_000, "seven of ten carry all of it");
//! take_down(4);
//! assert_eq!(stays(), 8_571, "six of the seven that would be needed");
//! take_down(10);
//! assert_eq!(stays(), 0);
//! ```
//!
//! When so few servers are up at all that health itself is not to be believed, see
//! [`health`](crate::guide::health#failing-open).
//!
//! [`Backend::queue`]: crate::snapshot::Backend::queue
//! [`Cursors`]: crate::Cursors
//! [`Decision::again`]: crate::Decision::again
//! [`Decision::take`]: crate::Decision::take
//! [`HashKey`]: crate::spec::HashKey
//! [`MAGLEV_ENTRIES`]: crate::defaults::MAGLEV_ENTRIES
//! [`PEAK_EWMA_HALF_LIFE`]: crate::defaults::PEAK_EWMA_HALF_LIFE
//! [`Permit::answered`]: crate::Permit::answered
//! [`Permit::sent`]: crate::Permit::sent
//! [`QueueSpec`]: crate::spec::QueueSpec
//! [`ServerLive::connect`]: crate::ServerLive::connect
