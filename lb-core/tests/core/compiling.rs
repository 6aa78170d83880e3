//! Compiling: every mistake is found, told with its place, and all at once.

use crate::support::*;
use lb_core::spec::*;
use lb_core::{Problem, Severity, compile};
use std::time::Duration;

/// All problems as `code place`, and the full text for those who fail.
fn problems(spec: &Spec) -> (Vec<String>, Vec<Problem>) {
    let list = match compile(spec) {
        Ok(compiled) => {
            assert!(compiled.warnings.iter().all(|it| it.severity == Severity::Warning));
            compiled.warnings
        }
        Err(error) => {
            let list = error.problems;
            assert!(list.iter().any(|it| it.severity == Severity::Error), "{list:?}");
            list
        }
    };
    for problem in &list {
        let is_error = problem.severity == Severity::Error;
        assert_eq!(problem.code < "LB100", is_error, "{problem}");
        assert!(lb_core::compile::codes::ALL.iter().any(|(code, _)| *code == problem.code), "{problem}");
        assert!(!problem.message.ends_with('.') && !problem.message.contains('\n'), "{problem}");
    }
    (list.iter().map(|it| format!("{} {}", it.code, it.place)).collect(), list)
}

fn good() -> Spec {
    split("2%", |_| ())
}

#[test]
fn a_good_spec_has_no_problems() {
    assert_eq!(problems(&good()).0, [""; 0]);
    assert_eq!(problems(&Spec::default()).0, [""; 0]);
}

#[test]
fn what_was_meant() {
    let mut spec = good();
    spec.routes[0].canary.as_mut().unwrap().backend = "nwe".into();
    let (_, list) = problems(&spec);
    let problem = &list[0];
    assert_eq!((problem.code, problem.place.to_string().as_str()), ("LB012", "route[0].canary.backend"));
    assert_eq!(problem.meant.as_deref(), Some("new"));
    assert_eq!(problem.message, "no backend is named `nwe`");
    assert_eq!(
        problem.to_string(),
        "error[LB012] at route[0].canary.backend: no backend is named `nwe`; expected one of `new`, `old`; \
         did you mean `new`?"
    );
}

#[test]
fn nobody_sticks_to_backups() {
    let mut spec = good();
    let backend = &mut spec.backends[0];
    backend.sticky = Some(StickySpec::default());
    backend.servers.iter_mut().for_each(|server| (server.backup, server.weight) = (true, None));
    assert_eq!(problems(&spec).0, ["LB124 backend[0].sticky", "LB102 backend[0].server"]);
    // One that takes nobody new keeps its sessions.
    spec.backends[0].servers[0] =
        ServerSpec { weight: Some(0), ..ServerSpec::new("z", ([10, 0, 9, 9], 80).into()) };
    assert_eq!(problems(&spec).0, ["LB102 backend[0].server"]);
}

/// The first backend, with zones that count.
fn zoned(spec: &mut Spec) -> &mut BackendSpec {
    spec.zone = Some("eu-1a".into());
    for (number, server) in spec.backends[0].servers.iter_mut().enumerate() {
        server.zone = (!server.backup).then(|| if number == 0 { "eu-1a".into() } else { "eu-1b".into() });
    }
    &mut spec.backends[0]
}

#[test]
fn zones_that_count_are_no_problem() {
    let mut spec = good();
    zoned(&mut spec).spill_below = Some(Share::percent(80));
    assert_eq!(problems(&spec).0, [""; 0]);
    spec.zone = Some("eu-1x".into());
    assert_eq!(problems(&spec).1[0].meant.as_deref(), Some("eu-1a"));
}

fn rate(requests: u32, per_s: u64) -> RateSpec {
    RateSpec::new(requests, Duration::from_secs(per_s))
}

