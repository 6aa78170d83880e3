//! How many requests one client may make on a route: who is counted as one, and what each of them owes.
//!
//! The rule is the generic cell rate algorithm (ITU-T I.371, annex A, virtual scheduling): a request costs the time that
//! passes between two at the rate, a client owes what it costs until that time has passed, and may owe as much as the burst.
//! So one number is all that must be known of a client: the time until which it owes.

mod debts;

pub(crate) use debts::Debts;

use crate::decide::{Refusal, RefusalReason, Verdict};
use crate::hash::{Keyed, Purpose, SecretKey};
use crate::live::{Now, Table};
use crate::snapshot::{ArmIndex, RouteIndex};
use crate::spec::{RateKey, RateSpec};
use crate::view::{Fields, RequestView};
use debts::Token;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// A route's rate, compiled.
#[derive(Debug)]
pub(crate) struct Rate {
    pub(crate) spec: RateSpec,
    pub(crate) pace: Pace,
    /// The leading bits of an IPv6 address that count.
    ipv6_bits: u128,
    /// Of a client on this route, the route being in it already.
    hash: Keyed,
}

/// What requests cost, and how much may be owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    cost_ns: u64,
    /// What may be owed before a request that is taken.
    credit_ns: u64,
}

/// Who makes a request, as a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client<'a> {
    /// An address; of IPv6 the first of its network.
    Source(IpAddr),
    Header(&'a [u8]),
    Everybody,
}

impl Pace {
    /// So many requests in a time, and so many at once. Costs are whole nanoseconds, rounded down: whoever keeps to the
    /// rate is never refused, and the rate that is kept is higher by a nanosecond for each request at most.
    pub(crate) fn new(requests: u32, per: Duration, burst: u32) -> Pace {
        let cost_ns = (Now::from(per).0 / u64::from(requests.max(1))).max(1);
        Pace { cost_ns, credit_ns: cost_ns.saturating_mul(u64::from(burst.max(1) - 1)) }
    }

    /// What a client that owes until then may be said to owe: no more than this rate lets anybody owe, for another one
    /// may have let it owe more.
    fn capped(self, until_ns: u64, now: Now) -> u64 {
        until_ns.min(now.0.saturating_add(self.credit_ns).saturating_add(self.cost_ns))
    }

    /// Until when a client owes that owes until `until_ns` and makes a request now.
    ///
    /// # Errors
    /// How long it has to wait before it may, in nanoseconds.
    fn charge(self, until_ns: u64, now: Now) -> Result<u64, u64> {
        let from_ns = self.capped(until_ns, now).max(now.0);
        match (from_ns - now.0).checked_sub(self.credit_ns) {
            None | Some(0) => Ok(from_ns.saturating_add(self.cost_ns)),
            Some(wait_ns) => Err(wait_ns),
        }
    }

    /// How many requests a client that owes until then may make at once.
    pub(crate) fn left(self, until_ns: u64, now: Now) -> u64 {
        let owed_ns = self.capped(until_ns, now).saturating_sub(now.0);
        self.credit_ns.saturating_add(self.cost_ns).saturating_sub(owed_ns) / self.cost_ns
    }
}

impl Rate {
    pub(crate) fn new(spec: RateSpec, share: &SecretKey, route: &str) -> Rate {
        let prefix_bits = u32::from(spec.ipv6_prefix_bits()).min(128);
        Rate {
            pace: Pace::new(spec.requests, spec.per, spec.burst()),
            ipv6_bits: u128::MAX.checked_shl(128 - prefix_bits).unwrap_or(0),
            hash: Keyed::new(share, Purpose::Rate).part(route.as_bytes()),
            spec,
        }
    }

    /// Who makes this request. Where a header is missing it is the address.
    pub(crate) fn client<'a, F: Fields + ?Sized>(&'a self, view: &RequestView<'a, F>) -> Client<'a> {
        let source = || match view.source.to_canonical() {
            IpAddr::V6(v6) => Client::Source(Ipv6Addr::from_bits(v6.to_bits() & self.ipv6_bits).into()),
            v4 @ IpAddr::V4(_) => Client::Source(v4),
        };
        match &self.spec.key {
            RateKey::Source => source(),
            RateKey::Header(name) => {
                view.header_values(name.as_bytes()).next().map_or_else(source, Client::Header)
            }
            RateKey::Route => Client::Everybody,
        }
    }

