//! `admin` of a server: what people want of it, and until when its sessions may stay.

use std::ops::RangeInclusive;
use std::time::Duration;

use lb_core::spec::Admin;

use super::moment::Moment;
use super::reader::{Reader, Scope};
use super::tree::Value;
use super::value::Refused;
use super::{codes, shapes};
use crate::drain::End;
use crate::report::Diagnostic;

/// How long a drain may last, counted from when it is first seen.
const DRAINS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(90 * 24 * 3600);

const EXPECTED: &str = "\"ready\", \"drain\", \"maintenance\", { drain = \"30m\" } or \
                        { drain_until = \"2026-12-01T06:00:00Z\" }";

/// A word, or a table with the end of a drain. `is_sticky`: whether sessions stay with the backend's servers.
pub(super) fn admin(reader: &mut Reader<'_>, scope: Scope<'_>, is_sticky: bool) -> (Admin, Option<End>) {
    let Some(node) = scope.table.get("admin") else { return (Admin::Ready, None) };
    match &node.value {
        Value::String(_) => {
            let states =
                [("ready", Admin::Ready), ("drain", Admin::Drain), ("maintenance", Admin::Maintenance)];
            let found = reader.choice(scope, "admin", &states, &[]);
            (found.map(|found| found.value).unwrap_or_default(), None)
        }
        Value::Table(table) => {
            let inner = reader.enter(table, node.span, &shapes::ADMIN_STATE);
            let end = end(reader, inner);
            if end.is_some() && !is_sticky {
                let message =
                    "the end of this drain means nothing: the backend is not sticky, so nobody stays";
                reader.report.add(Diagnostic::warning(codes::DRAIN_OF_NOBODY, message).at(node.span));
            }
            (Admin::Drain, end)
        }
        _ => {
            reader.wrong_type(node, "admin", EXPECTED);
            (Admin::Ready, None)
        }
    }
}

fn end(reader: &mut Reader<'_>, scope: Scope<'_>) -> Option<End> {
    let (after, until) = (scope.table.entry("drain"), scope.table.entry("drain_until"));
    match (after, until) {
        (Some(_), None) => {
            let found = reader.duration(scope, "drain")?;
            if DRAINS.contains(&found.value) {
                return Some(End::After(found.value));
            }
            let message = "a drain cannot last so long";
            let finding = Diagnostic::error(codes::DRAIN_END, message).at(found.span);
            reader.report.add(finding.expected("more than 0 and at most 2160h, which are 90 days"));
            None
        }
        (None, Some(_)) => {
            let found = reader.moment(scope, "drain_until")?;
            if found.value <= Moment::now() {
                let message = format!("the drain ended at {}: nobody is sent to this server", found.value);
                let finding = Diagnostic::warning(codes::DRAIN_OVER, message).at(found.span);
                reader.report.add(finding.note("`admin = \"maintenance\"` says so in a word"));
            }
            Some(End::At(found.value))
        }
        (Some(_), Some(until)) => {
            let message = "a drain has one end: `drain` or `drain_until`";
            let finding = Diagnostic::error(codes::EXCLUSIVE, message).at(until.key_span);
            reader.report.add(finding.expected("one of the two"));
            None
        }
        (None, None) => {
            if scope.table.entries.is_empty() {
                let message = "`admin` says nothing";
                let expected = EXPECTED.to_owned();
                reader.refuse(scope.span, message, Refused { expected, meant: None });
            }
            None
        }
    }
}
