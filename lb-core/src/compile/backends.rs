//! Backends and their servers.

use super::codes;
use super::names::Names;
use super::problem::{Place, Problems};
use super::{at_most, cookie_name, timeouts};
use crate::cookie::is_token_byte;
use crate::defaults::{SERVERS_PER_BACKEND_MAX, STICKY_COOKIE_PREFIX, WEIGHT, WEIGHT_MAX};
use crate::hash::{Keyed, Purpose};
use crate::live::Identity;
use crate::map::Map;
use crate::pick::sticky::{Sticky, with_identity};
use crate::pick::{Hashing, Member, Pool};
use crate::session::Keys;
use crate::snapshot::{Backend, BackendIndex, Server, ServerIndex};
use crate::spec::{Address, BackendSpec, HashKey, Policy, ServerSpec, Spec};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

pub(super) fn compile(spec: &Spec, keys: &Keys, problems: &mut Problems) -> (Box<[Backend]>, Box<[Server]>) {
    let mut servers = Vec::new();
    let mut backends = Vec::with_capacity(spec.backends.len());
    for (index, backend) in spec.backends.iter().enumerate() {
        let place = Place::root().field("backend").index(index);
        check(backend, &place, problems);
        let first = servers.len();
        let name: Arc<str> = backend.name.as_str().into();
        for server in backend.servers.iter() {
            servers.extend(addresses(server).map(|address| Server {
                identity: Identity { backend: name.clone(), name: server.name.as_str().into(), address },
                backend: BackendIndex(index as u32),
                weight: server.weight.unwrap_or(WEIGHT),
                backup: server.backup,
                admin: server.admin,
                resolved: matches!(server.address, Address::Resolved(_)),
            }));
        }
        // The bounds are checked, but what is out of bounds is compiled, too: it must not take for ever.
        servers.truncate(first + SERVERS_PER_BACKEND_MAX);
        backends.push(Backend {
            name,
            policy: backend.balance,
            accept_legacy_responses: backend.accept_legacy_responses,
            pool: pool(backend, keys, first, &servers[first..]),
            servers: first as u32..servers.len() as u32,
        });
    }
    (backends.into(), servers.into())
}

/// An entry's addresses, each once.
fn addresses(server: &ServerSpec) -> impl Iterator<Item = SocketAddr> {
    let mut seen = BTreeSet::new();
    server.address.all().iter().copied().filter(move |address| seen.insert(*address))
}

/// Name of a backend's sticky cookie.
pub(super) fn sticky_cookie(backend: &BackendSpec) -> Option<String> {
    let sticky = backend.sticky.as_ref()?;
    Some(sticky.cookie.clone().unwrap_or_else(|| format!("{STICKY_COOKIE_PREFIX}{}", backend.name)))
}

fn pool(backend: &BackendSpec, keys: &Keys, first: usize, servers: &[Server]) -> Pool {
    let placed = || servers.iter().enumerate().map(|(at, server)| (ServerIndex((first + at) as u32), server));
    let members = |backup: bool| {
        let group = placed().filter(move |(_, server)| server.backup == backup && server.weight > 0);
        group.map(|(index, server)| Member {
            server: index,
            weight: server.weight.min(WEIGHT_MAX),
            seed: seed(keys, server),
        })
    };
    let sticky = sticky_cookie(backend).map(|cookie| {
        let primaries = placed().filter(|(_, server)| !server.backup);
        let servers = primaries.map(|(index, server)| (index, &server.identity, server.resolved));
        Sticky::new(&cookie, &keys.signing, servers)
    });
    let hash_key = match &backend.hash_key {
        HashKey::Header(name) => HashKey::Header(name.to_ascii_lowercase()),
        other => other.clone(),
    };
    let hashing = Hashing::new(&keys.share, (backend.balance == Policy::Rendezvous).then_some(hash_key));
    Pool::new(backend.balance, hashing, sticky, members(false).collect(), members(true).collect())
}

/// A server's part of rendezvous hashing: the same as long as it is the same server, on every node.
fn seed(keys: &Keys, server: &Server) -> u64 {
    with_identity(Keyed::new(&keys.share, Purpose::Server), &server.identity, server.resolved).finish() as u64
}

