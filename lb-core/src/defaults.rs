//! Every default and every bound of the core that has no better home, each with what happens there.
//!
//! Names of keys and features in files are those of the proxy that uses this crate; its fields in [`spec`](crate::spec)
//! are named nearly the same.

use crate::share::Share;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How long a connection to a server may take to open: 3 s.
pub const CONNECT: Duration = Duration::from_secs(3);
/// How long a client may take to send a whole request head, from its first byte: 10 s.
pub const REQUEST_HEAD: Duration = Duration::from_secs(10);
/// How long a server may stay silent while a response is owed: 30 s.
pub const RESPONSE: Duration = Duration::from_secs(30);
/// How long a client's connection may idle between two requests: 75 s.
pub const IDLE_DOWN: Duration = Duration::from_secs(75);
/// How long a server's connection may idle in a pool: 4 s, shorter than the 5 s after which Node closes.
pub const IDLE_UP: Duration = Duration::from_secs(4);
/// How long an upgraded connection may be silent in both directions: an hour.
pub const TUNNEL_IDLE: Duration = Duration::from_secs(3600);
/// How long exchanges may go on once draining has begun: 30 s.
pub const DRAIN: Duration = Duration::from_secs(30);
/// The longest duration that any timeout may be set to: a week. A longer one is a problem at compile time.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Further attempts after the first, only where safe.
pub const RETRIES: u32 = 1;
/// The most further attempts that a route or backend may ask for.
pub const RETRIES_MAX: u32 = 10;
/// Share of a backend's exchanges, in percent, that may be retried over time.
pub const RETRY_BUDGET_PERCENT: u32 = 20;
/// What the second retry of an exchange waits for at most: 25 ms. The first goes to another server at once.
pub const RETRY_BACKOFF: Duration = Duration::from_millis(25);
/// Unless it is set, no retry waits longer than so many times the first wait.
pub const RETRY_BACKOFF_GROWTH: u32 = 10;
/// The longest wait before a retry that can be asked for: 10 s.
pub const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Bytes up to which a request's body is held to be sent again: 16 KiB. One that goes on is let go.
pub const HOLD_BODY: u64 = 16 << 10;
/// The most that may be asked to be held of a body: 256 KiB.
pub const HOLD_BODY_MAX: u64 = 256 << 10;

/// Name of the session cookie.
pub const SESSION_COOKIE: &str = "lb_session";
/// A sticky backend's cookie is `lb_` and the backend's name, unless it is given.
pub const STICKY_COOKIE_PREFIX: &str = "lb_";
/// A canary's mark is the testers' cookie's name and `_mark`, unless it is given.
pub const MARK_COOKIE_SUFFIX: &str = "_mark";
/// What the mark's name begins with where a canary names neither a mark nor a testers' cookie: the mark is
/// `canary_mark` then. No testers' cookie is read for it.
pub const CANARY_COOKIE: &str = "canary";

/// Weight of a server that is given none.
pub const WEIGHT: u32 = 1;
/// The greatest weight; it bounds the round robin order (weights' sum entries).
pub const WEIGHT_MAX: u32 = 256;

/// How long the first connect failure takes a server out of picks: 100 ms. Each further one twice as long.
pub const REMOVAL_FIRST: Duration = Duration::from_millis(100);
/// How long repeated connect failures take a server out of picks at most: 10 s.
pub const REMOVAL_MAX: Duration = Duration::from_secs(10);

/// Time between two checks of a server: 2 s.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Time between two checks of a server while the next results decide whether it is up: 500 ms.
pub const CHECK_FAST_INTERVAL: Duration = Duration::from_millis(500);
/// Percent by which times between checks are made longer or shorter at random.
pub const CHECK_JITTER_PERCENT: u32 = 20;
/// Good checks in a row that bring a server up.
pub const CHECK_RISE: u32 = 2;
/// Bad checks in a row that take a server down.
pub const CHECK_FALL: u32 = 3;

/// Failures in a row that eject a server.
pub const OUTLIER_FAILURES: u32 = 5;
/// Points of percent by which more of a server's attempts than of the others' fail before it is ejected.
pub const OUTLIER_RATIO_MARGIN_PERCENT: u32 = 25;
/// Attempts that a server must have had before its share of failures is judged.
pub const OUTLIER_RATIO_SAMPLES: u32 = 50;
/// A server that is so many times slower than the others is ejected.
pub const OUTLIER_LATENCY_FACTOR: u32 = 10;
/// Latencies shorter than 50 ms eject nobody.
pub const OUTLIER_LATENCY_MIN: Duration = Duration::from_millis(50);
/// Responses that a server must have given before its latency is judged.
pub const OUTLIER_LATENCY_SAMPLES: u32 = 10;
/// What happened in so long counts, and what happened longer ago than twice as long does not: 10 s.
pub const OUTLIER_WINDOW: Duration = Duration::from_secs(10);
/// How long a first ejection lasts: 10 s. Each further one lasts twice as long.
pub const EJECTION_FIRST: Duration = Duration::from_secs(10);
/// How long an ejection lasts at most: 5 minutes.
pub const EJECTION_MAX: Duration = Duration::from_secs(300);
/// After so long without a new one, ejections are forgotten: 10 minutes.
pub const FORGIVE_AFTER: Duration = Duration::from_secs(600);
/// Servers of a backend, in percent, that may be ejected at once.
pub const EJECTED_MAX_PERCENT: u32 = 30;

