//! Signals, as a list of things to do.

use std::io;
use std::sync::mpsc::{self, Receiver};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// HUP.
    Reload,
    /// USR1.
    ReopenLog,
    /// TERM, INT or QUIT.
    Stop,
}

/// Catches our signals from now on. The thread that waits for them ends with the process.
///
/// # Errors
/// The system's.
pub(crate) fn catch() -> io::Result<Receiver<Asked>> {
    let mut signals = Signals::new([SIGHUP, SIGUSR1, SIGTERM, SIGINT, SIGQUIT, SIGXFSZ])?;
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name("lb-signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let asked = match signal {
                SIGHUP => Asked::Reload,
                SIGUSR1 => Asked::ReopenLog,
                // A file has the size that it may have (`LimitFSIZE=`). Left alone, the signal would end the process; caught,
                // the write fails as on a full disk, and whoever wrote knows what to do.
                SIGXFSZ => continue,
                _ => Asked::Stop,
            };
            if sender.send(asked).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}
