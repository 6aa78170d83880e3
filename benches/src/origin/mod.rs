//! The servers behind every subject: one process, one thread, many listening sockets, answers made in
//! advance. It parses as little as an honest answer needs, so that the load core is not the limit.
//!
//! | last segment of the path | answer |
//! |---|---|
//! | `100k`, `1m` | a body of that length |
//! | `echo` | which listener answered, then the request head as it arrived |
//! | anything else | 128 bytes; they begin with the length of the request's body |

mod answer;

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags, sockopt};

use answer::{Answer, Answers, Head};
pub use answer::{BODY_1M, BODY_100K, BODY_SMALL, body_byte};

const EVENTS_PER_TURN: usize = 512;
const BACKLOG: i32 = 4096;
const BUFFER_LEN: usize = 256 * 1024;
/// A longer request head ends the connection.
const HEAD_MAX: usize = 64 * 1024;
const LISTENER_BIT: u64 = 1 << 63;

struct Connection {
    socket: OwnedFd,
    listener: u32,
    /// The beginning of a head that has not ended yet.
    head: Vec<u8>,
    /// Bytes of the request's body still to come.
    body_left: u64,
    /// What to answer when the body has come.
    due: Option<Answer>,
    /// An answer that the client has not taken whole, and how much of it is gone.
    sending: Option<(Answer, usize)>,
    close: bool,
}

/// Serves on all `listeners`, for ever.
///
/// # Errors
/// If a listener or epoll itself fails.
pub fn run(listeners: Vec<TcpListener>) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    for (index, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        net::listen(listener, BACKLOG)?;
        sockopt::set_tcp_nodelay(listener, true)?;
        epoll::add(&epoll, listener, EventData::new_u64(LISTENER_BIT | index as u64), EventFlags::IN)?;
    }
    let mut origin = Origin {
        epoll,
        listeners,
        slots: Vec::new(),
        free: Vec::new(),
        buffer: vec![0; BUFFER_LEN],
        answers: Answers::new(),
    };
    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_PER_TURN];
    loop {
        let count = match epoll::wait(&origin.epoll, &mut events[..], None) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..count] {
            let data = event.data.u64();
            if data & LISTENER_BIT != 0 {
                origin.accept((data & !LISTENER_BIT) as u32)?;
            } else {
                origin.handle(data, event.flags);
            }
        }
    }
}

struct Origin {
    epoll: OwnedFd,
    listeners: Vec<TcpListener>,
    slots: Vec<(u32, Option<Connection>)>,
    free: Vec<u32>,
    buffer: Vec<u8>,
    answers: Answers,
}

impl Origin {
    fn accept(&mut self, listener: u32) -> io::Result<()> {
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = match net::accept_with(&self.listeners[listener as usize], flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let index = self.free.pop().unwrap_or_else(|| {
                self.slots.push((0, None));
                (self.slots.len() - 1) as u32
            });
            let slot = &mut self.slots[index as usize];
            let data = u64::from(slot.0 & 0x7fff_ffff) << 32 | u64::from(index);
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &socket, EventData::new_u64(data), interest)?;
            slot.1 = Some(Connection {
                socket,
                listener,
                head: Vec::new(),
                body_left: 0,
                due: None,
                sending: None,
                close: false,
            });
        }
    }

    fn handle(&mut self, data: u64, flags: EventFlags) {
        let index = data as u32;
        let slot = &mut self.slots[index as usize];
        if slot.0 & 0x7fff_ffff != (data >> 32) as u32 {
            return;
        }
        let Some(connection) = slot.1.as_mut() else { return };
        let to_the_end = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        if !connection.turn(&mut self.buffer, &self.answers, to_the_end) {
            slot.1 = None;
            slot.0 = slot.0.wrapping_add(1);
            self.free.push(index);
        }
    }
}

impl Connection {
    /// Goes on as far as it can; false if the connection is to be closed.
    fn turn(&mut self, buffer: &mut [u8], answers: &Answers, to_the_end: bool) -> bool {
        let mut to_the_end = to_the_end;
        if self.sending.is_some() {
            // What arrived meanwhile was left in the socket.
            to_the_end = true;
            match self.send(answers) {
                Some(true) => {}
                Some(false) => return true,
                None => return false,
            }
        }
        loop {
            let len = match net::recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => return false,
                Ok((len, _)) => len,
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => continue,
                Err(_) => return false,
            };
            if !self.consume(&buffer[..len], answers) {
                return false;
            }
            if self.sending.is_some() || (len < buffer.len() && !to_the_end) {
                return true;
            }
        }
    }

    /// Takes what was received; false if the connection is to be closed. A client that sends its next
    /// request before it took the answer is not served: no subject does.
    fn consume(&mut self, received: &[u8], answers: &Answers) -> bool {
        let kept = std::mem::take(&mut self.head);
        let joined;
        let mut bytes = received;
        if !kept.is_empty() {
            joined = [kept.as_slice(), received].concat();
            bytes = &joined;
        }
        while !bytes.is_empty() {
            if self.sending.is_some() {
                return false;
            }
            if self.due.is_some() {
                let taken = self.body_left.min(bytes.len() as u64);
                self.body_left -= taken;
                bytes = &bytes[taken as usize..];
            } else {
                let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                    self.head = bytes.to_vec();
                    return bytes.len() <= HEAD_MAX;
                };
                let (head, rest) = bytes.split_at(end + 4);
                let Some(Head { answer, body_len, close }) = answers.choose(head, self.listener) else {
                    return false;
                };
                self.due = Some(answer);
                self.body_left = body_len;
                self.close = close;
                bytes = rest;
            }
            if self.body_left == 0 {
                self.sending = self.due.take().map(|answer| (answer, 0));
                if self.send(answers).is_none() {
                    return false;
                }
            }
        }
        true
    }

    /// Sends what is due: true if all is gone, false if the client takes no more for now, none if the
    /// connection is over.
    fn send(&mut self, answers: &Answers) -> Option<bool> {
        while let Some((answer, gone)) = &mut self.sending {
            let bytes = &answers.bytes(answer)[*gone..];
            match net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) if sent < bytes.len() => *gone += sent,
                Ok(_) => self.sending = None,
                Err(Errno::AGAIN) => return Some(false),
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        if self.close { None } else { Some(true) }
    }
}
