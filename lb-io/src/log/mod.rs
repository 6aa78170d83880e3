//! The access log's way out: each worker fills buffers, one thread writes them.
//!
//! A worker never waits for the writer: when all its buffers are on their way, lines are dropped and
//! counted. Buffers go round, so logging allocates nothing once warm. What cannot be written (a full disk) is lost
//! and counted as well, and writing goes on as soon as it can.

pub mod ending;
pub mod names;
pub mod record;
pub mod sample;
mod sink;
mod syslog;
pub mod write;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::record::{Format, Record};
use self::sample::Sampling;
use self::sink::Sink;
use self::syslog::{Header, Severity};
pub use self::syslog::{SyslogAddress, SyslogOptions};
use self::write::{Calendar, WallClock};
use crate::handover::{Filling, GATHERED, Handover};

/// Bytes that a line has at most: 128 of a client's id, three names, and what is kept of a request's head, of which each
/// byte may take six.
const LINE_BYTES_MAX: usize = 32 << 10;

/// How long the last lines may take to be written when the engine ends.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// What is logged, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Where lines go.
    pub target: LogTarget,
    /// How they are written.
    pub format: Format,
    /// How many of them.
    pub sampling: Sampling,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
    /// A syslog daemon.
    Syslog(SyslogOptions),
}

#[derive(Debug)]
struct Shared {
    lines: Arc<Handover>,
    reopen: AtomicBool,
    stop: AtomicBool,
    /// Lines that could not be written, by worker.
    lost: Box<[AtomicU64]>,
}

/// The writer's side.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    format: Format,
    sampling: Sampling,
    header: Option<Header>,
}

/// A worker's side.
#[derive(Debug)]
pub struct LogBuffer {
    lines: Filling,
    format: Format,
    sampling: Sampling,
    /// What stands before each line.
    header: Option<Header>,
    clock: WallClock,
    calendar: Calendar,
}

impl AccessLog {
    /// Opens the target and starts the writer for this many workers.
    ///
    /// # Errors
    /// The target's, or the thread's.
    pub fn start(options: LogOptions, workers: usize) -> io::Result<Self> {
        let LogOptions { target, format, sampling } = options;
        let shared = Arc::new(Shared {
            lines: Arc::new(Handover::new(workers, LINE_BYTES_MAX)),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            lost: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        });
        let header = match &target {
            LogTarget::Syslog(options) => Some(Header::new(options)),
            _ => None,
        };
        let sink = Sink::open(target)?;
        let writers = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("lb-access-log".into())
            .spawn(move || write_lines(&writers, sink))?;
        Ok(Self { shared, thread: Some(thread), format, sampling, header })
    }

    /// A buffer for a worker to fill.
    ///
    /// # Panics
    /// If there are fewer workers.
    pub fn buffer(&self, worker: usize) -> LogBuffer {
        let writer = self.thread.as_ref().map(|thread| thread.thread().clone());
        LogBuffer {
            lines: Filling::new(&self.shared.lines, worker, writer),
            format: self.format,
            sampling: self.sampling,
            header: self.header.clone(),
            clock: WallClock::default(),
            calendar: Calendar::default(),
        }
    }

    /// Lines of a worker that could not be written. Those for which there was no room are in its own count.
    ///
    /// # Panics
    /// If there are fewer workers.
    pub fn lost(&self, worker: usize) -> u64 {
        self.shared.lost[worker].load(Ordering::Relaxed)
    }

    /// Has the file opened anew before the next write, as after a rotation.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // One that is stuck in a write to a pipe that nobody reads must not keep the process.
            let begun = Instant::now();
            while !thread.is_finished() && begun.elapsed() < LAST_WRITE {
                std::thread::park_timeout(Duration::from_millis(2));
            }
        }
    }
}

impl LogBuffer {
    /// Adds an exchange's line. False if it was dropped because the writer does not keep up.
    pub fn record(&mut self, record: &Record<'_>) -> bool {
        let Some(out) = self.lines.room() else { return false };
        if let Some(header) = &self.header {
            let severity = if record.ending.cause.is_good() { Severity::Info } else { Severity::Warning };
            header.write(out, severity, &mut self.calendar, record.at);
        }
        record.write(out, self.format, &mut self.calendar);
        true
    }

    /// The time since 1970, `now` being the time of the workers' clock.
    pub fn time_of_day(&mut self, now: Duration) -> Duration {
        self.clock.at(now)
    }

    /// How lines are written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many of them.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// Hands on what has waited for long enough. Tells whether something still waits.
    pub fn look(&mut self, now: Duration) -> bool {
        self.lines.look(now)
    }
}

fn write_lines(shared: &Shared, mut sink: Sink) {
    let mut batch = Vec::with_capacity(GATHERED);
    loop {
        let stop = shared.stop.load(Ordering::Acquire);
        if shared.reopen.swap(false, Ordering::AcqRel) {
            // Whose it was is not known any more.
            shared.lost[0].fetch_add(sink.reopen(), Ordering::Relaxed);
        }
        loop {
            batch.extend(std::iter::from_fn(|| shared.lines.take()).take(GATHERED));
            if batch.is_empty() {
                break;
            }
            let lost = sink.write(&batch);
            for (lines, lost) in batch.drain(..).zip(lost) {
                shared.lost[lines.worker].fetch_add(lost, Ordering::Relaxed);
                shared.lines.give_back(lines);
            }
        }
        if stop {
            return;
        }
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl LogBuffer {
        fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
            let Some(out) = self.lines.room() else { return false };
            write(out);
            true
        }
    }

    fn start(target: LogTarget) -> AccessLog {
        AccessLog::start(LogOptions { target, format: Format::Text, sampling: Sampling::default() }, 1)
            .unwrap()
    }

    /// Ends by itself, though the pipe is full and nobody reads it.
    #[test]
    fn a_reader_that_hangs_keeps_nobody() {
        let pipe = std::env::temp_dir().join(format!("lb-log-{}", std::process::id()));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        let log = start(LogTarget::File(pipe.clone()));
        let mut buffer = log.buffer(0);
        let kept = (0..100_000).filter(|_| buffer.line(|out| out.extend_from_slice(&[b'x'; 99]))).count();
        assert!(kept < 100_000, "lines are dropped when the writer does not keep up");
        drop(buffer);
        drop(log);
        drop(reader);
        std::fs::remove_file(&pipe).unwrap();
    }

    #[test]
    fn all_lines_are_written_before_the_end() {
        let file = std::env::temp_dir().join(format!("lb-lines-{}", std::process::id()));
        let log = start(LogTarget::File(file.clone()));
        let mut buffer = log.buffer(0);
        for line in 0..1000 {
            assert!(buffer.line(|out| out.extend_from_slice(format!("line {line}\n").as_bytes())));
        }
        drop(buffer);
        drop(log);
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!((text.lines().count(), text.lines().last()), (1000, Some("line 999")));
        std::fs::remove_file(&file).unwrap();
    }
}