#[test]
fn rates_that_are_no_problem() {
    let mut spec = good();
    spec.routes[0].rate = Some(rate(1_000_000, 1));
    spec.routes[0].body_rate = Some(BodyRateSpec { bytes: 1 << 30, grace: None });
    spec.listeners[0].trusted = vec!["10.0.0.0/8".parse().unwrap()];
    spec.listeners[0].client_address = ClientAddress::XForwardedFor;
    spec.listeners.push(ListenerSpec { name: "inside".into(), ..ListenerSpec::default() });
    assert_eq!(problems(&spec).0, [""; 0]);
    spec.listeners[0].client_address = ClientAddress::Peer;
    spec.routes[0].listeners = vec!["inside".into()];
    assert_eq!(problems(&spec).0, [""; 0], "another listener is meant");
}

/// A second route, of another class than the first.
fn two_classes(spec: &mut Spec) {
    let silver = RouteSpec { class: Class::Silver, hosts: vec!["x".into()], ..route("slow", "old") };
    spec.routes.push(silver);
}

#[test]
fn classes_are_shared_where_there_are_two() {
    let mut spec = good();
    assert!(compile(&spec).unwrap().snapshot.classes().is_none());
    let plain = compile(&spec).unwrap().snapshot.hash();
    two_classes(&mut spec);
    spec.classes.gold = 20;
    assert_eq!(problems(&spec).0, [""; 0]);
    let snapshot = compile(&spec).unwrap().snapshot;
    let classes = snapshot.classes().unwrap();
    assert_eq!(Class::ALL.map(|class| classes.share(class)), [60, 20, 10]);
    assert_eq!(snapshot.routes()[1].class.word(), "silver");
    let mut hashes = vec![plain, snapshot.hash()];
    let changes: [fn(&mut Spec); 3] = [
        |spec| spec.classes.waiting = 7,
        |spec| spec.classes.silver = 7,
        |spec| spec.routes[0].class = Class::Platinum,
    ];
    for change in changes {
        let mut changed = spec.clone();
        change(&mut changed);
        hashes.push(compile(&changed).unwrap().snapshot.hash());
    }
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 5);
}

/// What changes something for somebody, or is the file's usual word, is no problem.
#[test]
fn retries_that_count_are_no_problem() {
    let mut spec = good();
    spec.retry = RetrySpec { retries: Some(0), on: Some(vec![RetryOn::Closed]), ..RetrySpec::default() };
    spec.routes[0].retry.retries = Some(1);
    assert_eq!(problems(&spec).0, [""; 0], "a route has retries");
    spec.routes[0].retry = RetrySpec { retries: Some(0), ..RetrySpec::default() };
    spec.backends[0].retry = RetrySpec { retries: Some(1), budget_percent: Some(0), ..RetrySpec::default() };
    spec.retry.attempt_timeout = Some(Duration::from_secs(2));
    spec.routes[0].timeouts.response = Some(Duration::from_secs(1));
    assert_eq!(problems(&spec).0, [""; 0], "where it was said it can be");
}

