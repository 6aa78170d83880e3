//! Explanations: what they say, and that they say what happens.

use crate::support::*;
use lb_core::spec::*;
use lb_core::{Cursors, Explanation, Outcome, RequestView, Table, Verdict, decide, explain};
use std::time::Duration;

fn shop() -> Spec {
    let mut old =
        backend("cart-ec2", Policy::LeastRequest, vec![server("a", 10), server("b", 10), backup("old")]);
    old.sticky = Some(StickySpec::default());
    let new = backend("cart-k8s", Policy::RoundRobin, vec![server("elb", 1)]);
    let cart = RouteSpec {
        hosts: vec!["shop.example.com".into()],
        path: PathMatch::Prefix("/cart".into()),
        canary: Some(CanarySpec {
            backend: "cart-k8s".into(),
            share: "2%".parse().unwrap(),
            cookie: Some("canary".into()),
            ..CanarySpec::default()
        }),
        ..route("cart", "cart-ec2")
    };
    let beta = RouteSpec {
        headers: vec![ValueMatch { name: "X-Beta".into(), test: ValueTest::Present }],
        canary: None,
        name: "beta".into(),
        ..cart.clone()
    };
    let rest = RouteSpec { path: PathMatch::Prefix("/".into()), ..route("shop", "cart-ec2") };
    let mut moved = RouteSpec { path: PathMatch::Prefix("/old".into()), backend: None, ..route("moved", "") };
    moved.actions.redirect =
        Some(Redirect { location: Some("/new{path}".into()), status: Some(301), ..Redirect::default() });
    Spec { routes: vec![cart, beta, rest, moved], backends: vec![old, new], ..spec() }
}

fn ask(table: &Table, method: &str, path: &str, cookie: &str) -> Explanation {
    let fields = [("cookie", cookie)];
    let view = RequestView {
        listener: 0,
        method: method.as_bytes(),
        host: b"shop.example.com",
        path: path.as_bytes(),
        query: None,
        fields: &fields,
        source: "192.0.2.1".parse().unwrap(),
        secure: false,
    };
    let (cursors, now, random) = (Cursors::default(), Duration::from_secs(5), 3);
    let explanation = explain(table, &cursors, &view, now, random);
    let verdict = decide(table, &cursors, &view, now, random);
    assert_eq!(format!("{:?}", explanation.verdict), format!("{verdict:?}"), "the same code decides");
    explanation
}

#[test]
fn a_request_all_the_way() {
    let table = table(&shop());
    let mut client = Client::new(1);
    client.path = "/cart".into();
    let mut permits = Vec::new();
    while live(&table, "a").in_flight() < 3 || live(&table, "b").in_flight() < 4 {
        client.cookies.clear();
        client.random = bits(permits.len() as u64);
        permits.push(client.request(&table).1);
    }
    let session = "lb_session=AwAAAAAAAAAAAAAAAAAAAA";
    let explanation = ask(&table, "GET", "/cart/7", session);
    let Verdict::Forward(decision) = explanation.verdict else { panic!("{explanation}") };
    let at = decision.bucket().unwrap();
    let (server, load) = (whereto(&table, &decision).1, live(&table, "a").in_flight());
    let other = if server == "a" { "b" } else { "a" };
    let expected = format!(
        "find     route cart         host shop.example.com, path_prefix /cart   (beat: route shop, path_prefix /)   \
         (passed: route beta asks for header x-beta)\n\
         choose   arm stable         session at {}.{:02} %, canary takes 0.00 to 2.00 %\n\
         pick     cart-ec2/{server}         least_request: a has {load} in flight, b {}; no sticky cookie\n\
         \x20        then               cart-ec2/{other}, then backup old, then cart-k8s/elb\n\
         limits   connect 3 s, response 30 s, 1 retry (GET; budget 20 %)",
        at / 100,
        at % 100,
        live(&table, "b").in_flight(),
    );
    assert_eq!(explanation.to_string(), expected);
    drop(permits);
}

#[test]
fn a_class_is_told_where_there_are_two() {
    let mut spec = shop();
    spec.routes[0].class = Class::Platinum;
    let told = ask(&table(&spec), "GET", "/cart/7", "").to_string();
    assert!(told.ends_with("1 retry (GET; budget 20 %), class platinum"), "{told}");
    let explanation = ask(&table(&spec), "GET", "/", "");
    assert_eq!(explanation.limits.unwrap().class, Some(Class::Gold));
}

