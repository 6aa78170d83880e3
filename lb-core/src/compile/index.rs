//! The index of routes, the order of those in one place, and the routes that no request can reach.

use super::conditions::{host_keys, path_key, regex};
use super::problem::{Place, Problems};
use super::{at_most, codes};
use crate::defaults::{PRIORITIES_MAX, REGEXES_PER_HOST_MAX, ROUTES_PER_PLACE_MAX};
use crate::find::{Builder, Finder, HostKey, IndexKey, PathKey};
use crate::map::Map;
use crate::snapshot::RouteIndex;
use crate::spec::{PathMatch, RouteSpec, Spec};
use std::cmp::Reverse;
use std::collections::BTreeSet;

pub(super) fn compile(spec: &Spec, problems: &mut Problems) -> Finder {
    let place = |index: usize| Place::root().field("route").index(index);
    let priorities: BTreeSet<i32> = spec.routes.iter().map(|route| route.priority).collect();
    let priority_place = Place::root().field("route");
    at_most(priorities.len(), PRIORITIES_MAX, "different priorities", &priority_place, problems);

    let mut builder = Builder::default();
    let mut regexes_of_host: Map<(i32, HostKey), usize> = Map::default();
    for (index, route) in spec.routes.iter().enumerate() {
        if let PathMatch::Regex(text) = &route.path
            && !builder.has_regex(text)
            && let Some(regex) = regex(text, &place(index).field("path"), problems)
        {
            builder.add_regex(text, regex);
        }
        for host in host_keys(route) {
            let key = IndexKey { priority: Reverse(route.priority), host, path: path_key(route) };
            if matches!(key.path, PathKey::Regex(..)) && !builder.has(&key) {
                let count = regexes_of_host.entry((route.priority, key.host.clone())).or_default();
                *count += 1;
                if *count == REGEXES_PER_HOST_MAX + 1 {
                    let what = "or more different regular expressions on one host";
                    at_most(*count, REGEXES_PER_HOST_MAX, what, &place(index).field("path"), problems);
                }
            }
            builder.add(key, RouteIndex(index as u32));
        }
    }
    for (key, routes) in builder.places() {
        routes.sort_by_key(|route| specificity(&spec.routes[route.0 as usize], route.0));
        if let Some(beyond) = routes.get(ROUTES_PER_PLACE_MAX) {
            let what = "routes with the same host and path";
            at_most(routes.len(), ROUTES_PER_PLACE_MAX, what, &place(beyond.0 as usize), problems);
            routes.truncate(ROUTES_PER_PLACE_MAX);
        }
        unreachable(spec, key, routes, problems);
    }
    builder.build(|route| is_plain(&spec.routes[route.0 as usize]))
}

/// Whether a route asks for nothing but host and path.
fn is_plain(route: &RouteSpec) -> bool {
    route.listeners.is_empty()
        && route.methods.is_empty()
        && route.headers.is_empty()
        && route.query.is_empty()
        && route.cookies.is_empty()
        && route.sources.is_empty()
}

/// Sorts routes of one place: a method before none, more conditions before fewer, an earlier one first.
fn specificity(route: &RouteSpec, index: u32) -> impl Ord + use<> {
    (
        route.methods.is_empty(),
        Reverse(route.headers.len()),
        Reverse(route.query.len()),
        Reverse(route.cookies.len()),
        route.sources.is_empty(),
        route.listeners.is_empty(),
        index,
    )
}

/// Warns of routes whose requests all go to an earlier one with the same conditions.
fn unreachable(spec: &Spec, key: &IndexKey, routes: &[RouteIndex], problems: &mut Problems) {
    if routes.len() < 2 {
        return;
    }
    let mut first_with: Map<String, usize> = Map::default();
    for route in routes.iter().map(|route| route.0 as usize) {
        let it = &spec.routes[route];
        let (mut methods, mut listeners) = (it.methods.clone(), it.listeners.clone());
        methods.sort();
        listeners.sort();
        let conditions = format!(
            "{methods:?} {listeners:?} {:?} {:?} {:?} {:?}",
            it.headers, it.query, it.cookies, it.sources
        );
        let first = *first_with.entry(conditions).or_insert(route);
        if first != route {
            let on = match &key.host {
                HostKey::Any => String::new(),
                HostKey::Exact(host) => format!(" on {host}"),
                HostKey::Suffix(suffix) => format!(" on *.{suffix}"),
            };
            let (earlier, later) = (&spec.routes[first].name, &it.name);
            let message = format!(
                "route `{later}` is never reached{on}: route `{earlier}` has the same conditions and comes first"
            );
            let place = Place::root().field("route").index(route);
            problems.warning(codes::NEVER_REACHED, &place, message);
        }
    }
}
