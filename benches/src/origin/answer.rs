//! What the origin answers, and how it tells from the request.

use memchr::memmem;

/// Length of the small body in bytes.
pub const BODY_SMALL: usize = 128;
/// Length of the body under `100k` in bytes.
pub const BODY_100K: usize = 100 * 1024;
/// Length of the body under `1m` in bytes.
pub const BODY_1M: usize = 1024 * 1024;

/// The byte at `position` of a large body: position-dependent, so that a check sees lost and doubled bytes.
pub fn body_byte(position: usize) -> u8 {
    (b'a' + (position % 26) as u8) ^ ((position >> 8) % 2) as u8
}

/// An answer, made in advance or for one request.
pub(super) enum Answer {
    Small { close: bool },
    Kilobytes100 { close: bool },
    Megabyte1 { close: bool },
    Own(Box<[u8]>),
}

/// What a request asks for.
pub(super) struct Head {
    pub answer: Answer,
    pub body_len: u64,
    pub close: bool,
}

/// The answers made in advance, head and body in one piece: the one after which the connection stays open,
/// and the one after which it ends.
pub(super) struct Answers {
    small: [Vec<u8>; 2],
    kilobytes_100: [Vec<u8>; 2],
    megabyte_1: [Vec<u8>; 2],
}

impl Answers {
    pub(super) fn new() -> Self {
        let both = |body: Vec<u8>| [whole(&body, false), whole(&body, true)];
        let large = |len| both((0..len).map(body_byte).collect());
        Self { small: both(small_body(0)), kilobytes_100: large(BODY_100K), megabyte_1: large(BODY_1M) }
    }

    pub(super) fn bytes<'a>(&'a self, answer: &'a Answer) -> &'a [u8] {
        match answer {
            Answer::Small { close } => &self.small[usize::from(*close)],
            Answer::Kilobytes100 { close } => &self.kilobytes_100[usize::from(*close)],
            Answer::Megabyte1 { close } => &self.megabyte_1[usize::from(*close)],
            Answer::Own(bytes) => bytes,
        }
    }

    /// None for a request that no subject should send.
    pub(super) fn choose(&self, head: &[u8], listener: u32) -> Option<Head> {
        let mut words = head.splitn(3, |&byte| byte == b' ');
        let method = words.next()?;
        let path = words.next()?;
        let body_len = if method == b"GET" { 0 } else { content_length(head)? };
        // HTTP/1.1 stays open unless told otherwise; both spellings of the header name are in use.
        let close = memmem::find(head, b"onnection: close\r\n").is_some();
        let answer = if body_len > 0 {
            Answer::Own(whole(&small_body(body_len), close).into())
        } else if path.ends_with(b"/100k") {
            Answer::Kilobytes100 { close }
        } else if path.ends_with(b"/1m") {
            Answer::Megabyte1 { close }
        } else if path.ends_with(b"/echo") {
            let body = [format!("listener {listener}\n").as_bytes(), head].concat();
            Answer::Own(whole(&body, close).into())
        } else {
            Answer::Small { close }
        };
        Some(Head { answer, body_len, close })
    }
}

/// 128 bytes that begin with the length of the request's body.
fn small_body(received: u64) -> Vec<u8> {
    let mut body = format!("{received} bytes received\n").into_bytes();
    body.resize(BODY_SMALL, b'.');
    body
}

fn whole(body: &[u8], close: bool) -> Vec<u8> {
    let connection = if close { "Connection: close\r\n" } else { "" };
    let len = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{connection}Content-Length: {len}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// None without a valid one: bodies in chunks are not spoken here.
fn content_length(head: &[u8]) -> Option<u64> {
    let head = std::str::from_utf8(head).ok()?;
    head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(head: &str) -> Option<(usize, u64, bool)> {
        let answers = Answers::new();
        let head = answers.choose(head.as_bytes(), 7)?;
        Some((answers.bytes(&head.answer).len(), head.body_len, head.close))
    }

    #[test]
    fn the_last_segment_of_the_path_names_the_answer() {
        let len = |body: usize, close| whole(&vec![0; body], close).len();
        assert_eq!(choose("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Some((len(128, false), 0, false)));
        assert_eq!(choose("GET /p1/100k HTTP/1.1\r\n\r\n"), Some((len(BODY_100K, false), 0, false)));
        assert_eq!(
            choose("GET /1m HTTP/1.1\r\nConnection: close\r\n\r\n"),
            Some((len(BODY_1M, true), 0, true))
        );
    }

    #[test]
    fn a_body_is_counted_by_its_content_length() {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 65536\r\nconnection: close\r\n\r\n";
        let answers = Answers::new();
        let chosen = answers.choose(head.as_bytes(), 0).expect("a valid request");
        assert_eq!((chosen.body_len, chosen.close), (65536, true));
        let answer = answers.bytes(&chosen.answer);
        assert!(memmem::find(answer, b"\r\n\r\n65536 bytes received\n").is_some());
        assert!(choose("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_none());
    }

    #[test]
    fn the_echo_tells_the_listener_and_the_head() {
        let head = "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n";
        let answers = Answers::new();
        let chosen = answers.choose(head.as_bytes(), 7).expect("a valid request");
        let answer = answers.bytes(&chosen.answer);
        assert!(answer.ends_with(format!("\r\n\r\nlistener 7\n{head}").as_bytes()));
    }
}
