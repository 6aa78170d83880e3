//! A connection to a server: a pooled one that is hot, or a new one.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use lb_core::{Connection, ServerLive};

use super::pool::Idle;

use crate::driver::ConnKey;
use crate::reason::{
    CLIENT_LEFT, CONNECT_FAILED, CONNECT_TIMEOUT, OVERLOADED, QUEUE_TIMEOUT, Reason, STOPPED,
};
use crate::worker::Worker;
use crate::worker::conns::Owner;
use crate::worker::queue::LOOK_AGAIN;
use crate::worker::tasks::{TaskIndex, wait};

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct Want<'a> {
    /// The server.
    pub server: &'a Arc<ServerLive>,
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
/// Why there is none. [`CLIENT_LEFT`] is the client's doing, [`OVERLOADED`], [`QUEUE_TIMEOUT`] and [`STOPPED`] are ours,
/// all else is the server's.
pub async fn acquire(
    worker: &Worker,
    task: TaskIndex,
    down: ConnKey,
    want: Want<'_>,
) -> Result<Acquired, Reason> {
    let found = match find(worker, task, want) {
        Some(found) => found,
        None => seek(worker, task, down, want).await?,
    };
    match found {
        Found::Idle(conn) => Ok(Acquired { conn, reused: true }),
        Found::Room(counted) => connect(worker, task, down, counted, want.connect_timeout).await,
    }
}

/// How a connection can be had.
enum Found {
    /// It was in the pool.
    Idle(ConnKey),
    /// It may be made.
    Room(Connection),
}

/// A connection of the pool, or the right to make one.
fn find(worker: &Worker, task: TaskIndex, want: Want<'_>) -> Option<Found> {
    let idle = worker.pools.borrow_mut().take(want.pool, want.server, worker.now(), want.max_idle);
    let Some(Idle { conn, .. }) = idle else { return want.server.connect().map(Found::Room) };
    worker.slot(conn, |slot| slot.owner = Owner::Task(task));
    worker.clear_deadline(conn);
    worker.counters().upstream_reuses.add(1);
    Some(Found::Idle(conn))
}

/// As many connections are there as may be. One of them is idle, or is just being given back: here, but too old for
/// this request, or with another worker.
async fn seek(worker: &Worker, task: TaskIndex, down: ConnKey, want: Want<'_>) -> Result<Found, Reason> {
    worker.set_deadline(down, worker.now() + want.connect_timeout);
    worker.begin_to_wait(task);
    let mut ask_at = Duration::ZERO;
    let found = loop {
        // Who was taken out of the line and found nothing all the same was overtaken.
        let is_new = worker.seek(want.server, task);
        let too_old = worker.pools.borrow().oldest_of(want.pool, want.server);
        if let Some(found) = find(worker, task, want) {
            break Ok(found);
        }
        if let Some(too_old) = too_old {
            worker.close_upstream(too_old);
            continue;
        }
        if worker.is_expired(down) {
            break Err(QUEUE_TIMEOUT);
        }
        if worker.is_hung_up(down) {
            break Err(CLIENT_LEFT);
        }
        if is_new || worker.now() >= ask_at {
            ask_at = worker.now() + LOOK_AGAIN;
            worker.ask_round(want.server, task);
        }
        wait().await;
        if worker.is_stopping() {
            break Err(STOPPED);
        }
    };
    worker.stop_seeking(want.server, task);
    worker.end_waiting(task);
    worker.clear_deadline(down);
    found
}

/// Makes a connection.
async fn connect(
    worker: &Worker,
    task: TaskIndex,
    down: ConnKey,
    counted: Connection,
    timeout: Duration,
) -> Result<Acquired, Reason> {
    if worker.counters().upstream_active.get() as usize >= worker.limits.connections {
        worker.evict_upstream();
    }
    let address = counted.server().address();
    let conn = match worker.driver.connect(address) {
        Err(error) if is_exhaustion(&error) && worker.evict_upstream() => worker.driver.connect(address),
        made => made,
    };
    let conn = match conn {
        Ok(conn) => conn,
        Err(error) => {
            worker.uncount(counted);
            return Err(if is_exhaustion(&error) { OVERLOADED } else { CONNECT_FAILED });
        }
    };
    worker.enter_connecting(conn, Owner::Task(task), counted);
    worker.counters().upstream_connects.add(1);
    worker.counters().upstream_active.add(1);
    worker.set_deadline(conn, worker.now() + timeout);
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

/// Gives a connection, on which nothing is under way and nothing unread, to the pool, or to who waits for one; closes it
/// where nobody would take it from there: the server is full of idle ones, gone, or nobody is sent to it any more.
pub fn release(worker: &Worker, conn: ConnKey, pool: u32, live: &ServerLive, idle_timeout: Duration) {
    let now = worker.now();
    match worker.keep_idle(conn, pool, live, now, now + idle_timeout) {
        true => worker.offer(pool, conn, live),
        false => worker.close_upstream(conn),
    }
}
