//! One run: a network, servers, clients and a worker between them, and what must hold in the end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lb_core::spec::{
    Address, BackendSpec, Class, ClassesSpec, ListenerSpec, Policy, QueueSpec, RetryOn, RetrySpec, RouteSpec,
    ServerSpec, SigningKey, StickySpec, TimeoutsSpec,
};
use lb_core::{SecretKey, Spec, Table};
use lb_io::driver::{Driver, Socket};
use lb_io::metrics::{Metrics, Options};
use lb_io::sim::{Faults, Network, Random};
use lb_io::worker::siblings::Siblings;
use lb_io::worker::{Limits, Worker};

use super::client::Client;
use super::ledger::{End, SharedLedger};
use super::origin::Origin;
use super::script::{Again, BUSY, Flaw, Script};

/// Virtual time after which an exchange that has not ended never will: longer than any chain of timeouts.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);
/// Virtual time that the engine gets to close what is left when all clients are gone.
const AFTERWARDS: Duration = Duration::from_secs(200);
const TURN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Strict,
    Wild,
}

impl Kind {
    pub fn test_name(self) -> &'static str {
        match self {
            Kind::Strict => "every_request_is_answered_when_peers_behave",
            Kind::Wild => "nothing_is_mixed_or_leaked_whatever_happens",
        }
    }
}

/// What a seed makes of a run.
struct Scene {
    random: Random,
    network: Network,
    script: Script,
    ledger: SharedLedger,
    clients: u64,
    /// Nothing but the servers' flaws can spoil an exchange.
    calm: bool,
}

impl Scene {
    fn new(kind: Kind, seed: u64) -> Scene {
        let mut random = Random::new(seed.wrapping_mul(2).wrapping_add(u64::from(kind == Kind::Wild)));
        let calm = kind == Kind::Strict || random.chance(3_000);
        let faults = match kind {
            Kind::Strict if random.chance(2_000) => Faults::none(),
            Kind::Strict => Faults::invisible(&mut random),
            Kind::Wild if calm => Faults::invisible(&mut random),
            Kind::Wild => Faults::any(&mut random),
        };
        let window = random.pick(&[400, 3_000, 16_000, 64_000, 200_000]);
        let plans = random.bits();
        let script = Script {
            seed: plans,
            wild: kind == Kind::Wild,
            restless: !calm,
            direct: false,
            longest: if window < 10_000 { 10_000 } else { 300_000 },
            again: Again::of(plans),
        };
        let network = Network::with_window(random.bits(), faults.clone(), window);
        if std::env::var_os("LB_SIM_TRACE").is_some() {
            eprintln!("{faults:?}, windows of {window} bytes, {script:?}");
            network.trace();
        }
        let clients = random.pick(&[1, 2, 3, 4, 6, 20]);
        Scene { random, network, script, ledger: SharedLedger::default(), clients, calm }
    }

    fn spawn_clients(&mut self, target: SocketAddr) {
        for index in 0..self.clients {
            let random = self.random.split();
            let client = Client::new(index + 1, self.script, self.ledger.clone(), target, random);
            self.network.spawn(Box::new(client));
        }
    }

    fn spawn_origin(&mut self, address: SocketAddr) {
        let random = self.random.split();
        self.network.spawn(Box::new(Origin::new(self.script, self.ledger.clone(), address, random)));
    }

    /// What the peers saw go wrong, and what did not end.
    fn judge(&self, kind: Kind) -> Vec<String> {
        let ledger = self.ledger.open();
        let mut wrong = ledger.violations.clone();
        for (id, record) in &ledger.records {
            let plan = self.script.plan(*id);
            let fine = match record.end {
                None => false,
                Some(End::Answered | End::Excused) => true,
                Some(_) if kind == Kind::Strict => false,
                Some(end) if self.calm => is_due_to(plan.flaw, end),
                Some(End::Local(status)) => matches!(status, 408 | 502 | 503 | 504),
                Some(End::Closed | End::Left | End::Crossed) => true,
            };
            if !fine {
                wrong.push(format!(
                    "{} {id:x} ended as {:?}: {:x?}",
                    record.method,
                    record.end,
                    self.script.plan(*id)
                ));
            }
        }
        wrong
    }
}

/// Whether a server's flaw explains how an exchange ended. A server that closes while a request is on its
/// way explains a 502 at any time, and one that said something unasked whatever it says next.
fn is_due_to(flaw: Flaw, end: End) -> bool {
    match flaw {
        _ if end == End::Crossed => true,
        Flaw::Cut { .. } => matches!(end, End::Closed | End::Local(502)),
        _ => matches!(end, End::Local(502 | 504)),
    }
}

