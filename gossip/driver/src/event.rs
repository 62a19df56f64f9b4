//! What a driver tells to who subscribed.

use std::net::SocketAddr;

use gossip_core::{Member, MemberId};
use tracing::{debug, info, warn};

use crate::seal::PoolKind;

/// Something that others may want to act on. A subscriber that reads too slowly misses some and is told so; it then
/// reads the members again.
#[derive(Clone, Debug)]
pub enum Event {
    /// A member changed. [`crate::Handle::members`] shows it by now.
    Member {
        /// Of which pool.
        pool: PoolKind,
        /// What changed.
        change: gossip_core::Event,
    },
    /// Two lists should be compared: open a stream to this member, send it [`crate::Handle::sync_request`], give what it
    /// answers (from [`crate::Handle::sync_answer`]) to [`crate::Handle::sync_finish`], and send what that returns. A
    /// stream that fails needs nothing: it is asked for again.
    Sync {
        /// Of which pool.
        pool: PoolKind,
        /// With whom.
        id: MemberId,
        /// Its gossip address; its digest may name the transport's.
        addr: SocketAddr,
    },
    /// Someone seals with a key that we do not have: the ring was changed while we were away, or a stranger is
    /// knocking. Ask a server for the keys over the transport. Told seldom, however many packets come; the address is
    /// not proven.
    UnknownKey {
        /// Of which pool.
        pool: PoolKind,
        /// Where the packet said that it came from.
        from: SocketAddr,
    },
    /// Others know that we left.
    Departed {
        /// Of which pool.
        pool: PoolKind,
    },
}

/// Writes down what an operator would ask about later.
pub(crate) fn log(event: &Event) {
    use gossip_core::Event as Change;
    let name = |member: &Member| member.digest.as_ref().map(|digest| digest.name.clone());
    match event {
        Event::Member { pool, change } => match change {
            Change::Joined(member) => {
                info!(%pool, id = %member.id, addr = %member.addr, name = name(member), "member joined");
            }
            Change::Returned(member) => {
                info!(%pool, id = %member.id, addr = %member.addr, name = name(member), "member is back");
            }
            Change::Failed(member) => {
                warn!(%pool, id = %member.id, addr = %member.addr, name = name(member), "member failed");
            }
            Change::Left(member) => {
                info!(%pool, id = %member.id, addr = %member.addr, name = name(member), "member left");
            }
            Change::Suspected(member) => debug!(%pool, id = %member.id, "member does not answer"),
            Change::Updated(member) => debug!(%pool, id = %member.id, "member changed"),
            Change::Forgotten(member) => debug!(%pool, id = %member.id, "member forgotten"),
            Change::Doubled { addr } => {
                warn!(%pool, %addr, "another agent uses our node id: two agents share one data directory");
            }
        },
        Event::Departed { pool } => info!(%pool, "left, and others know"),
        Event::Sync { .. } | Event::UnknownKey { .. } => {}
    }
}
