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
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

use self::record::{Format, Record};
use self::sample::Sampling;
use self::sink::Sink;
use self::syslog::{Header, Severity};
pub use self::syslog::{SyslogAddress, SyslogOptions};
use self::write::{Calendar, WallClock};

/// Bytes of lines after which a worker hands its buffer on.
const BUFFER_BYTES: usize = 64 << 10;

/// Bytes that a line has at most: 128 of a client's id, three names, and what is kept of a request's head, of which each
/// byte may take six.
const LINE_BYTES_MAX: usize = 32 << 10;

/// Buffers that a worker has: one being filled, the others on their way.
const BUFFERS_PER_WORKER: usize = 16;

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

/// A worker's lines on their way to the writer, and back as room for further ones.
#[derive(Debug)]
struct Lines {
    worker: usize,
    bytes: Vec<u8>,
}

impl Lines {
    fn new(worker: usize) -> Lines {
        Lines { worker, bytes: Vec::with_capacity(BUFFER_BYTES + LINE_BYTES_MAX) }
    }
}

#[derive(Debug)]
struct Shared {
    full: ArrayQueue<Lines>,
    empty: ArrayQueue<Lines>,
    /// By worker, the empty buffer that came back last: it is taken first, so that as long as the writer keeps up two
    /// buffers go to and fro and stay in the caches. All in turn would cost a tenth of a microsecond per line.
    warm: Box<[ArrayQueue<Lines>]>,
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
    shared: Arc<Shared>,
    writer: Thread,
    lines: Lines,
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
            full: ArrayQueue::new(workers * BUFFERS_PER_WORKER),
            empty: ArrayQueue::new(workers * BUFFERS_PER_WORKER),
            warm: (0..workers).map(|_| ArrayQueue::new(1)).collect(),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            lost: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        });
        for _ in 0..workers * (BUFFERS_PER_WORKER - 1) {
            let _ = shared.empty.push(Lines::new(0));
        }
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
        assert!(worker < self.shared.lost.len(), "there is such a worker");
        let writer = self.thread.as_ref().expect("runs until dropped").thread().clone();
        LogBuffer {
            shared: Arc::clone(&self.shared),
            writer,
            lines: Lines::new(worker),
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
        let has_room = self.has_room();
        if has_room {
            if let Some(header) = &self.header {
                let severity = if record.ending.cause.is_good() { Severity::Info } else { Severity::Warning };
                header.write(&mut self.lines.bytes, severity, &mut self.calendar, record.at);
            }
            record.write(&mut self.lines.bytes, self.format, &mut self.calendar);
        }
        has_room
    }

    fn has_room(&mut self) -> bool {
        self.lines.bytes.len() < BUFFER_BYTES || self.hand_on()
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

    /// Hands what there is to the writer, if it keeps up.
    pub fn hand_on(&mut self) -> bool {
        if self.is_empty() {
            return true;
        }
        let warm = self.shared.warm[self.lines.worker].pop();
        let Some(mut empty) = warm.or_else(|| self.shared.empty.pop()) else { return false };
        empty.worker = self.lines.worker;
        let lines = std::mem::replace(&mut self.lines, empty);
        let pushed = self.shared.full.push(lines).is_ok();
        self.writer.unpark();
        pushed
    }

    /// Whether lines wait to be handed on.
    pub fn is_empty(&self) -> bool {
        self.lines.bytes.is_empty()
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        // There is room for every buffer that exists.
        let lines = Lines { worker: self.lines.worker, bytes: std::mem::take(&mut self.lines.bytes) };
        let _ = self.shared.full.push(lines);
        self.writer.unpark();
    }
}

fn write_lines(shared: &Shared, mut sink: Sink) {
    loop {
        let stop = shared.stop.load(Ordering::Acquire);
        if shared.reopen.swap(false, Ordering::AcqRel) {
            sink.reopen();
        }
        while let Some(mut lines) = shared.full.pop() {
            shared.lost[lines.worker].fetch_add(sink.write(&lines.bytes), Ordering::Relaxed);
            lines.bytes.clear();
            if let Err(lines) = shared.warm[lines.worker].push(lines) {
                let _ = shared.empty.push(lines);
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
            let has_room = self.has_room();
            if has_room {
                write(&mut self.lines.bytes);
            }
            has_room
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
