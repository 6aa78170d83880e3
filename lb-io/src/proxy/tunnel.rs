//! What follows a 101: bytes both ways until both sides have ended or nothing moves for too long.

use std::time::Duration;

use super::relay::{Flow, Pumped, come_back, pump};
use crate::driver::ConnKey;
use crate::http1::Framing;
use crate::reason::Cause;
use crate::worker::Worker;
use crate::worker::tasks::{TaskIndex, wait};

/// Bytes that went through a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// From the client to the server.
    pub up: u64,
    /// From the server to the client.
    pub down: u64,
    /// How it ended.
    pub end: Cause,
}

/// Relays between the two until both have ended, one has broken, or neither has sent anything for
/// `idle_timeout`. One side's end is passed on to the other, which may go on sending.
pub async fn tunnel(
    worker: &Worker,
    task: TaskIndex,
    down: ConnKey,
    up: ConnKey,
    idle_timeout: Duration,
) -> Carried {
    let raw = || Flow::new(Framing::UntilClose, false, u64::MAX);
    let (mut to_server, mut to_client) = (raw(), raw());
    worker.counters().tunnels.add(1);
    worker.set_deadline(down, worker.now() + idle_timeout);
    let end = loop {
        let before = to_server.bytes + to_client.bytes;
        let broken = move_on(worker, task, down, up, &mut to_server)
            .err()
            .or_else(|| move_on(worker, task, up, down, &mut to_client).err());
        match broken {
            Some(conn) if conn == down => break Cause::ClientLeft,
            Some(_) => break Cause::ServerFailed,
            None if to_server.done && to_client.done => break Cause::Complete,
            None if worker.is_expired(down) => break Cause::TunnelIdle,
            None if worker.is_stopping() => break Cause::Stopped,
            None => {}
        }
        if to_server.bytes + to_client.bytes != before {
            worker.set_deadline(down, worker.now() + idle_timeout);
        }
        worker.driver.watch(down);
        worker.settle(down);
        worker.settle(up);
        wait().await;
    };
    worker.counters().tunnels.subtract(1);
    Carried { up: to_server.bytes, down: to_client.bytes, end }
}

/// Moves one direction on.
///
/// # Errors
/// The connection that broke.
fn move_on(
    worker: &Worker,
    task: TaskIndex,
    from: ConnKey,
    to: ConnKey,
    flow: &mut Flow,
) -> Result<(), ConnKey> {
    if flow.done {
        return Ok(());
    }
    match pump(worker, from, to, flow, &[], None) {
        Pumped::Done => worker.driver.shutdown(to),
        waiting @ (Pumped::SourceBlocked | Pumped::SinkBlocked | Pumped::Yielded | Pumped::NoMemory) => {
            come_back(worker, task, &waiting);
        }
        Pumped::SourceEnded | Pumped::SourceBroken(_) => return Err(from),
        Pumped::SinkBroken(_) => return Err(to),
        Pumped::Malformed(_) | Pumped::TooLarge => unreachable!("a tunnel has neither framing nor limit"),
    }
    Ok(())
}
