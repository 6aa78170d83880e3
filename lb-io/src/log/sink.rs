//! Where the writer puts lines: a stream of bytes, which may fail at any of them, or a syslog daemon.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::LogTarget;
use super::syslog::Syslog;
use crate::handover::{Filled, GATHERED};

/// Where lines go, and whether they do.
pub(super) struct Sink {
    target: LogTarget,
    way: Way,
    /// Lines were lost: it has been said.
    failing: bool,
}

enum Way {
    Stream(Stream),
    Syslog(Syslog),
}

impl Sink {
    /// Opens the target. A syslog daemon need not be there yet.
    ///
    /// # Errors
    /// A file's.
    pub(super) fn open(target: LogTarget) -> io::Result<Sink> {
        Ok(Sink { way: Way::open(&target)?, target, failing: false })
    }

    /// Opens it anew, as after a rotation; what is open stays if that fails. Returns how many lines are lost: one, if
    /// the end of it is still missing in the old file and there is still no room for it.
    pub(super) fn reopen(&mut self) -> u64 {
        match Way::open(&self.target) {
            Ok(way) => match std::mem::replace(&mut self.way, way) {
                Way::Stream(mut old) => u64::from(old.write_rest().is_err()),
                Way::Syslog(_) => 0,
            },
            Err(error) => {
                eprintln!("lb: the access log stays as it is, for it cannot be opened anew: {error}");
                0
            }
        }
    }

    /// Writes the lines of at most [`GATHERED`] buffers, as many as are taken. Returns how many of each are lost.
    pub(super) fn write(&mut self, batch: &[Filled]) -> [u64; GATHERED] {
        let mut lost = [0; GATHERED];
        let mut failed = None;
        match &mut self.way {
            Way::Stream(stream) => failed = stream.write(batch, &mut lost).err(),
            Way::Syslog(syslog) => {
                for (lines, lost) in batch.iter().zip(&mut lost) {
                    let error;
                    (*lost, error) = syslog.write(&lines.bytes);
                    failed = failed.or(error);
                }
            }
        }
        let fails = failed.is_some() || lost.iter().any(|lost| *lost > 0);
        if fails && !self.failing {
            let why = failed.map_or(String::new(), |error| format!(": {error}"));
            eprintln!("lb: access log lines are lost and counted{why}");
        } else if self.failing && !fails {
            eprintln!("lb: access log lines are written again");
        }
        self.failing = fails;
        lost
    }
}

impl Way {
    fn open(target: &LogTarget) -> io::Result<Way> {
        let output: Box<dyn Write + Send> = match target {
            // Not by way of the standard library's buffer, whose lock others may hold.
            LogTarget::Stdout => Box::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
            LogTarget::Stderr => Box::new(File::from(io::stderr().as_fd().try_clone_to_owned()?)),
            LogTarget::File(path) => Box::new(append_to(path)?),
            LogTarget::Syslog(options) => return Ok(Way::Syslog(Syslog::new(options.address.clone()))),
        };
        Ok(Way::Stream(Stream { output, rest: Vec::new() }))
    }
}

/// Opens a file to append to. A pipe is opened for both ways: else this would wait until somebody reads from it, and
/// writing would fail when nobody does any more.
fn append_to(path: &Path) -> io::Result<File> {
    let is_pipe = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    OpenOptions::new().create(!is_pipe).append(true).read(is_pipe).open(path)
}

struct Stream {
    output: Box<dyn Write + Send>,
    /// The end of a line of which there was only room for the beginning. It goes first as soon as there is more, so that
    /// every line of a file is whole in the end.
    rest: Vec<u8>,
}

