//! Pipes, and splice(2) through them: bytes move between sockets without being copied to us.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::SpliceFlags;

/// Bytes that a pipe made by [`new`] is asked to hold. The kernel's default of 64 KiB costs one more wake
/// per 64 KiB at 1 MB bodies; the size is best effort, for a user's pipes share a limit
/// (`fs.pipe-user-pages-soft`).
pub const PIPE_BYTES: usize = 256 * 1024;

/// A new empty pipe: read end, write end.
///
/// # Errors
/// No descriptor or no memory.
pub fn new() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read_end, write_end) = io::pipe()?;
    // Failing leaves the pipe at its default size.
    let _ = rustix::pipe::fcntl_setpipe_size(&write_end, PIPE_BYTES);
    Ok((read_end.into(), write_end.into()))
}

/// Moves up to `limit` bytes from `from` to `to`, one of which is an end of a pipe. Never blocks on the
/// pipe; a socket must be non-blocking itself. `more` says that further bytes follow soon (as `MSG_MORE`).
///
/// # Errors
/// `WouldBlock` when nothing could be moved: the source has nothing or the sink has no room.
pub fn splice(from: impl AsFd, to: impl AsFd, limit: usize, more: bool) -> io::Result<usize> {
    let more = if more { SpliceFlags::MORE } else { SpliceFlags::empty() };
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK | more;
    Ok(rustix::pipe::splice(from, None, to, None, limit, flags)?)
}

/// Whether the pipe can take more: after `WouldBlock` from a socket into a pipe this tells which of the
/// two it was.
pub fn has_room(write_end: impl AsFd) -> bool {
    let mut entry = [PollFd::new(&write_end, PollFlags::OUT)];
    let ready = rustix::event::poll(&mut entry, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    ready == Ok(1) && entry[0].revents().contains(PollFlags::OUT)
}
