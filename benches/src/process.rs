//! What a process and its children cost, from /proc, and how they end.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// How long a process may take to end by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
const STOP_POLL: Duration = Duration::from_millis(5);

/// A running program; ended, with its children, when dropped.
pub struct Running {
    child: Child,
}

impl Running {
    /// Takes charge of `child`.
    pub fn new(child: Child) -> Self {
        Self { child }
    }

    /// Starts a program and reads its first lines.
    ///
    /// # Errors
    /// If it cannot be started, or ends before it has told so many.
    pub fn start(command: &mut Command, lines: usize) -> Result<(Self, Vec<String>)> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut running = Self::new(child);
        let stdout = running.stdout().ok_or("no standard output")?;
        let told = BufReader::new(stdout).lines().take(lines).collect::<std::io::Result<Vec<_>>>()?;
        if told.len() < lines {
            return Err("a program ended instead of starting".into());
        }
        Ok((running, told))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The standard output, if it was piped and not taken yet.
    pub fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// The exit status, if it ended by itself.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// CPU time of the process, its threads and its children so far, in nanoseconds.
    ///
    /// # Errors
    /// If it is not running any more.
    pub fn cpu_ns(&self) -> Result<u64> {
        tree(self.id()).into_iter().map(|stat| cpu_ns(stat.id)).sum()
    }

    /// Resident memory of the process and its children, in bytes.
    ///
    /// # Errors
    /// If it is not running any more.
    pub fn resident_bytes(&self) -> Result<u64> {
        tree(self.id()).into_iter().map(|stat| resident_bytes(stat.id)).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let family = tree(self.id());
        signal(self.id(), Signal::TERM);
        wait_until(|| self.ended().is_some());
        for stat in family.iter().filter(|stat| stat.runs()) {
            signal(stat.id, Signal::KILL);
        }
        let _ = self.child.wait();
        wait_until(|| !family.iter().any(Stat::runs));
    }
}

/// Until it is true, but not for ever.
fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + STOP_TIMEOUT;
    while !done() && Instant::now() < deadline {
        std::thread::sleep(STOP_POLL);
    }
}

fn signal(id: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// What we need of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    id: u32,
    parent: u32,
    /// User and system time of all threads, also ended ones, in clock ticks.
    cpu_ticks: u64,
    /// When it started, in clock ticks since boot.
    start: u64,
    /// It ended and waits for its parent to notice.
    zombie: bool,
}

impl Stat {
    fn read(id: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
        Self::parse(id, &text).ok_or_else(|| format!("cannot read /proc/{id}/stat").into())
    }

    /// The name may hold blanks and parentheses: fields are counted after the last one (proc_pid_stat(5)).
    fn parse(id: u32, text: &str) -> Option<Self> {
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let parent = u32::try_from(number(4)?).ok()?;
        let zombie = matches!(fields[0], "Z" | "X");
        Some(Self { id, parent, cpu_ticks: number(14)? + number(15)?, start: number(22)?, zombie })
    }

    /// Whether this very process still runs: the start time tells a reused id apart.
    fn runs(&self) -> bool {
        Self::read(self.id).is_ok_and(|now| now.start == self.start && !now.zombie)
    }
}

/// The process and everything below it.
fn tree(root: u32) -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: Vec<Stat> = ids.filter_map(|id| Stat::read(id).ok()).collect();
    let mut family: Vec<Stat> = all.iter().filter(|stat| stat.id == root).copied().collect();
    let mut next = 0;
    while let Some(parent) = family.get(next).map(|stat| stat.id) {
        family.extend(all.iter().filter(|stat| stat.parent == parent));
        next += 1;
    }
    family
}

/// CPU time of one process in nanoseconds. The threads' schedstat is exact but forgets threads that ended;
/// the process's stat remembers them but counts in ticks, rounded down. Neither exceeds the truth.
fn cpu_ns(id: u32) -> Result<u64> {
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    let coarse = Stat::read(id)?.cpu_ticks * tick_ns;
    let mut exact = 0;
    for task in fs::read_dir(format!("/proc/{id}/task"))?.flatten() {
        let path: PathBuf = task.path().join("schedstat");
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(path) else { continue };
        exact += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(exact.max(coarse))
}

fn resident_bytes(id: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    resident_kib(&text).map(|kib| kib * 1024).ok_or_else(|| format!("no VmRSS for {id}").into())
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Busy time of one core since boot, in clock ticks, from `/proc/stat`.
///
/// # Errors
/// If there is no such core.
pub fn core_busy_ticks(core: usize) -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    busy_ticks(&text, core).ok_or_else(|| format!("no core {core} in /proc/stat").into())
}

/// All but idle and waiting for disks; guest time is already in user time.
fn busy_ticks(text: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name))?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).take(8).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = fields.try_into().ok()?;
    Some(user + nice + system + irq + softirq + steal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_any_process_name() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 150 25 6 7 20 0 1 0 9001 1 2\n";
        assert_eq!(
            Stat::parse(42, text),
            Some(Stat { id: 42, parent: 7, cpu_ticks: 175, start: 9001, zombie: false })
        );
        assert_eq!(Stat::parse(42, "42 (short) S 7"), None);
        assert_eq!(Stat::parse(42, ""), None);
    }

    #[test]
    fn status_tells_resident_memory() {
        assert_eq!(resident_kib("Name:\tx\nVmHWM:\t  99 kB\nVmRSS:\t    1234 kB\n"), Some(1234));
        assert_eq!(resident_kib("Name:\tkernel thread\n"), None);
    }

    #[test]
    fn a_core_is_busy_with_all_but_idle_and_iowait() {
        let text = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu1 1 2 4 100 200 8 16 32 0 0\ncpu11 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy_ticks(text, 1), Some(63));
        assert_eq!(busy_ticks(text, 2), None);
    }

    #[test]
    fn our_own_time_grows_and_children_count() {
        let child = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sh -c 'echo up; read x'; exit"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut running = Running::new(child);
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(running.stdout().expect("a piped stdout"));
        std::io::BufRead::read_line(&mut stdout, &mut line).expect("the grandchild speaks");
        assert_eq!(tree(running.id()).len(), 2);
        assert!(running.cpu_ns().expect("running") > 1_000_000);
        assert!(running.resident_bytes().expect("running") > 100_000);
        let grandchild = tree(running.id())[1];
        drop(running);
        assert!(!grandchild.runs());
    }
}