fn check(backend: &BackendSpec, place: &Place, problems: &mut Problems) {
    Names::within("server", place, backend.servers.iter().map(|it| &*it.name), problems);
    timeouts::check(&backend.timeouts, &place.field("timeouts"), timeouts::Scope::Exchange, problems);
    timeouts::check_own_retries(&backend.retry, &place.field("retry"), problems);
    if let Some(cookie) = sticky_cookie(backend) {
        cookie_name(&cookie, &place.field("sticky").field("cookie"), problems);
    }
    check_hash_key(backend, place, problems);
    check_later(backend, place, problems);

    let count = backend.servers.iter().map(|server| server.address.all().len()).sum();
    at_most(count, SERVERS_PER_BACKEND_MAX, "servers in a backend", &place.field("server"), problems);
    for (index, server) in backend.servers.iter().enumerate() {
        check_server(server, &place.field("server").index(index), problems);
    }
    if backend.servers.is_empty() {
        let message =
            format!("the backend `{}` has no servers: whatever goes there is refused", backend.name);
        problems.warning(codes::NO_SERVERS, &place.field("server"), message);
    } else if backend.servers.iter().all(|server| server.backup || server.weight == Some(0)) {
        let message = format!("no server of the backend `{}` takes new sessions", backend.name);
        problems
            .warning(codes::NO_WEIGHT, &place.field("server"), message)
            .expected("expected a server that is no backup and has a weight above 0");
    }
    check_same_address(backend, place, problems);
}

fn check_hash_key(backend: &BackendSpec, place: &Place, problems: &mut Problems) {
    let place = place.field("hash_key");
    match &backend.hash_key {
        HashKey::Header(name) if name.is_empty() || !name.bytes().all(is_token_byte) => {
            problems.error(codes::HEADER, &place, format!("`{name}` cannot be the name of a header"));
        }
        HashKey::Query(name) if name.is_empty() => {
            problems.error(codes::PARAMETER, &place, "a query parameter needs a name".to_owned());
        }
        _ => {}
    }
}

/// What a later version brings.
fn check_later(backend: &BackendSpec, place: &Place, problems: &mut Problems) {
    let available: Vec<&str> =
        Policy::ALL.into_iter().filter(|policy| policy.is_available()).map(Policy::word).collect();
    let mut later = |place: Place, what: String, expected: String| {
        let message = format!("{what} is not in this version yet");
        problems.error(codes::NOT_YET, &place, message).expected(expected);
    };
    if !backend.balance.is_available() {
        let what = format!("the policy `{}`", backend.balance.word());
        later(place.field("balance"), what, format!("expected one of `{}`", available.join("`, `")));
    }
    let fields = [
        ("bounded_load_percent", "bounded load", backend.bounded_load_percent.is_some()),
        ("slow_start", "slow start", backend.slow_start.is_some()),
        ("fail_open_below_percent", "failing open", backend.fail_open_below_percent.is_some()),
    ];
    for (field, what, _) in fields.into_iter().filter(|(_, _, is_set)| *is_set) {
        later(place.field(field), what.to_owned(), String::new());
    }
    for (index, _) in backend.servers.iter().enumerate().filter(|(_, server)| server.zone.is_some()) {
        let place = place.field("server").index(index).field("zone");
        later(place, "a server's zone".to_owned(), String::new());
    }
}

fn check_server(server: &ServerSpec, place: &Place, problems: &mut Problems) {
    for address in server.address.all() {
        let cannot = match address.ip() {
            _ if address.port() == 0 => "port 0 cannot be connected to",
            ip if ip.is_unspecified() => "an unspecified address cannot be connected to",
            ip if ip.is_multicast() => "a multicast address cannot be connected to",
            _ => continue,
        };
        problems
            .error(codes::ADDRESS, &place.field("address"), format!("`{address}`: {cannot}"))
            .expected("expected an address and a port such as 10.0.1.10:8000");
    }
    if server.weight.is_some_and(|weight| weight > WEIGHT_MAX) {
        let message = format!("a weight of {} is too much", server.weight.unwrap_or_default());
        problems
            .error(codes::WEIGHT, &place.field("weight"), message)
            .expected(format!("expected 0 to {WEIGHT_MAX}"));
    }
    if server.backup && server.weight.is_some() {
        let message =
            format!("server `{}` has a weight, but a backup's weight counts only among backups", server.name);
        problems.warning(codes::BACKUP_WEIGHT, &place.field("weight"), message);
    }
}

fn check_same_address(backend: &BackendSpec, place: &Place, problems: &mut Problems) {
    let mut seen: Map<SocketAddr, usize> = Map::default();
    for (index, server) in backend.servers.iter().enumerate() {
        for address in addresses(server) {
            let first = *seen.entry(address).or_insert(index);
            if first != index {
                let (one, other) = (&backend.servers[first].name, &server.name);
                let place = place.field("server").index(index).field("address");
                let message = format!("servers `{one}` and `{other}` are both {address}");
                problems.warning(codes::SAME_ADDRESS, &place, message);
            }
        }
    }
}
