//! Backends and their servers.

use super::codes;
use super::names::{self, Names};
use super::problem::{Place, Problems};
use super::{at_most, cookie_name, retries, timeouts};
use crate::cookie::is_token_byte;
use crate::defaults::{
    LABEL_LEN_MAX, LABELS_MAX, MAX_LOAD_PERCENT, QUEUE_REQUESTS_MAX, SERVERS_PER_BACKEND_MAX, SLOW_START_MAX,
    SPILL_BELOW, STICKY_COOKIE_PREFIX, TIMEOUT_MAX, WEIGHT, WEIGHT_MAX,
};
use crate::hash::{Keyed, Purpose};
use crate::live::Identity;
use crate::map::Map;
use crate::pick::sticky::{Sticky, with_identity};
use crate::pick::{Candidate, Hashing, Member, Pool, Wanted};
use crate::session::Keys;
use crate::snapshot::{Backend, BackendIndex, Server, ServerIndex};
use crate::spec::{Address, BackendSpec, HashKey, Policy, ServerSpec, Spec, Target};
use crate::text::nearest;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

pub(super) fn compile(spec: &Spec, keys: &Keys, problems: &mut Problems) -> (Box<[Backend]>, Box<[Server]>) {
    check_own_zone(spec, problems);
    let mut servers = Vec::new();
    let mut backends = Vec::with_capacity(spec.backends.len());
    for (index, backend) in spec.backends.iter().enumerate() {
        let place = Place::root().field("backend").index(index);
        check(spec, backend, &place, problems);
        let first = servers.len();
        let name: Arc<str> = backend.name.as_str().into();
        for server in backend.servers.iter() {
            let labels =
                || server.labels.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
            servers.extend(targets(server).map(|Target { address, weight, backup }| Server {
                identity: Identity { backend: name.clone(), name: server.name.as_str().into(), address },
                backend: BackendIndex(index as u32),
                weight,
                backup,
                admin: server.admin,
                zone: server.zone.as_deref().map(Into::into),
                labels: labels().collect(),
                max_requests: server.max_requests,
                max_connections: server.max_connections,
                resolved: !matches!(server.address, Address::Literal(_)),
            }));
        }
        // The bounds are checked, but what is out of bounds is compiled, too: it must not take for ever.
        servers.truncate(first + SERVERS_PER_BACKEND_MAX);
        backends.push(Backend {
            name,
            policy: backend.balance,
            accept_legacy_responses: backend.accept_legacy_responses,
            retry_budget_percent: retries::budget(spec, backend),
            queue: is_limited(backend).then(|| backend.queue.unwrap_or_default()),
            pool: pool(spec, backend, keys, first, &servers[first..]),
            servers: first as u32..servers.len() as u32,
        });
    }
    (backends.into(), servers.into())
}

/// Whether a server of it may have too much to do.
fn is_limited(backend: &BackendSpec) -> bool {
    backend.servers.iter().any(|server| server.max_requests.or(server.max_connections).is_some())
}

/// An entry's addresses, each once.
fn addresses(server: &ServerSpec) -> impl Iterator<Item = SocketAddr> {
    let mut seen = BTreeSet::new();
    server.address.all().filter(move |address| seen.insert(*address))
}

/// The same with what is wanted of each.
fn targets(server: &ServerSpec) -> impl Iterator<Item = Target> {
    let (weight, backup) = (server.weight.unwrap_or(WEIGHT), server.backup);
    let own = match &server.address {
        Address::Service(targets) => targets.as_slice(),
        _ => &[],
    };
    addresses(server).map(move |address| match own.iter().find(|target| target.address == address) {
        Some(target) => Target { backup: backup || target.backup, ..*target },
        None => Target { address, weight, backup },
    })
}

/// Name of a backend's sticky cookie.
pub(super) fn sticky_cookie(backend: &BackendSpec) -> Option<String> {
    let sticky = backend.sticky.as_ref()?;
    Some(sticky.cookie.clone().unwrap_or_else(|| format!("{STICKY_COOKIE_PREFIX}{}", backend.name)))
}

