//! What the API sees of gossip, joining and the key ring: a trait, and the plain types that it speaks in.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::future::BoxFuture;
use model::{NodeId, Timestamp};
use transport::Connection;

/// Everyone whom an agent knows, and what an operator may change about that.
///
/// Where no such thing is set, an agent is alone: it is its region, see [`crate::Api::set_membership`]. Every method
/// answers for the agent that is asked. What only one server may do (tokens, settings) reaches the leader first,
/// because the routes pass it on; an implementation submits commands and need not find the leader.
pub trait Membership: Send + Sync {
    /// This agent as the others see it.
    fn me(&self) -> Member;

    /// Every agent that is known, this one among them: all of this region, and on servers those of other regions. In
    /// any order.
    fn members(&self) -> Vec<Member>;

    /// Joins through these addresses, each `host` or `host:port`, of gossip or of the transport.
    fn join(&self, addresses: Vec<String>) -> BoxFuture<'_, Joined>;

    /// Makes everyone forget a member that failed, by its name (with or without its region). `prune` takes one that
    /// left out of the list as well. A name that nobody knows is no error.
    fn force_leave(&self, name: String, prune: bool) -> BoxFuture<'_, Result<(), MembershipError>>;

    /// Reads or changes the key ring of gossip on every member.
    fn keyring(&self, change: KeyringChange) -> BoxFuture<'_, Result<KeyringReport, MembershipError>>;

    /// The addresses of the servers that this agent knows, of their transport.
    fn servers(&self) -> Vec<SocketAddr>;

    /// Replaces the servers that a client agent knows; the addresses are those of the transport. They hold until
    /// gossip says more.
    fn set_servers(&self, servers: Vec<SocketAddr>) -> BoxFuture<'_, Result<(), MembershipError>>;

    /// The regions that can be reached, this one among them, sorted.
    fn regions(&self) -> Vec<String>;

    /// Connects to some server of another region, for requests passed on. Only servers can. `attempt` counts from 0;
    /// another attempt tries another server where there is one.
    fn to_region(&self, region: String, attempt: u32) -> BoxFuture<'_, Result<Connection, MembershipError>>;

    /// Makes a token with which an agent may join, once. Asked of the leader.
    fn create_token(&self, wish: TokenWish) -> BoxFuture<'_, Result<NewToken, MembershipError>>;

    /// The tokens that were made and are kept: open ones, and used or expired ones until they are collected.
    fn tokens(&self) -> BoxFuture<'_, Result<Vec<JoinToken>, MembershipError>>;

    /// Makes a token worthless, by its id. Asked of the leader.
    fn revoke_token(&self, id: String) -> BoxFuture<'_, Result<(), MembershipError>>;

    /// Demands tokens of whoever joins from here on, or lets agents join by the gossip key or on trust. Asked of the
    /// leader.
    fn require_token(&self, required: bool) -> BoxFuture<'_, Result<(), MembershipError>>;

    /// Who is trusted, and what is not authenticated.
    fn trust(&self) -> Trust;
}

/// One agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Its name, without its region.
    pub name: String,
    /// Where its gossip is.
    pub addr: IpAddr,
    /// Port of its gossip.
    pub port: u16,
    /// Where its transport is.
    pub rpc_addr: SocketAddr,
    /// Whether it is there.
    pub status: MemberStatus,
    /// Server, client or both.
    pub role: MemberRole,
    /// Its node id.
    pub node_id: NodeId,
    /// The number under which a server takes part in Raft; none on clients.
    pub raft_id: Option<u64>,
    /// Its region.
    pub region: String,
    /// Its datacenter.
    pub datacenter: String,
    /// The version of Nomad that it speaks, e.g. `2.0.6`.
    pub build: String,
    /// Servers that it waits for before it founds a region; 0 on clients.
    pub bootstrap_expect: u32,
    /// How the region let it in; none where it does not say, e.g. when its version does not.
    pub joined_by: Option<JoinedBy>,
    /// What else its digest says, by names of our own. Shown with `?all`, never among Nomad's tags.
    pub more: BTreeMap<String, String>,
}

