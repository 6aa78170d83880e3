//! The contract of [`super::Driver`] as tests, run on every driver.
//!
//! Both ends of each connection belong to the driver under test, so that one suite serves kernel and
//! simulation alike. [`Rig`] keeps strictly to the edge-like rules: it reads only after `Readable` and until
//! `Drained`, and sends on only after `Writable`.

mod gathering;
mod giving_away;

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use super::{ConnKey, Driver, Event, ListenerKey, MAX_EVENTS, MAX_SLICES, Received, Socket};
use gathering::{gathers, gathers_for_nobody};
use giving_away::gives_connections_away;

/// A driver to test, and how to get a listening socket for it.
pub(super) struct Subject {
    pub driver: Box<dyn Driver>,
    pub listening: Box<dyn Fn() -> (Socket, SocketAddr)>,
}

/// Turns without the thing waited for, each at most [`TURN`] long, before a test gives up.
const PATIENCE: usize = 2_000;
const TURN: Duration = Duration::from_millis(5);
/// Turns without progress after which a sender counts as stopped: longer than any event may be late.
const QUIET: usize = 30;

struct Rig<'a> {
    driver: &'a dyn Driver,
    listener: ListenerKey,
    address: SocketAddr,
    accepted: Vec<Socket>,
    /// Of the last one accepted.
    peer: Option<SocketAddr>,
    failed: Vec<io::Error>,
    readable: HashSet<ConnKey>,
    hangup: HashSet<ConnKey>,
    writable: HashSet<ConnKey>,
    /// Given back.
    unsent: HashMap<ConnKey, Vec<u8>>,
    woken: usize,
    /// Keys that were closed: no event may name them in later turns.
    closed: HashSet<ConnKey>,
}

impl<'a> Rig<'a> {
    fn new(subject: &'a Subject) -> Rig<'a> {
        let (socket, address) = (subject.listening)();
        Rig {
            driver: &*subject.driver,
            listener: subject.driver.listen(socket).unwrap(),
            address,
            accepted: Vec::new(),
            peer: None,
            failed: Vec::new(),
            readable: HashSet::new(),
            hangup: HashSet::new(),
            writable: HashSet::new(),
            unsent: HashMap::new(),
            woken: 0,
            closed: HashSet::new(),
        }
    }

    fn turn(&mut self) {
        let mut events = Vec::new();
        self.driver.turn(Some(TURN), &mut events).unwrap();
        assert!(events.len() <= MAX_EVENTS, "{} events in one turn", events.len());
        for event in events {
            match event {
                Event::Accepted { listener, socket, peer } => {
                    assert_eq!(listener, self.listener);
                    self.peer = Some(peer);
                    self.accepted.push(socket);
                }
                Event::AcceptFailed { error, .. } => self.failed.push(error),
                Event::Readable { conn, hangup } => {
                    assert!(!self.closed.contains(&conn), "Readable for a closed {conn:?}");
                    self.readable.insert(conn);
                    if hangup {
                        self.hangup.insert(conn);
                    }
                }
                Event::Writable { conn } => {
                    assert!(!self.closed.contains(&conn), "Writable for a closed {conn:?}");
                    self.writable.insert(conn);
                }
                Event::Unsent { conn, bytes } => {
                    assert!(!self.closed.contains(&conn), "Unsent for a closed {conn:?}");
                    self.writable.remove(&conn);
                    self.unsent.entry(conn).or_default().extend(bytes);
                }
                Event::Woken => self.woken += 1,
            }
        }
    }

    fn until<T>(&mut self, what: &str, mut step: impl FnMut(&mut Self) -> Option<T>) -> T {
        for _ in 0..PATIENCE {
            if let Some(outcome) = step(self) {
                return outcome;
            }
            self.turn();
        }
        let (name, accepted) = (self.driver.name(), self.accepted.len());
        panic!("{name}: {what} did not happen ({accepted} sockets accepted, {:?} failed)", self.failed);
    }

    fn connect(&mut self) -> ConnKey {
        let conn = self.driver.connect(self.address).unwrap();
        self.until("connect", |rig| rig.writable.remove(&conn).then_some(()));
        self.driver.connect_result(conn).unwrap();
        conn
    }

    fn accept(&mut self) -> ConnKey {
        let socket = self.until("accept", |rig| rig.accepted.pop());
        self.driver.attach(socket).unwrap()
    }

    /// Client's and server's end.
    fn pair(&mut self) -> (ConnKey, ConnKey) {
        let client = self.connect();
        (client, self.accept())
    }

    fn close(&mut self, conn: ConnKey, reset: bool) {
        self.driver.close(conn, reset);
        self.closed.insert(conn);
        self.readable.remove(&conn);
        self.writable.remove(&conn);
    }

    /// Reads what is due, in pieces of `piece`. True at the end.
    fn pull(&mut self, conn: ConnKey, piece: usize, into: &mut Vec<u8>) -> io::Result<bool> {
        let mut buffer = vec![0; piece];
        while self.readable.contains(&conn) {
            match self.driver.recv(conn, &mut buffer)? {
                Received::Bytes(n) => {
                    assert!(n > 0);
                    into.extend_from_slice(&buffer[..n]);
                }
                Received::Drained(n) => {
                    assert!(n < piece, "a full buffer is not drained");
                    into.extend_from_slice(&buffer[..n]);
                    self.readable.remove(&conn);
                }
                Received::End => return Ok(true),
            }
        }
        Ok(false)
    }

    fn receive(&mut self, conn: ConnKey, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("bytes", |rig| {
            let ended = rig.pull(conn, 4096, &mut bytes).unwrap();
            assert!(!ended || bytes.len() >= count, "ended after {} of {count} bytes", bytes.len());
            (bytes.len() >= count).then_some(())
        });
        bytes
    }

    fn receive_to_end(&mut self, conn: ConnKey) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("the end", |rig| rig.pull(conn, 4096, &mut bytes).unwrap().then_some(()));
        bytes
    }

