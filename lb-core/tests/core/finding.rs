//! Find: the most specific route whose conditions all hold.

use crate::support::{backend, route, server, spec, table};
use lb_core::spec::*;
use lb_core::{Cursors, RequestView, Table, Verdict, decide};
use proptest::prelude::*;
use std::time::Duration;

/// A request line and headers: `GET host/path?query`, then `name: value`.
fn find(table: &Table, request: &str) -> String {
    find_from(table, request, "192.0.2.1", 0)
}

fn find_from(table: &Table, request: &str, source: &str, listener: u32) -> String {
    let mut lines = request.lines();
    let (method, url) = lines.next().unwrap().split_once(' ').unwrap();
    let (host, rest) = url.split_at(url.find('/').unwrap_or(url.len()));
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let fields: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap()).collect();
    let view = RequestView {
        listener,
        method: method.as_bytes(),
        host: host.as_bytes(),
        path: path.as_bytes(),
        query: query.map(str::as_bytes),
        fields: &fields,
        source: source.parse().unwrap(),
        secure: false,
    };
    match decide(table, &Cursors::default(), &view, Duration::ZERO, 0) {
        Verdict::Forward(decision) => table.snapshot.route(decision.route()).name.to_string(),
        Verdict::Answer(route) => format!("answer {}", table.snapshot.route(route).name),
        Verdict::Refuse(refusal) => format!("{} {}", refusal.status(), refusal.word()),
    }
}

fn routes(routes: Vec<RouteSpec>) -> Table {
    let backends = vec![backend("app", Policy::RoundRobin, vec![server("a", 1)])];
    table(&Spec { routes, backends, ..spec() })
}

fn on(name: &str, host: &str, path: PathMatch) -> RouteSpec {
    let hosts = if host.is_empty() { vec![] } else { vec![host.to_owned()] };
    RouteSpec { hosts, path, ..route(name, "app") }
}

fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.into())
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.into())
}

#[cfg(feature = "regex")]
fn regex(path: &str) -> PathMatch {
    PathMatch::Regex(path.into())
}

#[cfg(feature = "regex")]
#[test]
fn hosts_then_paths() {
    let table = routes(vec![
        on("any", "", PathMatch::Any),
        on("any-x", "", prefix("/x")),
        on("suffix", "*.example.com", prefix("/")),
        on("suffix-deep", "*.b.example.com", prefix("/deep")),
        on("shop", "Shop.Example.com", prefix("/shop")),
        on("shop-exact", "shop.example.com", exact("/shop/cart")),
        on("shop-cart", "shop.example.com", prefix("/shop/cart/")),
        on("shop-regex", "shop.example.com", regex("/r/[0-9]+")),
        on("shop-longer-regex", "shop.example.com", regex("/r/[0-9][0-9]?")),
        on("shop-rest", "shop.example.com", PathMatch::Any),
        on("v6", "[2001:db8::1]", PathMatch::Any),
    ]);
    for (request, expected) in [
        ("GET shop.example.com/shop/cart", "shop-exact"),
        ("GET SHOP.example.COM.:8080/shop/cart", "shop-exact"),
        ("GET shop.example.com/shop/cart/", "shop-cart"),
        ("GET shop.example.com/shop/cart/7", "shop-cart"),
        ("GET shop.example.com/shop/cartoon", "shop"),
        ("GET shop.example.com/shop/%63art/7", "shop-cart"),
        ("GET shop.example.com/shop%2Fcart", "shop-rest"),
        ("GET shop.example.com/shop//cart", "shop"),
        ("GET shop.example.com/shopping", "shop-rest"),
        ("GET shop.example.com/r/7", "shop-longer-regex"),
        ("GET shop.example.com/r/777", "shop-regex"),
        ("GET shop.example.com/r/7/8", "shop-rest"),
        ("GET shop.example.com/x", "shop-rest"),
        ("GET a.example.com/x", "suffix"),
        ("GET a.b.example.com/deep/er", "suffix-deep"),
        ("GET a.b.example.com/flat", "suffix"),
        ("GET b.example.com/deep", "suffix"),
        ("GET example.com/x/y", "any-x"),
        ("GET example.com/", "any"),
        ("GET /", "any"),
        ("OPTIONS other.example*", "any"),
        ("GET [2001:DB8::1]:80/", "v6"),
    ] {
        // An asterisk is no path that the little language above knows.
        let request = request.replace('*', "");
        assert_eq!(find(&table, &request), expected, "{request}");
    }
}

#[test]
fn nothing_matches() {
    let table = routes(vec![on("shop", "shop.example.com", prefix("/shop"))]);
    for (request, expected) in [
        ("GET shop.example.com/", "404 no_route"),
        ("GET shop.example.com/sho", "404 no_route"),
        ("GET other.example.com/shop", "404 no_route"),
        ("GET x.shop.example.com/shop", "404 no_route"),
        ("GET shop.example.com/../etc", "400 bad_path"),
        ("GET shop.example.com/shop/../etc", "400 bad_path"),
        ("GET shop.example.com/shop/%2e%2e/etc", "400 bad_path"),
        ("GET shop.example.com/shop/%5C", "400 bad_path"),
        ("GET shop.example.com/shop/%00", "400 bad_path"),
    ] {
        assert_eq!(find(&table, request), expected, "{request}");
    }
    let long = format!("GET shop.example.com/shop/{}", "a".repeat(70_000));
    assert_eq!(find(&table, &long), "414 path_too_long");
}

