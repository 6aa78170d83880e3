//! What a request is hashed by: where equal ones are to meet the same server.

use crate::hash::{Keyed, Purpose, SecretKey};
use crate::session::{Address, Session, with_address};
use crate::spec::HashKey;
use std::net::IpAddr;

/// How a backend hashes requests.
#[derive(Debug)]
pub(crate) struct Hashing {
    /// What its policy hashes; `None` if it does not hash. Sessions that must move are hashed all the same.
    pub(crate) key: Option<HashKey>,
    /// Half-made.
    session: Keyed,
    /// Half-made.
    source: Keyed,
}

/// What is known of a request that it can be hashed by. It is hashed only where that is asked for: most requests
/// need none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affinity<'a> {
    pub(crate) session: &'a Option<Session>,
    pub(crate) source: &'a Address,
    /// The hash of what else the backend's policy hashes: a header, the path, a query parameter.
    pub(crate) value: u64,
}

impl Hashing {
    /// `key` is what a hashing policy hashes.
    pub(crate) fn new(share_key: &SecretKey, key: Option<HashKey>) -> Hashing {
        let hash = |kind: &[u8]| Keyed::new(share_key, Purpose::Affinity).part(kind);
        Hashing { key, session: hash(b"session"), source: hash(b"source") }
    }

    /// The hash of a client's address.
    pub(crate) fn of_source(&self, source: IpAddr) -> u64 {
        with_address(self.source, source).finish() as u64
    }

    /// The hash that picks a server.
    pub(super) fn of(&self, affinity: Affinity<'_>) -> u64 {
        match (&self.key, affinity.session) {
            (Some(HashKey::Header(_) | HashKey::Path | HashKey::Query(_)), _) => affinity.value,
            // Without a session nothing but the address tells those of one server apart when they must move.
            (Some(HashKey::Source), _) | (_, None) => self.of_source((*affinity.source).into()),
            (None | Some(HashKey::Session), Some(session)) => {
                self.session.part(&session.id().to_le_bytes()).finish() as u64
            }
        }
    }
}
