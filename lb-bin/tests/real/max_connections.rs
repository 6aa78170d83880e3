//! Servers with a bound on their connections, as the server sees them.

use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use socket2::SockRef;

use crate::harness::client::get;
use crate::harness::lb::servers;
use crate::harness::origin::{Conversation, ok, response};
use crate::harness::tools::unused_address;
use crate::harness::*;
use crate::queueing::{ask, await_queue};

on_both_drivers! {
    a_bound_on_connections_is_kept_over_all_workers,
    idle_with_one_worker_serves_the_requests_of_all,
    who_waits_is_served_in_order,
    tunnels_count_and_let_in_who_waits,
    a_killed_server_takes_up_its_whole_bound_again,
    a_lowered_bound_cuts_nothing_and_a_raised_one_lets_in,
    a_server_with_room_is_picked_before_one_without,
    a_server_of_few_threads_serves_everybody,
}

/// What a server sees of connections to it.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Sight>>);

#[derive(Default)]
struct Sight {
    streams: Vec<TcpStream>,
    most: usize,
    /// Requests that wait for an answer.
    inside: usize,
    gate: Gate,
    /// Nobody waits any more.
    open: bool,
}

impl Seen {
    /// Notes a connection that has just come.
    fn came(&self, conversation: &mut Conversation) {
        let stream = conversation.wire().stream().try_clone().unwrap();
        let mut sight = self.0.lock().unwrap();
        sight.streams.push(stream);
        sight.streams.retain(is_open);
        sight.most = sight.most.max(sight.streams.len());
    }

    fn open(&self) -> usize {
        let mut sight = self.0.lock().unwrap();
        sight.streams.retain(is_open);
        sight.streams.len()
    }

    fn most(&self) -> usize {
        self.0.lock().unwrap().most
    }

    fn inside(&self) -> usize {
        self.0.lock().unwrap().inside
    }

    fn await_inside(&self, count: usize) {
        until("requests to be inside", || self.inside() == count);
    }

    /// Waits until the gate that there is now is open.
    fn wait_inside(&self) {
        let gate = {
            let mut sight = self.0.lock().unwrap();
            sight.inside += 1;
            (!sight.open).then(|| sight.gate.clone())
        };
        if let Some(gate) = gate {
            gate.wait();
        }
        self.0.lock().unwrap().inside -= 1;
    }

    /// Answers all that are inside; later ones wait at a new gate.
    fn answer_all(&self) {
        let before = std::mem::take(&mut self.0.lock().unwrap().gate);
        before.open();
    }

    /// Answers all from now on.
    fn answer_for_good(&self) {
        self.0.lock().unwrap().open = true;
        self.answer_all();
    }

    /// Serves a connection: `/held` waits for the gate, `/last` is the last on its connection.
    fn serve(&self, conversation: &mut Conversation) {
        self.came(conversation);
        while let Some(request) = conversation.request() {
            if request.target().starts_with("/held") {
                self.wait_inside();
            }
            let is_last = request.target() == "/last";
            let fields: &[(&str, &str)] = if is_last { &[("Connection", "close")] } else { &[] };
            if conversation.write(response(200, "OK", fields, "served")).is_err() || is_last {
                return;
            }
        }
    }

    fn origin(&self) -> Origin {
        let seen = self.clone();
        Origin::scripted(move |conversation| seen.serve(conversation))
    }
}

