//! What the system allows this process.

use std::mem::MaybeUninit;

/// Descriptors that this process may have open (RLIMIT_NOFILE, soft).
pub fn descriptors() -> u64 {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: `limit` is a valid place for a `rlimit`, which the call fills in when it returns 0.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) };
    if result != 0 {
        return 1024;
    }
    // SAFETY: the call returned 0, so it was filled in.
    unsafe { limit.assume_init() }.rlim_cur
}

/// Raises the soft limit of descriptors to the hard one. Returns what is allowed then.
pub fn raise_descriptors() -> u64 {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: as above.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) };
    if result == 0 {
        // SAFETY: the call returned 0, so it was filled in.
        let mut limit = unsafe { limit.assume_init() };
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid `rlimit`. A failure leaves the old limit, which is what is returned.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
    descriptors()
}
