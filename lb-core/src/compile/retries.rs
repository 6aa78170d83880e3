//! Retries: where they may be set, and whose word counts.

use super::names::Names;
use super::problem::{Place, Problems};
use super::{at_most, codes, timeouts};
use crate::cookie::is_token_byte;
use crate::defaults::{
    CONDITIONS_MAX, HOLD_BODY_MAX, RETRIES_MAX, RETRY_BACKOFF_GROWTH, RETRY_BACKOFF_MAX,
    RETRY_BUDGET_PERCENT, TIMEOUT_MAX,
};
use crate::retry::{RetryRules, RetryStatuses, is_idempotent};
use crate::spec::{BackendSpec, RetryOn, RetrySpec, Spec, TimeoutsSpec};
use crate::text::duration;

/// Everybody's words about retries.
pub(super) fn check(spec: &Spec, backends: &Names<'_>, problems: &mut Problems) {
    let root = Place::root();
    let retries = |retry: &RetrySpec| retry.retries.is_some_and(|retries| retries > 0);
    let routes_do = spec.routes.iter().any(|route| retries(&route.retry));
    let others_do = routes_do || spec.backends.iter().any(|backend| retries(&backend.retry));
    let place = root.field("retry");
    check_words(&spec.retry, &place, problems);
    check_budget(&spec.retry, &place, problems);
    check_use(&[&spec.retry], others_do, &place, problems);
    check_attempt_timeout(&spec.retry, &[&spec.timeouts], &place, problems);
    for (index, backend) in spec.backends.iter().enumerate() {
        let place = root.field("backend").index(index).field("retry");
        check_words(&backend.retry, &place, problems);
        check_budget(&backend.retry, &place, problems);
        check_use(&[&backend.retry, &spec.retry], routes_do, &place, problems);
        check_attempt_timeout(&backend.retry, &[&backend.timeouts, &spec.timeouts], &place, problems);
    }
    for (index, route) in spec.routes.iter().enumerate() {
        let place = root.field("route").index(index).field("retry");
        check_words(&route.retry, &place, problems);
        if route.retry.budget_percent.is_some() {
            let message = "a route has no retry budget of its own".to_owned();
            problems
                .error(codes::RETRY, &place.field("budget_percent"), message)
                .expected("expected it on a backend or among the global settings");
        }
        // Its words are judged with those of the backend of its stable arm behind them.
        let Some(stable) = route.backend.as_ref().and_then(|name| backends.get(name)) else { continue };
        let stable = &spec.backends[stable];
        check_use(&[&route.retry, &stable.retry, &spec.retry], false, &place, problems);
        let timeouts = [&route.timeouts, &stable.timeouts, &spec.timeouts];
        check_attempt_timeout(&route.retry, &timeouts, &place, problems);
    }
}

fn check_words(spec: &RetrySpec, place: &Place, problems: &mut Problems) {
    if let Some(retries) = spec.retries.filter(|retries| *retries > RETRIES_MAX) {
        problems
            .error(codes::RETRY, &place.field("retries"), format!("{retries} retries are too many"))
            .expected(format!("expected at most {RETRIES_MAX}"));
    }
    if let Some(bytes) = spec.hold_body.filter(|bytes| *bytes > HOLD_BODY_MAX) {
        let message = format!("{bytes} bytes of a body are too much to hold");
        problems
            .error(codes::RETRY_BODY, &place.field("hold_body"), message)
            .expected(format!("expected at most {} KiB", HOLD_BODY_MAX >> 10));
    }
    check_on(spec, place, problems);
    check_times(spec, place, problems);
    check_methods(spec, place, problems);
}

fn check_on(spec: &RetrySpec, place: &Place, problems: &mut Problems) {
    let Some(on) = &spec.on else { return };
    let place = place.field("on");
    at_most(on.len(), CONDITIONS_MAX, "reasons to try again", &place, problems);
    if on.is_empty() {
        let message = "without a reason nothing is ever tried again".to_owned();
        problems
            .error(codes::RETRY_ON, &place, message)
            .expected("expected connect, closed or a status; or 0 retries");
    }
    for (index, reason) in on.iter().enumerate() {
        let RetryOn::Statuses(statuses) = reason else { continue };
        let mut known = RetryStatuses::default();
        let refused = statuses.clone().find(|status| !known.add(*status));
        let message = match refused {
            Some(status) => format!("another server is not tried on the status {status}"),
            None if statuses.is_empty() => "a range of statuses ends before it begins".to_owned(),
            None => continue,
        };
        problems
            .error(codes::RETRY_STATUS, &place.index(index), message)
            .expected("expected 408, 425, 429 or 500 to 599");
    }
}

fn check_times(spec: &RetrySpec, place: &Place, problems: &mut Problems) {
    if let Some(timeout) = spec.attempt_timeout
        && (timeout.is_zero() || timeout > TIMEOUT_MAX)
    {
        let message = format!("an attempt cannot be given up after {}", duration(timeout));
        problems
            .error(codes::RETRY_TIME, &place.field("attempt_timeout"), message)
            .expected("expected more than 0 s and at most 7 days");
    }
    for (name, wait) in [("backoff", spec.backoff), ("backoff_max", spec.backoff_max)] {
        if let Some(wait) = wait.filter(|wait| *wait > RETRY_BACKOFF_MAX) {
            let message = format!("a wait of {} before a retry is too long", duration(wait));
            problems
                .error(codes::RETRY_TIME, &place.field(name), message)
                .expected(format!("expected at most {}", duration(RETRY_BACKOFF_MAX)));
        }
    }
    if let (Some(first), Some(most)) = (spec.backoff, spec.backoff_max)
        && first > most
        && first <= RETRY_BACKOFF_MAX
    {
        let message =
            format!("retries cannot wait for {} first and {} at most", duration(first), duration(most));
        problems
            .error(codes::RETRY_TIME, &place.field("backoff_max"), message)
            .expected("expected no less than the first wait");
    }
}

