//! What the control side needs of the side that moves bytes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lb_core::histogram::Histogram;
use lb_core::spec::Class;

/// The workers, as far as the control side knows them. The binary fills it with its engine.
///
/// No call blocks for longer than it takes to swap a pointer or read counters.
pub trait Workers: Send + Sync + 'static {
    /// Hands the workers a new table. Exchanges that were decided by the old one finish with it.
    fn publish(&self, table: Arc<lb_core::Table>);

    /// What the workers and listeners have counted until now.
    fn read(&self) -> Reading;

    /// What the routes' arms have counted: times on both sides included, so that arms can be compared. Cheap enough
    /// for every second.
    fn arms(&self) -> Vec<ArmReading> {
        Vec::new()
    }

    /// What the servers have counted. For thousands of them this reads megabytes.
    fn servers(&self) -> Vec<ServerReading> {
        Vec::new()
    }

    /// What the backends of the configuration have counted, former arms and servers included. As large to read as
    /// [`Workers::servers`].
    fn backends(&self) -> Vec<BackendReading> {
        Vec::new()
    }

    /// Who waits for servers that are full: every backend whose servers may be. Cheap enough for every second.
    fn queues(&self) -> Vec<QueueReading> {
        Vec::new()
    }

    /// Takes what was recorded since the last call of exchanges in sampled traces, in each worker's order. To be called
    /// several times in a second: what does not fit into the workers' buffers meanwhile is lost and counted.
    fn take_spans(&self, _each: &mut dyn FnMut(SpanReading<'_>)) {}

    /// The workers' clock, which live state counts by.
    fn now(&self) -> Duration;

    /// Stops accepting; exchanges under way may finish until the deadline, then are cut. A second call with
    /// a shorter deadline shortens it.
    fn drain(&self, deadline: Duration);

    /// True once every worker has stopped.
    fn finished(&self) -> bool;
}

/// Plain numbers from the workers. All but those named `active`, `idle` or in bytes of memory only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The driver in use: `io_uring` or `epoll`.
    pub driver: String,
    /// One entry per worker.
    pub workers: Vec<WorkerReading>,
    /// One entry per listener.
    pub listeners: Vec<ListenerReading>,
}

/// One worker's numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerReading {
    /// Connections accepted from clients.
    pub accepted: u64,
    /// Client connections open now.
    pub active: u64,
    /// Client connections turned away because a bound was reached.
    pub turned_away: u64,
    /// Client connections that were accepted and wait until there is room for them.
    pub held: u64,
    /// Times accepting failed for want of descriptors or memory.
    pub accept_failures: u64,
    /// Bytes received from clients.
    pub bytes_received: u64,
    /// Bytes sent to clients.
    pub bytes_sent: u64,
    /// Exchanges by the status that the client was sent; 499: it left before; 0: none applies.
    pub requests: ByStatus,
    /// Local replies by reason word.
    pub local_replies: ByReason,
    /// Attempts at servers.
    pub attempts: u64,
    /// Attempts that were not an exchange's first.
    pub retries: u64,
    /// Further attempts that would have been made, had the budget had one.
    pub retries_refused: u64,
    /// Exchanges served by another arm than the one that was chosen.
    pub fallbacks: u64,
    /// Connections made to servers.
    pub upstream_connects: u64,
    /// Connects to servers that failed or timed out.
    pub upstream_connect_failures: u64,
    /// Attempts that used a pooled connection.
    pub upstream_reuses: u64,
    /// Connections to servers open now.
    pub upstream_active: u64,
    /// Of those, idle in the pool.
    pub upstream_idle: u64,
    /// Tunnels open now.
    pub tunnels_active: u64,
    /// Access log lines lost because the writer did not keep up.
    pub log_lines_dropped: u64,
    /// Exchanges of sampled traces that were not recorded because nobody took the records fast enough.
    pub spans_dropped: u64,
    /// Bytes of buffers in use now.
    pub buffer_bytes: u64,
    /// By class, the first first.
    pub classes: [ClassReading; Class::ALL.len()],
}