impl Stream {
    /// Writes lines, as many as there is room for. Where that fails, those that were not begun are lost; of one that was,
    /// the end is kept.
    fn write(&mut self, batch: &[Filled], lost: &mut [u64; GATHERED]) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); GATHERED];
        for (slice, lines) in slices.iter_mut().zip(batch) {
            *slice = IoSlice::new(&lines.bytes);
        }
        let result = match self.write_rest() {
            Ok(()) => write_all(&mut self.output, &mut slices),
            Err(error) => Err((0, error)),
        };
        let Err((mut written, error)) = result else { return Ok(()) };
        for (lines, lost) in batch.iter().zip(lost) {
            let (done, mut left) = lines.bytes.split_at(written.min(lines.bytes.len()));
            written -= done.len();
            if done.last().is_some_and(|byte| *byte != b'\n') {
                let end = left.iter().position(|byte| *byte == b'\n').map_or(left.len(), |place| place + 1);
                self.rest.extend_from_slice(&left[..end]);
                left = &left[end..];
            }
            *lost = left.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        Err(error)
    }

    /// Writes what is missing of the last line.
    fn write_rest(&mut self) -> io::Result<()> {
        let result = write_all(&mut self.output, &mut [IoSlice::new(&self.rest)]);
        let written = result.as_ref().map_or_else(|(written, _)| *written, |()| self.rest.len());
        self.rest.drain(..written);
        result.map_err(|(_, error)| error)
    }
}

/// Writes all of it, or as much as goes: how much that was, and why no more.
fn write_all(output: &mut impl Write, mut slices: &mut [IoSlice<'_>]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    // What is empty goes first: writing nothing would look as if nothing could be written.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match output.write_vectored(slices) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                written += count;
                IoSlice::advance_slices(&mut slices, count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Takes so many bytes and fails from then on, until it is told of more.
    #[derive(Clone, Default)]
    struct Disk(Arc<std::sync::Mutex<(usize, Vec<u8>)>>);

    impl Disk {
        fn room(&self, bytes: usize) {
            self.0.lock().unwrap().0 = bytes;
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (room, written) = &mut *self.0.lock().unwrap();
            let count = bytes.len().min(*room);
            *room -= count;
            written.extend_from_slice(&bytes[..count]);
            if count == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(count) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn batch(texts: &[&str]) -> Vec<Filled> {
        texts.iter().map(|text| Filled { worker: 0, bytes: text.as_bytes().to_vec() }).collect()
    }

    #[test]
    fn a_full_disk_loses_whole_lines_and_counts_them() {
        let disk = Disk::default();
        let mut stream = Stream { output: Box::new(disk.clone()), rest: Vec::new() };
        let mut lost = |room: usize, texts: &[&str]| -> Vec<u64> {
            disk.room(room);
            let mut lost = [0; GATHERED];
            assert_eq!(stream.write(&batch(texts), &mut lost).is_err(), room < 100);
            lost[..texts.len()].to_vec()
        };
        assert_eq!(lost(6, &["one\ntwo\nthree\n", "", "a\nb\n"]), [1, 0, 2], "two is begun");
        assert_eq!(lost(0, &["four\n"]), [1]);
        assert_eq!(lost(1, &["five\n"]), [1], "two has its last letter, but not its end");
        assert_eq!(lost(100, &["six\n", "", "seven\n"]), [0; 3]);
        assert_eq!(lost(6, &["eight\n", "nine\n"]), [0, 1], "cut off between two buffers");
        assert_eq!(lost(2, &["ten\n", "eleven\n"]), [0, 1]);
        assert_eq!(lost(100, &["", ""]), [0; 2], "but for the end of ten");
        assert_eq!(disk.0.lock().unwrap().1, b"one\ntwo\nsix\nseven\neight\nten\n");
    }

    #[test]
    fn a_file_that_is_opened_anew_has_no_end_of_another_ones_line() {
        let directory = std::env::temp_dir().join(format!("lb-sink-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let target = LogTarget::File(directory.join("log"));
        for (room, lost, left) in [(0, 1, "on"), (100, 0, "one\n")] {
            let (disk, mut sink) = (Disk::default(), Sink::open(target.clone()).unwrap());
            sink.way = Way::Stream(Stream { output: Box::new(disk.clone()), rest: Vec::new() });
            disk.room(2);
            sink.write(&batch(&["one\n"]));
            disk.room(room);
            assert_eq!(sink.reopen(), lost);
            sink.write(&batch(&["two\n"]));
            assert_eq!(String::from_utf8_lossy(&disk.0.lock().unwrap().1), left);
        }
        assert_eq!(std::fs::read(directory.join("log")).unwrap(), b"two\ntwo\n");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
