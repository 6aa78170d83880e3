//! Splits and stickiness as a browser sees them.

use std::collections::BTreeMap;

use crate::harness::client::once;
use crate::harness::lb::backend;
use crate::harness::*;

/// Cookies as a browser keeps them.
#[derive(Default, Clone, Debug)]
pub struct Jar(BTreeMap<String, String>);

impl Jar {
    fn with(name: &str, value: &str) -> Jar {
        Jar([(name.to_owned(), value.to_owned())].into())
    }

    pub fn get(&mut self, address: std::net::SocketAddr, target: &str) -> Message {
        let cookies: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let line =
            if cookies.is_empty() { String::new() } else { format!("Cookie: {}\r\n", cookies.join("; ")) };
        let response = once(address, format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n{line}\r\n"));
        for cookie in response.all("set-cookie") {
            let (name, rest) = cookie.split_once('=').expect("a cookie has a value");
            let value = rest.split(';').next().unwrap_or("");
            self.0.insert(name.to_owned(), value.to_owned());
        }
        response
    }
}

const SECRETS: &str = "one:00112233445566778899aabbccddeeff\nshare:ffeeddccbbaa99887766554433221100\n";

/// A route with an old and a new backend. `canary` continues the canary's table.
fn split(old: &str, new: &str, canary: &str) -> String {
    format!(
        "[session]\nsecret_file = \"@DIR@/secret\"\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"shop\"\nbackend = \"old\"\n\
         canary = {{ backend = \"new\", cookie = \"canary\", {canary} }}\n{old}{new}"
    )
}

fn start(driver: Driver, config: String) -> Lb {
    Setup::new(driver, config).file("secret", SECRETS).start()
}

on_both_drivers! {
    the_testers_word_beats_the_share,
    raising_the_share_moves_nobody_back,
    the_mark_recognises_whom_it_marked,
    a_dead_arm_is_carried_by_the_other,
    stickiness_survives_unrelated_changes,
    two_processes_with_one_secret_agree,
}

fn the_testers_word_beats_the_share(driver: Driver) {
    let (old_origin, new_origin) = (Origin::named("old"), Origin::named("new"));
    let (old, new) =
        (backend("old", &[("o", old_origin.address)]), backend("new", &[("n", new_origin.address)]));
    let config = |share: &str| split(&old, &new, &format!("share = \"{share}\", release = \"1\""));
    let lb = start(driver, config("0%"));
    for _ in 0..10 {
        assert_eq!(Jar::default().get(lb.web(), "/").text(), "old");
        assert_eq!(Jar::with("canary", "always").get(lb.web(), "/").text(), "new");
    }
    lb.reload(&config("100%"));
    for _ in 0..10 {
        assert_eq!(Jar::default().get(lb.web(), "/").text(), "new");
        assert_eq!(Jar::with("canary", "never").get(lb.web(), "/").text(), "old");
    }
}

fn raising_the_share_moves_nobody_back(driver: Driver) {
    let (old_origin, new_origin) = (Origin::named("old"), Origin::named("new"));
    let (old, new) =
        (backend("old", &[("o", old_origin.address)]), backend("new", &[("n", new_origin.address)]));
    let config = |share: &str| split(&old, &new, &format!("share = \"{share}\", release = \"1\""));
    let lb = start(driver, config("20%"));
    let mut jars: Vec<Jar> = vec![Jar::default(); 300];
    let ask = |jars: &mut Vec<Jar>| -> Vec<String> {
        jars.iter_mut().map(|jar| jar.get(lb.web(), "/").text()).collect()
    };
    let at_20 = ask(&mut jars);
    assert_eq!(ask(&mut jars), at_20, "a session keeps its arm");
    let news = |arms: &[String]| arms.iter().filter(|arm| *arm == "new").count();
    // 300 draws of 20 %: 60 ± 6.9; five deviations.
    assert!((25..=95).contains(&news(&at_20)), "{} of 300", news(&at_20));
    lb.reload(&config("60%"));
    let at_60 = ask(&mut jars);
    assert!(at_20.iter().zip(&at_60).all(|(before, after)| before == "old" || after == "new"));
    assert!((135..=225).contains(&news(&at_60)), "{} of 300", news(&at_60));
    lb.reload(&config("20%"));
    assert_eq!(ask(&mut jars), at_20, "lowering returns exactly those");
}

fn the_mark_recognises_whom_it_marked(driver: Driver) {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let text = split(
        &backend("old", &[("o", old.address)]),
        &backend("new", &[("n", new.address)]),
        "share = \"100%\", release = \"1\"",
    );
    let lb = start(driver, text);
    let mut jar = Jar::default();
    let first = jar.get(lb.web(), "/");
    assert_eq!(first.text(), "new");
    let cookies = first.all("set-cookie").join("\n");
    assert!(cookies.contains("canary_mark=") && cookies.contains("lb_session="), "{cookies}");
    for word in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(first.all("set-cookie").iter().all(|cookie| cookie.contains(word)), "{cookies}");
    }
    assert!(!cookies.contains("Secure"), "the client's scheme is http: {cookies}");
    assert!(first.field("cache-control").unwrap_or("").contains("private"), "{first:?}");
    let second = jar.get(lb.web(), "/");
    assert_eq!(second.all("set-cookie"), Vec::<&str>::new(), "cookies are set only when absent or changed");
    assert_eq!(second.field("cache-control"), None);
}

