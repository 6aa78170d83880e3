//! Lines as messages for a syslog daemon: RFC 5424, a datagram each, over a unix socket or UDP (RFC 5426).
//!
//! Nothing waits for the daemon longer than [`PATIENCE`], and only the writer's thread does. What it does not take is
//! lost and counted; after a failure there is a new socket, so that a daemon that comes back is found again.

use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use super::write::Calendar;

/// How long a message may wait for room in the daemon's queue.
const PATIENCE: Duration = Duration::from_millis(100);

/// Where the daemon is, and how messages are marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogOptions {
    /// Where it listens.
    pub address: SyslogAddress,
    /// The facility's number (RFC 5424 section 6.2.1), at most 23.
    pub facility: u8,
    /// `APP-NAME`: at most 48 visible ASCII characters.
    pub name: String,
}

/// Where a syslog daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogAddress {
    /// At a datagram socket such as `/dev/log`.
    Unix(PathBuf),
    /// At a host and port.
    Udp(String),
}

/// How urgent a message is (RFC 5424 section 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// An exchange that ended as it is meant to.
    Info = 6,
    /// Any other.
    Warning = 4,
}

/// What stands before each line, but for the time.
#[derive(Debug, Clone)]
pub(super) struct Header {
    facility: u8,
    /// Host name, application, process; no message id and no structured data.
    rest: Box<[u8]>,
}

impl Header {
    pub(super) fn new(options: &SyslogOptions) -> Header {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        let is_printable =
            !host.is_empty() && host.len() <= 255 && host.bytes().all(|byte| byte.is_ascii_graphic());
        let host = if is_printable { host } else { "-" };
        let rest = format!(" {host} {} {} access - ", options.name, std::process::id());
        Header { facility: options.facility, rest: rest.into_bytes().into() }
    }

    /// Appends what stands before a line.
    pub(super) fn write(&self, out: &mut Vec<u8>, severity: Severity, calendar: &mut Calendar, at: Duration) {
        out.push(b'<');
        super::write::number(out, u64::from(self.facility) * 8 + severity as u64);
        out.extend_from_slice(b">1 ");
        calendar.write(out, at);
        out.extend_from_slice(&self.rest);
    }
}

/// The way to a daemon.
#[derive(Debug)]
pub(super) struct Syslog {
    address: SyslogAddress,
    socket: Option<Socket>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl Socket {
    fn connect(address: &SyslogAddress) -> io::Result<Socket> {
        match address {
            SyslogAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.set_write_timeout(Some(PATIENCE))?;
                socket.connect(path)?;
                Ok(Socket::Unix(socket))
            }
            SyslogAddress::Udp(address) => {
                // Of a name's addresses the first to which there is a way.
                let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
                for address in std::net::ToSocketAddrs::to_socket_addrs(address.as_str())? {
                    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                    let connected = UdpSocket::bind(any).and_then(|socket| {
                        socket.set_write_timeout(Some(PATIENCE))?;
                        socket.connect(address).map(|()| socket)
                    });
                    match connected {
                        Ok(socket) => return Ok(Socket::Udp(socket)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        let sent = match self {
            Socket::Unix(socket) => socket.send(message),
            Socket::Udp(socket) => socket.send(message),
        };
        sent.map(|_| ())
    }
}

impl Syslog {
    pub(super) fn new(address: SyslogAddress) -> Syslog {
        Syslog { address, socket: None }
    }

    /// Sends each line as a message. Returns how many are lost, and why.
    pub(super) fn write(&mut self, lines: &[u8]) -> (u64, Option<io::Error>) {
        let count = |lines: &[u8]| lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        let (mut rest, mut lost, mut failed) = (lines, 0, None);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let mut result = self.send(&rest[..end]);
            if let Err(error) = &result
                && failed.is_none()
                && error.kind() != io::ErrorKind::WouldBlock
            {
                // UDP tells with one message that an earlier one was refused.
                let refused = matches!(self.address, SyslogAddress::Udp(_))
                    && error.kind() == io::ErrorKind::ConnectionRefused;
                lost += u64::from(refused);
                failed = result.err();
                // The old socket's daemon may be gone, and a new one there: that is tried once.
                self.socket = None;
                result = self.send(&rest[..end]);
            }
            if let Err(error) = result {
                self.socket = None;
                return (lost + count(rest), Some(error));
            }
            rest = &rest[end + 1..];
        }
        (lost, failed.filter(|_| lost > 0))
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if self.socket.is_none() {
            self.socket = Some(Socket::connect(&self.address)?);
        }
        self.socket.as_ref().map_or(Ok(()), |socket| socket.send(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(daemon: &UnixDatagram) -> String {
        let mut message = [0; 1_000];
        let len = daemon.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..len]).into_owned()
    }

    #[test]
    fn a_header_is_of_rfc_5424() {
        let address = SyslogAddress::Udp("127.0.0.1:514".into());
        let header = Header::new(&SyslogOptions { address, facility: 16, name: "lb".into() });
        let mut out = Vec::new();
        header.write(&mut out, Severity::Info, &mut Calendar::default(), Duration::from_secs(1));
        let text = String::from_utf8(out).unwrap();
        let words: Vec<&str> = text.split(' ').collect();
        assert_eq!(words[..2], ["<134>1", "1970-01-01T00:00:01.000Z"]);
        let process = std::process::id().to_string();
        assert_eq!(words[3..], ["lb", process.as_str(), "access", "-", ""]);
    }

    #[test]
    fn a_daemon_that_dies_hangs_and_comes_back() {
        let directory = std::env::temp_dir().join(format!("lb-syslog-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("log");
        let mut syslog = Syslog::new(SyslogAddress::Unix(path.clone()));
        let lost = |syslog: &mut Syslog, lines: &str| syslog.write(lines.as_bytes()).0;
        assert_eq!(lost(&mut syslog, "one\ntwo\n"), 2, "nobody is there");
        let daemon = UnixDatagram::bind(&path).unwrap();
        assert_eq!(lost(&mut syslog, "three\nfour\n"), 0);
        assert_eq!((receive(&daemon), receive(&daemon)), ("three".to_owned(), "four".to_owned()));
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(lost(&mut syslog, "five\n"), 1, "it died");
        let daemon = UnixDatagram::bind(&path).unwrap();
        assert_eq!(lost(&mut syslog, "six\n"), 0, "it came back");
        assert_eq!(receive(&daemon), "six");
        // Its queue is bounded, and it reads nothing.
        let many = "x\n".repeat(10_000);
        assert!(lost(&mut syslog, &many) > 0);
        while daemon.set_nonblocking(true).is_ok() && daemon.recv(&mut [0; 10]).is_ok() {}
        assert_eq!(lost(&mut syslog, "seven\n"), 0, "it reads again");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_refusal_by_udp_is_counted() {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = daemon.local_addr().unwrap();
        let mut syslog = Syslog::new(SyslogAddress::Udp(address.to_string()));
        assert_eq!(syslog.write(b"one\n").0, 0);
        drop(daemon);
        // The system takes the first, and tells of it with a later one.
        let lost: u64 = (0..1_000).map(|_| syslog.write(b"two\n").0).sum();
        assert!(lost > 0);
        let daemon = UdpSocket::bind(address).unwrap();
        let mut message = [0; 10];
        while syslog.write(b"three\n").0 > 0 {}
        let len = daemon.recv(&mut message).unwrap();
        assert_eq!(&message[..len], b"three");
    }
}
