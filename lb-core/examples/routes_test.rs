//! A routing table under test: where requests go is checked by `cargo test`, before anything runs.
//!
//! ```text
//! cargo test -p lb-core --example routes_test
//! cargo run -p lb-core --example routes_test -- GET http://shop.example.com/cart/7 'cookie: canary=always'
//! ```
//!
//! The table is the one that a service would be started with. Nothing listens, nothing is sent: a decision depends on
//! its arguments only, so the test gives them, and [`explain`] tells why a request went where nobody expected it.

use lb_core::spec::{
    BackendSpec, CanarySpec, PathMatch, Redirect, RouteSpec, Secrets, ServerSpec, SigningKey, Spec,
    StickySpec, ValueMatch, ValueTest,
};
use lb_core::{Cursors, Explanation, RequestView, SecretKey, Table, compile, explain};
use std::time::Duration;

/// The table of a shop.
fn spec() -> Spec {
    let route = |name: &str, path: PathMatch, backend: &str| RouteSpec {
        hosts: vec!["shop.example.com".into()],
        path,
        ..RouteSpec::new(name, backend)
    };
    let canary = CanarySpec {
        backend: "cart-next".into(),
        share: "2%".parse().expect("a share"),
        cookie: Some("canary".into()),
        release: "2026-11-21".into(),
        ..CanarySpec::default()
    };
    let mut legacy = route("legacy", PathMatch::Prefix("/basket".into()), "shop");
    legacy.backend = None;
    legacy.actions.redirect = Some(Redirect { path: Some("/cart".into()), ..Redirect::default() });
    let mobile = ValueMatch { name: "x-app".into(), test: ValueTest::Present };
    Spec {
        // A service would read its keys from where it keeps secrets.
        secrets: Secrets {
            signing: vec![SigningKey { id: "test".into(), key: SecretKey::new([1; 16]) }],
            share: Some(SecretKey::new([2; 16])),
        },
        routes: vec![
            route("shop", PathMatch::Any, "shop"),
            RouteSpec { headers: vec![mobile], ..route("app", PathMatch::Any, "app") },
            RouteSpec { canary: Some(canary), ..route("cart", PathMatch::Prefix("/cart".into()), "cart") },
            legacy,
        ],
        backends: vec![
            backend("shop", &["10.0.1.1:80", "10.0.1.2:80"]),
            backend("app", &["10.0.2.1:80"]),
            BackendSpec {
                sticky: Some(StickySpec::default()),
                ..backend("cart", &["10.0.3.1:80", "10.0.3.2:80"])
            },
            BackendSpec { sticky: Some(StickySpec::default()), ..backend("cart-next", &["10.0.4.1:80"]) },
        ],
        ..Spec::default()
    }
}

fn backend(name: &str, addresses: &[&str]) -> BackendSpec {
    let server = |(number, address): (usize, &&str)| {
        ServerSpec::new(format!("s{number}"), address.parse().expect("an address with a port"))
    };
    BackendSpec::new(name, addresses.iter().enumerate().map(server))
}

fn table() -> Table {
    let compiled = compile(&spec()).unwrap_or_else(|error| panic!("{error}"));
    Table::new(compiled.snapshot, None)
}

/// Where a request goes: `METHOD http://host/path?query`, with headers, and random bits (each client's own).
fn ask(table: &Table, request: &str, headers: &[(&str, &str)], random: u128) -> Explanation {
    let (method, url) = request.split_once(' ').expect("a method and a URL");
    let rest = url.strip_prefix("http://").expect("a URL with http");
    let (host, target) = rest.split_at(rest.find('/').expect("a path"));
    let view = RequestView::get(host, target, [192, 0, 2, 1].into()).with_fields(headers);
    let view = RequestView { method: method.as_bytes(), ..view };
    explain(table, &Cursors::default(), &view, Duration::from_secs(1), random)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [method, url, headers @ ..] = &arguments[..] else {
        println!("usage: routes_test METHOD http://HOST/PATH ['name: value'...]");
        return;
    };
    let headers: Vec<(&str, &str)> = headers.iter().filter_map(|header| header.split_once(": ")).collect();
    println!("{}", ask(&table(), &format!("{method} {url}"), &headers, 0));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The route, and the arm's backend or what it answers.
    fn goes(explained: &Explanation) -> String {
        let route = explained.find.route.as_ref().map_or("none", |route| &route.name);
        let to = explained.pick.as_ref().map(|pick| pick.backend.clone());
        let answer = explained.answer.as_ref().map(|(status, _)| status.to_string());
        format!("{route} → {}", to.or(answer).unwrap_or("nowhere".into()))
    }

    /// Random bits of a client that the canary does not take at 2 %.
    const STABLE: u128 = 1;

    #[test]
    fn requests_go_where_they_should() {
        let table = table();
        for (request, headers, expected) in [
            ("GET http://shop.example.com/", &[][..], "shop → shop"),
            ("GET http://shop.example.com/", &[("X-App", "3.1")], "app → app"),
            ("GET http://SHOP.example.com:80/cart/7", &[], "cart → cart"),
            ("GET http://shop.example.com/cart/7", &[("X-App", "3.1")], "cart → cart"),
            ("GET http://shop.example.com/cartoon", &[], "shop → shop"),
            ("GET http://shop.example.com/basket/7", &[], "legacy → 302"),
            ("GET http://shop.example.com/a/../b", &[], "shop → nowhere"),
            ("GET http://other.example.com/", &[], "none → nowhere"),
        ] {
            let explained = ask(&table, request, headers, STABLE);
            assert_eq!(goes(&explained), expected, "{request} {headers:?}\n{explained}");
        }
    }

    #[test]
    fn testers_choose_and_others_are_drawn() {
        let table = table();
        let cart = "GET http://shop.example.com/cart";
        for (word, expected) in [("always", "cart → cart-next"), ("never", "cart → cart")] {
            let cookie = format!("canary={word}");
            let explained = ask(&table, cart, &[("cookie", &cookie)], 0);
            assert_eq!(goes(&explained), expected, "{explained}");
        }
        let sessions = 20_000_u128;
        let canary =
            (0..sessions).filter(|bits| goes(&ask(&table, cart, &[], *bits)) == "cart → cart-next").count();
        // 2 % of 20,000 are 400; four standard deviations are 79.
        assert!((321..=479).contains(&canary), "{canary} of {sessions}");
    }

    /// What `compile` finds odd about a table is worth a look, too.
    #[test]
    fn nothing_is_odd() {
        let warnings = compile(&spec()).expect("it compiles").warnings;
        assert!(warnings.is_empty(), "{warnings:#?}");
    }
}
