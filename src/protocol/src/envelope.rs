use std::sync::Arc;

use bytes::Bytes;
use model::{
    AutopilotConfig, JoinSettings, JoinToken, Namespace, Node, NodePool, RootKey, SchedulerConfig,
    TrustedRegion,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, de::Error as _, ser::Error as _,
};

/// The version that this build writes. It reads all versions up to this one.
const VERSION: u8 = 1;

/// Bytes are not a message that this build can read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Nothing there at all.
    #[error("message is empty")]
    Empty,
    /// Written by a later build; it must not be skipped.
    #[error("message has version {version}, this build reads up to {VERSION}: upgrade this agent")]
    UnknownVersion {
        /// The version that was found.
        version: u8,
    },
    /// Not what was expected.
    #[error("message can not be read")]
    Malformed(#[from] postcard::Error),
    /// More bytes than the message has.
    #[error("message has {count} bytes too many")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

/// Encodes a message with its version in front.
pub fn encode<T: Serialize>(message: &T) -> Bytes {
    let start = vec![VERSION];
    postcard::to_extend(message, start).expect("our messages hold nothing that postcard can not write").into()
}

/// Decodes a message that [`encode`] wrote.
///
/// # Errors
///
/// When the bytes are of an unknown version, malformed, or too many.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if version != VERSION {
        return Err(DecodeError::UnknownVersion { version });
    }
    let (message, rest) = postcard::take_from_bytes(body)?;
    if !rest.is_empty() {
        return Err(DecodeError::TrailingBytes { count: rest.len() });
    }
    Ok(message)
}

/// Writes its content with field names, so that fields can be added to it without a new version.
///
/// For things that are rare and change shape: nodes, settings. Not for what there are millions of.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<T>(pub T);

/// What [`Named`] may carry. Implemented here for each, so that the code that reads and writes it is made once: it is
/// large, and every crate that did so for itself would have its own.
pub trait NamedRecord: Sized {
    /// Writes with field names.
    ///
    /// # Errors
    ///
    /// Says what can not be written.
    fn to_named(&self) -> Result<Vec<u8>, String>;

    /// Reads what [`NamedRecord::to_named`] wrote; unknown fields are skipped.
    ///
    /// # Errors
    ///
    /// Says what can not be read.
    fn from_named(bytes: &[u8]) -> Result<Self, String>;
}

macro_rules! named_records {
    ($($record:ty),* $(,)?) => {$(
        impl NamedRecord for $record {
            fn to_named(&self) -> Result<Vec<u8>, String> {
                rmp_serde::to_vec_named(self).map_err(|error| error.to_string())
            }

            fn from_named(bytes: &[u8]) -> Result<Self, String> {
                rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
            }
        }
    )*};
}

named_records!(
    AutopilotConfig,
    JoinSettings,
    JoinToken,
    Namespace,
    Node,
    NodePool,
    RootKey,
    SchedulerConfig,
    TrustedRegion,
);

impl<T: NamedRecord> NamedRecord for Box<T> {
    fn to_named(&self) -> Result<Vec<u8>, String> {
        T::to_named(self)
    }

    fn from_named(bytes: &[u8]) -> Result<Self, String> {
        T::from_named(bytes).map(Self::new)
    }
}

impl<T: NamedRecord> NamedRecord for Arc<T> {
    fn to_named(&self) -> Result<Vec<u8>, String> {
        T::to_named(self)
    }

    fn from_named(bytes: &[u8]) -> Result<Self, String> {
        T::from_named(bytes).map(Self::new)
    }
}

impl<T: NamedRecord> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.to_named().map_err(S::Error::custom)?)
    }
}

impl<'de, T: NamedRecord> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        T::from_named(&bytes).map(Self).map_err(D::Error::custom)
    }
}
