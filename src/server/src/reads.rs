//! How current what a server reads is.

use std::time::Duration;

use raft::{Leadership, Peer, ReadError, ReadMode};

use crate::{
    Server,
    server::{Inner, SubmitError},
};

/// What a reader asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Consistency {
    /// The leader answers, which a majority has confirmed within its lease. Trusts that clocks run at nearly one speed.
    Default,
    /// The leader answers, after a majority has confirmed it for this read.
    Consistent,
    /// Any server answers with what it has.
    Stale,
}

impl Server {
    /// Waits until this server's state may answer such a read: it then shows every change that was acknowledged before the
    /// call. Stale reads never wait.
    ///
    /// # Errors
    ///
    /// [`SubmitError::NotLeader`] when another server has to be asked, [`SubmitError::Unavailable`] when the leader could
    /// not be confirmed.
    pub async fn ready_to_read(&self, consistency: Consistency) -> Result<(), SubmitError> {
        let mode = match consistency {
            Consistency::Stale => return Ok(()),
            Consistency::Default => ReadMode::Lease,
            Consistency::Consistent => ReadMode::Quorum,
        };
        if mutants::on!("read-without-asking") && self.is_leader() {
            return Ok(());
        }
        match self.inner.raft.barrier(mode).await {
            Ok(_) => Ok(()),
            Err(ReadError::NotLeader { .. }) => Err(SubmitError::NotLeader),
            Err(error @ (ReadError::NoQuorum | ReadError::Stopped { .. })) => {
                Err(SubmitError::Unavailable(error.to_string()))
            }
        }
    }

    /// How long ago this server heard from the leader: nothing on the leader itself, none when it never did.
    pub fn last_contact(&self) -> Option<Duration> {
        if self.is_leader() {
            return Some(Duration::ZERO);
        }
        let heard = self.inner.heard.lock().heard();
        heard.map(|heard| self.inner.env.now().saturating_duration_since(heard))
    }

    /// Tells whether this server knows who leads.
    pub fn known_leader(&self) -> bool {
        self.inner.raft.leader().is_some()
    }
}

impl Inner {
    /// Who leads, and in which term.
    pub fn leader_and_term(&self) -> Option<(Peer, u64)> {
        match &*self.raft.leadership().borrow() {
            Leadership::Leader { term } => Some((self.raft.me().clone(), *term)),
            Leadership::Follower { leader, term } => Some((leader.clone(), *term)),
            Leadership::Unknown { .. } | Leadership::Stopped => None,
        }
    }
}
