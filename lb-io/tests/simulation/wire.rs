//! HTTP/1 as the scripted peers speak it: written apart from the engine's codec, so that a misreading there
//! is not repeated here.

use super::script::{Side, content};

/// Received bytes that were not understood yet.
#[derive(Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
}

impl Inbox {
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
    }

    /// Takes all.
    pub fn take(&mut self) -> Vec<u8> {
        let rest = self.rest().to_vec();
        self.consume(rest.len());
        rest
    }

    /// Takes one line, without its CRLF.
    fn take_line(&mut self) -> Option<String> {
        let end = self.rest().windows(2).position(|pair| pair == b"\r\n")?;
        let line = String::from_utf8_lossy(&self.rest()[..end]).into_owned();
        self.consume(end + 2);
        Some(line)
    }

    /// Takes a head, once it is whole.
    pub fn take_head(&mut self) -> Option<Result<Head, String>> {
        let end = self.rest().windows(4).position(|four| four == b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&self.rest()[..end]).into_owned();
        self.consume(end + 4);
        Some(Head::parse(&text))
    }
}

/// A head: its first line and its fields, names in lower case.
#[derive(Debug)]
pub struct Head {
    pub line: String,
    fields: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Result<Head, String> {
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let fields = lines.map(parse_field).collect::<Result<_, _>>()?;
        Ok(Head { line, fields })
    }

    /// The one value of a field. More than one is an error for the fields that are asked for here.
    pub fn one(&self, name: &str) -> Result<Option<&str>, String> {
        let mut values =
            self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() {
            return Err(format!("two fields `{name}` in {self:?}"));
        }
        Ok(first)
    }

    /// The length or kind of what follows; None: nothing is said of it.
    pub fn framing(&self) -> Result<Option<Framing>, String> {
        let length = self.one("content-length")?;
        match (self.one("transfer-encoding")?, length) {
            (Some("chunked"), None) => Ok(Some(Framing::Chunked(Chunk::Size))),
            (None, Some(length)) => {
                let length = length.parse().map_err(|_| format!("content-length `{length}`"))?;
                Ok(Some(Framing::Length(length)))
            }
            (None, None) => Ok(None),
            other => Err(format!("framing {other:?}")),
        }
    }
}

fn parse_field(line: &str) -> Result<(String, String), String> {
    match line.split_once(':') {
        Some((name, value)) if !name.is_empty() && !name.contains([' ', '\t']) => {
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        }
        _ => Err(format!("field line `{line}`")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked(Chunk),
    UntilClose,
}

/// Where in a chunked body a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    Size,
    Data(usize),
    /// The CRLF behind the data.
    DataEnd,
    Trailers,
    Done,
}

/// Reads a body and compares each byte with what it must be.
pub struct Body {
    id: u64,
    /// None: the bytes may be any.
    side: Option<Side>,
    framing: Framing,
    /// Payload bytes so far.
    pub got: usize,
    /// How many there must be in all.
    expected: usize,
}

impl Body {
    pub fn new(id: u64, side: Side, framing: Framing, expected: usize) -> Body {
        Body { id, side: Some(side), framing, got: 0, expected }
    }

    /// A body of which only the length is known.
    pub fn any(len: usize) -> Body {
        Body { id: 0, side: None, framing: Framing::Length(len), got: 0, expected: len }
    }

    pub fn is_until_close(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    /// Reads on. True once the body is whole (never for one that ends with the connection).
    pub fn read(&mut self, inbox: &mut Inbox) -> Result<bool, String> {
        loop {
            match self.framing {
                Framing::Length(0) => return self.finish(),
                Framing::Length(left) => {
                    let taken = self.take(inbox, left)?;
                    if taken == 0 {
                        return Ok(false);
                    }
                    self.framing = Framing::Length(left - taken);
                }
                Framing::UntilClose => {
                    return self.take(inbox, usize::MAX).map(|_| false);
                }
                Framing::Chunked(Chunk::Done) => return self.finish(),
                Framing::Chunked(chunk) => match self.read_chunk(chunk, inbox)? {
                    Some(next) => self.framing = Framing::Chunked(next),
                    None => return Ok(false),
                },
            }
        }
    }

    /// The next place in a chunked body; None: more bytes are needed.
    fn read_chunk(&mut self, chunk: Chunk, inbox: &mut Inbox) -> Result<Option<Chunk>, String> {
        Ok(match chunk {
            Chunk::Size => match inbox.take_line() {
                None => None,
                Some(line) => {
                    let digits = line.split(';').next().unwrap_or_default();
                    let size =
                        usize::from_str_radix(digits, 16).map_err(|_| format!("chunk size `{line}`"))?;
                    Some(if size == 0 { Chunk::Trailers } else { Chunk::Data(size) })
                }
            },
            Chunk::Data(left) => match self.take(inbox, left)? {
                0 => None,
                taken if taken == left => Some(Chunk::DataEnd),
                taken => Some(Chunk::Data(left - taken)),
            },
            Chunk::DataEnd => match inbox.take_line() {
                None if inbox.rest().len() >= 2 => return Err("no CRLF behind a chunk".to_owned()),
                None => None,
                Some(line) if line.is_empty() => Some(Chunk::Size),
                Some(line) => return Err(format!("`{line}` behind a chunk")),
            },
            Chunk::Trailers => match inbox.take_line() {
                None => None,
                Some(line) if line.is_empty() => Some(Chunk::Done),
                Some(line) => {
                    let (name, value) = parse_field(&line)?;
                    if name == "x-trailer" && value != format!("{:x}", self.id) {
                        return Err(format!("trailer of {value} on {:x}", self.id));
                    }
                    Some(Chunk::Trailers)
                }
            },
            Chunk::Done => Some(Chunk::Done),
        })
    }

    fn take(&mut self, inbox: &mut Inbox, limit: usize) -> Result<usize, String> {
        let count = inbox.rest().len().min(limit);
        if self.got + count > self.expected {
            return Err(format!("{} bytes of body, {} expected", self.got + count, self.expected));
        }
        let differs = |side| inbox.rest()[..count] != content(self.id, side, self.got, count);
        if self.side.is_some_and(differs) {
            return Err(format!("foreign bytes between {} and {} of the body", self.got, self.got + count));
        }
        inbox.consume(count);
        self.got += count;
        Ok(count)
    }

    /// The body ends here: in its framing, or with the connection.
    pub fn finish(&self) -> Result<bool, String> {
        if self.got == self.expected {
            return Ok(true);
        }
        Err(format!("body ended after {} of {} bytes", self.got, self.expected))
    }
}

/// A body as bytes on the wire; cut into chunks that depend on `id` only.
pub fn encode(id: u64, side: Side, len: usize, chunked: bool, trailer: bool) -> Vec<u8> {
    let payload = content(id, side, 0, len);
    if !chunked {
        return payload;
    }
    let mut random = lb_io::sim::Random::new(id ^ len as u64);
    let mut out = Vec::with_capacity(len + 64);
    let mut rest = payload.as_slice();
    while !rest.is_empty() {
        let bound = random.pick(&[1, 10, 1_000, 30_000]);
        let (chunk, after) = rest.split_at((1 + random.index(bound)).min(rest.len()));
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = after;
    }
    out.extend_from_slice(b"0\r\n");
    if trailer {
        out.extend_from_slice(format!("x-trailer: {id:x}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}
