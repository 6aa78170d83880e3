//! The configuration as written: a TOML document in which every key and value knows its place.
//!
//! Ours rather than the parser's own tree, because tables of several files are merged into one, keys stay
//! in the order they were written in, and nothing borrows from the texts.

use toml::de::{DeTable, DeValue};

use super::source::Span;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value's place; a table's is its header.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Value {
    /// A string.
    String(String),
    /// An integer; what does not fit is refused before.
    Integer(i64),
    /// A float.
    Float,
    /// A boolean.
    Boolean(bool),
    /// A date or time, as it would be written in a string.
    Datetime(String),
    /// An array, or an array of tables.
    Array(Vec<Node>),
    /// A table.
    Table(Table),
}

impl Value {
    /// The type in a person's words, with its article.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::String(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float => "a float",
            Value::Boolean(_) => "a boolean",
            Value::Datetime(_) => "a date",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
        }
    }
}

/// Keys in the order they were written in.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The entries; keys are unique.
    pub entries: Vec<Entry>,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// Its value.
    pub node: Node,
    /// Came from `[defaults]`, not from the table itself.
    pub inherited: bool,
}

impl Table {
    /// The entry under `key`.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }
}

/// Something in a text that cannot be taken, with where.
#[derive(Debug, Clone)]
pub struct Malformed {
    /// Where.
    pub span: Span,
    /// What is wrong, in one clause.
    pub message: String,
}

/// Parses a text as TOML. Returns what could be understood together with everything that could not.
pub fn parse(file: u32, text: &str) -> (Table, Vec<Malformed>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut malformed: Vec<Malformed> = errors
        .iter()
        .map(|error| {
            let range = error.span().unwrap_or(0..0);
            Malformed {
                span: Span { file, start: range.start, end: range.end },
                message: error.message().to_owned(),
            }
        })
        .collect();
    let table = convert_table(file, document.into_inner(), &mut malformed);
    (table, malformed)
}

fn convert_table(file: u32, table: DeTable<'_>, malformed: &mut Vec<Malformed>) -> Table {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| {
            let range = key.span();
            Entry {
                key_span: Span { file, start: range.start, end: range.end },
                key: key.into_inner().into_owned(),
                node: convert(file, value, malformed),
                inherited: false,
            }
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_span);
    Table { entries }
}

fn convert(file: u32, value: toml::Spanned<DeValue<'_>>, malformed: &mut Vec<Malformed>) -> Node {
    let range = value.span();
    let span = Span { file, start: range.start, end: range.end };
    let value = match value.into_inner() {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => {
                malformed
                    .push(Malformed { span, message: "this integer needs more than 64 bits".to_owned() });
                Value::Integer(0)
            }
        },
        DeValue::Float(_) => Value::Float,
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Datetime(moment) => Value::Datetime(moment.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.into_iter().map(|item| convert(file, item, malformed)).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(file, table, malformed)),
    };
    Node { span, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_places_and_reports_every_syntax_error() {
        let text = "b = 1\na = \"x\"\n[[t]]\nk = [true, 1.5]\n";
        let (table, malformed) = parse(0, text);
        assert!(malformed.is_empty());
        assert_eq!(table.entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["b", "a", "t"]);
        let a = table.get("a").expect("a");
        assert_eq!(&text[a.span.start..a.span.end], "\"x\"");

        let (_, malformed) = parse(0, "a = \nb = 1\nc = = 2\nd = 99999999999999999999\n");
        assert!(malformed.len() >= 3, "{malformed:?}");
    }
}
