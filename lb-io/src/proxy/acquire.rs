//! A connection to a server: a pooled one that is hot, or a new one.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use lb_core::ServerLive;

use crate::driver::ConnKey;
use crate::reason::{CLIENT_LEFT, CONNECT_FAILED, CONNECT_TIMEOUT, OVERLOADED, Reason, STOPPED};
use crate::worker::Worker;
use crate::worker::conns::{Fill, Owner};
use crate::worker::tasks::{TaskIndex, wait};

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct Want {
    /// The server's address.
    pub address: SocketAddr,
    /// The server's pool.
    pub pool: u32,
    /// Takes no pooled connection that has been idle for so long; zero: none at all.
    pub max_idle: Option<Duration>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
}

/// A connection to a server, owned by the task that asked.
#[derive(Debug, Clone, Copy)]
pub struct Acquired {
    /// The connection.
    pub conn: ConnKey,
    /// It served another exchange before.
    pub reused: bool,
}

/// Takes or makes a connection for `task`, which serves the client on `down`.
///
/// # Errors
/// Why there is none. [`CLIENT_LEFT`] is the client's doing, [`OVERLOADED`] and [`STOPPED`] are ours, all else is
/// the server's.
pub async fn acquire(
    worker: &Worker,
    task: TaskIndex,
    down: ConnKey,
    want: Want,
) -> Result<Acquired, Reason> {
    if let Some(conn) = worker.pools.borrow_mut().take(want.pool, worker.now(), want.max_idle) {
        worker.slot(conn, |slot| slot.owner = Owner::Task(task));
        worker.clear_deadline(conn);
        worker.counters().upstream_reuses.add(1);
        return Ok(Acquired { conn, reused: true });
    }
    if worker.counters().upstream_active.get() as usize >= worker.limits.connections {
        worker.evict_upstream();
    }
    let conn = match worker.driver.connect(want.address) {
        Err(error) if is_exhaustion(&error) && worker.evict_upstream() => worker.driver.connect(want.address),
        made => made,
    };
    let conn = conn.map_err(|error| if is_exhaustion(&error) { OVERLOADED } else { CONNECT_FAILED })?;
    worker.enter_connecting(conn, Owner::Task(task), want.address);
    worker.counters().upstream_connects.add(1);
    worker.counters().upstream_active.add(1);
    worker.set_deadline(conn, worker.now() + want.connect_timeout);
    let failed = loop {
        wait().await;
        if !worker.is_congested(conn) {
            match worker.driver.connect_result(conn) {
                Ok(()) => {
                    worker.clear_deadline(conn);
                    return Ok(Acquired { conn, reused: false });
                }
                // Woken before the outcome is known.
                Err(error) if error.kind() == ErrorKind::NotConnected => worker.await_writable(conn),
                Err(_) => break CONNECT_FAILED,
            }
        }
        if worker.is_expired(conn) {
            break CONNECT_TIMEOUT;
        }
        if worker.is_hung_up(down) {
            break CLIENT_LEFT;
        }
        if worker.is_stopping() {
            break STOPPED;
        }
    };
    worker.close_upstream(conn);
    if failed == CONNECT_FAILED || failed == CONNECT_TIMEOUT {
        worker.counters().upstream_connect_failures.add(1);
    }
    Err(failed)
}

/// Descriptors or memory are used up, of ours or of the system's.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Gives a connection, on which nothing is under way and nothing unread, to the pool; closes it where nobody would take
/// it from there: the server is full of idle ones, gone, or nobody is sent to it any more.
pub fn release(worker: &Worker, conn: ConnKey, pool: u32, live: &ServerLive, idle_timeout: Duration) {
    // Where the last receive did not drain the socket, nobody knows what else is there: look.
    let drained = !worker.is_readable(conn) || matches!(worker.fill(conn), Fill::Blocked);
    let quiet = drained && !worker.is_hung_up(conn) && !live.is_left_alone(worker.now());
    let place = quiet.then(|| worker.pools.borrow_mut().put(pool, live, conn, worker.now())).flatten();
    match place {
        Some(place) => {
            worker.slot(conn, |slot| slot.owner = Owner::IdleUpstream { pool, place });
            worker.set_deadline(conn, worker.now() + idle_timeout);
        }
        None => worker.close_upstream(conn),
    }
}
