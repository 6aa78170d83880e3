//! Rates as they are wanted.

use crate::defaults;
use std::time::Duration;

/// How many requests each client may make on a route. One more is refused with 429; see
/// [the guide](crate::guide::rates).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateSpec {
    /// So many requests,
    pub requests: u32,
    /// in such a time: a day at most, and no more than a million in a second.
    pub per: Duration,
    /// Requests that may come at once, after a while without any; absent: as many as `requests`.
    pub burst: Option<u32>,
    /// Who is counted as one.
    pub key: RateKey,
    /// Leading bits of an IPv6 address that count: clients of one network are one; absent: 64.
    pub ipv6_prefix: Option<u8>,
}

impl RateSpec {
    /// So many requests of each address in such a time, all of them at once if need be.
    pub fn new(requests: u32, per: Duration) -> RateSpec {
        RateSpec { requests, per, ..RateSpec::default() }
    }

    pub(crate) fn burst(&self) -> u32 {
        self.burst.unwrap_or(self.requests)
    }

    pub(crate) fn ipv6_prefix_bits(&self) -> u8 {
        self.ipv6_prefix.unwrap_or(defaults::RATE_IPV6_PREFIX)
    }
}

/// Who is counted as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateKey {
    /// A client's address (the default); of IPv6 its network.
    #[default]
    Source,
    /// A request header's value; the client's address where it is missing. Whoever can make values up is not bounded by
    /// it.
    Header(String),
    /// All clients together.
    Route,
}

/// How slowly a client may send a request body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyRateSpec {
    /// Bytes in a second, on average over the time in which the client is waited for.
    pub bytes: u64,
    /// Time that the client is given besides; absent: 10 s ([`defaults::BODY_GRACE`]).
    pub grace: Option<Duration>,
}
