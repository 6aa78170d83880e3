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
    /// Place of the listener in the snapshot ([`Snapshot::listener_index`](crate::Snapshot::listener_index)); 0 where the
    /// spec has none. One that is not there meets only routes that hold for all listeners.
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

impl<'a> RequestView<'a, ()> {
    /// A plain GET without fields, over the first listener and not encrypted: what tests of routes and clients that
    /// balance for themselves begin with. `target` is a path, with a query if it has a `?`.
    ///
    /// ```
    /// use lb_core::RequestView;
    ///
    /// let fields = [("cookie", "lb_session=abc")];
    /// let view = RequestView::get("shop.example.com", "/cart/7?page=2", [192, 0, 2, 1].into());
    /// let view = RequestView { method: b"PUT", ..view.with_fields(&fields) };
    /// assert_eq!((view.path, view.query), (&b"/cart/7"[..], Some(&b"page=2"[..])));
    /// ```
    pub fn get(host: &'a str, target: &'a str, source: IpAddr) -> RequestView<'a, ()> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.as_bytes())),
            None => (target, None),
        };
        RequestView {
            listener: 0,
            method: b"GET",
            host: host.as_bytes(),
            path: path.as_bytes(),
            query,
            fields: &(),
            source,
            secure: false,
        }
    }
}

impl<'a, F: Fields + ?Sized> RequestView<'a, F> {
    /// The same with other fields.
    pub fn with_fields<G: Fields + ?Sized>(self, fields: &'a G) -> RequestView<'a, G> {
        let RequestView { listener, method, host, path, query, fields: _, source, secure } = self;
        RequestView { listener, method, host, path, query, fields, source, secure }
    }

    /// The values of a header; `name` in lower case.
    pub(crate) fn header_values(&self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let fields: &'a F = self.fields;
        fields.fields().filter_map(move |(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    }
}
