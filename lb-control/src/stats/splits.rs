//! Since when a route's arms have the shares that they have.

use std::collections::BTreeMap;
use std::time::SystemTime;

use lb_core::Snapshot;
use lb_core::snapshot::{Split, Target};

use crate::changes::{Change, Changes, Kind};

/// Changes of shares that are noted of one table; more of them would push out everything else.
const NOTED_MAX: usize = 20;

/// Hundredths of a percent: all of them.
const ALL: u16 = 10_000;

/// How a route is split.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    /// In hundredths of a percent.
    canary: u16,
    release: String,
    backends: Vec<String>,
}

/// How the routes are split, and since when.
#[derive(Debug, Default)]
pub(super) struct Splits(BTreeMap<String, (Wanted, SystemTime)>);

/// The share that an arm is to have, in hundredths of a percent.
pub(super) fn share(split: &Split, arm: usize) -> u16 {
    let others = || split.arms[1..].iter().map(|arm| arm.buckets.len() as u16).sum::<u16>();
    if arm == 0 { ALL.saturating_sub(others()) } else { split.arms[arm].buckets.len() as u16 }
}

impl Splits {
    /// Those of a first table.
    pub(super) fn new(snapshot: &Snapshot) -> Splits {
        let now = SystemTime::now();
        Splits(wanted(snapshot).map(|(route, wanted)| (route, (wanted, now))).collect())
    }

    /// Takes those of a new table, and notes what is different.
    pub(super) fn take(&mut self, snapshot: &Snapshot, changes: &Changes) {
        let now = SystemTime::now();
        let mut before = std::mem::take(&mut self.0);
        let mut different = Vec::new();
        for (route, wanted) in wanted(snapshot) {
            let since = match before.remove(&route) {
                Some((known, since)) if known == wanted => since,
                known => {
                    different
                        .push((route.clone(), words(known.map(|(known, _)| known).as_ref(), Some(&wanted))));
                    now
                }
            };
            self.0.insert(route, (wanted, since));
        }
        different.extend(before.into_iter().map(|(route, (known, _))| (route, words(Some(&known), None))));
        let more = different.len().saturating_sub(NOTED_MAX);
        for (route, words) in different.into_iter().take(NOTED_MAX) {
            let subject = format!("{route}/canary");
            changes.note(Change { kind: Kind::Share, worse: false, subject, words });
        }
        if more > 0 {
            let subject = format!("{more} more routes");
            changes.note(Change {
                kind: Kind::Share,
                worse: false,
                subject,
                words: "changed too".to_owned(),
            });
        }
    }

    /// Since when a route is split as it is.
    pub(super) fn since(&self, route: &str) -> Option<SystemTime> {
        self.0.get(route).map(|(_, since)| *since)
    }
}

fn wanted(snapshot: &Snapshot) -> impl Iterator<Item = (String, Wanted)> + '_ {
    snapshot.routes().iter().filter_map(|route| match &route.target {
        Target::Backends(split) if split.arms.len() > 1 => {
            let backends = split.arms.iter().map(|arm| snapshot.backend(arm.backend).name.to_string());
            let release = split.release().unwrap_or_default().to_owned();
            let wanted = Wanted { canary: share(split, 1), release, backends: backends.collect() };
            Some((route.name.to_string(), wanted))
        }
        _ => None,
    })
}

/// A share in percent.
fn percent(hundredths: u16) -> String {
    let text = format!("{:.2}", f64::from(hundredths) / 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

fn words(known: Option<&Wanted>, wanted: Option<&Wanted>) -> String {
    let release = |wanted: &Wanted| match wanted.release.as_str() {
        "" => String::new(),
        release => format!(", release {release}"),
    };
    match (known, wanted) {
        (None, Some(wanted)) => format!("began with {}{}", percent(wanted.canary), release(wanted)),
        (Some(known), None) => format!("ended; it had {}", percent(known.canary)),
        (Some(known), Some(wanted)) => {
            let mut parts = Vec::new();
            if known.canary != wanted.canary {
                parts.push(format!("share {} → {}", percent(known.canary), percent(wanted.canary)));
            }
            if known.release != wanted.release {
                parts.push(format!("release {} → {}", known.release, wanted.release));
            }
            if known.backends != wanted.backends {
                parts.push(format!("leads to {}", wanted.backends.get(1).map_or("", String::as_str)));
            }
            parts.join(", ")
        }
        (None, None) => String::new(),
    }
}
