//! Messages that are mostly right and wrong in the ways that matter.

use proptest::prelude::*;
use proptest::sample::select;

/// A message put together from fragments: many are good, each fragment now and then is not.
pub fn request() -> impl Strategy<Value = Vec<u8>> {
    let line = select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a/b?c=d HTTP/1.1\r\n",
        "POST /%41%2f HTTP/1.1\r\n",
        "HEAD / HTTP/1.0\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "GET http://a.test/x HTTP/1.1\r\n",
        "GET  / HTTP/1.1\r\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/2.0\r\n",
        "\r\nGET / HTTP/1.1\r\n",
        "CONNECT a:1 HTTP/1.1\r\n",
    ]);
    let field = select(vec![
        "Host: a.test\r\n",
        "Host: a.test\r\n",
        "Host: a.test\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "content-length: +5\r\n",
        "Content-Length : 5\r\n",
        "Content_Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "transfer-encoding:\tchunked \r\n",
        "Transfer_Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive, X-A\r\n",
        "Connection: Upgrade, TE\r\n",
        "Connection: content-length\r\n",
        "Upgrade: websocket\r\n",
        "TE: trailers\r\n",
        "Expect: 100-continue\r\n",
        "Cookie: a=b; lb=1; c=d\r\n",
        "X-A: 1\r\n",
        "X-B: \t2 3\t\r\n",
        "X-C:\r\n",
        "X-D: a\nContent-Length: 5\r\n",
        "X-E: a\rTransfer-Encoding: chunked\r\n",
        "X-F: a\r\n b\r\n",
        "X-G: \0\r\n",
        "X-Forwarded-For: 1.2.3.4\r\n",
        "X-Request-Id: mine\r\n",
        "Trailer: X-T\r\n",
    ]);
    let body = select(vec![
        "",
        "hello",
        "hello",
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "1\r\na\r\n0\r\nHost: b\r\n\r\n",
    ]);
    let one = (line, prop::collection::vec(field, 0..6), any::<bool>(), body).prop_map(
        |(line, fields, host, body)| {
            let host = if host { "Host: a.test\r\n" } else { "" };
            [line, host, &fields.concat(), "\r\n", body].concat().into_bytes()
        },
    );
    (prop::collection::vec(one, 1..4), damage())
        .prop_map(|(messages, damage)| damage.apply(messages.concat()))
}

/// The like for responses.
pub fn response() -> impl Strategy<Value = Vec<u8>> {
    let line = select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 103 Early\r\n",
        "HTTP/1.1 101 Switch\r\n",
        "HTTP/1.1 204\r\n",
        "HTTP/1.1 304 \u{a0}\r\n",
        "HTTP/1.1 700 X\r\n",
        "HTTP/1.1 200 OK\n",
    ]);
    let field = select(vec![
        "Content-Length: 5\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 6\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive, X-A\r\n",
        "Connection: upgrade\r\n",
        "Upgrade: websocket\r\n",
        "Keep-Alive: timeout=5\r\n",
        "X-A: 1\r\n",
        "X-B: a\r\n \tb\r\n",
        "X-C : c\r\n",
        "X-D:\r\n",
        "X-E: a\nb: c\r\n",
        "Cache-Control: public, max-age=5\r\n",
        "Set-Cookie: a=b\r\n",
    ]);
    let body = select(vec![
        "",
        "hello",
        "hello world",
        "5\r\nhello\r\n0\r\n\r\n",
        "1;x\r\na\r\n0\r\nT: u\r\n\r\n",
        "5\r\nhell",
    ]);
    let one = (line, prop::collection::vec(field, 0..5), body)
        .prop_map(|(line, fields, body)| [line, &fields.concat(), "\r\n", body].concat().into_bytes());
    (prop::collection::vec(one, 1..3), damage())
        .prop_map(|(messages, damage)| damage.apply(messages.concat()))
}

/// Where to cut bytes into pieces: sizes that repeat.
pub fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..40, 1..12)
}

/// The pieces.
pub fn cut<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*size).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// One byte changed, removed or added, or none.
#[derive(Debug, Clone)]
enum Damage {
    None,
    Change(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Add(prop::sample::Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let byte = prop_oneof![select(b"\r\n\t \0:;,%0x".to_vec()), any::<u8>()];
    prop_oneof![
        2 => Just(Damage::None),
        1 => (any::<prop::sample::Index>(), byte.clone()).prop_map(|(at, byte)| Damage::Change(at, byte)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Remove),
        1 => (any::<prop::sample::Index>(), byte).prop_map(|(at, byte)| Damage::Add(at, byte)),
    ]
}

impl Damage {
    fn apply(self, mut bytes: Vec<u8>) -> Vec<u8> {
        match self {
            Damage::None => {}
            Damage::Change(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            Damage::Remove(at) => {
                bytes.remove(at.index(bytes.len()));
            }
            Damage::Add(at, byte) => bytes.insert(at.index(bytes.len()), byte),
        }
        bytes
    }
}