/// One mistake each, and what is said about it.
#[test]
fn table_of_mistakes() {
    type Mistake = fn(&mut Spec);
    let cases: &[(&str, Mistake)] = &[
        ("LB001 route[0].name", |spec| spec.routes[0].name = "a b".into()),
        ("LB001 backend[0].server[0].name", |spec| spec.backends[0].servers[0].name.clear()),
        ("LB001 listener[0].name", |spec| spec.listeners[0].name = "x".repeat(65)),
        ("LB001 route[0].canary.release", |spec| canary(spec).release = "r".repeat(65)),
        ("LB002 backend[2].name", |spec| {
            let twin = spec.backends[0].clone();
            spec.backends.push(twin);
        }),
        ("LB002 backend[0].server[1].name", |spec| spec.backends[0].servers[1].name = "old-1".into()),
        ("LB003 secrets.signing", |spec| {
            spec.secrets.signing =
                (0..9).map(|n| SigningKey { id: n.to_string(), key: SecretKey::new([n; 16]) }).collect();
        }),
        ("LB003 listener[0].max_connections", |spec| spec.listeners[0].max_connections = Some(0)),
        ("LB003 route[0].path", |spec| spec.routes[0].path = PathMatch::Prefix("/x".repeat(65))),
        ("LB004 timeouts.connect", |spec| spec.timeouts.connect = Some(Duration::ZERO)),
        ("LB004 route[0].timeouts.response", |spec| {
            spec.routes[0].timeouts.response = Some(Duration::from_secs(8 * 24 * 3600));
        }),
        ("LB005 route[0].timeouts.idle_down", |spec| {
            spec.routes[0].timeouts.idle_down = Some(Duration::from_secs(1));
        }),
        ("LB005 listener[0].timeouts.connect", |spec| {
            spec.listeners[0].timeouts.connect = Some(Duration::from_secs(1));
        }),
        ("LB005 backend[1].timeouts.drain", |spec| {
            spec.backends[1].timeouts.drain = Some(Duration::from_secs(1));
        }),
        ("LB006 retry.retries", |spec| spec.retry.retries = Some(11)),
        ("LB006 retry.budget_percent", |spec| spec.retry.budget_percent = Some(101)),
        ("LB006 route[0].retry.budget_percent", |spec| spec.routes[0].retry.budget_percent = Some(1)),
        ("LB074 route[0].rate.requests", |spec| spec.routes[0].rate = Some(rate(0, 1))),
        ("LB074 route[0].rate.per", |spec| spec.routes[0].rate = Some(rate(1, 0))),
        ("LB074 route[0].rate.per", |spec| spec.routes[0].rate = Some(rate(1, 24 * 3600 + 1))),
        ("LB074 route[0].rate.requests", |spec| {
            spec.routes[0].rate = Some(RateSpec { burst: Some(1), ..rate(1_000_001, 1) });
        }),
        ("LB074 route[0].rate.burst", |spec| {
            spec.routes[0].rate = Some(RateSpec { burst: Some(0), ..rate(1, 1) });
        }),
        ("LB074 route[0].rate.burst", |spec| spec.routes[0].rate = Some(rate(1_000_001, 60))),
        ("LB074 route[0].rate.ipv6_prefix", |spec| {
            spec.routes[0].rate = Some(RateSpec { ipv6_prefix: Some(129), ..rate(1, 1) });
        }),
        ("LB018 route[0].rate.key", |spec| {
            spec.routes[0].rate = Some(RateSpec { key: RateKey::Header("a b".into()), ..rate(1, 1) });
        }),
        ("LB075 route[0].body_rate", |spec| spec.routes[0].body_rate = Some(BodyRateSpec::default())),
        ("LB075 route[0].body_grace", |spec| {
            let grace = Some(Duration::from_millis(999));
            spec.routes[0].body_rate = Some(BodyRateSpec { bytes: 1, grace });
        }),
        ("LB114 route[0].rate", |spec| {
            spec.listeners[0].trusted = vec!["10.0.0.0/8".parse().unwrap()];
            spec.routes[0].rate = Some(rate(1, 1));
        }),
        ("LB080 classes.silver", |spec| spec.classes.silver = 0),
        ("LB080 classes.gold", |spec| spec.classes.gold = 101),
        ("LB080 classes.waiting", |spec| spec.classes.waiting = 0),
        ("LB118 classes", |spec| spec.classes.waiting = 1),
        ("LB118 classes", |spec| spec.routes[0].class = Class::Silver),
        ("LB119 classes.silver", |spec| {
            (spec.classes.gold, spec.classes.silver) = (5, 6);
            two_classes(spec);
        }),
        ("LB006 backend[0].retry.retries", |spec| spec.backends[0].retry.retries = Some(11)),
        ("LB006 backend[0].retry.budget_percent", |spec| spec.backends[0].retry.budget_percent = Some(101)),
        ("LB070 retry.on[1]", |spec| {
            spec.retry.on = Some(vec![RetryOn::Connect, RetryOn::Statuses(200..=200)]);
        }),
        ("LB070 route[0].retry.on[0]", |spec| {
            spec.routes[0].retry.on = Some(vec![RetryOn::Statuses(499..=503)]);
        }),
        ("LB070 backend[0].retry.on[0]", |spec| {
            #[expect(clippy::reversed_empty_ranges, reason = "that is what is wrong")]
            let reversed = 504..=502;
            spec.backends[0].retry.on = Some(vec![RetryOn::Statuses(reversed)]);
        }),
        ("LB003 retry.on", |spec| spec.retry.on = Some(vec![RetryOn::Closed; 65])),
        ("LB071 retry.hold_body", |spec| spec.retry.hold_body = Some((256 << 10) + 1)),
        ("LB072 retry.attempt_timeout", |spec| spec.retry.attempt_timeout = Some(Duration::ZERO)),
        ("LB072 route[0].retry.attempt_timeout", |spec| {
            spec.routes[0].retry.attempt_timeout = Some(Duration::from_secs(8 * 24 * 3600));
        }),
        ("LB072 retry.backoff", |spec| spec.retry.backoff = Some(Duration::from_millis(10_001))),
        ("LB072 backend[1].retry.backoff_max", |spec| {
            let (backoff, backoff_max) = (Some(Duration::from_secs(2)), Some(Duration::from_secs(1)));
            spec.backends[1].retry = RetrySpec { backoff, backoff_max, ..RetrySpec::default() };
        }),
        ("LB073 route[0].retry.on", |spec| spec.routes[0].retry.on = Some(Vec::new())),
        ("LB017 retry.non_idempotent[1]", |spec| {
            spec.retry.non_idempotent = Some(vec!["POST".into(), "PO ST".into()]);
        }),
        ("LB003 retry.non_idempotent", |spec| spec.retry.non_idempotent = Some(vec!["POST".into(); 65])),
        ("LB010 route[1]", |spec| {
            let nowhere = RouteSpec { backend: None, ..route("nowhere", "") };
            spec.routes.push(RouteSpec { hosts: vec!["x".into()], ..nowhere });
        }),
        ("LB011 route[0].reply", |spec| spec.routes[0].actions.reply = Some(Reply::default())),
        ("LB013 route[0].listener[0]", |spec| spec.routes[0].listeners = vec!["wbe".into()]),
        ("LB014 route[0].host[0]", |spec| spec.routes[0].hosts = vec!["shop.example.com:80".into()]),
        ("LB014 route[0].host[1]", |spec| spec.routes[0].hosts = vec!["a".into(), "a.*.c".into()]),
        ("LB014 route[0].host[0]", |spec| spec.routes[0].hosts = vec!["*".into()]),
        ("LB014 route[0].host[0]", |spec| spec.routes[0].hosts = vec!["a..b".into()]),
        ("LB014 route[0].host[0]", |spec| spec.routes[0].hosts = vec!["\u{e4}.de".into()]),
        ("LB015 route[0].path", |spec| spec.routes[0].path = PathMatch::Prefix("cart".into())),
        ("LB015 route[0].path", |spec| spec.routes[0].path = PathMatch::Exact("/a/../b".into())),
        ("LB015 route[0].path", |spec| spec.routes[0].path = PathMatch::Exact("/a?b".into())),
        ("LB016 route[0].path", |spec| spec.routes[0].path = PathMatch::Regex("/(".into())),
        ("LB016 route[0].path", |spec| spec.routes[0].path = PathMatch::Regex("a)|(?:b".into())),
        ("LB016 route[0].header[0]", |spec| {
            spec.routes[0].headers = vec![named("x", ValueTest::Regex("(?=a)".into()))];
        }),
        ("LB017 route[0].method[1]", |spec| spec.routes[0].methods = vec!["GET".into(), "G T".into()]),
        ("LB018 route[0].header[0]", |spec| spec.routes[0].headers = vec![named("x:", ValueTest::Present)]),
        ("LB018 route[0].canary.key", |spec| canary(spec).key = SessionKey::Header(String::new())),
        ("LB018 route[0].request.set[0]", |spec| {
            spec.routes[0].actions.request.set = vec![("x".into(), "a\r\nb: c".into())];
        }),
        ("LB018 backend[0].hash_key", |spec| spec.backends[0].hash_key = HashKey::Header("\u{e4}".into())),
        ("LB019 session.cookie", |spec| spec.session.cookie = "a=b".into()),
        ("LB019 route[0].cookie[0]", |spec| spec.routes[0].cookies = vec![named("", ValueTest::Present)]),
        ("LB019 route[0].canary.force_value", |spec| canary(spec).force_value = Some("a;b".into())),
        ("LB019 route[0].canary.force_value", |spec| canary(spec).force_value = Some("never".into())),
        ("LB020 route[0].canary.cookie", |spec| canary(spec).cookie = Some("lb_session".into())),
        ("LB020 backend[1].sticky.cookie", |spec| {
            for backend in &mut spec.backends {
                backend.sticky = Some(StickySpec { cookie: Some("lb".into()) });
            }
        }),
        ("LB021 secrets.share", |spec| spec.secrets.share = None),
        ("LB021 secrets.signing", |spec| spec.secrets.signing.clear()),
        ("LB021 secrets.signing[1]", |spec| {
            spec.secrets.signing.push(SigningKey { id: "first".into(), key: SecretKey::new([9; 16]) });
        }),
        ("LB022 route[0].query[0]", |spec| spec.routes[0].query = vec![named("", ValueTest::Present)]),
        ("LB030 backend[0].server[0].address", |spec| {
            spec.backends[0].servers[0].address = Address::Literal(address("10.0.0.1:0"));
        }),
        ("LB030 backend[0].server[0].address", |spec| {
            spec.backends[0].servers[0].address = Address::Resolved(vec![address("0.0.0.0:80")]);
        }),
        ("LB031 backend[0].server[0].weight", |spec| spec.backends[0].servers[0].weight = Some(257)),
        ("LB040 route[0].request.remove[0]", |spec| {
            spec.routes[0].actions.request.remove = vec!["Transfer-Encoding".into()];
        }),
        ("LB040 route[0].request.set[0]", |spec| {
            spec.routes[0].actions.request.set = vec![("Host".into(), "x".into())];
        }),
        ("LB042 route[0].error_pages[1]", |spec| {
            spec.routes[0].actions.error_pages = vec![(503, "a".into()), (503, "b".into())];
        }),
        ("LB043 route[0].set_host", |spec| spec.routes[0].actions.set_host = Some("a b".into())),
        ("LB043 route[0].replace_path", |spec| spec.routes[0].actions.replace_path = Some("x".into())),
        ("LB001 backend[0].server[1].zone", |spec| zoned(spec).servers[1].zone = Some("a b".into())),
        ("LB001 engine.zone", |spec| spec.zone = Some(String::new())),
        ("LB032 backend[0].max_load_percent", |spec| {
            spec.backends[0].balance = Policy::Rendezvous;
            spec.backends[0].max_load_percent = Some(104);
        }),
        ("LB032 backend[0].max_load_percent", |spec| {
            spec.backends[0].balance = Policy::Maglev;
            spec.backends[0].max_load_percent = Some(1_001);
        }),
        ("LB032 backend[0].max_load_percent", |spec| spec.backends[0].max_load_percent = Some(125)),
        ("LB035 backend[0].server[0].max_requests", |spec| {
            spec.backends[0].servers[0].max_requests = Some(0)
        }),
        ("LB035 backend[0].server[0].max_connections", |spec| {
            spec.backends[0].servers[0].max_connections = Some(0)
        }),
        ("LB116 backend[0].server[0].max_requests", |spec| {
            spec.backends[0].servers[0].max_requests = Some(3);
            spec.backends[0].servers[0].max_connections = Some(2);
        }),
        ("LB035 backend[0].queue.requests", |spec| {
            spec.backends[0].servers[0].max_requests = Some(1);
            spec.backends[0].queue = Some(QueueSpec { requests: 10_001, ..QueueSpec::default() });
        }),
        ("LB035 backend[0].queue.timeout", |spec| {
            spec.backends[0].servers[0].max_requests = Some(1);
            spec.backends[0].queue = Some(QueueSpec { timeout: Duration::ZERO, ..QueueSpec::default() });
        }),
        ("LB033 backend[0].slow_start", |spec| spec.backends[0].slow_start = Some(Duration::ZERO)),
        ("LB033 backend[0].slow_start", |spec| {
            spec.backends[0].slow_start = Some(Duration::from_secs(3_601))
        }),
        ("LB034 backend[0].spill_below", |spec| spec.backends[0].spill_below = Some(Share::percent(50))),
        ("LB034 backend[1].spill_below", |spec| {
            zoned(spec);
            spec.backends[1].spill_below = Some(Share::percent(50));
        }),
        ("LB034 backend[0].spill_below", |spec| {
            zoned(spec).spill_below = Some(Share::percent(50));
            spec.zone = None;
        }),
        ("LB101 backend[0].server", |spec| spec.backends[0].servers.clear()),
        ("LB102 backend[0].server", |spec| {
            spec.backends[0].servers.iter_mut().filter(|it| !it.backup).for_each(|it| it.weight = Some(0));
        }),
        ("LB103 backend[0].server[3].weight", |spec| spec.backends[0].servers[3].weight = Some(2)),
        ("LB104 route[1]", |spec| spec.routes.push(route("late", "old"))),
        ("LB105 backend[2].name", |spec| {
            spec.backends.push(backend("spare", Policy::RoundRobin, vec![server("x", 1)]));
        }),
        ("LB106 route[0].canary.backend", |spec| {
            canary(spec).backend = "old".into();
            spec.backends.truncate(1);
        }),
        ("LB107 route[1].canary.mark_cookie", |spec| {
            let twin = spec.routes[0].clone();
            spec.routes.push(RouteSpec { name: "twin".into(), path: PathMatch::Exact("/x".into()), ..twin });
        }),
        ("LB108 route[0].strip_prefix", |spec| {
            spec.routes[0].path = PathMatch::Prefix("/cart".into());
            spec.routes[0].actions.strip_prefix = Some("/car".into());
        }),
        ("LB110 backend[0].server[0].zone", |spec| {
            zoned(spec);
            spec.zone = None;
        }),
        ("LB110 backend[0].server[0].zone", |spec| zoned(spec).balance = Policy::Rendezvous),
        ("LB110 engine.zone", |spec| {
            zoned(spec);
            spec.zone = Some("eu".into());
        }),
        ("LB110 engine.zone", |spec| spec.zone = Some("eu".into())),
        ("LB111 backend[0].queue", |spec| spec.backends[0].queue = Some(QueueSpec::default())),
        ("LB112 retry.attempt_timeout", |spec| {
            (spec.retry.retries, spec.retry.attempt_timeout) = (Some(0), Some(Duration::from_secs(1)));
        }),
        ("LB112 backend[0].retry.on", |spec| {
            (spec.retry.retries, spec.backends[0].retry.on) = (Some(0), Some(vec![RetryOn::Connect]));
        }),
        ("LB112 route[0].retry.hold_body", |spec| {
            spec.routes[0].retry = RetrySpec { retries: Some(0), hold_body: Some(0), ..RetrySpec::default() };
        }),
        ("LB112 retry.non_idempotent[0]", |spec| spec.retry.non_idempotent = Some(vec!["PUT".into()])),
        ("LB113 retry.attempt_timeout", |spec| spec.retry.attempt_timeout = Some(Duration::from_secs(30))),
        ("LB113 backend[0].retry.attempt_timeout", |spec| {
            spec.timeouts.response = Some(Duration::from_secs(2));
            spec.backends[0].retry.attempt_timeout = Some(Duration::from_secs(3));
        }),
        ("LB113 route[0].retry.attempt_timeout", |spec| {
            spec.routes[0].timeouts.response = Some(Duration::from_secs(2));
            spec.routes[0].retry.attempt_timeout = Some(Duration::from_secs(2));
        }),
        ("LB109 backend[0].server[1].address", |spec| {
            spec.backends[0].servers[1].address = spec.backends[0].servers[0].address.clone();
        }),
    ];
    for (expected, mistake) in cases {
        let mut spec = good();
        mistake(&mut spec);
        let (found, list) = problems(&spec);
        assert_eq!(found, [*expected], "{list:#?}");
    }
}