/// The clients and one server, without the engine.
pub fn without_engine(seed: u64) -> Vec<String> {
    let mut scene = Scene::new(Kind::Strict, seed);
    let address: SocketAddr = "203.0.113.10:80".parse().expect("an address");
    scene.script.direct = true;
    scene.spawn_origin(address);
    scene.spawn_clients(address);
    let driver = scene.network.driver();
    let mut events = Vec::new();
    while !scene.network.actors_are_done() && scene.network.now() < PATIENCE {
        if driver.turn(Some(TURN), &mut events).is_err() || !events.is_empty() {
            return vec![format!("a driver without connections had events: {events:?}")];
        }
    }
    let mut wrong = scene.network.unfinished();
    wrong.extend(scene.judge(Kind::Strict));
    wrong
}

/// How a run went.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was violated.
    pub wrong: Vec<String>,
    /// Virtual time at the end.
    pub ended_at: Duration,
    /// How often requests ended how.
    pub ends: BTreeMap<String, usize>,
    /// Attempts that were not the first of their exchange.
    pub retries: u64,
}

impl Outcome {
    fn failed(what: String) -> Outcome {
        Outcome { wrong: vec![what], ..Outcome::default() }
    }
}

/// One seed.
pub fn run(kind: Kind, seed: u64) -> Outcome {
    let mut scene = Scene::new(kind, seed);
    let servers: Vec<SocketAddr> =
        (0..1 + scene.random.below(3)).map(|i| SocketAddr::from(([10, 0, 0, 1 + i as u8], 80))).collect();
    let front: SocketAddr = "203.0.113.10:80".parse().expect("an address");
    let (calm, again) = (scene.calm, scene.script.again);
    let table = Arc::new(Table::new(snapshot(&mut scene.random, &servers, calm, again), None));
    let names: Arc<[Box<str>]> = Arc::from(vec![Box::from("web")]);
    let limits = limits(scene.calm, &mut scene.random);
    let count = scene.random.pick(&[1, 1, 1, 2, 4]);
    let metrics = Metrics::new(count, &names, Options::default());
    let published = metrics.publish(&table.snapshot);
    let siblings = Siblings::of(count);
    let queues = Arc::clone(siblings[0].queues());
    let workers: Vec<_> = siblings
        .into_iter()
        .enumerate()
        .map(|(number, siblings)| {
            let driver = Box::new(scene.network.driver());
            let recorder = metrics.recorder(number, &published);
            let seed = [(seed as u8).wrapping_add(number as u8); 16];
            let worker = Worker::new(driver, Arc::clone(&table), &names, limits, recorder, None, seed);
            worker.join(siblings);
            let listening = Socket::Simulated(scene.network.listening(front));
            worker.listen(listening, 0).expect("the simulated listener is taken");
            worker
        })
        .collect();
    for address in servers {
        scene.spawn_origin(address);
    }
    scene.spawn_clients(front);

    let mut wrong = Vec::new();
    let mut reload_at =
        (scene.random.chance(2_000)).then(|| Duration::from_millis(scene.random.below(5_000)));
    let drain_at =
        (!scene.calm && scene.random.chance(1_000)).then(|| Duration::from_millis(scene.random.below(5_000)));
    let (mut table, mut reloaded) = (table, false);
    let first_table = Arc::clone(&table);
    while !scene.network.actors_are_done() {
        if let Err(error) = turn(&workers, &scene.network) {
            return Outcome::failed(format!("the driver failed: {error}"));
        }
        // A bound that a reload has lowered is reached when what was under way has ended.
        if !reloaded {
            wrong.extend(too_busy(&table, &scene.network));
        }
        if scene.network.now() > PATIENCE {
            wrong.extend(scene.network.unfinished());
            break;
        }
        if drain_at.is_some_and(|at| at <= scene.network.now()) {
            workers.iter().for_each(|worker| worker.drain());
        }
        if reload_at.is_some_and(|at| at <= scene.network.now()) {
            (reload_at, reloaded) = (None, true);
            let servers = [SocketAddr::from(([10, 0, 0, 1], 80))];
            let snapshot = snapshot(&mut scene.random, &servers, calm, again);
            table = Arc::new(Table::new(snapshot, Some(&table)));
            let published = metrics.publish(&table.snapshot);
            for (number, worker) in workers.iter().enumerate() {
                worker.publish(Arc::clone(&table), published.for_worker(number));
            }
        }
    }
    // Nobody is left: faults end, and so must everything that the engine still holds for the clients.
    scene.network.set_faults(Faults::none());
    let until = scene.network.now() + AFTERWARDS;
    while scene.network.now() < until && wrong.is_empty() {
        if let Err(error) = turn(&workers, &scene.network) {
            return Outcome::failed(format!("the driver failed: {error}"));
        }
    }
    for worker in &workers {
        if worker.is_draining() && wrong.is_empty() && !worker.is_drained() {
            wrong.push("not drained when everybody has left".to_owned());
        }
    }
    wrong.extend(scene.judge(kind));
    let held = scene.network.held();
    if !held.attached.is_empty() || held.unattached > 0 {
        wrong.push(format!("still open when everybody has left: {held:?}"));
    }
    wrong.extend(left_over(&metrics, &[&first_table, &table]));
    let waiting: u32 = queues.all().iter().map(|(_, queue)| queue.waiting()).sum();
    if waiting > 0 {
        wrong.push(format!("{waiting} requests wait when everybody has left"));
    }
    wrong.extend(uncounted(&scene, &metrics));
    workers.iter().for_each(|worker| worker.stop());
    drop(workers);
    let held = scene.network.held();
    if held != Default::default() {
        wrong.push(format!("still held by a worker that was dropped: {held:?}"));
    }
    let mut ends = BTreeMap::new();
    for record in scene.ledger.open().records.values() {
        *ends.entry(format!("{:?}", record.end)).or_default() += 1;
    }
    let retries = metrics.workers().map(|worker| worker.counters.retries.get()).sum();
    Outcome { wrong, ended_at: scene.network.now(), ends, retries }
}

