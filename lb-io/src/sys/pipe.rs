//! Pipes, and splice(2) through them: bytes move between sockets without being copied to us.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

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
    let write_end = OwnedFd::from(write_end);
    // SAFETY: takes no pointers. Failing leaves the pipe at its default size.
    unsafe { libc::fcntl(write_end.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES as libc::c_int) };
    Ok((read_end.into(), write_end))
}

/// Moves up to `limit` bytes from `from` to `to`, one of which is an end of a pipe. Never blocks on the
/// pipe; a socket must be non-blocking itself. `more` says that further bytes follow soon (as `MSG_MORE`).
///
/// # Errors
/// `WouldBlock` when nothing could be moved: the source has nothing or the sink has no room.
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, limit: usize, more: bool) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK | if more { libc::SPLICE_F_MORE } else { 0 };
    // SAFETY: both descriptors are open for the call's time, and null offsets mean "none", which is what
    // pipes and sockets require.
    let moved = unsafe {
        libc::splice(from.as_raw_fd(), ptr::null_mut(), to.as_raw_fd(), ptr::null_mut(), limit, flags)
    };
    if moved < 0 { Err(io::Error::last_os_error()) } else { Ok(moved as usize) }
}

/// Whether the pipe can take more: after `WouldBlock` from a socket into a pipe this tells which of the
/// two it was.
pub fn has_room(write_end: impl AsFd) -> bool {
    let mut entry = libc::pollfd { fd: write_end.as_fd().as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: `entry` is one valid element, which outlives the call.
    let ready = unsafe { libc::poll(&mut entry, 1, 0) };
    ready == 1 && entry.revents & libc::POLLOUT != 0
}