#[test]
fn redirects_and_replies() {
    let check = |actions: Actions| {
        let answer = RouteSpec { backend: None, hosts: vec!["x".into()], actions, ..route("answer", "") };
        let mut spec = good();
        spec.routes.push(answer);
        problems(&spec).0
    };
    let redirect = |redirect: Redirect| check(Actions { redirect: Some(redirect), ..Actions::default() });
    assert_eq!(redirect(Redirect { path: Some("/new".into()), ..Redirect::default() }), [""; 0]);
    assert_eq!(
        redirect(Redirect { location: Some("/a{path}{query}".into()), ..Redirect::default() }),
        [""; 0]
    );
    assert_eq!(redirect(Redirect::default()), ["LB041 route[1].redirect"]);
    let status = Redirect { status: Some(304), path: Some("/new".into()), ..Redirect::default() };
    assert_eq!(redirect(status), ["LB041 route[1].redirect.status"]);
    let location = Redirect { location: Some("/a{pth}".into()), ..Redirect::default() };
    assert_eq!(redirect(location), ["LB041 route[1].redirect.location"]);
    let scheme = Redirect { scheme: Some("htps".into()), ..Redirect::default() };
    assert_eq!(redirect(scheme), ["LB041 route[1].redirect.scheme"]);

    let reply = |reply: Reply| check(Actions { reply: Some(reply), ..Actions::default() });
    assert_eq!(reply(Reply::default()), [""; 0]);
    assert_eq!(reply(Reply { status: Some(100), ..Reply::default() }), ["LB042 route[1].reply.status"]);
    let body = Reply { status: Some(204), body: "x".into(), content_type: None };
    assert_eq!(reply(body), ["LB042 route[1].reply.body"]);
}

