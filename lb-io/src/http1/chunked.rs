//! The chunked transfer coding (RFC 9112 section 7.1).
//!
//! ```text
//! Size ──► Extension ──► SizeEnd ──► Data ──► DataEnd ──► Size
//!   │  (line checked whole)  │
//!   └────────────────────────┴──(size 0)──► Trailers ──► Done
//! ```

use super::body::{BodyError, Piece, Step};
use super::fault;
use super::fields::{is_token_byte, is_value_byte};

/// A size line with its extension and CRLF.
const LINE_BYTES: usize = 256;

/// All extensions of a message.
const EXTENSION_BYTES: u16 = 4096;

/// A trailer section with its empty line.
pub(super) const TRAILER_BYTES: usize = 8192;

/// Trailer names that may not pass: they would frame, route, authenticate or control a message that was
/// already acted on (RFC 9110 section 6.5.1), or speak for us.
const FORBIDDEN: &[&[u8]] = &[
    b"authorization",
    b"cache-control",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"http2-settings",
    b"keep-alive",
    b"location",
    b"max-forwards",
    b"proxy",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"range",
    b"set-cookie",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"www-authenticate",
    b"x-request-id",
];

/// Beginnings of such names.
const FORBIDDEN_PREFIXES: &[&[u8]] = &[b"x-forwarded-", b"if-"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the first digit of a size line.
    Size,
    /// Within the extension of a checked size line.
    Extension {
        left: u16,
        size: u64,
    },
    /// Within the CRLF of a checked size line.
    SizeEnd {
        left: u8,
        size: u64,
    },
    /// Within a chunk's data; at least one byte is left.
    Data {
        left: u64,
    },
    /// Within the CRLF after a chunk's data.
    DataEnd {
        left: u8,
    },
    /// At the first byte of the trailer section, of which `scanned` bytes held no end.
    Trailers {
        scanned: u16,
    },
    Done,
}

/// Follows a chunked body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunked {
    place: Place,
    extension_bytes: u16,
}

impl Chunked {
    pub fn new() -> Self {
        Self { place: Place::Size, extension_bytes: 0 }
    }

    pub fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    pub fn data_ahead(&self) -> u64 {
        match self.place {
            Place::Data { left } => left,
            _ => 0,
        }
    }

    pub fn skip(&mut self, count: u64) {
        if let Place::Data { left } = self.place {
            self.place = after_data(left.saturating_sub(count));
        }
    }

    /// `bytes` is not empty.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, BodyError> {
        match self.place {
            Place::Size => self.size(bytes),
            Place::Extension { left, size } => {
                let len = usize::from(left).min(bytes.len());
                let left = left - len as u16;
                self.place = if left == 0 {
                    Place::SizeEnd { left: 2, size }
                } else {
                    Place::Extension { left, size }
                };
                Ok(Step::new(len, Piece::Drop))
            }
            Place::SizeEnd { left, size } => {
                let len = self.line_end(bytes, left, BodyError::ChunkLine)?;
                let left = left - len as u8;
                self.place = if left == 0 { after_size(size) } else { Place::SizeEnd { left, size } };
                Ok(Step::new(len, Piece::Framing))
            }
            Place::Data { left } => {
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                self.place = after_data(left - len as u64);
                Ok(Step::new(len, Piece::Data))
            }
            Place::DataEnd { left } => {
                let len = self.line_end(bytes, left, BodyError::ChunkEnd)?;
                let left = left - len as u8;
                self.place = if left == 0 { Place::Size } else { Place::DataEnd { left } };
                Ok(Step::new(len, Piece::Framing))
            }
            Place::Trailers { scanned } => self.trailers(bytes, scanned),
            Place::Done => Ok(Step::NEED_MORE),
        }
    }

    /// The last `left` bytes of a CRLF.
    fn line_end(&self, bytes: &[u8], left: u8, error: BodyError) -> Result<usize, BodyError> {
        let expected = &b"\r\n"[2 - usize::from(left)..];
        let len = expected.len().min(bytes.len());
        if bytes[..len] == expected[..len] { Ok(len) } else { Err(error) }
    }

    /// A size line, which is held back until it is whole. What is certainly wrong is refused before.
    fn size(&mut self, bytes: &[u8]) -> Result<Step, BodyError> {
        let digits = bytes.iter().take(17).take_while(|byte| byte.is_ascii_hexdigit()).count();
        // RFC 9112 section 7.1: a recipient MUST anticipate large numerals and prevent overflow. Numbers above
        // 2^63 - 1 are negative to readers behind us that use signed ones.
        if digits > 16 || (digits == 0 && !bytes.is_empty()) {
            return Err(BodyError::ChunkSize);
        }
        let size = bytes[..digits].iter().fold(0u64, |size, digit| size << 4 | u64::from(hex(*digit)));
        if size > i64::MAX as u64 {
            return Err(BodyError::ChunkSize);
        }
        let window = &bytes[digits..bytes.len().min(LINE_BYTES)];
        let extension = match window {
            [] => return Ok(Step::NEED_MORE),
            [b'\r', b'\n', ..] => {
                self.place = after_size(size);
                return Ok(Step::new(digits + 2, Piece::Framing));
            }
            [b'\r'] => return Ok(Step::NEED_MORE),
            [b';' | b' ' | b'\t', ..] => match window.iter().position(|byte| !is_value_byte(*byte)) {
                Some(end) if window[end..].starts_with(b"\r\n") => &window[..end],
                // RFC 9112 section 2.2: a bare CR is invalid; and CR may be all that has arrived.
                Some(end) if window[end..] == *b"\r" && bytes.len() < LINE_BYTES => {
                    return Ok(Step::NEED_MORE);
                }
                None if bytes.len() < LINE_BYTES => return Ok(Step::NEED_MORE),
                _ => return Err(BodyError::ChunkLine),
            },
            [b'\r', ..] | [b'\n', ..] => return Err(BodyError::ChunkLine),
            _ => return Err(BodyError::ChunkSize),
        };
        if !is_extension(extension) {
            return Err(BodyError::ChunkExtension);
        }
        let left = extension.len() as u16;
        self.extension_bytes += left;
        // RFC 9112 section 7.1.1: the total length of extensions ought to be limited.
        if self.extension_bytes > EXTENSION_BYTES {
            return Err(BodyError::ChunkExtension);
        }
        self.place = Place::Extension { left, size };
        Ok(Step::new(digits, Piece::Framing))
    }

    /// The trailer section, which is held back until it is whole.
    fn trailers(&mut self, bytes: &[u8], scanned: u16) -> Result<Step, BodyError> {
        let window = &bytes[..bytes.len().min(TRAILER_BYTES)];
        if window.starts_with(b"\r\n") {
            self.place = Place::Done;
            return Ok(Step::new(2, Piece::Framing));
        }
        let Some(len) = section_end(window, usize::from(scanned)) else {
            if bytes.len() > TRAILER_BYTES {
                return Err(BodyError::TrailersTooLarge);
            }
            self.place = Place::Trailers { scanned: window.len() as u16 };
            return Ok(Step::NEED_MORE);
        };
        check_trailers(&window[..len])?;
        self.place = Place::Done;
        Ok(Step::new(len, Piece::Framing))
    }
}

