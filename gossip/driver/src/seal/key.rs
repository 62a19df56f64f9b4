//! One gossip key: what a user writes as `encrypt`, and what is made of it.

use std::fmt;

use ::ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::host::Host;

/// Separates what is made here from everything else that the same key may be used for.
const SALT: &[u8] = b"wayfarer gossip key 1";

/// Names a key in a packet. Two keys of a ring may share it by chance of one in 2^32; then both are refused at install.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct KeyId(pub(crate) [u8; 4]);

/// A key that packets are sealed with. Its `Debug` shows the fingerprint alone.
#[derive(Clone)]
pub struct GossipKey {
    bytes: Vec<u8>,
    material: Prk,
    print: [u8; 8],
}

/// Why a text is not a gossip key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseKeyError {
    /// It is not base64.
    #[error("a gossip key must be base64; `wayfarer operator gossip keyring generate` makes one")]
    NotBase64,
    /// It has another length.
    #[error("a gossip key must be 16, 24 or 32 bytes long, this one has {0}")]
    Length(usize),
}

impl GossipKey {
    /// Reads a key as a configuration has it: base64 of 16, 24 or 32 bytes.
    ///
    /// # Errors
    ///
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, ParseKeyError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| ParseKeyError::NotBase64)?;
        Self::from_bytes(&bytes)
    }

    /// Takes a key's bytes.
    ///
    /// # Errors
    ///
    /// When they are not 16, 24 or 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParseKeyError> {
        if !matches!(bytes.len(), 16 | 24 | 32) {
            return Err(ParseKeyError::Length(bytes.len()));
        }
        // A short key is stretched, so that every packet is sealed with 256 bits, and so that the key itself is never
        // what a cipher sees.
        let material = Salt::new(HKDF_SHA256, SALT).extract(bytes);
        let mut print = [0; 8];
        material
            .expand(&[b"fingerprint"], Print)
            .and_then(|found| found.fill(&mut print))
            .expect("8 bytes are within what HKDF-SHA256 gives");
        Ok(Self { bytes: bytes.to_vec(), material, print })
    }

    /// Makes a key of 32 bytes from the host's chance, which the agent takes from the system.
    pub fn generate(host: &dyn Host) -> Self {
        let mut bytes = [0; 32];
        for part in bytes.chunks_exact_mut(8) {
            part.copy_from_slice(&host.random().to_be_bytes());
        }
        Self::from_bytes(&bytes).expect("32 bytes are a key")
    }

    /// The key as text: a secret.
    pub fn reveal(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    /// What may be shown of a key, and tells it from others.
    pub fn fingerprint(&self) -> String {
        self.print.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn id(&self) -> KeyId {
        let [a, b, c, d, ..] = self.print;
        KeyId([a, b, c, d])
    }

    pub(super) fn material(&self) -> &Prk {
        &self.material
    }
}

impl PartialEq for GossipKey {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Eq for GossipKey {}

impl fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GossipKey").field(&self.fingerprint()).finish()
    }
}

struct Print;

impl KeyType for Print {
    fn len(&self) -> usize {
        8
    }
}
