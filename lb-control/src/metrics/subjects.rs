//! What is said about each subject: the plain numbers, in tables that the text, StatsD and the budget share.

use super::family::Kind::{self, Counter, Gauge};
use crate::workers::{ArmReading, AttemptNumbers, BackendReading, ListenerReading, WorkerReading};

/// A plain number about a subject.
pub(super) struct Number<S: ?Sized> {
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) of: fn(&S) -> u64,
}

const fn number<S: ?Sized>(
    kind: Kind,
    name: &'static str,
    help: &'static str,
    of: fn(&S) -> u64,
) -> Number<S> {
    Number { kind, name, help, of }
}

/// Sums over all workers.
pub(super) const PROCESS: &[Number<WorkerReading>] = &[
    number(Counter, "lb_connections_accepted", "Client connections accepted", |it| it.accepted),
    number(Gauge, "lb_connections_active", "Client connections open", |it| it.active),
    number(Counter, "lb_connections_turned_away", "Client connections over a bound", |it| it.turned_away),
    number(Gauge, "lb_connections_held", "Client connections that wait for room", |it| it.held),
    number(Counter, "lb_accept_failures", "Accepts that failed for want of descriptors or memory", |it| {
        it.accept_failures
    }),
    number(Counter, "lb_bytes_received", "Bytes from clients", |it| it.bytes_received),
    number(Counter, "lb_bytes_sent", "Bytes to clients", |it| it.bytes_sent),
    number(Counter, "lb_attempts", "Attempts at servers", |it| it.attempts),
    number(Counter, "lb_retries", "Attempts after an exchange's first", |it| it.retries),
    number(Counter, "lb_retries_refused", "Further attempts that the retry budget did not allow", |it| {
        it.retries_refused
    }),
    number(Counter, "lb_fallbacks", "Exchanges served by the other arm", |it| it.fallbacks),
    number(Counter, "lb_upstream_connects", "Connections made to servers", |it| it.upstream_connects),
    number(Counter, "lb_upstream_connect_failures", "Connects to servers that failed", |it| {
        it.upstream_connect_failures
    }),
    number(Counter, "lb_upstream_reuses", "Attempts on a pooled connection", |it| it.upstream_reuses),
    number(Gauge, "lb_upstream_connections_active", "Server connections open", |it| it.upstream_active),
    number(Gauge, "lb_upstream_connections_idle", "Server connections idle in pools", |it| it.upstream_idle),
    number(Gauge, "lb_tunnels_active", "Tunnels open", |it| it.tunnels_active),
    number(Counter, "lb_access_log_lines_dropped", "Access log lines lost", |it| it.log_lines_dropped),
    number(Gauge, "lb_buffer_bytes", "Bytes of buffers in use", |it| it.buffer_bytes),
];

pub(super) const WORKER: &[Number<WorkerReading>] = &[
    number(Gauge, "lb_worker_connections_active", "Client connections open, by worker", |it| it.active),
    number(Counter, "lb_worker_connections_accepted", "Client connections accepted, by worker", |it| {
        it.accepted
    }),
    number(Counter, "lb_worker_bytes_received", "Bytes from clients, by worker", |it| it.bytes_received),
    number(Counter, "lb_worker_bytes_sent", "Bytes to clients, by worker", |it| it.bytes_sent),
    number(Counter, "lb_worker_attempts", "Attempts at servers, by worker", |it| it.attempts),
    number(Gauge, "lb_worker_upstream_connections_active", "Server connections open, by worker", |it| {
        it.upstream_active
    }),
    number(Gauge, "lb_worker_buffer_bytes", "Bytes of buffers in use, by worker", |it| it.buffer_bytes),
];

pub(super) const LISTENER: &[Number<ListenerReading>] = &[
    number(Counter, "lb_listener_connections_accepted", "Client connections accepted, by listener", |it| {
        it.accepted
    }),
    number(Gauge, "lb_listener_connections_active", "Client connections open, by listener", |it| it.active),
    number(Counter, "lb_listener_connections_turned_away", "Connections over a bound, by listener", |it| {
        it.turned_away
    }),
    number(Gauge, "lb_listener_exchanges_active", "Exchanges under way, by listener", |it| {
        it.exchanges_active
    }),
    number(Counter, "lb_listener_bytes_received", "Bytes from clients, by listener", |it| it.bytes_received),
    number(Counter, "lb_listener_bytes_sent", "Bytes to clients, by listener", |it| it.bytes_sent),
];

pub(super) const ARM: &[Number<ArmReading>] = &[
    number(Gauge, "lb_route_exchanges_active", "Exchanges under way, by arm", |it| it.exchanges.active),
    number(Counter, "lb_route_bytes_received", "Bytes from clients, by arm", |it| {
        it.exchanges.bytes_received
    }),
    number(Counter, "lb_route_bytes_sent", "Bytes to clients, by arm", |it| it.exchanges.bytes_sent),
    number(Counter, "lb_route_attempts", "Attempts at servers, by arm", |it| it.exchanges.attempts),
    number(Counter, "lb_route_retries", "Attempts after an exchange's first, by arm", |it| {
        it.exchanges.retries
    }),
    number(Counter, "lb_route_retries_refused", "Further attempts that the budget refused, by arm", |it| {
        it.exchanges.retries_refused
    }),
    number(
        Counter,
        "lb_route_fallbacks",
        "Exchanges of this arm's sessions that the other arm served",
        |it| it.exchanges.fallbacks,
    ),
];

pub(super) const BACKEND: &[Number<BackendReading>] = &[
    number(Gauge, "lb_backend_exchanges_active", "Exchanges under way, by backend", |it| it.exchanges.active),
    number(Counter, "lb_backend_bytes_received", "Bytes from clients, by backend", |it| {
        it.exchanges.bytes_received
    }),
    number(Counter, "lb_backend_bytes_sent", "Bytes to clients, by backend", |it| it.exchanges.bytes_sent),
    number(Counter, "lb_backend_attempts", "Attempts at its servers", |it| it.exchanges.attempts),
    number(Counter, "lb_backend_retries", "Attempts after an exchange's first, by backend", |it| {
        it.exchanges.retries
    }),
    number(
        Counter,
        "lb_backend_retries_refused",
        "Further attempts that the budget refused, by backend",
        |it| it.exchanges.retries_refused,
    ),
    number(Gauge, "lb_backend_in_flight", "Attempts under way, by backend", |it| it.attempts.active),
    number(Gauge, "lb_backend_queue", "Requests that wait until a server has room", |it| {
        it.queue.waiting.into()
    }),
    number(Counter, "lb_backend_queued", "Requests that had to wait until a server had room", |it| {
        it.queue.entered
    }),
    number(Counter, "lb_backend_upstream_connects", "Connections made to its servers", |it| {
        it.attempts.connects
    }),
    number(Counter, "lb_backend_upstream_reuses", "Attempts on a pooled connection, by backend", |it| {
        it.attempts.reuses
    }),
];

pub(super) const SERVER: &[Number<AttemptNumbers>] = &[
    number(Counter, "lb_server_bytes_sent", "Bytes to the server", |it| it.bytes_sent),
    number(Counter, "lb_server_bytes_received", "Bytes from the server", |it| it.bytes_received),
    number(Counter, "lb_server_upstream_connects", "Connections made to the server", |it| it.connects),
    number(Counter, "lb_server_upstream_reuses", "Attempts on a pooled connection to the server", |it| {
        it.reuses
    }),
    number(Counter, "lb_server_retries", "Attempts at the server after an exchange's first", |it| it.retries),
];
