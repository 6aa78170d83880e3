//! Families of numbers: a name, and for every set of labels a value.

use std::borrow::Cow;
use std::sync::Arc;

use lb_core::histogram::{Histogram, LONGEST};

/// What a family's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They only grow.
    Counter,
    /// They go up and down.
    Gauge,
    /// Times by bucket.
    Histogram,
}

/// A label's name and value.
pub type Label = (&'static str, Cow<'static, str>);

/// A sample's labels: those of its subject, shared by all samples about it, and perhaps one of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Labels {
    subject: Arc<[Label]>,
    own: Option<Label>,
}

impl Labels {
    /// The labels of a subject.
    pub fn of(subject: Vec<Label>) -> Labels {
        Labels { subject: subject.into(), own: None }
    }

    /// The same with one more.
    pub fn with(&self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Labels {
        Labels { subject: Arc::clone(&self.subject), own: Some((name, value.into())) }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.subject.iter().chain(&self.own)
    }
}

/// A sample's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a counter.
    Count(u64),
    /// Of a gauge.
    Level(u64),
    /// Of a gauge that is a part of something.
    Part(f64),
    /// Of a histogram: the times, and the edges by which they are shown.
    Times(Histogram, Edges),
}

/// Upper edges by which times are shown: powers of two of microseconds, which are edges of the histogram's buckets,
/// so that the counts are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edges {
    /// Every octave from 256 µs to 67 s.
    Fine,
    /// Every other one.
    Coarse,
}

impl Edges {
    /// The edges, in microseconds.
    pub fn us(self) -> impl Iterator<Item = u64> {
        const { assert!(1 << 26 <= LONGEST.as_micros()) };
        (8..=26).step_by(if self == Edges::Fine { 1 } else { 2 }).map(|power| 1 << power)
    }

    /// Series that one histogram is shown as: its buckets, the sum and the count.
    pub fn series(self) -> u64 {
        self.us().count() as u64 + 3
    }
}

/// A sample of a family.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What it is about.
    pub labels: Labels,
    /// How much.
    pub value: Value,
}

/// A family: a name, its help and, for every set of labels, a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Without the suffix `_total` that a counter's samples have.
    pub name: &'static str,
    /// What is counted.
    pub help: &'static str,
    /// What its numbers are.
    pub kind: Kind,
    /// Its numbers.
    pub samples: Vec<Sample>,
}

impl Family {
    /// How many series it is.
    pub fn series(&self) -> u64 {
        let of = |sample: &Sample| match sample.value {
            Value::Times(_, edges) => edges.series(),
            _ => 1,
        };
        self.samples.iter().map(of).sum()
    }
}
