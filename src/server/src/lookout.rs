//! Notices at once that the leader's process has ended.
//!
//! A follower waits for the leader's lease and for its election time before it stands: silence does not tell a leader that died
//! from one that is slow. Where the process ended and the machine did not, the machine says so: the leader's port is
//! closed. Each follower looks for itself, and believes nobody else; so a leader that only some can not reach stays.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use raft::Leadership;
use runtime::Instant;

use crate::{replica::Replica, server::Inner};

/// Signs of life that are missed before the leader's port is looked at, in halves of their period: one may be late.
const QUIET_HALVES: u32 = 5;
/// So long the next one in the order of numbers leaves the election to those before it: an election takes a fraction of it, and
/// two that stand at once get half of the votes each.
const TURN: Duration = Duration::from_millis(120);
/// Wait between two tries to stand: the others may notice a moment later, and do not vote before.
const TRY_AGAIN: Duration = Duration::from_millis(30);
/// Tries before the usual way is left to do it.
const TRIES_MAX: u32 = 10;

/// Watches whoever leads, until the server stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut leadership = inner.raft.leadership();
    let quiet = inner.heartbeat * QUIET_HALVES / 2;
    loop {
        let current = leadership.borrow_and_update().clone();
        let wait = match current {
            Leadership::Stopped => return,
            Leadership::Leader { .. } | Leadership::Unknown { .. } => None,
            Leadership::Follower { leader, term } => {
                let now = inner.env.now();
                let heard: Option<Instant> = *inner.heard.lock();
                let due = heard.map_or(now, |heard| heard + quiet);
                if due <= now {
                    let addr = Replica::from_peer(&leader).map(|replica| inner.peers.newest(&replica));
                    if heard.is_some() && is_gone(&inner, addr, heard).await {
                        tracing::warn!(leader = %leader.name, term, "the leader's process has ended");
                        succeed(&inner, leader.id, term).await;
                    }
                    Some(quiet)
                } else {
                    Some(due.saturating_duration_since(now))
                }
            }
        };
        tokio::select! {
            biased;
            () = inner.env.shutdown().wait() => return,
            changed = leadership.changed() => if changed.is_err() { return },
            () = sleep(&inner, wait) => {}
        }
    }
}

async fn sleep(inner: &Inner, wait: Option<Duration>) {
    match wait {
        Some(wait) => inner.env.sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Tells whether the leader's port is closed, and nothing came from it meanwhile.
async fn is_gone(inner: &Inner, addr: Option<SocketAddr>, heard: Option<Instant>) -> bool {
    let Some(addr) = addr else { return false };
    inner.peers.transport().is_closed(addr).await && *inner.heard.lock() == heard
}

/// Votes for another leader, or becomes it when it is this server's turn.
async fn succeed(inner: &Inner, leader: u64, term: u64) {
    inner.raft.give_up_leader(leader, term).await;
    let me = inner.me.raft_id();
    let voters = inner.raft.members().voter_ids();
    if !voters.contains(&me) {
        return;
    }
    let before = voters.iter().filter(|id| **id != leader && **id < me).count();
    inner.env.sleep(TURN * u32::try_from(before).unwrap_or(u32::MAX)).await;
    for _ in 0..TRIES_MAX {
        // An election that has begun shows in the term.
        if inner.raft.term() != term {
            return;
        }
        inner.raft.stand().await;
        inner.env.sleep(TRY_AGAIN).await;
    }
}
