//! What a request must look like beyond host and path.

use crate::cookie;
use crate::expression::Regex;
use crate::network::Network;
use crate::path::{query_equal, query_values};
use crate::view::{Fields, RequestView};

/// The conditions of a route beyond host and path, and, for those who print them, these too.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// A bit for each listener that the route holds for.
    pub(crate) listeners: u64,
    pub(crate) methods: Box<[Box<[u8]>]>,
    pub(crate) headers: Box<[Test]>,
    pub(crate) query: Box<[Test]>,
    pub(crate) cookies: Box<[Test]>,
    pub(crate) sources: Box<[Network]>,
    /// The hosts as written.
    pub(crate) hosts: Box<[Box<str>]>,
    /// The path as written: its kind and text.
    pub(crate) path: Option<(&'static str, Box<str>)>,
}

/// A condition on a named value.
#[derive(Debug)]
pub(crate) struct Test {
    /// In lower case, if it names a header.
    pub(crate) name: Box<[u8]>,
    pub(crate) value: TestValue,
}

/// What the value must be.
#[derive(Debug)]
pub(crate) enum TestValue {
    Present,
    Absent,
    Is(Box<[u8]>),
    Regex(Regex),
}

/// The first condition that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    Listener,
    Method,
    Header(usize),
    Query(usize),
    Cookie(usize),
    Source,
}

impl Conditions {
    /// Whether all hold, the cheapest asked first.
    #[inline]
    pub(crate) fn check<F: Fields + ?Sized>(&self, view: &RequestView<'_, F>) -> Result<(), Missed> {
        let listener_bit = 1_u64.checked_shl(view.listener).unwrap_or(0);
        if self.listeners != u64::MAX && self.listeners & listener_bit == 0 {
            return Err(Missed::Listener);
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|method| **method == *view.method) {
            return Err(Missed::Method);
        }
        for (place, test) in self.headers.iter().enumerate() {
            let holds = test.holds(view.header_values(&test.name), |value, wanted| value == wanted);
            holds.then_some(()).ok_or(Missed::Header(place))?;
        }
        for (place, test) in self.query.iter().enumerate() {
            let holds = test.holds(query_values(view.query, &test.name), query_equal);
            holds.then_some(()).ok_or(Missed::Query(place))?;
        }
        for (place, test) in self.cookies.iter().enumerate() {
            let values = cookie::of_request(view.fields).filter(|(name, _)| *name == &*test.name);
            let holds = test.holds(values.map(|(_, value)| value), |value, wanted| value == wanted);
            holds.then_some(()).ok_or(Missed::Cookie(place))?;
        }
        if !self.sources.is_empty() && !self.sources.iter().any(|network| network.contains(view.source)) {
            return Err(Missed::Source);
        }
        Ok(())
    }
}

impl Test {
    fn holds<'a>(
        &self,
        mut values: impl Iterator<Item = &'a [u8]>,
        equal: impl Fn(&[u8], &[u8]) -> bool,
    ) -> bool {
        match &self.value {
            TestValue::Present => values.next().is_some(),
            TestValue::Absent => values.next().is_none(),
            TestValue::Is(wanted) => values.any(|value| equal(value, wanted)),
            TestValue::Regex(regex) => values.any(|value| regex.is_match(value)),
        }
    }
}
