//! Forbids io_uring to the calling thread, as container runtimes do.
//!
//! For tests of the fall-back to epoll: whatever the thread starts afterwards, threads and processes alike,
//! inherits the filter, and nothing takes it away again.

use std::io;
use std::ptr;

/// `io_uring_setup`, `io_uring_enter` and `io_uring_register`: the same numbers on all architectures.
const FIRST: u32 = 425;
const LAST: u32 = 427;

/// Where `struct seccomp_data` has the number of the system call.
const NUMBER: u32 = 0;

/// From here on the calling thread and its offspring get EPERM from every io_uring call.
///
/// # Errors
/// A kernel without seccomp filters.
pub fn forbid_io_uring() -> io::Result<()> {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let at_least = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    let above = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        step(load, 0, 0, NUMBER),
        step(at_least, 0, 1, FIRST),
        step(above, 0, 1, LAST),
        step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: this option takes no pointers.
    let outcome = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `program` and the filter it points to live until the call, which copies them, is over.
    let outcome =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, ptr::from_ref(&program)) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