#[test]
fn path_settings() {
    let mut raw = on("raw", "raw.example", prefix("/"));
    raw.path_encoding = PathEncoding::Raw;
    let mut refuse = on("refuse", "refuse.example", prefix("/"));
    refuse.encoded_slash = EncodedSlash::Refuse;
    let table = routes(vec![raw, refuse, on("keep", "keep.example", prefix("/@scope%2Fname"))]);
    for (request, expected) in [
        ("GET raw.example/a/../b%5C%00", "raw"),
        ("GET refuse.example/a", "refuse"),
        ("GET refuse.example/a%2fb", "400 encoded_slash"),
        ("GET keep.example/@scope%2fname/-/x", "keep"),
        ("GET keep.example/@scope/name", "404 no_route"),
    ] {
        assert_eq!(find(&table, request), expected, "{request}");
    }
}

fn value(name: &str, test: ValueTest) -> ValueMatch {
    ValueMatch { name: name.into(), test }
}

#[cfg(feature = "regex")]
#[test]
fn conditions_and_their_order() {
    let mut method = on("method", "", prefix("/"));
    method.methods = vec!["POST".into(), "PUT".into()];
    let mut header = on("header", "", prefix("/"));
    header.headers = vec![value("X-Beta", ValueTest::Is("1".into()))];
    let mut headers = on("headers", "", prefix("/"));
    headers.headers = vec![
        value("x-beta", ValueTest::Is("1".into())),
        value("Accept", ValueTest::Regex("text/.*".into())),
        value("x-none", ValueTest::Absent),
    ];
    let mut query = on("query", "", prefix("/"));
    query.query = vec![value("v", ValueTest::Is("a b".into()))];
    let mut cookie = on("cookie", "", prefix("/"));
    cookie.cookies = vec![value("user", ValueTest::Present)];
    let mut source = on("source", "", prefix("/"));
    source.sources = vec!["10.0.0.0/8".parse().unwrap()];
    let table = routes(vec![on("plain", "", prefix("/")), source, cookie, query, header, headers, method]);
    for (request, expected) in [
        ("GET x/", "plain"),
        ("POST x/", "method"),
        ("POST x/\nx-beta: 1", "method"),
        ("post x/", "plain"),
        ("GET x/\nX-BETA: 1", "header"),
        ("GET x/\nx-beta: 10", "plain"),
        ("GET x/\nx-beta: 0\nx-beta: 1", "header"),
        ("GET x/\nx-beta: 1\naccept: text/html", "headers"),
        ("GET x/\nx-beta: 1\naccept: a text/html", "header"),
        ("GET x/\nx-beta: 1\naccept: text/html\nx-none: ", "header"),
        ("GET x/?v=a+b", "query"),
        ("GET x/?u=1&v=a%20b&v=c", "query"),
        ("GET x/?v=ab", "plain"),
        ("GET x/?v=a+b\nx-beta: 1", "header"),
        ("GET x/\ncookie: a=1; user=", "cookie"),
        ("GET x/\ncookie: a=1; User=1", "plain"),
        ("GET x/?v=a+b\ncookie: user=1", "query"),
    ] {
        assert_eq!(find(&table, request), expected, "{request}");
    }
    assert_eq!(find_from(&table, "GET x/", "10.1.2.3", 0), "source");
    assert_eq!(find_from(&table, "GET x/\ncookie: user=1", "10.1.2.3", 0), "cookie");
}

#[test]
fn priority_beats_everything() {
    let mut loud = on("loud", "", PathMatch::Any);
    loud.priority = 1;
    loud.headers = vec![value("x-loud", ValueTest::Present)];
    let mut meek = on("meek", "shop.example.com", exact("/cart"));
    meek.priority = -1;
    let table =
        routes(vec![meek, on("plain", "", prefix("/")), loud, on("other", "other.example", exact("/x"))]);
    for (request, expected) in [
        ("GET shop.example.com/cart", "plain"),
        ("GET shop.example.com/cart\nx-loud: 1", "loud"),
        ("GET other.example/x", "other"),
        ("GET other.example/x\nx-loud: 1", "loud"),
    ] {
        assert_eq!(find(&table, request), expected, "{request}");
    }
}

#[test]
fn listeners() {
    let mut spec = Spec {
        backends: vec![backend("app", Policy::RoundRobin, vec![server("a", 1)])],
        routes: vec![on("both", "", prefix("/")), on("inner", "", prefix("/"))],
        ..spec()
    };
    spec.listeners.push(ListenerSpec { name: "internal".into(), ..ListenerSpec::default() });
    spec.routes[1].listeners = vec!["internal".into()];
    let table = table(&spec);
    assert_eq!(find_from(&table, "GET x/", "192.0.2.1", 0), "both");
    assert_eq!(find_from(&table, "GET x/", "192.0.2.1", 1), "inner");
    assert_eq!(find_from(&table, "GET x/", "192.0.2.1", 1_000), "both");
}

