//! What is wrong with a configuration, all of it at once, for a person ([`Report::text`]) or a program
//! ([`Report::json`]).

mod json;
mod text;

pub use text::Handler;

use crate::config::source::{Sources, Span};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably does not do what was meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code: `LB0nn` errors, `LB1nn` warnings.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one clause, without a full stop.
    pub message: String,
    /// Where, when it has a place.
    pub span: Option<Span>,
    /// What would have been right there.
    pub expected: Option<String>,
    /// What was probably meant.
    pub meant: Option<String>,
    /// Anything a person should also know.
    pub note: Option<String>,
}

impl Diagnostic {
    /// An error without place or advice yet.
    pub fn error(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code,
            severity: Severity::Error,
            message: message.into(),
            span: None,
            expected: None,
            meant: None,
            note: None,
        }
    }

    /// A warning without place or advice yet.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// Says where.
    pub fn at(mut self, span: impl Into<Option<Span>>) -> Diagnostic {
        self.span = span.into();
        self
    }

    /// Says what would have been right.
    pub fn expected(mut self, expected: impl Into<String>) -> Diagnostic {
        self.expected = Some(expected.into());
        self
    }

    /// Says what was probably meant, if that is known.
    pub fn meant(mut self, meant: Option<impl Into<String>>) -> Diagnostic {
        self.meant = meant.map(Into::into);
        self
    }

    /// Adds what a person should also know.
    pub fn note(mut self, note: impl Into<String>) -> Diagnostic {
        self.note = Some(note.into());
        self
    }

    /// The words under the caret: the likely meaning, else what was expected.
    pub fn label(&self) -> Option<String> {
        match (&self.meant, &self.expected) {
            (Some(meant), _) => Some(format!("did you mean `{meant}`?")),
            (None, Some(expected)) => Some(format!("expected {expected}")),
            (None, None) => None,
        }
    }

    /// The words below the source line: what the label had no room for.
    pub fn help(&self) -> Option<String> {
        let expected = self.meant.as_ref().and(self.expected.as_ref()).map(|text| format!("expected {text}"));
        match (expected, &self.note) {
            (Some(expected), Some(note)) => Some(format!("{expected}\n{note}")),
            (Some(text), None) => Some(text),
            (None, note) => note.clone(),
        }
    }
}

/// Everything found in one configuration, and the texts it was found in.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The texts.
    pub sources: Sources,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// A report on nothing yet.
    pub fn new() -> Report {
        Report::default()
    }

    /// Adds a finding; the same finding at the same place is kept once.
    pub fn add(&mut self, diagnostic: Diagnostic) {
        if !self.diagnostics.contains(&diagnostic) {
            self.diagnostics.push(diagnostic);
        }
    }

    /// The findings in the order of the texts; those without a place come last.
    pub fn diagnostics(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<&Diagnostic> = self.diagnostics.iter().collect();
        sorted.sort_by_key(|diagnostic| (diagnostic.span.is_none(), diagnostic.span));
        sorted
    }

    /// How many errors.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// How many warnings.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    /// True when something makes the configuration unusable.
    pub fn failed(&self) -> bool {
        self.errors() > 0
    }

    /// Whether something with this code was found.
    pub fn has(&self, code: &str) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.code == code)
    }

    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// `1 error, 1 warning`; empty when there is nothing to count.
    pub fn counts(&self) -> String {
        let words = |count: usize, word: &str| match count {
            0 => None,
            1 => Some(format!("1 {word}")),
            _ => Some(format!("{count} {word}s")),
        };
        let parts = [words(self.errors(), "error"), words(self.warnings(), "warning")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::SourceFile;

    fn report() -> Report {
        let mut report = Report::new();
        let text = "[[route]]\n\tbackend = \"cart-k8\"\n# é\nweight = \"日本\" # x\n";
        report.sources.add(SourceFile::new("lb.toml", "lb.toml", text));
        let at = |needle: &str| {
            let start = text.find(needle).expect("in the text");
            Span { file: 0, start, end: start + needle.len() }
        };
        report.add(
            Diagnostic::error("LB012", "no backend is named `cart-k8`")
                .at(at("\"cart-k8\""))
                .expected("the name of a backend")
                .meant(Some("cart-k8s")),
        );
        report.add(Diagnostic::warning("LB103", "odd").at(at("\"日本\"")).expected("a number"));
        report
    }

    #[test]
    fn text_has_place_line_caret_and_advice() {
        let text = report().text("Nothing was changed.");
        assert_eq!(
            text,
            "error[LB012]: no backend is named `cart-k8`\n\
             \x20 lb.toml:2:12\n\
             2 |  backend = \"cart-k8\"\n\
             \x20 |            ^^^^^^^^^ did you mean `cart-k8s`?\n\
             \x20 = expected the name of a backend\n\
             warning[LB103]: odd\n\
             \x20 lb.toml:4:10\n\
             4 | weight = \"日本\" # x\n\
             \x20 |          ^^^^^^ expected a number\n\
             1 error, 1 warning. Nothing was changed.\n"
        );
    }

    #[test]
    fn json_is_one_object_with_the_same_facts() {
        let json: serde_json::Value = serde_json::from_str(&report().json()).expect("JSON");
        assert_eq!(json["errors"], 1);
        assert_eq!(json["warnings"], 1);
        let first = &json["diagnostics"][0];
        assert_eq!(first["code"], "LB012");
        assert_eq!(first["file"], "lb.toml");
        assert_eq!(first["line"], 2);
        assert_eq!(first["column"], 12);
        assert_eq!(first["meant"], "cart-k8s");
    }

    #[test]
    fn the_same_finding_counts_once_and_secrets_are_not_shown() {
        let mut report = Report::new();
        report.sources.add(SourceFile::new("keys", "keys", "1:abcdef\n").keep_secret());
        let diagnostic = Diagnostic::error("LB040", "bad key").at(Span { file: 0, start: 2, end: 8 });
        report.add(diagnostic.clone());
        report.add(diagnostic);
        let text = report.text("");
        assert_eq!(text, "error[LB040]: bad key\n  keys:1:3\n1 error.\n");
        assert!(!report.json().contains("abcdef"));
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let mut report = Report::new();
        let text = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        report.sources.add(SourceFile::new("f", "f", text));
        report.add(Diagnostic::error("LB001", "m").at(Span { file: 0, start: 5000, end: 5001 }));
        let text = report.text("");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "  f:1:5001");
        assert!(lines[2].chars().count() < 200, "{}", lines[2]);
        let caret = lines[3].chars().position(|c| c == '^').expect("caret");
        assert_eq!(lines[2].chars().nth(caret), Some('X'));
    }
}
