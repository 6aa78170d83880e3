//! A Cookie field: read without harm, and the cookies that we set keep a session where it is.

use std::sync::OnceLock;
use std::time::Duration;

use lb_core::defaults::COOKIES_MAX;
use lb_core::spec::{
    Address, BackendSpec, CanarySpec, ListenerSpec, RouteSpec, Secrets, ServerSpec, SigningKey, StickySpec,
};
use lb_core::{Cursors, Decision, RequestView, SecretKey, Share, Spec, Table, Verdict, cookie, decide};

/// `bytes` are the value of a request's Cookie field.
pub fn check(bytes: &[u8]) {
    for (name, value) in cookie::pairs(bytes) {
        assert!(!name.is_empty() && !name.contains(&b'=') && !name.contains(&b';') && !value.contains(&b';'));
    }
    let (first, set) = forwarded(bytes);
    let (same, _) = forwarded(bytes);
    assert_eq!((first.arm(), first.server()), (same.arm(), same.server()));
    // The client sends back what it was set, and beside it what it had.
    let set = String::from_utf8(set).expect("set-cookie lines are text");
    let mut cookies = Vec::new();
    for line in set.split_terminator("\r\n") {
        let pair = line.strip_prefix("set-cookie: ").and_then(|line| line.split(';').next());
        let pair = pair.expect("a set-cookie line");
        assert!(pair.bytes().all(|byte| byte.is_ascii_graphic()));
        cookies.extend_from_slice(pair.as_bytes());
        cookies.extend_from_slice(b"; ");
    }
    cookies.extend_from_slice(bytes);
    // Cookies beyond the bound are not read, and ours have pushed some over it.
    if cookie::pairs(&cookies).count() > COOKIES_MAX {
        return;
    }
    let (second, set) = forwarded(&cookies);
    assert_eq!((first.arm(), first.server()), (second.arm(), second.server()));
    assert_eq!(String::from_utf8_lossy(&set), "");
}

/// The decision for a request with these cookies, and the lines that it sets.
fn forwarded(cookies: &[u8]) -> (Decision, Vec<u8>) {
    let table = table();
    let mut cursors = Cursors::new(0);
    cursors.fit(table);
    let fields = [("cookie", cookies)];
    let view = RequestView {
        listener: 0,
        method: b"GET",
        host: b"a.test",
        path: b"/",
        query: None,
        fields: &fields,
        source: [192, 0, 2, 7].into(),
        secure: false,
    };
    let verdict = decide(table, &cursors, &view, Duration::ZERO, 0x1234_5678_9abc_def0_1234_5678_9abc_def0);
    let Verdict::Forward(decision) = verdict else { panic!("{verdict:?}") };
    let mut lines = Vec::new();
    let any = decision.write_cookies(table, false, &mut lines);
    assert_eq!(any, !lines.is_empty());
    (decision, lines)
}

/// One route with a canary of a half, both arms sticky, three servers each.
fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let backend = |name: &str, port: u16| BackendSpec {
            name: name.to_owned(),
            sticky: Some(StickySpec::default()),
            servers: (0..3)
                .map(|at| ServerSpec {
                    name: format!("s{at}"),
                    address: Address::Literal(([127, 0, 0, 1], port + at).into()),
                    ..ServerSpec::default()
                })
                .collect(),
            ..BackendSpec::default()
        };
        let spec = Spec {
            secrets: Secrets {
                signing: vec![SigningKey { id: "k".to_owned(), key: SecretKey::new([1; 16]) }],
                share: Some(SecretKey::new([2; 16])),
            },
            listeners: vec![ListenerSpec { name: "web".to_owned(), ..ListenerSpec::default() }],
            routes: vec![RouteSpec {
                name: "route".to_owned(),
                backend: Some("old".to_owned()),
                canary: Some(CanarySpec {
                    backend: "new".to_owned(),
                    share: Share::from_hundredths(5000).expect("a share"),
                    cookie: Some("canary".to_owned()),
                    release: "1".to_owned(),
                    ..CanarySpec::default()
                }),
                ..RouteSpec::default()
            }],
            backends: vec![backend("old", 1000), backend("new", 2000)],
            ..Spec::default()
        };
        let compiled = lb_core::compile(&spec).expect("a table");
        Table::new(compiled.snapshot, None)
    })
}