    fn receive_error(&mut self, conn: ConnKey) -> (Vec<u8>, io::Error) {
        let mut bytes = Vec::new();
        let error = self.until("an error", |rig| match rig.pull(conn, 4096, &mut bytes) {
            Ok(false) => None,
            Ok(true) => panic!("ended in order"),
            Err(error) => Some(error),
        });
        (bytes, error)
    }

    fn send(&mut self, conn: ConnKey, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let accepted = self.driver.send(conn, &[IoSlice::new(bytes)]).unwrap();
            bytes = &bytes[accepted..];
            if !bytes.is_empty() {
                self.until("room", |rig| rig.writable.remove(&conn).then_some(()));
            }
        }
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Accept, attach, addresses, bytes both ways, from several slices.
pub(super) fn echoes(subject: &Subject) {
    let mut rig = Rig::new(subject);
    let client = rig.connect();
    let socket = rig.until("accept", |rig| rig.accepted.pop());
    let peer = rig.peer.expect("told with the socket");
    assert_ne!(peer, rig.address);
    let server = rig.driver.attach(socket).unwrap();

    let pieces: [&[u8]; MAX_SLICES] = [b"GET", b" ", b"/", b"", b" HTTP/1.1", b"\r\n", b"\r", b"\n"];
    let whole = pieces.concat();
    let slices = pieces.map(IoSlice::new);
    let accepted = rig.driver.send(client, &slices).unwrap();
    if accepted < whole.len() {
        rig.until("room", |rig| rig.writable.remove(&client).then_some(()));
    }
    rig.send(client, &whole[accepted..]);
    assert_eq!(rig.receive(server, whole.len()), whole);
    rig.send(server, b"pong");
    assert_eq!(rig.receive(client, 4), b"pong");
    rig.close(client, false);
    assert_eq!(rig.receive_to_end(server), b"");
    rig.close(server, false);
}

/// A receive that fills its memory is `Bytes`; one that does not is `Drained` unless the end is known.
pub(super) fn tells_when_drained(subject: &Subject) {
    let mut rig = Rig::new(subject);
    let (client, server) = rig.pair();
    rig.send(client, b"12345678");
    let mut got = Vec::new();
    rig.until("eight bytes", |rig| {
        rig.pull(server, 3, &mut got).unwrap();
        (got.len() == 8).then_some(())
    });
    assert_eq!(got, b"12345678");
    let mut buffer = [0; 16];
    assert_eq!(rig.driver.recv(server, &mut buffer).unwrap(), Received::Drained(0));
    // Bytes and end together: all bytes, then `End`, and `End` again.
    rig.send(client, b"last");
    rig.driver.shutdown(client);
    assert_eq!(rig.receive_to_end(server), b"last");
    assert_eq!(rig.driver.recv(server, &mut buffer).unwrap(), Received::End);
    // The other direction is still open.
    rig.send(server, b"answer");
    rig.close(server, false);
    assert_eq!(rig.receive_to_end(client), b"answer");
}

/// The peer's RST is an error of recv, and of send.
pub(super) fn reports_a_reset(subject: &Subject) {
    let mut rig = Rig::new(subject);
    let (client, server) = rig.pair();
    rig.send(client, b"x");
    assert_eq!(rig.receive(server, 1), b"x");
    rig.close(client, true);
    let (bytes, error) = rig.receive_error(server);
    assert_eq!((bytes.as_slice(), error.kind()), (&b""[..], ErrorKind::ConnectionReset));
    let error = rig.driver.send(server, &[IoSlice::new(b"y")]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
    rig.close(server, false);
}

/// A refusal comes either at once or after `Writable`.
pub(super) fn reports_a_refused_connect(subject: &Subject) {
    let mut rig = Rig::new(subject);
    rig.driver.unlisten(rig.listener);
    let address = rig.address;
    let error = rig.until("refusal", |rig| match rig.driver.connect(address) {
        Err(error) => Some(error),
        Ok(conn) => {
            rig.until("the outcome", |rig| rig.writable.remove(&conn).then_some(()));
            let outcome = rig.driver.connect_result(conn);
            rig.close(conn, false);
            // A listener closes for good only some time after `unlisten` (teardown is asynchronous).
            outcome.err()
        }
    });
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// A reader that does not read stops the sender; `Writable` comes when it reads again.
pub(super) fn pushes_back(subject: &Subject) {
    let mut rig = Rig::new(subject);
    let (client, server) = rig.pair();
    let bytes = pattern(64 * 1024);
    let mut sent = 0;
    let mut quiet = 0;
    // Until the kernel's buffers on both sides are full.
    while quiet < QUIET {
        let from = sent % bytes.len();
        let accepted = rig.driver.send(client, &[IoSlice::new(&bytes[from..])]).unwrap();
        sent += accepted;
        assert!(sent < 64 << 20, "no back-pressure");
        if from + accepted < bytes.len() {
            rig.turn();
            quiet = if rig.writable.remove(&client) { 0 } else { quiet + 1 };
        }
    }
    let mut got = Vec::new();
    rig.until("room", |rig| {
        rig.pull(server, 16 * 1024, &mut got).unwrap();
        rig.writable.remove(&client).then_some(())
    });
    rig.driver.shutdown(client);
    rig.until("the end", |rig| rig.pull(server, 16 * 1024, &mut got).unwrap().then_some(()));
    assert_eq!(got.len(), sent);
    assert!(got.chunks(bytes.len()).all(|chunk| chunk == &bytes[..chunk.len()]), "bytes changed");
}

/// While paused nothing is accepted; what waited is accepted after.
pub(super) fn pauses_accepting(subject: &Subject) {
    let mut rig = Rig::new(subject);
    rig.turn();
    rig.driver.pause_accept(rig.listener);
    // "Already accepted ones may still arrive": let them.
    rig.turn();
    rig.accepted.clear();
    let first = rig.connect();
    let second = rig.connect();
    for _ in 0..5 {
        rig.turn();
    }
    assert_eq!(rig.accepted.len(), 0);
    rig.driver.resume_accept(rig.listener);
    let (a, b) = (rig.accept(), rig.accept());
    rig.send(first, b"1");
    rig.send(second, b"2");
    let mut got = [rig.receive(a, 1), rig.receive(b, 1)];
    got.sort();
    assert_eq!(got, [b"1", b"2"]);
    // Twice the same is as once.
    rig.driver.resume_accept(rig.listener);
    rig.driver.pause_accept(rig.listener);
    rig.driver.resume_accept(rig.listener);
    let (client, server) = rig.pair();
    rig.send(client, b"3");
    assert_eq!(rig.receive(server, 1), b"3");
}

/// An index is used again with another generation, and events of the old connection never name the new.
pub(super) fn renews_generations(subject: &Subject) {
    let mut rig = Rig::new(subject);
    let mut keys = HashSet::new();
    let mut indexes = HashSet::new();
    for round in 0..50u8 {
        let (client, server) = rig.pair();
        assert!(keys.insert(client) && keys.insert(server));
        indexes.extend([client.index, server.index]);
        // Unread bytes and a FIN are under way when both ends are closed.
        rig.send(client, &[round; 100]);
        rig.close(client, round % 3 == 0);
        if round % 2 == 0 {
            rig.turn();
        }
        rig.close(server, round % 5 == 0);
        let mut buffer = [0; 8];
        assert!(rig.driver.recv(server, &mut buffer).is_err(), "a closed key reads");
        assert!(rig.driver.send(server, &[IoSlice::new(b"x")]).is_err(), "a closed key sends");
        rig.driver.close(server, true);
    }
    assert!(indexes.len() <= 8, "indexes are not used again: {}", indexes.len());
}

/// A connection closes for its peer too when bytes came at the same moment, of which nobody was told yet.
pub(super) fn closes_while_being_woken(subject: &Subject) {
    let mut rig = Rig::new(subject);
    for round in 0..40 {
        let (client, server) = rig.pair();
        rig.send(server, b"first");
        assert_eq!(rig.receive(client, 5), b"first");
        for _ in 0..=round % 3 {
            rig.send(client, b"more");
        }
        rig.close(server, round % 2 == 0);
        rig.until("the end", |rig| rig.pull(client, 64, &mut Vec::new()).unwrap_or(true).then_some(()));
        rig.close(client, false);
    }
}

/// Another thread ends a turn that would wait for ever.
pub(super) fn wakes(subject: &Subject) {
    let mut rig = Rig::new(subject);
    rig.turn();
    let waker = rig.driver.waker();
    std::thread::scope(|scope| {
        scope.spawn(|| waker.wake());
        let mut events = Vec::new();
        while !events.iter().any(|event| matches!(event, Event::Woken)) {
            rig.driver.turn(None, &mut events).unwrap();
        }
    });
    // Before the turn, and more often than once.
    waker.wake();
    waker.wake();
    rig.until("wake", |rig| (rig.woken > 0).then_some(()));
}

/// Splicing keeps every byte, says `Bytes(0)` for a full pipe, and reports the end.
pub(super) fn splices(subject: &Subject) {
    let mut rig = Rig::new(subject);
    let (source, from) = rig.pair();
    let (sink, to) = rig.pair();
    let Some(pipe) = rig.driver.pipe() else {
        return;
    };
    let bytes = pattern(1_500_000);
    let (mut offered, mut in_pipe, mut relayed) = (0, 0, 0);
    let (mut ended, mut was_full) = (false, false);
    let mut may_send = true;
    let mut got = Vec::new();
    rig.until("all bytes", |rig| {
        if may_send && offered < bytes.len() {
            offered += rig.driver.send(source, &[IoSlice::new(&bytes[offered..])]).unwrap();
            may_send = false;
            if offered == bytes.len() {
                rig.driver.shutdown(source);
            }
        }
        may_send |= rig.writable.remove(&source);
        while rig.readable.contains(&from) && !ended {
            match rig.driver.splice_in(from, &pipe, 1 << 20).unwrap() {
                Received::Bytes(0) => {
                    assert!(in_pipe > 0, "an empty pipe is not full");
                    was_full = true;
                    break;
                }
                Received::Bytes(n) => in_pipe += n,
                Received::Drained(n) => {
                    in_pipe += n;
                    rig.readable.remove(&from);
                }
                Received::End => ended = true,
            }
        }
        if in_pipe > 0 {
            let moved = rig.driver.splice_out(&pipe, to, in_pipe, false).unwrap();
            if moved < in_pipe {
                rig.pull(sink, 64 * 1024, &mut got).unwrap();
            }
            in_pipe -= moved;
            relayed += moved;
        }
        rig.pull(sink, 64 * 1024, &mut got).unwrap();
        (ended && in_pipe == 0 && got.len() == bytes.len()).then_some(())
    });
    assert_eq!(relayed, bytes.len());
    assert!(got == bytes, "bytes changed on their way");
    assert!(was_full || rig.driver.name() != "simulated", "the pipe never filled");
}

/// Splicing out to a peer that does not read is held back until `Writable`.
pub(super) fn splices_with_back_pressure(subject: &Subject) {
    let mut rig = Rig::new(subject);
    let (source, from) = rig.pair();
    let (sink, to) = rig.pair();
    let Some(pipe) = rig.driver.pipe() else {
        return;
    };
    let block = pattern(32 * 1024);
    let (mut sent, mut in_pipe, mut relayed) = (0, 0, 0);
    let mut quiet = 0;
    let mut got = Vec::new();
    let mut relay = |rig: &mut Rig<'_>, in_pipe: &mut usize| {
        if *in_pipe == 0 && rig.readable.contains(&from) {
            match rig.driver.splice_in(from, &pipe, 1 << 20).unwrap() {
                Received::Bytes(n) => *in_pipe += n,
                Received::Drained(n) => {
                    *in_pipe += n;
                    rig.readable.remove(&from);
                }
                Received::End => panic!("not ended"),
            }
        }
        if *in_pipe > 0 {
            let moved = rig.driver.splice_out(&pipe, to, *in_pipe, true).unwrap();
            *in_pipe -= moved;
            relayed += moved;
            return moved;
        }
        0
    };
    while quiet < QUIET {
        let at = sent % block.len();
        let accepted = rig.driver.send(source, &[IoSlice::new(&block[at..])]).unwrap();
        sent += accepted;
        assert!(sent < 64 << 20, "no back-pressure");
        rig.turn();
        let moved = relay(&mut rig, &mut in_pipe);
        quiet = if accepted + moved > 0 { 0 } else { quiet + 1 };
    }
    assert!(in_pipe > 0, "the sender is stopped by the sink");
    rig.writable.remove(&to);
    rig.until("room at the sink", |rig| {
        rig.pull(sink, 64 * 1024, &mut got).unwrap();
        rig.writable.remove(&to).then_some(())
    });
    rig.until("the rest", |rig| {
        relay(rig, &mut in_pipe);
        rig.pull(sink, 64 * 1024, &mut got).unwrap();
        (got.len() == sent).then_some(())
    });
    assert!(got.chunks(block.len()).all(|chunk| chunk == &block[..chunk.len()]), "bytes changed");
}

/// A peer that has ended its side and does not read: waiting for room must not spin.
pub(super) fn waits_for_room_after_the_peers_end(subject: &Subject) {
    let mut rig = Rig::new(subject);
    let (client, server) = rig.pair();
    rig.driver.shutdown(client);
    assert_eq!(rig.receive_to_end(server), b"");
    let block = pattern(256 * 1024);
    let (mut sent, mut told, mut quiet) = (0, 0, 0);
    while quiet < QUIET {
        let at = sent % block.len();
        sent += rig.driver.send(server, &[IoSlice::new(&block[at..])]).unwrap();
        assert!(sent < 64 << 20, "no back-pressure");
        if !sent.is_multiple_of(block.len()) {
            rig.turn();
            if rig.writable.remove(&server) {
                told += 1;
                quiet = 0;
            } else {
                quiet += 1;
            }
        }
        assert!(told < 1_000, "told of room {told} times without any");
    }
    rig.driver.shutdown(server);
    let got = rig.receive_to_end(client);
    assert_eq!(got.len(), sent);
}

/// More connections than one batch of events holds, all served, each its own bytes.
pub(super) fn serves_many(subject: &Subject) {
    const COUNT: usize = 600;
    let mut rig = Rig::new(subject);
    let address = rig.address;
    let clients: Vec<ConnKey> = (0..COUNT).map(|_| rig.driver.connect(address).unwrap()).collect();
    let mut connected = HashSet::new();
    rig.until("all connects", |rig| {
        for conn in rig.writable.drain() {
            rig.driver.connect_result(conn).unwrap();
            connected.insert(conn);
        }
        (connected.len() == COUNT).then_some(())
    });
    rig.until("all accepts", |rig| (rig.accepted.len() == COUNT).then_some(()));
    let sockets = std::mem::take(&mut rig.accepted);
    let servers: Vec<ConnKey> =
        sockets.into_iter().map(|socket| rig.driver.attach(socket).unwrap()).collect();
    for (i, &client) in clients.iter().enumerate() {
        rig.send(client, &(i as u32).to_be_bytes());
    }
    // Each server answers what it was sent.
    let mut heard = vec![Vec::new(); COUNT];
    let mut answered = 0;
    rig.until("all requests", |rig| {
        for (server, heard) in servers.iter().zip(&mut heard) {
            if heard.len() < 4 {
                rig.pull(*server, 64, heard).unwrap();
                if heard.len() == 4 {
                    rig.send(*server, heard);
                    answered += 1;
                }
            }
        }
        (answered == COUNT).then_some(())
    });
    for (i, &client) in clients.iter().enumerate() {
        assert_eq!(rig.receive(client, 4), (i as u32).to_be_bytes());
    }
    for conn in clients.into_iter().chain(servers) {
        rig.close(conn, false);
    }
    rig.turn();
}

/// A socket that is never attached closes when dropped, and so does one whose event is never looked at.
pub(super) fn drops_unattached(subject: &Subject) {
    let mut rig = Rig::new(subject);
    let client = rig.connect();
    let socket = rig.until("accept", |rig| rig.accepted.pop());
    drop(socket);
    assert_eq!(rig.receive_to_end(client), b"");
}

/// Two listeners on one driver keep apart, and one closes without the other.
pub(super) fn keeps_listeners_apart(subject: &Subject) {
    let driver = &*subject.driver;
    let (first, first_address) = (subject.listening)();
    let (second, second_address) = (subject.listening)();
    let (first, second) = (driver.listen(first).unwrap(), driver.listen(second).unwrap());
    assert_ne!(first, second);
    driver.connect(first_address).unwrap();
    driver.connect(second_address).unwrap();
    let mut seen = Vec::new();
    let mut events = Vec::new();
    let mut wait = |count: usize, seen: &mut Vec<ListenerKey>| {
        for _ in 0..PATIENCE {
            if seen.len() >= count {
                break;
            }
            driver.turn(Some(TURN), &mut events).unwrap();
            for event in events.drain(..) {
                if let Event::Accepted { listener, .. } = event {
                    seen.push(listener);
                }
            }
        }
    };
    wait(2, &mut seen);
    seen.sort_unstable();
    assert_eq!(seen, [first, second]);
    driver.unlisten(first);
    driver.connect(second_address).unwrap();
    seen.clear();
    wait(1, &mut seen);
    assert_eq!(seen, [second]);
}

/// Makes a test of each part of the contract for one kind of subject.
macro_rules! contract {
    ($module:ident, $subject:expr) => {
        mod $module {
            use super::*;
            contract!(@ $subject; echoes gathers gathers_for_nobody tells_when_drained reports_a_reset reports_a_refused_connect
                pushes_back pauses_accepting renews_generations gives_connections_away closes_while_being_woken wakes splices splices_with_back_pressure
                waits_for_room_after_the_peers_end serves_many drops_unattached keeps_listeners_apart);
        }
    };
    (@ $subject:expr; $($part:ident)*) => {
        $(#[test] fn $part() { super::$part(&$subject); })*
    };
}

fn kernel_subject(driver: impl Driver + 'static) -> Subject {
    let listening = || {
        let socket = crate::sys::socket::listening("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let address = socket2::SockRef::from(&socket).local_addr().unwrap().as_socket().unwrap();
        (Socket::Kernel(socket), address)
    };
    Subject { driver: Box::new(driver), listening: Box::new(listening) }
}

fn simulated_subject(network: crate::sim::Network) -> Subject {
    let port = std::cell::Cell::new(8_000);
    let driver = network.driver();
    let listening = move || {
        port.set(port.get() + 1);
        let address = SocketAddr::from(([203, 0, 113, 1], port.get()));
        (Socket::Simulated(network.listening(address)), address)
    };
    Subject { driver: Box::new(driver), listening: Box::new(listening) }
}

mod simulated_with_seeds {
    use crate::sim::{Faults, Network, Random};

    /// Every part of the contract but the `late_event` fault, which breaks [`super::Rig`]'s rule on purpose.
    #[test]
    fn invisible_faults_are_invisible() {
        let parts = [
            super::echoes,
            super::tells_when_drained,
            super::reports_a_reset,
            super::reports_a_refused_connect,
            super::pushes_back,
            super::pauses_accepting,
            super::renews_generations,
            super::gives_connections_away,
            super::closes_while_being_woken,
            super::splices,
            super::splices_with_back_pressure,
            super::waits_for_room_after_the_peers_end,
            super::drops_unattached,
            super::keeps_listeners_apart,
        ];
        for seed in 0..20 {
            for part in parts {
                let faults =
                    Faults { late_event: 0, no_pipe: 0, ..Faults::invisible(&mut Random::new(seed)) };
                part(&super::simulated_subject(Network::with_window(seed, faults, 20_000)));
            }
        }
    }
}

contract!(
    simulated,
    simulated_subject(crate::sim::Network::with_window(7, crate::sim::Faults::none(), 100_000))
);
contract!(epoll, kernel_subject(crate::driver::EpollDriver::new().unwrap()));
contract!(uring, kernel_subject(crate::driver::UringDriver::new().unwrap()));

// Queues so small that entries wait for their place and completions overflow all the time.
contract!(
    uring_overflowing,
    kernel_subject(
        crate::driver::UringDriver::with_size(crate::sys::ring::Size { submissions: 2, completions: 4 })
            .unwrap()
    )
);