#[test]
fn answers() {
    let mut moved = RouteSpec { backend: None, ..on("moved", "", prefix("/old")) };
    moved.actions.redirect = Some(Redirect { path: Some("/new".into()), ..Redirect::default() });
    let mut fixed = RouteSpec { backend: None, ..on("fixed", "", prefix("/health")) };
    fixed.actions.reply = Some(Reply { body: "ok".into(), ..Reply::default() });
    let table = routes(vec![moved, fixed, on("rest", "", prefix("/"))]);
    assert_eq!(find(&table, "GET x/old/7"), "answer moved");
    assert_eq!(find(&table, "GET x/health"), "answer fixed");
    assert_eq!(find(&table, "GET x/new"), "rest");
}

/// What the index must agree with: every route asked in order of specificity.
fn by_hand(specs: &[RouteSpec], host: &str, path: &str) -> String {
    let host_rank = |route: &RouteSpec| {
        let rank = |it: &String| match it.strip_prefix("*.") {
            Some(suffix) => host.ends_with(&format!(".{suffix}")).then_some(suffix.len()),
            None => (it == host).then_some(usize::MAX),
        };
        if route.hosts.is_empty() { Some(0) } else { route.hosts.iter().filter_map(rank).max() }
    };
    let path_rank = |route: &RouteSpec| match &route.path {
        PathMatch::Any => Some((0, 0)),
        PathMatch::Exact(it) => (it == path).then_some((2, 0)),
        PathMatch::Prefix(it) => {
            let it = it.trim_end_matches('/');
            let whole = path == it || path.starts_with(&format!("{it}/"));
            whole.then_some((1, it.len()))
        }
        _ => None,
    };
    let candidates = specs.iter().enumerate().filter_map(|(place, route)| {
        Some((route.priority, host_rank(route)?, path_rank(route)?, std::cmp::Reverse(place)))
    });
    candidates.max().map_or("404 no_route".into(), |(.., place)| specs[place.0].name.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_index_agrees_with_asking_every_route(
        parts in proptest::collection::vec(
            (proptest::sample::subsequence(vec!["a.b", "b", "*.b", "*.a.b", "x.a.b", "*.c"], 0..3),
             proptest::sample::select(vec!["", "=/", "=/a", "=/a/b", "/", "/a", "/a/", "/a/b", "/a//b", "/b"]),
             -1_i32..2),
            1..12,
        ),
        hosts in proptest::collection::vec(proptest::sample::select(vec!["b", "a.b", "x.a.b", "y.a.b", "c", "z"]), 5),
        paths in proptest::collection::vec(
            proptest::sample::select(vec!["/", "/a", "/a/", "/a/b", "/a/b/c", "/a//b", "/a//b/", "/ab", "/b/x", "//"]), 5),
    ) {
        let specs: Vec<RouteSpec> = parts.iter().enumerate().map(|(place, (hosts, path, priority))| RouteSpec {
            hosts: hosts.iter().map(|host| host.to_string()).collect(),
            path: match path.strip_prefix('=') {
                Some(path) => exact(path),
                None if path.is_empty() => PathMatch::Any,
                None => prefix(path),
            },
            priority: *priority,
            ..route(&format!("r{place}"), "app")
        }).collect();
        let table = routes(specs.clone());
        for host in &hosts {
            for path in &paths {
                let request = format!("GET {host}{path}");
                prop_assert_eq!(find(&table, &request), by_hand(&specs, host, path), "{}", request);
            }
        }
    }

    /// Whatever bytes come, there is a verdict.
    #[test]
    fn any_bytes_get_a_verdict(
        host in proptest::collection::vec(any::<u8>(), 0..300),
        path in proptest::collection::vec(any::<u8>(), 0..300),
        query in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60)),
        cookie in proptest::collection::vec(any::<u8>(), 0..100),
        listener: u32,
    ) {
        let mut spec = crate::support::split("50%", |_| ());
        spec.routes[0].query = vec![value("a", ValueTest::Absent)];
        spec.backends[1].balance = Policy::Rendezvous;
        spec.backends[1].hash_key = HashKey::Query("b".into());
        let table = table(&spec);
        let fields = [(b"cookie".to_vec(), cookie.clone()), (cookie, b"".to_vec())];
        let view = RequestView {
            listener,
            method: &host,
            host: &host,
            path: &path,
            query: query.as_deref(),
            fields: &fields,
            source: "192.0.2.1".parse().unwrap(),
            secure: false,
        };
        let verdict = decide(&table, &Cursors::default(), &view, Duration::ZERO, 0);
        let expected_path = path.is_empty() || path == b"*" || path.first() == Some(&b'/');
        if !expected_path {
            prop_assert!(matches!(verdict, Verdict::Refuse(refusal) if refusal.status() == 400 || refusal.status() == 404));
        }
        let text = lb_core::explain(&table, &Cursors::default(), &view, Duration::ZERO, 0).to_string();
        prop_assert!(!text.is_empty());
    }
}
