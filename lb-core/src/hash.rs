//! The one hash that processes must agree on: SipHash-2-4 with 128 bits of output, keyed
//! (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012; the 128-bit variant of its authors).
//!
//! Input is a list of parts, each written as its length (8 bytes, little-endian) and its bytes, so that no two
//! lists are written alike; the first part is a [`Purpose`]. The output is read as a little-endian number.
//! `tests/core/vectors.rs` pins both the bare function and what we make of it.

mod sip;

use sip::Sip;
use std::fmt;

/// A 128-bit key. It is never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretKey([u8; 16]);

impl SecretKey {
    /// Takes the bytes as they are.
    pub fn new(bytes: [u8; 16]) -> SecretKey {
        SecretKey(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<SecretKey> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = crate::path::hex(pair[0])? << 4 | crate::path::hex(pair[1])?;
        }
        Some(SecretKey(bytes))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// The bare function, over bytes as they are.
pub fn siphash_2_4_128(key: &SecretKey, bytes: &[u8]) -> u128 {
    let mut sip = Sip::new(&key.0);
    sip.write(bytes);
    sip.finish()
}

/// What a hash is for; keeps uses of one key apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// The bucket of a session: route, release, session.
    Bucket,
    /// The authenticator of a mark: route, release, arm and bucket.
    Mark,
    /// A server's name in a sticky cookie: backend, server name, address if resolved.
    Sticky,
    /// A server's part of rendezvous hashing: backend, server name, address if resolved.
    Server,
    /// A server's permutation for Maglev's table: backend, server name, address if resolved.
    Maglev,
    /// A session out of something that is not our cookie: source or header value.
    Session,
    /// The key of a request for a hashing policy.
    Affinity,
    /// A client on a route with a rate.
    Rate,
}

impl Purpose {
    fn word(self) -> &'static [u8] {
        match self {
            Purpose::Bucket => b"bucket",
            Purpose::Mark => b"mark",
            Purpose::Sticky => b"sticky",
            Purpose::Server => b"server",
            Purpose::Maglev => b"maglev",
            Purpose::Session => b"session",
            Purpose::Affinity => b"affinity",
            Purpose::Rate => b"rate",
        }
    }
}

/// A hash in the making. Cloning one keeps the parts so far: a route keeps its own half-made.
#[derive(Clone, Copy, Debug)]
pub struct Keyed(Sip);

impl Keyed {
    /// Begins a hash.
    pub fn new(key: &SecretKey, purpose: Purpose) -> Keyed {
        Keyed(Sip::new(&key.0)).part(purpose.word())
    }

    /// Adds a part.
    pub fn part(mut self, bytes: &[u8]) -> Keyed {
        self.0.write_word(bytes.len() as u64);
        self.0.write(bytes);
        self
    }

    /// The hash of all parts.
    pub fn finish(self) -> u128 {
        self.0.finish()
    }
}

/// A fixed mixing of 64 bits, every input bit reaching every output bit (the finaliser of splitmix64, Steele,
/// Lea and Flood 2014). Not keyed: only for what is random or keyed already.
pub fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The content hash of a snapshot: BLAKE3 over the spec in a written-out form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// Its first eight bytes: enough to tell the snapshots of one process apart.
    pub fn stamp(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(first)
    }
}

impl fmt::Display for ContentHash {
    /// The first 16 hexadecimal digits, enough to tell two apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
