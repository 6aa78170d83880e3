//! Rates: who is charged for what, and what becomes of debts.

use crate::support::*;
use lb_core::spec::*;
use lb_core::{
    ArmIndex, Cursors, Health, Refusal, RefusalReason, RequestView, RouteIndex, Table, Verdict, Why,
};
use lb_core::{compile, decide, defaults, explain};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const START: Duration = Duration::from_secs(1_000);

fn rate(requests: u32, per_s: u64, burst: u32) -> RateSpec {
    RateSpec { burst: Some(burst), ..RateSpec::new(requests, Duration::from_secs(per_s)) }
}

/// Two routes of one backend, with these rates.
fn login(of_login: RateSpec, of_rest: Option<RateSpec>) -> Spec {
    let login = RouteSpec { path: PathMatch::Prefix("/login".into()), ..route("login", "app") };
    Spec {
        routes: vec![
            RouteSpec { rate: Some(of_login), ..login },
            RouteSpec { rate: of_rest, ..route("rest", "app") },
        ],
        backends: vec![backend("app", Policy::RoundRobin, vec![server("a", 1)])],
        ..spec()
    }
}

/// What becomes of a request from there, with these fields.
fn ask(table: &Table, from: &str, path: &str, fields: &[(&str, &str)], now: Duration) -> Result<(), Refusal> {
    let source: IpAddr = from.parse().unwrap();
    let fields = fields.to_vec();
    let view = RequestView::get("shop.example.com", path, source).with_fields(&fields);
    decide(table, &Cursors::default(), &view, now, 1).charge(table, &view, now)
}

/// How many of so many requests at once are taken.
fn taken(table: &Table, from: &str, path: &str, fields: &[(&str, &str)], now: Duration) -> usize {
    (0..20).filter(|_| ask(table, from, path, fields, now).is_ok()).count()
}

#[test]
fn each_client_has_its_burst_and_its_rate_on_each_route() {
    let table = table(&login(rate(2, 1, 5), Some(rate(1, 1, 3))));
    assert_eq!(taken(&table, "192.0.2.1", "/login", &[], START), 5);
    let refusal = ask(&table, "192.0.2.1", "/login", &[], START).unwrap_err();
    assert_eq!((refusal.status(), refusal.word()), (429, "rate_limited"));
    assert_eq!((refusal.route, refusal.arm), (Some(RouteIndex(0)), Some(ArmIndex::STABLE)));
    assert_eq!(refusal.retry_after, Some(Duration::from_millis(500)));
    assert_eq!(refusal.retry_after_s(), Some(1), "whole seconds, rounded up");

    assert_eq!(taken(&table, "192.0.2.1", "/", &[], START), 3, "another route");
    assert_eq!(taken(&table, "192.0.2.2", "/login", &[], START), 5, "another source");
    let later = START + Duration::from_secs(1);
    assert_eq!(taken(&table, "192.0.2.1", "/login", &[], later), 2, "what the rate has made up for");
    assert_eq!(taken(&table, "192.0.2.1", "/login", &[], START + Duration::from_secs(60)), 5, "and no more");
}

#[test]
fn who_is_one_client() {
    let table = table(&login(
        RateSpec { ipv6_prefix: Some(56), ..rate(1, 60, 2) },
        Some(RateSpec { key: RateKey::Header("X-Api-Key".into()), ..rate(1, 60, 2) }),
    ));
    let at = |from, path, fields: &[(&str, &str)]| taken(&table, from, path, fields, START);
    assert_eq!(at("2001:db8:0:1200::1", "/login", &[]), 2);
    assert_eq!(at("2001:db8:0:12ff:1::2", "/login", &[]), 0, "of the same network");
    assert_eq!(at("2001:db8:0:1300::1", "/login", &[]), 2);
    assert_eq!(at("::ffff:192.0.2.1", "/login", &[]), 2);
    assert_eq!(at("192.0.2.1", "/login", &[]), 0, "it is written in two ways");
    assert_eq!(at("192.0.2.1", "/", &[("x-api-key", "k1")]), 2);
    assert_eq!(at("192.0.2.2", "/", &[("X-API-KEY", "k1"), ("x-api-key", "k3")]), 0);
    assert_eq!(at("192.0.2.2", "/", &[("x-api-key", "k2")]), 2);
    assert_eq!(at("192.0.2.2", "/", &[]), 2, "without the header it is the address");
    assert_eq!(at("192.0.2.2", "/", &[]), 0);

    let all = RateSpec { key: RateKey::Route, ..rate(1, 60, 3) };
    let table = crate::support::table(&login(all, None));
    assert_eq!(taken(&table, "192.0.2.1", "/login", &[], START), 3);
    assert_eq!(taken(&table, "192.0.2.2", "/login", &[], START), 0, "all together");
    assert_eq!(taken(&table, "192.0.2.2", "/", &[], START), 20, "a route without a rate");
}

#[test]
fn whatever_is_decided_is_charged_but_a_bad_path() {
    let mut spec = login(rate(1, 60, 4), None);
    let mut away = RouteSpec { path: PathMatch::Exact("/away".into()), backend: None, ..route("away", "") };
    away.actions.redirect = Some(Redirect { path: Some("/there".into()), ..Redirect::default() });
    spec.routes.push(RouteSpec { rate: Some(rate(1, 60, 2)), ..away });
    let table = table(&spec);
    assert_eq!(taken(&table, "192.0.2.1", "/away", &[], START), 2);
    for _ in 0..9 {
        assert!(ask(&table, "192.0.2.1", "/login/../x", &[], START).is_ok(), "it is refused for itself");
    }
    live(&table, "a").set_health(Health::Down(Why::Told));
    assert_eq!(taken(&table, "192.0.2.1", "/login", &[], START), 4, "that nobody can serve it is no excuse");
}

