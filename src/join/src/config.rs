use std::{net::SocketAddr, time::Duration};

use transport::Identity;

use crate::{RegionKey, Token};

/// Everything that an agent brings when it joins, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who the agent is.
    pub identity: Identity,
    /// Where others reach its transport.
    pub rpc: SocketAddr,
    /// Where others reach its gossip.
    pub gossip: SocketAddr,
    /// How many servers the region is to begin with (`bootstrap_expect`). 0: this agent never founds one.
    pub expect: u32,
    /// The life of the server's log; with the node id it names the server in Raft. Carried to the founder, not read here.
    pub life: u64,
    /// The key that the user gave (`encrypt`).
    pub key: Option<RegionKey>,
    /// The token that the user gave.
    pub token: Option<Token>,
    /// `require_join_token`: no region is founded with servers that prove themselves by nothing. In a running region its
    /// [`Settings`](crate::Settings) count, into which this agent's setting goes as well.
    pub require_token: bool,
    /// How long certificates last.
    pub lifetimes: Lifetimes,
    /// How often joining is tried.
    pub retry: Retry,
}

/// How long what this agent issues is valid.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// An agent's certificate; renewed at two thirds of it. 30 days; a minute at the least outside of tests.
    pub certificate: Duration,
    /// The authority of a region that this agent founds. 10 years: it is not replaced by itself.
    pub authority: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self { certificate: 30 * day, authority: 3_650 * day }
    }
}

/// How often an agent tries to join.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Between two rounds over all addresses (`retry_interval`, 30 s in Nomad's files). The first rounds follow each other
    /// faster, because machines that start together rarely start at once.
    pub interval: Duration,
    /// Rounds before giving up (`retry_max`); 0: never.
    pub max: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), max: 0 }
    }
}
