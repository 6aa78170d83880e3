//! Policies, and what shapes them, as requests meet them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use crate::harness::client::get;
use crate::harness::lb::{backend, servers};
use crate::harness::origin::ok;
use crate::harness::*;

const SECRETS: &str = "one:00112233445566778899aabbccddeeff\nshare:ffeeddccbbaa99887766554433221100\n";

on_both_drivers! {
    every_policy_serves_from_every_server,
    keys_have_one_home_on_every_node,
    peak_ewma_leaves_a_slow_server,
    a_hot_key_cannot_fill_a_server,
    a_new_server_starts_slowly,
    the_own_zone_comes_first,
}

fn origins(count: usize) -> Vec<Origin> {
    (0..count).map(|n| Origin::named(&format!("s{n}"))).collect()
}

fn named(origins: &[Origin]) -> Vec<(String, SocketAddr)> {
    origins.iter().enumerate().map(|(n, origin)| (format!("s{n}"), origin.address)).collect()
}

/// A route to servers s0, s1 and so on, with further keys of the backend.
fn config(origins: &[Origin], keys: &str) -> String {
    let named = named(origins);
    let named: Vec<(&str, SocketAddr)> = named.iter().map(|(name, address)| (&**name, *address)).collect();
    format!("{}{keys}", servers(&named))
}

/// Who answers requests of these paths.
fn who(address: SocketAddr, paths: impl Iterator<Item = String>) -> Vec<String> {
    paths.map(|path| get(address, "shop.example", &path).text()).collect()
}

fn counts(answers: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    answers.iter().for_each(|answer| *counts.entry(&**answer).or_default() += 1);
    counts
}

fn every_policy_serves_from_every_server(driver: Driver) {
    for policy in ["round_robin", "least_request", "peak_ewma", "random", "maglev", "rendezvous"] {
        let origins = origins(3);
        let hashes = matches!(policy, "maglev" | "rendezvous");
        let key = if hashes { "hash_key = \"path\"\n" } else { "" };
        let lb = Lb::start(driver, config(&origins, &format!("balance = \"{policy}\"\n{key}")));
        let answers = who(lb.web(), (0..90).map(|n| format!("/{n}")));
        let counts = counts(&answers);
        match policy {
            // A turn each, for each of two workers.
            "round_robin" => assert!(counts.values().all(|count| (28..=32).contains(count)), "{counts:?}"),
            // The quickest gets most where requests come one by one.
            "peak_ewma" => assert_eq!(counts.len(), 3, "{counts:?}"),
            // A third of 90, 30 ± 4.5; five deviations.
            _ => {
                assert!(counts.len() == 3 && counts.values().all(|count| *count < 53), "{policy}: {counts:?}")
            }
        }
    }
}

fn keys_have_one_home_on_every_node(driver: Driver) {
    for policy in ["maglev", "rendezvous"] {
        let origins = origins(5);
        let keys = |policy: &str| format!("balance = \"{policy}\"\nhash_key = \"path\"\n");
        let secret = "[session]\nsecret_file = \"@DIR@/secret\"\n";
        let start =
            |config: String| Setup::new(driver, format!("{secret}{config}")).file("secret", SECRETS).start();
        let (here, there) = (start(config(&origins, &keys(policy))), start(config(&origins, &keys(policy))));
        let paths = || (0..60).map(|n| format!("/{n}"));
        let homes = who(here.web(), paths());
        assert_eq!(who(there.web(), paths()), homes, "{policy}");
        assert_eq!(counts(&homes).len(), 5, "{policy}");

        // One is gone: its keys move and no others, and both nodes agree again.
        origins[2].kill();
        let after = who(here.web(), paths());
        assert_eq!(who(there.web(), paths()), after, "{policy}");
        for (before, after) in homes.iter().zip(&after) {
            assert!(before == after || before == "s2", "{policy}: {before} became {after}");
        }
    }
}

fn peak_ewma_leaves_a_slow_server(driver: Driver) {
    let slow = Origin::answering(|_| {
        // It is what this server is like, and nothing waits for it to pass.
        thread::park_timeout(std::time::Duration::from_millis(300));
        ok("slow")
    });
    let quick = [Origin::named("a"), Origin::named("b")];
    let config = servers(&[("slow", slow.address), ("a", quick[0].address), ("b", quick[1].address)]);
    let lb = Lb::start(driver, format!("{config}balance = \"peak_ewma\"\n"));
    let answers = who(lb.web(), (0..60).map(|n| format!("/{n}")));
    let slow = counts(&answers).get("slow").copied().unwrap_or_default();
    assert!((1..10).contains(&slow), "it is tried, and left: {slow} of 60");

    let page = lb.admin_get("/explain?url=http://shop.example/&format=json").text();
    let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    let latency_us = page["pick"]["servers"][0]["latency_us"].as_u64().expect("a latency");
    assert!(latency_us > 100_000, "half of 300 ms is forgotten in seven seconds, not more: {page}");
    assert_ne!(page["pick"]["server"]["name"], "slow");
}

