//! `outliers` of a backend.

use std::time::Duration;

use lb_core::outlier::{LatencySettings, OutlierSettings, RatioSettings};

use super::codes;
use super::health::between;
use super::reader::{Reader, Scope};
use super::tree::Value;
use super::value::Refused;
use crate::report::Diagnostic;

pub(super) fn outliers(reader: &mut Reader<'_>, scope: Scope<'_>) -> OutlierSettings {
    let default = OutlierSettings::default();
    let off = |key: &str| matches!(scope.table.get(key).map(|node| &node.value), Some(Value::Boolean(false)));
    let number = |reader: &mut Reader<'_>, key: &'static str, most: i64, default: u32| {
        reader.integer(scope, key, 1..=most).map_or(default, |found| found.value as u32)
    };
    let percent = |reader: &mut Reader<'_>, key: &'static str, default: u32| {
        let Some(found) = reader.share(scope, key) else { return default };
        if found.value > 0 && found.value % 100 == 0 {
            return u32::from(found.value / 100);
        }
        let expected = "a whole percentage from \"1%\" to \"100%\"".to_owned();
        reader.refuse(found.span, format!("`{key}` is out of range"), Refused { expected, meant: None });
        default
    };
    let time = |reader: &mut Reader<'_>, key: &'static str, default: Duration| {
        let bounds = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
        between(reader, scope, key, bounds).map_or(default, |found| found.value)
    };
    let failures = (!off("failures"))
        .then(|| number(reader, "failures", 10_000, default.failures_in_row.unwrap_or_default()));
    let ratio_default = RatioSettings::default();
    let ratio = (!off("ratio")).then(|| RatioSettings {
        margin_percent: percent(reader, "ratio", ratio_default.margin_percent),
        samples_min: number(reader, "ratio_attempts", 1_000_000, ratio_default.samples_min),
    });
    let latency_default = LatencySettings::default();
    let shortest = Duration::from_millis(1)..=Duration::from_secs(3600);
    let latency = (!off("latency")).then(|| LatencySettings {
        factor: match reader.integer(scope, "latency", 2..=1000) {
            Some(found) => found.value as u32,
            None => latency_default.factor,
        },
        latency_min: between(reader, scope, "latency_min", shortest)
            .map_or(latency_default.latency_min, |found| found.value),
        samples_min: number(reader, "latency_responses", 1_000_000, latency_default.samples_min),
    });
    if failures.is_none() && ratio.is_none() && latency.is_none() {
        let message = "with `failures`, `ratio` and `latency` off, nobody is ever an outlier";
        let finding = Diagnostic::error(codes::CHECK, message).at(scope.span);
        reader.report.add(finding.expected("one of them, or `outliers = false`"));
    }
    for (off, keys) in [
        (ratio.is_none(), &["ratio_attempts"][..]),
        (latency.is_none(), &["latency_min", "latency_responses"]),
    ] {
        for key in keys.iter().filter(|_| off) {
            reader.no_effect(scope, key, "what it is about is off");
        }
    }
    let settings = OutlierSettings {
        failures_in_row: failures,
        ratio,
        latency,
        server_errors: reader.boolean(scope, "server_errors").unwrap_or(default.server_errors),
        window: time(reader, "window", default.window),
        ejection_first: time(reader, "ejection", default.ejection_first),
        ejection_max: time(reader, "ejection_max", default.ejection_max),
        forgive_after: time(reader, "forgive_after", default.forgive_after),
        ejected_max_percent: percent(reader, "max_ejected", default.ejected_max_percent),
    };
    let written = scope.table.get("ejection_max").or_else(|| scope.table.get("ejection"));
    if let Some(node) = written.filter(|_| settings.ejection_first > settings.ejection_max) {
        let message = "the first ejection would last longer than any may";
        let finding = Diagnostic::error(codes::CHECK, message).at(node.span);
        reader.report.add(finding.expected("an `ejection` no longer than `ejection_max`"));
    }
    settings
}
