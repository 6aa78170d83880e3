//! The conductor: find, choose, pick. All branches between the stages are here; the stages compute.

mod verdict;

pub use verdict::{ArmReason, PickReason, Refusal, RefusalReason, Verdict};

use crate::choose::Choice;
use crate::cookie;
use crate::cursors::Cursors;
use crate::defaults::ARMS_MAX;
use crate::find::{Wanted, Watch, find};
use crate::hash::{Keyed, Purpose};
use crate::host;
use crate::jar::Jar;
use crate::live::{Now, Table};
use crate::path::{self, NormalPath, query_value};
use crate::permit::Permit;
use crate::pick::sticky::StickySeen;
use crate::pick::{Affinity, Asked, Care, Draw, Picked, Pool};
use crate::session::Session;
use crate::snapshot::{ArmIndex, Backend, Route, RouteIndex, ServerIndex, Split, Target};
use crate::spec::{EncodedSlash, HashKey, PathEncoding, Policy, SessionKey};
use crate::view::{Fields, RequestView};
use std::time::Duration;

/// Decides where a request goes. Has no effect, and depends on its arguments only: `now` is the time on a clock
/// of the caller's that never goes back, the same for all workers; `random` is 128 fresh random bits, of which a
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
    let decided = path::with_normal(view.path, |path| {
        recorder.read(&path);
        let snapshot = &table.snapshot;
        let found = host::with_normal(view.host, |host| {
            find(&snapshot.finder, &snapshot.routes, &Wanted { host, path, view }, recorder)
        });
        let Some(index) = found else {
            let reason = if path.suspicious { RefusalReason::BadPath } else { RefusalReason::NoRoute };
            return Verdict::Refuse(Refusal { reason, route: None });
        };
        let refuse = |reason| Verdict::Refuse(Refusal { reason, route: Some(index) });
        let route = snapshot.route(index);
        if let Err(reason) = admit(route, &path) {
            return refuse(reason);
        }
        let split = match &route.target {
            Target::Backends(split) => split,
            Target::Redirect(_) | Target::Reply(_) => return Verdict::Answer(index),
        };
        let request = Request { table, split, view, path: path.bytes, random };
        match request.forward(cursors, index, now.into(), recorder) {
            Ok(decision) => Verdict::Forward(decision),
            Err(reason) => refuse(reason),
        }
    });
    decided.unwrap_or(Verdict::Refuse(Refusal { reason: RefusalReason::PathTooLong, route: None }))
}

/// Whether a route takes such a path.
fn admit(route: &Route, path: &NormalPath<'_>) -> Result<(), RefusalReason> {
    if path.suspicious && route.path_encoding == PathEncoding::Strict {
        return Err(RefusalReason::BadPath);
    }
    if path.encoded_slash && route.encoded_slash == EncodedSlash::Refuse {
        return Err(RefusalReason::EncodedSlash);
    }
    Ok(())
}

/// A request whose route is found and has servers.
struct Request<'a, F: Fields + ?Sized> {
    table: &'a Table,
    split: &'a Split,
    view: &'a RequestView<'a, F>,
    /// As it is matched.
    path: &'a [u8],
    random: u128,
}