/// One turn of each worker. Virtual time passes in one worker's turn for all, so none sleeps past another's timers.
pub fn turn(workers: &[Rc<Worker>], network: &Network) -> std::io::Result<()> {
    let left = |worker: &Rc<Worker>| (worker.now() + worker.wait_for(TURN)).saturating_sub(network.now());
    workers.iter().try_for_each(|worker| worker.turn(workers.iter().map(left).min().unwrap_or(TURN)))
}

fn limits(calm: bool, random: &mut Random) -> Limits {
    let mut limits = Limits::default();
    if !calm && random.chance(2_000) {
        limits.connections = 1 + random.index(3);
    }
    if !calm && random.chance(1_000) {
        limits.buffer_bytes = random.pick(&[200_000, 1_000_000]);
    }
    limits.class_turn = Duration::from_micros(random.pick(&[1, 2, 5, 200]));
    limits
}

/// Routes by method, each of some class.
fn routes(random: &mut Random) -> Vec<RouteSpec> {
    let route = |methods: &[&str]| RouteSpec {
        name: methods.first().map_or("others", |method| method).to_owned(),
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        backend: Some("servers".to_owned()),
        class: random.pick(&Class::ALL),
        ..RouteSpec::default()
    };
    [&["GET"][..], &["POST", "PUT"], &[]].map(route).into()
}

fn snapshot(random: &mut Random, servers: &[SocketAddr], calm: bool, again: Again) -> lb_core::Snapshot {
    let max_requests = random.chance(3_000).then(|| random.pick(&[1, 1, 2, 5]));
    let max_connections = random.chance(3_000).then(|| random.pick(&[1, 1, 2, 3, 5]));
    let bounded = random.index(servers.len() + 1);
    let servers = servers.iter().enumerate().map(|(i, &address)| ServerSpec {
        max_requests,
        // Of all, or of some.
        max_connections: max_connections.filter(|_| i <= bounded),
        name: format!("s{i}"),
        address: Address::Literal(address),
        ..ServerSpec::default()
    });
    let backend = BackendSpec {
        name: "servers".to_owned(),
        balance: random.pick(&[Policy::RoundRobin, Policy::LeastRequest]),
        sticky: random.chance(2_000).then(StickySpec::default),
        servers: servers.collect(),
        // Where peers behave, each request has its turn some day.
        queue: max_requests
            .or(max_connections)
            .map(|_| QueueSpec { timeout: Duration::from_secs(1800), ..QueueSpec::default() }),
        ..BackendSpec::default()
    };
    let mut classes = ClassesSpec { silver: random.pick(&[1, 10, 100]), ..ClassesSpec::default() };
    if !calm && random.chance(2_000) {
        classes.waiting = 1;
    }
    let mut spec = Spec {
        classes,
        listeners: vec![ListenerSpec { name: "web".to_owned(), ..ListenerSpec::default() }],
        routes: routes(random),
        backends: vec![backend],
        retry: retry(again),
        timeouts: TimeoutsSpec { tunnel_idle: Some(Duration::from_secs(120)), ..TimeoutsSpec::default() },
        ..Spec::default()
    };
    spec.secrets.share = Some(SecretKey::new([7; 16]));
    spec.secrets.signing = vec![SigningKey { id: "a".to_owned(), key: SecretKey::new([8; 16]) }];
    lb_core::compile(&spec).expect("the spec is sound").snapshot
}

