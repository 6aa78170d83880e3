//! What an exchange costs in user space: the real engine over a driver without a kernel, whose clients and servers
//! answer at once from ready-made bytes. `cargo bench -p benches --bench engine`.
//!
//! - `bare`: one server; `product`: three under least_request, a split by session, stickiness, known sessions.
//! - `logged`: as `product`, with the access log on as JSON, to /dev/null.
//! - `classed`: as `product`, where another route has another class, so that tasks are run by class.
//! - 16 and 1,024 connections: what the caches make of per-connection state.
//!
//! `counted` is the part of each of them that counts for metrics, alone: counting cannot be switched off.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lb_core::spec::{
    Address, BackendSpec, CanarySpec, Class, ListenerSpec, Policy, RouteSpec, Secrets, ServerSpec,
    SigningKey, StickySpec,
};
use lb_core::{
    ArmIndex, Cursors, Outcome, RequestView, RouteIndex, SecretKey, ServerIndex, Share, Spec, Table, Verdict,
    compile, decide,
};
use lb_io::driver::{ConnKey, Driver, Event, ListenerKey, MAX_EVENTS, Pipe, Received, Socket, Waker};
use lb_io::log::record::Format;
use lb_io::log::sample::Sampling;
use lb_io::log::{AccessLog, LogOptions, LogTarget};
use lb_io::metrics::meter::{End, Meter};
use lb_io::metrics::{Metrics, Options};
use lb_io::worker::{Limits, Worker};

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: origin\r\nContent-Length: 128\r\n\r\n\
0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\
0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const REQUEST: &[u8] = b"GET /cart/7?x=y HTTP/1.1\r\nHost: shop.example.com\r\nAccept: */*\r\n";
/// Different sessions.
const SESSIONS: u128 = 500;

/// Clients and servers in one: what is sent to a server brings its response, and a response sent to a client brings
/// its next request, each with the next turn.
struct Canned {
    requests: Vec<Vec<u8>>,
    clients: u32,
    conns: Cell<u32>,
    /// What the next receive on a connection brings.
    ready: RefCell<Vec<bool>>,
    events: RefCell<Vec<Event>>,
    to_accept: Cell<usize>,
    answered: Cell<u64>,
    started: Instant,
}

impl Canned {
    fn next_key(&self) -> ConnKey {
        let index = self.conns.get();
        self.conns.set(index + 1);
        self.ready.borrow_mut().push(false);
        ConnKey { index, generation: 0 }
    }

    fn make_ready(&self, conn: ConnKey) {
        self.ready.borrow_mut()[conn.index as usize] = true;
        self.events.borrow_mut().push(Event::Readable { conn, hangup: false });
    }
}

/// The driver is shared with whoever counts.
struct Shared(Rc<Canned>);

struct Nobody;

impl Waker for Nobody {
    fn wake(&self) {}
}