impl<F: Fields + ?Sized> Request<'_, F> {
    fn forward(
        &self,
        cursors: &Cursors,
        route: RouteIndex,
        now: Now,
        recorder: &mut impl Recorder,
    ) -> Result<Decision, RefusalReason> {
        let jar = self.split.cookie_names.look(self.view.fields);
        let session = self.session(&jar);
        let choice = match (&self.split.canary, session) {
            (Some(canary), Some(session)) => canary.choose(&jar, session, self.view.source),
            _ => Choice::ONLY,
        };
        recorder.chose(&choice);
        let mut client = Client {
            choice,
            session,
            affinity: [Affinity::Hash(0); ARMS_MAX],
            sticky: [StickySeen::Nothing; ARMS_MAX],
        };
        for (place, arm) in self.split.arms.iter().enumerate() {
            let pool = &self.table.snapshot.backend(arm.backend).pool;
            if let Some(sticky) = &pool.sticky {
                client.sticky[place] = sticky.read(jar.sticky[place]);
            }
            client.affinity[place] = self.affinity(pool, session);
        }
        let round =
            Round { table: self.table, split: self.split, cursors, now, draw: Draw::new(self.random) };
        match round.serve(&client, &[], recorder) {
            Some((arm, picked)) => Ok(Decision::new(self.table, route, client, arm, picked)),
            None if !choice.may_fall_back && self.split.arms.len() > 1 => Err(RefusalReason::ArmDown),
            None => Err(RefusalReason::NoServer),
        }
    }

    /// The session, where anything depends on it.
    fn session(&self, jar: &Jar<'_>) -> Option<Session> {
        let keys = &self.table.snapshot.keys;
        let key = self.split.canary.as_ref().map(|canary| &canary.key);
        match key {
            Some(SessionKey::Source) => Some(Session::from_source(keys, self.view.source)),
            Some(SessionKey::Header(name)) => Some(Session::from_header(keys, self.view, name)),
            Some(SessionKey::Draw) => Some(Session::from_draw(self.random)),
            Some(SessionKey::Cookie) => Some(Session::from_cookie(jar.session, self.random)),
            None if self.split.sets_session => Some(Session::from_cookie(jar.session, self.random)),
            None => None,
        }
    }

    /// What rendezvous hashing hashes for one arm.
    fn affinity(&self, pool: &Pool, session: Option<Session>) -> Affinity {
        let source = Affinity::Source(self.view.source);
        // Without a session nothing but the address tells those of one server apart when they must move.
        let of_session = session.map_or(source, |session| Affinity::Session(session.id));
        let of_value = |kind: &[u8], value: &[u8]| {
            let hash = Keyed::new(&self.table.snapshot.keys.share, Purpose::Affinity);
            Affinity::Hash(hash.part(kind).part(value).finish() as u64)
        };
        match &pool.hash_key {
            // Only a session that must leave its server is hashed then.
            _ if pool.policy != Policy::Rendezvous => of_session,
            HashKey::Session => of_session,
            HashKey::Source => source,
            HashKey::Header(name) => {
                let value = self.view.header_values(name.as_bytes()).next();
                value.map_or(source, |value| of_value(b"header", value))
            }
            HashKey::Path => of_value(b"path", self.path),
            HashKey::Query(name) => {
                let value = query_value(self.view.query, name.as_bytes());
                value.map_or(source, |value| of_value(b"query", value))
            }
        }
    }
}

/// What is known of the client, as far as a further attempt needs it.
#[derive(Clone, Copy, Debug)]
struct Client {
    choice: Choice,
    session: Option<Session>,
    /// By arm.
    affinity: [Affinity; ARMS_MAX],
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
    /// else, as a last resort, one that connections have just failed to.
    fn serve(
        &self,
        client: &Client,
        tried: &[ServerIndex],
        recorder: &mut impl Recorder,
    ) -> Option<(ArmIndex, Picked)> {
        let arms = 0..self.split.arms.len() as u8;
        let others =
            arms.map(ArmIndex).filter(|arm| *arm != client.choice.arm && client.choice.may_fall_back);
        for care in [Care::Careful, Care::LastResort] {
            for arm in std::iter::once(client.choice.arm).chain(others.clone()) {
                let picked = self.ask(client, arm, care, tried);
                recorder.asked(arm, care, picked.as_ref());
                if let Some(picked) = picked {
                    return Some((arm, picked));
                }
            }
        }
        None
    }

    fn ask(&self, client: &Client, arm: ArmIndex, care: Care, tried: &[ServerIndex]) -> Option<Picked> {
        let place = usize::from(arm.0);
        let backend = self.split.arms.get(place)?.backend;
        let asked = Asked {
            live: &self.table.live,
            share_key: &self.table.snapshot.keys.share,
            now: self.now,
            care,
            tried,
            affinity: client.affinity[place],
            sticky: client.sticky[place],
            cursor: self.cursors.position(backend),
            draw: self.draw,
        };
        self.table.snapshot.backend(backend).pool.pick(&asked)
    }
}

/// Where a request goes. Plain data without effect until [`Decision::take`]; dropping it costs nothing.
///
/// It belongs to the table that it was made with. Order of calls: `take` once and finish the permit; on a failure
/// that allows it `again`, with the servers tried so far, and the same with the new decision; when response headers
/// are written, `write_cookies` of the decision whose server answered.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    /// Of the snapshot's content, to recognise another table.
    stamp: u64,
    route: RouteIndex,
    arm: ArmIndex,
    picked: Picked,
    client: Client,
}

impl Decision {
    fn new(table: &Table, route: RouteIndex, client: Client, arm: ArmIndex, picked: Picked) -> Decision {
        Decision { stamp: stamp(table), route, arm, picked, client }
    }

    /// The route.
    pub fn route(&self) -> RouteIndex {
        self.route
    }

    /// The arm that serves.
    pub fn arm(&self) -> ArmIndex {
        self.arm
    }

    /// The arm that the session belongs to.
    pub fn chosen_arm(&self) -> ArmIndex {
        self.client.choice.arm
    }