#[test]
fn debts_outlive_tables() {
    let first = table(&login(rate(1, 60, 3), None));
    assert_eq!(taken(&first, "192.0.2.1", "/login", &[], START), 3);
    let next = |spec: &Spec, before: &Table| Table::new(compile(spec).unwrap().snapshot, Some(before));

    let mut renamed = login(rate(1, 60, 3), Some(rate(1, 1, 1)));
    renamed.backends[0].name = "other".into();
    renamed.routes.iter_mut().for_each(|route| route.backend = Some("other".into()));
    let second = next(&renamed, &first);
    assert_eq!(taken(&second, "192.0.2.1", "/login", &[], START), 0, "a reload forgives nothing");
    assert_eq!(taken(&second, "192.0.2.2", "/login", &[], START), 3);

    // A quicker rate counts from now on: who owes three minutes owes at most what it lets anybody owe.
    let third = next(&login(rate(10, 1, 5), None), &second);
    let wait = ask(&third, "192.0.2.1", "/login", &[], START).unwrap_err().retry_after;
    assert_eq!(wait, Some(Duration::from_millis(100)));
    assert_eq!(taken(&third, "192.0.2.1", "/login", &[], START + Duration::from_millis(100)), 1);
    assert_eq!(taken(&third, "192.0.2.1", "/login", &[], START + Duration::from_secs(1)), 5);
    // So does a slower one.
    let fourth = next(&login(rate(1, 600, 1), None), &third);
    let wait =
        ask(&fourth, "192.0.2.1", "/login", &[], START + Duration::from_secs(1)).unwrap_err().retry_after;
    assert_eq!(wait, Some(Duration::from_millis(500)), "only what it owes already");

    let mut without = login(rate(1, 60, 3), None);
    without.routes[0].rate = None;
    let fifth = next(&without, &fourth);
    assert_eq!(fifth.live.rate_clients(START), None);
    assert_eq!(taken(&fifth, "192.0.2.1", "/login", &[], START), 20);
}

/// However many sources come, the table is as large as it was, and who owes much goes on owing it.
#[test]
fn a_million_sources_free_nobody() {
    let table = table(&login(rate(1, 60, 5), None));
    let request = |source: u32| {
        let view = RequestView::get("h", "/login", IpAddr::V4(source.into()));
        // What was decided is the same for all.
        Verdict::Answer(RouteIndex(0)).charge(&table, &view, START)
    };
    let heavy = u32::from_be_bytes([192, 0, 2, 1]);
    assert_eq!((0..9).filter(|_| request(heavy).is_ok()).count(), 5);
    for source in 0..1_000_000_u32 {
        assert!(request(0x0a00_0000 | source).is_ok(), "nobody is refused for what others do");
        if source % 1_000 == 0 {
            let refusal = request(heavy).unwrap_err();
            assert_eq!(refusal.retry_after_s(), Some(60), "it is not forgotten");
        }
    }
    let clients = table.live.rate_clients(START).unwrap();
    assert!(clients.owing <= defaults::RATE_CLIENTS as u64);
    assert!(clients.owing > defaults::RATE_CLIENTS as u64 * 9 / 10, "{clients:?}");
    assert_eq!(clients.owing + clients.forgotten, 1_000_001, "each owes, or was forgotten");
    let later = table.live.rate_clients(START + Duration::from_secs(61)).unwrap();
    assert_eq!(later.owing, 1, "all but one have made up for it");
}

#[test]
fn threads_share_a_burst_exactly() {
    let table = table(&login(rate(1, 3600, 1_000), None));
    let count = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let view = RequestView::get("h", "/login", [192, 0, 2, 1].into());
                let some = (0..2_000).filter(|_| {
                    let verdict = decide(&table, &Cursors::default(), &view, START, 1);
                    verdict.charge(&table, &view, START).is_ok()
                });
                count.fetch_add(some.count() as u64, Relaxed);
            });
        }
    });
    assert_eq!(count.load(Relaxed), 1_000);
}

#[test]
fn explanations_say_how_a_client_stands_and_charge_nothing() {
    let table = table(&login(rate(2, 1, 5), Some(RateSpec { key: RateKey::Route, ..rate(3, 60, 3) })));
    let told = |from: &str, path: &str| {
        let view = RequestView::get("h", path, from.parse().unwrap());
        explain(&table, &Cursors::default(), &view, START, 1)
    };
    let lines = |text: String| text.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
    for _ in 0..2 {
        assert_eq!(
            lines(told("2001:db8::1", "/login").to_string())[1],
            "rate     2 in 1 s           source 2001:db8::/64 may make 5 at once now, of 5"
        );
    }
    assert_eq!(
        lines(told("192.0.2.1", "/").to_string())[1],
        "rate     3 in 60 s          all clients may make 3 at once now, of 3"
    );
    assert_eq!(taken(&table, "192.0.2.1", "/login", &[], START), 5);
    let explanation = told("192.0.2.1", "/login");
    assert_eq!(
        explanation.to_string(),
        "find     route login        path_prefix /login   (beat: route rest, anything)\n\
         rate     2 in 1 s           source 192.0.2.1 has used up its 5 and has to wait 500 ms\n\
         refuse   429 rate_limited   more requests than the route's rate allows"
    );
    let Verdict::Refuse(refusal) = explanation.verdict else { panic!("{explanation}") };
    assert_eq!(refusal.reason, RefusalReason::RateLimited);
    assert!(explanation.pick.is_none() && explanation.choose.is_none());
    let rate = explanation.rate.unwrap();
    assert_eq!((rate.left, rate.wait), (0, Some(Duration::from_millis(500))));
}