impl Driver for Shared {
    fn name(&self) -> &'static str {
        "canned"
    }
    fn listen(&self, _: Socket) -> io::Result<ListenerKey> {
        Ok(0)
    }
    fn pause_accept(&self, _: ListenerKey) {}
    fn resume_accept(&self, _: ListenerKey) {}
    fn unlisten(&self, _: ListenerKey) {}
    fn attach(&self, _: Socket) -> io::Result<ConnKey> {
        Ok(self.0.next_key())
    }
    fn connect(&self, _: SocketAddr) -> io::Result<ConnKey> {
        let conn = self.0.next_key();
        self.0.events.borrow_mut().push(Event::Writable { conn });
        Ok(conn)
    }
    fn connect_result(&self, _: ConnKey) -> io::Result<()> {
        Ok(())
    }
    fn recv(&self, conn: ConnKey, into: &mut [u8]) -> io::Result<Received> {
        let index = conn.index as usize;
        if !std::mem::take(&mut self.0.ready.borrow_mut()[index]) {
            return Ok(Received::Drained(0));
        }
        let bytes = if conn.index < self.0.clients {
            &self.0.requests[index % self.0.requests.len()]
        } else {
            RESPONSE
        };
        into[..bytes.len()].copy_from_slice(bytes);
        Ok(Received::Drained(bytes.len()))
    }
    fn send(&self, conn: ConnKey, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if conn.index < self.0.clients {
            self.0.answered.set(self.0.answered.get() + 1);
        }
        self.0.make_ready(conn);
        Ok(bufs.iter().map(|buf| buf.len()).sum())
    }
    fn splice_in(&self, _: ConnKey, _: &Pipe, _: usize) -> io::Result<Received> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn splice_out(&self, _: &Pipe, _: ConnKey, _: usize, _: bool) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn shutdown(&self, _: ConnKey) {}
    fn close(&self, _: ConnKey, _: bool) {}
    fn detach(&self, _: ConnKey) -> Option<Socket> {
        None
    }
    fn turn(&self, _: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        while self.0.to_accept.get() > 0 && events.len() < MAX_EVENTS {
            self.0.to_accept.set(self.0.to_accept.get() - 1);
            let socket = Socket::Kernel(std::fs::File::open("/dev/null")?.into());
            let peer = SocketAddr::from(([192, 0, 2, 1], 1024));
            events.push(Event::Accepted { listener: 0, socket, peer });
        }
        let mut waiting = self.0.events.borrow_mut();
        let count = waiting.len().min(MAX_EVENTS - events.len());
        events.extend(waiting.drain(..count));
        Ok(())
    }
    fn now(&self) -> Duration {
        self.0.started.elapsed()
    }
    fn waker(&self) -> Arc<dyn Waker> {
        Arc::new(Nobody)
    }
    fn pipe(&self) -> Option<Pipe> {
        None
    }
}

fn backend(name: &str, servers: u16, sticky: bool) -> BackendSpec {
    let server = |index: u16| ServerSpec {
        name: format!("s{index}"),
        address: Address::Literal(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1 + index)),
        ..ServerSpec::default()
    };
    BackendSpec {
        name: name.into(),
        balance: Policy::LeastRequest,
        servers: (0..servers).map(server).collect(),
        sticky: sticky.then_some(StickySpec { cookie: None }),
        ..BackendSpec::default()
    }
}

fn table(product: bool, classed: bool) -> Table {
    let key = SecretKey::new(*b"0123456789abcdef");
    let canary = CanarySpec {
        backend: "new".into(),
        share: Share::from_hundredths(1_000).expect("a share"),
        ..CanarySpec::default()
    };
    let other =
        RouteSpec { hosts: vec!["other".into()], class: Class::Silver, ..RouteSpec::new("other", "old") };
    let all = RouteSpec {
        name: "all".into(),
        backend: Some("old".into()),
        canary: product.then_some(canary),
        ..RouteSpec::default()
    };
    let spec = Spec {
        secrets: Secrets { signing: vec![SigningKey { id: "a".into(), key }], share: Some(key) },
        listeners: vec![ListenerSpec { name: "web".into(), ..ListenerSpec::default() }],
        routes: if classed { vec![all, other] } else { vec![all] },
        backends: match product {
            true => vec![backend("old", 3, true), backend("new", 1, true)],
            false => vec![backend("old", 1, false)],
        },
        ..Spec::default()
    };
    Table::new(compile(&spec).expect("a valid spec").snapshot, None)
}

/// The request of a session that has its cookies already, where the table gives any.
fn request(table: &Table, session: u128) -> Vec<u8> {
    let view = RequestView {
        listener: 0,
        method: b"GET",
        host: b"shop.example.com",
        path: b"/cart/7",
        query: None,
        fields: &[("accept", "*/*")],
        source: IpAddr::V4(Ipv4Addr::LOCALHOST),
        secure: false,
    };
    let random = session.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645);
    let mut lines = Vec::new();
    if let Verdict::Forward(decision) = decide(table, &Cursors::default(), &view, Duration::ZERO, random) {
        decision.write_cookies(table, false, &mut lines);
    }
    let lines = String::from_utf8(lines).expect("cookies are text");
    let cookies: Vec<&str> =
        lines.lines().filter_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next()).collect();
    let cookie =
        if cookies.is_empty() { String::new() } else { format!("Cookie: {}\r\n", cookies.join("; ")) };
    [REQUEST, cookie.as_bytes(), b"\r\n"].concat()
}

