//! Choose: from a route and a session to an arm.
//!
//! A session falls into one of 10,000 buckets, `H(share key, route, release, session) mod 10,000`, and an arm
//! takes the buckets of an interval. So a share counts sessions, in steps of 0.01 %; raising it moves exactly the
//! sessions that it must; all nodes with the key agree; another release draws anew. The testers' word beats the
//! mark, the mark beats the share.

use crate::decide::ArmReason;
use crate::defaults::CANARY_COOKIE;
use crate::hash::{Keyed, Purpose};
use crate::jar::Jar;
use crate::network::Network;
use crate::session::{Keys, Mark, Marks, Session};
use crate::share::Share;
use crate::snapshot::ArmIndex;
use crate::spec::{CanarySpec, Fallback, Marked, SessionKey};
use std::net::IpAddr;

/// The arm that a canary is, as long as there is one at most.
pub(crate) const CANARY: ArmIndex = ArmIndex(1);

/// A canary and all that decides about it, compiled.
#[derive(Debug)]
pub(crate) struct Canary {
    pub(crate) key: SessionKey,
    pub(crate) release: Box<str>,
    share: Share,
    pub(crate) mark_cookie: Box<str>,
    fallback: Fallback,
    forced_fallback: Fallback,
    force_from: Box<[Network]>,
    force_value: Option<Box<str>>,
    marked: Marked,
    marks: Marks,
    /// Half-made: route and release are in it.
    bucket: Keyed,
}

/// The arm that a session belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) arm: ArmIndex,
    pub(crate) reason: ArmReason,
    /// The session's bucket; `None` where the route has one arm only.
    pub(crate) bucket: Option<u16>,
    /// Whether a response of this arm is to carry a mark that the client does not have yet.
    pub(crate) mark_due: bool,
    /// Whether the other arm may serve where this one cannot.
    pub(crate) may_fall_back: bool,
}

impl Choice {
    /// The choice where there is none.
    pub(crate) const ONLY: Choice = Choice {
        arm: ArmIndex::STABLE,
        reason: ArmReason::Only,
        bucket: None,
        mark_due: false,
        may_fall_back: false,
    };
}

impl Canary {
    pub(crate) fn new(keys: &Keys, route: &str, spec: &CanarySpec) -> Canary {
        let boxed = |text: &String| text.as_str().into();
        Canary {
            key: spec.key.clone(),
            release: boxed(&spec.release),
            share: spec.share,
            mark_cookie: mark_cookie(spec).into(),
            fallback: spec.fallback,
            forced_fallback: spec.forced_fallback.unwrap_or(Fallback::Refuse),
            force_from: spec.force_from.as_slice().into(),
            force_value: spec.force_value.as_ref().map(boxed),
            marked: spec.marked,
            marks: Marks::new(keys, route, &spec.release),
            bucket: Keyed::new(&keys.share, Purpose::Bucket)
                .part(route.as_bytes())
                .part(spec.release.as_bytes()),
        }
    }

    /// The arm that a session belongs to.
    pub(crate) fn choose(&self, jar: &Jar<'_>, session: &Session, source: IpAddr) -> Choice {
        let mark = jar.mark.filter(|_| self.has_marks()).and_then(|value| self.marks.verify(value));
        let bucket = mark.map_or_else(|| self.bucket_of(session), |(mark, _)| mark.bucket);
        if let Some(arm) = self.forced(jar.tester, source) {
            let may_fall_back = self.forced_fallback == Fallback::Other;
            // No mark: it says where the share has put a session, and must not outlive the testers' cookie.
            return Choice {
                arm,
                reason: ArmReason::Forced,
                bucket: Some(bucket),
                mark_due: false,
                may_fall_back,
            };
        }
        let (arm, reason) = match mark {
            Some((mark, _)) if self.marked == Marked::Stay => (ArmIndex(mark.arm), ArmReason::Mark),
            Some((mark, _)) => (self.arm_of(mark.bucket), ArmReason::Mark),
            None => (self.arm_of(bucket), ArmReason::Share),
        };
        let wanted = Mark { bucket, arm: arm.0 };
        let mark_due = arm == CANARY && self.has_marks() && mark != Some((wanted, true));
        let may_fall_back = self.fallback == Fallback::Other;
        Choice { arm, reason, bucket: Some(bucket), mark_due, may_fall_back }
    }

    /// The value of the mark for a session of this arm in this bucket.
    pub(crate) fn mark_value(&self, arm: ArmIndex, bucket: u16) -> Option<impl AsRef<[u8]> + use<>> {
        self.marks.sign(Mark { bucket, arm: arm.0 })
    }

    /// With a draw for each request there is nothing to recognise; a mark would hold ever more clients.
    fn has_marks(&self) -> bool {
        self.key != SessionKey::Draw
    }

    fn bucket_of(&self, session: &Session) -> u16 {
        let hash = self.bucket.part(&session.id().to_le_bytes()).finish();
        remainder(hash, Share::WHOLE.into()) as u16
    }

    fn arm_of(&self, bucket: u16) -> ArmIndex {
        if bucket < self.share.hundredths() { CANARY } else { ArmIndex::STABLE }
    }

