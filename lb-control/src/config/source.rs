//! The texts that a configuration was read from, and places in them.

use std::fmt;
use std::path::{Path, PathBuf};

/// A stretch of one source text, in bytes. `start == end` names a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Index of the text in its [`Sources`].
    pub file: u32,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// A place as a person counts it: both numbers from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column in characters, not bytes.
    pub column: usize,
}

/// One text: a config file, an included one, or a file of keys.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// How it is called in messages: as the person wrote it.
    pub name: String,
    /// Where it was read from; relative paths inside it count from this file's directory.
    pub path: PathBuf,
    /// Its contents.
    pub text: String,
    /// Holds keys: its text never appears in a message.
    pub secret: bool,
    line_starts: Vec<usize>,
}

impl SourceFile {
    /// Wraps a text.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>, text: impl Into<String>) -> SourceFile {
        let text = text.into();
        let mut line_starts = vec![0];
        line_starts.extend(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1));
        SourceFile { name: name.into(), path: path.into(), text, secret: false, line_starts }
    }

    /// Marks the text as one that must not be shown.
    pub fn keep_secret(mut self) -> SourceFile {
        self.secret = true;
        self
    }

    /// Line and column of a byte offset; an offset past the end is the end.
    pub fn position(&self, offset: usize) -> Position {
        let offset = self.floor(offset);
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        Position { line, column: self.text[start..offset].chars().count() + 1 }
    }

    /// The byte range of a line (counted from 1) without its line ending.
    pub fn line(&self, line: usize) -> std::ops::Range<usize> {
        let start = self.line_starts[line - 1];
        let end = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        let text = self.text[start..end].trim_end_matches(['\n', '\r']);
        start..start + text.len()
    }

    /// The greatest character boundary that is not after `offset`.
    pub fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// All texts of one configuration. The first is the one that was named on the command line.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
}

impl Sources {
    /// Adds a text and returns its index.
    pub fn add(&mut self, file: SourceFile) -> u32 {
        self.files.push(file);
        u32::try_from(self.files.len() - 1).expect("fewer than MAX_FILES texts")
    }

    /// The text that `index` names.
    pub fn file(&self, index: u32) -> &SourceFile {
        &self.files[index as usize]
    }

    /// Every text, in the order of reading.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Where a span begins.
    pub fn locate(&self, span: Span) -> Location<'_> {
        let file = self.file(span.file);
        Location { file: &file.name, position: file.position(span.start) }
    }

    /// The directory that relative paths written in the text of `span` count from.
    pub fn directory(&self, span: Span) -> &Path {
        self.file(span.file).path.parent().unwrap_or(Path::new(""))
    }
}

/// File, line and column; prints as `lb.toml:14:27`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location<'a> {
    /// The file's name as the person wrote it.
    pub file: &'a str,
    /// Where in it.
    pub position: Position,
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.position.line, self.position.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_and_survive_any_offset() {
        let file = SourceFile::new("a", "a", "é = 1\r\nxy\n");
        assert_eq!(file.position(0), Position { line: 1, column: 1 });
        assert_eq!(file.position(1), Position { line: 1, column: 1 }, "inside the é");
        assert_eq!(file.position(3), Position { line: 1, column: 3 });
        assert_eq!(file.position(8), Position { line: 2, column: 1 });
        assert_eq!(file.position(11), Position { line: 3, column: 1 });
        assert_eq!(file.position(usize::MAX), Position { line: 3, column: 1 });
        assert_eq!(&file.text[file.line(1)], "é = 1");
        assert_eq!(&file.text[file.line(2)], "xy");
        assert_eq!(&file.text[file.line(3)], "");
        let empty = SourceFile::new("a", "a", "");
        assert_eq!(empty.position(5), Position { line: 1, column: 1 });
        assert_eq!(empty.line(1), 0..0);
    }
}
