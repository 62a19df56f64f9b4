use std::{net::SocketAddr, sync::Arc};

use futures_util::future::BoxFuture;
use model::{JoinRole, JoinTokenUse};
use transport::{ClusterId, NodeId, Region, ca::Authority};

use crate::{Abroad, HandedKeys, Server};

/// What the answering side needs to know of the region that the agent is part of, and the few things that it has done there.
///
/// Clients have one too: they answer nothing but which servers they know.
pub trait Registry: Send + Sync + 'static {
    /// The region's id.
    fn cluster(&self) -> ClusterId;

    /// What is demanded of whoever joins: the region's state, or this server's configuration if that demands more.
    fn settings(&self) -> Settings;

    /// What issues certificates: on servers, unless the user makes the region's certificates.
    fn authority(&self) -> Option<Arc<Authority>>;

    /// The keys that this agent has.
    fn keys(&self) -> HandedKeys;

    /// The servers of the region that are alive as far as this agent knows, itself included if it is one.
    fn servers(&self) -> Vec<Server>;

    /// Other regions that are trusted, with their authorities in PEM.
    fn regions(&self) -> Vec<(Region, String)>;

    /// Whether the id is known in the region, as a member of gossip, a node or a peer of Raft.
    fn occupant(&self, node: NodeId) -> Occupant;

    /// Has the region commit the use of a token; a server that does not lead passes it on.
    fn use_token(&self, usage: TokenUsage) -> BoxFuture<'_, Result<(), UseTokenError>>;

    /// Has the region commit that another one is trusted.
    fn trust_region(&self, wish: TrustWish) -> BoxFuture<'_, Result<(), TrustRegionError>>;

    /// Takes in what a server of a trusted region says of it.
    fn meet(&self, abroad: Abroad);
}

/// Another region that is to be trusted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustWish {
    /// Its name.
    pub region: Region,
    /// Its authority in PEM; none where one authority of the users' own stands behind both.
    pub authority_pem: Option<String>,
    /// Where the transport of its servers is.
    pub servers: Vec<SocketAddr>,
}

impl TrustWish {
    /// What is to be committed of a region with these servers.
    pub(crate) fn new(region: &Region, authority_pem: Option<String>, servers: &[Server]) -> Self {
        let servers = servers.iter().map(|server| server.rpc).collect();
        Self { region: region.clone(), authority_pem, servers }
    }
}

/// What a region demands of whoever joins.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// Neither the region's key nor trust on first contact is enough.
    pub require_token: bool,
}

/// Whether an id is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Occupant {
    /// Nobody has it.
    Nobody,
    /// Someone had it, who is gone or out of reach.
    Gone,
    /// Someone has it, who is alive.
    Alive,
}

/// The use of a token, to be committed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenUsage {
    /// SHA-256 of the secret that was shown.
    pub secret_hash: [u8; 32],
    /// What the agent wants to become.
    pub role: JoinRole,
    /// Who, with which key, and when.
    pub used: JoinTokenUse,
}

/// Why the use of a token is not committed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UseTokenError {
    /// The region says no; asking again does not help.
    #[error("{reason}")]
    Refused {
        /// In the region's words.
        reason: String,
    },
    /// It is not known whether it was committed; the same agent may ask again.
    #[error("the use of the token could not be committed: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// Why another region is not trusted. Asking again may help.
#[derive(Clone, Debug, thiserror::Error)]
#[error("trust in region {region} could not be committed: {reason}")]
pub struct TrustRegionError {
    /// The region.
    pub region: Region,
    /// Why.
    pub reason: String,
}
