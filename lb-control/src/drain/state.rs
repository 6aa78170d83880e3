//! What is known of servers that are to leave. No clock, no threads.
//!
//! ```text
//! ready ──(the file says drain)──► drain ──(deadline)──► over ──┐
//!   │                                └──────────────────────────┴──► empty ⇄ in use again
//!   └──(the file says maintenance)──► maintenance ──────────────────►
//! ```
//!
//! *Empty* is a server at which nothing is under way, when that means something: at once where nobody can come any more
//! (in maintenance, after the deadline, without sticky sessions), and after [`QUIET`] where a session could.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lb_core::spec::Admin;
use lb_core::{Identity, ServerLive, Table};

use super::Now;
use super::settings::{DrainSettings, End};
use crate::config::moment::Moment;
use crate::health::words::time;

/// A drain whose sessions may still come is empty when none has come for so long.
pub(super) const QUIET: Duration = Duration::from_secs(60);

/// Where nobody can come, nothing is under way for good when nothing has been for so long: what was decided before
/// the table came has begun by then.
pub(super) const SETTLED: Duration = Duration::from_secs(1);

/// Requests at a server that leaves are counted over so many steps of so long: the last five minutes.
const MARKS_MAX: usize = 10;
const MARK: Duration = Duration::from_secs(30);

/// Servers that are told one by one at a time; more of them would push out everything else.
pub(super) const TOLD_MAX: usize = 20;

/// What has changed: about what, and how.
pub(super) type News = (String, String);

#[derive(Debug, Default)]
pub(super) struct State {
    settings: Arc<DrainSettings>,
    table: Option<Arc<Table>>,
    /// Since when entries drain that are to drain for a time, by backend and entry. It outlives addresses of names.
    began: HashMap<(Arc<str>, Arc<str>), Duration>,
    leaving: Vec<Leaving>,
    /// What has not been told yet.
    news: Vec<News>,
}

#[derive(Debug)]
struct Leaving {
    live: Arc<ServerLive>,
    admin: Admin,
    since: Duration,
    /// When its sessions move: as the file has it, and on the workers' clock.
    end: Option<End>,
    until: Option<Duration>,
    /// Whether that has come.
    over: bool,
    /// Attempts begun, as of the last look.
    begun: u64,
    /// When something was last seen under way, or to have been.
    used: Duration,
    empty: Empty,
    /// Attempts begun, every [`MARK`].
    marks: VecDeque<(Duration, u64)>,
}

/// Whether it is known to be empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Empty {
    No,
    /// So long after it began to leave.
    After(Duration),
}

/// A server that leaves, for those who show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// `drain` or `maintenance`.
    pub(crate) admin: Admin,
    /// For how long it has been so.
    pub(crate) since: Duration,
    /// When its sessions move, and in what time.
    pub(crate) until: Option<(Moment, Duration)>,
    /// Whether they have moved.
    pub(crate) over: bool,
    /// Attempts and tunnels under way.
    pub(crate) in_flight: u32,
    /// For how long nothing has been under way.
    pub(crate) idle: Option<Duration>,
    /// How long after it began to leave it was empty, if it is.
    pub(crate) empty_after: Option<Duration>,
    /// Requests that it got lately, and within what time.
    pub(crate) lately: (u64, Duration),
}

