//! All servers of a table: checks and outliers joined, and the verdicts written where picks read them.

use super::{Check, CheckSettings, Event, Fault};
use crate::live::{Health, Identity, ServerCounters, ServerLive, Table};
use crate::map::Map;
use crate::outlier::{self, Change, Ejection, Member, OutlierSettings, Record};
use crate::snapshot::Backend;
use crate::spec::Admin;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// What is watched of a backend's servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watching {
    /// Checks; `None`: nobody checks, and servers are up.
    pub checks: Option<CheckSettings>,
    /// Outliers; `None`: nobody is ejected.
    pub outliers: Option<OutlierSettings>,
}

/// Keeps the health of all servers of a table: one for all threads that decide, for it writes its verdicts into the live
/// state that they share. It has no clock and sends nothing: who holds it carries out checks and calls
/// - [`fit`](Monitor::fit) with each new table, before it is published ([`Handle::publish_with`](crate::Handle::publish_with)),
/// - [`checked`](Monitor::checked) with the result of each check,
/// - [`look`](Monitor::look) once a second or so.
///
/// Each returns what is new. `now` is the time of the clock that decisions are given.
///
/// Health that somebody else sets ([`ServerLive::set_health`]) stays until the verdict here *changes*: of a server that was
/// set down by hand and answers its checks nothing is written, so only setting it up again, or a fall and a rise, brings
/// it back. To take a server out by hand use [`ServerLive::set_admin`], which holds until a new table sets what its spec
/// says.
#[derive(Debug, Default)]
pub struct Monitor {
    /// In the order of the table's servers.
    servers: Vec<Watched>,
    groups: Vec<Group>,
    places: Map<Identity, usize>,
}

/// News of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which server.
    pub server: Identity,
    /// What is new about it.
    pub news: News,
}

/// What is new about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum News {
    /// Its next check is due so much later (before [`jittered`](super::jittered)), or when it was due, if that is
    /// sooner.
    ///
    /// So keep one timer for each [`Identity`], at the earlier of what it is and now and this time, and none while its
    /// check is under way: its result brings the next notice. A server in maintenance gets none, and one at once when
    /// it has left maintenance and was [looked](Monitor::look) at. One that is gone, or that is not checked any more, gets
    /// none either. So a timer that goes off ends if [`Monitor::standing`] knows no checks of its server, or says that it
    /// is [resting](super::State::Resting).
    CheckWithin(Duration),
    /// Picks see it differently from now on.
    Turned {
        /// As they have seen it.
        before: Health,
        /// As they see it.
        now: Health,
    },
    /// It is ejected. Tells more than the [`News::Turned`] beside it, which is there unless it was down already.
    Ejected(Ejection),
    /// Its ejection has ended. If its checks say so, too, it is up.
    Returned,
}

/// How a server stands, for those who show it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Standing {
    /// Its checks; `None`: it is not checked.
    pub check: Option<Check>,
    /// That it is ejected, if it is.
    pub ejection: Option<Ejection>,
    /// Ejections that are not forgotten.
    pub offences: u32,
}

#[derive(Debug)]
struct Watched {
    live: Arc<ServerLive>,
    /// Place of its group.
    group: usize,
    check: Option<Check>,
    record: Record,
    /// Whether it may be ejected, and among whom it is counted.
    rank: Rank,
    /// People's word at the last look.
    admin: Admin,
    /// Attempts without a response, at the last look.
    failed: u64,
    /// What was told to picks.
    told: Health,
}

/// Servers are compared with those of their rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    Primary,
    Backup,
    /// Of weight 0: serves nobody but its own, and says nothing about the others.
    Apart,
}

/// The servers of one backend.
#[derive(Debug)]
struct Group {
    servers: Range<usize>,
    watching: Watching,
}

impl Monitor {
    /// One that knows no servers yet.
    pub fn new() -> Monitor {
        Monitor::default()
    }

