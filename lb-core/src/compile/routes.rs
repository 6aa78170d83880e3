//! Routes: their targets, arms and what is merged into them.

use super::backends::sticky_cookie;
use super::names::Names;
use super::problem::{Place, Problems};
use super::{actions, at_most, codes, conditions, cookie_name, rates, retries, timeouts};
use crate::choose::{Canary, mark_cookie};
use crate::cookie::{is_token_byte, is_value};
use crate::defaults::{ARMS_MAX, NAME_LEN_MAX, NETWORKS_MAX};
use crate::jar::CookieNames;
use crate::session::Keys;
use crate::snapshot::{Arm, BackendIndex, Route, Split, Target};
use crate::spec::{CanarySpec, HashKey, PathMatch, RouteSpec, SessionKey, Share, Spec};
use std::ops::Range;

/// What routes refer to.
pub(super) struct Known<'a> {
    pub(super) spec: &'a Spec,
    pub(super) keys: &'a Keys,
    pub(super) backends: &'a Names<'a>,
    pub(super) listeners: &'a Names<'a>,
}

pub(super) fn compile(known: &Known<'_>, problems: &mut Problems) -> Box<[Route]> {
    let mut used = vec![false; known.spec.backends.len()];
    let route = |(index, route): (usize, &RouteSpec)| {
        let place = Place::root().field("route").index(index);
        let arms = arms(known, route, &place, problems);
        arms.iter().for_each(|(_, backend, _)| used[*backend] = true);
        check_target(route, &place, problems);
        timeouts::check(&route.timeouts, &place.field("timeouts"), timeouts::Scope::Exchange, problems);
        check_strip(route, &place, problems);
        let actions = actions::compile(&route.actions, &place, problems);
        Route {
            name: route.name.as_str().into(),
            class: route.class,
            max_body: actions.max_body,
            body_rate: rates::body_rate(route.body_rate, &place, problems),
            rate: rates::compile(known.spec, route, &known.keys.share, &place, problems),
            target: match (&actions.redirect, &actions.reply) {
                (Some(redirect), _) => Target::Redirect(redirect.clone()),
                (None, Some(reply)) => Target::Reply(reply.clone()),
                (None, None) => Target::Backends(split(known, route, arms)),
            },
            encoded_slash: route.encoded_slash,
            path_encoding: route.path_encoding,
            conditions: conditions::compile(route, &place, known.listeners, problems),
            actions,
        }
    };
    let routes: Box<[Route]> = known.spec.routes.iter().enumerate().map(route).collect();
    for (index, _) in used.iter().enumerate().filter(|(_, used)| !**used) {
        let name = &known.spec.backends[index].name;
        if known.backends.get(name) != Some(index) {
            // A namesake: that is told already.
            continue;
        }
        let place = Place::root().field("backend").index(index).field("name");
        problems.warning(codes::UNUSED, &place, format!("the backend `{name}` is used by no route"));
    }
    routes
}

fn check_target(route: &RouteSpec, place: &Place, problems: &mut Problems) {
    let targets = [
        ("backend", route.backend.is_some()),
        ("redirect", route.actions.redirect.is_some()),
        ("reply", route.actions.reply.is_some()),
    ];
    let given: Vec<&'static str> =
        targets.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    match given.as_slice() {
        [] => {
            let message = format!("the route `{}` goes nowhere", route.name);
            problems
                .error(codes::NO_TARGET, place, message)
                .expected("expected a backend, a redirect or a reply");
        }
        [_] => {}
        [.., last] => {
            let message =
                format!("the route `{}` has {}, which exclude each other", route.name, given.join(" and "));
            problems.error(codes::TWO_TARGETS, &place.field(last), message).expected("expected one of them");
        }
    }
    if route.canary.is_some() && route.backend.is_none() {
        let message = format!("the route `{}` has a canary, but no backend for the stable arm", route.name);
        problems.error(codes::NO_TARGET, &place.field("canary"), message).expected("expected a backend");
    }
}

/// Names, backends and buckets of the arms, as far as the backends exist. The canary's buckets come first, so that
/// raising its share takes sessions from the stable arm and moves no others.
fn arms(
    known: &Known<'_>,
    route: &RouteSpec,
    place: &Place,
    problems: &mut Problems,
) -> Vec<(&'static str, usize, Range<u16>)> {
    let mut arms = Vec::new();
    let share = route.canary.as_ref().map_or(0, |canary| canary.share.hundredths());
    if let Some(name) = &route.backend
        && let Some(stable) = known.backends.find(name, codes::NO_BACKEND, &place.field("backend"), problems)
    {
        arms.push(("stable", stable, share..Share::WHOLE));
    }
    let Some(canary) = &route.canary else { return arms };
    let place = place.field("canary");
    check_canary(canary, &place, problems);
    let backend = place.field("backend");
    if let Some(found) = known.backends.find(&canary.backend, codes::NO_BACKEND, &backend, problems) {
        if arms.iter().any(|(_, stable, _)| *stable == found) {
            let message =
                format!("both arms of the route `{}` have the backend `{}`", route.name, canary.backend);
            problems.warning(codes::SAME_ARMS, &backend, message);
        }
        arms.push(("canary", found, 0..share));
    }
    arms
}