impl State {
    /// Takes up a table before it is published.
    pub(super) fn fit(&mut self, table: &Arc<Table>, settings: &Arc<DrainSettings>, now: Now) {
        let before = self.table.replace(Arc::clone(table)).filter(|_| leaves_any(table));
        self.settings = Arc::clone(settings);
        let known: HashSet<&Identity> =
            before.iter().flat_map(|table| table.live.servers()).map(|live| live.identity()).collect();
        let mut left: HashMap<Identity, Leaving> =
            self.leaving.drain(..).map(|it| (it.live.identity().clone(), it)).collect();
        let mut news = Vec::new();
        let mut entries = HashSet::new();
        for live in table.live.servers() {
            let (identity, admin) = (live.identity(), live.admin());
            let was = left.remove(identity).filter(|it| Arc::ptr_eq(&it.live, live));
            if admin == Admin::Ready {
                if was.is_some() {
                    news.push((identity.to_string(), "ready again".to_owned()));
                }
                continue;
            }
            let end = settings.end(&identity.backend, &identity.name);
            if let Some(End::After(_)) = end {
                let entry = (Arc::clone(&identity.backend), Arc::clone(&identity.name));
                self.began.entry(entry.clone()).or_insert(now.at);
                entries.insert(entry);
            }
            let is_new = was.as_ref().is_none_or(|was| was.admin != admin);
            let mut leaving = match was {
                Some(was) if !is_new => was,
                _ => Leaving::new(live, now.at),
            };
            let has_another_end = leaving.end != end;
            leaving.end = end;
            leaving.aim(&self.began, now);
            let is_known = known.contains(identity);
            if is_new && !is_known {
                // Of one that comes drained, by a start or out of a name, nothing is new.
                leaving.over = leaving.until.is_some_and(|until| until <= now.at);
                if leaving.over || !self.is_open(&leaving) {
                    leaving.empty = Empty::After(Duration::ZERO);
                }
            } else if is_new || has_another_end {
                news.push((identity.to_string(), leaving.begun_words(now)));
            }
            self.leaving.push(leaving);
        }
        self.began.retain(|entry, _| entries.contains(entry));
        self.news.extend(bounded(news));
    }

    /// Looks at what is under way. Returns what has changed since the last time.
    pub(super) fn look(&mut self, now: Now) -> Vec<News> {
        let mut found = Vec::new();
        let mut leaving = std::mem::take(&mut self.leaving);
        for it in &mut leaving {
            it.aim(&self.began, now);
            let told = it.look(self.is_open(it), now.at).into_iter().flatten();
            found.extend(told.map(|words| (it.live.identity().to_string(), words)));
        }
        self.leaving = leaving;
        let mut news = std::mem::take(&mut self.news);
        news.extend(bounded(found));
        news
    }

    /// Whether sessions of its own may come yet, but for the deadline.
    fn is_open(&self, it: &Leaving) -> bool {
        it.admin == Admin::Drain && self.settings.is_sticky(it.live.backend())
    }

    pub(super) fn shown(&self, now: Now) -> Vec<(Identity, Shown)> {
        self.leaving.iter().map(|it| (it.live.identity().clone(), it.shown(now))).collect()
    }
}

/// Of many servers the first are told one by one.
fn bounded(mut news: Vec<News>) -> Vec<News> {
    let more = news.len().saturating_sub(TOLD_MAX);
    news.truncate(TOLD_MAX);
    if more > 0 {
        news.push((format!("{more} more servers"), "changed too".to_owned()));
    }
    news
}

fn leaves_any(table: &Table) -> bool {
    table.live.servers().iter().any(|live| live.admin() != Admin::Ready)
}

impl Leaving {
    fn new(live: &Arc<ServerLive>, at: Duration) -> Leaving {
        Leaving {
            live: Arc::clone(live),
            admin: live.admin(),
            since: at,
            end: None,
            until: None,
            over: false,
            begun: live.counters().picked(),
            used: at,
            empty: Empty::No,
            marks: VecDeque::new(),
        }
    }

    /// Has its sessions move when the file says. Moments are looked up anew each time: the system's clock may be set.
    fn aim(&mut self, began: &HashMap<(Arc<str>, Arc<str>), Duration>, now: Now) {
        if self.admin != Admin::Drain {
            return;
        }
        let identity = self.live.identity();
        self.until = self.end.map(|end| match end {
            End::After(after) => {
                let entry = (Arc::clone(&identity.backend), Arc::clone(&identity.name));
                began.get(&entry).copied().unwrap_or(self.since) + after
            }
            End::At(moment) => now.at_of(moment),
        });
        self.live.set_drain_deadline(self.until);
    }