fn a_dead_arm_is_carried_by_the_other(driver: Driver) {
    let old = Origin::named("old");
    let text = split(
        &backend("old", &[("o", old.address)]),
        &backend("new", &[("n", tools::unused_address()), ("m", tools::unused_address())]),
        "share = \"100%\", release = \"1\"",
    );
    let lb = start(driver, text);
    for _ in 0..5 {
        let mut jar = Jar::default();
        let response = jar.get(lb.web(), "/");
        assert_eq!((response.status(), response.text().as_str()), (200, "old"));
        assert!(!response.all("set-cookie").join("").contains("canary_mark="), "not re-marked: {response:?}");
    }
    let forced = Jar::with("canary", "always").get(lb.web(), "/");
    assert!([502, 503].contains(&forced.status()), "a tester must see that the new one is dead: {forced:?}");
    until("the fallback to be counted", || lb.metric("lb_fallbacks_total", &[]) >= 5.0);
}

fn stickiness_survives_unrelated_changes(driver: Driver) {
    let names = ["a", "b", "c"];
    let origins = names.map(Origin::named);
    let config = |names: &[&str]| {
        let list: Vec<_> = names
            .iter()
            .map(|name| {
                let at = ["a", "b", "c"].iter().position(|it| it == name).unwrap();
                (*name, origins[at].address)
            })
            .collect();
        format!(
            "[session]\nsecret_file = \"@DIR@/secret\"\n{}sticky = {{ cookie = \"home\" }}\n",
            lb::servers(&list)
        )
    };
    let lb = start(driver, config(&names));
    let mut jars: Vec<Jar> = vec![Jar::default(); 30];
    let homes: Vec<_> = jars.iter_mut().map(|jar| jar.get(lb.web(), "/").text()).collect();
    for name in names {
        assert!(homes.iter().any(|home| home == name), "{name} got nobody of 30");
    }
    for (jar, home) in jars.iter_mut().zip(&homes) {
        assert!(jar.0.contains_key("home"));
        for _ in 0..3 {
            let response = jar.get(lb.web(), "/");
            assert_eq!((&response.text(), response.all("set-cookie").len()), (home, 0));
        }
    }
    lb.reload(&config(&["c", "a"]));
    for (jar, home) in jars.iter_mut().zip(&homes) {
        let now = jar.get(lb.web(), "/").text();
        assert!(home == "b" || *home == now, "{home} moved to {now}");
        assert_eq!(jar.get(lb.web(), "/").text(), now, "and those who had to move stay where they went");
    }
    // An invented cookie is nobody's.
    let forged = Jar::with("home", "AAAAAAAAAAAAAAAAAAAAAA").get(lb.web(), "/");
    assert_eq!(forged.status(), 200);
    assert_eq!(forged.all("set-cookie").len(), 1);
}

fn two_processes_with_one_secret_agree(driver: Driver) {
    let (old, new) = (Origin::named("old"), Origin::named("new"));
    let homes = ["a", "b", "c"].map(Origin::named);
    let list: Vec<_> = ["a", "b", "c"].into_iter().zip(&homes).map(|(name, it)| (name, it.address)).collect();
    let text = format!(
        "{}[[route]]\nname = \"home\"\npath_prefix = \"/home\"\nbackend = \"homes\"\n{}sticky = {{ cookie = \"home\" }}\n\
         [[route]]\nname = \"hashed\"\npath_prefix = \"/hashed\"\nbackend = \"hashed\"\n{}balance = \"rendezvous\"\nhash_key = {{ query = \"user\" }}\n",
        split(
            &backend("old", &[("o", old.address)]),
            &backend("new", &[("n", new.address)]),
            "share = \"50%\", release = \"1\"",
        ),
        backend("homes", &list),
        backend("hashed", &list),
    );
    let one = start(driver, text.clone());
    let other = start(driver, text);
    let mut arms = BTreeMap::new();
    for number in 0..100 {
        let mut jar = Jar::default();
        let target = format!("/hashed?user={number}");
        let first = jar.get(one.web(), "/").text();
        assert_eq!(jar.get(other.web(), "/").text(), first, "the same arm");
        let home = jar.get(one.web(), "/home").text();
        assert_eq!(jar.get(other.web(), "/home").text(), home, "the same home");
        assert_eq!(jar.get(one.web(), &target).text(), jar.get(other.web(), &target).text(), "the same hash");
        *arms.entry(first).or_insert(0) += 1;
    }
    assert_eq!(arms.len(), 2, "both arms were taken: {arms:?}");
}
