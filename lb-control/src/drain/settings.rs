//! What a configuration says about drains. The core's spec has only that a server drains; when that ends is beside it
//! (and part of the content hash by [`BackendSpec::annex`](lb_core::spec::BackendSpec::annex)), because it takes a clock.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::config::moment::Moment;

/// When a drain ends for a server's own sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// So long after the process first saw that it is to have an end.
    After(Duration),
    /// Then.
    At(Moment),
}

/// What a configuration says about drains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DrainSettings {
    backends: HashMap<Arc<str>, HashMap<Arc<str>, End>>,
    /// Backends with sticky sessions.
    sticky: HashSet<Arc<str>>,
}

impl DrainSettings {
    /// Takes up a backend: whether its sessions are sticky, and the ends of its servers' drains.
    pub(crate) fn insert(&mut self, backend: &str, is_sticky: bool, ends: HashMap<Arc<str>, End>) {
        if is_sticky {
            self.sticky.insert(backend.into());
        }
        if !ends.is_empty() {
            self.backends.insert(backend.into(), ends);
        }
    }

    /// The end of the drain of a server's entry, if it has one.
    pub(crate) fn end(&self, backend: &str, name: &str) -> Option<End> {
        self.backends.get(backend)?.get(name).copied()
    }

    /// Whether sessions stay with servers of this backend.
    pub(crate) fn is_sticky(&self, backend: &str) -> bool {
        self.sticky.contains(backend)
    }
}

/// The ends of drains in an order and form of their own, for the content hash.
pub(crate) fn content(ends: &HashMap<Arc<str>, End>) -> String {
    let mut ends: Vec<_> = ends.iter().collect();
    ends.sort_by_key(|(name, _)| *name);
    let mut text = String::new();
    for (name, end) in ends {
        let written = match end {
            End::After(after) => write!(text, "\ndrain {name} {} ms", after.as_millis()),
            End::At(moment) => write!(text, "\ndrain {name} until {moment}"),
        };
        written.expect("writing to a string");
    }
    text
}
