//! Sessions, and what our cookies say: encoding, signing, verifying.

use crate::cookie::{decode, decode_number, encode, encoded_len};
use crate::hash::{Keyed, Purpose, SecretKey};
use crate::view::{Fields, RequestView};
use std::net::{IpAddr, Ipv6Addr};

/// The keys of a snapshot.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The first signs, all verify.
    pub(crate) signing: Box<[SecretKey]>,
    /// Decides shares and rendezvous hashing.
    pub(crate) share: SecretKey,
}

/// A client as a cookie or another key makes it recognisable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// What is hashed.
    id: Id,
    /// Whether it came into being with this request, so that its cookie is yet to be set.
    pub(crate) is_new: bool,
}

/// A number of 128 bits, its lower half first: as one number it would make everything that holds a session larger.
type Id = [u64; 2];

impl Session {
    pub(crate) fn new(id: u128, is_new: bool) -> Session {
        Session { id: [id as u64, (id >> 64) as u64], is_new }
    }

    /// What is hashed.
    pub(crate) fn id(&self) -> u128 {
        u128::from(self.id[1]) << 64 | u128::from(self.id[0])
    }

    /// The session that a request's session cookie names, or a new one made of random bits.
    pub(crate) fn from_cookie(value: Option<&[u8]>, random: u128) -> Session {
        match value.and_then(decode_number) {
            Some(id) => Session::new(id, false),
            None => Session::new(random, true),
        }
    }

    /// The session that a client's address stands for.
    pub(crate) fn from_source(keys: &Keys, source: IpAddr) -> Session {
        let hash = Keyed::new(&keys.share, Purpose::Session).part(b"source");
        Session::new(with_address(hash, source).finish(), false)
    }

    /// The session that a header's value stands for; where it is missing, the client's address.
    pub(crate) fn from_header<F: Fields + ?Sized>(
        keys: &Keys,
        view: &RequestView<'_, F>,
        name: &str,
    ) -> Session {
        match view.header_values(name.as_bytes()).next() {
            Some(value) => {
                let hash = Keyed::new(&keys.share, Purpose::Session).part(b"header").part(value);
                Session::new(hash.finish(), false)
            }
            None => Session::from_source(keys, view.source),
        }
    }

    /// The session of this one request.
    pub(crate) fn from_draw(random: u128) -> Session {
        Session::new(random, false)
    }

    /// The value of its cookie.
    pub(crate) fn cookie_value(&self) -> [u8; encoded_len(16)] {
        encode(&self.id().to_le_bytes())
    }
}

/// A client's address, IPv4 being mapped into IPv6 (RFC 4291, section 2.5.5.2): two words, the lower one first, which
/// are copied at once, as the 17 bytes of an `IpAddr` are not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address([u64; 2]);

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Address {
        let bits = match address {
            IpAddr::V4(v4) => 0xffff << 32 | u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        Address([bits as u64, (bits >> 64) as u64])
    }
}

impl From<Address> for IpAddr {
    fn from(Address([low, high]): Address) -> IpAddr {
        Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).to_canonical()
    }
}

/// Adds an address as a part, in a form that is the same however it was written.
pub(crate) fn with_address(hash: Keyed, address: IpAddr) -> Keyed {
    match address.to_canonical() {
        IpAddr::V4(v4) => hash.part(&v4.octets()),
        IpAddr::V6(v6) => hash.part(&v6.octets()),
    }
}

/// What a mark says: that this session was served by this arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) bucket: u16,
    pub(crate) arm: u8,
}

/// Bytes of a mark: bucket, arm, authenticator.
const MARK_BYTES: usize = 2 + 1 + 16;

/// Signs and verifies the marks of one route and release.
#[derive(Debug)]
pub(crate) struct Marks {
    /// One half-made hash for each signing key, route and release being in it already.
    hashes: Box<[Keyed]>,
}

impl Marks {
    pub(crate) fn new(keys: &Keys, route: &str, release: &str) -> Marks {
        let hash = |key| Keyed::new(key, Purpose::Mark).part(route.as_bytes()).part(release.as_bytes());
        Marks { hashes: keys.signing.iter().map(hash).collect() }
    }

    /// The mark in a cookie's value, if one of our keys signed it for this route and release; and whether the
    /// signing key is the first, so that it need not be written again.
    pub(crate) fn verify(&self, value: &[u8]) -> Option<(Mark, bool)> {
        let bytes = decode::<MARK_BYTES>(value)?;
        let mark = Mark { bucket: u16::from_be_bytes([bytes[0], bytes[1]]), arm: bytes[2] };
        let place = self.hashes.iter().position(|hash| seal(*hash, mark) == bytes)?;
        Some((mark, place == 0))
    }

    /// The value of a cookie with this mark; `None` without a key.
    pub(crate) fn sign(&self, mark: Mark) -> Option<[u8; encoded_len(MARK_BYTES)]> {
        Some(encode(&seal(*self.hashes.first()?, mark)))
    }
}

fn seal(hash: Keyed, mark: Mark) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[..2].copy_from_slice(&mark.bucket.to_be_bytes());
    bytes[2] = mark.arm;
    let authenticator = hash.part(&bytes[..3]).finish();
    bytes[3..].copy_from_slice(&authenticator.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(signing: &[u8]) -> Keys {
        Keys {
            signing: signing.iter().map(|byte| SecretKey::new([*byte; 16])).collect(),
            share: SecretKey::new([9; 16]),
        }
    }

    #[test]
    fn marks_hold_for_their_route_and_release_only() {
        let mark = Mark { bucket: 199, arm: 1 };
        let value = Marks::new(&keys(&[1]), "cart", "r1").sign(mark).unwrap();
        assert_eq!(Marks::new(&keys(&[1]), "cart", "r1").verify(&value), Some((mark, true)));
        assert_eq!(Marks::new(&keys(&[2, 1]), "cart", "r1").verify(&value), Some((mark, false)));
        assert_eq!(Marks::new(&keys(&[2]), "cart", "r1").verify(&value), None);
        assert_eq!(Marks::new(&keys(&[1]), "cart", "r2").verify(&value), None);
        assert_eq!(Marks::new(&keys(&[1]), "shop", "r1").verify(&value), None);
        assert_eq!(Marks::new(&keys(&[1]), "car", "tr1").verify(&value), None);
    }

    #[test]
    fn no_changed_mark_is_accepted() {
        let marks = Marks::new(&keys(&[1]), "cart", "r1");
        let value = marks.sign(Mark { bucket: 199, arm: 1 }).unwrap();
        for place in 0..value.len() {
            for digit in [b'A', b'z', b'_', b'!', 0xff] {
                let mut other = value;
                other[place] = digit;
                assert_eq!(marks.verify(&other).is_some(), other == value, "{place}");
            }
            assert_eq!(marks.verify(&value[..place]), None);
        }
    }
}