    /// Takes up a table: servers that are known by their identity go on as they were, others begin, and what is in no
    /// backend any more is forgotten. `watching` says what is watched of each backend; it may be different each time.
    /// Servers that are to be checked before they are used are down when this returns.
    pub fn fit(
        &mut self,
        table: &Table,
        watching: impl Fn(&Backend) -> Watching,
        now: Duration,
    ) -> Vec<Notice> {
        let known = std::mem::take(&mut self.servers);
        let mut known: Map<Identity, Watched> =
            known.into_iter().map(|watched| (watched.live.identity().clone(), watched)).collect();
        self.groups.clear();
        self.places.clear();
        let mut notices = Vec::new();
        for backend in table.snapshot.backends() {
            let first = self.servers.len();
            let watching = watching(backend);
            for place in backend.servers.clone() {
                let place = place as usize;
                let (server, live) = (&table.snapshot.servers()[place], &table.live.servers()[place]);
                // One that was gone in between begins anew, whatever it is called.
                let known = known.remove(live.identity()).filter(|known| Arc::ptr_eq(&known.live, live));
                let mut watched = known.unwrap_or_else(|| Watched::new(Arc::clone(live)));
                watched.group = self.groups.len();
                watched.rank = match (server.weight, server.backup) {
                    (0, _) => Rank::Apart,
                    (_, true) => Rank::Backup,
                    (_, false) => Rank::Primary,
                };
                watched.watch(&watching, now, &mut notices);
                self.places.insert(live.identity().clone(), self.servers.len());
                self.servers.push(watched);
            }
            self.groups.push(Group { servers: first..self.servers.len(), watching });
        }
        notices
    }

    /// Takes up the result of a check. Of a server that is not watched, or not any more, it changes nothing.
    pub fn checked(&mut self, server: &Identity, result: Result<(), Fault>, now: Duration) -> Vec<Notice> {
        let mut notices = Vec::new();
        let Some((watched, watching)) = self.find(server) else { return notices };
        let event = result.map_or_else(Event::Bad, |()| Event::Good);
        watched.step(event, &watching, now, &mut notices);
        watched.tell(&watching, &mut notices);
        notices
    }

    /// Looks at what traffic has done since the last time: judges outliers, ends ejections that are over, and asks for
    /// checks of servers at which attempts failed. Takes up what people have said meanwhile, too.
    pub fn look(&mut self, now: Duration) -> Vec<Notice> {
        let mut notices = Vec::new();
        for group in &self.groups {
            let servers = &mut self.servers[group.servers.clone()];
            for watched in servers.iter_mut() {
                watched.look(&group.watching, now, &mut notices);
            }
            for rank in [Rank::Primary, Rank::Backup] {
                judge(servers, rank, &group.watching, now, &mut notices);
            }
            servers.iter_mut().for_each(|watched| watched.tell(&group.watching, &mut notices));
        }
        notices
    }

    /// Servers whose first check has not come to an end.
    pub fn undecided(&self) -> impl Iterator<Item = &Identity> {
        let undecided = self.servers.iter().filter(|it| it.check.is_some_and(|check| !check.is_decided()));
        undecided.map(|watched| watched.live.identity())
    }

    /// How a server stands; `None` if it is not watched.
    pub fn standing(&self, server: &Identity) -> Option<Standing> {
        let watched = &self.servers[*self.places.get(server)?];
        Some(Standing {
            check: watched.check,
            ejection: watched.record.ejection().copied(),
            offences: watched.record.offences(),
        })
    }

    fn find(&mut self, server: &Identity) -> Option<(&mut Watched, Watching)> {
        let watched = &mut self.servers[*self.places.get(server)?];
        let watching = self.groups[watched.group].watching;
        Some((watched, watching))
    }
}

