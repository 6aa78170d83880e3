//! Findings for programs.

use serde::Serialize;

use super::{Diagnostic, Report};

#[derive(Serialize)]
struct Summary<'a> {
    valid: bool,
    errors: usize,
    warnings: usize,
    diagnostics: Vec<Finding<'a>>,
}

#[derive(Serialize)]
struct Finding<'a> {
    code: &'a str,
    severity: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
}

impl Report {
    /// The findings as one line of JSON:
    /// `{"valid":…,"errors":…,"warnings":…,"diagnostics":[{"code":…,"severity":…,"message":…,…}]}`.
    pub fn json(&self) -> String {
        let diagnostics = self.diagnostics().into_iter().map(|diagnostic| self.finding(diagnostic)).collect();
        let summary =
            Summary { valid: !self.failed(), errors: self.errors(), warnings: self.warnings(), diagnostics };
        serde_json::to_string(&summary).expect("plain data is always representable")
    }

    fn finding<'a>(&'a self, diagnostic: &'a Diagnostic) -> Finding<'a> {
        let file = diagnostic.span.map(|span| (self.sources.file(span.file), span));
        let start = file.map(|(file, span)| file.position(span.start));
        let end = file.map(|(file, span)| file.position(span.end));
        Finding {
            code: diagnostic.code,
            severity: diagnostic.severity.word(),
            message: &diagnostic.message,
            file: file.map(|(file, _)| file.name.as_str()),
            line: start.map(|start| start.line),
            column: start.map(|start| start.column),
            end_line: end.map(|end| end.line),
            end_column: end.map(|end| end.column),
            expected: diagnostic.expected.as_deref(),
            meant: diagnostic.meant.as_deref(),
            note: diagnostic.note.as_deref(),
        }
    }
}
