//! What the tests of the real binary stand on: the `lb` process, recording origins, raw clients, other programs.
//!
//! Everything listens on a loopback port of the kernel's choice, waits for events with a common patience, and is
//! stopped when its handle is dropped. A test that fails prints the configuration and the logs of its `lb`.

pub mod client;
pub mod crowd;
pub mod lb;
pub mod origin;
pub mod tools;
pub mod wire;

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub use client::Client;
pub use lb::{Driver, Lb, Setup};
pub use origin::Origin;
pub use wire::Message;

/// How long anything may take before a test gives up. Generous: it is a guard, not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Makes two tests of each function named, which takes a [`Driver`]: one on io_uring, one on epoll. (A function that
/// is not named is dead code, which the gate refuses.)
macro_rules! on_both_drivers {
    ($($name:ident),* $(,)?) => {
        mod io_uring {
            $(#[test]
            fn $name() {
                if $crate::harness::lb::io_uring_works() {
                    super::$name($crate::harness::Driver::IoUring);
                }
            })*
        }

        mod epoll {
            $(#[test]
            fn $name() {
                super::$name($crate::harness::Driver::Epoll);
            })*
        }
    };
}
pub(crate) use on_both_drivers;

/// Polls until `holds`: only for what gives no event to wait for (a counter of another process, /proc).
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A gate that one thread opens and others wait at.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn new() -> Gate {
        Gate::default()
    }

    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits until the gate is open; gives up (and goes on) after the common patience, so that no thread stays.
    pub fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        let (_open, _timeout) = self.0.1.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap();
    }
}

/// `len` bytes that differ by `seed` and place, so that a lost, doubled or foreign byte shows.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Compares two bodies, telling the first difference instead of printing megabytes.
#[track_caller]
pub fn assert_same_bytes(what: &str, got: &[u8], wanted: &[u8]) {
    if got != wanted {
        let at = got.iter().zip(wanted).position(|(a, b)| a != b).unwrap_or(got.len().min(wanted.len()));
        let around = |bytes: &[u8]| {
            String::from_utf8_lossy(&bytes[at.min(bytes.len())..(at + 60).min(bytes.len())]).into_owned()
        };
        panic!(
            "{what}: {} bytes instead of {}, first difference at {at}:\n  got    {:?}\n  wanted {:?}",
            got.len(),
            wanted.len(),
            around(got),
            around(wanted),
        );
    }
}

/// Polls `value` until it has stayed the same for half a second, and returns it: for "everything that can move has
/// moved", which no event tells.
pub fn settled(what: &str, mut value: impl FnMut() -> usize) -> usize {
    let mut last = value();
    let mut since = Instant::now();
    until(&format!("{what} to stand still"), || {
        let now = value();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    });
    last
}
