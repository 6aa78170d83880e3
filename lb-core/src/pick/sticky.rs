//! Stickiness: a cookie that brings a session back to its server.
//!
//! Its value is the hash of (backend, server name) for a literal address and of (backend, server name, address)
//! for a resolved one, keyed with a signing key: opaque, not to be forged, and the same as long as the server is.

use crate::cookie::{decode_number, encode, encoded_len};
use crate::hash::{Keyed, Purpose, SecretKey};
use crate::live::Identity;
use crate::map::TokenMap;
use crate::session::with_address;
use crate::snapshot::ServerIndex;

/// What a request's sticky cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StickySeen {
    /// There is none.
    Nothing,
    /// It names a server.
    Known {
        server: ServerIndex,
        /// By the key that signs now; else it is to be written again.
        is_current: bool,
    },
    /// It names nothing that we know: a server that is gone, or a key that is.
    Unknown,
}

/// The sticky cookie of a backend.
#[derive(Debug)]
pub(crate) struct Sticky {
    pub(crate) cookie: Box<str>,
    /// Every server under every key.
    by_token: TokenMap<(ServerIndex, bool)>,
    /// By the first key, in the order of the servers.
    values: Box<[(ServerIndex, [u8; encoded_len(16)])]>,
}

impl Sticky {
    /// The cookie for servers in their order, each with whether its address came out of a name. Backups are to be
    /// left out: no cookie ever names one.
    pub(crate) fn new<'a>(
        cookie: &str,
        signing: &[SecretKey],
        servers: impl Iterator<Item = (ServerIndex, &'a Identity, bool)>,
    ) -> Sticky {
        let (mut by_token, mut values) = (TokenMap::default(), Vec::new());
        for (server, identity, resolved) in servers {
            for (place, key) in signing.iter().enumerate() {
                let token = token(key, identity, resolved);
                by_token.insert(token, (server, place == 0));
                if place == 0 {
                    values.push((server, encode(&token.to_le_bytes())));
                }
            }
        }
        Sticky { cookie: cookie.into(), by_token, values: values.into() }
    }

    pub(crate) fn read(&self, value: Option<&[u8]>) -> StickySeen {
        let Some(value) = value else { return StickySeen::Nothing };
        match decode_number(value).and_then(|token| self.by_token.get(&token)) {
            Some(&(server, is_current)) => StickySeen::Known { server, is_current },
            None => StickySeen::Unknown,
        }
    }

    /// The value that names a server; `None` for one that no cookie names.
    pub(crate) fn value(&self, server: ServerIndex) -> Option<&[u8]> {
        let place = self.values.binary_search_by_key(&server, |(server, _)| *server).ok()?;
        Some(&self.values[place].1)
    }
}

fn token(key: &SecretKey, identity: &Identity, resolved: bool) -> u128 {
    with_identity(Keyed::new(key, Purpose::Sticky), identity, resolved).finish()
}

/// Adds what makes a server the same server: the address only where it is what tells servers apart.
pub(crate) fn with_identity(hash: Keyed, identity: &Identity, resolved: bool) -> Keyed {
    let hash = hash.part(identity.backend.as_bytes()).part(identity.name.as_bytes());
    if !resolved {
        return hash;
    }
    with_address(hash, identity.address.ip()).part(&identity.address.port().to_be_bytes())
}
