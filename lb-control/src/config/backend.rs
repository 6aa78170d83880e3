//! Backends and their servers.

use std::collections::HashMap;

use lb_core::spec::{Address, BackendSpec, HashKey, Policy, ServerSpec, Share, StickySpec};

use super::address::{self, HostPort};
use super::queue::queue;
use super::reader::{Located, Reader, Scope};
use super::retry::retry;
use super::settings::timeouts;
use super::shapes;
use super::source::Span;
use super::tree::Value;
use super::value::Refused;
use super::{drain, health};
use crate::drain::DrainSettings;
use crate::health::HealthSettings;
use crate::health::settings::Target;
use crate::resolve::{Kind, Question};

/// A server whose address is a name: where its addresses go once they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedServer {
    /// Index of the backend in the spec.
    pub backend: usize,
    /// Its name.
    pub backend_name: String,
    /// Index of the server in its backend.
    pub server: usize,
    /// The name, and what it is asked for.
    pub question: Question,
    /// The port; 0 where the answer has it.
    pub port: u16,
    /// What is made of the answer.
    pub way: Way,
    /// Where the name is written.
    pub span: Span,
}

/// What is made of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// One server, of the first address.
    First,
    /// A server of each address.
    All,
    /// A server of each address of a service.
    Service,
}

/// What was read of all backends.
#[derive(Default)]
pub(super) struct Found {
    pub(super) backends: Vec<BackendSpec>,
    pub(super) named: Vec<NamedServer>,
    pub(super) health: HealthSettings,
    pub(super) drains: DrainSettings,
}

pub(super) fn backends(reader: &mut Reader<'_>, root: Scope<'_>) -> Found {
    let mut found = Found::default();
    for scope in reader.tables(root, "backend", &shapes::BACKEND) {
        let backend = backend(reader, scope, &mut found);
        found.backends.push(backend);
    }
    found
}

fn backend(reader: &mut Reader<'_>, scope: Scope<'_>, found: &mut Found) -> BackendSpec {
    let policies: Vec<_> = Policy::ALL.iter().map(|policy| (policy.word(), *policy)).collect();
    let name =
        reader.required(scope, "name", "a name such as \"app\"").map(|name| name.value).unwrap_or_default();
    let share = |found: Located<u16>| Share::from_hundredths(found.value);
    let mut backend = BackendSpec {
        name,
        balance: reader.choice(scope, "balance", &policies, &[]).map(|found| found.value).unwrap_or_default(),
        hash_key: hash_key(reader, scope),
        sticky: sticky(reader, scope),
        timeouts: timeouts(reader, scope, &shapes::BACKEND_TIMEOUTS),
        retry: retry(reader, scope, &shapes::BACKEND_RETRY),
        accept_legacy_responses: reader.boolean(scope, "accept_legacy_responses").unwrap_or(false),
        max_load_percent: reader.load(scope, "max_load").map(|found| found.value),
        slow_start: reader.duration(scope, "slow_start").map(|found| found.value),
        fail_open_below: reader.share(scope, "fail_open_below").and_then(share),
        spill_below: reader.share(scope, "spill_below").and_then(share),
        queue: queue(reader, scope),
        ..BackendSpec::default()
    };
    if reader.is_broken(scope, "balance") {
        // Whether these go with the policy cannot be told.
        (backend.max_load_percent, backend.spill_below) = (None, None);
    } else if !backend.balance.hashes() {
        reader.no_effect(scope, "hash_key", "only balance = \"maglev\" and \"rendezvous\" hash");
    }
    if scope.table.get("server").is_none() {
        reader.missing(
            scope,
            "server",
            "at least one server such as { name = \"a\", address = \"10.0.1.10:8000\" }",
        );
    }
    let mut watched = health::health(reader, scope);
    let mut ends = HashMap::new();
    for (place, scope) in reader.tables(scope, "server", &shapes::SERVER).into_iter().enumerate() {
        let (mut server, name) = server(reader, scope);
        let (admin, end) = drain::admin(reader, scope, backend.sticky.is_some());
        server.admin = admin;
        ends.extend(end.map(|end| (server.name.as_str().into(), end)));
        let target = health::target(reader, scope, "check_address", "check_port");
        if watched.checks.is_none() && !reader.broken.contains(&scope.span) {
            for key in ["check_address", "check_port"] {
                reader.no_effect(scope, key, "the backend has no `health`, so nobody checks its servers");
            }
        } else if target != Target::default() {
            watched.targets.insert(server.name.clone(), target);
        }
        backend.servers.push(server);
        found.named.extend(name.map(|name| NamedServer {
            backend: found.backends.len(),
            backend_name: backend.name.clone(),
            server: place,
            question: name.question,
            port: name.port,
            way: name.way,
            span: name.span,
        }));
    }
    if watched.outliers.is_some()
        && let ([ServerSpec { address: Address::Literal(_), .. }], Some(node)) =
            (&*backend.servers, scope.table.get("outliers"))
        && !matches!(node.value, Value::Boolean(false))
    {
        reader.no_effect(scope, "outliers", "there is one server only, and the last one is never ejected");
    }
    backend.annex = watched.content() + &crate::drain::content(&ends);
    found.health.insert(&backend.name, watched);
    found.drains.insert(&backend.name, backend.sticky.is_some(), ends);
    backend
}

