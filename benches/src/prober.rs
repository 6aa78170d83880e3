//! The least that checks can cost: one thread, edge-triggered epoll, one connection per check, and nothing judged but
//! the first bytes of the answer. A yardstick: no timeouts, no limits, no words.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const EVENTS_PER_TURN: usize = 512;

/// A check under way.
struct Check {
    socket: OwnedFd,
    sent: bool,
}

/// Asks every server once an interval, evenly spread over it, for ever.
///
/// # Errors
/// If epoll or a socket fails; servers that do not answer as they should are one, too.
pub fn run(servers: &[SocketAddr], interval: Duration) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let requests: Vec<Vec<u8>> = servers.iter().map(request).collect();
    let mut checks: Vec<Option<Check>> = servers.iter().map(|_| None).collect();
    let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_PER_TURN];
    let mut buffer = vec![0; 4096];
    let step = interval / servers.len() as u32;
    let (mut due, mut next) = (Instant::now(), 0);
    loop {
        let now = Instant::now();
        while due <= now {
            checks[next] = Some(begin(&epoll, servers[next], next)?);
            next = (next + 1) % servers.len();
            due += step;
        }
        let wait = Timespec { tv_sec: 0, tv_nsec: (due - now).as_nanos() as _ };
        let count = match epoll::wait(&epoll, &mut events[..], Some(&wait)) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..count] {
            // Copied, for the kernel packs them.
            let (flags, data) = (event.flags, event.data);
            let place = data.u64() as usize;
            let Some(check) = &mut checks[place] else { continue };
            if !check.sent && flags.contains(EventFlags::OUT) {
                net::send(&check.socket, &requests[place], SendFlags::NOSIGNAL)?;
                check.sent = true;
            }
            match net::recv(&check.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((count, _)) if buffer[..count].starts_with(b"HTTP/1.1 200 ") => checks[place] = None,
                Ok(_) => return Err(io::Error::other("a server does not answer with 200")),
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn request(server: &SocketAddr) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n").into_bytes()
}

fn begin(epoll: &OwnedFd, server: SocketAddr, place: usize) -> io::Result<Check> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    match net::connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let wanted = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
    epoll::add(epoll, &socket, EventData::new_u64(place as u64), wanted)?;
    Ok(Check { socket, sent: false })
}
