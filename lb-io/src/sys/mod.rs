//! Everything that the compiler cannot check: the only place with `unsafe` in the project.
//!
//! Each function here wraps one kernel call (or one entry of the ring) in a signature that is safe for
//! every argument its types admit. What the standard library, `socket2` or `mio` already give safely is not
//! here but at its caller.

pub mod eventfd;
pub mod limits;
pub mod pipe;
pub mod prefetch;
pub mod ring;
pub mod seccomp;
pub mod socket;