/// Entries of a Maglev table: a prime, for every step must be able to reach every entry, and a hundred times as many as
/// 655 servers, so that among these no two servers of equal weight differ by more than about one percent (Eisenbud et
/// al., "Maglev: a fast and reliable software network load balancer", 2016, section 5.3). 128 KiB for each backend.
pub const MAGLEV_ENTRIES: usize = 65_537;
/// What [`max_load_percent`](crate::spec::BackendSpec::max_load_percent) may be: 105 to 1000. Nobody can have less than
/// the average everywhere, and at little more a request meets so many full servers that all must be asked.
pub const MAX_LOAD_PERCENT: RangeInclusive<u32> = 105..=1000;
/// How long slow start may take at most: an hour.
pub const SLOW_START_MAX: Duration = Duration::from_secs(3600);
/// Of its weight a server has at least this part in slow start, in percent: with less it would not get warm.
pub const SLOW_START_LEAST_PERCENT: u32 = 10;
/// As long as this part of its weight is up, 70 %, a zone keeps what is its own: its servers have at most 1.43 times as much
/// to do as with all of them, and that much room most have.
pub const SPILL_BELOW: Share = Share::percent(70);
/// How long `peak_ewma` takes to forget half of what it saw of a server: 7 s.
pub const PEAK_EWMA_HALF_LIFE: Duration = Duration::from_secs(7);

/// Requests that wait at a time for a server of one backend to have room; a further one is refused.
pub const QUEUE_REQUESTS: u32 = 1_000;
/// The most requests that may be made to wait.
pub const QUEUE_REQUESTS_MAX: u32 = 10_000;
/// How long a request waits for a server to have room: 3 s, as long as it would for a connection ([`CONNECT`]).
pub const QUEUE_TIMEOUT: Duration = CONNECT;

/// Clients of whom is known what they owe, by the [rates](crate::spec::RouteSpec::rate) of all routes together: 1 MiB, if
/// there is any. When more owe something at a time, those who owe least are forgotten.
pub const RATE_CLIENTS: usize = 65_536;
/// Leading bits of an IPv6 address that a rate counts by, unless it says: what one customer usually has at least (RFC 6177).
pub const RATE_IPV6_PREFIX: u8 = 64;
/// The longest time that a rate may be counted in: a day.
pub const RATE_PER_MAX: Duration = Duration::from_secs(24 * 3600);
/// The most requests in a second that a rate may allow: what they cost is kept in nanoseconds, and would be too coarse.
pub const RATE_PER_SECOND_MAX: u32 = 1_000_000;
/// The greatest burst of a rate.
pub const RATE_BURST_MAX: u32 = 1_000_000;

/// Time that a client is given for a request body besides what its bytes bring: 10 s.
pub const BODY_GRACE: Duration = Duration::from_secs(10);
/// The least of it: a second, so that a lost packet is not the end.
pub const BODY_GRACE_MIN: Duration = Duration::from_secs(1);
/// The most bytes in a second that a client may be asked for: a gigabyte.
pub const BODY_RATE_MAX: u64 = 1 << 30;

/// What platinum, gold and silver have of a worker where all want more than there is: 60, 30 and 10 parts of their sum.
pub const CLASS_SHARES: [u32; 3] = [60, 30, 10];
/// The largest share of a class.
pub const CLASS_SHARE_MAX: u32 = 100;
/// Requests of one class that wait for their turn at one worker at a time; a further one is refused. It is what a worker
/// does in about 40 ms.
pub const CLASS_WAITING: u32 = 4_096;
/// The most requests of a class that may be made to wait.
pub const CLASS_WAITING_MAX: u32 = 1_000_000;

/// Listeners in a spec at most; more is a problem at compile time, as for the bounds below.
pub const LISTENERS_MAX: usize = 64;
/// Routes in a spec at most.
pub const ROUTES_MAX: usize = 200_000;
/// Backends in a spec at most.
pub const BACKENDS_MAX: usize = 100_000;
/// Addresses in one backend at most.
pub const SERVERS_PER_BACKEND_MAX: usize = 4_096;
/// Addresses in all backends at most.
pub const SERVERS_MAX: usize = 1_000_000;
/// Conditions of one kind (headers, cookies, networks and so on) on one route at most.
pub const CONDITIONS_MAX: usize = 64;
/// Routes with the same host and path, told apart by conditions only: these are tried one by one.
pub const ROUTES_PER_PLACE_MAX: usize = 256;
/// Routes with a `path_regex` on one host: these are tried one by one.
pub const REGEXES_PER_HOST_MAX: usize = 256;
/// Regular expressions in a spec at most, each of which may take a megabyte.
pub const REGEXES_MAX: usize = 10_000;
/// Segments of a `path_prefix` at most; it bounds the walk through the trie.
pub const PREFIX_SEGMENTS_MAX: usize = 64;
/// Different values of `priority` at most: each is an index of its own that may have to be asked.
pub const PRIORITIES_MAX: usize = 16;
/// Networks in one list at most.
pub const NETWORKS_MAX: usize = 4_096;
/// Keys that verify at most: each costs one hash where a cookie must be verified.
pub const SIGNING_KEYS_MAX: usize = 8;
/// Bytes of a name (of a route, backend, server, listener) at most.
pub const NAME_LEN_MAX: usize = 64;
/// Labels of a server at most.
pub const LABELS_MAX: usize = 8;
/// Bytes of a label's value at most.
pub const LABEL_LEN_MAX: usize = 128;
/// Bytes of a request's path at most; a longer one is refused with 414.
pub const PATH_LEN_MAX: usize = 65_536;
/// Bytes of a host name at most (RFC 1035, section 2.3.4).
pub const HOST_LEN_MAX: usize = 253;
/// Cookie pairs looked at in one request at most; later ones are not seen.
pub const COOKIES_MAX: usize = 256;
/// Hops of X-Forwarded-For looked at, from the right; beyond them the last one looked at counts.
pub const HOPS_MAX: usize = 64;
/// Arms of a route: the stable one and at most one canary.
pub const ARMS_MAX: usize = 2;