    fn begun_words(&self, now: Now) -> String {
        let in_flight = self.live.in_flight();
        let until = self.until.map(|until| {
            let moment = now.moment_of(until).seen_from(now.moment());
            match until > now.at {
                true => format!(" until {moment}"),
                false => format!(", whose end was at {moment}"),
            }
        });
        match self.admin {
            Admin::Maintenance => format!("in maintenance with {in_flight} in flight"),
            _ => format!("drains{} with {in_flight} in flight", until.unwrap_or_default()),
        }
    }

    /// What has changed: that its sessions move, and whether it is empty.
    fn look(&mut self, is_open: bool, at: Duration) -> [Option<String>; 2] {
        let (in_flight, begun) = (self.live.in_flight(), self.live.counters().picked());
        if self.marks.back().is_none_or(|(last, _)| at.saturating_sub(*last) >= MARK) {
            if self.marks.len() == MARKS_MAX {
                self.marks.pop_front();
            }
            self.marks.push_back((at, self.begun));
        }
        let is_used = in_flight > 0 || begun != self.begun;
        self.begun = begun;
        if is_used {
            self.used = at;
        }
        let is_over = self.until.is_some_and(|until| until <= at);
        let was_over = std::mem::replace(&mut self.over, is_over);
        let moves = is_over && !was_over;
        let moves =
            moves.then(|| format!("its drain is over: its sessions move, with {in_flight} in flight"));
        let is_open = is_open && !is_over;
        let quiet = at.saturating_sub(self.used);
        if was_over && !is_over {
            // It was given more time: its sessions may come again.
            self.empty = Empty::No;
        }
        let emptied = match self.empty {
            Empty::After(_) if is_used => {
                self.empty = Empty::No;
                Some(format!("in use again: {in_flight} in flight"))
            }
            Empty::No if quiet >= if is_open { QUIET } else { SETTLED } => {
                let after = self.used.saturating_sub(self.since);
                self.empty = Empty::After(after);
                let why = match is_open {
                    true => format!("none of its sessions has come for {}", time(QUIET)),
                    false => "nothing is under way, and nobody comes any more".to_owned(),
                };
                Some(match after {
                    Duration::ZERO => format!("empty from the start: {why}"),
                    after => format!("empty after {}: {why}", time(after)),
                })
            }
            _ => None,
        };
        [moves, emptied]
    }

    fn shown(&self, now: Now) -> Shown {
        let in_flight = self.live.in_flight();
        let (since, first) = self.marks.front().copied().unwrap_or((now.at, self.begun));
        Shown {
            admin: self.admin,
            since: now.at.saturating_sub(self.since),
            until: self.until.map(|until| (now.moment_of(until), until.saturating_sub(now.at))),
            over: self.until.is_some_and(|until| until <= now.at),
            in_flight,
            idle: (in_flight == 0).then(|| now.at.saturating_sub(self.used)),
            empty_after: match self.empty {
                Empty::After(after) if in_flight == 0 => Some(after),
                _ => None,
            },
            lately: (self.begun.saturating_sub(first), now.at.saturating_sub(since)),
        }
    }
}

impl Shown {
    /// `drain, 3 in flight, until 12:30 UTC`, `drain, idle since 41 s`, `maintenance, empty since 2 h`.
    pub(crate) fn words(&self, now: Moment) -> String {
        let mut words = self.admin.word().to_owned();
        if self.over {
            words.push_str(", over");
        }
        match self.idle {
            None => words.push_str(&format!(", {} in flight", self.in_flight)),
            Some(idle) => {
                let word = if self.empty_after.is_some() { "empty" } else { "idle" };
                words.push_str(&format!(", {word} since {}", time(idle)));
            }
        }
        if let Some((moment, _)) = self.until.filter(|_| !self.over) {
            words.push_str(&format!(", until {}", moment.seen_from(now)));
        }
        words
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
