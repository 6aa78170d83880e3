//! Reads the strictness corpus. What the files mean is said at the top of each of them.

// Each test that includes this module uses a part of it.
#![allow(dead_code)]

use serde::Deserialize;

/// A request and what must become of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestCase {
    pub name: String,
    pub class: String,
    pub source: String,
    pub send: String,
    #[serde(default)]
    pub forward: Vec<String>,
    pub refuse: Option<Refusal>,
}

/// How the message after the forwarded ones is refused.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    pub status: u16,
    pub word: Option<String>,
    pub at: Stage,
}

/// Where a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// By the parser of heads.
    Head,
    /// By the decoder of bodies: the other side may have a beginning of the message, never its end.
    Body,
    /// By routing; the codec takes it.
    Route,
}

/// A response and what must become of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseCase {
    pub name: String,
    pub class: String,
    pub source: String,
    #[serde(default = "plain_request")]
    pub request: String,
    pub receive: String,
    #[serde(default)]
    pub legacy: bool,
    #[serde(default)]
    pub ends: bool,
    #[serde(default)]
    pub client: String,
    #[serde(default)]
    pub closes: bool,
    #[serde(default)]
    pub reuse: bool,
    pub refuse: Option<Refusal>,
}

fn plain_request() -> String {
    r"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<T> {
    case: Vec<T>,
}

/// All of `requests.toml`.
pub fn requests() -> Vec<RequestCase> {
    toml::from_str::<File<RequestCase>>(include_str!("requests.toml")).expect("requests.toml").case
}

/// All of `responses.toml`.
pub fn responses() -> Vec<ResponseCase> {
    toml::from_str::<File<ResponseCase>>(include_str!("responses.toml")).expect("responses.toml").case
}

impl RequestCase {
    /// The bytes that the client sends.
    pub fn sent(&self) -> Vec<u8> {
        bytes(&self.send)
    }

    /// The messages that the server gets from a client at `client`. `ids` are the request ids that were made,
    /// in order; as many are used as messages.
    pub fn forwarded<'a>(&self, client: &str, ids: impl IntoIterator<Item = &'a str>) -> Vec<Vec<u8>> {
        let mut ids = ids.into_iter();
        self.forward
            .iter()
            .map(|message| bytes(&with_ours(message, client, ids.next().unwrap_or(""))))
            .collect()
    }
}

impl ResponseCase {
    /// The bytes that the client sends.
    pub fn sent(&self) -> Vec<u8> {
        bytes(&self.request)
    }

    /// The bytes that the server answers.
    pub fn received(&self) -> Vec<u8> {
        bytes(&self.receive)
    }

    /// The bytes that the client gets.
    pub fn forwarded(&self) -> Vec<u8> {
        bytes(&self.client)
    }
}

/// Puts our four lines in place of `{ours HOST}`, still in written form.
fn with_ours(message: &str, client: &str, id: &str) -> String {
    let Some((before, rest)) = message.split_once("{ours ") else { return message.to_owned() };
    let (host, after) = rest.split_once('}').expect("a closing brace");
    let host_line = if host == "-" { String::new() } else { format!(r"x-forwarded-host: {host}\r\n") };
    format!(
        r"{before}x-forwarded-for: {client}\r\nx-forwarded-proto: http\r\n{host_line}x-request-id: {id}\r\n{after}"
    )
}

/// The bytes of a written form: `\r \n \t \0 \\ \xHH`, and `\{N,text}` for N times `text`.
pub fn bytes(written: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = written.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (escape, after) = rest.split_first().expect("something after a backslash");
        rest = after;
        match escape {
            b'r' => out.push(b'\r'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'0' => out.push(0),
            b'\\' => out.push(b'\\'),
            b'x' => {
                let digits = std::str::from_utf8(&rest[..2]).expect("two digits");
                out.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
                rest = &rest[2..];
            }
            b'{' => {
                let end = rest.iter().position(|byte| *byte == b'}').expect("a closing brace");
                let inner = std::str::from_utf8(&rest[..end]).expect("text");
                let (count, text) = inner.split_once(',').expect("a count and a comma");
                out.extend(bytes(text).repeat(count.parse().expect("a count")));
                rest = &rest[end + 1..];
            }
            other => panic!("unknown escape \\{}", *other as char),
        }
    }
    out
}