fn after_size(size: u64) -> Place {
    if size == 0 { Place::Trailers { scanned: 0 } } else { Place::Data { left: size } }
}

fn after_data(left: u64) -> Place {
    if left == 0 { Place::DataEnd { left: 2 } } else { Place::Data { left } }
}

/// Where a section of field lines ends: after its empty line, or after a line that has no right end.
fn section_end(bytes: &[u8], mut from: usize) -> Option<usize> {
    while let Some(found) = memchr::memchr(b'\n', &bytes[from..]) {
        let end = from + found + 1;
        if !bytes[..end].ends_with(b"\r\n") || bytes[..end].ends_with(b"\r\n\r\n") {
            return Some(end);
        }
        from = end;
    }
    None
}

/// RFC 9112 section 7.1.2, held to the same rules as a head's fields.
fn check_trailers(mut section: &[u8]) -> Result<(), BodyError> {
    loop {
        let line;
        (line, section) = fault::first_line(section);
        let line = fault::text(line).map_err(|_| BodyError::Trailer)?;
        if line.is_empty() {
            return Ok(());
        }
        let name = fault::field(line).map(|colon| &line[..colon]).map_err(|_| BodyError::Trailer)?;
        if is_forbidden(name) {
            return Err(BodyError::TrailerForbidden);
        }
    }
}

fn is_forbidden(name: &[u8]) -> bool {
    let same = |(byte, expected): (&u8, &u8)| {
        byte.to_ascii_lowercase() == *expected || (*byte == b'_' && *expected == b'-')
    };
    FORBIDDEN.iter().any(|known| known.len() == name.len() && name.iter().zip(*known).all(same))
        || FORBIDDEN_PREFIXES
            .iter()
            .any(|known| known.len() <= name.len() && name.iter().zip(*known).all(same))
}

/// `chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`, RFC 9112 section 7.1.1.
fn is_extension(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        rest = blank(rest);
        let [b';', after @ ..] = rest else { return false };
        let Some(after) = token(blank(after)) else { return false };
        rest = after;
        if let [b'=', value @ ..] = blank(after) {
            let value = blank(value);
            let after_value = if value.first() == Some(&b'"') { quoted(value) } else { token(value) };
            let Some(after_value) = after_value else { return false };
            rest = after_value;
        }
    }
    true
}

fn blank(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

fn token(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(bytes.len());
    (end > 0).then(|| &bytes[end..])
}

/// RFC 9110 section 5.6.4. The bytes are value bytes already.
fn quoted(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(&bytes[at + 1..]),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Bytes of the longest [`size_line`].
pub const SIZE_LINE_BYTES: usize = 18;

/// The last chunk with an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Writes the size line of a chunk of `size` bytes into `line` and gives the part that was written. For who
/// makes chunks itself; `size` is not 0, which would be the last chunk.
pub fn size_line(size: u64, line: &mut [u8; SIZE_LINE_BYTES]) -> &[u8] {
    let mut at = SIZE_LINE_BYTES - 2;
    line[at..].copy_from_slice(b"\r\n");
    let mut left = size;
    loop {
        at -= 1;
        line[at] = b"0123456789abcdef"[(left & 15) as usize];
        left >>= 4;
        if left == 0 {
            return &line[at..];
        }
    }
}
