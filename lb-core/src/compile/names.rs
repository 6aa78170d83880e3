//! Names: valid, unique, and found by whoever refers to them.

use super::codes;
use super::problem::{Place, Problems};
use crate::defaults::NAME_LEN_MAX;
use crate::map::Map;
use crate::text::nearest;

/// The names of one kind of thing.
pub(super) struct Names<'a> {
    kind: &'static str,
    places: Map<&'a str, usize>,
}

impl<'a> Names<'a> {
    /// The names of a list of the spec; `kind` is also the list's name in places.
    pub(super) fn new(
        kind: &'static str,
        names: impl Iterator<Item = &'a str>,
        problems: &mut Problems,
    ) -> Names<'a> {
        Names::within(kind, &Place::root(), names, problems)
    }

    /// The same for a list further inside.
    pub(super) fn within(
        kind: &'static str,
        around: &Place,
        names: impl Iterator<Item = &'a str>,
        problems: &mut Problems,
    ) -> Names<'a> {
        let mut places = Map::default();
        for (index, name) in names.enumerate() {
            let place = around.field(kind).index(index).field("name");
            check(kind, name, &place, problems);
            if let Some(first) = places.get(name) {
                let message =
                    format!("two {kind}s are named `{name}`: numbers {} and {}", first + 1, index + 1);
                problems.error(codes::TWICE, &place, message).expected("expected a name of its own");
            } else {
                places.insert(name, index);
            }
        }
        Names { kind, places }
    }

    /// The place of a name in the list.
    pub(super) fn get(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// The same; a name that is not there is a problem with `code` at `place`.
    pub(super) fn find(
        &self,
        name: &str,
        code: &'static str,
        place: &Place,
        problems: &mut Problems,
    ) -> Option<usize> {
        let found = self.get(name);
        if found.is_none() {
            let mut candidates: Vec<&str> = match problems.are_many() {
                true => Vec::new(),
                false => self.places.keys().copied().collect(),
            };
            // The first of those equally near, for the map's order means nothing.
            candidates.sort_unstable();
            problems
                .error(code, place, format!("no {} is named `{name}`", self.kind))
                .expected(listed(self.kind, &candidates, self.places.len()))
                .meant(nearest(name, candidates));
        }
        found
    }
}

/// Names the candidates, if they are few.
fn listed(kind: &str, candidates: &[&str], count: usize) -> String {
    const NAMED_MAX: usize = 5;
    match candidates {
        _ if count == 0 => format!("there is no {kind} at all"),
        [] => format!("expected the name of a {kind}"),
        [only] => format!("expected `{only}`"),
        _ if candidates.len() <= NAMED_MAX => format!("expected one of `{}`", candidates.join("`, `")),
        _ => format!("expected the name of a {kind}"),
    }
}

/// Refuses what cannot be a name; whether it can.
pub(super) fn check(kind: &str, name: &str, place: &Place, problems: &mut Problems) -> bool {
    let is_name = is_name(name);
    if !is_name {
        problems
            .error(codes::NAME, place, format!("`{name}` cannot be the name of a {kind}"))
            .expected(format!("expected 1 to {NAME_LEN_MAX} letters, digits, `.`, `_` or `-`"));
    }
    is_name
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(allowed)
}
