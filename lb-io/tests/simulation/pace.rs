//! Request bodies that come slowly, and whose fault that is: to the second, for the time is virtual.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lb_core::Table;
use lb_core::spec::{BackendSpec, BodyRateSpec, ListenerSpec, RouteSpec, ServerSpec, Spec};
use lb_io::driver::Socket;
use lb_io::metrics::{Metrics, Options};
use lb_io::sim::{Actor, Context, EndpointId, Faults, Network, Read};
use lb_io::worker::siblings::Siblings;
use lb_io::worker::{Limits, Worker};

use super::run::turn;

const FRONT: &str = "203.0.113.10:80";
const SERVER: &str = "10.0.0.1:80";
/// Virtual time after which nothing more will happen.
const PATIENCE: Duration = Duration::from_secs(600);

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// How a client sends a body: so many bytes at these times, counted from when it may begin.
#[derive(Clone)]
struct Upload {
    pieces: Vec<(Duration, usize)>,
    expect: bool,
}

impl Upload {
    /// A piece every second.
    fn dribbled(count: u64, bytes: usize) -> Upload {
        Upload { pieces: (0..count).map(|n| (Duration::from_secs(n), bytes)).collect(), expect: false }
    }

    fn len(&self) -> usize {
        self.pieces.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// The status that a client got, and when.
type Answer = Arc<Mutex<Option<(String, Duration)>>>;

struct Client {
    upload: Upload,
    conn: Option<EndpointId>,
    /// When the body's first piece was due.
    since: Option<Duration>,
    next: usize,
    unsent: Vec<u8>,
    received: Vec<u8>,
    answer: Answer,
}

impl Actor for Client {
    fn step(&mut self, context: &mut Context<'_>) {
        let conn = *self.conn.get_or_insert_with(|| context.connect(address(FRONT)));
        while let Read::Bytes(bytes) = context.read(conn, 4_096) {
            self.received.extend(bytes);
        }
        let text = String::from_utf8_lossy(&self.received);
        let goes_on = text.starts_with("HTTP/1.1 100 ");
        let last = text.rsplit_once("HTTP/1.1 ").map(|(_, last)| last);
        if let Some(last) = last.filter(|last| last.len() >= 3 && !last.starts_with("100")) {
            let mut answer = self.answer.lock().unwrap();
            if answer.is_none() {
                *answer = Some((last.chars().take(3).collect(), context.now()));
                context.close(conn, false);
            }
            return;
        }
        if self.since.is_none() && (!self.upload.expect || goes_on) {
            self.since = Some(context.now());
        }
        while let (Some(since), Some((at, bytes))) = (self.since, self.upload.pieces.get(self.next)) {
            if since + *at > context.now() {
                context.wake_at(since + *at);
                break;
            }
            self.unsent.extend(vec![b'x'; *bytes]);
            self.next += 1;
        }
        let sent = context.send(conn, &self.unsent);
        self.unsent.drain(..sent);
    }

    fn is_done(&self) -> bool {
        self.answer.lock().unwrap().is_some()
    }

    fn describe(&self) -> String {
        format!("an answer, after {:?}", String::from_utf8_lossy(&self.received))
    }
}

/// Takes so many bytes of requests at a time, answers when it has one whole, and asks for a body after a while.
struct Server {
    takes: usize,
    every: Duration,
    asks_after: Option<Duration>,
    body: usize,
    conn: Option<EndpointId>,
    took: Duration,
    received: Vec<u8>,
    is_listening: bool,
}

impl Actor for Server {
    fn step(&mut self, context: &mut Context<'_>) {
        if !std::mem::replace(&mut self.is_listening, true) {
            context.listen(address(SERVER));
        }
        if let Some(conn) = context.accept() {
            (self.conn, self.took) = (Some(conn), context.now());
        }
        let Some(conn) = self.conn else { return };
        if let Some(after) = self.asks_after {
            if context.now() < self.took + after {
                return context.wake_at(self.took + after);
            }
            self.asks_after = None;
            context.send(conn, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        while context.now() >= self.took + self.every {
            let Read::Bytes(bytes) = context.read(conn, self.takes) else { break };
            self.received.extend(bytes);
            self.took = if self.every.is_zero() { self.took } else { context.now() };
        }
        if !self.every.is_zero() {
            context.wake_at(self.took + self.every);
        }
        let head = self.received.windows(4).position(|four| four == b"\r\n\r\n");
        if head.is_some_and(|end| self.received.len() == end + 4 + self.body) {
            context.send(conn, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            self.received.clear();
        }
    }

    fn is_done(&self) -> bool {
        true
    }
}

fn server() -> Server {
    let (conn, received) = (None, Vec::new());
    let (every, took) = (Duration::ZERO, Duration::ZERO);
    Server { takes: 65_536, every, asks_after: None, body: 0, conn, took, received, is_listening: false }
}

/// The status that ends an upload to that server, and after how many seconds.
fn run(rate: (u64, u64), upload: &Upload, server: Server) -> (String, u64) {
    let network = Network::with_window(1, Faults::none(), 4_000);
    let (bytes, grace_s) = rate;
    let body_rate = Some(BodyRateSpec { bytes, grace: Some(Duration::from_secs(grace_s)) });
    let spec = Spec {
        listeners: vec![ListenerSpec { name: "web".to_owned(), ..ListenerSpec::default() }],
        routes: vec![RouteSpec { body_rate, ..RouteSpec::new("all", "app") }],
        backends: vec![BackendSpec::new("app", [ServerSpec::new("a", address(SERVER))])],
        ..Spec::default()
    };
    let table = Arc::new(Table::new(lb_core::compile(&spec).expect("the spec is sound").snapshot, None));
    let names: Arc<[Box<str>]> = Arc::from(vec![Box::from("web")]);
    let metrics = Metrics::new(1, &names, Options::default());
    let published = metrics.publish(&table.snapshot);
    let recorder = metrics.recorder(0, &published);
    let driver = Box::new(network.driver());
    let worker = Worker::new(driver, Arc::clone(&table), &names, Limits::default(), recorder, None, [1; 16]);
    for siblings in Siblings::of(1) {
        worker.join(siblings);
    }
    worker.listen(Socket::Simulated(network.listening(address(FRONT))), 0).expect("it is taken");
    network.spawn(Box::new(Server { body: upload.len(), ..server }));
    let answer = Answer::default();
    let expect = if upload.expect { "expect: 100-continue\r\n" } else { "" };
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{expect}content-length: {}\r\n\r\n", upload.len());
    network.spawn(Box::new(Client {
        upload: upload.clone(),
        conn: None,
        since: None,
        next: 0,
        unsent: head.into_bytes(),
        received: Vec::new(),
        answer: Arc::clone(&answer),
    }));
    let workers = [worker];
    while !network.actors_are_done() {
        turn(&workers, &network).expect("the driver works");
        assert!(network.now() < PATIENCE, "{:?}", network.unfinished());
    }
    let (status, at) = answer.lock().unwrap().clone().expect("it is done");
    // Whatever became of it, the server is not to blame and has nothing under way.
    let counters = table.live.servers()[0].counters();
    assert_eq!((counters.in_flight, counters.failed), (0, 0));
    assert_eq!(counters.abandoned, u64::from(status == "408"));
    workers[0].stop();
    (status, at.as_secs())
}

/// Half as quick as it must be: after 20 s it has used up its 10 s and what it has sent.
#[test]
fn who_dribbles_a_body_is_ended_when_its_time_is_used_up() {
    let (status, seconds) = run((100, 10), &Upload::dribbled(500, 50), server());
    assert_eq!(status, "408");
    assert!((20..=21).contains(&seconds), "{seconds}");
}

#[test]
fn who_is_quick_enough_is_left_alone() {
    assert_eq!(run((100, 10), &Upload::dribbled(60, 110), server()), ("200".to_owned(), 59));
}

/// A server that takes a thousand bytes in a second, where a hundred thousand are asked for.
#[test]
fn a_client_is_not_blamed_for_its_server() {
    let at_once = Upload::dribbled(1, 60_000);
    let slow = Server { takes: 1_000, every: Duration::from_secs(1), ..server() };
    let (status, seconds) = run((100_000, 1), &at_once, slow);
    assert_eq!(status, "200");
    assert!((58..=64).contains(&seconds), "{seconds}");
}

#[test]
fn a_client_that_waits_to_be_asked_is_not_slow() {
    let upload = Upload { expect: true, ..Upload::dribbled(1, 50_000) };
    let hesitant = Server { asks_after: Some(Duration::from_secs(5)), ..server() };
    assert_eq!(run((50_000, 1), &upload, hesitant), ("200".to_owned(), 5));
}

/// Once it was asked, it may not let others wait.
#[test]
fn a_client_that_was_asked_must_send() {
    let upload = Upload { expect: true, pieces: vec![(Duration::from_secs(20), 100)] };
    let hesitant = Server { asks_after: Some(Duration::from_secs(5)), ..server() };
    assert_eq!(run((100, 3), &upload, hesitant), ("408".to_owned(), 8));
}

#[test]
fn who_was_quick_may_pause() {
    let early = |pause_s| Upload {
        pieces: vec![(Duration::ZERO, 9_000), (Duration::from_secs(pause_s), 1_000)],
        expect: false,
    };
    assert_eq!(run((500, 1), &early(15), server()), ("200".to_owned(), 15));
    let (status, seconds) = run((500, 1), &early(25), server());
    assert_eq!((status.as_str(), seconds), ("408", 19));
}
