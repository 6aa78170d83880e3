//! What is counted belongs to names, outlives reloads, leaves when nobody writes it any more, and is the same on one
//! worker and on many.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lb_core::actions::{Actions, Reply};
use lb_core::spec::{
    Address, BackendSpec, CanarySpec, ListenerSpec, RouteSpec, SecretKey, Secrets, ServerSpec, Share,
    SigningKey, Spec,
};
use lb_core::{ArmIndex, BackendIndex, Outcome, RouteIndex, ServerIndex, Snapshot};
use lb_io::metrics::meter::{End, count_unread};
use lb_io::metrics::read::{ArmKey, ArmTotals, BackendTotals, ServerTotals};
use lb_io::metrics::registry::{NO_ARM, WorkerPlaces};
use lb_io::metrics::{Meter, Metrics, Options, Published, Recorder};
use lb_io::reason;
use proptest::prelude::*;

const FIRST: RouteIndex = RouteIndex(0);
const CANARY: ArmIndex = ArmIndex(1);

fn backend(name: &str, servers: &[&str]) -> BackendSpec {
    let server = |name: &&str| ServerSpec {
        name: (*name).into(),
        address: Address::Literal(SocketAddr::from(([10, 0, 0, 1], 80 + u16::from(name.as_bytes()[0])))),
        ..ServerSpec::default()
    };
    BackendSpec { name: name.into(), servers: servers.iter().map(server).collect(), ..BackendSpec::default() }
}

/// Route `shop` leads to `old` (with these servers) and by 10 % to `new`; `hello` answers by itself.
fn snapshot(old: &[&str], has_canary: bool) -> Snapshot {
    let canary = CanarySpec {
        backend: "new".into(),
        share: "10%".parse::<Share>().unwrap(),
        cookie: Some("canary".into()),
        release: "1".into(),
        ..CanarySpec::default()
    };
    let spec = Spec {
        secrets: Secrets {
            signing: vec![SigningKey { id: "a".into(), key: SecretKey::new([1; 16]) }],
            share: Some(SecretKey::new([2; 16])),
        },
        listeners: vec![ListenerSpec { name: "web".into(), ..ListenerSpec::default() }],
        routes: vec![
            RouteSpec {
                name: "shop".into(),
                hosts: vec!["shop.test".into()],
                backend: Some("old".into()),
                canary: has_canary.then_some(canary),
                ..RouteSpec::default()
            },
            RouteSpec {
                name: "hello".into(),
                actions: Actions {
                    reply: Some(Reply { status: Some(200), ..Reply::default() }),
                    ..Actions::default()
                },
                ..RouteSpec::default()
            },
        ],
        backends: vec![backend("old", old), backend("new", &["n"])],
        ..Spec::default()
    };
    lb_core::compile(&spec).expect("the spec is valid").snapshot
}

fn metrics(workers: usize, options: Options) -> Metrics {
    Metrics::new(workers, &Arc::from(["web".into()]), options)
}

/// One exchange that a server answers after these times.
#[derive(Debug, Clone)]
struct Exchange {
    arm: ArmIndex,
    server: u32,
    status: u16,
    reused: bool,
    failed_before: bool,
    connect_us: u64,
    wait_us: u64,
    transfer_us: u64,
    bytes: u64,
}

impl Exchange {
    fn usual() -> Exchange {
        Exchange {
            arm: ArmIndex::STABLE,
            server: 0,
            status: 200,
            reused: true,
            failed_before: false,
            connect_us: 0,
            wait_us: 1000,
            transfer_us: 10,
            bytes: 100,
        }
    }

    fn begin(&self, recorder: &Recorder, now: Duration) -> Meter {
        let layout = recorder.layout();
        let (arm, server) = (layout.arm(FIRST, self.arm), layout.server(ServerIndex(self.server)));
        let mut meter = Meter::begin(recorder, 0, arm, now);
        if self.failed_before {
            meter.picked(recorder, arm, server, now);
            meter.finished(recorder, Outcome::ConnectFailed, 0, 0);
        }
        meter.picked(recorder, arm, server, now);
        meter
    }

