//! Timeouts: where they may be set, and whose word counts.

use super::codes;
use super::problem::{Place, Problems};
use crate::defaults::{self, TIMEOUT_MAX};
use crate::snapshot::Timeouts;
use crate::spec::TimeoutsSpec;
use std::time::Duration;

/// Where timeouts are set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Global,
    Listener,
    /// Of a route or backend.
    Exchange,
}

pub(super) fn check(spec: &TimeoutsSpec, place: &Place, scope: Scope, problems: &mut Problems) {
    use Scope::{Exchange, Listener};
    let TimeoutsSpec { connect, request_head, response, idle_down, idle_up, tunnel_idle, drain } = *spec;
    let all = [
        ("connect", connect, &[Exchange][..]),
        ("request_head", request_head, &[Listener]),
        ("response", response, &[Exchange]),
        ("idle_down", idle_down, &[Listener]),
        ("idle_up", idle_up, &[Exchange]),
        ("tunnel_idle", tunnel_idle, &[Exchange]),
        ("drain", drain, &[]),
    ];
    for (name, value, scopes) in all {
        let Some(value) = value else { continue };
        let place = place.field(name);
        if scope != Scope::Global && !scopes.contains(&scope) {
            let expected = match scopes {
                [Listener] => "expected it on a listener or among the global timeouts",
                [Exchange] => "expected it on a route, on a backend or among the global timeouts",
                _ => "expected it among the global timeouts",
            };
            let message = format!("the timeout `{name}` has no meaning here");
            problems.error(codes::TIMEOUT_PLACE, &place, message).expected(expected);
        }
        if value.is_zero() || value > TIMEOUT_MAX {
            let message = format!("a timeout of {} s cannot be", value.as_secs());
            problems
                .error(codes::TIMEOUT, &place, message)
                .expected("expected more than 0 s and at most 7 days");
        }
    }
}

/// Timeouts with the first of the words that was said about each, or its default.
pub(super) fn merge(nearest_first: &[&TimeoutsSpec]) -> Timeouts {
    let first = |field: fn(&TimeoutsSpec) -> Option<Duration>, default| {
        nearest_first.iter().find_map(|spec| field(spec)).unwrap_or(default)
    };
    Timeouts {
        connect: first(|spec| spec.connect, defaults::CONNECT),
        request_head: first(|spec| spec.request_head, defaults::REQUEST_HEAD),
        response: first(|spec| spec.response, defaults::RESPONSE),
        idle_down: first(|spec| spec.idle_down, defaults::IDLE_DOWN),
        idle_up: first(|spec| spec.idle_up, defaults::IDLE_UP),
        tunnel_idle: first(|spec| spec.tunnel_idle, defaults::TUNNEL_IDLE),
        drain: first(|spec| spec.drain, defaults::DRAIN),
    }
}
