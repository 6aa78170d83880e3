//! The conductor: find, choose, pick. All branches between the stages are here; the stages compute.

mod decision;
mod verdict;

pub use decision::Decision;
pub use verdict::{ArmReason, PickReason, Refusal, RefusalReason, Stickiness, Verdict};

use crate::choose::Choice;
use crate::cursors::Cursors;
use crate::defaults::ARMS_MAX;
use crate::find::{Wanted, Watch, find};
use crate::hash::{Keyed, Purpose};
use crate::host;
use crate::jar::Jar;
use crate::live::{Now, Table};
use crate::path::{self, NormalPath, query_value};
use crate::pick::sticky::StickySeen;
use crate::pick::{Affinity, Asked, Care, Draw, Hashing, Picked};
use crate::session::{Address, Session};
use crate::snapshot::{ArmIndex, Route, RouteIndex, ServerIndex, Split, Target};
use crate::spec::{EncodedSlash, HashKey, PathEncoding, SessionKey};
use crate::view::{Fields, RequestView};
use decision::stamp;
use std::time::Duration;

/// Decides where a request goes. Has no effect, and depends on its arguments only: `now` is the time on a clock
/// of the caller's that never goes back, the same for all workers, and begins anywhere below 584 years (it is kept in
/// nanoseconds, in 64 bits); `random` is 128 fresh random bits, of which a
/// new session's cookie is made. Allocates nothing.
pub fn decide<F: Fields + ?Sized>(
    table: &Table,
    cursors: &Cursors,
    view: &RequestView<'_, F>,
    now: Duration,
    random: u128,
) -> Verdict {
    decide_watched(table, cursors, view, now, random, &mut Silent)
}

/// Looks over the shoulder of [`decide`]. `explain` has one that remembers; the one that does nothing is compiled
/// away.
pub(crate) trait Recorder: Watch {
    /// The path as it is matched, and whether it is suspicious.
    fn read(&mut self, path: &NormalPath<'_>);
    /// The arm that the session belongs to.
    fn chose(&mut self, choice: &Choice);
    /// An arm was asked for a server.
    fn asked(&mut self, arm: ArmIndex, care: Care, picked: Option<&Picked>);
}

/// Records nothing.
struct Silent;

impl Watch for Silent {
    fn matched(&mut self, _: RouteIndex) -> bool {
        false
    }
    fn missed(&mut self, _: RouteIndex, _: crate::find::Missed) {}
}

impl Recorder for Silent {
    fn read(&mut self, _: &NormalPath<'_>) {}
    fn chose(&mut self, _: &Choice) {}
    fn asked(&mut self, _: ArmIndex, _: Care, _: Option<&Picked>) {}
}

pub(crate) fn decide_watched<F: Fields + ?Sized>(
    table: &Table,
    cursors: &Cursors,
    view: &RequestView<'_, F>,
    now: Duration,
    random: u128,
    recorder: &mut impl Recorder,
) -> Verdict {
    path::with_normal(view.path, |path| {
        let Some(path) = path else {
            return Verdict::Refuse(Refusal::new(RefusalReason::PathTooLong, None, None));
        };
        recorder.read(&path);
        let request = Request { table, cursors, view, path, now: now.into(), random };
        request.decide(recorder)
    })
}

/// A request that goes through find, choose and pick.
struct Request<'a, F: Fields + ?Sized> {
    table: &'a Table,
    cursors: &'a Cursors,
    view: &'a RequestView<'a, F>,
    path: NormalPath<'a>,
    now: Now,
    random: u128,
}

impl<F: Fields + ?Sized> Request<'_, F> {
    fn decide(&self, recorder: &mut impl Recorder) -> Verdict {
        let snapshot = &self.table.snapshot;
        let found = host::with_normal(self.view.host, |host| {
            let wanted = Wanted { host, path: self.path, view: self.view };
            find(&snapshot.finder, &snapshot.routes, &wanted, recorder)
        });
        let Some(index) = found else {
            let reason = if self.path.suspicious { RefusalReason::BadPath } else { RefusalReason::NoRoute };
            return Verdict::Refuse(Refusal::new(reason, None, None));
        };
        let route = snapshot.route(index);
        if let Err(reason) = self.admit(route) {
            return Verdict::Refuse(Refusal::new(reason, Some(index), None));
        }
        match &route.target {
            Target::Backends(split) => self.forward(index, split, recorder),
            Target::Redirect(_) | Target::Reply(_) => Verdict::Answer(index),
        }
    }

    /// Whether a route takes such a path.
    fn admit(&self, route: &Route) -> Result<(), RefusalReason> {
        if self.path.suspicious && route.path_encoding == PathEncoding::Strict {
            return Err(RefusalReason::BadPath);
        }
        if self.path.encoded_slash && route.encoded_slash == EncodedSlash::Refuse {
            return Err(RefusalReason::EncodedSlash);
        }
        Ok(())
    }

    fn forward(&self, route: RouteIndex, split: &Split, recorder: &mut impl Recorder) -> Verdict {
        let client = self.client(split);
        recorder.chose(&client.choice);
        let (table, draw) = (self.table, Draw::new(self.random));
        let round = Round { table, split, cursors: self.cursors, now: self.now, draw };
        let reason = match round.serve(&client, &[], recorder) {
            Some((arm, picked)) => {
                return Verdict::Forward(Decision { stamp: stamp(table), route, arm, picked, client });
            }
            None if !client.choice.may_fall_back && split.arms.len() > 1 => RefusalReason::ArmDown,
            None => RefusalReason::NoServer,
        };
        Verdict::Refuse(Refusal::new(reason, Some(route), Some(client.choice.arm)))
    }

