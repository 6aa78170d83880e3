//! A spec written out for its content hash: BLAKE3 over field names and values, those that have their default
//! left out. So the hash is the same on every machine, and a field that a later version adds changes nothing as
//! long as nobody sets it.

use crate::hash::ContentHash;
use crate::spec::*;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The content hash of a spec.
pub(crate) fn hash(spec: &Spec) -> ContentHash {
    let mut out = Writer(blake3::Hasher::new());
    out.text("lb snapshot 1");
    spec.write(&mut out);
    ContentHash(*out.0.finalize().as_bytes())
}

struct Writer(blake3::Hasher);

impl Writer {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn field<T: Content + Default + PartialEq>(&mut self, name: &str, value: &T) {
        if *value != T::default() {
            self.text(name);
            value.write(self);
        }
    }
}

/// What can be written out, each value in its own way.
trait Content {
    fn write(&self, out: &mut Writer);
}

/// Structs: their fields, then an empty name. Taking them apart keeps the list complete.
macro_rules! structs {
    ($($name:ident { $($field:ident),* $(,)? })*) => {$(
        impl Content for $name {
            fn write(&self, out: &mut Writer) {
                let $name { $($field),* } = self;
                $(out.field(stringify!($field), $field);)*
                out.text("");
            }
        }
    )*};
}

structs! {
    Spec { secrets, session, zone, timeouts, retry, classes, listeners, routes, backends }
    Secrets { signing, share }
    SessionSpec { cookie, strip }
    TimeoutsSpec { connect, request_head, response, idle_down, idle_up, tunnel_idle, drain }
    RetrySpec {
        retries, budget_percent, on, attempt_timeout, backoff, backoff_max, hold_body, non_idempotent,
    }
    ClassesSpec { platinum, gold, silver, waiting }
    ListenerSpec { name, trusted, client_address, timeouts, max_connections }
    RouteSpec {
        name, listeners, hosts, path, methods, headers, query, cookies, sources, priority, class,
        encoded_slash, path_encoding, backend, canary, actions, timeouts, retry, rate, body_rate,
    }
    RateSpec { requests, per, burst, key, ipv6_prefix }
    BodyRateSpec { bytes, grace }
    ValueMatch { name, test }
    CanarySpec {
        backend, share, cookie, mark_cookie, release, force_from, force_value, marked, fallback, forced_fallback,
        key,
    }
    Actions {
        set_host, strip_prefix, replace_path, request, response, redirect, reply, max_body, error_pages,
    }
    HeaderEdits { set, remove }
    Redirect { status, location, scheme, host, path }
    Reply { status, body, content_type }
    BackendSpec {
        name, balance, hash_key, sticky, servers, timeouts, retry, accept_legacy_responses, max_load_percent,
        slow_start, fail_open_below, spill_below, annex, queue,
    }
    StickySpec { cookie }
    QueueSpec { requests, timeout }
    ServerSpec { name, address, weight, backup, admin, zone, labels, max_requests, max_connections }
}

/// Enums: a word, and what the variant holds.
macro_rules! enums {
    ($($name:ident { $($variant:ident $(($held:ident))?),* $(,)? })*) => {$(
        impl Content for $name {
            fn write(&self, out: &mut Writer) {
                match self {$(
                    $name::$variant $(($held))? => {
                        out.text(stringify!($variant));
                        $($held.write(out);)?
                    }
                )*}
            }
        }
    )*};
}

enums! {
    ClientAddress { Peer, XForwardedFor }
    Class { Platinum, Gold, Silver }
    PathMatch { Any, Exact(path), Prefix(path), Regex(path) }
    ValueTest { Present, Absent, Is(value), Regex(value) }
    EncodedSlash { Keep, Refuse }
    PathEncoding { Strict, Raw }
    SessionKey { Cookie, Source, Header(name), Draw }
    Marked { Follow, Stay }
    Fallback { Other, Refuse }
    Policy { RoundRobin, LeastRequest, PeakEwma, Random, Maglev, Rendezvous }
    RateKey { Source, Header(name), Route }
    HashKey { Session, Source, Header(name), Path, Query(name) }
    Address { Literal(address), Resolved(addresses), Service(targets) }
    Admin { Ready, Drain, Maintenance }
    RetryOn { Connect, Closed, Statuses(statuses) }
}

/// Values that are written as a number or as text.
macro_rules! values {
    ($($name:ty, $value:ident, $out:ident => $write:expr;)*) => {$(
        impl Content for $name {
            fn write(&self, $out: &mut Writer) {
                let $value = self;
                $write
            }
        }
    )*};
}

values! {
    bool, value, out => out.number(u64::from(*value));
    u8, value, out => out.number(u64::from(*value));
    u16, value, out => out.number(u64::from(*value));
    u32, value, out => out.number(u64::from(*value));
    u64, value, out => out.number(*value);
    i32, value, out => out.number(i64::from(*value) as u64);
    String, value, out => out.text(value);
    Share, value, out => out.number(u64::from(value.hundredths()));
    Network, value, out => out.text(&value.to_string());
    SocketAddr, value, out => out.text(&value.to_string());
    RangeInclusive<u16>, value, out => {
        value.start().write(out);
        value.end().write(out);
    };
    SecretKey, value, out => out.bytes(value.bytes());
    Duration, value, out => {
        out.number(value.as_secs());
        out.number(u64::from(value.subsec_nanos()));
    };
    Target, value, out => {
        value.address.write(out);
        value.weight.write(out);
        value.backup.write(out);
    };
    SigningKey, value, out => {
        out.text(&value.id);
        value.key.write(out);
    };
}

impl<T: Content> Content for Vec<T> {
    fn write(&self, out: &mut Writer) {
        out.number(self.len() as u64);
        self.iter().for_each(|item| item.write(out));
    }
}

impl<T: Content> Content for Option<T> {
    fn write(&self, out: &mut Writer) {
        out.number(u64::from(self.is_some()));
        if let Some(value) = self {
            value.write(out);
        }
    }
}

impl<A: Content, B: Content> Content for (A, B) {
    fn write(&self, out: &mut Writer) {
        self.0.write(out);
        self.1.write(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_changes_the_hash() {
        let spec =
            Spec { routes: vec![RouteSpec { name: "a".into(), ..RouteSpec::default() }], ..Spec::default() };
        let changes: [fn(&mut Spec); 7] = [
            |spec| spec.routes[0].name = "b".into(),
            |spec| spec.routes[0].path = PathMatch::Exact("/".into()),
            |spec| spec.routes[0].path = PathMatch::Prefix("/".into()),
            |spec| spec.routes[0].hosts.push(String::new()),
            |spec| spec.routes[0].methods.push(String::new()),
            |spec| spec.routes.push(RouteSpec::default()),
            |spec| spec.backends.push(BackendSpec::default()),
        ];
        let mut hashes = vec![hash(&spec)];
        for change in changes {
            let mut changed = spec.clone();
            change(&mut changed);
            hashes.push(hash(&changed));
        }
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), 8);
        assert_eq!(hash(&spec), hash(&spec.clone()));
    }
}
