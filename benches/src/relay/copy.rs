//! recv(2) into one buffer that all connections share, send(2) from it.

use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};

use super::{Mover, Reached};

/// Large enough for few calls, small enough to stay in the second-level cache. At 1 MB bodies 64 KiB cost
/// a fifth more CPU than 256 KiB, and 1 MiB more again.
const BUFFER_LEN: usize = 256 * 1024;
/// Buffers kept for reuse after a blocked receiver took them along.
const SPARE_BUFFERS: usize = 64;

pub(super) struct Copier {
    buffer: Vec<u8>,
    spare: Vec<Vec<u8>>,
}

/// What a blocked receiver has not taken yet. The buffer goes along instead of being copied out of.
pub(super) struct Held {
    buffer: Vec<u8>,
    rest: Range<usize>,
}

impl Copier {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; BUFFER_LEN], spare: Vec::new() }
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS {
            self.spare.push(buffer);
        }
    }
}

impl Mover for Copier {
    type Held = Box<Held>;

    fn pass(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        held: &mut Option<Box<Held>>,
        to_the_end: bool,
    ) -> Reached {
        if let Some(mut rest) = held.take() {
            match send_all(to, &rest.buffer, &mut rest.rest) {
                Reached::Drained => self.recycle(rest.buffer),
                Reached::Blocked => {
                    *held = Some(rest);
                    return Reached::Blocked;
                }
                other => return other,
            }
        }
        loop {
            let len = match net::recv(from, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => return Reached::Ended,
                Ok((len, _)) => len,
                Err(Errno::AGAIN) => return Reached::Drained,
                Err(Errno::INTR) => continue,
                Err(_) => return Reached::Broken,
            };
            let mut rest = 0..len;
            match send_all(to, &self.buffer, &mut rest) {
                Reached::Drained => {}
                Reached::Blocked => {
                    let fresh = self.spare.pop().unwrap_or_else(|| vec![0; BUFFER_LEN]);
                    let buffer = std::mem::replace(&mut self.buffer, fresh);
                    *held = Some(Box::new(Held { buffer, rest }));
                    return Reached::Blocked;
                }
                other => return other,
            }
            // A short read emptied the socket; reading on to EAGAIN would cost a call per request.
            if len < BUFFER_LEN && !to_the_end {
                return Reached::Drained;
            }
        }
    }
}

/// Sends `buffer[rest]`: `Drained` when all is gone.
fn send_all(to: &OwnedFd, buffer: &[u8], rest: &mut Range<usize>) -> Reached {
    while rest.start < rest.end {
        match net::send(to, &buffer[rest.clone()], SendFlags::NOSIGNAL) {
            Ok(sent) => rest.start += sent,
            Err(Errno::AGAIN) => return Reached::Blocked,
            Err(Errno::INTR) => {}
            Err(_) => return Reached::Broken,
        }
    }
    Reached::Drained
}