fn check_methods(spec: &RetrySpec, place: &Place, problems: &mut Problems) {
    let Some(methods) = &spec.non_idempotent else { return };
    let place = place.field("non_idempotent");
    at_most(methods.len(), CONDITIONS_MAX, "methods", &place, problems);
    for (index, method) in methods.iter().enumerate() {
        let place = place.index(index);
        if method.is_empty() || !method.bytes().all(is_token_byte) {
            problems
                .error(codes::METHOD, &place, format!("`{method}` cannot be a method"))
                .expected("expected a method such as POST");
        } else if is_idempotent(method.as_bytes()) {
            let message = format!("`{method}` is idempotent: it is repeated anyway");
            problems.warning(codes::RETRY_UNUSED, &place, message);
        }
    }
}

fn check_budget(spec: &RetrySpec, place: &Place, problems: &mut Problems) {
    if let Some(percent) = spec.budget_percent.filter(|percent| *percent > 100) {
        let message = format!("a retry budget of {percent} % is more than every exchange");
        problems.error(codes::RETRY, &place.field("budget_percent"), message).expected("expected 0 to 100");
    }
}

/// Words of the nearest about retries that are none. `others` may still have their own number of them.
fn check_use(nearest_first: &[&RetrySpec], others: bool, place: &Place, problems: &mut Problems) {
    let Some(spec) = nearest_first.first() else { return };
    if others || merge(nearest_first).retries > 0 {
        return;
    }
    let RetrySpec {
        retries: _,
        budget_percent,
        on,
        attempt_timeout,
        backoff,
        backoff_max,
        hold_body,
        non_idempotent,
    } = spec;
    let said = [
        ("budget_percent", budget_percent.is_some()),
        ("on", on.is_some()),
        ("attempt_timeout", attempt_timeout.is_some()),
        ("backoff", backoff.is_some()),
        ("backoff_max", backoff_max.is_some()),
        ("hold_body", hold_body.is_some()),
        ("non_idempotent", non_idempotent.is_some()),
    ];
    if let Some((name, _)) = said.into_iter().find(|(_, is_said)| *is_said) {
        let message = "this changes nothing: there are 0 retries".to_owned();
        problems
            .warning(codes::RETRY_UNUSED, &place.field(name), message)
            .expected("expected a number of retries above 0");
    }
}

fn check_attempt_timeout(
    spec: &RetrySpec,
    nearest_first: &[&TimeoutsSpec],
    place: &Place,
    problems: &mut Problems,
) {
    let response = timeouts::merge(nearest_first).response;
    if let Some(timeout) =
        spec.attempt_timeout.filter(|timeout| *timeout >= response && *timeout <= TIMEOUT_MAX)
    {
        let message = format!(
            "an attempt is never given up after {}: the response's own timeout is {}",
            duration(timeout),
            duration(response)
        );
        problems
            .warning(codes::ATTEMPT_TIMEOUT_UNUSED, &place.field("attempt_timeout"), message)
            .expected("expected less than the response's timeout");
    }
}

/// The budget of a backend.
pub(super) fn budget(spec: &Spec, backend: &BackendSpec) -> u32 {
    backend.retry.budget_percent.or(spec.retry.budget_percent).unwrap_or(RETRY_BUDGET_PERCENT)
}

/// Rules with the first of the words that was said about each, or its default.
pub(super) fn merge(nearest_first: &[&RetrySpec]) -> RetryRules {
    fn first<'a, T>(specs: &[&'a RetrySpec], field: fn(&'a RetrySpec) -> Option<T>) -> Option<T> {
        specs.iter().find_map(|spec| field(spec))
    }
    let default = RetryRules::default();
    let (mut on_connect, mut on_closed, mut on_statuses) =
        (default.on_connect, default.on_closed, default.on_statuses);
    if let Some(on) = first(nearest_first, |spec| spec.on.as_ref()) {
        (on_connect, on_closed) = (on.contains(&RetryOn::Connect), on.contains(&RetryOn::Closed));
        for reason in on {
            if let RetryOn::Statuses(statuses) = reason {
                statuses.clone().for_each(|status| _ = on_statuses.add(status));
            }
        }
    }
    let backoff = first(nearest_first, |spec| spec.backoff).unwrap_or(default.backoff);
    let backoff_max = first(nearest_first, |spec| spec.backoff_max);
    let methods = first(nearest_first, |spec| spec.non_idempotent.as_ref());
    RetryRules {
        retries: first(nearest_first, |spec| spec.retries).unwrap_or(default.retries),
        on_connect,
        on_closed,
        on_statuses,
        attempt_timeout: first(nearest_first, |spec| spec.attempt_timeout),
        backoff,
        backoff_max: backoff_max.unwrap_or(backoff.saturating_mul(RETRY_BACKOFF_GROWTH)),
        hold_body: first(nearest_first, |spec| spec.hold_body)
            .map_or(default.hold_body, |bytes| bytes as u32),
        non_idempotent: methods.into_iter().flatten().map(|method| method.as_str().into()).collect(),
    }
}
