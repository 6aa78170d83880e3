//! What a request must look like.

use super::names::Names;
use super::problem::{Place, Problems};
use super::{at_most, codes};
use crate::cookie::{is_name, is_token_byte};
use crate::defaults::{CONDITIONS_MAX, HOST_LEN_MAX, LISTENERS_MAX, NETWORKS_MAX, PREFIX_SEGMENTS_MAX};
use crate::expression::Regex;
use crate::find::{Conditions, HostKey, PathKey, Test, TestValue, segments};
use crate::path::{canonical, is_suspicious, trim_slashes};
use crate::spec::{PathEncoding, PathMatch, RouteSpec, ValueMatch, ValueTest};
use std::cmp::Reverse;

/// What a named value is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Header,
    Query,
    Cookie,
}

pub(super) fn compile(
    route: &RouteSpec,
    place: &Place,
    listeners: &Names<'_>,
    problems: &mut Problems,
) -> Conditions {
    at_most(route.methods.len(), CONDITIONS_MAX, "methods", &place.field("method"), problems);
    at_most(route.sources.len(), NETWORKS_MAX, "networks", &place.field("source"), problems);
    for (index, method) in route.methods.iter().enumerate() {
        if method.is_empty() || !method.bytes().all(is_token_byte) {
            let message = format!("`{method}` cannot be a method");
            problems
                .error(codes::METHOD, &place.field("method").index(index), message)
                .expected("expected a method as it is sent, such as GET");
        }
    }
    for (index, host) in route.hosts.iter().enumerate() {
        check_host(host, &place.field("host").index(index), problems);
    }
    check_path(route, &place.field("path"), problems);
    let tests = |tests: &[ValueMatch], kind, place: Place, problems: &mut Problems| {
        at_most(tests.len(), CONDITIONS_MAX, "conditions", &place, problems);
        let compiled = tests
            .iter()
            .enumerate()
            .map(|(index, test)| self::test(test, kind, &place.index(index), problems));
        compiled.collect::<Option<Box<[Test]>>>().unwrap_or_default()
    };
    Conditions {
        listeners: listener_bits(route, place, listeners, problems),
        methods: route.methods.iter().map(|method| method.as_bytes().into()).collect(),
        headers: tests(&route.headers, Kind::Header, place.field("header"), problems),
        query: tests(&route.query, Kind::Query, place.field("query"), problems),
        cookies: tests(&route.cookies, Kind::Cookie, place.field("cookie"), problems),
        sources: route.sources.as_slice().into(),
        hosts: route.hosts.iter().map(|host| host.as_str().into()).collect(),
        path: match &route.path {
            PathMatch::Any => None,
            PathMatch::Exact(path) => Some(("path", path.as_str().into())),
            PathMatch::Prefix(path) => Some(("path_prefix", path.as_str().into())),
            PathMatch::Regex(regex) => Some(("path_regex", regex.as_str().into())),
        },
    }
}

fn listener_bits(route: &RouteSpec, place: &Place, listeners: &Names<'_>, problems: &mut Problems) -> u64 {
    if route.listeners.is_empty() {
        return u64::MAX;
    }
    let mut bits = 0;
    for (index, name) in route.listeners.iter().enumerate() {
        let place = place.field("listener").index(index);
        let found = listeners.find(name, codes::NO_LISTENER, &place, problems);
        bits |= found.filter(|found| *found < LISTENERS_MAX).map_or(0, |found| 1 << found);
    }
    bits
}

fn check_host(host: &str, place: &Place, problems: &mut Problems) {
    let (bare, is_suffix) = host.strip_prefix("*.").map_or((host, false), |suffix| (suffix, true));
    let is_literal = !is_suffix
        && host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    if is_literal || bare.len() <= HOST_LEN_MAX && bare.split('.').all(is_label) {
        return;
    }
    let without_port = host.split_once(':').map(|(host, _)| host);
    let expected = match host {
        "*" => "expected no host at all, to match any",
        _ if without_port.is_some() => "expected a host without port: requests are matched without theirs",
        _ => "expected a host such as shop.example.com or *.example.com",
    };
    problems
        .error(codes::HOST, place, format!("`{host}` is not a host that a request can have"))
        .expected(expected)
        .meant(without_port.filter(|host| host.split('.').all(is_label)));
}

