//! One direction of an exchange: bytes from one connection to the other, checked on the way.
//!
//! Nothing is received while the receiver of what we have does not take it: what a connection holds is
//! one buffer, and the sender feels the rest through TCP. The decoder looks at each byte once; bytes it
//! approved and that did not fit the sink stay where they were received until they do.

use std::io::{self, ErrorKind};

use super::hold::Held;
use super::splice::{self, Channel};
use crate::driver::ConnKey;
use crate::http1::Framing;
use crate::http1::body::{BodyError, Decoder, Piece};
use crate::worker::Worker;
use crate::worker::buffers::Buffer;
use crate::worker::conns::Fill;
use crate::worker::tasks::TaskIndex;

/// Rounds of receiving and sending that one call makes before other tasks have their turn.
const ROUNDS: usize = 16;

/// Pieces cut out of a buffer before what is ready is sent.
const CUTS_PER_ROUND: usize = 32;

/// The state of one direction.
#[derive(Debug)]
pub struct Flow {
    decoder: Decoder,
    /// Bytes at the front of the source's unread ones that may go out.
    ready: usize,
    /// Whether the receiver gets chunk framing too.
    framed: bool,
    /// Whether the body's length is known, so that it may be spliced.
    measured: bool,
    /// The pipe through which it is spliced.
    channel: Option<Channel>,
    /// Bytes sent, framing included.
    pub bytes: u64,
    /// Payload bytes approved.
    payload: u64,
    /// Most payload bytes allowed.
    limit: u64,
    /// Its end may go out with others' ([`Worker::send_soon`]).
    pub soon: bool,
    /// Something was given to the sink, the head at least.
    pub begun: bool,
    /// Everything was sent.
    pub done: bool,
}

/// How far a call of `pump` came.
#[derive(Debug)]
pub enum Pumped {
    /// The body is through.
    Done,
    /// Its share of the turn is used up; there is more to do at once.
    Yielded,
    /// It waits for the source.
    SourceBlocked,
    /// It waits for the sink.
    SinkBlocked,
    /// The source ended before the body did.
    SourceEnded,
    /// The source's connection broke.
    SourceBroken(io::Error),
    /// The sink's connection broke.
    SinkBroken(io::Error),
    /// The body's framing is wrong.
    Malformed(BodyError),
    /// The payload is longer than allowed.
    TooLarge,
    /// The worker's buffer budget is used up; trying again later may work.
    NoMemory,
}

impl Flow {
    /// A direction whose body ends as `framing` says. `framed`: chunk framing is passed on; otherwise only
    /// the payload is. More than `limit` bytes of payload are refused.
    pub fn new(framing: Framing, framed: bool, limit: u64) -> Self {
        Self {
            decoder: Decoder::new(framing),
            ready: 0,
            framed,
            measured: matches!(framing, Framing::Length(_)),
            channel: None,
            bytes: 0,
            payload: 0,
            limit,
            soon: false,
            begun: false,
            done: false,
        }
    }

    /// Bytes of a body of known length that are still to come.
    pub(super) fn bytes_ahead(&self) -> u64 {
        if self.measured { self.decoder.data_ahead() } else { 0 }
    }

    /// Notes payload that went past the decoder.
    pub(super) fn passed(&mut self, count: u64) {
        self.decoder.skip(count);
        self.payload += count;
    }

    /// Sends, with others if it may be and nothing follows.
    fn send(&self, worker: &Worker, to: ConnKey, head: &[u8], body: &[u8]) -> io::Result<usize> {
        match self.soon && self.decoder.is_done() {
            true => worker.send_soon(to, head, body),
            false => worker.send(to, head, body),
        }
    }

    /// Prepares to send the head to another sink, and what of the body was not sent; what was is sent before it by who
    /// has held it.
    pub fn begin_again(&mut self) {
        (self.begun, self.done) = (false, false);
    }

