use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Text;

/// An id is not a UUID in the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not an id: wanted 36 characters like 8d5a1c6e-0f5b-4c53-9d4c-0f6a6a3f2b11")]
pub struct BadId {
    /// What was given.
    pub text: String,
}

macro_rules! uuid_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes an id from 128 random bits.
            pub fn from_random(bits: u128) -> Self {
                Self(Uuid::from_u128(bits))
            }

            /// Tells whether this is the id of nothing.
            pub fn is_nil(self) -> bool {
                self.0.is_nil()
            }

            /// Returns the first eight characters, as commands show it.
            pub fn short(self) -> String {
                let mut text = self.to_string();
                text.truncate(8);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.as_hyphenated(), f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                if text.len() != 36 {
                    return Err(BadId { text: text.to_owned() });
                }
                Uuid::try_parse(text).map(Self).map_err(|_| BadId { text: text.to_owned() })
            }
        }
    };
}

uuid_id! {
    /// Identifies one allocation for its whole life, on every server and client.
    AllocId
}
uuid_id! {
    /// Identifies one evaluation.
    EvalId
}
uuid_id! {
    /// Identifies one node: a client's record in the state.
    NodeId
}
uuid_id! {
    /// Identifies one deployment.
    DeploymentId
}

/// Identifies a job in a region: ids are unique within a namespace.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct JobKey {
    /// The namespace that the job lives in.
    pub namespace: Text,
    /// The job's id; may hold slashes and any other printable character.
    pub id: Text,
}

impl JobKey {
    /// Makes a key from its parts.
    pub fn new(namespace: impl Into<Text>, id: impl Into<Text>) -> Self {
        Self { namespace: namespace.into(), id: id.into() }
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.id)
    }
}
