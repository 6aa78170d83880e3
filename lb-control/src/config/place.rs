//! From the core's places to the file's: `route[3].canary.backend` to a span.

use lb_core::{Place, Problem, Step};

use super::source::Span;
use super::tree::{Node, Table, Value};
use crate::report::{Diagnostic, Severity};

/// What the core found, as a finding with a place in the files.
pub(super) fn diagnostic(problem: &Problem, root: &Table) -> Diagnostic {
    let mut diagnostic =
        Diagnostic::error(problem.code, problem.message.clone()).at(span(&problem.place, root));
    if problem.severity == lb_core::Severity::Warning {
        diagnostic.severity = Severity::Warning;
    }
    let expected = problem.expected.trim();
    let expected = expected.strip_prefix("expected ").unwrap_or(expected);
    diagnostic.meant = problem.meant.clone();
    let says_more = !expected.is_empty()
        && diagnostic.meant.as_ref().is_none_or(|meant| expected.trim_matches('`') != meant);
    diagnostic.expected = says_more.then(|| expected.to_owned());
    diagnostic
}

/// Whether the table that a problem is about has one of these keys.
pub(super) fn has_any(problem: &Problem, root: &Table, keys: &[&str]) -> bool {
    let steps = &problem.place.steps;
    let table = |count: usize| -> Option<&Table> {
        let first = match steps.first()? {
            Step::Field(name) => root.get(name)?,
            Step::Index(_) => return None,
        };
        match &steps[1..count].iter().try_fold(first, inner)?.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    };
    let innermost = (1..=steps.len()).rev().find_map(table);
    innermost.is_some_and(|table| keys.iter().any(|key| table.get(key).is_some()))
}

/// Whether what a problem is about is not written there but comes from `[defaults]`.
pub(super) fn is_inherited(problem: &Problem, root: &Table) -> bool {
    let mut steps = problem.place.steps.iter();
    let Some(Step::Field(first)) = steps.next() else { return false };
    let mut node = root.get(first);
    for step in steps {
        let Some(around) = node else { return false };
        if let (Value::Table(table), Step::Field(name)) = (&around.value, step)
            && table.entry(name).is_some_and(|entry| entry.inherited)
        {
            return true;
        }
        node = inner(around, step).or(matches!(step, Step::Index(0)).then_some(around));
    }
    false
}

/// The span that a place names: of its value if it is written, else of the nearest table around it.
fn span(place: &Place, root: &Table) -> Option<Span> {
    let mut steps = place.steps.iter().peekable();
    let Some(Step::Field(first)) = steps.next() else { return None };
    let mut node = root.get(first)?;
    for step in steps {
        match inner(node, step) {
            Some(next) => node = next,
            // A list of one may be written without its brackets.
            None if matches!(step, Step::Index(0)) => {}
            // What is not a key of the file is a step of the core's own, such as `actions`.
            None if matches!(step, Step::Field("actions" | "sticky" | "canary")) => {}
            None => break,
        }
    }
    Some(node.span)
}

fn inner<'a>(node: &'a Node, step: &Step) -> Option<&'a Node> {
    match (&node.value, step) {
        (Value::Table(table), Step::Field(name)) => table.get(name).or_else(|| alias(table, name)),
        (Value::Array(items), Step::Index(index)) => items.get(*index),
        (Value::Table(table), Step::Index(index)) => table.entries.get(*index).map(|entry| &entry.node),
        _ => None,
    }
}

/// Where the file's word differs from the field that the core names.
fn alias<'a>(table: &'a Table, name: &str) -> Option<&'a Node> {
    let keys: &[&str] = match name {
        "path" => &["path_prefix", "path_regex"],
        "request" => &["request_headers"],
        "response" => &["response_headers"],
        "listeners" => &["listener"],
        "hosts" => &["host"],
        "methods" => &["method"],
        "headers" => &["header"],
        "cookies" => &["cookie"],
        "sources" => &["source"],
        "servers" => &["server"],
        "budget_percent" => &["budget"],
        "max_load_percent" => &["max_load"],
        _ => return None,
    };
    keys.iter().find_map(|key| table.get(key))
}

#[cfg(test)]
mod tests {
    use super::super::tree::parse;
    use super::*;

    #[test]
    fn finds_the_value_or_what_is_around_it() {
        let text = "[[route]]\nname = \"a\"\n[[route]]\npath_prefix = \"/x\"\ncanary = { backend = \"b\" }\n\
                    host = \"h\"\nrequest_headers = { set = { x = \"y\" } }\n";
        let (root, _) = parse(0, text);
        let route = Place::root().field("route").index(1);
        let words = |place: &Place| span(place, &root).map(|span| &text[span.start..span.end]);
        assert_eq!(words(&route.field("canary").field("backend")), Some("\"b\""));
        assert_eq!(words(&route.field("path")), Some("\"/x\""));
        assert_eq!(words(&route.field("host").index(0)), Some("\"h\""));
        assert_eq!(words(&route.field("actions").field("request").field("set").index(0)), Some("\"y\""));
        assert_eq!(words(&route.field("backend")), Some("[[route]]"));
        assert_eq!(words(&Place::root()), None);
        assert_eq!(words(&Place::root().field("nothing")), None);
    }
}
