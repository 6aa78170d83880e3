//! What the system grants to this process, and where its threads run.

use std::io;

/// A resource limit: what holds now, and up to where we may raise it ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Holds now.
    pub soft: u64,
    /// May be raised to.
    pub hard: u64,
}

/// Descriptors that the process may have open (RLIMIT_NOFILE).
///
/// # Errors
/// None in practice.
pub fn descriptor_limit() -> io::Result<Limit> {
    read(libc::RLIMIT_NOFILE)
}

/// Descriptors that the process may have open now: the soft limit, or what every system grants where that
/// cannot be read.
pub fn descriptors() -> u64 {
    descriptor_limit().map_or(256, |limit| limit.soft)
}

/// Bytes that the process may lock in memory (RLIMIT_MEMLOCK); some kernels charge rings to it.
///
/// # Errors
/// None in practice.
pub fn locked_memory() -> io::Result<Limit> {
    read(libc::RLIMIT_MEMLOCK)
}

/// Raises the soft limit of open descriptors to `wanted`, or as far as the hard limit goes. Never lowers it.
/// Returns what holds then.
///
/// # Errors
/// None in practice.
pub fn raise_descriptors(wanted: u64) -> io::Result<Limit> {
    let limit = descriptor_limit()?;
    let soft = wanted.min(limit.hard);
    if soft <= limit.soft { Ok(limit) } else { set_descriptors(soft) }
}

/// Sets the soft limit of open descriptors, also below what is open: for tests of exhaustion.
///
/// # Errors
/// Above the hard limit.
pub fn set_descriptors(soft: u64) -> io::Result<Limit> {
    let limit = Limit { soft, ..descriptor_limit()? };
    let raw = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: `raw` is a valid structure that the call reads.
    let outcome = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(limit) }
}

fn read(resource: libc::__rlimit_resource_t) -> io::Result<Limit> {
    let mut raw = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `raw` is a valid structure that the call writes.
    let outcome = unsafe { libc::getrlimit(resource, &mut raw) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Limit { soft: raw.rlim_cur, hard: raw.rlim_max })
}

/// Keeps the calling thread on one processor, named as the system numbers them.
///
/// # Errors
/// No such processor, or not allowed to this process.
pub fn pin_to_processor(processor: usize) -> io::Result<()> {
    // SAFETY: a set of processors is an array of integers, for which all zeros is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if processor >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `processor` is below the set's size.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: `set` is valid and of the size given; 0 is the calling thread.
    let outcome = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn descriptors_are_raised_to_the_hard_limit_at_most_and_never_lowered() {
        let before = super::descriptor_limit().unwrap();
        assert_eq!(super::raise_descriptors(1).unwrap(), before);
        let after = super::raise_descriptors(u64::MAX).unwrap();
        assert_eq!((after.soft, after.hard), (before.hard, before.hard));
        assert_eq!(super::descriptors(), after.soft);
    }

    #[test]
    fn a_thread_is_pinned_to_a_processor_that_exists_only() {
        std::thread::spawn(|| {
            assert!(super::pin_to_processor(usize::MAX).is_err());
            assert!(super::pin_to_processor(1023).is_err());
        })
        .join()
        .unwrap();
    }
}
