//! Where the writer puts lines: a stream of bytes, which may fail at any of them, or a syslog daemon.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::LogTarget;
use super::syslog::Syslog;

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

    /// Opens it anew, as after a rotation; what is open stays if that fails.
    pub(super) fn reopen(&mut self) {
        match Way::open(&self.target) {
            Ok(way) => self.way = way,
            Err(error) => {
                eprintln!("lb: the access log stays as it is, for it cannot be opened anew: {error}");
            }
        }
    }

    /// Writes lines, as many as are taken. Returns how many are lost.
    pub(super) fn write(&mut self, lines: &[u8]) -> u64 {
        let (lost, error) = match &mut self.way {
            Way::Stream(stream) => stream.write(lines),
            Way::Syslog(syslog) => syslog.write(lines),
        };
        let fails = lost > 0;
        if fails && !self.failing {
            let why = error.map_or(String::new(), |error| format!(": {error}"));
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
        Ok(Way::Stream(Stream { output, is_torn: false }))
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
    /// The last line was cut off.
    is_torn: bool,
}

impl Stream {
    /// Writes lines, as many as there is room for. Returns how many are lost, and why.
    fn write(&mut self, lines: &[u8]) -> (u64, Option<io::Error>) {
        let mut written = 0;
        let failed = self.write_all(lines, &mut written).err();
        if failed.is_some() {
            self.is_torn |= written > 0 && lines[written - 1] != b'\n';
        }
        let rest = &lines[written..];
        (rest.iter().filter(|byte| **byte == b'\n').count() as u64, failed)
    }

    fn write_all(&mut self, lines: &[u8], written: &mut usize) -> io::Result<()> {
        if self.is_torn {
            self.output.write_all(b"\n")?;
            self.is_torn = false;
        }
        while *written < lines.len() {
            match self.output.write(&lines[*written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
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

    #[test]
    fn a_full_disk_loses_whole_lines_and_counts_them() {
        let disk = Disk::default();
        let mut stream = Stream { output: Box::new(disk.clone()), is_torn: false };
        let mut lost = |lines: &[u8]| stream.write(lines).0;
        disk.room(6);
        assert_eq!(lost(b"one\ntwo\nthree\n"), 2, "two is cut off, three not begun");
        assert_eq!(lost(b"four\n"), 1);
        disk.room(100);
        assert_eq!(lost(b"five\nsix\n"), 0);
        assert_eq!(disk.0.lock().unwrap().1, b"one\ntw\nfive\nsix\n");
    }
}
