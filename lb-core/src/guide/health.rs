//! Health: checks, outliers, and how both reach the picks.
//!
//! A server has two axes of state. *Admin* (ready, drain, maintenance) is what people say, in the spec. *Health* (up, or
//! down and why) is what has been found out. Picks ask for both with one load; [`explain`](crate::explain()) names every
//! server that is out, and why.
//!
//! The core sends no probes and has no timers. It has the tables: [`health`](crate::health) for the results of checks,
//! [`outlier`](crate::outlier) for what traffic tells, and [`Monitor`], which applies both to the servers of a table. You
//! need it once per process: its verdicts are written into the live state that all threads share.
//!
//! # A monitor at work
//!
//! ```
//! use lb_core::health::{CheckSettings, Fault, News, Watching, jittered};
//! use lb_core::outlier::OutlierSettings;
//! use lb_core::{Handle, Health, Identity, Monitor, Snapshot, Why};
//! use std::collections::HashMap;
//! use std::time::Duration;
//!
//! # use lb_core::spec::*;
//! # fn snapshot() -> Snapshot {
//! #     let server = |name: &str, port| ServerSpec::new(name, ([127, 0, 0, 1], port).into());
//! #     let backend = BackendSpec::new("app", [server("a", 8001), server("b", 8002)]);
//! #     let route = RouteSpec::new("r", "app");
//! #     let spec = Spec { routes: vec![route], backends: vec![backend], ..Spec::default() };
//! #     lb_core::compile(&spec).unwrap().snapshot
//! # }
//! let watching = Watching {
//!     checks: Some(CheckSettings { fall: 2, ..CheckSettings::default() }),
//!     outliers: Some(OutlierSettings::default()),
//! };
//! let now = Duration::from_secs(1);
//! let mut monitor = Monitor::new();
//! let handle = Handle::new(snapshot());
//! let mut notices = monitor.fit(&handle.load(), |_backend| watching, now);
//!
//! // Later tables are shown to it before any request sees them: a new server is down until it was checked.
//! handle.publish_with(snapshot(), |table| notices.extend(monitor.fit(table, |_| watching, now)));
//!
//! // What it wants is in its notices: one timer for each server, at the earlier of what it is and what is asked for.
//! let mut due: HashMap<Identity, Duration> = HashMap::new();
//! for notice in &notices {
//!     match notice.news {
//!         News::CheckWithin(time) => {
//!             let at = now + jittered(time, 0x5eed); // random bits
//!             due.entry(notice.server.clone()).and_modify(|due| *due = at.min(*due)).or_insert(at);
//!         }
//!         News::Turned { now: health, .. } => println!("{} is {health}", notice.server),
//!         News::Ejected(ejection) => println!("{}: {}", notice.server, ejection.offence),
//!         News::Returned => println!("{} is back", notice.server),
//!         _ => {} // there may be other news one day
//!     }
//! }
//!
//! // A check is whatever you send; its result is good, or has a fault. While it is under way there is no timer.
//! let server = handle.load().live.servers()[0].identity().clone();
//! assert!(due.remove(&server).is_some_and(|at| at <= now), "a first check is due at once");
//! let health = || handle.load().live.servers()[0].health();
//! assert_eq!(health(), Health::Down(Why::Unchecked));
//! let notices = monitor.checked(&server, Ok(()), now);
//! assert_eq!(notices.len(), 2, "it is up, and when it is to be checked again");
//! assert_eq!(health(), Health::Up);
//! monitor.checked(&server, Err(Fault::Timeout), now);
//! assert_eq!(health(), Health::Up, "once is not enough");
//! monitor.checked(&server, Err(Fault::Timeout), now);
//! assert_eq!(health(), Health::Down(Why::Timeout));
//!
//! // Once a second or so it looks at what traffic has done.
//! let notices = monitor.look(now + Duration::from_secs(1));
//! # assert!(notices.is_empty());
//! ```
//!
//! # Checks
//!
//! The first good check brings a server up; from then on `fall` bad ones in a row take it down and `rise` good ones bring it
//! back. While the next results decide, checks come at `fast_interval`: after a bad check or a failed attempt of traffic
//! until a good one, and after a good check of a server that is down. In maintenance nothing is checked, and afterwards a
//! server begins anew. [`Monitor::undecided`] names those whose first verdict is missing: a readiness probe of your own
//! process may wait for it.
//!
//! Keep one timer for each server, as above, and none while its check is under way: the result brings the next notice, and
//! what is asked for meanwhile may be forgotten. Of a server that is gone, or rests in maintenance,
//! [`Monitor::standing`] says so: its timer ends. After maintenance a notice comes again.
//!
//! A reload keeps all of it: state belongs to a server's identity (backend, entry name, address).
//!
//! # Outliers
//!
//! A server that answers its checks may still fail its traffic. Permits count how attempts end, and the monitor compares:
//!
//! | ejected for | when (defaults) |
//! |---|---|
//! | failures in a row | 5 attempts failed, and none since went well |
//! | its share of failures | 25 points of percent above the others' median, of at least 50 attempts |
//! | its latency | ten times the others' median and 50 ms at least, of at least 10 responses |
//!
//! Failures are attempts without a response and, unless `server_errors` is off, responses of 500 and above. Latency is the
//! time to the response's head: call [`Permit::answered`], or slow clients make slow servers. Attempts of the last 10 to 20
//! seconds count.
//!
//! An ejection lasts 10 s, and twice as long each time up to 5 minutes; ten minutes of good behaviour are forgiveness. At
//! most 30 % of a backend's servers are out at once (one always may be, of two or more), the worst first, and the last one
//! that can serve never is. Where most servers do badly nobody is an outlier. A good check does not end an ejection. Every
//! ejection carries its reason: as [`Why`] in the server's health, in words and numbers as [`Offence`].
//!
//! What comes back comes back with all of its traffic, unless the backend has a
//! [slow start](crate::guide::policies#slow-start).
//!
//! # Failing open
//!
//! A check that asks for the wrong thing, or a network that is cut from where we stand, makes all servers look bad at once,
//! and the few that are left could not carry everything anyway. With
//! [`fail_open_below`](crate::spec::BackendSpec::fail_open_below), health is ignored as long as fewer of a backend's ready
//! primaries are up than this share, and no backup is. Then all that are ready serve, by the backend's policy. What still
//! counts: people's word (drain, maintenance), connections that have just failed, and that a server was never checked at
//! all. When not one of an arm's servers is up, another arm that can serve comes first. It is off unless asked for; 50 % is
//! a good beginning. It costs no request anything: the servers are looked over after one of them has changed.
//!
//! ```
//! use lb_core::spec::{Admin, BackendSpec, RouteSpec, ServerSpec, Share, Spec};
//! use lb_core::{Cursors, Health, RequestView, Table, Verdict, Why, compile, decide, explain};
//! use std::time::Duration;
//!
//! let server = |number: u8| ServerSpec::new(format!("s{number}"), ([10, 0, 0, number], 80).into());
//! let backend = BackendSpec {
//!     fail_open_below: Some(Share::percent(50)),
//!     ..BackendSpec::new("app", (0..4).map(server))
//! };
//! let spec = Spec { routes: vec![RouteSpec::new("all", "app")], backends: vec![backend], ..Spec::default() };
//! let table = Table::new(compile(&spec).unwrap().snapshot, None);
//!
//! let (request, now) = (RequestView::get("h", "/", [192, 0, 2, 1].into()), Duration::from_secs(1));
//! let mut cursors = Cursors::default();
//! let mut asked = || -> Vec<String> {
//!     let mut names: Vec<String> = (0..8)
//!         .map(|random| match decide(&table, &cursors, &request, now, random) {
//!             Verdict::Forward(decision) => {
//!                 let permit = decision.take(&table, &mut cursors, now).expect("no server has a bound");
//!                 permit.name().to_owned()
//!             }
//!             other => panic!("{other:?}"),
//!         })
//!         .collect();
//!     names.sort();
//!     names.dedup();
//!     names
//! };
//! let servers = table.live.servers();
//! servers[0].set_health(Health::Down(Why::Answer));
//! servers[1].set_health(Health::Down(Why::Answer));
//! assert_eq!(asked(), ["s2", "s3"], "half of them are believed");
//! servers[2].set_health(Health::Down(Why::Answer));
//! assert_eq!(asked(), ["s0", "s1", "s2", "s3"], "a quarter is not");
//! servers[1].set_admin(Admin::Maintenance);
//! assert_eq!(asked(), ["s0", "s2", "s3"], "but people are");
//! assert!(explain(&table, &Cursors::default(), &request, now, 1).pick.unwrap().failed_open);
//! ```
//!
//! # Without a monitor
//!
//! [`ServerLive::set_health`] and [`set_admin`] can be called from any thread; embedders with a source of health of their own
//! (a service mesh, a registry) need nothing else. Beside a monitor use `set_admin` to take a server out by hand: health that
//! was set stays until the monitor's verdict *changes*, so a server that was set down and answers its checks stays down until
//! it is set up, or falls and rises. And a failed connect takes a server out of picks for a moment whether or
//! not anybody watches.
//!
//! [`Monitor`]: crate::Monitor
//! [`Monitor::standing`]: crate::Monitor::standing
//! [`Monitor::undecided`]: crate::Monitor::undecided
//! [`Offence`]: crate::outlier::Offence
//! [`Permit::answered`]: crate::Permit::answered
//! [`ServerLive::set_health`]: crate::ServerLive::set_health
//! [`Why`]: crate::Why
//! [`set_admin`]: crate::ServerLive::set_admin
