//! A flood on one class and a few requests of another: who waits how long, in virtual time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_core::spec::{BackendSpec, Class, ClassesSpec, ListenerSpec, PathMatch, RouteSpec, ServerSpec};
use lb_core::{Spec, Table};
use lb_io::driver::Socket;
use lb_io::metrics::{Metrics, Options};
use lb_io::sim::{Actor, Context, EndpointId, Faults, Network, Read};
use lb_io::worker::{Limits, Worker};

/// Clients of the flood, and of the class beside it.
const MANY: usize = 1_500;
const FEW: usize = 10;
/// Requests of each, on one connection.
const REQUESTS: u32 = 4;
/// From one moment at which all ask to the next.
const BETWEEN: Duration = Duration::from_millis(300);
/// A turn of a worker that has more to do takes so long here, and runs one task.
const TURN: Duration = Duration::from_micros(1);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Answers whatever it is asked.
struct Desk {
    address: SocketAddr,
    listening: bool,
    connections: Vec<(EndpointId, Vec<u8>)>,
}

impl Actor for Desk {
    fn step(&mut self, context: &mut Context<'_>) {
        if !std::mem::replace(&mut self.listening, true) {
            context.listen(self.address);
        }
        while let Some(connection) = context.accept() {
            self.connections.push((connection, Vec::new()));
        }
        self.connections.retain_mut(|(connection, got)| match context.read(*connection, 1 << 16) {
            Read::Bytes(bytes) => {
                got.extend(bytes);
                if got.ends_with(b"\r\n\r\n") {
                    got.clear();
                    context.send(*connection, ANSWER);
                }
                true
            }
            Read::Pending => true,
            Read::End | Read::Broken => {
                context.close(*connection, false);
                false
            }
        });
    }

    fn is_done(&self) -> bool {
        true
    }
}

/// Asks one thing after the other, all at the same moments.
struct Asker {
    target: SocketAddr,
    class: Class,
    left: u32,
    connection: Option<EndpointId>,
    asked: bool,
    next_at: Duration,
    got: Vec<u8>,
}

impl Actor for Asker {
    fn step(&mut self, context: &mut Context<'_>) {
        let target = self.target;
        let connection = *self.connection.get_or_insert_with(|| context.connect(target));
        match context.read(connection, 1 << 16) {
            Read::Bytes(bytes) => {
                self.got.extend(bytes);
                if self.got.ends_with(b"\r\n\r\nok") {
                    assert!(self.got.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&self.got));
                    assert!(std::mem::take(&mut self.asked), "an answer to no question");
                    self.left -= 1;
                    self.got.clear();
                }
            }
            Read::Pending => {}
            Read::End | Read::Broken => panic!("a connection was ended on a client that asked in order"),
        }
        if self.left == 0 || self.asked {
            return;
        }
        if context.now() < self.next_at {
            return context.wake_at(self.next_at);
        }
        let request = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", self.class.word());
        // While it is being connected nothing goes.
        if context.send(connection, request.as_bytes()) > 0 {
            (self.asked, self.next_at) = (true, self.next_at + BETWEEN);
        }
    }

    fn is_done(&self) -> bool {
        self.left == 0
    }

    fn describe(&self) -> String {
        format!("a client of {} with {} requests to go", self.class.word(), self.left)
    }
}

fn spec(server: SocketAddr) -> Spec {
    let route = |class: Class| RouteSpec {
        path: PathMatch::Prefix(format!("/{}", class.word())),
        class,
        ..RouteSpec::new(class.word(), "app")
    };
    Spec {
        listeners: vec![ListenerSpec { name: "web".to_owned(), ..ListenerSpec::default() }],
        routes: Class::ALL.map(route).into(),
        backends: vec![BackendSpec::new("app", [ServerSpec::new("a", server)])],
        ..Spec::default()
    }
}

/// How many requests of the flood waited at once at most, and how long those beside it all together.
fn flood(seed: u64, many: Class, few: Class) -> (u64, Duration) {
    let network = Network::with_window(seed, Faults::none(), 64_000);
    let (server, front) = (SocketAddr::from(([10, 0, 0, 1], 80)), SocketAddr::from(([203, 0, 113, 10], 80)));
    let table = Arc::new(Table::new(lb_core::compile(&spec(server)).unwrap().snapshot, None));
    let names: Arc<[Box<str>]> = Arc::from(["web".into()]);
    let metrics = Metrics::new(1, &names, Options::default());
    let recorder = metrics.recorder(0, &metrics.publish(&table.snapshot));
    let limits = Limits { class_turn: TURN, ..Limits::default() };
    let worker =
        Worker::new(Box::new(network.driver()), table, &names, limits, recorder, None, [seed as u8; 16]);
    worker.listen(Socket::Simulated(network.listening(front)), 0).unwrap();
    network.spawn(Box::new(Desk { address: server, listening: false, connections: Vec::new() }));
    for (class, clients) in [(many, MANY), (few, FEW)] {
        for _ in 0..clients {
            network.spawn(Box::new(Asker {
                target: front,
                class,
                left: REQUESTS,
                connection: None,
                asked: false,
                next_at: Duration::ZERO,
                got: Vec::new(),
            }));
        }
    }
    let series = metrics.workers().next().expect("one worker");
    let of = |class: Class| &series.counters.classes[class as usize];
    let mut crowd = 0;
    while !network.actors_are_done() {
        worker.turn(Duration::from_secs(1)).unwrap();
        crowd = of(many).waiting.get().max(crowd);
        assert!(network.now() < Duration::from_secs(60), "{:?}", network.unfinished());
    }
    assert_eq!(series.statuses(), [(200, u64::from(REQUESTS) * (MANY + FEW) as u64)].into());
    worker.stop();
    (crowd, Duration::from_micros(of(few).waited_us.get()))
}

/// Each request waits at most for what its own class has to do, at the pace of that class's share, however large a flood on
/// another class is; and nothing of the flood is lost.
#[test]
fn a_flood_on_one_class_keeps_no_other_waiting() {
    let shares = ClassesSpec::default();
    let all = Class::ALL.map(|class| shares.share(class)).iter().sum::<u32>() + shares.gold;
    for seed in 0..4 {
        for (many, few) in
            [(Class::Silver, Class::Platinum), (Class::Platinum, Class::Silver), (Class::Gold, Class::Silver)]
        {
            let tasks = (FEW as u32 + 1) * all.div_ceil(shares.share(few)) + 4;
            let bound = REQUESTS * FEW as u32 * tasks * TURN;
            let (crowd, waited) = flood(seed, many, few);
            let what = format!("seed {seed}: {few:?} beside a flood of {many:?}");
            assert!(waited <= bound, "{what} waited {waited:?}, at most {bound:?}");
            assert!(crowd > 300, "{what}: {crowd} are no crowd");
        }
    }
}
