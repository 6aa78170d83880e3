//! Compiling whatever may be wanted.

use crate::support::*;
use lb_core::compile;
use lb_core::spec::*;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::sample::select(vec!["a", "b", "old", "", "/", "/a", "*.b", "lb", "(", "{path}", "x y", "..", "0"])
            .prop_map(str::to_owned),
        1 => ".{0,12}",
    ]
}

fn values() -> impl Strategy<Value = Vec<ValueMatch>> {
    let test = prop_oneof![
        Just(ValueTest::Present),
        Just(ValueTest::Absent),
        text().prop_map(ValueTest::Is),
        text().prop_map(ValueTest::Regex),
    ];
    proptest::collection::vec((text(), test).prop_map(|(name, test)| ValueMatch { name, test }), 0..3)
}

fn route_spec() -> impl Strategy<Value = RouteSpec> {
    let path = prop_oneof![
        Just(PathMatch::Any),
        text().prop_map(PathMatch::Exact),
        text().prop_map(PathMatch::Prefix),
        text().prop_map(PathMatch::Regex),
    ];
    let key = prop_oneof![
        Just(SessionKey::Cookie),
        Just(SessionKey::Source),
        Just(SessionKey::Draw),
        text().prop_map(SessionKey::Header),
    ];
    let canary = (text(), 0_u16..=10_000, proptest::option::of(text()), proptest::option::of(text()), key)
        .prop_map(|(backend, share, cookie, force_value, key)| CanarySpec {
            backend,
            share: Share::from_hundredths(share).unwrap(),
            cookie,
            force_value,
            key,
            ..CanarySpec::default()
        });
    let lists = (proptest::collection::vec(text(), 0..3), proptest::collection::vec(text(), 0..3));
    let actions = (
        proptest::option::of(text()),
        proptest::option::of(text()),
        proptest::collection::vec((text(), text()), 0..3),
        proptest::option::of((any::<u16>(), text())),
    );
    let conditions = (path, values(), values(), values(), any::<i8>());
    (text(), lists, conditions, proptest::option::of(text()), proptest::option::of(canary), actions).prop_map(
        |(name, (listeners, hosts), (path, headers, query, cookies, priority), backend, canary, actions)| {
            let (set_host, strip_prefix, set, redirect) = actions;
            RouteSpec {
                name,
                listeners,
                methods: hosts.clone(),
                hosts,
                path,
                headers,
                query,
                cookies,
                priority: i32::from(priority) * 10_000_000,
                backend,
                canary,
                actions: Actions {
                    set_host,
                    strip_prefix,
                    request: HeaderEdits { remove: set.iter().map(|(name, _)| name.clone()).collect(), set },
                    redirect: redirect.clone().map(|(status, location)| Redirect {
                        status: Some(status),
                        location: Some(location),
                        ..Redirect::default()
                    }),
                    error_pages: redirect.into_iter().collect(),
                    ..Actions::default()
                },
                ..RouteSpec::default()
            }
        },
    )
}

fn backend_spec() -> impl Strategy<Value = BackendSpec> {
    let server =
        (text(), proptest::collection::vec(any::<(u32, u16)>(), 0..4), any::<Option<u32>>(), any::<bool>())
            .prop_map(|(name, addresses, weight, backup)| ServerSpec {
                name,
                address: Address::Resolved(
                    addresses
                        .into_iter()
                        .map(|(ip, port)| (std::net::Ipv4Addr::from(ip), port).into())
                        .collect(),
                ),
                weight: weight.map(|weight| weight % 300),
                backup,
                ..ServerSpec::default()
            });
    let key = prop_oneof![
        Just(HashKey::Session),
        text().prop_map(HashKey::Header),
        text().prop_map(HashKey::Query)
    ];
    let sticky = proptest::option::of(proptest::option::of(text()));
    (text(), 0_usize..6, key, sticky, proptest::collection::vec(server, 0..4)).prop_map(
        |(name, policy, hash_key, sticky, servers)| BackendSpec {
            name,
            balance: Policy::ALL[policy],
            hash_key,
            sticky: sticky.map(|cookie| StickySpec { cookie }),
            servers,
            ..BackendSpec::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is wanted, it is compiled or refused; and what is compiled decides about requests.
    #[test]
    fn no_spec_makes_it_panic(
        routes in proptest::collection::vec(route_spec(), 0..4),
        backends in proptest::collection::vec(backend_spec(), 0..4),
        names in proptest::collection::vec(text(), 0..3),
        with_keys: bool,
    ) {
        let listeners = names.into_iter().map(|name| ListenerSpec { name, ..ListenerSpec::default() }).collect();
        let mut wanted = Spec { routes, backends, listeners, ..spec() };
        if !with_keys {
            wanted.secrets = Secrets::default();
        }
        if let Ok(compiled) = compile(&wanted) {
            let table = lb_core::Table::new(compiled.snapshot, None);
            for path in ["/", "/a", "/a/b"] {
                let mut client = Client::new(1);
                client.path = path.into();
                let _ = client.verdict(&table);
            }
        }
    }
}