/// Runs `exchanges` and tells how long they took.
fn run(worker: &Rc<Worker>, canned: &Canned, exchanges: u64) -> Duration {
    let until = canned.answered.get() + exchanges;
    let started = Instant::now();
    while canned.answered.get() < until {
        worker.turn(Duration::ZERO).expect("nothing can fail");
    }
    started.elapsed()
}

fn exchanges(c: &mut Criterion) {
    let mut group = c.benchmark_group("exchange");
    for (name, product, clients) in [
        ("bare", false, 16),
        ("bare", false, 1_024),
        ("product", true, 16),
        ("product", true, 1_024),
        ("logged", true, 16),
        ("logged", true, 1_024),
        ("classed", true, 16),
        ("classed", true, 1_024),
    ] {
        let options = LogOptions {
            target: LogTarget::File("/dev/null".into()),
            format: Format::Json,
            sampling: Sampling::default(),
        };
        let log = (name == "logged").then(|| AccessLog::start(options, 1).expect("it can be written to"));
        let table = Arc::new(table(product, name == "classed"));
        let requests = (0..SESSIONS).map(|session| request(&table, session)).collect();
        let canned = Rc::new(Canned {
            requests,
            clients: clients as u32,
            conns: Cell::new(0),
            ready: RefCell::default(),
            events: RefCell::default(),
            to_accept: Cell::new(clients),
            answered: Cell::new(0),
            started: Instant::now(),
        });
        let names: Arc<[Box<str>]> = Arc::from(["web".into()]);
        let driver = Box::new(Shared(Rc::clone(&canned)));
        let metrics = Metrics::new(1, &names, Options::default());
        let recorder = metrics.recorder(0, &metrics.publish(&table.snapshot));
        let worker = Worker::new(
            driver,
            table,
            &names,
            Limits::default(),
            recorder,
            log.as_ref().map(|log| log.buffer(0)),
            [7; 16],
        );
        let nothing = std::fs::File::open("/dev/null").expect("it exists");
        worker.listen(Socket::Kernel(nothing.into()), 0).expect("nothing can fail");
        while canned.to_accept.get() > 0 {
            worker.turn(Duration::ZERO).expect("nothing can fail");
        }
        for index in 0..canned.clients {
            canned.make_ready(ConnKey { index, generation: 0 });
        }
        run(&worker, &canned, 20_000);
        let id = BenchmarkId::new(name, clients);
        group.bench_function(id, |b| b.iter_custom(|count| run(&worker, &canned, count)));
    }
}

/// What one exchange over a pooled connection counts, from its head to its end.
fn counting(c: &mut Criterion) {
    let (table, names): (_, Arc<[Box<str>]>) = (table(true, false), Arc::from(["web".into()]));
    let metrics = Metrics::new(1, &names, Options::default());
    let recorder = metrics.recorder(0, &metrics.publish(&table.snapshot));
    let layout = recorder.layout();
    let arm = layout.arm(RouteIndex(0), ArmIndex::STABLE);
    let servers = [0, 1, 2].map(|server| layout.server(ServerIndex(server)));
    let end = End { status: 200, reason: None, bytes_received: 129, bytes_sent: 194 };
    let outcome = Outcome::Responded { status: 200 };
    let mut count = 0_u64;
    c.bench_function("exchange/counted", |b| {
        b.iter(|| {
            count += 1;
            let at = |step: u64| Duration::from_micros(count * 10 + step * 100);
            let mut meter = Meter::begin(&recorder, 0, arm, at(0));
            meter.picked(&recorder, arm, servers[count as usize % servers.len()], at(0));
            meter.connected(&recorder, true, at(0));
            meter.answered(&recorder, 200, at(1));
            meter.finished(&recorder, outcome, 400, 200);
            meter.end(&recorder, &end, at(1))
        });
    });
}

criterion_group!(benches, exchanges, counting);
criterion_main!(benches);
