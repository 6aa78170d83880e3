//! What follows a 101: bytes both ways until both sides have ended or nothing moves for too long.

use std::time::Duration;

use super::relay::{Flow, Pumped, come_back, pump};
use crate::driver::ConnKey;
use crate::http1::Framing;
use crate::worker::Worker;
use crate::worker::tasks::{TaskIndex, wait};

/// Bytes that went through a tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// From the client to the server.
    pub up: u64,
    /// From the server to the client.
    pub down: u64,
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
    loop {
        let before = to_server.bytes + to_client.bytes;
        let broken = !move_on(worker, task, down, up, &mut to_server)
            || !move_on(worker, task, up, down, &mut to_client);
        let over = to_server.done && to_client.done;
        if broken || over || worker.is_expired(down) || worker.is_stopping() {
            break;
        }
        if to_server.bytes + to_client.bytes != before {
            worker.set_deadline(down, worker.now() + idle_timeout);
        }
        worker.driver.watch(down);
        worker.settle(down);
        worker.settle(up);
        wait().await;
    }
    worker.counters().tunnels.subtract(1);
    Carried { up: to_server.bytes, down: to_client.bytes }
}

/// Moves one direction on. False if a connection broke.
fn move_on(worker: &Worker, task: TaskIndex, from: ConnKey, to: ConnKey, flow: &mut Flow) -> bool {
    if flow.done {
        return true;
    }
    match pump(worker, from, to, flow, &[]) {
        Pumped::Done => worker.driver.shutdown(to),
        waiting @ (Pumped::SourceBlocked | Pumped::SinkBlocked | Pumped::Yielded | Pumped::NoMemory) => {
            come_back(worker, task, &waiting);
        }
        Pumped::SourceEnded | Pumped::SourceBroken(_) | Pumped::SinkBroken(_) => return false,
        Pumped::Malformed(_) | Pumped::TooLarge => unreachable!("a tunnel has neither framing nor limit"),
    }
    true
}
