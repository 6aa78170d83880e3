//! Findings for people.
//!
//! A finding is a [`miette::Diagnostic`], so any of miette's handlers could show it; [`Handler`] is the one
//! that draws it the way our documentation does: code and message, place, source line, caret, advice.

use std::fmt::{self, Display, Write as _};

use miette::{LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};
use unicode_width::UnicodeWidthChar;

use super::{Diagnostic, Report, Severity};
use crate::config::source::SourceFile;

/// Findings shown before the rest is only counted.
const MAX_SHOWN: usize = 200;

/// Columns of a source line shown; of a longer one, the part around the caret.
const MAX_COLUMNS: usize = 160;

impl Report {
    /// All findings and a last line that counts them and ends with `outcome`, such as "Nothing was changed.".
    /// Empty when there is nothing to say.
    pub fn text(&self, outcome: &str) -> String {
        let mut text = String::new();
        let diagnostics = self.diagnostics();
        for diagnostic in diagnostics.iter().take(MAX_SHOWN) {
            let finding =
                Finding { diagnostic, file: diagnostic.span.map(|span| self.sources.file(span.file)) };
            write!(text, "{}", Drawn(&finding)).expect("writing to a string");
        }
        if diagnostics.len() > MAX_SHOWN {
            writeln!(text, "and {} more", diagnostics.len() - MAX_SHOWN).expect("writing to a string");
        }
        if !diagnostics.is_empty() {
            let space = if outcome.is_empty() { "" } else { " " };
            writeln!(text, "{}.{space}{outcome}", self.counts()).expect("writing to a string");
        }
        text
    }
}

/// A finding together with the text it is in.
struct Finding<'a> {
    diagnostic: &'a Diagnostic,
    file: Option<&'a SourceFile>,
}

impl fmt::Debug for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic.fmt(f)
    }
}

impl Display for Finding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl std::error::Error for Finding<'_> {}

impl miette::Diagnostic for Finding<'_> {
    fn code<'b>(&'b self) -> Option<Box<dyn Display + 'b>> {
        Some(Box::new(self.diagnostic.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'b>(&'b self) -> Option<Box<dyn Display + 'b>> {
        self.diagnostic.help().map(|help| Box::new(help) as Box<dyn Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.file.map(|file| file as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.diagnostic.span?;
        let range = SourceSpan::from(span.start..span.end.max(span.start));
        let label = LabeledSpan::new_primary_with_span(self.diagnostic.label(), range);
        Some(Box::new(std::iter::once(label)))
    }
}

impl SourceCode for SourceFile {
    /// The line that the span begins on; context lines are not offered. A secret text offers an empty one.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        _lines_before: usize,
        _lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let position = self.position(span.offset());
        let range = if self.secret { 0..0 } else { self.line(position.line) };
        let shown = SourceSpan::from(range.clone());
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            &self.text.as_bytes()[range],
            shown,
            position.line - 1,
            position.column - 1,
            1,
        )))
    }
}

/// Draws findings in our own look. Usable wherever miette takes a handler.
#[derive(Debug, Clone, Copy, Default)]
pub struct Handler;

impl miette::ReportHandler for Handler {
    fn debug(&self, finding: &dyn miette::Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        draw(finding, f)
    }
}

struct Drawn<'a, 'b>(&'a Finding<'b>);

impl Display for Drawn<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        draw(self.0, f)
    }
}

fn draw(finding: &dyn miette::Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let severity = match finding.severity() {
        Some(miette::Severity::Warning) => "warning",
        Some(miette::Severity::Advice) => "advice",
        _ => "error",
    };
    f.write_str(severity)?;
    if let Some(code) = finding.code() {
        write!(f, "[{code}]")?;
    }
    writeln!(f, ": {}", Plain(&finding.to_string()))?;
    let mut indent = String::from(" ");
    if let (Some(source), Some(label)) =
        (finding.source_code(), finding.labels().and_then(|mut all| all.next()))
    {
        indent = draw_place(source, &label, f)?;
    }
    if let Some(help) = finding.help() {
        for line in help.to_string().lines() {
            writeln!(f, "{indent} = {}", Plain(line))?;
        }
    }
    Ok(())
}

/// Draws place, source line and caret; returns the indentation that further lines keep.
fn draw_place(
    source: &dyn SourceCode,
    label: &LabeledSpan,
    f: &mut fmt::Formatter<'_>,
) -> Result<String, fmt::Error> {
    let contents = source.read_span(label.inner(), 0, 0).map_err(|_| fmt::Error)?;
    let number = (contents.line() + 1).to_string();
    let indent = " ".repeat(number.len());
    writeln!(f, "{indent} {}:{number}:{}", Plain(contents.name().unwrap_or("-")), contents.column() + 1)?;
    let line = String::from_utf8_lossy(contents.data());
    if line.is_empty() {
        return Ok(indent);
    }
    let before = label.offset().saturating_sub(contents.span().offset()).min(line.len());
    let end = (before + label.len()).clamp(before, line.len());
    let (Some(head), Some(marked), Some(tail)) = (line.get(..before), line.get(before..end), line.get(end..))
    else {
        return Ok(indent);
    };
    let (head, marked, tail) = (plain(head), plain(marked), plain(tail));
    let head = keep_end(&head, MAX_COLUMNS / 2);
    let marked = keep_start(&marked, MAX_COLUMNS / 2);
    let tail = keep_start(&tail, MAX_COLUMNS.saturating_sub(width(&head) + width(&marked)));
    writeln!(f, "{number} | {head}{marked}{tail}")?;
    write!(f, "{indent} | {}{}", " ".repeat(width(&head)), "^".repeat(width(&marked).max(1)))?;
    match label.label() {
        Some(text) => writeln!(f, " {}", Plain(text))?,
        None => writeln!(f)?,
    }
    Ok(indent)
}

fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The text without anything a terminal would obey; a tab becomes one space.
fn plain(text: &str) -> String {
    Plain(text).to_string()
}

struct Plain<'a>(&'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\t' => f.write_char(' '),
            c if c.is_control() => f.write_char('\u{fffd}'),
            c => f.write_char(c),
        })
    }
}

fn keep_start(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

fn keep_end(text: &str, columns: usize) -> String {
    let count = text.chars().count();
    if count <= columns {
        return text.to_owned();
    }
    ['…'].into_iter().chain(text.chars().skip(count - columns + 1)).collect()
}
