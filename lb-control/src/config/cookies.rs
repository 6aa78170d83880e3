//! One cookie name must not stand for two sticky backends that one browser can reach: each would overwrite
//! what the other set, and sessions would hop.

use std::collections::HashMap;

use lb_core::defaults::STICKY_COOKIE_PREFIX;
use lb_core::spec::{RouteSpec, Spec};

use super::codes;
use super::source::Span;
use super::tree::{Table, Value};
use crate::report::Diagnostic;

/// Finds sticky backends that share a cookie's name and are reachable on overlapping hosts.
pub(super) fn shared(spec: &Spec, tree: &Table) -> Vec<Diagnostic> {
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, backend) in spec.backends.iter().enumerate() {
        if let Some(sticky) = &backend.sticky {
            let name =
                sticky.cookie.clone().unwrap_or_else(|| format!("{STICKY_COOKIE_PREFIX}{}", backend.name));
            by_name.entry(name).or_default().push(index);
        }
    }
    let mut findings = Vec::new();
    for (name, backends) in by_name.into_iter().filter(|(_, backends)| backends.len() > 1) {
        let hosts: Vec<Vec<&str>> = backends.iter().map(|index| hosts(spec, *index)).collect();
        for (second, reach) in hosts.iter().enumerate() {
            let Some(first) = hosts[..second].iter().position(|known| overlap(known, reach)) else {
                continue;
            };
            let (first, second) = (backends[first], backends[second]);
            let [first_name, second_name] = [first, second].map(|index| &spec.backends[index].name);
            if first_name == second_name {
                continue;
            }
            findings.push(
                Diagnostic::error(
                    codes::SHARED_COOKIE,
                    format!("`{first_name}` and `{second_name}` are sticky by one cookie, `{name}`, on the same hosts"),
                )
                .at(sticky_span(tree, second))
                .expected("a cookie of its own")
                .meant(Some(format!("{STICKY_COOKIE_PREFIX}{second_name}")).filter(|own| *own != name)),
            );
        }
    }
    findings
}

/// The hosts of all routes that lead to a backend; an empty text stands for any host.
fn hosts(spec: &Spec, backend: usize) -> Vec<&str> {
    let name = spec.backends[backend].name.as_str();
    let leads_there = |route: &&RouteSpec| {
        route.backend.as_deref() == Some(name)
            || route.canary.as_ref().is_some_and(|canary| canary.backend == name)
    };
    let mut hosts = Vec::new();
    for route in spec.routes.iter().filter(leads_there) {
        if route.hosts.is_empty() {
            return vec![""];
        }
        hosts.extend(route.hosts.iter().map(String::as_str));
    }
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// Whether some host is in both lists. Our cookies have no Domain, so they stay with the very host.
fn overlap(left: &[&str], right: &[&str]) -> bool {
    left.iter().any(|left| right.iter().any(|right| meet(left, right)))
}

fn meet(left: &str, right: &str) -> bool {
    if left.is_empty() || right.is_empty() {
        return true;
    }
    match (left.strip_prefix('*'), right.strip_prefix('*')) {
        (None, None) => left.eq_ignore_ascii_case(right),
        (Some(suffix), None) => ends_with(right, suffix),
        (None, Some(suffix)) => ends_with(left, suffix),
        (Some(left), Some(right)) => ends_with(left, right) || ends_with(right, left),
    }
}

fn ends_with(host: &str, suffix: &str) -> bool {
    host.to_ascii_lowercase().ends_with(&suffix.to_ascii_lowercase())
}

fn sticky_span(tree: &Table, backend: usize) -> Option<Span> {
    let Value::Array(backends) = &tree.get("backend")?.value else { return None };
    let node = backends.get(backend)?;
    let Value::Table(table) = &node.value else { return None };
    let sticky = table.get("sticky")?;
    let Value::Table(inner) = &sticky.value else { return Some(sticky.span) };
    Some(inner.get("cookie").unwrap_or(sticky).span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_meet() {
        for (left, right, expected) in [
            ("", "a.example", true),
            ("a.example", "A.example", true),
            ("a.example", "b.example", false),
            ("*.example", "a.example", true),
            ("*.example", "example", false),
            ("*.a.example", "*.example", true),
            ("*.a.example", "*.b.example", false),
        ] {
            assert_eq!(meet(left, right), expected, "{left} {right}");
            assert_eq!(meet(right, left), expected, "{right} {left}");
        }
    }
}
