//! Cookies of ours that would overwrite each other: one name for two things on hosts that one client may visit.
//! All have `Path=/` and no port, so hosts are all that keeps them apart.

use super::backends::sticky_cookie;
use super::codes;
use super::conditions::host_keys;
use super::names::Names;
use super::problem::{Place, Problems};
use crate::choose::mark_cookie;
use crate::find::HostKey;
use crate::map::Map;
use crate::spec::{RouteSpec, SessionKey, Spec};
use std::collections::BTreeMap;

/// Hosts on which a cookie is set, each with the number of what sets it.
type Reach = Vec<(HostKey, usize)>;

pub(super) fn check(spec: &Spec, backends: &Names<'_>, problems: &mut Problems) {
    let mut sticky: BTreeMap<String, Reach> = BTreeMap::new();
    let mut marks: BTreeMap<String, Reach> = BTreeMap::new();
    for (index, route) in spec.routes.iter().enumerate() {
        let hosts = host_keys(route);
        for backend in backends_of(route, backends) {
            if let Some(cookie) = sticky_cookie(&spec.backends[backend]) {
                sticky.entry(cookie).or_default().extend(hosts.iter().map(|host| (host.clone(), backend)));
            }
        }
        if let Some(canary) = route.canary.as_ref().filter(|canary| canary.key != SessionKey::Draw) {
            let reach = hosts.into_iter().map(|host| (host, index));
            marks.entry(mark_cookie(canary)).or_default().extend(reach);
        }
    }
    for (cookie, reach) in &sticky {
        if let Some((first, second)) = overlap(reach) {
            let (one, other) = (&spec.backends[first].name, &spec.backends[second].name);
            let place = Place::root().field("backend").index(second).field("sticky").field("cookie");
            let message = format!(
                "the backends `{one}` and `{other}` have the same sticky cookie `{cookie}` on the same hosts"
            );
            problems
                .error(codes::COOKIE_CLASH, &place, message)
                .expected("expected a cookie for each of them");
        }
    }
    for (cookie, reach) in &marks {
        if let Some((first, second)) = overlap(reach) {
            let (one, other) = (&spec.routes[first].name, &spec.routes[second].name);
            let place = Place::root().field("route").index(second).field("canary").field("mark_cookie");
            let message = format!(
                "the routes `{one}` and `{other}` mark sessions with the same cookie `{cookie}` on the same hosts"
            );
            problems
                .warning(codes::MARK_CLASH, &place, message)
                .expected("expected a mark_cookie for each of them");
        }
    }
    check_kinds(spec, problems);
}

fn backends_of(route: &RouteSpec, backends: &Names<'_>) -> impl Iterator<Item = usize> {
    let names = [route.backend.as_deref(), route.canary.as_ref().map(|canary| &*canary.backend)];
    names.into_iter().flatten().filter_map(|name| backends.get(name))
}

/// One name must not be the session's, a tester's, a mark's and a sticky cookie's at once, whatever the hosts.
fn check_kinds(spec: &Spec, problems: &mut Problems) {
    let root = Place::root();
    let mut kinds: Map<String, &str> =
        [(spec.session.cookie.clone(), "the session cookie")].into_iter().collect();
    let mut claim = |name: String, kind: &'static str, place: Place| {
        let earlier = *kinds.entry(name.clone()).or_insert(kind);
        if earlier != kind {
            let message = format!("the cookie `{name}` cannot be {kind}: it is {earlier}");
            problems.error(codes::COOKIE_CLASH, &place, message).expected("expected another name");
        }
    };
    for (index, route) in spec.routes.iter().enumerate() {
        let Some(canary) = &route.canary else { continue };
        let place = root.field("route").index(index).field("canary");
        if let Some(tester) = &canary.cookie {
            claim(tester.clone(), "a testers' cookie", place.field("cookie"));
        }
        claim(mark_cookie(canary), "a mark", place.field("mark_cookie"));
    }
    for (index, backend) in spec.backends.iter().enumerate() {
        if let Some(cookie) = sticky_cookie(backend) {
            let place = root.field("backend").index(index).field("sticky").field("cookie");
            claim(cookie, "a sticky cookie", place);
        }
    }
}

/// Two different owners that a client of one host may meet, the earlier one first.
fn overlap(reach: &Reach) -> Option<(usize, usize)> {
    let mut owners: Map<&HostKey, usize> = Map::default();
    for (host, owner) in reach {
        let first = *owners.entry(host).or_insert(*owner);
        if first != *owner {
            return Some((first.min(*owner), first.max(*owner)));
        }
    }
    for (host, owner) in reach {
        let meets = wider(host).find_map(|wide| owners.get(&wide).filter(|other| *other != owner));
        if let Some(other) = meets {
            return Some((*other.min(owner), *other.max(owner)));
        }
    }
    None
}

/// All keys that hold every host which a key holds.
fn wider(host: &HostKey) -> impl Iterator<Item = HostKey> {
    let (name, any) = match host {
        HostKey::Exact(name) | HostKey::Suffix(name) => (name.as_str(), Some(HostKey::Any)),
        HostKey::Any => ("", None),
    };
    let suffixes = name.match_indices('.').map(|(dot, _)| HostKey::Suffix(name[dot + 1..].to_owned()));
    suffixes.chain(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_overlap() {
        let exact = |host: &str| HostKey::Exact(host.into());
        let suffix = |host: &str| HostKey::Suffix(host.into());
        for (one, other, expected) in [
            (exact("a.b.c"), exact("a.b.c"), true),
            (exact("a.b.c"), exact("x.b.c"), false),
            (exact("a.b.c"), suffix("b.c"), true),
            (exact("a.b.c"), suffix("c"), true),
            (exact("b.c"), suffix("b.c"), false),
            (suffix("b.c"), suffix("c"), true),
            (suffix("b.c"), suffix("x.c"), false),
            (exact("a"), HostKey::Any, true),
            (HostKey::Any, HostKey::Any, true),
        ] {
            let both = [(one.clone(), 0), (other.clone(), 1)].to_vec();
            let swapped = [(other, 1), (one, 0)].to_vec();
            assert_eq!(overlap(&both), expected.then_some((0, 1)), "{both:?}");
            assert_eq!(overlap(&swapped), expected.then_some((0, 1)), "{both:?}");
        }
    }
}