/// A name as an address.
struct Name {
    question: Question,
    port: u16,
    way: Way,
    span: Span,
}

fn server(reader: &mut Reader<'_>, scope: Scope<'_>) -> (ServerSpec, Option<Name>) {
    let ways = [("first", Way::First), ("all", Way::All), ("srv", Way::Service)];
    let way = reader.choice(scope, "resolve", &ways, &[]).map_or(Way::First, |found| found.value);
    if scope.table.get("address").is_none() {
        reader.missing(scope, "address", "a host and a port such as \"10.0.1.10:8000\"");
    }
    let mut named = None;
    let parse = if way == Way::Service { address::service } else { address::server };
    let address = match reader.parsed(scope, "address", parse) {
        Some(found) => match found.value {
            HostPort::Literal(address) => {
                reader.no_effect(scope, "resolve", "the address is no name");
                Address::Literal(address)
            }
            HostPort::Name(name, port) => {
                let kind = if way == Way::Service { Kind::Service } else { Kind::Addresses };
                named = Some(Name { question: Question { name, kind }, port, way, span: found.span });
                Address::default()
            }
        },
        None => Address::default(),
    };
    if way == Way::Service {
        reader.no_effect(scope, "weight", "the records of a service have weights of their own");
    }
    let most = i64::from(lb_core::defaults::WEIGHT_MAX);
    let server = ServerSpec {
        name: reader
            .required(scope, "name", "a name such as \"a\"")
            .map(|name| name.value)
            .unwrap_or_default(),
        address,
        weight: reader.integer(scope, "weight", 0..=most).map(|found| found.value as u32),
        backup: reader.boolean(scope, "backup").unwrap_or(false),
        zone: reader.string(scope, "zone").map(|zone| zone.value),
        labels: reader
            .pairs(scope, "labels")
            .into_iter()
            .map(|(name, value)| (name.value, value.value))
            .collect(),
        max_requests: bound(reader, scope, "max_requests"),
        max_connections: bound(reader, scope, "max_connections"),
        ..ServerSpec::default()
    };
    (server, named)
}

/// How much of something a server may have at a time.
fn bound(reader: &mut Reader<'_>, scope: Scope<'_>, key: &'static str) -> Option<u32> {
    reader.integer(scope, key, 1..=i64::from(u32::MAX)).map(|found| found.value as u32)
}

/// `true`, `false` or `{ cookie = "…" }`.
fn sticky(reader: &mut Reader<'_>, scope: Scope<'_>) -> Option<StickySpec> {
    let node = scope.table.get("sticky")?;
    match &node.value {
        Value::Boolean(on) => on.then(StickySpec::default),
        Value::Table(table) => {
            let scope = reader.enter(table, node.span, &shapes::STICKY);
            Some(StickySpec { cookie: reader.string(scope, "cookie").map(|cookie| cookie.value) })
        }
        _ => {
            reader.wrong_type(node, "sticky", "true or { cookie = \"name\" }");
            None
        }
    }
}

/// `"session"`, `"source"`, `"path"`, `{ header = "…" }` or `{ query = "…" }`.
fn hash_key(reader: &mut Reader<'_>, scope: Scope<'_>) -> HashKey {
    let Some(node) = scope.table.get("hash_key") else { return HashKey::default() };
    if let Value::Table(table) = &node.value {
        let inner = reader.enter(table, node.span, &shapes::HASH_BY);
        let header = reader.string(inner, "header").map(|found| found.value);
        let query = reader.string(inner, "query").map(|found| found.value);
        return match (header, query) {
            (Some(header), None) => HashKey::Header(header),
            (None, Some(query)) => HashKey::Query(query),
            _ => {
                let expected = "either { header = \"name\" } or { query = \"name\" }".to_owned();
                reader.refuse(node.span, "a hash key is one thing", Refused { expected, meant: None });
                HashKey::default()
            }
        };
    }
    let words = ["session", "source", "path"];
    let found = reader.parsed(scope, "hash_key", |word| match word {
        "session" => Ok(HashKey::Session),
        "source" => Ok(HashKey::Source),
        "path" => Ok(HashKey::Path),
        _ => Err(Refused {
            expected: "\"session\", \"source\", \"path\", { header = \"name\" } or { query = \"name\" }"
                .to_owned(),
            meant: lb_core::nearest(word, words).map(str::to_owned),
        }),
    });
    found.map(|found| found.value).unwrap_or_default()
}