    fn token(&self, client: Client<'_>) -> Token {
        let hash = match client {
            Client::Source(IpAddr::V4(v4)) => self.hash.part(b"source").part(&v4.octets()),
            Client::Source(IpAddr::V6(v6)) => self.hash.part(b"source").part(&v6.octets()),
            Client::Header(value) => self.hash.part(b"header").part(value),
            Client::Everybody => self.hash.part(b"route"),
        };
        hash.finish().into()
    }

    /// Charges a request to who makes it.
    ///
    /// # Errors
    /// How long it has to wait before it may make one.
    fn charge(&self, debts: &Debts, client: Client<'_>, now: Now) -> Result<(), Duration> {
        debts.charge(self.token(client), self.pace, now).map_err(Duration::from_nanos)
    }

    /// How many requests a client may make at once, and how long it has to wait where there are none.
    pub(crate) fn standing(
        &self,
        debts: Option<&Debts>,
        client: Client<'_>,
        now: Now,
    ) -> (u64, Option<Duration>) {
        let until_ns = debts.map_or(0, |debts| debts.owed_until_ns(self.token(client)));
        let wait = self.pace.charge(until_ns, now).err().map(Duration::from_nanos);
        (self.pace.left(until_ns, now), wait)
    }
}

impl Verdict {
    /// Charges the request to who makes it, where its route has a [rate](crate::spec::RouteSpec::rate): once, between
    /// [`decide`](crate::decide()) and [`Decision::take`](crate::Decision::take), whatever was decided. Only a request
    /// whose path is refused costs nothing. Without rates it does nothing. `view` is what was decided, `now` of the clock
    /// that `decide` has. Allocates nothing and takes no lock.
    ///
    /// ```
    /// # use lb_core::spec::*;
    /// # use lb_core::{Cursors, RequestView, SecretKey, Table, Verdict, compile, decide};
    /// # use std::time::Duration;
    /// let login = RouteSpec { rate: Some(RateSpec::new(1, Duration::from_secs(10))), ..RouteSpec::new("login", "app") };
    /// # let server = ServerSpec::new("a", ([127, 0, 0, 1], 8001).into());
    /// # let spec = Spec {
    /// #     secrets: Secrets { share: Some(SecretKey::new([7; 16])), ..Secrets::default() },
    /// #     routes: vec![login],
    /// #     backends: vec![BackendSpec::new("app", [server])],
    /// #     ..Spec::default()
    /// # };
    /// # let table = Table::new(compile(&spec)?.snapshot, None);
    /// # let cursors = Cursors::default();
    /// let request = RequestView::get("shop.example.com", "/login", [192, 0, 2, 1].into());
    /// let ask = |now| decide(&table, &cursors, &request, now, 1).charge(&table, &request, now);
    /// assert!(ask(Duration::from_secs(60)).is_ok());
    /// let refusal = ask(Duration::from_secs(61)).unwrap_err();
    /// assert_eq!((refusal.status(), refusal.retry_after_s()), (429, Some(9)));
    /// assert!(ask(Duration::from_secs(70)).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The refusal to answer with in place of the verdict, and how long the client is to wait. The request cost nothing
    /// then.
    ///
    /// # Panics
    /// May panic if `table` is of another content than the one that the verdict was made with.
    #[inline]
    pub fn charge<F: Fields + ?Sized>(
        &self,
        table: &Table,
        view: &RequestView<'_, F>,
        now: Duration,
    ) -> Result<(), Refusal> {
        let Some(debts) = table.live.debts() else { return Ok(()) };
        let Some((index, arm)) = self.charged() else { return Ok(()) };
        let Some(rate) = &table.snapshot.route(index).rate else { return Ok(()) };
        rate.charge(debts, rate.client(view), now.into()).map_err(|wait| Refusal::for_rate(index, arm, wait))
    }

