//! Once warm, a proxied request allocates nothing: the engine's thread runs here, over a counting allocator
//! that counts this thread only, with client and servers on threads of their own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lb_core::Table;
use lb_core::spec::{
    Address, BackendSpec, BodyRateSpec, CanarySpec, Class, ListenerSpec, Policy, RateSpec, RouteSpec,
    SecretKey, Secrets, ServerSpec, Share, SigningKey, Spec, StickySpec,
};
use lb_io::driver::Socket;
use lb_io::driver::probe::{DriverChoice, select};
use lb_io::log::record::Format;
use lb_io::log::sample::Sampling;
use lb_io::log::{AccessLog, LogBuffer, LogOptions, LogTarget};
use lb_io::metrics::{Metrics, Options};
use lb_io::spans::{SpanBuffer, Spans};
use lb_io::trace::TraceOptions;
use lb_io::worker::{Limits, Worker};

/// Requests before counting starts: every buffer, task and table has its size by then.
const WARM: usize = 400;
/// Clients that help to warm up and are gone before counting starts: the tables have grown past what the
/// others need.
const WARMING_CLIENTS: usize = 12;
/// Requests counted.
const COUNTED: usize = 2_000;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local without a
// destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_warm_request_allocates_nothing_on_io_uring() {
    check(DriverChoice::IoUring, None, None);
}

#[test]
fn a_warm_request_allocates_nothing_on_epoll() {
    check(DriverChoice::Epoll, None, None);
}

#[test]
fn a_warm_request_is_logged_without_allocating() {
    let target = LogTarget::File("/dev/null".into());
    for format in [Format::Json, Format::Text, Format::Combined] {
        let options = LogOptions { target: target.clone(), format, sampling: Sampling::default() };
        let log = AccessLog::start(options, 1).unwrap();
        check(DriverChoice::Epoll, Some(log.buffer(0)), None);
    }
}