#[test]
fn all_at_once() {
    let mut spec = good();
    spec.routes[0].backend = Some("odl".into());
    spec.routes[0].hosts = vec!["*".into()];
    spec.backends[0].slow_start = Some(Duration::ZERO);
    spec.backends[1].servers[0].weight = Some(1_000);
    let (found, _) = problems(&spec);
    for expected in [
        "LB012 route[0].backend",
        "LB014 route[0].host[0]",
        "LB033 backend[0].slow_start",
        "LB031 backend[1].server[0].weight",
    ] {
        assert!(found.iter().any(|it| it == expected), "{expected} in {found:?}");
    }
}

#[test]
fn many_problems_are_bounded() {
    let mut spec = good();
    for number in 0..3_000 {
        spec.routes.push(route(&format!("r{number}"), "nowhere"));
    }
    let (found, list) = problems(&spec);
    assert_eq!(found.len(), lb_core::compile::PROBLEMS_MAX);
    assert!(list.last().unwrap().message.contains("further problems"));
}

#[test]
fn places_are_bounded() {
    let mut spec = good();
    spec.routes.clear();
    for number in 0..300 {
        let mut tenant = route(&format!("t{number}"), "old");
        tenant.headers = vec![named("x-tenant", ValueTest::Is(number.to_string()))];
        spec.routes.push(tenant);
    }
    assert!(problems(&spec).0.contains(&"LB003 route[256]".to_owned()));
    spec.routes.truncate(256);
    assert_eq!(problems(&spec).0, ["LB105 backend[1].name"]);
}

