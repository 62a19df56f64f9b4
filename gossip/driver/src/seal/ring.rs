//! The key ring: one key seals, all open, so that a key can be changed while everyone goes on talking.

use super::key::{GossipKey, KeyId};

/// Keys of a ring. A rotation needs two; the rest is for rotations that were begun and never finished.
const KEYS_MAX: usize = 16;

/// Keys of one pool; the first seals. Never empty: an agent without a key does not gossip.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyRing {
    keys: Vec<GossipKey>,
}

/// Why a ring could not be changed; it is then as before.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChangeRingError {
    /// There are too many keys.
    #[error("the key ring is full with {KEYS_MAX} keys; remove one that is not used")]
    Full,
    /// Another key has the same short id.
    #[error("the key ring has another key with the same short id; generate a different one")]
    IdTaken,
    /// The key is not there.
    #[error("key {fingerprint} is not in the key ring; install it first")]
    NotThere {
        /// What was asked for.
        fingerprint: String,
    },
    /// The primary key can not be removed.
    #[error("key {fingerprint} is the primary key, which can not be removed; use another one first")]
    Primary {
        /// What was asked for.
        fingerprint: String,
    },
}

impl KeyRing {
    /// A ring of one key.
    pub fn new(primary: GossipKey) -> Self {
        Self { keys: vec![primary] }
    }

    /// Adds a key that opens but does not seal yet. A key that is there stays as it is.
    ///
    /// # Errors
    ///
    /// When the ring is full.
    pub fn install(&mut self, key: GossipKey) -> Result<(), ChangeRingError> {
        if self.keys.contains(&key) {
            return Ok(());
        }
        if self.by_id(key.id()).is_some() {
            return Err(ChangeRingError::IdTaken);
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(ChangeRingError::Full);
        }
        self.keys.push(key);
        Ok(())
    }

    /// Seals with a key from here on. Every agent must have it installed by then.
    ///
    /// # Errors
    ///
    /// When it is not in the ring.
    pub fn use_key(&mut self, key: &GossipKey) -> Result<(), ChangeRingError> {
        let at = self.position(key)?;
        let key = self.keys.remove(at);
        self.keys.insert(0, key);
        Ok(())
    }

    /// Removes a key: packets sealed with it are no longer read.
    ///
    /// # Errors
    ///
    /// When it is the primary key or not in the ring.
    pub fn remove(&mut self, key: &GossipKey) -> Result<(), ChangeRingError> {
        match self.position(key)? {
            0 => Err(ChangeRingError::Primary { fingerprint: key.fingerprint() }),
            at => {
                self.keys.remove(at);
                Ok(())
            }
        }
    }

    /// The keys, the primary first.
    pub fn keys(&self) -> &[GossipKey] {
        &self.keys
    }

    /// The key that seals.
    pub fn primary(&self) -> &GossipKey {
        self.keys.first().expect("a ring is made with a key, and its primary is never removed")
    }

    /// The key that a packet names. No other is tried: an id that fits none is not ours,
    /// and trying all keys would let a stranger make us work.
    pub(crate) fn by_id(&self, id: KeyId) -> Option<&GossipKey> {
        self.keys.iter().find(|key| key.id() == id)
    }

    fn position(&self, key: &GossipKey) -> Result<usize, ChangeRingError> {
        let missing = || ChangeRingError::NotThere { fingerprint: key.fingerprint() };
        self.keys.iter().position(|one| one == key).ok_or_else(missing)
    }
}