/// Whether a member is there.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum MemberStatus {
    /// It answers, or is only suspected.
    Alive,
    /// It said that it goes, and has not gone yet.
    Leaving,
    /// It said goodbye.
    Left,
    /// It stopped answering.
    Failed,
}

/// What an agent is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum MemberRole {
    /// It takes part in Raft, or will.
    Server,
    /// It runs tasks.
    Client,
    /// It does both.
    Both,
}

/// How an agent was let in.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum JoinedBy {
    /// It made the region's authority.
    Founder,
    /// By a certificate of its own configuration.
    Certificate,
    /// By a token.
    Token,
    /// By the key of gossip.
    GossipKey,
    /// By nothing: whoever answered first was believed.
    Trust,
}

/// What came of a join.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Joined {
    /// Addresses that answered.
    pub count: usize,
    /// What went wrong with the others, one text each.
    pub errors: Vec<String>,
}

/// What to do with the key ring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyringChange {
    /// Only say which keys there are.
    List,
    /// Accept this key (base64) as well.
    Install(String),
    /// Seal with this key.
    Use(String),
    /// Accept this key no longer.
    Remove(String),
}

/// What the members say of their key rings.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyringReport {
    /// Keys (base64) that are accepted, with the number of members that have each.
    pub keys: BTreeMap<String, usize>,
    /// Keys that members seal with, with the number of members that do.
    pub primary_keys: BTreeMap<String, usize>,
    /// Members that were asked.
    pub members: usize,
    /// What members that could not do it say, by name.
    pub messages: BTreeMap<String, String>,
}

/// Who may join with a token.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum TokenRole {
    /// A server of this region, which may run tasks as well.
    Server,
    /// A client of this region.
    Client,
    /// Another region: a server of it exchanges authorities with one of this.
    Region,
}

/// What a token shall be good for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenWish {
    /// Who may join with it.
    pub role: TokenRole,
    /// For how long.
    pub ttl: Duration,
}

/// A token that was just made: the only time that its text is seen.
#[derive(Clone, Eq, PartialEq)]
pub struct NewToken {
    /// What is known of it from here on.
    pub row: JoinToken,
    /// The text to hand to the agent.
    pub secret: String,
}

/// A token, without its secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JoinToken {
    /// Its id.
    pub id: String,
    /// Who may join with it.
    pub role: TokenRole,
    /// When it was made.
    pub created: Timestamp,
    /// Until when it is good.
    pub expires: Timestamp,
    /// What became of it.
    pub state: TokenState,
}

/// What became of a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TokenState {
    /// Nobody used it, and it has not expired.
    Open,
    /// An agent joined with it.
    Used {
        /// Which one.
        by: NodeId,
    },
    /// Nobody used it in time.
    Expired,
}

/// Who is trusted, and what is not authenticated.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trust {
    /// Whether joining demands a token or a certificate.
    pub token_required: bool,
    /// Whether gossip is sealed with a key that an operator chose.
    pub encrypted: bool,
    /// The authorities that are trusted, each for one region.
    pub authorities: Vec<TrustedAuthority>,
}

/// An authority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustedAuthority {
    /// For which region it may speak.
    pub region: String,
    /// Its fingerprint, as tokens carry it.
    pub fingerprint: String,
}

/// Why something about members can not be done.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MembershipError {
    /// What was asked for is wrong: a key that is none, an address that is none.
    #[error("{0}")]
    Wrong(String),
    /// There is no such token, member or region.
    #[error("{0}")]
    NotFound(String),
    /// It could not be done; nothing changed, or the text says what did.
    #[error("{0}")]
    Failed(String),
}

impl MemberStatus {
    /// The word that Nomad uses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
        }
    }
}

impl MemberRole {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Both => "server+client",
        }
    }

    /// Tells whether it takes part in Raft.
    pub fn is_server(self) -> bool {
        matches!(self, Self::Server | Self::Both)
    }
}

impl TokenRole {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Region => "region",
        }
    }
}

impl JoinedBy {
    /// The word that `docs/region.md` uses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Founder => "founder",
            Self::Certificate => "tls",
            Self::Token => "token",
            Self::GossipKey => "key",
            Self::Trust => "trust",
        }
    }
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret must not reach a log.
        f.debug_struct("NewToken").field("row", &self.row).finish_non_exhaustive()
    }
}
