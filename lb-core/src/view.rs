//! A request as the core sees it.

use std::net::IpAddr;

/// Header fields of a request.
pub trait Fields {
    /// Names and values in the order received; names in any case, values without surrounding white space.
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])>;
}

/// No fields at all.
impl Fields for () {
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::empty()
    }
}

/// Plain pairs, as in tests and in `lb explain`.
impl<N: AsRef<[u8]>, V: AsRef<[u8]>> Fields for [(N, V)] {
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

/// Plain pairs, as in tests and in `lb explain`.
impl<N: AsRef<[u8]>, V: AsRef<[u8]>> Fields for Vec<(N, V)> {
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.as_slice().fields()
    }
}

/// Plain pairs, as in tests and in `lb explain`.
impl<N: AsRef<[u8]>, V: AsRef<[u8]>, const COUNT: usize> Fields for [(N, V); COUNT] {
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.as_slice().fields()
    }
}

/// A request as the core sees it: bytes as received, which the engine has found to be well-formed HTTP.
#[derive(Debug)]
pub struct RequestView<'a, F: Fields + ?Sized> {
    /// Place of the listener in the snapshot.
    pub listener: u32,
    /// The method.
    pub method: &'a [u8],
    /// The authority as received, with its port.
    pub host: &'a [u8],
    /// The path as received.
    pub path: &'a [u8],
    /// What follows the first `?`, if there is one.
    pub query: Option<&'a [u8]>,
    /// The header fields.
    pub fields: &'a F,
    /// The client's address, as [`source::effective`](crate::source::effective) says.
    pub source: IpAddr,
    /// Whether the client's scheme is https.
    pub secure: bool,
}

impl<F: Fields + ?Sized> Clone for RequestView<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Fields + ?Sized> Copy for RequestView<'_, F> {}

impl<'a, F: Fields + ?Sized> RequestView<'a, F> {
    /// The values of a header; `name` in lower case.
    pub(crate) fn header_values(&self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let fields: &'a F = self.fields;
        fields.fields().filter_map(move |(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    }
}