    fn go_on(&self, recorder: &Recorder, mut meter: Meter, mut now: Duration) {
        now += Duration::from_micros(self.connect_us);
        meter.connected(recorder, self.reused, now);
        now += Duration::from_micros(self.wait_us);
        meter.answered(recorder, self.status, now);
        meter.finished(recorder, Outcome::Responded { status: self.status }, self.bytes, 2 * self.bytes);
        now += Duration::from_micros(self.transfer_us);
        let reason = (self.status == 504).then_some(reason::RESPONSE_TIMEOUT);
        let end = End { status: self.status, reason, bytes_received: self.bytes, bytes_sent: 3 * self.bytes };
        let phases = meter.end(recorder, &end, now);
        assert_eq!(phases.connect_us, Some(self.connect_us));
        assert_eq!((phases.wait_us, phases.transfer_us), (Some(self.wait_us), Some(self.transfer_us)));
        assert_eq!(phases.total_us, self.connect_us + self.wait_us + self.transfer_us);
    }

    fn record(&self, recorder: &Recorder) {
        let now = Duration::from_secs(7);
        self.go_on(recorder, self.begin(recorder, now), now);
    }
}

fn arm(metrics: &Metrics, route: &str, name: &str) -> Option<ArmTotals> {
    let arms = metrics.arms();
    arms.into_iter().find(|(key, _)| (&*key.route, key.arm) == (route, name)).map(|(_, totals)| totals)
}

fn server(metrics: &Metrics, name: &str) -> Option<ServerTotals> {
    let servers = metrics.servers();
    servers.into_iter().find(|(key, _)| &*key.name == name).map(|(_, totals)| totals)
}

fn published(metrics: &Metrics, old: &[&str], has_canary: bool) -> Published {
    metrics.publish(&snapshot(old, has_canary))
}

#[test]
fn an_exchange_is_counted_once_everywhere() {
    let metrics = metrics(1, Options::default());
    let recorder = metrics.recorder(0, &published(&metrics, &["a", "b"], true));
    let exchange = Exchange { connect_us: 300, reused: false, failed_before: true, ..Exchange::usual() };
    exchange.record(&recorder);
    let arm = arm(&metrics, "shop", "stable").unwrap();
    assert_eq!((arm.active, arm.attempts, arm.retries), (0, 2, 1));
    assert_eq!((&arm.requests, &arm.local_replies), (&[(200, 1)].into(), &[].into()));
    assert_eq!((arm.bytes_received, arm.bytes_sent), (100, 300));
    let sums = [&arm.exchange, &arm.connect, &arm.wait, &arm.transfer].map(|times| times.sum_us());
    assert_eq!(sums, [1310, 300, 1000, 10]);
    let counts = [&arm.exchange, &arm.connect, &arm.wait, &arm.transfer].map(|times| times.count());
    assert_eq!(counts, [1; 4]);
    let server = server(&metrics, "a").unwrap();
    assert_eq!((server.active, server.connects, server.reuses, server.retries), (0, 1, 0, 1));
    assert_eq!((server.begun, server.connect_failures, server.failures), (2, 1, 0));
    assert_eq!((server.bytes_sent, server.bytes_received), (100, 200));
    assert_eq!((server.attempt.count(), server.attempt.sum_us(), server.connect_us), (1, 1300, 300));
    let worker = metrics.workers().next().unwrap();
    let listener = &worker.listeners[0];
    assert_eq!(listener.statuses.seen().collect::<Vec<_>>(), [(200, 1)]);
    assert_eq!((listener.exchanges.get(), listener.bytes_sent.get()), (0, 300));
    assert_eq!((worker.counters.attempts.get(), worker.counters.retries.get()), (2, 1));
}

#[test]
fn what_has_no_arm_is_counted_for_none() {
    let metrics = metrics(1, Options::default());
    let recorder = metrics.recorder(0, &published(&metrics, &["a"], true));
    let end = End { status: 499, reason: Some(reason::CLIENT_LEFT), bytes_received: 0, bytes_sent: 0 };
    count_unread(&recorder, 0, &end);
    let meter = Meter::begin(&recorder, 0, NO_ARM, Duration::ZERO);
    let no_route = reason::Reason::of_request(404, "no_route");
    meter.end(&recorder, &End { status: 404, reason: Some(no_route), ..end }, Duration::from_micros(5));
    let hello = recorder.layout().arm(RouteIndex(1), ArmIndex::STABLE);
    let meter = Meter::begin(&recorder, 0, hello, Duration::ZERO);
    meter.end(&recorder, &End { status: 200, reason: None, ..end }, Duration::from_micros(5));
    let none = arm(&metrics, "", "").unwrap();
    assert_eq!(none.requests, [(404, 1), (499, 1)].into());
    assert_eq!(none.local_replies, [("client_left", 1), ("no_route", 1)].into());
    assert_eq!(none.exchange.count(), 1, "who left before the head was complete has no time");
    assert_eq!(arm(&metrics, "hello", "").unwrap().requests, [(200, 1)].into());
    let listener = &metrics.workers().next().unwrap().listeners[0];
    assert_eq!(listener.statuses.seen().collect::<Vec<_>>(), [(200, 1), (404, 1), (499, 1)]);
}

