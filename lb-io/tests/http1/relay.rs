//! The smallest proxy: one client's bytes in, messages for the server out, and back. It does with the codec
//! what the engine does, on plain vectors.

// Each test that includes this module uses a part of it.
#![allow(dead_code)]

use lb_io::http1::body::{BodyError, Decoder, HELD_BYTES, Piece};
use lb_io::http1::request::{self, FieldStorage, RequestError};
use lb_io::http1::response::{self, RequestKind, ResponseError};
use lb_io::http1::rewrite::{self, Forwarded, PathRewrite, RequestRewrite, ResponseRewrite};
use lb_io::http1::{Framing, Limits, Version, scan};

/// The address that all clients here come from.
pub const CLIENT: &str = "192.0.2.7";

/// The request id that all requests here get.
pub const ID: &str = "id";

/// Why a side is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub word: &'static str,
    pub in_body: bool,
}

impl From<RequestError> for Refused {
    fn from(error: RequestError) -> Self {
        Self { status: error.status(), word: error.word(), in_body: false }
    }
}

impl From<ResponseError> for Refused {
    fn from(error: ResponseError) -> Self {
        Self { status: error.status(), word: error.word(), in_body: false }
    }
}

fn in_body(status: u16, error: BodyError) -> Refused {
    Refused { status, word: error.word(), in_body: true }
}

/// Follows a body and copies what goes on.
struct Body {
    decoder: Decoder,
    framed: bool,
}

impl Body {
    /// Takes what can be taken from the front of `buffer`; true when the body is done.
    fn take(&mut self, buffer: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<bool, BodyError> {
        let mut at = 0;
        let done = loop {
            if self.decoder.is_done() {
                break true;
            }
            let step = self.decoder.step(&buffer[at..])?;
            assert!(step.len <= buffer.len() - at);
            match step.kind {
                Piece::NeedMore => {
                    assert_eq!(step.len, 0);
                    assert!(buffer.len() - at < HELD_BYTES, "holds back more than promised");
                    break false;
                }
                Piece::Data => out.extend_from_slice(&buffer[at..at + step.len]),
                Piece::Framing if self.framed => out.extend_from_slice(&buffer[at..at + step.len]),
                Piece::Framing | Piece::Drop => {}
            }
            // A chunk size may be followed at once by its extension, but nothing stands still for ever.
            assert!(step.len > 0, "a step that takes nothing");
            at += step.len;
        };
        buffer.drain(..at);
        Ok(done)
    }
}

/// What the request side learnt of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub kind: RequestKind,
    pub keep_alive: bool,
}

/// The client's side.
#[derive(Default)]
pub struct Requests {
    buffer: Vec<u8>,
    scanned: usize,
    skipped: bool,
    body: Option<Body>,
    /// Messages for the server; the last one may be incomplete.
    pub messages: Vec<Vec<u8>>,
    /// Of the messages, those with their end.
    pub complete: usize,
    pub asked: Vec<Asked>,
    pub refused: Option<Refused>,
    closing: bool,
}

impl Requests {
    /// All that `pieces` come to, one after the other.
    pub fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut requests = Self::default();
        for piece in pieces {
            requests.feed(piece);
        }
        requests
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while self.refused.is_none() && !self.closing {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => break,
                Err(refused) => self.refused = Some(refused),
            }
        }
    }

    fn advance(&mut self) -> Result<bool, Refused> {
        if let Some(body) = &mut self.body {
            let message = self.messages.last_mut().expect("a message whose body this is");
            if !body.take(&mut self.buffer, message).map_err(|error| in_body(400, error))? {
                return Ok(false);
            }
            self.body = None;
            self.complete += 1;
            self.closing = !self.asked.last().expect("a request").keep_alive;
            return Ok(true);
        }
        if !self.skipped && scan::skip_empty_line(&self.buffer) > 0 {
            self.buffer.drain(..2);
            self.scanned = 0;
            self.skipped = true;
        }
        let limits = Limits::default();
        let Some(end) = scan::head_end(&self.buffer, self.scanned) else {
            self.scanned = self.buffer.len();
            if self.buffer.len() > limits.head_bytes {
                return Err(request::too_large(&self.buffer, &limits).into());
            }
            return Ok(false);
        };
        let mut storage = FieldStorage::new();
        let head = request::parse(&self.buffer[..end], &mut storage, &limits)?;
        let mut message = Vec::new();
        rewrite::request(&mut message, &head, &plain_request());
        self.asked.push(Asked {
            kind: RequestKind {
                head: head.is_head(),
                upgrade_sent: head.upgrade.is_some(),
                version: head.version,
            },
            keep_alive: head.keep_alive,
        });
        self.body = Some(Body { decoder: Decoder::new(head.body), framed: true });
        self.messages.push(message);
        self.buffer.drain(..end);
        self.scanned = 0;
        self.skipped = false;
        Ok(true)
    }
}

