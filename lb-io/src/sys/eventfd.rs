//! A counter in the kernel that another thread adds to and a worker waits for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// An eventfd(2), non-blocking and close-on-exec.
#[derive(Debug)]
pub struct EventFd(File);

impl EventFd {
    /// Makes one with count 0.
    ///
    /// # Errors
    /// No descriptor or no memory.
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: takes no pointers.
        let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` was just made and nobody else knows it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(EventFd(File::from(descriptor)))
    }

    /// Adds one. A full counter (2^64 - 2) is as good as one: whoever waits will see it anyway.
    pub fn add(&self) {
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Sets the count back to 0.
    pub fn clear(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
