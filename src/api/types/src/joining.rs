use std::collections::BTreeMap;

use crate::{Time, shape::or_null};

shape! {
    /// What the members say of the keys of gossip.
    KeyringResponse {
        keys "Keys": BTreeMap<String, u64>,
        #[serde(serialize_with = "or_null")]
        messages "Messages": BTreeMap<String, String>,
        num_nodes "NumNodes": u64,
        primary_keys "PrimaryKeys": BTreeMap<String, u64>,
    }
    /// A key of gossip, in base64.
    KeyringRequest {
        key "Key": String,
    }
    /// A wish for a token with which an agent may join. `TTL` is a duration such as `1h`.
    JoinTokenRequest {
        role "Role": String,
        ttl "TTL": String,
    }
    /// A token with which an agent may join, once. `Token` is there only when it was just made.
    JoinToken {
        created "Created": Time,
        expires "Expires": Time,
        id "ID": String,
        role "Role": String,
        status "Status": String,
        #[serde(skip_serializing_if = "String::is_empty")]
        token "Token": String,
        #[serde(skip_serializing_if = "String::is_empty")]
        used_by "UsedBy": String,
    }
    /// What joining demands.
    JoinSettings {
        require_token "RequireToken": bool,
    }
    /// What joining demands, and who is trusted.
    JoinTrust {
        authorities "Authorities": Vec<TrustedAuthority>,
        encrypted "Encrypted": bool,
        require_token "RequireToken": bool,
    }
    /// An authority that may speak for a region.
    TrustedAuthority {
        fingerprint "Fingerprint": String,
        region "Region": String,
    }
}
