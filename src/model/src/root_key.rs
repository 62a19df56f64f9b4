use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Timestamp;

/// A key of the region's keyring. What signs and what encrypts is derived from its secret.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RootKey {
    /// Names the key: signatures carry it.
    pub id: Uuid,
    /// What all else is derived from.
    pub secret: RootSecret,
    /// Whether it is the one in use.
    pub active: bool,
    /// When it was made.
    pub create_time: Timestamp,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}

/// 32 random bytes that nothing prints.
#[derive(Clone, Copy, Deserialize, Eq, PartialEq, Serialize)]
pub struct RootSecret(pub [u8; 32]);

impl fmt::Debug for RootSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("RootSecret(..)")
    }
}
