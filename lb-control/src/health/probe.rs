//! One check: connect, send, read until there is a verdict or no time left.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::answer::{BODY_LEN_MAX, Found, HEAD_LEN_MAX, Sort, judge, request};
use super::settings::Checks;
use super::words::time;
use crate::config::plain;

/// Reads of one answer at most: it is judged anew after each, and a server that sends byte by byte must not make that
/// expensive.
const READS_MAX: usize = 256;

/// Bytes of an answer at most: a longer one has been judged before it is complete, by the bounds of its parts.
const ANSWER_LEN_MAX: usize = HEAD_LEN_MAX + BODY_LEN_MAX + 1;

/// What a buffer begins with; most answers need no more.
const BUFFER_LEN: usize = 2048;

/// What a server is asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) checks: Arc<Checks>,
    pub(super) address: SocketAddr,
    request: Vec<u8>,
}

impl Asked {
    pub(super) fn new(checks: Arc<Checks>, address: SocketAddr) -> Asked {
        let request = request(&checks.probe, address);
        Asked { checks, address, request }
    }

    /// Whether the same is asked in the same place.
    pub(super) fn is_like(&self, checks: &Checks, address: SocketAddr) -> bool {
        self.address == address && *self.checks == *checks
    }
}

/// How far a check has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Waiting,
}

/// Carries out one check. The buffer is given back by keeping it.
pub(super) async fn check(asked: &Asked, buffer: &mut Vec<u8>) -> (Found, Duration) {
    let began = Instant::now();
    let mut stage = Stage::Connecting;
    let timeout = asked.checks.timeout;
    let attempt = attempt(asked, buffer, &mut stage);
    let found = match tokio::time::timeout_at((began + timeout).into(), attempt).await {
        Ok(found) => found,
        Err(_) if stage == Stage::Connecting => {
            Found::new(Sort::ConnectTimeout, format!("no connection within {}", time(timeout)))
        }
        Err(_) => Found::new(Sort::AnswerTimeout, format!("no whole answer within {}", time(timeout))),
    };
    (found, began.elapsed())
}

async fn attempt(asked: &Asked, buffer: &mut Vec<u8>, stage: &mut Stage) -> Found {
    let stream = match TcpStream::connect(asked.address).await {
        Ok(stream) => stream,
        Err(error) if is_ours(&error) => {
            return Found::new(Sort::NotAsked, format!("we could not ask: {}", plain(&error)));
        }
        Err(error) => return Found::new(Sort::NotConnected, plain(&error)),
    };
    *stage = Stage::Waiting;
    // That it took nothing more, or is gone, shows in what it answers.
    let _ = send(&stream, &asked.request).await;
    let (mut filled, mut ended) = (0, false);
    for _ in 0..READS_MAX {
        if let Some(found) = judge(&asked.checks.probe, &buffer[..filled], ended) {
            return found;
        }
        match receive(&stream, buffer, filled).await {
            Ok(0) => ended = true,
            Ok(count) => filled += count,
            Err(error) => {
                return Found::new(Sort::WrongAnswer, format!("no whole answer: {}", plain(&error)));
            }
        }
    }
    Found::new(Sort::WrongAnswer, "its answer comes in too many pieces")
}

async fn send(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Receives behind what is there; 0: nothing more will come. There is always room: judging has its own bounds, which
/// are below [`ANSWER_LEN_MAX`].
async fn receive(stream: &TcpStream, buffer: &mut Vec<u8>, filled: usize) -> io::Result<usize> {
    if filled == buffer.len() {
        buffer.resize((2 * buffer.len()).clamp(BUFFER_LEN, ANSWER_LEN_MAX), 0);
    }
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer[filled..]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

/// Whether it is we who lack something (descriptors, memory, ports): Linux's numbers.
fn is_ours(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOMEM: i32 = 12;
    const EADDRNOTAVAIL: i32 = 99;
    const ENOBUFS: i32 = 105;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOMEM | EADDRNOTAVAIL | ENOBUFS))
}