/// Every exchange is recorded in a trace, and somebody takes the records.
#[test]
fn a_warm_request_is_recorded_without_allocating() {
    for choice in [DriverChoice::IoUring, DriverChoice::Epoll] {
        let spans = Arc::new(Spans::new(1));
        let buffer = spans.buffer(0);
        let ended = Arc::new(AtomicBool::new(false));
        let (taking, until) = (Arc::clone(&spans), Arc::clone(&ended));
        let taker = std::thread::spawn(move || {
            let mut taken = 0;
            loop {
                let last = until.load(Ordering::Acquire);
                taking.take(&mut |span| {
                    assert!(
                        span.trace != 0 && span.place.route == "shop" && span.path.starts_with(b"/cart/")
                    );
                    taken += 1;
                });
                if last {
                    return taken;
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
        });
        check(choice, None, Some(buffer));
        ended.store(true, Ordering::Release);
        assert!(taker.join().unwrap() >= WARM + COUNTED, "each is recorded");
    }
}

#[test]
fn a_warm_request_of_a_class_allocates_nothing() {
    check_spec(by_class, DriverChoice::IoUring, None, None);
    check_spec(by_class, DriverChoice::Epoll, None, None);
}

fn check(choice: DriverChoice, log: Option<LogBuffer>, spans: Option<SpanBuffer>) {
    check_spec(product, choice, log, spans);
}

fn check_spec(
    spec: fn(&[SocketAddr]) -> Spec,
    choice: DriverChoice,
    log: Option<LogBuffer>,
    spans: Option<SpanBuffer>,
) {
    let servers: Vec<SocketAddr> = (0..4).map(|_| serve()).collect();
    let compiled = lb_core::compile(&spec(&servers)).expect("the spec is valid");
    let table = Arc::new(Table::new(compiled.snapshot, None));
    let driver = select(choice).expect("this machine has both drivers").driver;
    let names: Arc<[Box<str>]> = Arc::from(["web".into()]);
    let metrics = Metrics::new(1, &names, Options::default());
    let recorder = metrics.recorder(0, &metrics.publish(&table.snapshot));
    let worker = Worker::new(driver, table, &names, Limits::default(), recorder, log, [7; 16]);
    if spans.is_some() {
        worker.trace(TraceOptions { restart: false, share: 10_000, export: true }, spans);
    }
    let listener = lb_io::sys::socket::listening("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = socket2::SockRef::from(&listener).local_addr().unwrap().as_socket().unwrap();
    worker.listen(Socket::Kernel(listener), 0).unwrap();

    let answered = Arc::new(AtomicUsize::new(0));
    let start = |count: usize, until: usize| -> Vec<_> {
        let client = |number| {
            let answered = Arc::clone(&answered);
            std::thread::spawn(move || request(address, number, until, &answered))
        };
        (0..count).map(client).collect()
    };
    let warming = start(WARMING_CLIENTS, WARM);
    run_until(&worker, || warming.iter().all(|client| client.is_finished()));
    let clients = start(4, 2 * WARM + COUNTED + 100);
    run_until(&worker, || answered.load(Ordering::Acquire) >= 2 * WARM);
    let before = ALLOCATIONS.with(Cell::get);
    run_until(&worker, || answered.load(Ordering::Acquire) >= 2 * WARM + COUNTED);
    let allocated = ALLOCATIONS.with(Cell::get) - before;
    run_until(&worker, || clients.iter().all(|client| client.is_finished()));
    clients.into_iter().for_each(|client| client.join().unwrap());
    worker.stop();
    let statuses = metrics.workers().next().expect("one worker").statuses();
    assert!(statuses.get(&200) >= Some(&((WARM + COUNTED) as u64)), "{statuses:?}");
    let arms = metrics.arms();
    let timed: u64 = arms.iter().map(|(_, arm)| arm.exchange.count()).sum();
    assert_eq!(timed, statuses.values().sum::<u64>(), "the metrics are on");
    assert_eq!(allocated, 0, "allocations in about {COUNTED} requests");
}

fn run_until(worker: &Rc<Worker>, done: impl Fn() -> bool) {
    while !done() {
        worker.turn(Duration::from_millis(20)).unwrap();
    }
}

/// Three servers under least_request, a canary of 10 %, stickiness, rates of requests and bodies, X-Forwarded-*, a request id, all timeouts.
fn product(servers: &[SocketAddr]) -> Spec {
    let server = |name: &str, address: SocketAddr| ServerSpec {
        name: name.into(),
        address: Address::Literal(address),
        ..ServerSpec::default()
    };
    let backend = |name: &str, servers: Vec<ServerSpec>| BackendSpec {
        name: name.into(),
        balance: Policy::LeastRequest,
        sticky: Some(StickySpec::default()),
        servers,
        ..BackendSpec::default()
    };
    Spec {
        secrets: Secrets {
            signing: vec![SigningKey { id: "a".into(), key: SecretKey::new([1; 16]) }],
            share: Some(SecretKey::new([2; 16])),
        },
        listeners: vec![ListenerSpec { name: "web".into(), ..ListenerSpec::default() }],
        routes: vec![RouteSpec {
            name: "shop".into(),
            hosts: vec!["shop.test".into()],
            backend: Some("old".into()),
            canary: Some(CanarySpec {
                backend: "new".into(),
                share: "10%".parse::<Share>().unwrap(),
                cookie: Some("canary".into()),
                release: "1".into(),
                ..CanarySpec::default()
            }),
            rate: Some(RateSpec::new(1_000_000, Duration::from_secs(1))),
            body_rate: Some(BodyRateSpec { bytes: 1_024, grace: None }),
            ..RouteSpec::default()
        }],
        backends: vec![
            backend("old", vec![server("a", servers[0]), server("b", servers[1]), server("c", servers[2])]),
            backend("new", vec![server("d", servers[3])]),
        ],
        ..Spec::default()
    }
}

/// The same, and what has a body is of another class: one connection carries both.
fn by_class(servers: &[SocketAddr]) -> Spec {
    let mut spec = product(servers);
    let posts = RouteSpec {
        name: "posts".into(),
        methods: vec!["POST".into()],
        class: Class::Silver,
        ..spec.routes[0].clone()
    };
    spec.routes.push(posts);
    spec
}

/// One client: some of its requests carry the cookies that it was given, others are strangers'.
fn request(address: SocketAddr, number: usize, until: usize, answered: &AtomicUsize) {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut cookies = String::new();
    let mut response = vec![0; 8192];
    let mut count = 0;
    while answered.load(Ordering::Acquire) < until {
        count += 1;
        let body = if count % 3 == number % 3 { "hello" } else { "" };
        let method = if body.is_empty() { "GET" } else { "POST" };
        let request = format!(
            "{method} /cart/{count} HTTP/1.1\r\nhost: shop.test\r\ncookie: x=y{cookies}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        let text = loop {
            let read = stream.read(&mut response[length..]).unwrap();
            assert!(read > 0, "closed early");
            length += read;
            let text = String::from_utf8_lossy(&response[..length]).into_owned();
            if text.ends_with("answer\n") {
                break text;
            }
        };
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let given = text.lines().filter_map(|line| line.strip_prefix("set-cookie: "));
        let given: Vec<&str> = given.filter_map(|cookie| cookie.split(';').next()).collect();
        if count % 5 == 0 {
            cookies.clear();
        } else if !given.is_empty() {
            cookies = format!("{cookies}; {}", given.join("; "));
        }
        answered.fetch_add(1, Ordering::AcqRel);
    }
}

/// A server that answers every request with the same response, on as many connections as come.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut request = Vec::new();
                let mut bytes = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    request.extend_from_slice(&bytes[..read]);
                    let whole = match request.windows(4).position(|end| end == b"\r\n\r\n") {
                        Some(end) => request.len() >= end + 4 + 5 * usize::from(request.starts_with(b"POST")),
                        None => false,
                    };
                    if whole {
                        request.clear();
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nanswer\n");
                    }
                }
            });
        }
    });
    address
}