/// Whether the other side has not ended it, as the kernel knows.
fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    match SockRef::from(stream).recv_with_flags(&mut byte, flags) {
        Ok(count) => count > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

/// Pools keep what they have for longer than any test takes.
fn bounded(most: u32, rest: &str) -> String {
    format!("[timeouts]\nidle_up = \"120s\"\n[defaults.server]\nmax_connections = {most}\n{rest}")
}

/// Many clients at once, each with many requests of all kinds; all must be served.
fn load(web: SocketAddr, clients: usize, requests: usize) {
    load_of(web, clients, requests, |number| {
        let target = if number % 7 == 0 { "/last" } else { "/more" };
        match number % 3 {
            0 => format!("POST {target} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\nbody"),
            _ => format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
        }
    });
}

fn load_of(web: SocketAddr, clients: usize, requests: usize, request: fn(usize) -> String) {
    let threads: Vec<_> = (0..clients)
        .map(|number| {
            std::thread::spawn(move || {
                let mut client = Client::connect(web);
                for round in 0..requests {
                    let answer = client.exchange(request(number + round));
                    assert_eq!((answer.status(), answer.text()), (200, "served".to_owned()));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn a_bound_on_connections_is_kept_over_all_workers(driver: Driver) {
    let seen = Seen::default();
    let origin = seen.origin();
    let lb = Setup::new(driver, bounded(3, &servers(&[("a", origin.address)]))).workers(4).start();
    // All of them wait for each other's connections, which change hands and are not made anew.
    load_of(lb.web(), 12, 100, |_| "GET /more HTTP/1.1\r\nHost: shop.example\r\n\r\n".to_owned());
    assert!((1..=3).contains(&origin.connections()), "{} connections in all", origin.connections());
    load(lb.web(), 12, 100);
    assert!((1..=3).contains(&seen.most()), "{} connections at once", seen.most());
    assert_eq!(lb.metric("lb_server_in_flight", &[]), 0.0);
    assert_eq!(lb.metric("lb_server_connections_max", &[]), 3.0);
    until("what is counted to be what is open", || {
        lb.metric("lb_server_connections_active", &[]) == seen.open() as f64
            && lb.metric("lb_server_connections_idle", &[]) == seen.open() as f64
            && lb.metric("lb_upstream_connections_active", &[]) == seen.open() as f64
    });
    let page = lb.admin_get("/servers").text();
    assert!(page.contains(&format!("{} of 3", seen.open())), "{page}");
    let page = lb.admin_get("/explain?url=http://shop.example/").text();
    assert!(page.contains(&format!("connections {} of 3", seen.open())), "{page}");
}

/// The one connection that there may be goes from worker to worker, and is not made anew each time.
fn idle_with_one_worker_serves_the_requests_of_all(driver: Driver) {
    let seen = Seen::default();
    let origin = seen.origin();
    let lb = Setup::new(driver, bounded(1, &servers(&[("a", origin.address)]))).workers(4).start();
    let busy = || {
        let of = |worker: u32| lb.metric("lb_worker_requests_total", &[&format!("worker=\"{worker}\"")]);
        (0..4).filter(|worker| of(*worker) > 0.0).count()
    };
    let mut clients = Vec::new();
    until("several workers to be asked", || {
        for _ in 0..8 {
            let mut client = ask(lb.web(), "/more");
            assert_eq!(client.response().status(), 200);
            clients.push(client);
        }
        busy() >= 3
    });
    for _ in 0..3 {
        for client in &mut clients {
            let answer = client.exchange("GET /more HTTP/1.1\r\nHost: shop.example\r\n\r\n");
            assert_eq!(answer.status(), 200);
        }
    }
    assert_eq!((origin.connections(), seen.most()), (1, 1));
    assert_eq!(lb.metric("lb_server_upstream_connects_total", &[]), 1.0);
}

fn who_waits_is_served_in_order(driver: Driver) {
    let seen = Seen::default();
    let (inner, order) = (seen.clone(), Arc::new(Mutex::new(Vec::new())));
    let came = Arc::clone(&order);
    let origin = Origin::scripted(move |conversation| {
        inner.came(conversation);
        while let Some(request) = conversation.request() {
            came.lock().unwrap().push(request.target().to_owned());
            inner.wait_inside();
            if conversation.write(ok("served")).is_err() {
                return;
            }
        }
    });
    let lb = Setup::new(driver, bounded(1, &servers(&[("a", origin.address)]))).workers(3).start();
    let mut clients = Vec::new();
    for number in 0..6 {
        clients.push(ask(lb.web(), &format!("/{number}")));
        match number {
            0 => seen.await_inside(1),
            waiting => await_queue(&lb, waiting),
        }
    }
    for (number, client) in clients.iter_mut().enumerate() {
        until("it to come", || order.lock().unwrap().len() == number + 1 && seen.inside() == 1);
        seen.answer_all();
        assert_eq!(client.response().status(), 200);
    }
    let wanted: Vec<String> = (0..6).map(|number| format!("/{number}")).collect();
    assert_eq!(*order.lock().unwrap(), wanted);
    assert_eq!((origin.connections(), seen.most()), (1, 1), "with the place goes the connection");
}

fn tunnels_count_and_let_in_who_waits(driver: Driver) {
    let seen = Seen::default();
    let inner = seen.clone();
    let origin = Origin::scripted(move |conversation| {
        inner.came(conversation);
        while let Some(request) = conversation.request() {
            let switches = request.target() == "/tunnel";
            let answer = match switches {
                true => {
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n".to_vec()
                }
                false => ok("served"),
            };
            if conversation.write(answer).is_err() {
                return;
            }
            if switches {
                conversation.until_closed();
                // What counts connections has a hold on it, too.
                let _ = conversation.wire().stream().shutdown(Shutdown::Both);
                return;
            }
        }
    });
    let lb = Setup::new(driver, bounded(2, &servers(&[("a", origin.address)]))).workers(2).start();
    let tunnel = || {
        let mut client = Client::connect(lb.web());
        client
            .send("GET /tunnel HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        assert_eq!(client.response().status(), 101);
        client
    };
    let (first, second) = (tunnel(), tunnel());
    assert_eq!(lb.metric("lb_server_connections_active", &[]), 2.0);
    assert_eq!(lb.metric("lb_server_connections_idle", &[]), 0.0);
    let mut waits = ask(lb.web(), "/waits");
    await_queue(&lb, 1);
    drop(first);
    assert_eq!(waits.response().status(), 200);
    drop(second);
    assert_eq!(get(lb.web(), "shop.example", "/after").status(), 200);
    assert_eq!(seen.most(), 2);
}

fn a_killed_server_takes_up_its_whole_bound_again(driver: Driver) {
    let seen = Seen::default();
    let origin = seen.origin();
    let address = origin.address;
    let lb = Setup::new(driver, bounded(2, &servers(&[("a", address)]))).workers(4).start();
    let mut clients: Vec<Client> = (0..8).map(|_| ask(lb.web(), "/held")).collect();
    seen.await_inside(2);
    await_queue(&lb, 6);
    origin.kill();
    drop(origin);
    for client in &mut clients {
        let status = client.response().status();
        assert!(matches!(status, 502 | 503), "{status}");
    }
    until("nothing to be counted", || lb.metric("lb_server_connections_active", &[]) == 0.0);
    seen.answer_all();
    let again = Seen::default();
    let inner = again.clone();
    let _origin = Origin::scripted_on(address, move |conversation| inner.serve(conversation));
    until("it to be served again", || get(lb.web(), "shop.example", "/more").status() == 200);
    let mut clients: Vec<Client> = (0..4).map(|_| ask(lb.web(), "/held")).collect();
    again.await_inside(2);
    await_queue(&lb, 2);
    again.answer_for_good();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    assert_eq!(again.most(), 2);
    load(lb.web(), 8, 50);
    assert_eq!(again.most(), 2);
}

fn a_lowered_bound_cuts_nothing_and_a_raised_one_lets_in(driver: Driver) {
    let seen = Seen::default();
    let origin = seen.origin();
    let rest = servers(&[("a", origin.address)]);
    let lb = Setup::new(driver, bounded(4, &rest)).workers(2).start();
    let hold = |count: usize| (0..count).map(|_| ask(lb.web(), "/held")).collect::<Vec<Client>>();
    let answered = |clients: Vec<Client>| {
        for mut client in clients {
            assert_eq!(client.response().status(), 200);
        }
    };
    // In use while it is lowered: they end in order, and are closed then.
    let held = hold(4);
    seen.await_inside(4);
    lb.reload(&bounded(1, &rest));
    assert_eq!((seen.open(), seen.inside()), (4, 4));
    seen.answer_all();
    answered(held);
    until("no more to be open than may be", || seen.open() == 1);
    assert_eq!(get(lb.web(), "shop.example", "/more").status(), 200);
    // Raised while they wait: they are let in.
    let held = hold(3);
    seen.await_inside(1);
    await_queue(&lb, 2);
    lb.reload(&bounded(3, &rest));
    seen.await_inside(3);
    seen.answer_all();
    answered(held);
    // Idle while it is lowered: closed at once.
    assert_eq!(seen.open(), 3);
    lb.reload(&bounded(2, &rest));
    until("what is too many to be closed", || seen.open() <= 2);
    // No bound, and one again, which knows what is open.
    lb.reload(&format!("[timeouts]\nidle_up = \"120s\"\n{rest}"));
    let held = hold(6);
    seen.await_inside(6);
    lb.reload(&bounded(5, &rest));
    assert_eq!(lb.metric("lb_server_connections_active", &[]), 6.0);
    let waits = hold(1);
    await_queue(&lb, 1);
    seen.answer_all();
    answered(held);
    seen.await_inside(1);
    seen.answer_all();
    answered(waits);
    until("no more to be open than may be", || seen.open() <= 5);
    assert_eq!(lb.metric("lb_server_connections_active", &[]), seen.open() as f64);
}

fn a_server_with_room_is_picked_before_one_without(driver: Driver) {
    let (small, large) = (Seen::default(), Seen::default());
    let (one, other) = (small.origin(), large.origin());
    let rest = servers(&[("small", one.address), ("large", other.address)])
        .replace("\" }]", "\", max_connections = 3 }]");
    let lb = Setup::new(driver, bounded(1, &rest)).workers(2).start();
    let mut clients: Vec<Client> = (0..4).map(|_| ask(lb.web(), "/held")).collect();
    small.await_inside(1);
    large.await_inside(3);
    let mut waits = ask(lb.web(), "/more");
    await_queue(&lb, 1);
    let page = lb.admin_get("/explain?url=http://shop.example/").text();
    assert!(page.contains("small is full with 1 of 1 in flight, connections 1 of 1"), "{page}");
    large.answer_for_good();
    assert_eq!(waits.response().status(), 200);
    assert_eq!(small.inside(), 1);
    small.answer_for_good();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    assert_eq!((small.most(), large.most()), (1, 3));
}

/// A Python server of two threads, each of which serves one connection until its end: a third connection would wait
/// until one of those is closed, which none is.
fn a_server_of_few_threads_serves_everybody(driver: Driver) {
    const SERVER: &str = r#"
import http.server, socket, sys, threading

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        last = self.path == "/last"
        head = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n" + ("Connection: close\r\n" if last else "") + "\r\n"
        self.wfile.write(head.encode() + b"served")
        self.close_connection = last
    do_GET = do_POST = answer

listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
def serve():
    while True:
        connection, peer = listener.accept()
        with connection:
            try:
                Handler(connection, peer, None)
            except ConnectionError:
                pass
threads = [threading.Thread(target=serve) for _ in range(2)]
[thread.start() for thread in threads]
"#;
    struct Python(Child);
    impl Drop for Python {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let address = unused_address();
    let words = [SERVER.to_owned(), address.ip().to_string(), address.port().to_string()];
    let python = Command::new("python3").arg("-c").args(words).stdin(Stdio::null()).spawn().unwrap();
    let _python = Python(python);
    until("the server to listen", || TcpStream::connect(address).is_ok());
    let lb = Setup::new(driver, bounded(2, &servers(&[("a", address)]))).workers(4).start();
    load(lb.web(), 8, 50);
    assert_eq!(lb.metric("lb_server_failures_total", &["kind=\"exchange\""]), 0.0);
    assert_eq!(lb.metric("lb_server_failures_total", &["kind=\"connect\""]), 0.0);
}
