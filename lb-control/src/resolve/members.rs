//! Who serves for a name: the addresses that it stands for, and those that it no longer stands for but that go only when
//! others can take over. No clock and no sockets: time comes in.
//!
//! ```text
//!         in the answer                      not in the answer
//! (none) ───────────────► present ─────────────────────────────► leaving ──► (none)
//!                            ▲         in the answer again          │     as many new ones are up,
//!                            └──────────────────────────────────────┘     or `remove_after` has passed
//! ```

use std::time::{Duration, Instant};

use super::Target;

/// How often we look whether those that left the answer may go: also how long a new server has to show that it cannot be
/// connected to before it counts as up.
pub const LOOK: Duration = Duration::from_secs(1);

/// The servers of one name, as some entries use it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Members {
    all: Vec<Member>,
    /// How many there were before the first of those that are leaving left.
    before: usize,
    /// When that was.
    since: Option<Instant>,
    looked: Option<Instant>,
}

/// One address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub target: Target,
    /// Since when it is one.
    pub joined: Instant,
    /// Since when it is in no answer any more.
    pub left: Option<Instant>,
}

impl Members {
    /// Follows what a name stands for now. Returns whether anything is different for the servers. Nobody is dropped here:
    /// see [`Members::look`].
    pub(crate) fn follow(&mut self, present: &[Target], now: Instant) -> bool {
        let (were, were_leaving) = (self.present().count(), self.leaving().next().is_some());
        let mut changed = false;
        for member in &mut self.all {
            match present.iter().find(|target| target.address == member.target.address) {
                Some(target) => {
                    changed |= member.target != *target;
                    member.target = *target;
                    member.left = None;
                }
                None => {
                    member.left.get_or_insert(now);
                }
            }
        }
        for target in present {
            if !self.all.iter().any(|member| member.target.address == target.address) {
                self.all.push(Member { target: *target, joined: now, left: None });
                changed = true;
            }
        }
        self.all.sort_by_key(|member| member.target.address);
        let is_leaving = self.leaving().next().is_some();
        if is_leaving && !were_leaving {
            (self.before, self.since, self.looked) = (were, Some(now), Some(now));
        } else if !is_leaving {
            self.since = None;
        }
        changed
    }

    /// Lets those go that may. Returns whether any did.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        remove_after: Duration,
        is_up: impl Fn(&Target) -> bool,
    ) -> bool {
        let Some(since) = self.since else { return false };
        self.looked = Some(now);
        let up: Vec<&Member> = self.present().filter(|member| is_up(&member.target)).collect();
        let new = up.iter().filter(|member| member.joined >= since).count();
        let mut leaving: Vec<Member> = self.leaving().copied().collect();
        // As many as are missing of those that there were; and each new one stands for one that left.
        let stay = self.before.saturating_sub(up.len()).min(leaving.len().saturating_sub(new));
        // Those that can serve stay rather than those that cannot, the latest rather than the earlier ones.
        leaving.sort_by_key(|member| (!is_up(&member.target), std::cmp::Reverse(member.left)));
        leaving.truncate(stay);
        leaving.retain(|member| member.left.is_some_and(|left| now < left + remove_after));
        let were = self.all.len();
        self.all.retain(|member| member.left.is_none() || leaving.contains(member));
        if self.leaving().next().is_none() {
            self.since = None;
        }
        self.all.len() != were
    }

    /// When to look next; `None`: nobody is leaving.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.since.and(self.looked).map(|looked| looked + LOOK)
    }

    /// All that serve, in the order of their addresses.
    pub(crate) fn all(&self) -> &[Member] {
        &self.all
    }

    /// Those in the answer.
    pub(crate) fn present(&self) -> impl Iterator<Item = &Member> {
        self.all.iter().filter(|member| member.left.is_none())
    }

    /// Those that left it.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = &Member> {
        self.all.iter().filter(|member| member.left.is_some())
    }
}