fn pool(spec: &Spec, backend: &BackendSpec, keys: &Keys, first: usize, servers: &[Server]) -> Pool {
    let placed = || servers.iter().enumerate().map(|(at, server)| (ServerIndex((first + at) as u32), server));
    let policy = backend.balance;
    let candidate = |(index, server): (ServerIndex, &Server)| Candidate {
        member: Member { server: index, weight: server.weight.min(WEIGHT_MAX) },
        backup: server.backup,
        is_near: spec.zone.is_some() && server.zone.as_deref() == spec.zone.as_deref(),
        seed: identity_hash(keys, Purpose::Server, server) as u64,
        step: if policy == Policy::Maglev { identity_hash(keys, Purpose::Maglev, server) } else { 0 },
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
    Pool::new(Wanted {
        policy,
        hashing: Hashing::new(&keys.share, policy.hashes().then_some(hash_key)),
        sticky,
        slow_start: backend.slow_start.unwrap_or_default(),
        max_load_percent: backend.max_load_percent.unwrap_or_default(),
        fail_open_below: backend.fail_open_below.unwrap_or_default(),
        spill_below: backend.spill_below.unwrap_or(SPILL_BELOW),
        limited: is_limited(backend),
        candidates: placed().filter(|(_, server)| server.weight > 0).map(candidate).collect(),
    })
}

/// A server's part of consistent hashing: the same as long as it is the same server, on every node.
fn identity_hash(keys: &Keys, purpose: Purpose, server: &Server) -> u128 {
    with_identity(Keyed::new(&keys.share, purpose), &server.identity, server.resolved).finish()
}

fn check(spec: &Spec, backend: &BackendSpec, place: &Place, problems: &mut Problems) {
    Names::within("server", place, backend.servers.iter().map(|it| &*it.name), problems);
    timeouts::check(&backend.timeouts, &place.field("timeouts"), timeouts::Scope::Exchange, problems);
    if let Some(cookie) = sticky_cookie(backend) {
        cookie_name(&cookie, &place.field("sticky").field("cookie"), problems);
        if !backend.servers.is_empty() && backend.servers.iter().all(|server| server.backup) {
            let message = format!(
                "no session of the backend `{}` ever sticks: all its servers are backups",
                backend.name
            );
            problems
                .warning(codes::STICKY_UNUSED, &place.field("sticky"), message)
                .expected("expected a server that is no backup: a cookie never names a backup");
        }
    }
    check_hash_key(backend, place, problems);
    check_balance(spec, backend, place, problems);

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

/// Bounds of what shapes picks, and what does not go together.
fn check_balance(spec: &Spec, backend: &BackendSpec, place: &Place, problems: &mut Problems) {
    let word = backend.balance.word();
    if let Some(percent) = backend.max_load_percent {
        let place = place.field("max_load_percent");
        let (least, most) = (MAX_LOAD_PERCENT.start(), MAX_LOAD_PERCENT.end());
        if !MAX_LOAD_PERCENT.contains(&percent) {
            let message = format!("a load of at most {percent} % of the average cannot be kept");
            problems
                .error(codes::MAX_LOAD, &place, message)
                .expected(format!("expected {least} % to {most} %"));
        } else if !backend.balance.hashes() {
            let message =
                format!("a bound on the load means nothing to `{word}`, which sends no key to one server");
            problems
                .error(codes::MAX_LOAD, &place, message)
                .expected("expected the policy `maglev` or `rendezvous`");
        }
    }
    if let Some(slow_start) = backend.slow_start
        && (slow_start.is_zero() || slow_start > SLOW_START_MAX)
    {
        let message = format!("a slow start of {} s cannot be", slow_start.as_secs());
        problems
            .error(codes::SLOW_START, &place.field("slow_start"), message)
            .expected("expected more than 0 s and at most an hour");
    }
    check_queue(backend, place, problems);
    check_zones(spec, backend, place, problems);
}

fn check_queue(backend: &BackendSpec, place: &Place, problems: &mut Problems) {
    let Some(queue) = &backend.queue else { return };
    let place = place.field("queue");
    if queue.requests > QUEUE_REQUESTS_MAX {
        let message = format!("a queue of {} requests is too long", queue.requests);
        problems
            .error(codes::QUEUE, &place.field("requests"), message)
            .expected(format!("expected at most {QUEUE_REQUESTS_MAX}"));
    }
    if queue.requests > 0 && (queue.timeout.is_zero() || queue.timeout > TIMEOUT_MAX) {
        let message = format!("nobody can wait for {} s", queue.timeout.as_secs());
        problems
            .error(codes::QUEUE, &place.field("timeout"), message)
            .expected("expected more than 0 s and at most a week");
    }
    if queue.requests > 0 && !is_limited(backend) {
        let message = format!("nobody waits for the backend `{}`: its servers take what comes", backend.name);
        problems
            .warning(codes::QUEUE_UNUSED, &place, message)
            .expected("expected `max_requests` or `max_connections` of some server, too");
    }
}

/// The node's own zone: a name, and one that some server has.
fn check_own_zone(spec: &Spec, problems: &mut Problems) {
    let Some(zone) = &spec.zone else { return };
    let place = Place::root().field("engine").field("zone");
    if !names::check("zone", zone, &place, problems) {
        return;
    }
    let servers = spec.backends.iter().flat_map(|backend| &backend.servers);
    let known: BTreeSet<&str> = servers.filter_map(|server| server.zone.as_deref()).collect();
    if !known.contains(zone.as_str()) {
        let message = format!("no server is in this node's zone `{zone}`");
        let expected =
            if known.is_empty() { "expected servers with zones" } else { "expected a zone of some server" };
        problems.warning(codes::ZONE_UNUSED, &place, message).expected(expected).meant(nearest(zone, known));
    }
}

fn check_labels(server: &ServerSpec, place: &Place, problems: &mut Problems) {
    if server.labels.len() > LABELS_MAX {
        let message = format!("the server `{}` has {} labels", server.name, server.labels.len());
        problems.error(codes::LABEL, place, message).expected(format!("expected at most {LABELS_MAX}"));
    }
    for (name, value) in &server.labels {
        names::check("label", name, place, problems);
        let is_plain = !value.is_empty() && !value.chars().any(char::is_control);
        if !is_plain || value.len() > LABEL_LEN_MAX {
            let message = format!("`{value}` cannot be the value of a label");
            problems
                .error(codes::LABEL, place, message)
                .expected(format!("expected 1 to {LABEL_LEN_MAX} bytes of text in one line"));
        }
    }
}

fn check_zones(spec: &Spec, backend: &BackendSpec, place: &Place, problems: &mut Problems) {
    for (index, server) in backend.servers.iter().enumerate() {
        if let Some(zone) = &server.zone {
            names::check("zone", zone, &place.field("server").index(index).field("zone"), problems);
        }
    }
    for (index, server) in backend.servers.iter().enumerate() {
        check_labels(server, &place.field("server").index(index).field("labels"), problems);
    }
    let zoned = backend.servers.iter().position(|server| !server.backup && server.zone.is_some());
    let (hashes, word) = (backend.balance.hashes(), backend.balance.word());
    let of_server = |index: usize| place.field("server").index(index).field("zone");
    match zoned {
        Some(_) if !hashes && spec.zone.is_some() => {}
        _ if backend.spill_below.is_some() => {
            let message =
                format!("nothing spills over in the backend `{}`: it has no zones that count", backend.name);
            problems
                .error(codes::SPILL, &place.field("spill_below"), message)
                .expected("expected a zone of the node, zones of servers, and a policy that does not hash");
        }
        Some(zoned) if hashes => {
            let message = format!("zones mean nothing to `{word}`: a key has one home on every node");
            problems.warning(codes::ZONE_UNUSED, &of_server(zoned), message);
        }
        Some(zoned) => {
            let message =
                format!("the zones of the backend `{}` mean nothing: this node has none", backend.name);
            problems
                .warning(codes::ZONE_UNUSED, &of_server(zoned), message)
                .expected("expected a zone of the node, too");
        }
        None => {}
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
    let of_targets = targets(server).map(|target| target.weight);
    if let Some(weight) = server.weight.into_iter().chain(of_targets).find(|weight| *weight > WEIGHT_MAX) {
        let message = format!("a weight of {weight} is too much");
        problems
            .error(codes::WEIGHT, &place.field("weight"), message)
            .expected(format!("expected 0 to {WEIGHT_MAX}"));
    }
    let bounds = [
        ("max_requests", server.max_requests, "request"),
        ("max_connections", server.max_connections, "connection"),
    ];
    for (field, _, what) in bounds.into_iter().filter(|(_, bound, _)| *bound == Some(0)) {
        problems
            .error(
                codes::QUEUE,
                &place.field(field),
                format!("a server that may have no {what} can serve nobody"),
            )
            .expected("expected 1 or more; `admin = \"maintenance\"` takes it out of service");
    }
    if let (Some(requests), Some(connections)) = (server.max_requests, server.max_connections)
        && requests > connections
    {
        let message = format!(
            "the server `{}` never has {requests} requests in flight: each needs one of its {connections} connections",
            server.name
        );
        problems
            .warning(codes::MORE_REQUESTS, &place.field("max_requests"), message)
            .expected("expected at most `max_connections`");
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