    /// The server.
    pub fn server(&self) -> ServerIndex {
        self.picked.server
    }

    /// Why the session belongs to its arm.
    pub fn arm_reason(&self) -> ArmReason {
        self.client.choice.reason
    }

    /// Why this server.
    pub fn pick_reason(&self) -> PickReason {
        self.picked.reason
    }

    /// Whether another arm serves than the one that the session belongs to.
    pub fn fallback(&self) -> bool {
        self.arm != self.client.choice.arm
    }

    /// Whether the server is a backup.
    pub fn backup(&self) -> bool {
        self.picked.backup
    }

    /// The session's bucket, in hundredths of a percent; `None` where the route has one arm.
    pub fn bucket(&self) -> Option<u16> {
        self.client.choice.bucket
    }

    /// What the arm's sticky cookie said.
    pub(crate) fn sticky_seen(&self) -> StickySeen {
        self.client.sticky[usize::from(self.arm.0)]
    }

    /// What the session is hashed by; `None` where nothing depends on it.
    pub fn session(&self) -> Option<u128> {
        self.client.session.map(|session| session.id)
    }

    /// Begins the attempt: counts it as in flight and advances the cursor.
    ///
    /// # Panics
    /// May panic if `table` is not the table that the decision was made with.
    pub fn take(&self, table: &Table, cursors: &mut Cursors, now: Duration) -> Permit {
        // Policies that count with time take it from here; none does yet.
        let _ = now;
        debug_assert_eq!(self.stamp, stamp(table), "a decision belongs to its table");
        if let Some(position) = self.picked.cursor {
            cursors.set_position(table.snapshot.server(self.picked.server).backend, position);
        }
        Permit::begin(table.server_live(self.picked.server).clone())
    }

    /// Where to try next, `tried` being the servers that this exchange has tried: another server of the same arm,
    /// of another arm if that may be, or, only when there is no other, one that was tried. `None` if nobody can
    /// serve, or if `table` is not the one that the decision was made with: then the request is to be decided
    /// anew. Whether another attempt is safe and within budget is the caller's to know. A server that only closed a
    /// pooled connection is best left out of `tried`: it can serve, and a sticky session should stay with it.
    pub fn again(
        &self,
        table: &Table,
        cursors: &Cursors,
        tried: &[ServerIndex],
        now: Duration,
        random: u128,
    ) -> Option<Decision> {
        let (_, split) = self.of(table)?;
        let round = Round { table, split, cursors, now: now.into(), draw: Draw::new(random) };
        let served = round
            .serve(&self.client, tried, &mut Silent)
            .or_else(|| round.serve(&self.client, &[], &mut Silent));
        let (arm, picked) = served?;
        Some(Decision { arm, picked, ..*self })
    }

    /// Appends complete `set-cookie: ...\r\n` lines for those of our cookies that the client lacks or that have
    /// changed; true if any, and then the response is to say `Cache-Control: private` unless it is stricter
    /// already. A backup and a fallback arm are never named in one. Writes nothing if `table` is not the one that
    /// the decision was made with.
    pub fn write_cookies(&self, table: &Table, secure: bool, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let Some((backend, split)) = self.of(table) else { return false };
        if let Some(session) = self.client.session
            && session.is_new
        {
            cookie::write_set(table.snapshot.session_cookie(), &session.cookie_value(), secure, out);
        }
        if self.fallback() {
            return out.len() > before;
        }
        if let (Some(canary), Some(bucket)) = (&split.canary, self.client.choice.bucket)
            && self.client.choice.mark_due
            && let Some(value) = canary.mark_value(self.arm, bucket)
        {
            cookie::write_set(&canary.mark_cookie, value.as_ref(), secure, out);
        }
        let current = StickySeen::Known { server: self.server(), is_current: true };
        if let Some(sticky) = &backend.pool.sticky
            && !self.picked.backup
            && self.sticky_seen() != current
            && let Some(value) = sticky.value(self.server())
        {
            cookie::write_set(&sticky.cookie, value, secure, out);
        }
        out.len() > before
    }

    /// The backend and the split, if this is the decision's table.
    fn of<'a>(&self, table: &'a Table) -> Option<(&'a Backend, &'a Split)> {
        if self.stamp != stamp(table) {
            return None;
        }
        let Target::Backends(split) = &table.snapshot.route(self.route).target else { return None };
        let arm = split.arms.get(usize::from(self.arm.0))?;
        Some((table.snapshot.backend(arm.backend), split))
    }
}

/// Snapshots of equal content are interchangeable, so their content tells them apart well enough.
fn stamp(table: &Table) -> u64 {
    table.snapshot.hash().stamp()
}
