//! Reading tables: typed values out of the tree, every mistake reported and none fatal.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::codes;
use super::moment::Moment;
use super::source::Span;
use super::tree::{Node, Table, Value};
use super::value::{self, Refused};
use crate::report::{Diagnostic, Report};
use lb_core::nearest;

/// What may stand in a table.
#[derive(Debug)]
pub struct Shape {
    /// The table in a person's words: `a route`.
    pub what: &'static str,
    /// Keys that this version reads.
    pub keys: &'static [&'static str],
    /// Keys that are part of the language but not of this version.
    pub later: &'static [&'static str],
}

/// A table that is being read.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// Its entries.
    pub table: &'a Table,
    /// Where it stands.
    pub span: Span,
    /// What may stand in it.
    pub shape: &'static Shape,
}

/// A value read, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

/// Reads tables and keeps the report.
pub struct Reader<'a> {
    /// Where findings go.
    pub report: &'a mut Report,
    /// Places of values that could not be read: what follows from them is not reported again.
    pub broken: HashSet<Span>,
    /// Keys that an unknown key was probably meant to be, by the place of their table.
    mistyped: HashSet<(Span, &'static str)>,
}

impl<'a> Reader<'a> {
    /// A reader that reports into `report`.
    pub fn new(report: &'a mut Report) -> Reader<'a> {
        Reader { report, broken: HashSet::new(), mistyped: HashSet::new() }
    }

    /// Enters a table: refuses the keys that do not belong there.
    pub fn enter<'t>(&mut self, table: &'t Table, span: Span, shape: &'static Shape) -> Scope<'t> {
        for entry in &table.entries {
            let key = entry.key.as_str();
            if shape.keys.contains(&key) {
                continue;
            }
            self.broken.insert(entry.node.span);
            if shape.later.contains(&key) {
                self.later(entry.key_span, &format!("`{key}`"));
                continue;
            }
            let meant = nearest(key, shape.keys.iter().copied());
            let mut finding =
                Diagnostic::error(codes::UNKNOWN_KEY, format!("{} has no key `{key}`", shape.what))
                    .at(entry.key_span)
                    .meant(meant);
            match meant {
                Some(meant) => {
                    self.mistyped.insert((span, meant));
                    self.broken.insert(span);
                }
                None => finding = finding.expected(format!("one of {}", shape.keys.join(", "))),
            }
            self.report.add(finding);
        }
        Scope { table, span, shape }
    }

    /// Refuses something that the language has and this version has not.
    pub fn later(&mut self, span: Span, what: &str) {
        self.report.add(
            Diagnostic::error(codes::LATER, format!("{what} is not in this version"))
                .at(span)
                .note("the word is reserved: a later version reads it, this one would have to ignore it"),
        );
    }

    /// Whether a key has a value that could not be read.
    pub fn is_broken(&self, scope: Scope<'_>, key: &str) -> bool {
        scope.table.get(key).is_some_and(|node| self.broken.contains(&node.span))
    }

    /// Warns of a key that changes nothing beside the others, if the table itself has it.
    pub fn no_effect(&mut self, scope: Scope<'_>, key: &'static str, because: &str) {
        if let Some(entry) = scope.table.entry(key).filter(|entry| !entry.inherited)
            && !self.is_broken(scope, key)
        {
            let message = format!("`{key}` has no effect: {because}");
            self.report.add(Diagnostic::warning(codes::NO_EFFECT, message).at(entry.key_span));
        }
    }

    /// Reports that a required key is missing, unless a mistyped one stands for it.
    pub fn missing(&mut self, scope: Scope<'_>, key: &'static str, expected: &str) {
        self.broken.insert(scope.span);
        if !self.mistyped.contains(&(scope.span, key)) {
            let message = format!("{} needs `{key}`", scope.shape.what);
            self.report.add(Diagnostic::error(codes::MISSING, message).at(scope.span).expected(expected));
        }
    }

    /// Refuses a value for its type or form.
    pub fn refuse(&mut self, span: Span, message: impl Into<String>, refused: Refused) {
        self.broken.insert(span);
        self.report.add(
            Diagnostic::error(codes::BAD_VALUE, message)
                .at(span)
                .expected(refused.expected)
                .meant(refused.meant),
        );
    }

    /// Refuses a value because it is of another type.
    pub fn wrong_type(&mut self, node: &Node, key: &str, expected: &str) {
        let message = format!("`{key}` cannot be {}", node.value.kind());
        self.refuse(node.span, message, Refused { expected: expected.to_owned(), meant: None });
    }

    /// A string.
    pub fn string(&mut self, scope: Scope<'_>, key: &'static str) -> Option<Located<String>> {
        let node = scope.table.get(key)?;
        match &node.value {
            Value::String(text) => Some(Located { value: text.clone(), span: node.span }),
            _ => {
                self.wrong_type(node, key, "a string");
                None
            }
        }
    }

    /// A string that must be there and not be empty.
    pub fn required(
        &mut self,
        scope: Scope<'_>,
        key: &'static str,
        expected: &str,
    ) -> Option<Located<String>> {
        if scope.table.get(key).is_none() {
            self.missing(scope, key, expected);
            return None;
        }
        let text = self.string(scope, key)?;
        if text.value.is_empty() {
            self.refuse(
                text.span,
                format!("`{key}` is empty"),
                Refused { expected: expected.to_owned(), meant: None },
            );
            return None;
        }
        Some(text)
    }

    /// A string that `parse` understands.
    pub fn parsed<T>(
        &mut self,
        scope: Scope<'_>,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Refused>,
    ) -> Option<Located<T>> {
        let text = self.string(scope, key)?;
        match parse(&text.value) {
            Ok(value) => Some(Located { value, span: text.span }),
            Err(refused) => {
                let message = format!("`{key}` cannot be `{}`", shortened(&text.value));
                self.refuse(text.span, message, refused);
                None
            }
        }
    }

    /// A duration.
    pub fn duration(&mut self, scope: Scope<'_>, key: &'static str) -> Option<Located<Duration>> {
        self.numeric_text(scope, key, "s", value::duration)
    }

    /// A moment: a string, or what TOML has for it.
    pub fn moment(&mut self, scope: Scope<'_>, key: &'static str) -> Option<Located<Moment>> {
        let node = scope.table.get(key)?;
        let Value::Datetime(text) = &node.value else { return self.parsed(scope, key, Moment::parse) };
        match Moment::parse(text) {
            Ok(value) => Some(Located { value, span: node.span }),
            Err(refused) => {
                self.refuse(node.span, format!("`{key}` cannot be `{text}`"), refused);
                None
            }
        }
    }

    /// A number of bytes.
    pub fn size(&mut self, scope: Scope<'_>, key: &'static str) -> Option<Located<u64>> {
        self.numeric_text(scope, key, "B", value::size)
    }

    /// A share in hundredths of a percent.
    pub fn share(&mut self, scope: Scope<'_>, key: &'static str) -> Option<Located<u16>> {
        self.numeric_text(scope, key, "%", value::share)
    }

    /// A load in whole percent.
    pub fn load(&mut self, scope: Scope<'_>, key: &'static str) -> Option<Located<u32>> {
        self.numeric_text(scope, key, "%", value::load)
    }

    /// A string with a unit; for a bare number, the likely unit is proposed.
    fn numeric_text<T>(
        &mut self,
        scope: Scope<'_>,
        key: &'static str,
        unit: &str,
        parse: impl FnOnce(&str) -> Result<T, Refused>,
    ) -> Option<Located<T>> {
        if let Some(Node { value: Value::Integer(number), span }) = scope.table.get(key) {
            let mut refused =
                parse("").err().unwrap_or(Refused { expected: "a string".to_owned(), meant: None });
            refused.meant = (*number >= 0).then(|| format!("\"{number}{unit}\""));
            self.refuse(*span, format!("`{key}` needs a unit"), refused);
            return None;
        }
        self.parsed(scope, key, parse)
    }

    /// An integer within a range.
    pub fn integer(
        &mut self,
        scope: Scope<'_>,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<Located<i64>> {
        let node = scope.table.get(key)?;
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        match &node.value {
            Value::Integer(number) if range.contains(number) => {
                Some(Located { value: *number, span: node.span })
            }
            Value::Integer(number) => {
                self.refuse(
                    node.span,
                    format!("`{key}` cannot be {number}"),
                    Refused { expected, meant: None },
                );
                None
            }
            Value::String(text) if text.parse::<i64>().is_ok_and(|number| range.contains(&number)) => {
                let meant = Some(text.clone());
                self.refuse(node.span, format!("`{key}` cannot be a string"), Refused { expected, meant });
                None
            }
            _ => {
                self.wrong_type(node, key, &expected);
                None
            }
        }
    }

    /// A boolean.
    pub fn boolean(&mut self, scope: Scope<'_>, key: &'static str) -> Option<bool> {
        let node = scope.table.get(key)?;
        match &node.value {
            Value::Boolean(value) => Some(*value),
            _ => {
                self.wrong_type(node, key, "true or false");
                None
            }
        }
    }

    /// One of several words. Words of the language that this version lacks are told apart from unknown ones.
    pub fn choice<T: Copy>(
        &mut self,
        scope: Scope<'_>,
        key: &'static str,
        choices: &[(&'static str, T)],
        later: &[&str],
    ) -> Option<Located<T>> {
        let text = self.string(scope, key)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.value) {
            return Some(Located { value: *value, span: text.span });
        }
        if later.contains(&text.value.as_str()) {
            self.broken.insert(text.span);
            self.later(text.span, &format!("{key} = \"{}\"", text.value));
            return None;
        }
        let words = || choices.iter().map(|(word, _)| *word);
        let meant = nearest(&text.value, words()).map(str::to_owned);
        let expected = match choices {
            [(only, _)] => format!("\"{only}\""),
            _ => {
                format!("one of {}", words().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "))
            }
        };
        self.refuse(
            text.span,
            format!("`{key}` cannot be `{}`", shortened(&text.value)),
            Refused { expected, meant },
        );
        None
    }

    /// A string or an array of strings.
    pub fn strings(&mut self, scope: Scope<'_>, key: &'static str) -> Vec<Located<String>> {
        let Some(node) = scope.table.get(key) else { return Vec::new() };
        match &node.value {
            Value::String(text) => vec![Located { value: text.clone(), span: node.span }],
            Value::Array(items) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items {
                    match &item.value {
                        Value::String(text) => texts.push(Located { value: text.clone(), span: item.span }),
                        _ => self.wrong_type(item, key, "a string"),
                    }
                }
                texts
            }
            _ => {
                self.wrong_type(node, key, "a string or an array of strings");
                Vec::new()
            }
        }
    }

    /// A table of this shape.
    pub fn table<'t>(
        &mut self,
        scope: Scope<'t>,
        key: &'static str,
        shape: &'static Shape,
    ) -> Option<Scope<'t>> {
        let node = scope.table.get(key)?;
        match &node.value {
            Value::Table(table) => Some(self.enter(table, node.span, shape)),
            _ => {
                self.wrong_type(node, key, "a table");
                None
            }
        }
    }

