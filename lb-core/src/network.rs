//! Address ranges, as in `trusted`, `source` and `force_from`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address range in CIDR notation (RFC 4632). IPv4 addresses mapped into IPv6 count as IPv4, on both sides.
///
/// ```
/// let network: lb_core::Network = "10.1.0.0/16".parse().unwrap();
/// assert!(network.contains("10.1.2.3".parse().unwrap()));
/// assert!(network.contains("::ffff:10.1.2.3".parse().unwrap()));
/// assert!(!network.contains("10.2.0.0".parse().unwrap()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// Why a text is not a [`Network`]; its Display says what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkError {
    /// The part before `/` is not an IP address.
    Address,
    /// The part after `/` is not a number of bits that this kind of address has.
    Bits,
    /// The address has bits set beyond its prefix; most likely a slip of the pen.
    HostBits,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NetworkError::Address => "expected an IP address or a network such as 10.1.0.0/16 or fd00::/8",
            NetworkError::Bits => "expected a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6)",
            NetworkError::HostBits => "the address has bits set beyond its prefix length",
        })
    }
}

impl std::error::Error for NetworkError {}

impl Network {
    /// The network of `prefix_bits` leading bits of `address`.
    ///
    /// # Errors
    /// If there are more bits than the address has, or bits set beyond them.
    pub fn new(address: IpAddr, prefix_bits: u8) -> Result<Network, NetworkError> {
        let (address, prefix_bits) = match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(mapped)) if (96..=128).contains(&prefix_bits) => {
                (IpAddr::V4(mapped), prefix_bits - 96)
            }
            _ => (address, prefix_bits),
        };
        let width = if address.is_ipv4() { 32 } else { 128 };
        if prefix_bits > width {
            return Err(NetworkError::Bits);
        }
        let network = Network { address, prefix_bits };
        if bits(address) & !network.mask() != 0 { Err(NetworkError::HostBits) } else { Ok(network) }
    }

    /// Whether the address lies in this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && bits(address) & self.mask() == bits(self.address)
    }

    /// The leading bits that count.
    pub fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }

    /// The lowest address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    fn mask(&self) -> u128 {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        let ones = u128::MAX >> (128 - width);
        // A shift by the whole width is not defined for integers: /0 is spelled out.
        if self.prefix_bits == 0 { 0 } else { ones & (ones << (width - u32::from(self.prefix_bits))) }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let (address, prefix_bits) = match text.split_once('/') {
            Some((address, count)) => (address, Some(count)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix_bits {
            Some(count) if !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit()) => {
                count.parse().map_err(|_| NetworkError::Bits)?
            }
            Some(_) => return Err(NetworkError::Bits),
            None => width,
        };
        Network::new(address, prefix_bits)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn holds_what_it_says() {
        let cases = [
            ("0.0.0.0/0", "255.1.2.3", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "1.2.3.4", false),
            ("::/0", "2001:db8::1", true),
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.6/31", "192.0.2.7", true),
            ("::ffff:10.0.0.0/104", "10.3.4.5", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("2001:db8::/127", "2001:db8::1", true),
        ];
        for (range, address, expected) in cases {
            assert_eq!(network(range).contains(address.parse().unwrap()), expected, "{range} {address}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for (text, error) in [
            ("", NetworkError::Address),
            ("10.0.0/8", NetworkError::Address),
            ("10.0.0.0/33", NetworkError::Bits),
            ("10.0.0.0/", NetworkError::Bits),
            ("10.0.0.0/+8", NetworkError::Bits),
            ("::/129", NetworkError::Bits),
            ("10.0.0.1/8", NetworkError::HostBits),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text}");
        }
    }
}
