//! splice(2) from the socket into a pipe, and from the pipe into the other socket.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::{Mover, Reached};

/// Asked for; unprivileged users get at most the kernel's default when pipes are many.
const PIPE_LEN: usize = 1024 * 1024;
/// Slots that any pipe has: a pipe holds at least this many pieces, however small.
const SLOTS_AT_LEAST: usize = 16;
/// Empty pipes kept for reuse.
const SPARE_PIPES: usize = 64;
const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

pub(super) struct Splicer {
    spare: Vec<Pipe>,
}

pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    slots: usize,
    len: usize,
}

impl Pipe {
    fn open() -> Option<Self> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        let size = fcntl_setpipe_size(&write, PIPE_LEN).unwrap_or(0);
        let slots = (size / rustix::param::page_size()).max(SLOTS_AT_LEAST);
        Some(Self { read, write, slots, len: 0 })
    }
}

impl Splicer {
    pub(super) fn new() -> Self {
        Self { spare: Vec::new() }
    }

    /// Only empty pipes come back: a dirty one would leak one client's bytes to another.
    fn recycle(&mut self, pipe: Pipe) {
        if pipe.len == 0 && self.spare.len() < SPARE_PIPES {
            self.spare.push(pipe);
        }
    }
}

impl Mover for Splicer {
    type Held = Box<Pipe>;

    fn pass(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        held: &mut Option<Box<Pipe>>,
        to_the_end: bool,
    ) -> Reached {
        let Some(mut pipe) = held.take().map(|held| *held).or_else(|| self.spare.pop()).or_else(Pipe::open)
        else {
            return Reached::Broken;
        };
        let reached = pass_through(&mut pipe, from, to, to_the_end);
        match reached {
            Reached::Blocked => *held = Some(Box::new(pipe)),
            _ => self.recycle(pipe),
        }
        reached
    }
}

fn pass_through(pipe: &mut Pipe, from: &OwnedFd, to: &OwnedFd, to_the_end: bool) -> Reached {
    let mut emptied = false;
    loop {
        while pipe.len > 0 {
            match splice(&pipe.read, None, to, None, pipe.len, FLAGS) {
                Ok(0) => return Reached::Broken,
                Ok(sent) => pipe.len -= sent,
                Err(Errno::AGAIN) => return Reached::Blocked,
                Err(Errno::INTR) => {}
                Err(_) => return Reached::Broken,
            }
        }
        if emptied {
            return Reached::Drained;
        }
        match splice(from, None, &pipe.write, None, PIPE_LEN, FLAGS) {
            Ok(0) => return Reached::Ended,
            Ok(received) => {
                pipe.len = received;
                // Fewer bytes than slots cannot have filled the pipe, so they emptied the socket.
                emptied = received < pipe.slots && !to_the_end;
            }
            Err(Errno::AGAIN) => return Reached::Drained,
            Err(Errno::INTR) => {}
            Err(_) => return Reached::Broken,
        }
    }
}