#[test]
fn tunnels_and_servers_that_hang() {
    let metrics = metrics(1, Options::default());
    let recorder = metrics.recorder(0, &published(&metrics, &["a"], true));
    Exchange { status: 101, transfer_us: 3_600_000_000, ..Exchange::usual() }.record(&recorder);
    let stable = arm(&metrics, "shop", "stable").unwrap();
    assert_eq!((stable.requests, stable.wait.count()), ([(101, 1)].into(), 1));
    assert_eq!((stable.exchange.count(), stable.transfer.count()), (0, 0), "an hour is no response time");
    let exchange = Exchange::usual();
    let mut meter = exchange.begin(&recorder, Duration::ZERO);
    meter.connected(&recorder, true, Duration::ZERO);
    meter.given_up(&recorder, Duration::from_secs(30));
    meter.finished(&recorder, Outcome::Failed, 10, 0);
    let reason = Some(reason::RESPONSE_TIMEOUT);
    let end = End { status: 504, reason, bytes_received: 10, bytes_sent: 20 };
    meter.end(&recorder, &end, Duration::from_secs(30));
    let stable = arm(&metrics, "shop", "stable").unwrap();
    assert_eq!(stable.wait.sum_us(), 30_001_000);
    let server = server(&metrics, "a").unwrap();
    assert_eq!((server.attempt.sum_us(), server.failures), (30_001_000, 1));
    assert_eq!(stable.local_replies, [("response_timeout", 1)].into());
}

#[test]
fn counts_outlive_reloads_and_leave_with_their_last_exchange() {
    let metrics = metrics(2, Options::default());
    let first = published(&metrics, &["a", "b"], true);
    let recorders = [metrics.recorder(0, &first), metrics.recorder(1, &first)];
    drop(first);
    let on_canary = Exchange { arm: CANARY, server: 2, ..Exchange::usual() };
    for recorder in &recorders {
        Exchange::usual().record(recorder);
        on_canary.record(recorder);
    }
    let under_way = on_canary.begin(&recorders[1], Duration::ZERO);

    // The canary ends, b leaves and c comes. The second worker is slow to take it up.
    let second = published(&metrics, &["a", "c"], false);
    recorders[0].adopt(second.for_worker(0));
    Exchange::usual().record(&recorders[0]);
    assert_eq!(arm(&metrics, "shop", "stable").unwrap().requests, [(200, 3)].into());
    assert_eq!(server(&metrics, "a").unwrap().responses, [(200, 3)].into());
    assert!(server(&metrics, "b").is_some(), "somebody may still decide by the first table");
    let totals = metrics.backends();
    recorders[1].adopt(second.for_worker(1));
    drop(second);
    assert!(server(&metrics, "b").is_none());
    assert!(server(&metrics, "c").is_some());
    let canary = arm(&metrics, "shop", "canary").expect("an exchange of it is under way");
    assert_eq!((canary.active, canary.requests), (1, [(200, 2)].into()));

    on_canary.go_on(&recorders[1], under_way, Duration::ZERO);
    assert!(arm(&metrics, "shop", "canary").is_none());
    // The backend of the canary is still there, and so is all that was counted for it.
    let after = metrics.backends();
    assert_eq!(after["new"].arms.requests, [(200, 3)].into());
    assert_eq!(after["new"].arms.exchange.count(), 3);
    assert_eq!(after["new"].arms.active, 0);
    assert_eq!(after["old"], totals["old"]);

    // It begins anew if it comes back.
    let third = published(&metrics, &["a", "b"], true);
    assert_eq!(arm(&metrics, "shop", "canary").unwrap(), ArmTotals::default());
    assert_eq!(server(&metrics, "b").unwrap(), ServerTotals::default());
    recorders[0].adopt(third.for_worker(0));
    on_canary.record(&recorders[0]);
    assert_eq!(arm(&metrics, "shop", "canary").unwrap().requests, [(200, 1)].into());
    assert_eq!(metrics.backends()["new"].arms.requests, [(200, 4)].into());
}

