//! HTTP/1.1 and HTTP/1.0 on the wire (RFC 9110, RFC 9112), without I/O.
//!
//! Bytes come in, verdicts and ranges go out; nothing here knows of sockets, time or the engine. The order
//! of calls for one message is:
//!
//! 1. [`scan::head_end`] until it finds the end of the head (it resumes, so dribbled heads cost O(n)),
//! 2. [`request::parse`] or [`response::parse`]: the whole verdict on the head,
//! 3. [`rewrite::request`] or [`rewrite::response`]: the head for the other side,
//! 4. [`body::Decoder::step`] until [`body::Decoder::is_done`]: which bytes of the body go on as they are.
//!
//! httparse splits heads into fields; what is refused beyond that is decided here, because two parsers that
//! disagree on where a message ends are how requests are smuggled. The rule is: what goes on has one reading.
//! Framing is written anew from what was understood, never copied; what has two readings is refused.
//!
//! Every function is linear in its input, allocates nothing (but for growth of the `Vec` that a head is
//! written to) and panics on no input.

pub mod body;
mod chunked;
mod fault;
pub mod fields;
mod host;
pub mod request;
pub mod response;
pub mod rewrite;
pub mod scan;
mod target;

pub use chunked::{LAST_CHUNK, SIZE_LINE_BYTES, size_line};

/// Fields that a head may have; one more is refused (431 or 502).
pub const MAX_FIELDS: usize = 200;

/// Options that all `Connection` fields of a head may nominate beyond the standard ones; one more is refused.
pub const MAX_NOMINATED: usize = 16;

/// The versions that we speak. Anything else is refused with 505 (or 502 from a server).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0, RFC 1945.
    Http10,
    /// HTTP/1.1, RFC 9112.
    Http11,
}

/// How a message says where its body ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body and no word about one.
    None,
    /// `Content-Length`: exactly this many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the sender closes; responses only.
    UntilClose,
}

/// Bounds of a request head. What is above them is refused with 431, or 414 for the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of the whole head, with its empty line.
    pub head_bytes: usize,
    /// Of the request target.
    pub target_bytes: usize,
}

impl Default for Limits {
    /// 64 KiB of head; 16 KiB of target (RFC 9112 section 3 asks for at least 8,000 octets).
    fn default() -> Self {
        Self { head_bytes: 64 * 1024, target_bytes: 16 * 1024 }
    }
}
