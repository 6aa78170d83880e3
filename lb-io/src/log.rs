//! The access log's way out: each worker fills buffers, one thread writes them.
//!
//! A worker never waits for the writer: when all its buffers are on their way, lines are dropped and
//! counted. Buffers go round, so logging allocates nothing once warm.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;

/// Bytes of lines after which a worker hands its buffer on.
const BUFFER_BYTES: usize = 64 << 10;

/// Buffers that a worker has: one being filled, the others on their way.
const BUFFERS_PER_WORKER: usize = 16;

/// How long the last lines may take to be written when the engine ends.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

impl LogTarget {
    fn open(&self) -> io::Result<Box<dyn Write + Send>> {
        Ok(match self {
            LogTarget::Stdout => Box::new(io::stdout()),
            LogTarget::Stderr => Box::new(io::stderr()),
            LogTarget::File(path) => Box::new(append_to(path)?),
        })
    }
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[derive(Debug)]
struct Shared {
    full: ArrayQueue<Vec<u8>>,
    empty: ArrayQueue<Vec<u8>>,
    reopen: AtomicBool,
    stop: AtomicBool,
}

/// The writer's side.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A worker's side.
#[derive(Debug)]
pub struct LogBuffer {
    shared: Arc<Shared>,
    writer: Thread,
    lines: Vec<u8>,
}

impl AccessLog {
    /// Opens the target and starts the writer for this many workers.
    ///
    /// # Errors
    /// The target's, or the thread's.
    pub fn start(target: LogTarget, workers: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            full: ArrayQueue::new(workers * BUFFERS_PER_WORKER),
            empty: ArrayQueue::new(workers * BUFFERS_PER_WORKER),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        for _ in 0..workers * (BUFFERS_PER_WORKER - 1) {
            let _ = shared.empty.push(Vec::with_capacity(BUFFER_BYTES * 2));
        }
        let output = target.open()?;
        let writers = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("lb-access-log".into())
            .spawn(move || write_lines(&writers, &target, output))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A buffer for a worker to fill.
    pub fn buffer(&self) -> LogBuffer {
        let writer = self.thread.as_ref().expect("runs until dropped").thread().clone();
        LogBuffer { shared: Arc::clone(&self.shared), writer, lines: Vec::with_capacity(BUFFER_BYTES * 2) }
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
    /// Adds a line by `write`. False if it was dropped because the writer does not keep up.
    pub fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.lines.len() >= BUFFER_BYTES && !self.hand_on() {
            return false;
        }
        write(&mut self.lines);
        true
    }

    /// Hands what there is to the writer, if it keeps up.
    pub fn hand_on(&mut self) -> bool {
        if self.lines.is_empty() {
            return true;
        }
        let Some(empty) = self.shared.empty.pop() else { return false };
        let lines = std::mem::replace(&mut self.lines, empty);
        let pushed = self.shared.full.push(lines).is_ok();
        self.writer.unpark();
        pushed
    }

    /// Whether lines wait to be handed on.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        // There is room for every buffer that exists.
        let _ = self.shared.full.push(std::mem::take(&mut self.lines));
        self.writer.unpark();
    }
}

fn write_lines(shared: &Shared, target: &LogTarget, mut output: Box<dyn Write + Send>) {
    loop {
        let stop = shared.stop.load(Ordering::Acquire);
        if shared.reopen.swap(false, Ordering::AcqRel)
            && let Ok(opened) = target.open()
        {
            output = opened;
        }
        while let Some(mut lines) = shared.full.pop() {
            // A full disk loses lines, never requests.
            let _ = output.write_all(&lines);
            lines.clear();
            let _ = shared.empty.push(lines);
        }
        let _ = output.flush();
        if stop {
            return;
        }
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends by itself, though the pipe is full and nobody reads it.
    #[test]
    fn a_reader_that_hangs_keeps_nobody() {
        let pipe = std::env::temp_dir().join(format!("lb-log-{}", std::process::id()));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        let log = AccessLog::start(LogTarget::File(pipe.clone()), 1).unwrap();
        let mut buffer = log.buffer();
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
        let log = AccessLog::start(LogTarget::File(file.clone()), 1).unwrap();
        let mut buffer = log.buffer();
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