    /// The testers' word. The networks guard both words; the value guards `always` only, for staying out of the
    /// canary is nobody's secret.
    fn forced(&self, word: Option<&[u8]>, source: IpAddr) -> Option<ArmIndex> {
        let word = word?;
        if !self.force_from.is_empty() && !self.force_from.iter().any(|network| network.contains(source)) {
            return None;
        }
        let always = self.force_value.as_deref().unwrap_or("always");
        match word {
            _ if word == always.as_bytes() => Some(CANARY),
            b"never" => Some(ArmIndex::STABLE),
            _ => None,
        }
    }
}

/// `number % divisor`, for small divisors: a division of 128 bits is a call, and ten times as long.
fn remainder(number: u128, divisor: u64) -> u64 {
    let (high, low) = ((number >> 64) as u64, number as u64);
    // 2^64 = (2^64 - 1) + 1
    let of_high = high % divisor * (u64::MAX % divisor + 1) % divisor;
    (of_high + low % divisor) % divisor
}

/// Name of a canary's mark cookie.
pub(crate) fn mark_cookie(spec: &CanarySpec) -> String {
    spec.mark_cookie.clone().unwrap_or_else(|| {
        let tester = spec.cookie.as_deref().unwrap_or(CANARY_COOKIE);
        format!("{tester}{}", crate::defaults::MARK_COOKIE_SUFFIX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::SecretKey;

    fn keys() -> Keys {
        Keys { signing: [SecretKey::new([1; 16])].into(), share: SecretKey::new([2; 16]) }
    }

    fn canary(change: impl FnOnce(&mut CanarySpec)) -> Canary {
        let mut spec = CanarySpec {
            share: "50%".parse().unwrap(),
            cookie: Some("canary".into()),
            ..CanarySpec::default()
        };
        change(&mut spec);
        Canary::new(&keys(), "cart", &spec)
    }

    fn session(id: u128) -> Session {
        Session::new(id, false)
    }

    fn here() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    /// A session of each arm at 50 %.
    fn one_of(arm: ArmIndex) -> Session {
        let canary = canary(|_| ());
        (0..).map(session).find(|it| canary.choose(&Jar::default(), it, here()).arm == arm).unwrap()
    }

    #[test]
    fn remainders() {
        for number in
            [0, 1, 9_999, 10_000, u128::from(u64::MAX), u128::from(u64::MAX) + 1, u128::MAX, 1 << 100]
        {
            for divisor in [1, 3, 9_999, 10_000, 65_537] {
                assert_eq!(u128::from(remainder(number, divisor)), number % u128::from(divisor));
            }
        }
    }

    #[test]
    fn the_testers_word() {
        let stable = one_of(ArmIndex::STABLE);
        let open = canary(|spec| spec.share = Share::NONE);
        let from = canary(|spec| spec.force_from = vec!["10.0.0.0/8".parse().unwrap()]);
        let value = canary(|spec| spec.force_value = Some("s3cret".into()));
        let inside: IpAddr = "10.0.0.7".parse().unwrap();
        let cases: &[(&Canary, &str, IpAddr, Option<ArmIndex>)] = &[
            (&open, "always", here(), Some(CANARY)),
            (&open, "never", here(), Some(ArmIndex::STABLE)),
            (&open, "Always", here(), None),
            (&open, "", here(), None),
            (&from, "always", here(), None),
            (&from, "never", here(), None),
            (&from, "always", inside, Some(CANARY)),
            (&value, "always", here(), None),
            (&value, "s3cret", here(), Some(CANARY)),
            (&value, "never", here(), Some(ArmIndex::STABLE)),
        ];
        for (canary, word, source, forced) in cases {
            let jar = Jar { tester: Some(word.as_bytes()), ..Jar::default() };
            let choice = canary.choose(&jar, &stable, *source);
            assert_eq!(choice.reason == ArmReason::Forced, forced.is_some(), "{word} {source}");
            assert_eq!(choice.arm, forced.unwrap_or(ArmIndex::STABLE), "{word} {source}");
            assert_eq!(choice.may_fall_back, forced.is_none(), "a forced word refuses by default");
            assert!(!choice.mark_due);
        }
    }

    #[test]
    fn a_mark_follows_or_stays() {
        let marked = one_of(CANARY);
        let before = canary(|_| ());
        let first = before.choose(&Jar::default(), &marked, here());
        assert!(first.mark_due);
        let value = before.mark_value(first.arm, first.bucket.unwrap()).unwrap();
        let jar = Jar { mark: Some(value.as_ref()), ..Jar::default() };
        // Another key for the same client (a new address, a lost cookie): the mark is what counts.
        let changed = one_of(ArmIndex::STABLE);
        let again = before.choose(&jar, &changed, here());
        assert_eq!((again.arm, again.reason, again.mark_due), (CANARY, ArmReason::Mark, false));

        let lowered = |marked_as| {
            canary(|spec| {
                spec.share = Share::NONE;
                spec.marked = marked_as;
            })
        };
        assert_eq!(lowered(Marked::Follow).choose(&jar, &marked, here()).arm, ArmIndex::STABLE);
        assert_eq!(lowered(Marked::Stay).choose(&jar, &marked, here()).arm, CANARY);
        let released = canary(|spec| {
            spec.share = Share::NONE;
            spec.marked = Marked::Stay;
            spec.release = "next".into();
        });
        assert_eq!(released.choose(&jar, &marked, here()).arm, ArmIndex::STABLE);
        let drawn = canary(|spec| spec.key = SessionKey::Draw);
        assert!(!drawn.choose(&Jar::default(), &marked, here()).mark_due);
        assert_eq!(drawn.choose(&jar, &changed, here()).arm, ArmIndex::STABLE);
    }
}