#[test]
fn sticky_cookies_may_share_a_name_on_hosts_apart() {
    let sticky = |name: &str| BackendSpec {
        sticky: Some(StickySpec { cookie: Some("lb".into()) }),
        ..backend(name, Policy::RoundRobin, vec![server("a", 1)])
    };
    let on = |name: &str, host: &str| RouteSpec { hosts: vec![host.into()], ..route(name, name) };
    let with = |one: &str, other: &str| Spec {
        backends: vec![sticky("one"), sticky("other")],
        routes: vec![on("one", one), on("other", other)],
        ..spec()
    };
    assert_eq!(problems(&with("a.example", "b.example")).0, [""; 0]);
    assert_eq!(problems(&with("a.example", "*.example")).0, ["LB020 backend[1].sticky.cookie"]);
    assert_eq!(problems(&with("*.example", "a.example")).0, ["LB020 backend[1].sticky.cookie"]);
    let mut same = with("a.example", "a.example");
    same.routes[1].path = PathMatch::Exact("/x".into());
    assert_eq!(problems(&same).0, ["LB020 backend[1].sticky.cookie"]);
}

#[test]
fn timeouts_and_retries_are_merged() {
    let seconds = |count| Some(Duration::from_secs(count));
    let mut spec = good();
    spec.timeouts =
        TimeoutsSpec { connect: seconds(1), response: seconds(2), drain: seconds(3), ..spec.timeouts };
    spec.backends[0].timeouts =
        TimeoutsSpec { response: seconds(4), idle_up: seconds(5), ..Default::default() };
    spec.routes[0].timeouts = TimeoutsSpec { idle_up: seconds(6), ..Default::default() };
    spec.listeners[0].timeouts = TimeoutsSpec { idle_down: seconds(7), ..Default::default() };
    spec.retry = RetrySpec {
        budget_percent: Some(30),
        on: Some(vec![RetryOn::Statuses(429..=429)]),
        attempt_timeout: seconds(1),
        backoff: Some(Duration::from_millis(40)),
        ..RetrySpec::default()
    };
    spec.backends[1].retry = RetrySpec {
        retries: Some(3),
        budget_percent: Some(5),
        on: Some(vec![RetryOn::Connect, RetryOn::Statuses(502..=503)]),
        backoff_max: Some(Duration::from_millis(50)),
        ..RetrySpec::default()
    };
    spec.routes[0].retry =
        RetrySpec { hold_body: Some(0), non_idempotent: Some(vec!["POST".into()]), ..RetrySpec::default() };
    let snapshot = compile(&spec).unwrap().snapshot;
    let arms = snapshot.routes()[0].arms();
    let stable = arms[0].timeouts;
    let seconds = |timeout: Duration| timeout.as_secs();
    assert_eq!((seconds(stable.connect), seconds(stable.response), seconds(stable.idle_up)), (1, 4, 6));
    assert_eq!((seconds(arms[1].timeouts.response), seconds(stable.tunnel_idle)), (2, 3600));
    let told = |arm: usize| {
        let rules = &arms[arm].retry;
        let times = [rules.backoff, rules.backoff_max].map(|time| time.as_millis());
        let on = (rules.on_connect, rules.on_closed, rules.on_statuses.to_string());
        (rules.retries, on, times, rules.attempt_timeout, rules.hold_body, rules.may_repeat(b"POST"))
    };
    assert_eq!(told(0), (1, (false, false, "429".into()), [40, 400], Some(Duration::from_secs(1)), 0, true));
    assert_eq!(
        told(1),
        (3, (true, false, "502-503".into()), [40, 50], Some(Duration::from_secs(1)), 0, true)
    );
    let budget = |backend: usize| snapshot.backends()[backend].retry_budget_percent;
    assert_eq!((budget(0), budget(1)), (30, 5));
    let listener = snapshot.listener(0).timeouts;
    assert_eq!((seconds(listener.idle_down), seconds(listener.request_head)), (7, 10));
    assert_eq!(seconds(snapshot.timeouts().drain), 3);
    assert_eq!((arms[0].buckets.clone(), arms[1].buckets.clone()), (200..10_000, 0..200));
}

#[test]
fn cookies_to_strip() {
    let mut spec = good();
    assert!(compile(&spec).unwrap().snapshot.routes()[0].arms()[0].strip_cookies.is_empty());
    spec.session.strip = true;
    spec.backends[0].sticky = Some(StickySpec::default());
    let snapshot = compile(&spec).unwrap().snapshot;
    let names: Vec<&str> = snapshot.routes()[0].arms()[0].strip_cookies.iter().map(|it| &**it).collect();
    assert_eq!(names, ["lb_session", "canary_mark", "lb_old"]);
}

fn canary(spec: &mut Spec) -> &mut CanarySpec {
    spec.routes[0].canary.as_mut().unwrap()
}

fn named(name: &str, test: ValueTest) -> ValueMatch {
    ValueMatch { name: name.into(), test }
}
