//! Bulk: payload of a known length moves between two connections through a pipe, without being copied to us.
//!
//! A pipe takes no more than what is left of the body, so nothing of the next message ever gets into it,
//! and goes back to the worker only when it is empty: a pipe with bytes in it would leak them to another
//! client. An exchange that ends early closes its pipe with whatever it holds.

use super::relay::{Flow, Pumped};
use crate::driver::ConnKey;
use crate::worker::Worker;
use crate::worker::conns::Fill;
use crate::worker::pipes::PooledPipe;

/// Bodies shorter than this are copied: through large hot buffers that is cheaper than the pipe's calls.
pub const SPLICE_FROM_BYTES: u64 = 128 << 10;

/// Bytes that one call moves into the pipe at most: what it holds.
const PIPE_BYTES: u64 = crate::sys::pipe::PIPE_BYTES as u64;

/// A pipe between two connections, with what is in it.
#[derive(Debug)]
pub struct Channel {
    pipe: PooledPipe,
    held: usize,
}

/// Opens a channel for a flow whose next bytes are all payload, if there are enough of them and a pipe is
/// to be had.
pub(super) fn open(worker: &Worker, flow: &Flow) -> Option<Channel> {
    let long = flow.bytes_ahead() >= SPLICE_FROM_BYTES;
    let pipe = long.then(|| worker.take_pipe()).flatten()?;
    Some(Channel { pipe, held: 0 })
}

/// Moves one pipe's worth. None if there may be more to do at once.
pub(super) fn round(
    worker: &Worker,
    from: ConnKey,
    to: ConnKey,
    flow: &mut Flow,
    channel: &mut Channel,
) -> Option<Pumped> {
    if channel.held == 0 {
        let limit = flow.bytes_ahead().min(PIPE_BYTES) as usize;
        let (fill, count) = worker.splice_in(from, &channel.pipe, limit);
        match fill {
            Fill::More => {}
            Fill::Blocked => return Some(Pumped::SourceBlocked),
            Fill::Full => return Some(Pumped::NoMemory),
            Fill::End => return Some(Pumped::SourceEnded),
            Fill::Broken(error) => return Some(Pumped::SourceBroken(error)),
        }
        channel.held = count;
        flow.passed(count as u64);
    }
    match worker.splice_out(&channel.pipe, to, channel.held, flow.bytes_ahead() > 0) {
        Ok(count) => {
            channel.held -= count;
            flow.bytes += count as u64;
        }
        Err(error) => return Some(Pumped::SinkBroken(error)),
    }
    (channel.held > 0).then_some(Pumped::SinkBlocked)
}

/// Ends a channel whose body is through.
pub(super) fn close(worker: &Worker, channel: Channel) {
    debug_assert_eq!(channel.held, 0, "a body is not through while some of it is in the pipe");
    worker.give_pipe_back(channel.pipe);
}

impl Channel {
    /// Whether the pipe holds nothing.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }
}