/// What one worker counted for a class; nothing where all routes have the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassReading {
    /// Requests that wait for their turn now.
    pub waiting: u64,
    /// Time that requests have waited for their turn, in microseconds.
    pub waited_us: u64,
    /// Requests that were refused because too many waited.
    pub refused: u64,
    /// Time that the class has had of the worker, in microseconds.
    pub busy_us: u64,
}

/// Counts by status, in ascending order. 499: the client left before; 0: none applies. Where not all statuses are
/// told apart, 1 to 5 stand for the others of that hundred.
pub type ByStatus = Vec<(u16, u64)>;

/// The same by hundreds: 1xx at place 1, what is above 599 with 5xx, and what is no status first.
pub(crate) fn by_hundreds(counts: &ByStatus) -> [u64; 6] {
    let mut hundreds = [0; 6];
    for &(status, count) in counts {
        let hundred = if status <= 5 { status } else { (status / 100).min(5) };
        hundreds[usize::from(hundred)] += count;
    }
    hundreds
}

/// What came since an earlier reading; nothing where there is less than there was, because it began anew.
pub(crate) fn since(now: &[u64; 6], earlier: &[u64; 6]) -> [u64; 6] {
    std::array::from_fn(|hundred| now[hundred].saturating_sub(earlier[hundred]))
}

/// Counts by reason word.
pub type ByReason = Vec<(&'static str, u64)>;

/// One listener's numbers, over all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerReading {
    /// Its name.
    pub name: Arc<str>,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections open now.
    pub active: u64,
    /// Connections turned away because a bound was reached.
    pub turned_away: u64,
    /// Exchanges under way now.
    pub exchanges_active: u64,
    /// Exchanges that ended, by status.
    pub requests: ByStatus,
    /// Exchanges that we ended ourselves, by reason.
    pub local_replies: ByReason,
    /// Bytes from clients.
    pub bytes_received: u64,
    /// Bytes to clients.
    pub bytes_sent: u64,
}

/// What an arm's exchanges came to, over all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExchangeNumbers {
    /// Exchanges under way now.
    pub active: u64,
    /// Exchanges that ended, by status.
    pub requests: ByStatus,
    /// Exchanges that we ended ourselves, by reason.
    pub local_replies: ByReason,
    /// Bytes from clients.
    pub bytes_received: u64,
    /// Bytes to clients.
    pub bytes_sent: u64,
    /// Attempts at servers.
    pub attempts: u64,
    /// Of those, not the first of their exchange.
    pub retries: u64,
    /// Further attempts that would have been made, had the budget had one.
    pub retries_refused: u64,
    /// Exchanges of this arm's sessions that another arm served.
    pub fallbacks: u64,
    /// Times of exchanges as the clients saw them, from the complete head to the last byte; without tunnels.
    pub exchange: Histogram,
    /// Times that new connections to servers took.
    pub connect: Histogram,
    /// Times from the connection to the response head, or to when we gave up waiting for it.
    pub wait: Histogram,
    /// Times from the response head to the end; without tunnels.
    pub transfer: Histogram,
}

impl ExchangeNumbers {
    /// Exchanges that ended.
    pub fn ended(&self) -> u64 {
        self.requests.iter().map(|(_, count)| count).sum()
    }
}

/// One arm of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArmReading {
    /// Its route. Empty for exchanges that were refused before they had one, and where routes are not told apart.
    pub route: Arc<str>,
    /// `stable` or `canary`; empty for a route that answers by itself.
    pub arm: &'static str,
    /// The backend that it leads to; empty if none. An arm that is led elsewhere begins anew.
    pub backend: Arc<str>,
    /// Its exchanges, by the arm that served.
    pub exchanges: ExchangeNumbers,
}