/// Nothing changed but what always is.
pub fn plain_request() -> RequestRewrite<'static> {
    RequestRewrite {
        path: PathRewrite::Keep,
        host: None,
        remove: &[],
        set: &[],
        forwarded: Forwarded { peer: CLIENT.parse().expect("an address"), secure: false, trusted: false },
        request_id: ID,
        trace: None,
        strip_cookies: &[],
        upgrade: true,
    }
}

/// The server's side of one exchange.
pub struct Responses {
    asked: Asked,
    legacy: bool,
    buffer: Vec<u8>,
    scanned: usize,
    body: Option<Body>,
    until_close: bool,
    keep_alive: bool,
    /// What the client gets.
    pub client: Vec<u8>,
    pub closes: bool,
    pub done: bool,
    pub refused: Option<Refused>,
}

impl Responses {
    pub fn new(asked: Asked, legacy: bool) -> Self {
        Self {
            asked,
            legacy,
            buffer: Vec::new(),
            scanned: 0,
            body: None,
            until_close: false,
            keep_alive: false,
            client: Vec::new(),
            closes: false,
            done: false,
            refused: None,
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while self.refused.is_none() && !self.done {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => break,
                Err(refused) => self.refused = Some(refused),
            }
        }
    }

    /// The server has closed.
    pub fn end(&mut self) {
        if self.done || self.refused.is_some() {
            return;
        }
        let Some(body) = &mut self.body else { return };
        match body.decoder.eof() {
            Ok(()) => self.done = true,
            Err(error) => self.refused = Some(in_body(502, error)),
        }
    }

    /// May the server's connection be used again?
    pub fn reuse(&self) -> bool {
        self.done && self.keep_alive && self.buffer.is_empty()
    }

    fn advance(&mut self) -> Result<bool, Refused> {
        if let Some(body) = &mut self.body {
            self.done = body.take(&mut self.buffer, &mut self.client).map_err(|error| in_body(502, error))?;
            return Ok(self.done);
        }
        let limit = Limits::default().head_bytes;
        let Some(end) = scan::head_end(&self.buffer, self.scanned) else {
            self.scanned = self.buffer.len();
            return if self.buffer.len() > limit {
                Err(ResponseError::HeadTooLarge.into())
            } else {
                Ok(false)
            };
        };
        if end > limit {
            return Err(ResponseError::HeadTooLarge.into());
        }
        let mut storage = FieldStorage::new();
        let head = response::parse(&self.buffer[..end], &mut storage, self.asked.kind, self.legacy)?;
        let version = self.asked.kind.version;
        let framing = head.framing_for(version);
        if !head.is_interim() {
            self.closes = !self.asked.keep_alive || framing == Framing::UntilClose;
            self.until_close = head.framing == Framing::UntilClose;
            self.keep_alive = head.keep_alive;
            self.body =
                Some(Body { decoder: Decoder::new(head.framing), framed: framing == Framing::Chunked });
        }
        if !(head.is_interim() && version == Version::Http10) {
            let rewrite = ResponseRewrite {
                client: version,
                keep_alive: self.asked.keep_alive,
                framing,
                remove: &[] as &[&str],
                set: &[],
                lines: b"",
                private: false,
            };
            rewrite::response(&mut self.client, &head, &rewrite);
        }
        self.buffer.drain(..end);
        self.scanned = 0;
        Ok(true)
    }
}
