//! Rates: of a route's requests, and of their bodies.

use super::codes;
use super::problem::{Place, Problems};
use crate::cookie::is_token_byte;
use crate::defaults::{
    self, BODY_GRACE, BODY_RATE_MAX, RATE_BURST_MAX, RATE_PER_MAX, RATE_PER_SECOND_MAX, TIMEOUT_MAX,
};
use crate::rate::Rate;
use crate::snapshot::BodyRate;
use crate::spec::{BodyRateSpec, ClientAddress, ListenerSpec, RateKey, RateSpec, RouteSpec, SecretKey, Spec};

/// The rate of a route's requests.
pub(super) fn compile(
    spec: &Spec,
    route: &RouteSpec,
    share: &SecretKey,
    place: &Place,
    problems: &mut Problems,
) -> Option<Box<Rate>> {
    let rate = route.rate.as_ref()?;
    let place = place.field("rate");
    check(rate, &place, problems);
    if rate.key == RateKey::Source {
        check_sources(spec, route, &place, problems);
    }
    let mut rate = rate.clone();
    if let RateKey::Header(name) = &mut rate.key {
        name.make_ascii_lowercase();
    }
    Some(Rate::new(rate, share, &route.name).into())
}

fn check(rate: &RateSpec, place: &Place, problems: &mut Problems) {
    if rate.requests == 0 {
        let message = "a rate of no requests refuses everybody".to_owned();
        problems.error(codes::RATE, &place.field("requests"), message).expected("expected 1 or more");
    }
    if rate.per.is_zero() || rate.per > RATE_PER_MAX {
        let message = format!("a rate cannot be counted in {} s", rate.per.as_secs());
        problems
            .error(codes::RATE, &place.field("per"), message)
            .expected("expected more than 0 s and at most 24 h");
    } else if u128::from(rate.requests) * 1_000_000_000
        > rate.per.as_nanos() * u128::from(RATE_PER_SECOND_MAX)
    {
        let message = format!("{} requests in {:?} are too many to be counted", rate.requests, rate.per);
        problems
            .error(codes::RATE, &place.field("requests"), message)
            .expected(format!("expected no more than {RATE_PER_SECOND_MAX} in a second"));
    }
    let burst = rate.burst.unwrap_or(rate.requests.max(1));
    if !(1..=RATE_BURST_MAX).contains(&burst) {
        let message = format!("a burst of {burst} requests cannot be");
        problems
            .error(codes::RATE, &place.field("burst"), message)
            .expected(format!("expected 1 to {RATE_BURST_MAX}"));
    }
    if !(1..=128).contains(&rate.ipv6_prefix_bits()) {
        let message = format!("an IPv6 address has no prefix of {} bits", rate.ipv6_prefix_bits());
        problems.error(codes::RATE, &place.field("ipv6_prefix"), message).expected("expected 1 to 128");
    }
    if let RateKey::Header(name) = &rate.key
        && (name.is_empty() || !name.bytes().all(is_token_byte))
    {
        let message = format!("`{name}` cannot be the name of a header");
        problems.error(codes::HEADER, &place.field("key"), message);
    }
}

/// Warns where all clients behind a proxy would be counted as one.
fn check_sources(spec: &Spec, route: &RouteSpec, place: &Place, problems: &mut Problems) {
    let holds = |it: &&ListenerSpec| route.listeners.is_empty() || route.listeners.contains(&it.name);
    let mut listeners = spec.listeners.iter().filter(holds);
    let blind = listeners.find(|it| !it.trusted.is_empty() && it.client_address == ClientAddress::Peer);
    if let Some(listener) = blind {
        let name = &listener.name;
        let message =
            format!("behind each `trusted` proxy of the listener `{name}` all clients are counted as one");
        problems
            .warning(codes::RATE_OF_PROXIES, place, message)
            .expected("expected `client_address = \"x-forwarded-for\"` there");
    }
}

/// The least rate of request bodies.
pub(super) fn body_rate(
    spec: Option<BodyRateSpec>,
    place: &Place,
    problems: &mut Problems,
) -> Option<BodyRate> {
    let BodyRateSpec { bytes, grace } = spec?;
    let grace = grace.unwrap_or(BODY_GRACE);
    if !(1..=BODY_RATE_MAX).contains(&bytes) {
        let message = format!("nobody can be asked for {bytes} bytes in a second");
        problems
            .error(codes::BODY_RATE, &place.field("body_rate"), message)
            .expected("expected 1 byte to 1 GiB");
    }
    if grace < defaults::BODY_GRACE_MIN || grace > TIMEOUT_MAX {
        let message = format!("{} ms are no time to be given to a client", grace.as_millis());
        problems
            .error(codes::BODY_RATE, &place.field("body_grace"), message)
            .expected("expected 1 s to 7 days");
    }
    Some(BodyRate { bytes, grace })
}