/// What a server's attempts came to, over all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttemptNumbers {
    /// Attempts under way now.
    pub active: u64,
    /// Response heads by status.
    pub responses: ByStatus,
    /// Bytes to it.
    pub bytes_sent: u64,
    /// Bytes from it.
    pub bytes_received: u64,
    /// Connections made.
    pub connects: u64,
    /// The sum of the times that they took, in microseconds.
    pub connect_us: u64,
    /// Attempts on a pooled connection.
    pub reuses: u64,
    /// Attempts that were not an exchange's first.
    pub retries: u64,
    /// Attempts begun.
    pub begun: u64,
    /// Attempts for which no connection came about.
    pub connect_failures: u64,
    /// Attempts that were sent and got no whole response.
    pub failures: u64,
    /// Times of attempts, from the pick to the response head or to when we gave up waiting for it.
    pub attempt: Histogram,
}

/// One server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerReading {
    /// Its backend.
    pub backend: Arc<str>,
    /// Its name; empty where servers are not told apart.
    pub name: Arc<str>,
    /// Its address; none where servers are not told apart.
    pub address: Option<SocketAddr>,
    /// Its attempts.
    pub attempts: AttemptNumbers,
}

/// One exchange of a sampled trace. What there is none of is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanReading<'a> {
    /// The trace.
    pub trace: u128,
    /// The exchange.
    pub id: u64,
    /// What it was caused by; none: the trace begins with it.
    pub parent: Option<u64>,
    /// The flags of its `traceparent`.
    pub flags: u8,
    /// When its head was complete, in nanoseconds since 1970.
    pub started_ns: u64,
    /// When it ended.
    pub ended_ns: u64,
    /// The status that the client was sent; 499: it left before; 0: none applies.
    pub status: u16,
    /// It came by HTTP/1.0.
    pub is_old: bool,
    /// It failed, and not for what the client did or is.
    pub failed: bool,
    /// Attempts at servers.
    pub attempts: u32,
    /// Bytes from the client.
    pub bytes_received: u64,
    /// Bytes to the client.
    pub bytes_sent: u64,
    /// From the complete head to the last pick, in microseconds; none: not come to. The others likewise.
    pub before_us: Option<u64>,
    /// From the pick to a connection.
    pub connect_us: Option<u64>,
    /// From the connection to the response head.
    pub wait_us: Option<u64>,
    /// From the response head to the end.
    pub transfer_us: Option<u64>,
    /// The client, as far as it is known.
    pub client: Option<IpAddr>,
    /// The exchange's id.
    pub request_id: &'a str,
    /// The method.
    pub method: &'a [u8],
    /// The path, without a query.
    pub path: &'a [u8],
    /// The authority.
    pub host: &'a [u8],
    /// `user-agent`.
    pub agent: &'a [u8],
    /// The listener that it came by.
    pub listener: &'a str,
    /// Who or what ended it.
    pub ending: &'a str,
    /// Why we ended it.
    pub reason: &'a str,
    /// The route.
    pub route: &'a str,
    /// The arm that served.
    pub arm: &'a str,
    /// Why the session belongs to its arm.
    pub choose: &'a str,
    /// Another arm served than the session's.
    pub fallback: bool,
    /// The backend.
    pub backend: &'a str,
    /// The server of the last attempt.
    pub server: &'a str,
    /// Its address.
    pub server_address: Option<SocketAddr>,
}

/// One backend of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackendReading {
    /// Its name.
    pub name: Arc<str>,
    /// Requests that wait for its servers.
    pub queue: QueueNumbers,
    /// Exchanges of all arms that led or lead to it.
    pub exchanges: ExchangeNumbers,
    /// Attempts at all servers that it had or has.
    pub attempts: AttemptNumbers,
}

/// Requests that wait until a server has room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueNumbers {
    /// Those that wait now.
    pub waiting: u32,
    /// Those that have had to.
    pub entered: u64,
    /// For how long, be it that one had room or not. None of a backend whose servers are never full.
    pub waits: Option<Histogram>,
}

/// Who waits for one backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueReading {
    /// Its name.
    pub backend: Arc<str>,
    /// How many, and for how long.
    pub numbers: QueueNumbers,
}