fn check_canary(canary: &CanarySpec, place: &Place, problems: &mut Problems) {
    if let Some(name) = &canary.cookie {
        cookie_name(name, &place.field("cookie"), problems);
    }
    cookie_name(&mark_cookie(canary), &place.field("mark_cookie"), problems);
    if canary.cookie.as_deref() == Some(&*mark_cookie(canary)) {
        let message = "the testers' cookie and the mark cannot be the same cookie".to_owned();
        problems.error(codes::COOKIE_CLASH, &place.field("mark_cookie"), message);
    }
    let force_from = place.field("force_from");
    at_most(canary.force_from.len(), NETWORKS_MAX, "networks", &force_from, problems);
    let testers =
        [("force_from", !canary.force_from.is_empty()), ("force_value", canary.force_value.is_some())];
    for (field, _) in testers.into_iter().filter(|(_, given)| *given && canary.cookie.is_none()) {
        let message = format!("`{field}` is about the testers' cookie, and there is none");
        problems.error(codes::COOKIE, &place.field(field), message).expected("expected a cookie, too");
    }
    if let Some(value) = &canary.force_value {
        let place = place.field("force_value");
        if !is_value(value) {
            let message = format!("`{value}` cannot be the value of a cookie");
            problems.error(codes::COOKIE, &place, message);
        } else if value == "never" {
            let message = "`never` is the word for staying out of the canary".to_owned();
            problems.error(codes::COOKIE, &place, message).expected("expected another value");
        }
    }
    if canary.release.len() > NAME_LEN_MAX {
        let message = format!("a release of {} bytes is too long", canary.release.len());
        problems
            .error(codes::NAME, &place.field("release"), message)
            .expected(format!("expected at most {NAME_LEN_MAX} bytes"));
    }
    if let SessionKey::Header(name) = &canary.key
        && (name.is_empty() || !name.bytes().all(is_token_byte))
    {
        problems.error(
            codes::HEADER,
            &place.field("key"),
            format!("`{name}` cannot be the name of a header"),
        );
    }
}

fn check_strip(route: &RouteSpec, place: &Place, problems: &mut Problems) {
    let Some(strip) = &route.actions.strip_prefix else { return };
    let strips = match &route.path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) => {
            crate::path::strip_prefix(path.as_bytes(), strip.as_bytes()).is_some()
        }
        // Whatever else it is, it may have the prefix.
        PathMatch::Any | PathMatch::Regex(_) => true,
    };
    // A longer prefix than the route's own is there in some of its requests.
    let longer = match &route.path {
        PathMatch::Prefix(path) => crate::path::strip_prefix(strip.as_bytes(), path.as_bytes()).is_some(),
        _ => false,
    };
    if !strips && !longer {
        let message = format!("no request of the route `{}` has the prefix `{strip}`", route.name);
        problems.warning(codes::STRIPS_NOTHING, &place.field("strip_prefix"), message);
    }
}

fn split(known: &Known<'_>, route: &RouteSpec, arms: Vec<(&'static str, usize, Range<u16>)>) -> Split {
    let backends: Vec<_> = arms.iter().map(|(_, backend, _)| &known.spec.backends[*backend]).collect();
    let by_cookie = route.canary.as_ref().is_some_and(|canary| canary.key == SessionKey::Cookie);
    let hashes_session = backends.iter().any(|it| it.balance.hashes() && it.hash_key == HashKey::Session);
    // A canary with another key is what the session is there; without one, hashing needs our cookie.
    let sets_session = by_cookie || route.canary.is_none() && hashes_session;
    let boxed = |name: String| -> Box<str> { name.into() };
    let mut sticky: [Option<Box<str>>; ARMS_MAX] = [None, None];
    for (slot, backend) in sticky.iter_mut().zip(&backends) {
        *slot = sticky_cookie(backend).map(boxed);
    }
    let cookie_names = CookieNames {
        session: sets_session.then(|| boxed(known.spec.session.cookie.clone())),
        tester: route.canary.as_ref().and_then(|canary| canary.cookie.clone()).map(boxed),
        mark: route.canary.as_ref().map(|canary| boxed(mark_cookie(canary))),
        sticky,
    };
    let canary = route.canary.as_ref();
    let mut places = [BackendIndex(0); ARMS_MAX];
    for (place, (_, backend, _)) in places.iter_mut().zip(&arms) {
        *place = BackendIndex(*backend as u32);
    }
    Split {
        backends: places,
        arms: arms.into_iter().map(|arm| self::arm(known, route, &cookie_names, arm)).collect(),
        canary: canary.map(|canary| Canary::new(known.keys, &route.name, &lower_case(canary)).into()),
        sets_session,
        cookie_names: (!cookie_names.is_empty()).then(|| cookie_names.into()),
    }
}

fn arm(
    known: &Known<'_>,
    route: &RouteSpec,
    names: &CookieNames,
    (name, backend, buckets): (&'static str, usize, Range<u16>),
) -> Arm {
    let spec = known.spec;
    let of_backend = &spec.backends[backend];
    let mut strip_cookies: Vec<Box<str>> = Vec::new();
    if spec.session.strip {
        strip_cookies.push(spec.session.cookie.as_str().into());
        strip_cookies.extend(names.mark.clone());
        strip_cookies.extend(names.sticky.iter().flatten().cloned());
        strip_cookies.dedup();
    }
    Arm {
        name,
        backend: BackendIndex(backend as u32),
        buckets,
        timeouts: timeouts::merge(&[&route.timeouts, &of_backend.timeouts, &spec.timeouts]),
        retry: retries::merge(&[&route.retry, &of_backend.retry, &spec.retry]),
        strip_cookies: strip_cookies.into(),
    }
}

/// With the name of a header as requests are asked for it.
fn lower_case(canary: &CanarySpec) -> CanarySpec {
    let mut canary = canary.clone();
    if let SessionKey::Header(name) = &mut canary.key {
        name.make_ascii_lowercase();
    }
    canary
}
