use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Text, Timestamp, named::named_enum};

named_enum! {
    /// What whoever holds a join token may become.
    JoinRole {
        /// A server of the region.
        Server = "server",
        /// A client of the region.
        Client = "client",
        /// Another region, whose authority is trusted for its name.
        Region = "region",
    }
}

/// A token that lets one agent join. The secret itself is with whoever was given it and nowhere else.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct JoinToken {
    /// Names the token where its secret may not be shown.
    pub accessor: Uuid,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
    /// What it may be used for.
    pub role: JoinRole,
    /// Free text.
    pub description: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// From then on it is of no use.
    pub expires: Timestamp,
    /// Who used it.
    pub used: Option<JoinTokenUse>,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}

/// The one use of a join token.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct JoinTokenUse {
    /// The agent, by its id; for a region the server that asked.
    pub node: Uuid,
    /// SHA-256 of the public key that was certified. The same agent with the same key may ask again: the answer may
    /// have been lost.
    pub key_hash: [u8; 32],
    /// When.
    pub time: Timestamp,
}

/// What the region demands of whoever joins.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct JoinSettings {
    /// Neither the gossip key nor trust on first contact is enough.
    pub require_token: bool,
    /// Index of its last change.
    pub modify_index: u64,
}

/// Another region whose servers are trusted for its name, and for nothing else.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TrustedRegion {
    /// Its name.
    pub name: Text,
    /// Its authorities' certificates in PEM; empty where one authority of the users' own stands behind both regions.
    pub authorities: String,
    /// Where the transport of its servers was when that was last written down: a hint for servers that have not met them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<SocketAddr>,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}