fn a_hot_key_cannot_fill_a_server(driver: Driver) {
    for policy in ["maglev", "rendezvous"] {
        let gate = Gate::new();
        let held = |name: &'static str| {
            let gate = gate.clone();
            Origin::answering(move |_| {
                gate.wait();
                ok(name)
            })
        };
        let origins = [held("s0"), held("s1"), held("s2")];
        let keys = format!("balance = \"{policy}\"\nhash_key = \"path\"\nmax_load = \"150%\"\n");
        let lb = Lb::start(driver, config(&origins, &keys));
        let web = lb.web();
        let clients: Vec<_> = (1..=12)
            .map(|number| {
                let client = thread::spawn(move || get(web, "shop.example", "/hot").text());
                // Each comes when the one before is under way at its server.
                until("the request to arrive", || {
                    origins
                        .iter()
                        .map(|origin| {
                            origin.all_received().windows(4).filter(|it| *it == b"\r\n\r\n").count()
                        })
                        .sum::<usize>()
                        == number
                });
                client
            })
            .collect();
        gate.open();
        let answers: Vec<String> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        let counts = counts(&answers);
        // ⌈1.5 × 12 / 3⌉ = 6 at most, so that two servers cannot take all; without a bound one does.
        assert!(counts.values().all(|count| *count <= 6) && counts.len() >= 2, "{policy}: {counts:?}");
    }
}

fn a_new_server_starts_slowly(driver: Driver) {
    let origins = origins(2);
    let keys = "balance = \"random\"\nslow_start = \"1h\"\n";
    let lb = Lb::start(driver, config(&origins[..1], keys));
    who(lb.web(), ["/".to_owned()].into_iter());
    lb.reload(&config(&origins, keys));
    let answers = who(lb.web(), (0..300).map(|n| format!("/{n}")));
    let new = counts(&answers).get("s1").copied().unwrap_or_default();
    // A tenth of the other's share, 27 ± 5 of 300; five deviations.
    assert!((2..=53).contains(&new), "{new} of 300");
    let words = lb.admin_get("/explain?url=http://shop.example/").text();
    assert!(words.contains("random: drawn by weight"), "{words}");
    assert!(words.contains("s1 is in slow start with 10 % of its weight"), "{words}");
}

fn the_own_zone_comes_first(driver: Driver) {
    let (here, there) = (Origin::named("here"), Origin::named("there"));
    let server = |name: &str, address: SocketAddr| {
        format!("{{ name = \"{name}\", address = \"{address}\", zone = \"{name}\" }}")
    };
    let config = |admin: &str| {
        format!(
            "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\nbackend = \"app\"\n\
             [[backend]]\nname = \"app\"\nserver = [{}, {}]\n{admin}",
            server("here", here.address),
            server("there", there.address),
        )
    };
    let lb = Setup::new(driver, config("")).engine("zone = \"here\"").start();
    let paths = || (0..20).map(|n| format!("/{n}"));
    assert_eq!(counts(&who(lb.web(), paths())), BTreeMap::from([("here", 20)]));
    let words = lb.admin_get("/explain?url=http://shop.example/").text();
    assert!(words.contains("100.00 % stay in zone here"), "{words}");
    here.kill();
    assert_eq!(counts(&who(lb.web(), paths())), BTreeMap::from([("there", 20)]));
}

/// Each bad combination is told by `lb check`, with its code, and what only means nothing is a warning.
#[test]
fn check_tells_what_does_not_go_together() {
    let origin = "127.0.0.1:9".parse().unwrap();
    let check = |keys: &str| {
        let text = format!("{}{keys}", servers(&[("a", origin)]));
        let output = Setup::new(Driver::Auto, text).command(&["check"]);
        (output.status.code(), tools::text(&output.stdout) + &tools::text(&output.stderr))
    };
    for (keys, code) in [
        ("max_load = \"125%\"\n", "LB032"),
        ("balance = \"maglev\"\nmax_load = \"100%\"\n", "LB032"),
        ("slow_start = \"0s\"\n", "LB033"),
        ("slow_start = \"2h\"\n", "LB033"),
        ("spill_below = \"50%\"\n", "LB034"),
        ("fail_open_below = \"150%\"\n", "LB055"),
        ("balance = \"peak_ewna\"\n", "did you mean `peak_ewma`?"),
    ] {
        let (exit, told) = check(keys);
        assert!(exit == Some(3) && told.contains(code), "{keys}: {exit:?}\n{told}");
    }
    let text = format!("{}hash_key = \"path\"\n", backend("app", &[("a", origin)]));
    let text = text.replace("}]", ", zone = \"here\" }]");
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\nname = \"r\"\nbackend = \"app\"\n{text}"
    );
    let output = Setup::new(Driver::Auto, text).command(&["check"]);
    let told = tools::text(&output.stdout) + &tools::text(&output.stderr);
    assert!(output.status.success() && told.contains("LB110") && told.contains("LB156"), "{told}");
}
