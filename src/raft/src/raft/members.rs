//! Who takes part, and who leads among them.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{
    ChangeMembers,
    async_runtime::WatchReceiver,
    error::{ClientWriteError, Fatal, ForwardReason, RaftError},
    raft::TransferLeaderRequest,
};
use runtime::Instant;

use super::{LEASE_RETRY, LEASE_WAITS, Raft};
use crate::{
    error::ChangeError,
    machine::StateMachine,
    types::{Members, Peer, Types, VoteRecord, vote},
};

impl<S: StateMachine> Raft<S> {
    /// Makes a server receive the log without a vote. With `wait`, returns when it has the log up to this change; how
    /// long that may take is for the caller to bound, and dropping the future does not take the change back.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`].
    pub async fn add_learner(&self, peer: Peer, wait: bool) -> Result<u64, ChangeError> {
        let id = peer.id;
        let index = self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, peer)]))).await?;
        if wait {
            self.wait_for_log(id, index).await?;
        }
        Ok(index)
    }

    /// Waits until another server has the log up to `index`.
    async fn wait_for_log(&self, id: u64, index: u64) -> Result<(), ChangeError> {
        let mut metrics = self.shared.raft.metrics();
        loop {
            {
                let current = metrics.borrow_watched();
                let Some(replication) = &current.replication else {
                    return Err(ChangeError::NotLeader { leader: self.leader() });
                };
                let matched = replication.get(&id).copied().flatten();
                if matched.is_some_and(|at| at.index >= index) {
                    return Ok(());
                }
            }
            let stopped = |_| ChangeError::Stopped { reason: self.why_stopped(&Fatal::Stopped) };
            metrics.changed().await.map_err(stopped)?;
        }
    }

    /// Gives learners a vote.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`].
    pub async fn promote(&self, ids: BTreeSet<u64>) -> Result<u64, ChangeError> {
        self.change(ChangeMembers::AddVoterIds(ids)).await
    }

    /// Makes exactly these servers the voters; all must be members. Those that lose their vote are removed.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`].
    pub async fn change_membership(&self, voters: BTreeSet<u64>) -> Result<u64, ChangeError> {
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await
    }

    /// Ends a change of the voters that was begun and not ended: whoever led it died, or stopped waiting. Until then the old
    /// voters and the new ones both have to agree, and nothing else can be changed.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`]; refused when no change is under way.
    pub async fn finish_change(&self) -> Result<u64, ChangeError> {
        let mut sets = self.members().voters;
        match sets.pop() {
            Some(goal) if !sets.is_empty() => self.change_membership(goal).await,
            _ => Err(ChangeError::Refused { reason: "no change of the voters is under way".to_owned() }),
        }
    }

    /// Writes down that a member is reached elsewhere, or has another name.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`]; refused when it is no member.
    pub async fn update_member(&self, peer: Peer) -> Result<u64, ChangeError> {
        if !self.members().peers.contains_key(&peer.id) {
            return Err(ChangeError::Refused { reason: format!("{peer} is no member") });
        }
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(peer.id, peer)]))).await
    }

    /// Removes a server, voter or learner.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`]; refused where a leader would remove itself: it hands over first, or the region has no leader
    /// until the others notice.
    pub async fn remove(&self, id: u64) -> Result<u64, ChangeError> {
        if id == self.shared.me.id {
            return Err(ChangeError::Refused {
                reason: "a leader hands over before it is removed".to_owned(),
            });
        }
        let ids = BTreeSet::from([id]);
        let voter = self.members().voter_ids().contains(&id);
        let change = if voter { ChangeMembers::RemoveVoters(ids) } else { ChangeMembers::RemoveNodes(ids) };
        self.change(change).await
    }

    async fn change(&self, change: ChangeMembers<u64, Peer>) -> Result<u64, ChangeError> {
        let deadline = self.shared.env.now() + self.shared.config.election_max * LEASE_WAITS;
        loop {
            // The engine takes changes from a leader that the group has taken out already, and must not.
            if !self.members().voter_ids().contains(&self.shared.me.id) {
                return Err(ChangeError::NotLeader { leader: None });
            }
            let error = match self.shared.raft.change_membership(change.clone(), false).await {
                Ok(written) => {
                    self.show_members_of(written.log_id.index, deadline).await;
                    return Ok(written.log_id.index);
                }
                Err(error) => error,
            };
            if !self.waits_for_lease(&error) || self.shared.env.now() >= deadline {
                return Err(self.change_error(error));
            }
            self.shared.env.sleep(LEASE_RETRY).await;
        }
    }

    /// Waits until [`Raft::members`] shows a change that was made: what raft shows of itself follows a moment after.
    async fn show_members_of(&self, index: u64, deadline: Instant) {
        let shown = || self.metrics().membership_config.log_id().is_some_and(|at| at.index >= index);
        while !shown() && self.shared.env.now() < deadline {
            self.shared.env.sleep(LEASE_RETRY).await;
        }
    }

    /// A leader that was just elected takes no changes before a quorum has confirmed its lease.
    fn waits_for_lease(&self, error: &RaftError<Types, ClientWriteError<Types>>) -> bool {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
                forward.reason == ForwardReason::LeaseExpired
            }
            RaftError::APIError(_) | RaftError::Fatal(_) => false,
        }
    }

    /// Tells who takes part.
    pub fn members(&self) -> Members {
        Members::from_raft(self.metrics().membership_config.membership())
    }

    /// Asks a voter to take over; returns before it has. The leader takes no proposals until then, or until it gives up.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Refused`] when it is no voter, [`ChangeError::NotLeader`], [`ChangeError::Stopped`].
    pub async fn transfer_leader(&self, to: u64) -> Result<(), ChangeError> {
        if !self.is_leader() {
            return Err(ChangeError::NotLeader { leader: self.leader() });
        }
        if !self.members().voter_ids().contains(&to) {
            return Err(ChangeError::Refused { reason: format!("server {to} is not a voter") });
        }
        let begun = self.shared.raft.trigger().transfer_leader(to).await;
        begun.map_err(|fatal| ChangeError::Stopped { reason: self.why_stopped(&fatal) })
    }

    /// Forgets that a leader is owed patience: whoever calls it knows that the leader's process is gone. This server then answers
    /// those who stand for election, and may stand itself; nothing else changes, and a leader that is there after all is
    /// deposed by a majority only that was told the same.
    pub async fn give_up_leader(&self, leader: u64, term: u64) {
        let vote = vote(VoteRecord { term, node: leader, committed: true });
        // What openraft does when a leader names its successor: for everyone but that one it only ends the lease.
        let nobody = TransferLeaderRequest::new(vote, leader, None);
        // A server that stopped needs no leader.
        let _ = self.shared.raft.handle_transfer_leader(nobody).await;
    }

    /// The latest term that this server has seen or begun.
    pub fn term(&self) -> u64 {
        self.metrics().current_term
    }

    /// Asks the others whether they would vote for this server, and stands for election if so. Without a majority that would,
    /// nothing happens.
    pub async fn stand(&self) {
        // A server that stopped does not stand.
        let _ = self.shared.raft.trigger().elect(true).await;
    }

    /// Says whether this server may stand for election by itself when it has not heard its leader for as long as configured.
    /// It may from the start. [`Raft::stand`] does not ask.
    pub fn allow_election(&self, allowed: bool) {
        self.shared.raft.runtime_config().elect(allowed);
    }

    fn change_error(&self, error: RaftError<Types, ClientWriteError<Types>>) -> ChangeError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
                ChangeError::NotLeader { leader: self.forward(forward) }
            }
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => ChangeError::Unknown,
            RaftError::APIError(
                error
                @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)),
            ) => ChangeError::Refused { reason: error.to_string() },
            RaftError::Fatal(fatal) => ChangeError::Stopped { reason: self.why_stopped(&fatal) },
        }
    }
}
