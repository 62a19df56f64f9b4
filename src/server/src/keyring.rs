//! The keys of a region: making one, and what is derived from it.

use model::{RootKey, RootSecret, Timestamp};
use ring::{
    hkdf::{HKDF_SHA256, Salt},
    signature::{Ed25519KeyPair, KeyPair},
};
use runtime::Env;
use uuid::Uuid;

/// What the signing key is derived for: other uses of a secret get other keys.
const SIGNING: &[u8] = b"wayfarer keyring: signing";

/// Length of a seed of Ed25519.
struct Seed;

impl ring::hkdf::KeyType for Seed {
    fn len(&self) -> usize {
        32
    }
}

/// Makes a key that is in use from when it is committed.
pub(crate) fn new_key(env: &Env) -> RootKey {
    RootKey {
        id: uuid::Builder::from_random_bytes(env.random_u128().to_be_bytes()).into_uuid(),
        secret: RootSecret(env.secret()),
        active: true,
        create_time: Timestamp(env.wall()),
        create_index: 0,
        modify_index: 0,
    }
}

/// Returns the public part of the Ed25519 key that a key of the region signs with.
pub fn public_signing_key(key: &RootKey) -> Vec<u8> {
    let salt = Salt::new(HKDF_SHA256, key.id.as_bytes());
    let mut seed = [0; 32];
    salt.extract(&key.secret.0)
        .expand(&[SIGNING], Seed)
        .and_then(|derived| derived.fill(&mut seed))
        .expect("32 bytes are within what can be derived");
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed");
    pair.public_key().as_ref().to_vec()
}

impl crate::Server {
    /// Puts another key into use and returns it with the index.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn rotate_root_key(&self) -> Result<(RootKey, u64), crate::RequestError> {
        let key = new_key(self.env());
        let command = protocol::Command::AddRootKey { key: protocol::Named(key.clone()), first: false };
        Ok((key, self.submit(&command).await?.index))
    }

    /// Removes a key that is not in use and returns the index.
    ///
    /// # Errors
    ///
    /// When there is no such key, or it is the one in use.
    pub async fn delete_root_key(&self, id: Uuid) -> Result<u64, crate::RequestError> {
        Ok(self.submit(&protocol::Command::DeleteRootKey { id }).await?.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sign_with_keys_of_their_own() {
        let key = RootKey {
            id: Uuid::from_u128(1),
            secret: RootSecret([7; 32]),
            active: true,
            create_time: Timestamp(0),
            create_index: 0,
            modify_index: 0,
        };
        let other = RootKey { id: Uuid::from_u128(2), ..key.clone() };
        assert_eq!(public_signing_key(&key).len(), 32);
        assert_eq!(public_signing_key(&key), public_signing_key(&key));
        assert_ne!(public_signing_key(&key), public_signing_key(&other));
        assert!(!format!("{key:?}").contains('7'));
    }
}
