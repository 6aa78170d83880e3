//! The client's address: the peer's, or what trusted peers say about it.

use crate::defaults::HOPS_MAX;
use crate::network::Network;
use crate::snapshot::Listener;
use crate::spec::ClientAddress;
use crate::view::Fields;
use std::net::{IpAddr, SocketAddr};

/// Who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The client's address; rules, hashes and limits all use it.
    pub address: IpAddr,
    /// Whether the peer of the connection is trusted: its X-Forwarded-* and x-request-id are believed.
    pub trusted: bool,
}

/// What a listener says about where the client's address is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerRules {
    /// Peers (and hops) that are believed.
    pub trusted: Vec<Network>,
    /// Where the address is read.
    pub client_address: ClientAddress,
}

impl ListenerRules {
    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

impl AsRef<ListenerRules> for Listener {
    fn as_ref(&self) -> &ListenerRules {
        &self.rules
    }
}

/// The client behind a connection's peer. With [`ClientAddress::XForwardedFor`] and a trusted peer that is the
/// rightmost hop of X-Forwarded-For outside the trusted networks; if all are inside, the leftmost one; if a hop
/// is not an address, the last good one to its right, for nothing beyond it can be believed.
pub fn effective<F: Fields + ?Sized>(peer: IpAddr, fields: &F, rules: &ListenerRules) -> Source {
    let peer = peer.to_canonical();
    let trusted = rules.trusts(peer);
    if !trusted || rules.client_address != ClientAddress::XForwardedFor {
        return Source { address: peer, trusted };
    }
    Source { address: behind(peer, fields, rules), trusted }
}

fn behind<F: Fields + ?Sized>(peer: IpAddr, fields: &F, rules: &ListenerRules) -> IpAddr {
    // Fields can be walked forwards only, and hops count from the right: the last hops are kept in a ring.
    let mut hops: [Option<IpAddr>; HOPS_MAX] = [None; HOPS_MAX];
    let mut count = 0_usize;
    let values = fields.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"x-forwarded-for"));
    for hop in values.flat_map(|(_, value)| value.split(|byte| *byte == b',')) {
        let hop = hop.trim_ascii();
        if !hop.is_empty() {
            hops[count % HOPS_MAX] = parse_hop(hop);
            count += 1;
        }
    }
    let mut address = peer;
    for back in 1..=count.min(HOPS_MAX) {
        let Some(hop) = hops[(count - back) % HOPS_MAX] else { return address };
        address = hop;
        if !rules.trusts(hop) {
            break;
        }
    }
    address
}

/// An address, alone, in brackets, or with a port.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let rules = ListenerRules {
            trusted: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            client_address: ClientAddress::XForwardedFor,
        };
        let cases: &[(&str, &[&str], &str, bool)] = &[
            ("192.0.2.1", &["198.51.100.7"], "192.0.2.1", false),
            ("10.0.0.1", &[], "10.0.0.1", true),
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7", true),
            ("::ffff:10.0.0.1", &["198.51.100.7"], "198.51.100.7", true),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.0.0.2"], "198.51.100.7", true),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.7", "10.0.0.2"], "198.51.100.7", true),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3", true),
            ("10.0.0.1", &["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2", true),
            ("10.0.0.1", &["198.51.100.7:1234"], "198.51.100.7", true),
            ("10.0.0.1", &["[2001:db8::1]:80 ,"], "2001:db8::1", true),
            ("fd00::1", &["[2001:db8::1]"], "2001:db8::1", true),
            ("10.0.0.1", &["\u{fffd}"], "10.0.0.1", true),
        ];
        for (peer, values, address, trusted) in cases {
            let fields: Vec<_> = values.iter().map(|value| ("X-Forwarded-For", *value)).collect();
            let source = effective(peer.parse().unwrap(), &fields, &rules);
            assert_eq!(
                source,
                Source { address: address.parse().unwrap(), trusted: *trusted },
                "{peer} {values:?}"
            );
        }
    }

    #[test]
    fn many_hops_are_bounded() {
        let rules = ListenerRules {
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            client_address: ClientAddress::XForwardedFor,
        };
        let mut hops: Vec<String> = (0..200).map(|hop| format!("10.0.1.{hop}")).collect();
        let fields = [("x-forwarded-for", hops.join(","))];
        let source = effective("10.0.0.1".parse().unwrap(), &fields, &rules);
        assert_eq!(source.address.to_string(), "10.0.1.136");
        hops[150] = "8.8.8.8".into();
        let fields = [("x-forwarded-for", hops.join(","))];
        assert_eq!(effective("10.0.0.1".parse().unwrap(), &fields, &rules).address.to_string(), "8.8.8.8");
    }
}
