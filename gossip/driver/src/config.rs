//! What the driver and its pools are given at the start.

use std::{fmt, io, sync::Arc};

use futures_util::future::BoxFuture;
use gossip_core::{Incarnation, Me};

use crate::{
    locate::{Located, REGION_MAX},
    seal::{KeyRing, OVERHEAD, PoolKind},
};

/// Bytes of a packet on the wire. IPv6 carries 1,280 with its headers over any network, tunnels included; a packet that
/// is split into fragments is lost when one of them is.
pub const PACKET_MAX: usize = 1_232;

/// Bytes that are left in a packet for what is sealed: what `gossip_core::Config` takes as its most.
pub const PAYLOAD_MAX: usize = PACKET_MAX - OVERHEAD - 1;

/// Settings of a driver.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is answered to who asks where to join; none answers nothing.
    pub located: Option<Located>,
    /// Who carries synchronisations.
    pub sync: SyncBy,
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), StartError> {
        match &self.located {
            Some(located) if located.region.len() > REGION_MAX => {
                Err(StartError::RegionTooLong(located.region.len()))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Who carries a synchronisation: the lists that two members compare when they meet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SyncBy {
    /// The caller, over a stream: [`crate::Event::Sync`] asks for it. When nobody is subscribed, packets do.
    Caller,
    /// Packets of this driver, some dozens at a time. Fine up to some thousand members.
    Packets,
}

/// A pool to take part in.
#[derive(Debug)]
pub struct Pool {
    /// Which.
    pub kind: PoolKind,
    /// How the protocol runs. Its `packet_bytes_max` must be at most [`PAYLOAD_MAX`].
    pub config: gossip_core::Config,
    /// Who we are. The region of its digest keeps the pools of regions apart.
    pub me: Me,
    /// The keys.
    pub ring: KeyRing,
    /// The cluster's id, once there is one. See [`crate::Handle::set_cluster`].
    pub cluster: Option<u128>,
    /// Keeps our incarnation.
    pub store: Arc<dyn Store>,
}

/// Keeps a member's incarnation across restarts.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Writes a value that [`Me::persisted`] shall have at the next start, durably. Values only grow.
    fn persist(&self, incarnation: Incarnation) -> BoxFuture<'static, io::Result<()>>;
}

/// A store that keeps nothing, for tests and agents that never restart. Lives then begin at the host's time.
#[derive(Clone, Copy, Debug)]
pub struct NoStore;

impl Store for NoStore {
    fn persist(&self, _incarnation: Incarnation) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// Why a driver can not start, or a pool can not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket does not tell its address.
    #[error("could not read the address of the gossip socket")]
    Socket(#[source] io::Error),
    /// The region's name does not fit an answer.
    #[error("the region's name has {0} bytes, at most {REGION_MAX} can be told")]
    RegionTooLong(usize),
    /// The packets would be too long once sealed.
    #[error("packets of {0} bytes can not be sealed and sent, at most {PAYLOAD_MAX} can")]
    PacketTooLong(usize),
    /// gossip-core refuses its settings, our digest or our address.
    #[error("the {kind} pool can not start")]
    Core {
        /// Which pool.
        kind: PoolKind,
        /// Why.
        source: gossip_core::NewGossipError,
    },
    /// The pool is open.
    #[error("this agent is in the {0} pool already")]
    Open(PoolKind),
}
