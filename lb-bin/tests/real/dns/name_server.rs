//! A name server that does as it is told: UDP and TCP, on one port of loopback.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use socket2::SockRef;

use crate::harness::until;

const A: u16 = 1;
const SRV: u16 = 33;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As it should.
    Good,
    /// By TCP as it should; by UDP that the answer does not fit.
    Truncated,
    /// With this code and nothing else.
    Code(u8),
    /// That the name exists and has nothing.
    Empty,
    /// Not at all.
    Silent,
    /// As it should, but for the id.
    WrongId,
    /// With bytes that are no message, with the right id and with another.
    Garbage,
}

pub const SERVFAIL: Mode = Mode::Code(2);
pub const NXDOMAIN: Mode = Mode::Code(3);
pub const REFUSED: Mode = Mode::Code(5);

/// A record of a service: priority, weight, port, host.
pub type Service = (u16, u16, u16, &'static str);

#[derive(Default)]
struct Zone {
    mode: Option<Mode>,
    ttl: u32,
    addresses: HashMap<String, Vec<Ipv4Addr>>,
    services: HashMap<String, Vec<Service>>,
}

#[derive(Default)]
struct Shared {
    zone: Mutex<Zone>,
    stopped: AtomicBool,
    udp: AtomicUsize,
    tcp: AtomicUsize,
}

/// A running name server; dropping it stops it.
pub struct NameServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    udp: UdpSocket,
    tcp: TcpListener,
}

impl NameServer {
    pub fn start() -> NameServer {
        loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = tcp.local_addr().unwrap();
            drop(tcp);
            if let Some(server) = NameServer::try_start_on(address) {
                return server;
            }
        }
    }

    /// On the address of one that was stopped.
    pub fn start_on(address: SocketAddr) -> NameServer {
        let mut server = None;
        until("the name server's port to be free", || {
            server = NameServer::try_start_on(address);
            server.is_some()
        });
        server.unwrap()
    }

    fn try_start_on(address: SocketAddr) -> Option<NameServer> {
        let (udp, tcp) = (UdpSocket::bind(address).ok()?, TcpListener::bind(address).ok()?);
        let shared = Arc::new(Shared::default());
        let (socket, by_udp) = (udp.try_clone().unwrap(), Arc::clone(&shared));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                if by_udp.stopped.load(Ordering::SeqCst) {
                    break;
                }
                by_udp.udp.fetch_add(1, Ordering::SeqCst);
                for packet in by_udp.answers(&buffer[..len], true) {
                    let _ = socket.send_to(&packet, from);
                }
            }
        });
        let (listener, by_tcp) = (tcp.try_clone().unwrap(), Arc::clone(&shared));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if by_tcp.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let by_tcp = Arc::clone(&by_tcp);
                thread::spawn(move || by_tcp.serve(stream));
            }
        });
        Some(NameServer { address, shared, udp, tcp })
    }

    pub fn set_mode(&self, mode: Mode) {
        self.shared.zone.lock().unwrap().mode = Some(mode);
    }

    /// Has the name stand for these addresses of loopback, by their last number, and answers as it should.
    pub fn set(&self, name: &str, lasts: &[u8]) {
        let addresses = lasts.iter().map(|last| Ipv4Addr::new(127, 0, 0, *last)).collect();
        let mut zone = self.shared.zone.lock().unwrap();
        zone.addresses.insert(name.to_owned(), addresses);
        zone.mode = Some(Mode::Good);
    }

    pub fn set_service(&self, name: &str, records: &[Service]) {
        self.shared.zone.lock().unwrap().services.insert(name.to_owned(), records.to_vec());
    }

    /// Queries by UDP and by TCP so far.
    pub fn queries(&self) -> (usize, usize) {
        (self.shared.udp.load(Ordering::SeqCst), self.shared.tcp.load(Ordering::SeqCst))
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = self.udp.send_to(&[], self.address);
        let _ = SockRef::from(&self.tcp).shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() && !self.stopped.load(Ordering::SeqCst) {
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut query).is_err() {
                break;
            }
            self.tcp.fetch_add(1, Ordering::SeqCst);
            for answer in self.answers(&query, false) {
                let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
                framed.extend(answer);
                if stream.write_all(&framed).is_err() {
                    return;
                }
            }
        }
    }

    /// The messages that answer a query.
    fn answers(&self, query: &[u8], by_udp: bool) -> Vec<Vec<u8>> {
        let Some((name, kind, end)) = question(query) else { return Vec::new() };
        let zone = self.zone.lock().unwrap();
        let message = |id: [u8; 2], flags: u16, records: Vec<Vec<u8>>| {
            let mut out = id.to_vec();
            out.extend(flags.to_be_bytes());
            for count in [1, records.len() as u16, 0, 0] {
                out.extend(count.to_be_bytes());
            }
            out.extend(&query[12..end]);
            out.extend(records.concat());
            out
        };
        let id = [query[0], query[1]];
        let other = [query[0], query[1] ^ 1];
        const RESPONSE: u16 = 0x8180;
        const TRUNCATED: u16 = 0x0200;
        let records = || zone.records(&name, kind);
        match zone.mode.unwrap_or(NXDOMAIN) {
            Mode::Good => vec![message(id, RESPONSE, records())],
            Mode::Truncated if by_udp => vec![message(id, RESPONSE | TRUNCATED, Vec::new())],
            Mode::Truncated => vec![message(id, RESPONSE, records())],
            Mode::Code(code) => vec![message(id, RESPONSE | u16::from(code), Vec::new())],
            Mode::Empty => vec![message(id, RESPONSE, Vec::new())],
            Mode::Silent => Vec::new(),
            Mode::WrongId => vec![message(other, RESPONSE, records())],
            Mode::Garbage => {
                let mut whole = message(id, RESPONSE, records());
                whole.truncate(whole.len() - 3);
                let noise = crate::harness::pattern(u64::from(query[1]), 200);
                vec![noise, vec![0], [&id[..], &[0xff; 60]].concat(), whole]
            }
        }
    }
}

impl Zone {
    fn records(&self, name: &str, kind: u16) -> Vec<Vec<u8>> {
        let record = |data: Vec<u8>| {
            // The name: where the question has it.
            let mut out = vec![0xc0, 12];
            out.extend(kind.to_be_bytes());
            out.extend(1u16.to_be_bytes());
            out.extend(self.ttl.to_be_bytes());
            out.extend((data.len() as u16).to_be_bytes());
            out.extend(data);
            out
        };
        match kind {
            A => {
                let known = self.addresses.get(name).into_iter().flatten();
                known.map(|address| record(address.octets().to_vec())).collect()
            }
            SRV => {
                let known = self.services.get(name).into_iter().flatten();
                let data = |(priority, weight, port, host): &Service| {
                    let mut data: Vec<u8> =
                        [*priority, *weight, *port].into_iter().flat_map(u16::to_be_bytes).collect();
                    for label in host.split('.') {
                        data.push(label.len() as u8);
                        data.extend(label.as_bytes());
                    }
                    data.push(0);
                    data
                };
                known.map(|service| record(data(service))).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Name, type and end of a query's question.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    (query.len() >= at + 4).then(|| (labels.join("."), kind, at + 4))
}
