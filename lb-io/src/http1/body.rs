//! Bodies: which bytes belong to one, and which of them go on as they are.
//!
//! Nothing is copied. The caller offers what it has received; a [`Decoder`] says of the first bytes what they
//! are. The caller forwards the range (or not), and offers the rest.

use super::Framing;
use super::chunked::{self, Chunked};

/// What the first [`Step::len`] bytes of the offered ones are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Payload.
    Data,
    /// Framing of a chunked body, checked, that goes on to a chunked peer as it is and to no other: size
    /// lines without extension, CRLFs, the last chunk, trailers.
    Framing,
    /// Not to be forwarded: chunk extensions, which are for this connection only (RFC 9112 section 7.1.1:
    /// a recipient MUST ignore unrecognised ones).
    Drop,
    /// `len` is 0: more bytes must come before anything can be said. Keep the offered ones and offer them again
    /// with more behind. They are never more than [`HELD_BYTES`].
    NeedMore,
}

/// A verdict on the first bytes of what was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How many bytes it is about.
    pub len: usize,
    /// What they are.
    pub kind: Piece,
}

impl Step {
    pub(super) fn new(len: usize, kind: Piece) -> Self {
        Self { len, kind }
    }

    pub(super) const NEED_MORE: Self = Self { len: 0, kind: Piece::NeedMore };
}

/// Most bytes that must be offered together before a [`Decoder`] says anything but [`Piece::NeedMore`]: a
/// trailer section of the largest size with the byte that makes it too large.
pub const HELD_BYTES: usize = chunked::TRAILER_BYTES + 1;

/// Why a body is refused. A request is answered 400 if nothing was answered yet; a response is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyError {
    /// A chunk's size is not 1 to 16 hexadecimal digits or above 2^63 - 1.
    ChunkSize,
    /// The size line is longer than 256 bytes, or is not followed by CRLF.
    ChunkLine,
    /// A chunk extension is malformed, or all together are longer than 4 KiB.
    ChunkExtension,
    /// A chunk's data is not followed by CRLF.
    ChunkEnd,
    /// The trailer section is malformed.
    Trailer,
    /// The trailer section is longer than 8 KiB.
    TrailersTooLarge,
    /// A trailer with a name that frames, routes, authenticates or controls (RFC 9110 section 6.5.1).
    TrailerForbidden,
    /// The sender ended before the body did.
    Truncated,
}

impl BodyError {
    /// The status that answers a request with such a body. (For a response: 502, if anything.)
    pub fn status(self) -> u16 {
        400
    }

    /// The stable reason word.
    pub fn word(self) -> &'static str {
        match self {
            Self::ChunkSize => "bad_chunk_size",
            Self::ChunkLine => "bad_chunk_line",
            Self::ChunkExtension => "bad_chunk_extension",
            Self::ChunkEnd => "bad_chunk_end",
            Self::Trailer => "bad_trailer",
            Self::TrailersTooLarge => "trailers_too_large",
            Self::TrailerForbidden => "forbidden_trailer",
            Self::Truncated => "truncated_body",
        }
    }
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

impl std::error::Error for BodyError {}

/// Where in a body we are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Length { left: u64 },
    Chunked(Chunked),
    UntilClose,
    Done,
}

/// Follows one body through the bytes of its connection. 24 bytes; resumes at any byte.
///
/// After an error it is of no further use, and neither is the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoder {
    state: State,
}

impl Decoder {
    /// At the first byte after the head.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::Chunked(Chunked::new()),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Has the body ended? What comes after it belongs to the next message.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Says what the first of `bytes` are. Offer no bytes of a body that is done: the answer would be
    /// [`Piece::NeedMore`]. Without bytes the answer is [`Piece::NeedMore`] too.
    ///
    /// # Errors
    /// The framing is broken; no byte of `bytes` may be forwarded.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, BodyError> {
        if bytes.is_empty() {
            return Ok(Step::NEED_MORE);
        }
        match &mut self.state {
            State::Done => Ok(Step::NEED_MORE),
            State::UntilClose => Ok(Step::new(bytes.len(), Piece::Data)),
            State::Length { left } => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= len as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(Step::new(len, Piece::Data))
            }
            State::Chunked(chunked) => {
                let step = chunked.step(bytes)?;
                if chunked.is_done() {
                    self.state = State::Done;
                }
                Ok(step)
            }
        }
    }

    /// Payload bytes that come next for certain, whatever they are: what is left of the length or of the
    /// current chunk, `u64::MAX` until close. They need not be offered, but can be moved past this decoder
    /// (by splice, say) and reported with [`Decoder::skip`].
    pub fn data_ahead(&self) -> u64 {
        match &self.state {
            State::Length { left } => *left,
            State::Chunked(chunked) => chunked.data_ahead(),
            State::UntilClose => u64::MAX,
            State::Done => 0,
        }
    }

    /// Takes note of `count` payload bytes that went past.
    ///
    /// # Panics
    /// In debug builds, if `count` is more than [`Decoder::data_ahead`]; else the surplus is ignored.
    pub fn skip(&mut self, count: u64) {
        debug_assert!(count <= self.data_ahead());
        match &mut self.state {
            State::Length { left } => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    self.state = State::Done;
                }
            }
            State::Chunked(chunked) => chunked.skip(count),
            State::UntilClose | State::Done => {}
        }
    }

    /// The sender has ended its side in order.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] if the body needed more (RFC 9112 section 8: incomplete, and must be treated so).
    pub fn eof(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyError::Truncated),
        }
    }
}

#[cfg(test)]
#[path = "body_test.rs"]
mod tests;
