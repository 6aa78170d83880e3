//! HTTP/1 messages on a plain socket, for both ends of a test: lenient about what it reads, exact about bytes.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::PATIENCE;

/// A request or response as it came over the wire.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The first line, without its end.
    pub start: String,
    /// Header fields in order, names as received, values trimmed.
    pub fields: Vec<(String, String)>,
    /// The head's exact bytes, with the blank line.
    pub raw_head: Vec<u8>,
    /// The payload, without chunk framing.
    pub body: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub trailers: Vec<(String, String)>,
}

impl Message {
    pub fn word(&self, index: usize) -> &str {
        self.start.split(' ').nth(index).unwrap_or("")
    }

    /// The status of a response.
    #[track_caller]
    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or_else(|_| panic!("no status in {:?}", self.start))
    }

    /// The target of a request.
    pub fn target(&self) -> &str {
        self.word(1)
    }

    pub fn method(&self) -> &str {
        self.word(0)
    }

    /// The first field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// Every field of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(it, _)| it.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn is_chunked(&self) -> bool {
        self.all("transfer-encoding").iter().any(|value| value.to_ascii_lowercase().contains("chunked"))
    }

    fn length(&self) -> Option<usize> {
        self.field("content-length").map(|value| value.parse().expect("content-length is a number"))
    }
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    None,
    Bytes(usize),
    Chunked,
    UntilClose,
}

impl Message {
    pub fn request_length(&self) -> Length {
        if self.is_chunked() { Length::Chunked } else { self.length().map_or(Length::None, Length::Bytes) }
    }

    pub fn response_length(&self, method: &str) -> Length {
        let status = self.status();
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            Length::None
        } else if self.is_chunked() {
            Length::Chunked
        } else {
            self.length().map_or(Length::UntilClose, Length::Bytes)
        }
    }
}

type Tap = Box<dyn FnMut(&[u8]) + Send>;

/// A socket with what was read from it and not yet taken.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    taken: usize,
    tap: Option<Tap>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Wire { stream, buffer: Vec::new(), taken: 0, tap: None }
    }

    /// Every byte received goes to `tap` too.
    pub fn with_tap(mut self, tap: Tap) -> Wire {
        self.tap = Some(tap);
        self
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn set_patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads once more. `Ok(0)` is the peer's end.
    pub fn fill(&mut self) -> io::Result<usize> {
        if self.taken > 0 && (self.taken == self.buffer.len() || self.taken > 1 << 20) {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        let mut chunk = vec![0; 64 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "nothing came before the patience ended",
                    ));
                }
                Err(error) => return Err(error),
                Ok(count) => {
                    if let Some(tap) = &mut self.tap {
                        tap(&chunk[..count]);
                    }
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Ok(count);
                }
            }
        }
    }

    pub fn waiting(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    pub fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.waiting().len() < len {
            if self.fill()? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("ended {} bytes early", len - self.waiting().len()),
                ));
            }
        }
        let bytes = self.waiting()[..len].to_vec();
        self.taken += len;
        Ok(bytes)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut from = 0;
        loop {
            if let Some(at) = self.waiting()[from..].iter().position(|&byte| byte == b'\n') {
                let line = self.take(from + at + 1)?;
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            from = self.waiting().len();
            if self.fill()? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "ended within a line"));
            }
        }
    }

    /// The next head; `None` when the peer ended (or reset) before its first byte.
    pub fn head(&mut self) -> io::Result<Option<Message>> {
        let mut from = 0;
        let end = loop {
            let waiting = self.waiting();
            if let Some(at) = waiting[from..].windows(4).position(|window| window == b"\r\n\r\n") {
                break from + at + 4;
            }
            from = waiting.len().saturating_sub(3);
            let empty = waiting.is_empty();
            match self.fill() {
                Ok(0) if empty => return Ok(None),
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "ended within a head")),
                Err(error) if empty && error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                other => other?,
            };
        };
        let raw_head = self.take(end)?;
        let text = String::from_utf8_lossy(&raw_head).into_owned();
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or("").to_owned();
        let fields = lines.filter(|line| !line.is_empty()).map(split_field).collect();
        Ok(Some(Message { start, fields, raw_head, ..Message::default() }))
    }

    /// Reads the body of `message` into it.
    pub fn body(&mut self, message: &mut Message, length: Length) -> io::Result<()> {
        match length {
            Length::None => {}
            Length::Bytes(len) => message.body = self.take(len)?,
            Length::UntilClose => {
                while self.fill()? > 0 {}
                message.body = self.take(self.waiting().len())?;
            }
            Length::Chunked => loop {
                let line = self.line()?;
                let size = line.split(';').next().unwrap_or("").trim();
                let size = usize::from_str_radix(size, 16).map_err(|_| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("chunk size {line:?}"))
                })?;
                if size == 0 {
                    loop {
                        let line = self.line()?;
                        if line.is_empty() {
                            return Ok(());
                        }
                        message.trailers.push(split_field(&line));
                    }
                }
                let data = self.take(size)?;
                message.body.extend_from_slice(&data);
                if self.take(2)? != b"\r\n" {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "no CRLF after a chunk"));
                }
            },
        }
        Ok(())
    }
}

fn split_field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim().to_owned())
}

/// `bytes` as a chunked body in pieces of `size`, closed, without trailers.
pub fn chunked(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in bytes.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
