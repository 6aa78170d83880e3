//! Find: from a request to its route.
//!
//! Order: `priority`, then host (exact, longest `*.` suffix, any), then path (exact, longest prefix by whole
//! segments, regex, any), then the conditions: method, more headers, more query parameters, more cookies, source
//! network, listener; then the order of the spec. The most specific route whose conditions all hold wins: the
//! order of the Gateway API (gateway-api.sigs.k8s.io, HTTPRouteRule), extended by what it does not have.
//!
//! Cost: for each priority in use, a lookup per host form, and one per segment of the path as long as some route
//! goes on that way. Only routes with the same host and path, and regexes on one host, are tried one by one;
//! both are bounded.

mod conditions;
mod index;

pub(crate) use conditions::{Conditions, Missed, Test, TestValue};
use index::Candidate;
pub(crate) use index::{Builder, Finder, HostKey, IndexKey, PathKey, segments};

use crate::path::NormalPath;
use crate::snapshot::{Route, RouteIndex};
use crate::view::{Fields, RequestView};

/// What is looked for.
pub(crate) struct Wanted<'a, F: Fields + ?Sized> {
    pub(crate) host: &'a [u8],
    pub(crate) path: NormalPath<'a>,
    pub(crate) view: &'a RequestView<'a, F>,
}

/// Looks over the shoulder of find.
pub(crate) trait Watch {
    /// A route matches; the first one told is the one found. True to hear of those that it beat, too.
    fn matched(&mut self, route: RouteIndex) -> bool;
    /// A route has the host and path, but one of its conditions does not hold.
    fn missed(&mut self, route: RouteIndex, missed: Missed);
}

/// The most specific route that matches.
pub(crate) fn find<F: Fields + ?Sized>(
    finder: &Finder,
    routes: &[Route],
    wanted: &Wanted<'_, F>,
    watch: &mut impl Watch,
) -> Option<RouteIndex> {
    let mut found = None;
    finder.walk(wanted.host, wanted.path.bytes, |Candidate { route, is_plain }| {
        if !is_plain && let Err(missed) = routes[route.0 as usize].conditions.check(wanted.view) {
            watch.missed(route, missed);
            return false;
        }
        found = found.or(Some(route));
        !watch.matched(route)
    });
    found
}
