//! Starting a program on one core so that it cannot outlive us.
//!
//! Between fork and exec nothing may be done without `unsafe`, so the binary starts itself first, as
//! `compare launch --core N -- program ...`, prepares its own process and then becomes the program. The
//! process id stays the same.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;

/// Open files wanted: two for each connection of a subject, with room.
const OPEN_FILES: u64 = 20_000;

/// A command that runs `program` on `core` only, with the open files that the rows need, and ends with us.
///
/// # Errors
/// If our own binary cannot be found.
pub fn command(core: usize, program: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["launch", "--core", &core.to_string(), "--"]).arg(program);
    Ok(command)
}

/// Prepares this process and becomes `program`.
///
/// # Errors
/// Always, if it returns at all.
pub fn become_program(core: usize, program: &[OsString]) -> Result<()> {
    pin(core)?;
    raise_open_files();
    // Whatever ends the run, even SIGKILL, ends what it started.
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let (name, arguments) = program.split_first().ok_or("launch needs a program")?;
    let error = Command::new(name).args(arguments).exec();
    Err(format!("cannot start {}: {error}", name.display()).into())
}

/// Pins the calling thread, and the threads and processes that it starts from now on.
///
/// # Errors
/// If we may not run on `core`.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// As many open files as we may have, up to what the rows need.
pub fn raise_open_files() {
    let now = getrlimit(Resource::Nofile);
    let higher =
        Rlimit { current: Some(OPEN_FILES), maximum: now.maximum.map(|maximum| maximum.max(OPEN_FILES)) };
    // Without the right to raise the hard limit, the hard limit it is.
    if setrlimit(Resource::Nofile, higher).is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    }
}

/// The cores that this process may run on.
///
/// # Errors
/// If the kernel does not say.
pub fn cores() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}
