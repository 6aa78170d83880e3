//! How many requests a client may make, and how slowly it may send their bodies.

use lb_core::defaults::RATE_BURST_MAX;
use lb_core::spec::{BodyRateSpec, RateKey, RateSpec};

use super::reader::{Reader, Scope};
use super::shapes;
use super::tree::Value;
use super::value::Refused;

/// `false` or `{ requests = …, per = "…", burst = …, key = …, ipv6_prefix = … }`.
pub(super) fn rate(reader: &mut Reader<'_>, route: Scope<'_>) -> Option<RateSpec> {
    let node = route.table.get("rate")?;
    let table = match &node.value {
        Value::Boolean(false) => return None,
        Value::Table(table) => table,
        _ => {
            reader.wrong_type(node, "rate", "false or { requests = 20, per = \"1s\" }");
            return None;
        }
    };
    let scope = reader.enter(table, node.span, &shapes::RATE);
    if scope.table.get("requests").is_none() {
        reader.missing(scope, "requests", "a number of requests such as 20");
    }
    if scope.table.get("per").is_none() {
        reader.missing(scope, "per", "a duration such as \"1s\"");
    }
    let requests = reader.integer(scope, "requests", 1..=i64::from(u32::MAX));
    let per = reader.duration(scope, "per");
    let burst = reader.integer(scope, "burst", 1..=i64::from(RATE_BURST_MAX));
    let ipv6_prefix = reader.integer(scope, "ipv6_prefix", 1..=128);
    let key = key(reader, scope);
    if key == RateKey::Route {
        reader.no_effect(scope, "ipv6_prefix", "all clients are counted as one");
    }
    // What is missing was reported; a rate that stands for it must not be found wrong again.
    Some(RateSpec {
        requests: requests.map_or(1, |found| found.value as u32),
        per: per.map_or(std::time::Duration::from_secs(1), |found| found.value),
        burst: burst.map(|found| found.value as u32),
        key,
        ipv6_prefix: ipv6_prefix.map(|found| found.value as u8),
    })
}

/// `"source"`, `"route"` or `{ header = "…" }`.
fn key(reader: &mut Reader<'_>, scope: Scope<'_>) -> RateKey {
    if matches!(scope.table.get("key").map(|node| &node.value), Some(Value::Table(_))) {
        let inner = reader.table(scope, "key", &shapes::RATE_BY_HEADER);
        let name = inner.and_then(|inner| reader.required(inner, "header", "the name of a header"));
        return name.map_or(RateKey::Source, |header| RateKey::Header(header.value));
    }
    let found = reader.parsed(scope, "key", |word| match word {
        "source" => Ok(RateKey::Source),
        "route" => Ok(RateKey::Route),
        _ => Err(Refused {
            expected: "\"source\", \"route\" or { header = \"name\" }".to_owned(),
            meant: lb_core::nearest(word, ["source", "route"]).map(str::to_owned),
        }),
    });
    found.map(|found| found.value).unwrap_or_default()
}

/// `body_rate`, which may be `false`, and `body_grace`.
pub(super) fn body_rate(reader: &mut Reader<'_>, route: Scope<'_>) -> Option<BodyRateSpec> {
    let off = match route.table.get("body_rate").map(|node| &node.value) {
        None => Some("there is no `body_rate`"),
        Some(Value::Boolean(false)) => Some("`body_rate` is false"),
        Some(_) => None,
    };
    if let Some(why) = off {
        reader.no_effect(route, "body_grace", why);
        return None;
    }
    let grace = reader.duration(route, "body_grace").map(|found| found.value);
    let bytes = reader.size(route, "body_rate")?.value;
    Some(BodyRateSpec { bytes, grace })
}
