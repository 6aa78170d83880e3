//! Chooses the driver by trying, not by the kernel's version: containers forbid io_uring on any kernel.

use std::io;

use super::{Driver, EpollDriver, UringDriver};
use crate::sys;

/// Which driver is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

/// A driver for the calling thread.
pub struct Selected {
    /// The driver.
    pub driver: Box<dyn Driver>,
    /// With [`DriverChoice::Auto`], why it is not io_uring: a sentence for the log.
    pub fallback: Option<String>,
}

/// Makes the driver of the calling thread, on which it must stay.
///
/// # Errors
/// The wanted driver does not work; with [`DriverChoice::IoUring`] the error says why in words.
pub fn select(choice: DriverChoice) -> io::Result<Selected> {
    let fallback = match choice {
        DriverChoice::Epoll => None,
        DriverChoice::IoUring | DriverChoice::Auto => match UringDriver::new() {
            Ok(driver) => return Ok(Selected { driver: Box::new(driver), fallback: None }),
            Err(error) if choice == DriverChoice::IoUring => {
                return Err(io::Error::new(error.kind(), explain(&error)));
            }
            Err(error) => Some(format!("{}; using epoll", explain(&error))),
        },
    };
    Ok(Selected { driver: Box::new(EpollDriver::new()?), fallback })
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            format!("io_uring is forbidden here, by a seccomp filter or kernel.io_uring_disabled ({error})")
        }
        Some(libc::ENOSYS) => format!("this kernel has no io_uring ({error})"),
        Some(libc::EINVAL) => {
            format!("this kernel's io_uring lacks what is needed, which came with 6.1 ({error})")
        }
        Some(libc::ENOMEM) => {
            let limit = match sys::limits::locked_memory() {
                Ok(limit) => format!("{} KiB", limit.soft / 1024),
                Err(_) => "unknown".to_owned(),
            };
            format!("no memory for an io_uring: RLIMIT_MEMLOCK may be too small (it is {limit}; {error})")
        }
        Some(libc::EMFILE | libc::ENFILE) => format!("no descriptor for an io_uring ({error})"),
        _ => format!("io_uring does not work here ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name(choice: DriverChoice) -> (&'static str, Option<String>) {
        let selected = select(choice).unwrap();
        (selected.driver.name(), selected.fallback)
    }

    #[test]
    fn chooses_what_was_asked_for() {
        assert_eq!(name(DriverChoice::Epoll), ("epoll", None));
        assert_eq!(name(DriverChoice::IoUring), ("io_uring", None));
        assert_eq!(name(DriverChoice::Auto), ("io_uring", None));
    }

    #[test]
    fn falls_back_where_a_filter_forbids_io_uring() {
        // The filter holds for this thread only.
        let checked = std::thread::spawn(|| {
            sys::seccomp::forbid_io_uring().unwrap();
            let error = select(DriverChoice::IoUring).err().unwrap();
            assert!(error.to_string().contains("forbidden here"), "{error}");
            let selected = select(DriverChoice::Auto).unwrap();
            assert_eq!(selected.driver.name(), "epoll");
            assert_eq!(
                selected.fallback.unwrap(),
                "io_uring is forbidden here, by a seccomp filter or kernel.io_uring_disabled (Operation not \
                 permitted (os error 1)); using epoll"
            );
            selected.driver.turn(Some(Duration::ZERO), &mut Vec::new()).unwrap();
        });
        checked.join().unwrap();
        assert_eq!(name(DriverChoice::Auto).0, "io_uring");
    }

    #[test]
    fn explains_in_words() {
        let cases = [
            (libc::ENOSYS, "no io_uring"),
            (libc::EINVAL, "6.1"),
            (libc::ENOMEM, "RLIMIT_MEMLOCK"),
            (libc::EMFILE, "descriptor"),
            (libc::EIO, "does not work"),
        ];
        for (number, expected) in cases {
            let text = explain(&io::Error::from_raw_os_error(number));
            assert!(text.contains(expected), "{text}");
        }
    }
}