#[test]
fn what_is_not_told_apart_is_counted_per_backend() {
    let metrics = metrics(1, Options { routes: false, servers: false, ..Options::default() });
    let recorder = metrics.recorder(0, &published(&metrics, &["a", "b"], true));
    Exchange::usual().record(&recorder);
    Exchange { server: 1, ..Exchange::usual() }.record(&recorder);
    Exchange { arm: CANARY, server: 2, ..Exchange::usual() }.record(&recorder);
    let arms: Vec<(String, u64)> = metrics
        .arms()
        .into_iter()
        .map(|(ArmKey { route, arm, backend }, totals)| {
            (format!("{route}/{arm}/{backend}"), totals.exchange.count())
        })
        .collect();
    assert_eq!(arms, [("//".into(), 0), ("//old".into(), 2), ("//new".into(), 1)]);
    let servers: Vec<_> = metrics.servers().into_iter().map(|(key, totals)| (key, totals.reuses)).collect();
    assert_eq!(servers.len(), 2);
    assert!(servers.iter().all(|(key, _)| key.name.is_empty() && key.address.is_none()));
    assert_eq!(servers.iter().map(|(_, reuses)| reuses).sum::<u64>(), 3);
}

#[test]
fn servers_beyond_the_bound_are_counted_per_backend() {
    let metrics = metrics(1, Options { servers_max: 3, ..Options::default() });
    let recorder = metrics.recorder(0, &published(&metrics, &["c", "d"], true));
    let named = |metrics: &Metrics| {
        let keys = metrics.servers().into_iter().map(|(key, _)| format!("{}/{}", key.backend, key.name));
        let mut names: Vec<String> = keys.collect();
        names.sort();
        names
    };
    assert_eq!(named(&metrics), ["new/n", "old/c", "old/d"]);
    Exchange::usual().record(&recorder);
    // Those that were told apart go on being so, whoever comes before them in the file.
    let more = published(&metrics, &["a", "b", "c", "d"], true);
    recorder.adopt(more.for_worker(0));
    assert_eq!(named(&metrics), ["new/n", "old/", "old/c", "old/d"]);
    for place in 0..4 {
        Exchange { server: place, ..Exchange::usual() }.record(&recorder);
    }
    let reuses = |name: &str| {
        let servers = metrics.servers().into_iter();
        servers.filter(|(key, _)| &*key.name == name).map(|(_, totals)| totals.reuses).sum::<u64>()
    };
    assert_eq!((reuses(""), reuses("c"), reuses("d")), (2, 2, 1));
    assert_eq!(metrics.backends()["old"].servers.reuses, 5);
    // Where one leaves there is room for another.
    let fewer = published(&metrics, &["a", "b", "d"], true);
    recorder.adopt(fewer.for_worker(0));
    drop(more);
    assert_eq!(named(&metrics), ["new/n", "old/", "old/a", "old/d"]);
    assert_eq!(metrics.backends()["old"].servers.reuses, 5);
}

#[test]
fn waits_are_counted_for_backends_whose_servers_may_be_full() {
    let metrics = metrics(2, Options::default());
    let first = metrics.publish(&limited(Some(1)));
    let recorders = [0, 1].map(|worker| metrics.recorder(worker, &first));
    let place = recorders[0].layout().queue(BackendIndex(0));
    assert!(place.is_some() && recorders[0].layout().queue(BackendIndex(1)).is_none());
    let wait = |recorder: &Recorder, ms: u64| {
        let mut meter = Meter::begin(recorder, 0, NO_ARM, Duration::ZERO);
        meter.queues();
        meter.waits(recorder, place);
        let active: u64 = recorder.queue(place.unwrap()).active.get();
        meter.waited(recorder, place, Duration::from_millis(ms));
        let end = End { status: 200, reason: None, bytes_received: 0, bytes_sent: 0 };
        (active, meter.end(recorder, &end, Duration::from_millis(ms)).queue_us)
    };
    assert_eq!(wait(&recorders[0], 3), (1, Some(3_000)));
    assert_eq!(wait(&recorders[1], 40), (1, Some(40_000)));
    let waits = || {
        metrics
            .queues()
            .into_iter()
            .map(|(name, waits)| (name.to_string(), waits.count()))
            .collect::<Vec<_>>()
    };
    assert_eq!(waits(), [("old".to_owned(), 2)].to_vec());
    assert_eq!(metrics.backends()["old"].waits.sum_us(), 43_000);
    // Without bounds it leaves, and the backend keeps what was counted for when it is back.
    let second = metrics.publish(&limited(None));
    recorders.iter().enumerate().for_each(|(worker, it)| it.adopt(second.for_worker(worker)));
    drop(first);
    assert_eq!(waits(), Vec::new());
    assert_eq!(metrics.backends()["old"].waits.count(), 2);
    let third = metrics.publish(&limited(Some(9)));
    recorders[0].adopt(third.for_worker(0));
    assert_eq!(waits(), [("old".to_owned(), 2)].to_vec());
    assert_eq!(metrics.backends()["new"].waits.count(), 0);
}

