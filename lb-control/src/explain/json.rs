//! An explanation for programs. Durations are in milliseconds (latencies in microseconds), shares and buckets in
//! hundredths of a percent.

use std::time::Duration;

use lb_core::explain::{Choose, Find, Limits, Pick, RateNote, RouteNote, ServerNote};
use lb_core::{Explanation, RetryRules, Verdict};
use serde_json::{Value, json};

/// The whole explanation as one object.
pub(super) fn explanation(explanation: &Explanation) -> Value {
    let (verdict, status, reason) = match &explanation.verdict {
        Verdict::Forward(_) => ("forward", None, None),
        Verdict::Answer(_) => ("answer", explanation.answer.as_ref().map(|(status, _)| *status), None),
        Verdict::Refuse(refusal) => ("refuse", Some(refusal.status()), Some(refusal.word())),
    };
    json!({
        "verdict": verdict,
        "status": status,
        "reason": reason,
        "location": explanation.answer.as_ref().and_then(|(_, location)| location.as_ref()),
        "find": find(&explanation.find),
        "rate": explanation.rate.as_ref().map(rate),
        "choose": explanation.choose.as_ref().map(choose),
        "pick": explanation.pick.as_ref().map(pick),
        "limits": explanation.limits.as_ref().map(limits),
    })
}

fn find(find: &Find) -> Value {
    let notes = |notes: &[RouteNote]| notes.iter().map(route).collect::<Vec<_>>();
    json!({
        "path": find.path,
        "route": find.route.as_ref().map(route),
        "beat": notes(&find.beat),
        "missed": notes(&find.missed),
    })
}

fn route(note: &RouteNote) -> Value {
    json!({ "name": note.name, "conditions": note.words })
}

fn choose(choose: &Choose) -> Value {
    json!({
        "arm": choose.arm,
        "reason": format!("{:?}", choose.reason).to_lowercase(),
        "bucket": choose.bucket,
        "canary": choose.canary.as_ref().map(|buckets| [buckets.start, buckets.end]),
        "release": choose.release,
        "fallback": choose.fallback,
    })
}

fn pick(pick: &Pick) -> Value {
    let notes = |notes: &[ServerNote]| notes.iter().map(server).collect::<Vec<_>>();
    json!({
        "backend": pick.backend,
        "policy": pick.policy.word(),
        "server": pick.server.as_ref().map(server),
        "reason": pick.reason.map(|reason| format!("{reason:?}").to_lowercase()),
        "sticky_cookie": pick.sticky_cookie,
        "waits": pick.waits,
        "may_wait": pick.may_wait,
        "last_resort": pick.last_resort,
        "failed_open": pick.failed_open,
        "zone": pick.zone.as_ref().map(|zone| json!({ "name": zone.name, "share": zone.share })),
        "servers": notes(&pick.servers),
        "then": notes(&pick.then),
    })
}

fn server(note: &ServerNote) -> Value {
    json!({
        "backend": note.backend,
        "name": note.name,
        "address": note.address.to_string(),
        "weight": note.weight,
        "strength_percent": note.strength_percent,
        "zone": note.zone,
        "backup": note.backup,
        "admin": note.admin.word(),
        "drains_for_ms": note.drains_for.map(milliseconds),
        "health": note.health,
        "removed_for_ms": milliseconds(note.removed_for),
        "in_flight": note.in_flight,
        "in_flight_most": note.in_flight_most,
        "connections": note.connections,
        "connections_most": note.connections_most,
        "latency_us": note.latency.map(|latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)),
    })
}

fn rate(rate: &RateNote) -> Value {
    json!({
        "requests": rate.requests,
        "per_ms": milliseconds(rate.per),
        "burst": rate.burst,
        "client": rate.client,
        "left": rate.left,
        "wait_ms": rate.wait.map(milliseconds),
    })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn limits(limits: &Limits) -> Value {
    json!({
        "connect_ms": milliseconds(limits.connect),
        "response_ms": milliseconds(limits.response),
        "retries": limits.retry.retries,
        "retry_budget_percent": limits.retry_budget_percent,
        "class": limits.class.map(lb_core::spec::Class::word),
        "retry_on": retry_on(&limits.retry),
        "attempt_timeout_ms": limits.retry.attempt_timeout.map(milliseconds),
        "backoff_ms": milliseconds(limits.retry.backoff),
        "backoff_max_ms": milliseconds(limits.retry.backoff_max),
        "hold_body": limits.retry.hold_body,
        "method": limits.method,
        "idempotent": limits.idempotent,
        "repeatable": limits.repeatable,
        "max_body": limits.max_body,
    })
}

/// Reasons as the file has them: words and statuses.
fn retry_on(rules: &RetryRules) -> Vec<Value> {
    let words = [(rules.on_connect, "connect"), (rules.on_closed, "closed")];
    let words = words.into_iter().filter(|(is_on, _)| *is_on).map(|(_, word)| json!(word));
    let statuses = rules.on_statuses.ranges().into_iter().map(|range| match range.start() == range.end() {
        true => json!(range.start()),
        false => json!(format!("{}-{}", range.start(), range.end())),
    });
    words.chain(statuses).collect()
}