fn check_path(route: &RouteSpec, place: &Place, problems: &mut Problems) {
    let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = &route.path else { return };
    if !path.starts_with('/') {
        problems
            .error(codes::PATH, place, format!("the path `{path}` does not begin with a slash"))
            .expected("expected a path such as /cart")
            .meant(Some(&format!("/{path}")));
        return;
    }
    let canonical = canonical(path);
    if is_suspicious(&canonical) && route.path_encoding == PathEncoding::Strict {
        let message =
            format!("the path `{path}` has a dot segment, a backslash or NUL, and such requests are refused");
        problems
            .error(codes::PATH, place, message)
            .expected("expected a plain path, or path_encoding = \"raw\"");
    }
    if let Some(question) = path.find(['?', '#']) {
        let message = format!("the path `{path}` has a `{}`, and paths do not", &path[question..=question]);
        problems.error(codes::PATH, place, message).expected("expected the part before it");
    }
    let count = segments(&canonical).count();
    if matches!(route.path, PathMatch::Prefix(_)) {
        at_most(count, PREFIX_SEGMENTS_MAX, "segments in a prefix", place, problems);
    }
}

fn test(test: &ValueMatch, kind: Kind, place: &Place, problems: &mut Problems) -> Option<Test> {
    let name = match kind {
        Kind::Header => test.name.to_ascii_lowercase(),
        Kind::Query | Kind::Cookie => test.name.clone(),
    };
    let (valid, code) = match kind {
        Kind::Header => (!name.is_empty() && name.bytes().all(is_token_byte), codes::HEADER),
        Kind::Query => (!name.is_empty(), codes::PARAMETER),
        Kind::Cookie => (is_name(&name), codes::COOKIE),
    };
    if !valid {
        let what = match kind {
            Kind::Header => "header",
            Kind::Query => "query parameter",
            Kind::Cookie => "cookie",
        };
        problems.error(code, place, format!("`{name}` cannot be the name of a {what}"));
        return None;
    }
    let value = match &test.test {
        ValueTest::Present => TestValue::Present,
        ValueTest::Absent => TestValue::Absent,
        ValueTest::Is(value) => TestValue::Is(value.as_bytes().into()),
        ValueTest::Regex(text) => TestValue::Regex(regex(text, place, problems)?),
    };
    Some(Test { name: name.into_bytes().into(), value })
}

/// How many expressions a route has.
pub(super) fn count_regexes(route: &RouteSpec) -> usize {
    let tests = route.headers.iter().chain(&route.query).chain(&route.cookies);
    let in_tests = tests.filter(|it| matches!(it.test, ValueTest::Regex(_))).count();
    in_tests + usize::from(matches!(route.path, PathMatch::Regex(_)))
}

/// An expression that the whole of a value must match.
pub(super) fn regex(text: &str, place: &Place, problems: &mut Problems) -> Option<Regex> {
    let compiled = Regex::new(text);
    if let Err(reason) = &compiled {
        problems
            .error(codes::REGEX, place, format!("the expression `{text}` cannot be used: {reason}"))
            .expected(Regex::EXPECTED);
    }
    compiled.ok()
}

/// The hosts of a route as the index has them.
pub(super) fn host_keys(route: &RouteSpec) -> Vec<HostKey> {
    if route.hosts.is_empty() {
        return vec![HostKey::Any];
    }
    let key = |host: &String| {
        let host = host.to_ascii_lowercase();
        match host.strip_prefix("*.") {
            Some(suffix) => HostKey::Suffix(suffix.to_owned()),
            None => HostKey::Exact(host),
        }
    };
    let mut keys: Vec<HostKey> = route.hosts.iter().map(key).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// The path of a route as the index has it.
pub(super) fn path_key(route: &RouteSpec) -> PathKey {
    match &route.path {
        PathMatch::Any => PathKey::Any,
        PathMatch::Exact(path) => PathKey::Exact(canonical(path)),
        PathMatch::Prefix(path) => PathKey::Prefix(trim_slashes(&canonical(path)).to_vec()),
        PathMatch::Regex(text) => PathKey::Regex(Reverse(text.len()), text.clone()),
    }
}