fn retry(again: Again) -> RetrySpec {
    let mut on = vec![RetryOn::Connect, RetryOn::Closed];
    if again.on_busy {
        on.push(RetryOn::Statuses(BUSY..=BUSY));
    }
    RetrySpec {
        retries: Some(again.retries),
        budget_percent: Some(100),
        on: Some(on),
        attempt_timeout: again.attempt_timeout_ms.map(Duration::from_millis),
        backoff: Some(Duration::from_millis(again.backoff_ms)),
        hold_body: Some(again.hold_body),
        non_idempotent: again.posts.then(|| vec!["POST".to_owned()]),
        ..RetrySpec::default()
    }
}

/// What the engine's own numbers say is still in use.
fn left_over(metrics: &Metrics, tables: &[&Table]) -> Vec<String> {
    let mut wrong = Vec::new();
    let (arms, servers) = (metrics.arms(), metrics.servers());
    let mut in_use = vec![
        ("exchanges of arms", arms.iter().map(|(_, arm)| arm.active).sum()),
        ("attempts at servers", servers.iter().map(|(_, server)| server.active).sum()),
    ];
    for worker in metrics.workers() {
        let counters = &worker.counters;
        in_use.extend([
            ("client connections", worker.of_listeners(|listener| &listener.active)),
            ("exchanges of listeners", worker.of_listeners(|listener| &listener.exchanges)),
            ("server connections", counters.upstream_active.get()),
            ("idle server connections", counters.upstream_idle.get()),
            ("tunnels", counters.tunnels.get()),
            ("waiting client connections", counters.held.get()),
            ("bytes of buffers", counters.buffer_bytes.get()),
            ("waiting requests", counters.classes.iter().map(|class| class.waiting.get()).sum()),
        ]);
    }
    for (what, count) in in_use {
        if count != 0 {
            wrong.push(format!("{count} {what} when everybody has left"));
        }
    }
    for server in tables.iter().flat_map(|table| table.live.servers()) {
        if server.in_flight() != 0 {
            wrong.push(format!("{} permits of {} not finished", server.in_flight(), server.name()));
        }
        if server.connections() != 0 {
            wrong.push(format!("{} connections to {} counted", server.connections(), server.name()));
        }
    }
    wrong
}

/// Servers that have more than they may, or of whose connections another number is known than there are.
fn too_busy(table: &Table, network: &Network) -> Vec<String> {
    let mut wrong = Vec::new();
    for server in table.live.servers() {
        let in_flight = server.in_flight();
        if server.max_requests().is_some_and(|most| in_flight > most) {
            wrong.push(format!("{} has {in_flight} requests in flight", server.name()));
        }
        let Some(most) = server.max_connections() else { continue };
        let open = network.engine_connections_to(server.address());
        if open > most as usize {
            wrong.push(format!("{open} connections to {} are open", server.name()));
        }
        if server.connections() as usize != open {
            wrong.push(format!("{open} connections to {} count as {}", server.name(), server.connections()));
        }
    }
    wrong
}

/// Every exchange is counted once: each answer that a client got, and none that nobody asked for.
fn uncounted(scene: &Scene, metrics: &Metrics) -> Vec<String> {
    let ledger = scene.ledger.open();
    let (mut statuses, mut replies) = (BTreeMap::new(), BTreeMap::new());
    for worker in metrics.workers() {
        for (status, count) in worker.statuses() {
            *statuses.entry(status).or_insert(0) += count;
        }
        for (word, count) in worker.local_replies() {
            *replies.entry(word).or_insert(0) += count;
        }
    }
    let counted: u64 = statuses.values().sum();
    let answered = ledger
        .records
        .values()
        .filter(|record| matches!(record.end, Some(End::Answered | End::Local(_))))
        .count();
    // Without memory to read into, what comes on an idle connection is taken for a request though it may be
    // the client's end.
    let overloaded = replies.get("overloaded").copied().unwrap_or(0);
    let sent = ledger.records.len() as u64;
    if counted < answered as u64 || counted > sent + overloaded {
        return vec![format!(
            "{counted} exchanges counted ({statuses:?}, {replies:?}); {sent} requests sent, {answered} answered"
        )];
    }
    // The arms' numbers are the listeners'.
    let by_arm: u64 = metrics.arms().iter().map(|(_, arm)| arm.requests.values().sum::<u64>()).sum();
    if by_arm != counted {
        return vec![format!("{counted} exchanges counted for listeners and {by_arm} for arms")];
    }
    Vec::new()
}
