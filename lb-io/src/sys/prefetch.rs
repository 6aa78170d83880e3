//! Asking the processor for memory ahead of its use.

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// Begins to fetch all of `value` into the caches. Changes nothing but time.
pub fn value<T: ?Sized>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    for at in (0..size_of_val(value)).step_by(LINE_BYTES) {
        line(start.wrapping_add(at));
    }
}

#[cfg(target_arch = "x86_64")]
fn line(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: prefetching is a hint that neither faults nor reads, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

/// The hint has no stable form elsewhere, and nothing depends on it.
#[cfg(not(target_arch = "x86_64"))]
fn line(_: *const u8) {}