    /// An array of tables, or one table, of this shape.
    pub fn tables<'t>(
        &mut self,
        scope: Scope<'t>,
        key: &'static str,
        shape: &'static Shape,
    ) -> Vec<Scope<'t>> {
        let Some(node) = scope.table.get(key) else { return Vec::new() };
        let items = match &node.value {
            Value::Table(_) => std::slice::from_ref(node),
            Value::Array(items) => items.as_slice(),
            _ => {
                self.wrong_type(node, key, "an array of tables");
                return Vec::new();
            }
        };
        let mut scopes = Vec::with_capacity(items.len());
        for item in items {
            match &item.value {
                Value::Table(table) => scopes.push(self.enter(table, item.span, shape)),
                _ => {
                    self.broken.insert(node.span);
                    self.wrong_type(item, key, "a table");
                }
            }
        }
        scopes
    }

    /// A table of free keys with strings for values: header names and the like.
    pub fn pairs(&mut self, scope: Scope<'_>, key: &'static str) -> Vec<(Located<String>, Located<String>)> {
        let Some(node) = scope.table.get(key) else { return Vec::new() };
        let Value::Table(table) = &node.value else {
            self.wrong_type(node, key, "a table of strings, such as { name = \"value\" }");
            return Vec::new();
        };
        let mut pairs = Vec::with_capacity(table.entries.len());
        for entry in &table.entries {
            match &entry.node.value {
                Value::String(text) => pairs.push((
                    Located { value: entry.key.clone(), span: entry.key_span },
                    Located { value: text.clone(), span: entry.node.span },
                )),
                _ => self.wrong_type(&entry.node, &entry.key, "a string"),
            }
        }
        pairs
    }
}

/// The text, cut to what fits into a message.
pub fn shortened(text: &str) -> String {
    const MAX: usize = 60;
    if text.chars().count() <= MAX {
        return text.to_owned();
    }
    text.chars().take(MAX).chain(['…']).collect()
}
