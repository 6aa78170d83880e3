//! What a route's rate says of who asks.

use super::{Teller, lossy};
use crate::decide::{Refusal, Verdict};
use crate::rate::Client;
use crate::spec::RateKey;
use crate::view::{Fields, RequestView};
use std::net::IpAddr;
use std::time::Duration;

/// A route's rate, and how a client stands by it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateNote {
    /// So many requests,
    pub requests: u32,
    /// in such a time.
    pub per: Duration,
    /// Requests that may come at once.
    pub burst: u32,
    /// Who is counted as one: `source 2001:db8::/64`, `header x-api-key` or `all clients`.
    pub client: String,
    /// How many requests it may make at once now.
    pub left: u64,
    /// How long it has to wait; `None` if it may make one.
    pub wait: Option<Duration>,
}

impl Teller<'_> {
    /// The rate of the route that the request is charged on, and the verdict in which that ends.
    pub(super) fn rate<F: Fields + ?Sized>(
        &self,
        view: &RequestView<'_, F>,
        verdict: Verdict,
    ) -> (Option<RateNote>, Verdict) {
        let Some((index, arm)) = verdict.charged() else { return (None, verdict) };
        let Some(rate) = &self.table.snapshot.route(index).rate else { return (None, verdict) };
        let client = rate.client(view);
        let (left, wait) = rate.standing(self.table.live.debts(), client, self.now.into());
        let note = RateNote {
            requests: rate.spec.requests,
            per: rate.spec.per,
            burst: rate.spec.burst(),
            client: match (client, &rate.spec.key) {
                (Client::Source(IpAddr::V6(v6)), _) => {
                    format!("source {v6}/{}", rate.spec.ipv6_prefix_bits())
                }
                (Client::Source(v4), _) => format!("source {v4}"),
                (Client::Header(_), RateKey::Header(name)) => format!("header {}", lossy(name.as_bytes())),
                _ => "all clients".to_owned(),
            },
            left,
            wait,
        };
        let verdict = wait.map_or(verdict, |wait| Verdict::Refuse(Refusal::for_rate(index, arm, wait)));
        (Some(note), verdict)
    }
}