    fn client(&self, split: &Split) -> Client {
        let names = split.cookie_names.as_ref();
        let jar = names.map(|names| names.look(self.view.fields)).unwrap_or_default();
        let session = self.session(split, &jar);
        let choice = match (&split.canary, &session) {
            (Some(canary), Some(session)) => canary.choose(&jar, session, self.view.source),
            _ => Choice::ONLY,
        };
        let (mut values, mut seen) = ([0; ARMS_MAX], [StickySeen::Nothing; ARMS_MAX]);
        for (place, backend) in split.backends().iter().enumerate() {
            let pool = &self.table.snapshot.backend(*backend).pool;
            if let Some(sticky) = &pool.sticky {
                seen[place] = sticky.read(jar.sticky[place]);
            }
            if let Some(key) = &pool.hashing.key {
                values[place] = self.value(key, &pool.hashing);
            }
        }
        Client { choice, session, source: self.view.source.into(), values, sticky: seen }
    }

    /// The session, where anything depends on it.
    fn session(&self, split: &Split, jar: &Jar<'_>) -> Option<Session> {
        let keys = &self.table.snapshot.keys;
        let key = split.canary.as_ref().map(|canary| &canary.key);
        match key {
            Some(SessionKey::Source) => Some(Session::from_source(keys, self.view.source)),
            Some(SessionKey::Header(name)) => Some(Session::from_header(keys, self.view, name)),
            Some(SessionKey::Draw) => Some(Session::from_draw(self.random)),
            Some(SessionKey::Cookie) => Some(Session::from_cookie(jar.session, self.random)),
            None if split.sets_session => Some(Session::from_cookie(jar.session, self.random)),
            None => None,
        }
    }

    /// The hash of what a backend's policy hashes, as far as it is neither session nor source: these are at hand
    /// later, the request is not.
    fn value(&self, key: &HashKey, hashing: &Hashing) -> u64 {
        let (kind, value): (&[u8], _) = match key {
            HashKey::Session | HashKey::Source => return 0,
            HashKey::Header(name) => (b"header", self.view.header_values(name.as_bytes()).next()),
            HashKey::Path => (b"path", Some(self.path.bytes)),
            HashKey::Query(name) => (b"query", query_value(self.view.query, name.as_bytes())),
        };
        let Some(value) = value else { return hashing.of_source(self.view.source) };
        let hash = Keyed::new(&self.table.snapshot.keys.share, Purpose::Affinity);
        hash.part(kind).part(value).finish() as u64
    }
}

/// What is known of the client, as far as a further attempt needs it.
#[derive(Clone, Copy, Debug)]
struct Client {
    choice: Choice,
    session: Option<Session>,
    source: Address,
    /// By arm, the [`Affinity::value`].
    values: [u64; ARMS_MAX],
    /// By arm.
    sticky: [StickySeen; ARMS_MAX],
}

/// One round of asking arms for a server.
struct Round<'a> {
    table: &'a Table,
    split: &'a Split,
    cursors: &'a Cursors,
    now: Now,
    draw: Draw,
}

impl Round<'_> {
    /// A server that can serve: of the chosen arm (primaries, then backups), else of another arm if that may be;
    /// else one of a backend that has failed open with nobody up; else, as a last resort, one that connections have
    /// just failed to.
    #[inline(always)] // as ask below
    fn serve(
        &self,
        client: &Client,
        tried: &[ServerIndex],
        recorder: &mut impl Recorder,
    ) -> Option<(ArmIndex, Picked)> {
        let arm = client.choice.arm;
        let picked = self.ask(client, arm, Care::Careful, tried);
        recorder.asked(arm, Care::Careful, picked.as_ref());
        match picked {
            Some(picked) => Some((arm, picked)),
            None => self.serve_otherwise(client, tried, recorder),
        }
    }

    #[cold]
    fn serve_otherwise(
        &self,
        client: &Client,
        tried: &[ServerIndex],
        recorder: &mut impl Recorder,
    ) -> Option<(ArmIndex, Picked)> {
        let own = client.choice.arm;
        let arms = (0..self.split.arms.len() as u8).map(ArmIndex);
        let others = arms.filter(|arm| *arm != own && client.choice.may_fall_back);
        let careful = others.clone().map(|arm| (arm, Care::Careful));
        let all = |care| std::iter::once(own).chain(others.clone()).map(move |arm| (arm, care));
        for (arm, care) in careful.chain(all(Care::Opened)).chain(all(Care::LastResort)) {
            let picked = self.ask(client, arm, care, tried);
            recorder.asked(arm, care, picked.as_ref());
            if let Some(picked) = picked {
                return Some((arm, picked));
            }
        }
        None
    }

    // Inlined for good: an answer that goes through memory costs more than the question.
    #[inline(always)]
    fn ask(&self, client: &Client, arm: ArmIndex, care: Care, tried: &[ServerIndex]) -> Option<Picked> {
        let place = usize::from(arm.0);
        let backend = *self.split.backends().get(place)?;
        let pool = &self.table.snapshot.backend(backend).pool;
        let asked = Asked {
            live: &self.table.live,
            backend,
            now: self.now,
            care,
            outlook: pool.outlook(&self.table.live, backend),
            slow_start_ns: pool.slow_start_ns,
            tried,
            with_room: false,
            affinity: Affinity {
                session: &client.session,
                source: &client.source,
                value: client.values[place],
            },
            sticky: client.sticky[place],
            cursors: self.cursors,
            draw: self.draw,
        };
        pool.pick(&asked)
    }
}