    /// Has the decoder look at bytes that it hasn't seen. Bytes not to be forwarded are cut out.
    /// True if it needs more to go on.
    fn approve(&mut self, buffer: &mut Buffer) -> Result<bool, Pumped> {
        let mut cuts = 0;
        while self.ready < buffer.len() && !self.decoder.is_done() {
            let step = self.decoder.step(&buffer.bytes()[self.ready..]).map_err(Pumped::Malformed)?;
            match step.kind {
                Piece::NeedMore => return Ok(true),
                Piece::Data => {
                    self.payload += step.len as u64;
                    if self.payload > self.limit {
                        return Err(Pumped::TooLarge);
                    }
                    self.ready += step.len;
                }
                Piece::Framing if self.framed => self.ready += step.len,
                Piece::Framing | Piece::Drop => {
                    buffer.cut(self.ready, step.len);
                    cuts += 1;
                    // Cutting moves what is ready: many small chunks would make that quadratic.
                    if cuts >= CUTS_PER_ROUND {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(false)
    }
}

/// Has the task come back to a direction that has not ended: when there is an event for it, in the next turn,
/// or when there is memory.
pub fn come_back(worker: &Worker, task: TaskIndex, pumped: &Pumped) {
    match pumped {
        Pumped::Yielded => worker.tasks.wake(task),
        Pumped::NoMemory => worker.starve(task),
        _ => {}
    }
}

/// Moves what can be moved now from `from` to `to`. `head` goes first, with the first bytes of the body if
/// they are there; it is taken in whole by the first call, which alone is given one. What is sent of the body is also
/// `held`.
pub(super) fn pump(
    worker: &Worker,
    from: ConnKey,
    to: ConnKey,
    flow: &mut Flow,
    mut head: &[u8],
    mut held: Option<&mut Held>,
) -> Pumped {
    for _ in 0..ROUNDS {
        if head.is_empty() {
            match worker.flush(to) {
                Ok(true) if !worker.is_congested(to) => {}
                Ok(_) => return Pumped::SinkBlocked,
                Err(error) => return Pumped::SinkBroken(error),
            }
        }
        let Some(mut buffer) = worker.take_unread(from) else {
            if !head.is_empty() {
                let sent = flow.send(worker, to, std::mem::take(&mut head), &[]);
                flow.begun |= !matches!(&sent, Err(error) if error.kind() != ErrorKind::OutOfMemory);
                if let Err(error) = sent {
                    return Pumped::SinkBroken(error);
                }
                continue;
            }
            let is_held = held.as_ref().is_some_and(|held| held.is_on());
            match advance(worker, from, to, flow, is_held) {
                None => continue,
                Some(pumped) => return pumped,
            }
        };
        let approved = flow.approve(&mut buffer);
        let sent = match &approved {
            Ok(_) => flow.send(worker, to, std::mem::take(&mut head), &buffer.bytes()[..flow.ready]),
            Err(_) => Ok(0),
        };
        let sent = match sent {
            Ok(sent) => sent,
            Err(error) => {
                // Out of our own memory, a part of the head may have gone out.
                flow.begun |= error.kind() == ErrorKind::OutOfMemory;
                worker.put_unread(from, buffer);
                return Pumped::SinkBroken(error);
            }
        };
        flow.begun |= approved.is_ok();
        if let Some(held) = held.as_deref_mut() {
            held.keep(worker, &buffer.bytes()[..sent]);
        }
        buffer.consume(sent);
        flow.ready -= sent;
        flow.bytes += sent as u64;
        worker.put_unread(from, buffer);
        match approved {
            Err(refused) => return refused,
            Ok(_) if flow.ready > 0 => return Pumped::SinkBlocked,
            Ok(_) if flow.decoder.is_done() => {
                if worker.has_unsent(to) {
                    return Pumped::SinkBlocked;
                }
                flow.done = true;
                return Pumped::Done;
            }
            Ok(false) => {}
            Ok(true) => {
                if let Some(pumped) = fill(worker, from, flow) {
                    return pumped;
                }
            }
        }
    }
    Pumped::Yielded
}

/// Goes on with nothing in hand: the body may be through, be spliced (unless it `is_held`), or more of it be received. None
/// if there is more to do at once.
fn advance(worker: &Worker, from: ConnKey, to: ConnKey, flow: &mut Flow, is_held: bool) -> Option<Pumped> {
    let channel = flow.channel.take();
    let mut channel = channel.or_else(|| if is_held { None } else { splice::open(worker, flow) });
    let pumped = match &mut channel {
        Some(channel) if !channel.is_empty() || !flow.decoder.is_done() => {
            splice::round(worker, from, to, flow, channel)
        }
        _ if flow.decoder.is_done() => {
            flow.done = true;
            Some(Pumped::Done)
        }
        _ => fill(worker, from, flow),
    };
    match channel {
        Some(channel) if flow.done => splice::close(worker, channel),
        channel => flow.channel = channel,
    }
    pumped
}

/// Receives once; None if that brought something.
fn fill(worker: &Worker, from: ConnKey, flow: &mut Flow) -> Option<Pumped> {
    match worker.fill(from) {
        Fill::More => None,
        Fill::Blocked => Some(Pumped::SourceBlocked),
        Fill::Full => Some(Pumped::NoMemory),
        Fill::Broken(error) => Some(Pumped::SourceBroken(error)),
        Fill::End => match flow.decoder.eof() {
            Ok(()) => {
                flow.done = true;
                Some(Pumped::Done)
            }
            Err(_) => Some(Pumped::SourceEnded),
        },
    }
}