/// Backends `old`, whose server may have so many requests, and `new`.
fn limited(most: Option<u32>) -> Snapshot {
    let mut old = backend("old", &["a"]);
    old.servers[0].max_requests = most;
    let backends = vec![old, backend("new", &["n"])];
    lb_core::compile(&Spec { backends, ..Spec::default() }).expect("the spec is valid").snapshot
}

fn exchanges() -> impl Strategy<Value = Vec<Exchange>> {
    let status = prop::sample::select(vec![200_u16, 204, 304, 404, 500, 504, 299, 599]);
    let exchange = (0_u32..3, status, any::<(bool, bool)>(), 0_u64..1 << 20, 0_u64..1 << 31, 0_u64..1 << 24)
        .prop_map(|(server, status, (reused, failed_before), connect_us, wait_us, transfer_us)| Exchange {
            arm: if server == 2 { CANARY } else { ArmIndex::STABLE },
            server,
            status,
            reused,
            failed_before,
            connect_us,
            wait_us,
            transfer_us,
            bytes: wait_us % 1000,
        });
    prop::collection::vec(exchange, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever counts, the sum is the same.
    #[test]
    fn merged_workers_equal_one(parts in prop::collection::vec(exchanges(), 1..5)) {
        let (many, one) = (metrics(parts.len(), Options::default()), metrics(1, Options::default()));
        let (for_many, for_one) = (published(&many, &["a", "b"], true), published(&one, &["a", "b"], true));
        let single = one.recorder(0, &for_one);
        for (worker, exchanges) in parts.iter().enumerate() {
            let recorder = many.recorder(worker, &for_many);
            for exchange in exchanges {
                exchange.record(&recorder);
                exchange.record(&single);
            }
        }
        prop_assert_eq!(many.arms(), one.arms());
        prop_assert_eq!(many.servers(), one.servers());
        prop_assert_eq!(many.backends(), one.backends());
        let count = parts.iter().map(Vec::len).sum::<usize>() as u64;
        let of = |metrics: &Metrics| -> u64 {
            metrics.arms().iter().map(|(_, totals)| totals.requests.values().sum::<u64>()).sum()
        };
        prop_assert_eq!((of(&many), of(&one)), (count, count));
    }
}

/// Workers count while tables come and go and somebody reads: totals only grow, and nothing is lost.
#[test]
fn totals_never_go_back_while_tables_come_and_go() {
    const WORKERS: usize = 3;
    const EXCHANGES: u64 = 100_000;
    let metrics = metrics(WORKERS, Options::default());
    // Whether the canary is there, and which servers of `old`: a table that has neither is among them.
    let tables = [(true, &["a", "b"][..]), (false, &["a"][..]), (true, &["c"][..]), (false, &["b", "c"][..])];
    let publish = |turn: usize| {
        let (has_canary, old) = tables[turn % tables.len()];
        metrics.publish(&snapshot(old, has_canary))
    };
    let first = publish(0);
    let recorders: Vec<Recorder> = (0..WORKERS).map(|worker| metrics.recorder(worker, &first)).collect();
    drop(first);
    let mailboxes: [Mutex<Option<(usize, WorkerPlaces)>>; WORKERS] = Default::default();
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (recorder, mailbox) in recorders.into_iter().zip(&mailboxes) {
            let done = &done;
            scope.spawn(move || {
                let mut table = 0;
                let mut under_way: Option<(Exchange, Meter)> = None;
                for number in 0..EXCHANGES {
                    if let Some((turn, places)) = mailbox.lock().unwrap().take() {
                        recorder.adopt(places);
                        table = turn % tables.len();
                    }
                    let (has_canary, old) = tables[table];
                    let on_canary = has_canary && number % 3 == 0;
                    let server =
                        if on_canary { old.len() as u32 } else { (number % old.len() as u64) as u32 };
                    let arm = if on_canary { CANARY } else { ArmIndex::STABLE };
                    let exchange = Exchange { arm, server, ..Exchange::usual() };
                    let meter = exchange.begin(&recorder, Duration::ZERO);
                    // Each ends after the next has begun, perhaps by a newer table.
                    if let Some((exchange, meter)) = under_way.replace((exchange, meter)) {
                        exchange.go_on(&recorder, meter, Duration::ZERO);
                    }
                }
                let (exchange, meter) = under_way.expect("one is left");
                exchange.go_on(&recorder, meter, Duration::ZERO);
                drop(recorder);
                done.fetch_add(1, Ordering::AcqRel);
            });
        }
        let (mut turn, mut before) = (0, (0, 0));
        while done.load(Ordering::Acquire) < WORKERS {
            turn += 1;
            let published = publish(turn);
            for (worker, mailbox) in mailboxes.iter().enumerate() {
                *mailbox.lock().unwrap() = Some((turn, published.for_worker(worker)));
            }
            drop(published);
            let backends = metrics.backends();
            let exchanges = backends.values().map(|it| it.arms.exchange.count()).sum::<u64>();
            let attempts = backends.values().map(|it| it.servers.attempt.count()).sum::<u64>();
            assert!(
                before.0 <= exchanges && before.1 <= attempts,
                "{before:?}, then {exchanges}, {attempts}"
            );
            before = (exchanges, attempts);
        }
    });
    let all = WORKERS as u64 * EXCHANGES;
    let backends = metrics.backends();
    let sum = |of: fn(&BackendTotals) -> u64| backends.values().map(of).sum::<u64>();
    assert_eq!(sum(|it| it.arms.requests.values().sum()), all);
    assert_eq!(sum(|it| it.servers.responses.values().sum()), all);
    assert_eq!(sum(|it| it.servers.bytes_sent), all * 100);
    assert_eq!(sum(|it| it.arms.active + it.servers.active), 0);
    assert!(metrics.servers().len() <= 4, "what has left is gone: {:?}", metrics.servers());
}

