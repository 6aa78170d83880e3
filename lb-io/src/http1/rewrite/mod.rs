//! Writing a head anew for the other side.
//!
//! A head is never copied through. The start line, `host`, the framing fields and what concerns the connection
//! are written from what was understood; the fields that are for the other end follow as `name: value` in the
//! order received. So the written head has one reading whatever was received, and reading it again gives the
//! same framing.

mod request;
mod response;

pub use request::{Forwarded, PathRewrite, RequestRewrite, Traced, request};
pub use response::{ResponseRewrite, response};

use super::fields::{self, Class};

/// Text in whichever way the caller keeps it.
pub trait Text {
    /// The bytes.
    fn text(&self) -> &[u8];
}

macro_rules! text {
    ($($kind:ty),*) => {
        $(impl Text for $kind {
            fn text(&self) -> &[u8] {
                self.as_ref()
            }
        })*
    };
}

text!([u8], Vec<u8>, Box<[u8]>);

impl Text for str {
    fn text(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Text for String {
    fn text(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Text for Box<str> {
    fn text(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Text for std::sync::Arc<str> {
    fn text(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<T: Text + ?Sized> Text for &T {
    fn text(&self) -> &[u8] {
        (**self).text()
    }
}

/// Is this field removed, or replaced by a set one?
fn is_overruled<S: Text>(name: &str, remove: &[S], set: &[(S, S)]) -> bool {
    let same = |other: &S| other.text().eq_ignore_ascii_case(name.as_bytes());
    remove.iter().any(same) || set.iter().any(|(other, _)| same(other))
}

/// Writes the fields that a configuration sets.
///
/// A name that frames or routes, or a name or value that is not well formed, is left out: compiling the
/// configuration refuses them; this is the last door before the wire.
fn write_set<S: Text>(out: &mut Vec<u8>, set: &[(S, S)]) {
    for (name, value) in set {
        let (name, value) = (name.text(), value.text());
        let ours = matches!(
            fields::classify(name),
            Class::Host
                | Class::ContentLength
                | Class::TransferEncoding
                | Class::Connection
                | Class::KeepAlive
                | Class::Upgrade
                | Class::Te
                | Class::Expect
        );
        if !ours && fields::is_token(name) && value.iter().all(|byte| fields::is_value_byte(*byte)) {
            write_field(out, name, fields::trim(value));
        }
    }
}

/// Passes fields on. Neighbours that were received as `name: value` lines are copied in one go: most heads are one
/// run or two, and a copy call costs more than the bytes.
struct Passing<'h> {
    head: &'h [u8],
    /// Of the head, to be copied.
    run: std::ops::Range<usize>,
}

impl<'h> Passing<'h> {
    /// Of the head from which the fields were parsed.
    fn of(head: &'h [u8]) -> Self {
        Self { head, run: 0..0 }
    }

    fn field(&mut self, out: &mut Vec<u8>, field: &httparse::Header<'_>) {
        match self.line(field) {
            Some(line) if line.start == self.run.end => self.run.end = line.end,
            Some(line) => {
                self.flush(out);
                self.run = line;
            }
            None => {
                self.flush(out);
                write_field(out, field.name.as_bytes(), field.value);
            }
        }
    }

    /// To be called before anything else is written, and at the end.
    fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head[std::mem::take(&mut self.run)]);
    }

    /// Where the field's line is, if it was received as [`write_field`] would write it.
    fn line(&self, field: &httparse::Header<'_>) -> Option<std::ops::Range<usize>> {
        let start = (field.name.as_ptr() as usize).checked_sub(self.head.as_ptr() as usize)?;
        let colon = start + field.name.len();
        let end = colon + 2 + field.value.len();
        let at_value = self.head.as_ptr() as usize + colon + 2 == field.value.as_ptr() as usize;
        let plain =
            at_value && self.head.get(colon..colon + 2)? == b": " && self.head.get(end..end + 2)? == b"\r\n";
        plain.then_some(start..end + 2)
    }
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// `00` to `99`.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut at = 0;
    while at < 100 {
        pairs[at] = [b'0' + (at / 10) as u8, b'0' + (at % 10) as u8];
        at += 1;
    }
    pairs
};

fn write_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut left = number;
    while left >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(left % 100) as usize]);
        left /= 100;
    }
    at -= 2;
    digits[at..at + 2].copy_from_slice(&PAIRS[left as usize]);
    out.extend_from_slice(&digits[at + usize::from(left < 10)..]);
}

fn write_framing(out: &mut Vec<u8>, framing: super::Framing) {
    match framing {
        super::Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            write_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        super::Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        super::Framing::None | super::Framing::UntilClose => {}
    }
}