/// Judges the servers of one rank.
fn judge(servers: &mut [Watched], rank: Rank, watching: &Watching, now: Duration, notices: &mut Vec<Notice>) {
    let Some(settings) = &watching.outliers else { return };
    let identities: Vec<Identity> =
        servers.iter().filter(|it| it.rank == rank).map(|it| it.live.identity().clone()).collect();
    let mut members: Vec<Member<'_>> = servers
        .iter_mut()
        .filter(|watched| watched.rank == rank)
        .map(|watched| Member {
            can_serve: watched.admin == Admin::Ready && watched.checks_say(watching) == Health::Up,
            counters: watched.live.counters(),
            record: &mut watched.record,
        })
        .collect();
    for (place, change) in outlier::look(&mut members, settings, now) {
        let news = match change {
            Change::Ejected(ejection) => News::Ejected(ejection),
            Change::Returned => News::Returned,
        };
        notices.push(Notice { server: identities[place].clone(), news });
    }
}

fn without_response(counters: &ServerCounters) -> u64 {
    counters.connect_failed + counters.failed
}

/// What picks are to see: the checks' word first, for a server that does not answer them is down whatever traffic said
/// about it while it still did.
fn verdict(checks: Health, ejection: Option<&Ejection>) -> Health {
    match (checks, ejection) {
        (Health::Up, Some(ejection)) => Health::Down(ejection.offence.why()),
        (checks, _) => checks,
    }
}

impl Watched {
    fn new(live: Arc<ServerLive>) -> Watched {
        let (admin, told, counters) = (live.admin(), live.health(), live.counters());
        let (record, failed) = (Record::new(counters), without_response(&counters));
        Watched { live, group: 0, check: None, record, rank: Rank::Primary, admin, failed, told }
    }

    /// Takes up what is watched of it.
    fn watch(&mut self, watching: &Watching, now: Duration, notices: &mut Vec<Notice>) {
        match (&watching.checks, self.check) {
            (None, _) => self.check = None,
            (Some(_), None) => {
                self.admin = self.live.admin();
                self.check = Some(Check::new(self.admin, now));
                if self.admin != Admin::Maintenance {
                    self.notice(News::CheckWithin(Duration::ZERO), notices);
                }
            }
            (Some(_), Some(_)) => {}
        }
        if watching.outliers.is_none() {
            self.record = Record::new(self.live.counters());
        }
        self.hear(watching, now, notices);
        self.tell(watching, notices);
    }

    /// Takes up what people have said.
    fn hear(&mut self, watching: &Watching, now: Duration, notices: &mut Vec<Notice>) {
        let admin = self.live.admin();
        if admin != self.admin {
            self.admin = admin;
            self.step(Event::Admin(admin), watching, now, notices);
        }
    }

    fn look(&mut self, watching: &Watching, now: Duration, notices: &mut Vec<Notice>) {
        self.hear(watching, now, notices);
        let failed = without_response(&self.live.counters());
        if std::mem::replace(&mut self.failed, failed) < failed {
            self.step(Event::AttemptFailed, watching, now, notices);
        }
    }

    fn step(&mut self, event: Event, watching: &Watching, now: Duration, notices: &mut Vec<Notice>) {
        let (Some(check), Some(settings)) = (self.check, &watching.checks) else { return };
        let (check, effects) = check.step(event, settings, now);
        self.check = Some(check);
        if let Some(next) = effects.next {
            self.notice(News::CheckWithin(next), notices);
        }
    }

    fn checks_say(&self, watching: &Watching) -> Health {
        match (&self.check, &watching.checks) {
            (Some(check), Some(settings)) => check.health(settings),
            _ => Health::Up,
        }
    }

    /// Tells picks, if there is something new.
    fn tell(&mut self, watching: &Watching, notices: &mut Vec<Notice>) {
        let now = verdict(self.checks_say(watching), self.record.ejection());
        if now != self.told {
            self.live.set_health(now);
            let before = std::mem::replace(&mut self.told, now);
            self.notice(News::Turned { before, now }, notices);
        }
    }

    fn notice(&self, news: News, notices: &mut Vec<Notice>) {
        notices.push(Notice { server: self.live.identity().clone(), news });
    }
}