    /// The route that a request is charged on, and the arm that its session belongs to.
    pub(crate) fn charged(&self) -> Option<(RouteIndex, Option<ArmIndex>)> {
        match self {
            Verdict::Forward(decision) => Some((decision.route(), Some(decision.chosen_arm()))),
            Verdict::Answer(route) => Some((*route, None)),
            Verdict::Refuse(refusal) => match refusal.reason {
                RefusalReason::NoServer | RefusalReason::ArmDown => Some((refusal.route?, refusal.arm)),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// The rule in other words, and exact: a bucket of tokens that are worth `per` and of which `requests` drip in a
    /// `per`.
    struct Bucket {
        filled: u128,
        at_ns: u64,
    }

    impl Bucket {
        fn take(&mut self, requests: u32, per_ns: u64, burst: u32, now_ns: u64) -> bool {
            let token = u128::from(per_ns);
            let dripped = u128::from(now_ns - self.at_ns) * u128::from(requests);
            self.filled = (self.filled + dripped).min(token * u128::from(burst));
            self.at_ns = now_ns;
            let enough = self.filled >= token;
            self.filled -= if enough { token } else { 0 };
            enough
        }
    }

    fn paces() -> impl Strategy<Value = (u32, u64, u32)> {
        (1..2_000_u32, 1..200_u64, 1..60_u32)
            .prop_map(|(requests, cost_us, burst)| (requests, u64::from(requests) * cost_us * 1_000, burst))
    }

    proptest! {
        /// Where the cost is a whole number, it is the bucket to the nanosecond.
        #[test]
        fn like_a_bucket((requests, per_ns, burst) in paces(), gaps in prop::collection::vec(0..400_000_u64, 1..400)) {
            let pace = Pace::new(requests, Duration::from_nanos(per_ns), burst);
            let mut bucket = Bucket { filled: u128::from(per_ns) * u128::from(burst), at_ns: 5 };
            let (mut until_ns, mut now) = (0, 5);
            for gap in gaps {
                now += gap;
                let expected = bucket.take(requests, per_ns, burst, now);
                let left = pace.left(until_ns, Now(now));
                prop_assert_eq!(left > 0, expected);
                match pace.charge(until_ns, Now(now)) {
                    Ok(next) => until_ns = next,
                    Err(wait_ns) => {
                        prop_assert!(pace.charge(until_ns, Now(now + wait_ns)).is_ok(), "the wait is enough");
                        prop_assert!(pace.charge(until_ns, Now(now + wait_ns - 1)).is_err(), "and not too long");
                        prop_assert!(!expected);
                        continue;
                    }
                }
                prop_assert!(expected);
            }
        }

        /// Never more than the burst and what the rate gives, in any window; and whoever keeps to the rate is never
        /// refused, however the cost is rounded.
        #[test]
        fn no_window_has_more(
            requests in 1..5_000_u32,
            per_ns in 5_000_000..3_000_000_000_u64,
            burst in 1..40_u32,
            gaps in prop::collection::vec(0..3_000_000_u64, 1..400),
        ) {
            let pace = Pace::new(requests, Duration::from_nanos(per_ns), burst);
            let (mut until_ns, mut now) = (0, 0);
            let mut taken: VecDeque<u64> = VecDeque::new();
            for gap in gaps {
                now += gap;
                if let Ok(next) = pace.charge(until_ns, Now(now)) {
                    until_ns = next;
                    taken.push_back(now);
                    for (place, since) in taken.iter().enumerate() {
                        let count = (taken.len() - place) as u64;
                        prop_assert!(count <= u64::from(burst) + (now - since) / pace.cost_ns);
                    }
                }
            }
            let exact_ns = |nth: u64| (u128::from(nth) * u128::from(per_ns)).div_ceil(u128::from(requests)) as u64;
            let mut until_ns = 0;
            for nth in 0..2_000 {
                let came = pace.charge(until_ns, Now(exact_ns(nth)));
                prop_assert!(came.is_ok(), "{} of {} in {}", nth, requests, per_ns);
                until_ns = came.unwrap_or_default();
            }
        }

        /// A debt from under a slower rate is cut to what the new one allows.
        #[test]
        fn another_rate_takes_over((requests, per_ns, burst) in paces(), until_ns: u64, now in 0..u64::MAX / 2) {
            let pace = Pace::new(requests, Duration::from_nanos(per_ns), burst);
            if let Err(wait_ns) = pace.charge(until_ns, Now(now)) {
                prop_assert!(wait_ns <= pace.cost_ns);
            }
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let pace = Pace::new(1, Duration::from_secs(u64::MAX), u32::MAX);
        assert_eq!(pace.charge(u64::MAX, Now(u64::MAX)), Ok(u64::MAX));
        assert!(pace.left(u64::MAX, Now(0)) <= 1);
        assert_eq!(Pace::new(0, Duration::ZERO, 0).charge(0, Now(7)), Ok(8));
    }
}