/// A server is timed from when the whole request was with it to its response's head; what the client took to send or
/// to receive is the client's.
#[test]
fn a_permit_is_told_when_an_answer_was_owed() {
    let table = lb_core::Table::new(snapshot(&["a"], false), None);
    let metrics = metrics(1, Options::default());
    let published = metrics.publish(&table.snapshot);
    let recorder = metrics.recorder(0, &published);
    let latency = || table.live.servers()[0].counters().latency;
    let view = lb_core::RequestView {
        listener: 0,
        method: b"POST",
        host: b"shop.test",
        path: b"/",
        query: None,
        fields: &(),
        source: [192, 0, 2, 1].into(),
        secure: false,
    };
    let ms = Duration::from_millis;
    let attempt = |sent: Option<u64>, answered: Option<u64>| {
        let (start, before) = (Duration::from_secs(1), latency());
        let mut cursors = lb_core::Cursors::default();
        let lb_core::Verdict::Forward(decision) = lb_core::decide(&table, &cursors, &view, start, 1) else {
            panic!("there is a server");
        };
        let mut permit = decision.take(&table, &mut cursors, start).expect("no bound");
        let layout = recorder.layout();
        let (arm, server) = (layout.arm(FIRST, ArmIndex::STABLE), layout.server(ServerIndex(0)));
        let mut meter = Meter::begin(&recorder, 0, arm, start);
        meter.picked(&recorder, arm, server, start);
        sent.inspect(|at| meter.sent(start + ms(*at)));
        answered.inspect(|at| meter.answered(&recorder, 200, start + ms(*at)));
        meter.tell(&mut permit);
        permit.finish(Outcome::Responded { status: 200 }, start + ms(900));
        latency() - before
    };
    assert_eq!(attempt(None, Some(30)), ms(30), "from taking, where there was no body");
    assert_eq!(attempt(Some(700), Some(720)), ms(20), "a slow upload");
    assert_eq!(attempt(Some(700), Some(30)), ms(30), "an answer before the upload's end");
    assert_eq!(attempt(Some(700), None), ms(200), "no head noted: to the end");
}
