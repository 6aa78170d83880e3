//! The index of routes by host and path.

use crate::expression::Regex;
use crate::host;
use crate::map::{Key, Map};
use crate::path::trim_slashes;
use crate::snapshot::RouteIndex;
use std::collections::BTreeMap;

/// All routes with the same host and path, most specific first. Mostly there is one, which is at hand.
#[derive(Clone, Debug, Default)]
struct Candidates {
    first: Option<Candidate>,
    others: Box<[Candidate]>,
}

/// A route that may be the one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) route: RouteIndex,
    /// Whether it asks for nothing but host and path: then there is nothing to check.
    pub(crate) is_plain: bool,
}

/// The index of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    /// One for each priority in use, the highest first.
    layers: Box<[Layer]>,
}

#[derive(Debug, Default)]
struct Layer {
    exact: Map<Key, Paths>,
    /// By what follows the `*.`.
    suffixes: Map<Key, Paths>,
    /// How many labels the suffixes have, the most first.
    suffix_labels: Vec<u8>,
    any: Paths,
}

/// The routes of one host.
#[derive(Debug, Default)]
struct Paths {
    exact: Map<Key, Candidates>,
    /// Bytes of the longest exact path and of the longest segment: what is longer need not be hashed, so a
    /// client's long paths cost no more than a copy of what routes have.
    exact_len_max: usize,
    segment_len_max: usize,
    /// Segments; the first node is the root. Empty where no route has a prefix.
    nodes: Vec<Node>,
    regexes: Vec<(Regex, Candidates)>,
    any: Candidates,
}

/// One line of the cache.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Node {
    children: Map<Key, u32>,
    candidates: Candidates,
    /// The nearest node above with candidates.
    above: Option<u32>,
}

impl Finder {
    /// Calls `visit` with candidates, more specific ones first, until it returns true.
    #[inline]
    pub(crate) fn walk(&self, host: &[u8], path: &[u8], mut visit: impl FnMut(Candidate) -> bool) {
        for layer in &self.layers {
            if layer.walk(host, path, &mut visit) {
                return;
            }
        }
    }
}

impl Candidates {
    fn new(routes: Vec<RouteIndex>, is_plain: impl Fn(RouteIndex) -> bool) -> Candidates {
        let candidate = |route| Candidate { route, is_plain: is_plain(route) };
        let mut all = routes.into_iter().map(candidate);
        Candidates { first: all.next(), others: all.collect() }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn walk(&self, visit: &mut impl FnMut(Candidate) -> bool) -> bool {
        self.first.is_some_and(&mut *visit) || self.others.iter().copied().any(visit)
    }
}

impl Layer {
    fn walk(&self, host: &[u8], path: &[u8], visit: &mut impl FnMut(Candidate) -> bool) -> bool {
        if let Some(paths) = self.exact.get(host)
            && paths.walk(path, visit)
        {
            return true;
        }
        for &labels in &self.suffix_labels {
            if let Some(paths) = host::suffix(host, labels).and_then(|suffix| self.suffixes.get(suffix))
                && paths.walk(path, visit)
            {
                return true;
            }
        }
        self.any.walk(path, visit)
    }
}

impl Paths {
    fn walk(&self, path: &[u8], visit: &mut impl FnMut(Candidate) -> bool) -> bool {
        if path.len() <= self.exact_len_max
            && let Some(candidates) = self.exact.get(path)
            && candidates.walk(visit)
        {
            return true;
        }
        let mut at = self.deepest(path);
        while let Some(node) = at {
            let node = &self.nodes[node as usize];
            if node.candidates.walk(visit) {
                return true;
            }
            at = node.above;
        }
        for (regex, candidates) in &self.regexes {
            if regex.is_match(path) && candidates.walk(visit) {
                return true;
            }
        }
        self.any.walk(visit)
    }

    /// The deepest node with candidates on the path's way.
    fn deepest(&self, path: &[u8]) -> Option<u32> {
        let mut node = self.nodes.first()?;
        let mut at = 0;
        let segments = path.strip_prefix(b"/").unwrap_or(path);
        for segment in segments.split(|byte| *byte == b'/') {
            if segment.len() > self.segment_len_max {
                break;
            }
            match node.children.get(segment) {
                Some(child) => at = *child,
                None => break,
            }
            node = &self.nodes[at as usize];
        }
        if node.candidates.is_empty() { node.above } else { Some(at) }
    }
}

const _: () = assert!(size_of::<Node>() == 64);

/// Where in the index a route stands. Ordered so that more specific places come first within one priority.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct IndexKey {
    /// Negated: the highest first.
    pub(crate) priority: std::cmp::Reverse<i32>,
    pub(crate) host: HostKey,
    pub(crate) path: PathKey,
}

/// A host, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum HostKey {
    Exact(String),
    /// Without the `*.`.
    Suffix(String),
    Any,
}