#[test]
fn limits_tell_of_retries_what_is_not_as_usual() {
    let limits = |method: &str, change: fn(&mut RetrySpec)| {
        let mut spec = shop();
        change(&mut spec.retry);
        let told = ask(&table(&spec), method, "/cart", "").to_string();
        told.lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("limits   connect 3 s, response 30 s, ")
            .to_owned()
    };
    assert_eq!(limits("GET", |retry| retry.retries = Some(0)), "no retry");
    let on = |retry: &mut RetrySpec| {
        retry.on = Some(vec![RetryOn::Connect, RetryOn::Statuses(429..=429), RetryOn::Statuses(502..=504)]);
    };
    assert_eq!(limits("GET", on), "1 retry (GET; on connect, 429, 502-504; budget 20 %)");
    let all = |retry: &mut RetrySpec| {
        *retry = RetrySpec {
            retries: Some(3),
            budget_percent: Some(5),
            on: Some(vec![RetryOn::Connect, RetryOn::Closed, RetryOn::Statuses(503..=503)]),
            attempt_timeout: Some(Duration::from_secs(2)),
            backoff: Some(Duration::from_millis(5)),
            backoff_max: Some(Duration::from_secs(1)),
            hold_body: Some(1 << 10),
            non_idempotent: Some(vec!["POST".to_owned()]),
        };
    };
    let words =
        "on connect, closed, 503; attempt 2 s; backoff 5 ms to 1 s; body held up to 1024 bytes; budget 5 %)";
    assert_eq!(limits("POST", all), format!("3 retries (POST; {words}"));
    assert_eq!(limits("PATCH", all), format!("3 retries (PATCH, only while nothing was sent; {words}"));
}

#[test]
fn forced_fallback_and_last_resort() {
    let table = table(&shop());
    let forced = ask(&table, "POST", "/cart", "canary=always").to_string();
    assert!(forced.contains("choose   arm canary         by the testers' cookie (session at "), "{forced}");
    assert!(forced.contains("pick     cart-k8s/elb       round_robin: its turn"), "{forced}");
    assert!(forced.contains("1 retry (POST, only while nothing was sent; budget 20 %)"), "{forced}");

    for name in ["a", "b", "old", "elb"] {
        live(&table, name).set_admin(Admin::Maintenance);
    }
    let refused = ask(&table, "GET", "/cart", "").to_string();
    assert!(
        refused.contains("pick     nobody             no server can serve; a is in maintenance;"),
        "{refused}"
    );
    assert!(refused.ends_with("refuse   503 no_server      no server can serve"), "{refused}");

    live(&table, "elb").set_admin(Admin::Ready);
    let fallen = ask(&table, "GET", "/cart", "").to_string();
    assert!(fallen.contains("; it cannot serve, so arm canary does"), "{fallen}");

    let mut client = Client::new(0);
    client.now = Duration::from_secs(5);
    client.path = "/cart".into();
    client.request(&table).1.finish(Outcome::ConnectFailed, client.now);
    let last = ask(&table, "GET", "/cart", "").to_string();
    assert!(last.contains("connections to it have just failed, but all others are out, too"), "{last}");
    assert!(last.contains("elb is out for 100 ms, as a connection failed"), "{last}");
}

#[test]
fn answers_and_refusals() {
    let table = table(&shop());
    assert_eq!(
        ask(&table, "GET", "/old/7", "").to_string(),
        "find     route moved        path_prefix /old   (beat: route shop, path_prefix /)\n\
         answer   redirect 301       to /new/old/7"
    );
    assert_eq!(
        ask(&table, "GET", "/a/%2e%2e/b", "").to_string(),
        "find     route shop         path_prefix /\n\
         refuse   400 bad_path       the path has a dot segment, a backslash or NUL, or does not begin with a slash"
    );
    let mut none = shop();
    none.routes.retain(|route| route.name == "cart");
    let table = crate::support::table(&none);
    assert_eq!(
        ask(&table, "GET", "/x%41", "").to_string(),
        "find     no route           path /xA\n\
         refuse   404 no_route       no route matches"
    );
}

#[test]
fn stickiness_is_told() {
    let table = table(&shop());
    let mut client = Client::new(9);
    let (decision, _permit) = client.request(&table);
    let cookie = format!("lb_cart-ec2={}", client.cookie("lb_cart-ec2").unwrap());
    let home = whereto(&table, &decision).1;
    let stays = ask(&table, "GET", "/", &cookie).to_string();
    assert!(
        stays.contains(&format!("pick     cart-ec2/{home}         its sticky cookie names it\n")),
        "{stays}"
    );
    live(&table, &home).set_admin(Admin::Maintenance);
    let moves = ask(&table, "GET", "/", &cookie).to_string();
    assert!(moves.contains("the sticky cookie names no server that can serve; next by hash"), "{moves}");
    assert!(moves.contains(&format!("{home} is in maintenance")), "{moves}");
}

#[test]
fn the_end_of_a_drain_is_told() {
    let table = table(&shop());
    let a = live(&table, "a");
    a.set_admin(Admin::Drain);
    // As `ask` has it.
    let now = Duration::from_secs(5);
    for (deadline, words) in [
        (None, "a drains;"),
        (Some(now), "a has drained: its time is over"),
        (Some(now + Duration::from_millis(45_500)), "a drains for 45 s yet"),
        (Some(now + Duration::from_secs(1_900)), "a drains for 31 min yet"),
        (Some(now + Duration::from_secs(7_300)), "a drains for 2 h yet"),
    ] {
        a.set_drain_deadline(deadline);
        let told = ask(&table, "GET", "/cart", "").to_string();
        assert!(told.contains(words), "{words}: {told}");
    }
}
