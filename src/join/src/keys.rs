use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    hkdf, hmac,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};

/// Keys that a region may have at once. Rotation needs two; more are keys that somebody forgot to remove.
const KEYS_MAX: usize = 16;

/// A region's secret (`encrypt`): 16, 24 or 32 bytes.
///
/// Servers hold it, and whoever was given it by the user. It never seals a packet itself: what clients on trust need for
/// gossip is a [`PacketKey`] made from it, so that they can not pass themselves off as someone who was given the secret.
#[derive(Clone, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct RegionKey(Vec<u8>);

impl RegionKey {
    /// Reads a key as configurations and `operator gossip keyring generate` write it.
    ///
    /// # Errors
    ///
    /// When it is not base64 of 16, 24 or 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        STANDARD.decode(text.trim()).map_err(|_| KeyError::Base64)?.try_into()
    }

    /// Draws a key of 32 bytes from the operating system.
    ///
    /// # Panics
    ///
    /// When the operating system has no entropy.
    pub fn generate() -> Self {
        let mut bytes = vec![0; 32];
        SystemRandom::new().fill(&mut bytes).expect("the operating system provides entropy");
        Self(bytes)
    }

    /// The key as configurations write it.
    pub fn expose_base64(&self) -> String {
        STANDARD.encode(&self.0)
    }

    /// What seals the packets of the region's own gossip.
    pub fn packet_key(&self) -> PacketKey {
        PacketKey(self.derive(b"region gossip"))
    }

    /// What seals the packets among servers of all regions.
    pub fn wide_key(&self) -> PacketKey {
        PacketKey(self.derive(b"wide gossip"))
    }

    /// What proves, on a connection, that its holder was given the key.
    pub(crate) fn proof_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.derive(b"join proof"))
    }

    fn derive(&self, label: &[u8]) -> [u8; 32] {
        let labels = [label];
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"wayfarer region key").extract(&self.0);
        let derived = secret.expand(&labels, hkdf::HKDF_SHA256).expect("32 bytes are within what is derived");
        let mut key = [0; 32];
        derived.fill(&mut key).expect("the lengths agree");
        key
    }
}

impl TryFrom<Vec<u8>> for RegionKey {
    type Error = KeyError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, KeyError> {
        match bytes.len() {
            16 | 24 | 32 => Ok(Self(bytes)),
            len => Err(KeyError::Length { len }),
        }
    }
}

impl From<RegionKey> for Vec<u8> {
    fn from(key: RegionKey) -> Self {
        key.0
    }
}

impl fmt::Debug for RegionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegionKey")
    }
}

/// What gossip seals its packets with.
#[derive(Clone, Copy, Eq, PartialEq, Serialize, Deserialize)]
pub struct PacketKey([u8; 32]);

impl PacketKey {
    /// The bytes, for the cipher.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PacketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PacketKey")
    }
}

/// Where a region's first key came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum KeyOrigin {
    /// From the user: whoever has it has been given it, and a server without it is turned away.
    Configured,
    /// The founder drew it: only servers have it.
    Generated,
}

/// All keys of a region, as its servers hold them. There is at least one.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawRing", into = "RawRing")]
pub struct KeyRing {
    /// The first one seals, all open.
    keys: Vec<RegionKey>,
    /// Where they came from.
    pub origin: KeyOrigin,
}

#[derive(Serialize, Deserialize)]
struct RawRing {
    keys: Vec<RegionKey>,
    origin: KeyOrigin,
}

impl KeyRing {
    /// Takes keys, the one that seals first.
    ///
    /// # Errors
    ///
    /// When there is none, or more than 16.
    pub fn new(keys: Vec<RegionKey>, origin: KeyOrigin) -> Result<Self, KeyError> {
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(KeyError::Count { count: keys.len() });
        }
        Ok(Self { keys, origin })
    }

    /// The ring of a region that begins: the user's key, or one that is drawn.
    pub fn first(configured: Option<&RegionKey>) -> Self {
        match configured {
            Some(key) => Self { keys: vec![key.clone()], origin: KeyOrigin::Configured },
            None => Self { keys: vec![RegionKey::generate()], origin: KeyOrigin::Generated },
        }
    }

    /// The keys, the one that seals first.
    pub fn keys(&self) -> &[RegionKey] {
        &self.keys
    }
}

impl TryFrom<RawRing> for KeyRing {
    type Error = KeyError;

    fn try_from(raw: RawRing) -> Result<Self, KeyError> {
        Self::new(raw.keys, raw.origin)
    }
}

impl From<KeyRing> for RawRing {
    fn from(ring: KeyRing) -> Self {
        Self { keys: ring.keys, origin: ring.origin }
    }
}

/// The keys that an agent is given, by its role.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum HandedKeys {
    /// A server: the keys themselves.
    Server(KeyRing),
    /// A client: what it needs for gossip, the one that seals first.
    Client(Vec<PacketKey>),
}

impl HandedKeys {
    /// What a client gets of a ring.
    pub fn for_client(ring: &KeyRing) -> Self {
        Self::Client(ring.keys.iter().map(RegionKey::packet_key).collect())
    }

    /// What the region's gossip seals and opens packets with, the one that seals first.
    pub fn packet_keys(&self) -> Vec<PacketKey> {
        match self {
            Self::Server(ring) => ring.keys.iter().map(RegionKey::packet_key).collect(),
            Self::Client(keys) => keys.clone(),
        }
    }

    /// The ring, on a server.
    pub fn ring(&self) -> Option<&KeyRing> {
        match self {
            Self::Server(ring) => Some(ring),
            Self::Client(_) => None,
        }
    }
}

/// A text or a list is no key. Nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// Not base64.
    #[error("the key is not base64: make one with 'wayfarer operator gossip keyring generate'")]
    Base64,
    /// Of another length.
    #[error(
        "the key has {len} bytes, must have 16, 24 or 32: make one with 'wayfarer operator gossip keyring generate'"
    )]
    Length {
        /// What it has.
        len: usize,
    },
    /// None or too many.
    #[error("a key ring of {count} keys can not be used, it has between 1 and {KEYS_MAX}")]
    Count {
        /// How many.
        count: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_what_it_writes_and_shows_itself_nowhere() {
        let key = RegionKey::generate();
        assert_eq!(RegionKey::from_base64(&key.expose_base64()), Ok(key.clone()));
        assert_eq!(format!("{key:?} {:?}", key.packet_key()), "RegionKey PacketKey");
        assert_eq!(RegionKey::from_base64("c2hvcnQ="), Err(KeyError::Length { len: 5 }));
        assert_eq!(RegionKey::from_base64("?"), Err(KeyError::Base64));
    }

    #[test]
    fn what_clients_are_given_is_not_the_key() {
        let ring = KeyRing::first(None);
        let key = &ring.keys()[0];
        let all = [*key.packet_key().expose(), *key.wide_key().expose(), key.derive(b"join proof")];
        assert!(all.iter().all(|derived| derived[..] != key.0[..]));
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
        let client = HandedKeys::for_client(&ring);
        assert_eq!(
            client.packet_keys(),
            HandedKeys::Server(ring).packet_keys(),
            "both open the same packets"
        );
        assert_eq!(client.ring(), None);
    }
}