/// A path, canonical.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PathKey {
    Exact(Vec<u8>),
    /// Without trailing slashes.
    Prefix(Vec<u8>),
    /// The length first, so that longer expressions are asked first.
    Regex(std::cmp::Reverse<usize>, String),
    Any,
}

/// Collects routes and makes the index of them.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    places: BTreeMap<IndexKey, Vec<RouteIndex>>,
    regexes: Map<String, Regex>,
}

impl Builder {
    /// Adds a route at a place, where it is not yet.
    pub(crate) fn add(&mut self, key: IndexKey, route: RouteIndex) {
        self.places.entry(key).or_default().push(route);
    }

    /// Whether some route is at this place.
    pub(crate) fn has(&self, key: &IndexKey) -> bool {
        self.places.contains_key(key)
    }

    /// Whether this expression is known already.
    pub(crate) fn has_regex(&self, text: &str) -> bool {
        self.regexes.contains_key(text)
    }

    /// Adds a compiled expression, so that it is shared by all routes that have it.
    pub(crate) fn add_regex(&mut self, text: &str, regex: Regex) {
        self.regexes.insert(text.to_owned(), regex);
    }

    /// All places with the routes there, for checks and for ordering them.
    pub(crate) fn places(&mut self) -> impl Iterator<Item = (&IndexKey, &mut Vec<RouteIndex>)> {
        self.places.iter_mut()
    }

    /// Makes the index; `is_plain` says whether a route asks for nothing but host and path.
    pub(crate) fn build(self, is_plain: impl Fn(RouteIndex) -> bool) -> Finder {
        let mut layers: Vec<(std::cmp::Reverse<i32>, Layer)> = Vec::new();
        for (key, routes) in self.places {
            // Places come in the order of their keys: a layer is complete before the next one begins.
            if layers.last().is_none_or(|(priority, _)| *priority != key.priority) {
                layers.push((key.priority, Layer::default()));
            }
            let layer = layers.last_mut().map(|(_, layer)| layer).expect("one was pushed");
            let paths = match key.host {
                HostKey::Exact(host) => layer.exact.entry(host.as_bytes().into()).or_default(),
                HostKey::Suffix(suffix) => {
                    let labels = suffix.split('.').count().min(usize::from(u8::MAX)) as u8;
                    if !layer.suffix_labels.contains(&labels) {
                        layer.suffix_labels.push(labels);
                    }
                    layer.suffixes.entry(suffix.as_bytes().into()).or_default()
                }
                HostKey::Any => &mut layer.any,
            };
            let candidates = Candidates::new(routes, &is_plain);
            match key.path {
                PathKey::Exact(path) => {
                    paths.exact_len_max = paths.exact_len_max.max(path.len());
                    paths.exact.insert(path[..].into(), candidates);
                }
                PathKey::Prefix(prefix) => paths.insert_prefix(&prefix, candidates),
                PathKey::Regex(_, text) => {
                    if let Some(regex) = self.regexes.get(&text) {
                        paths.regexes.push((regex.clone(), candidates));
                    }
                }
                PathKey::Any => paths.any = candidates,
            }
        }
        for (_, layer) in &mut layers {
            layer.suffix_labels.sort_by(|left, right| right.cmp(left));
            let hosts = layer.exact.values_mut().chain(layer.suffixes.values_mut());
            hosts.chain([&mut layer.any]).for_each(Paths::link);
        }
        Finder { layers: layers.into_iter().map(|(_, layer)| layer).collect() }
    }
}

/// The segments of a canonical prefix; none for the root.
pub(crate) fn segments(prefix: &[u8]) -> impl Iterator<Item = &[u8]> {
    let prefix = trim_slashes(prefix);
    let inner = prefix.strip_prefix(b"/").unwrap_or(prefix);
    inner.split(|byte| *byte == b'/').filter(move |_| !prefix.is_empty())
}

impl Paths {
    fn insert_prefix(&mut self, prefix: &[u8], candidates: Candidates) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for segment in segments(prefix) {
            self.segment_len_max = self.segment_len_max.max(segment.len());
            let next = self.nodes.len() as u32;
            let child = *self.nodes[at].children.entry(segment.into()).or_insert(next);
            if child == next {
                self.nodes.push(Node::default());
            }
            at = child as usize;
        }
        self.nodes[at].candidates = candidates;
    }

    /// Tells every node which one above has candidates. Children are always behind their parents.
    fn link(&mut self) {
        for at in 0..self.nodes.len() {
            let node = &self.nodes[at];
            let above = if node.candidates.is_empty() { node.above } else { Some(at as u32) };
            let children: Vec<u32> = node.children.values().copied().collect();
            for child in children {
                self.nodes[child as usize].above = above;
            }
        }
    }
}
