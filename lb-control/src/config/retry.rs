//! Retries: how many, on what, how soon.

use std::ops::RangeInclusive;

use lb_core::spec::{RetryOn, RetrySpec};

use super::health::range;
use super::reader::{Reader, Scope, Shape, shortened};
use super::tree::{Node, Value};
use super::value::Refused;

/// A `retry` table of the given shape.
pub(super) fn retry(reader: &mut Reader<'_>, parent: Scope<'_>, shape: &'static Shape) -> RetrySpec {
    let mut retry = RetrySpec::default();
    let Some(scope) = reader.table(parent, "retry", shape) else { return retry };
    let most = i64::from(lb_core::defaults::RETRIES_MAX);
    retry.retries = reader.integer(scope, "retries", 0..=most).map(|found| found.value as u32);
    if shape.keys.contains(&"budget")
        && let Some(budget) = reader.share(scope, "budget")
    {
        if budget.value % 100 != 0 {
            let expected = "a whole percentage such as \"20%\"".to_owned();
            reader.refuse(budget.span, "`budget` is too fine", Refused { expected, meant: None });
        }
        retry.budget_percent = Some(u32::from(budget.value / 100));
    }
    retry.on = on(reader, scope);
    retry.attempt_timeout = reader.duration(scope, "attempt_timeout").map(|found| found.value);
    retry.backoff = reader.duration(scope, "backoff").map(|found| found.value);
    retry.backoff_max = reader.duration(scope, "backoff_max").map(|found| found.value);
    retry.hold_body = reader.size(scope, "hold_body").map(|found| found.value);
    if scope.table.get("non_idempotent").is_some() {
        let methods = reader.strings(scope, "non_idempotent");
        retry.non_idempotent = Some(methods.into_iter().map(|method| method.value).collect());
    }
    retry
}

const REASON: &str = "\"connect\", \"closed\", or a status such as 503, \"5xx\" or \"502-504\"";

/// One reason to try again, or a list of them.
fn on(reader: &mut Reader<'_>, scope: Scope<'_>) -> Option<Vec<RetryOn>> {
    let node = scope.table.get("on")?;
    let items = match &node.value {
        Value::Array(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    // What cannot be read keeps its place, so that the others keep theirs.
    Some(items.iter().map(|item| reason(reader, item).unwrap_or(RetryOn::Closed)).collect())
}

fn reason(reader: &mut Reader<'_>, item: &Node) -> Option<RetryOn> {
    let known = match &item.value {
        Value::Integer(status @ 100..=999) => {
            let status = *status as u16;
            return Some(RetryOn::Statuses(status..=status));
        }
        Value::Integer(number) => Err((number.to_string(), None)),
        Value::String(text) => word(text).map_err(|meant| (text.clone(), meant)),
        _ => {
            reader.wrong_type(item, "on", REASON);
            return None;
        }
    };
    match known {
        Ok(reason) => Some(reason),
        Err((text, meant)) => {
            let message = format!("`on` cannot be `{}`", shortened(&text));
            reader.refuse(item.span, message, Refused { expected: REASON.to_owned(), meant });
            None
        }
    }
}

/// A reason as a word, or what was probably meant.
fn word(text: &str) -> Result<RetryOn, Option<String>> {
    match text {
        "connect" => Ok(RetryOn::Connect),
        "closed" => Ok(RetryOn::Closed),
        _ => match range(text) {
            Ok((first, last)) => Ok(RetryOn::Statuses(RangeInclusive::new(first, last))),
            Err(Some(meant)) => Err(Some(meant)),
            Err(None) => Err(meant(text)),
        },
    }
}

/// The words that HAProxy, nginx and Envoy have for the same, and what is nearly ours.
fn meant(text: &str) -> Option<String> {
    let ours = match text {
        "conn-failure" | "error" | "connect-failure" | "refused-stream" => Some("connect"),
        "empty-response" | "reset" | "reset-before-request" => Some("closed"),
        "gateway-error" => Some("502-504"),
        "response-timeout" | "timeout" => None,
        _ => lb_core::nearest(text, ["connect", "closed"]),
    };
    ours.map(str::to_owned)
}
