//! What only the leader can do, asked of any server: done here when this server leads, else at the leader.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use protocol::{Command, decode, encode};
use raft::{Peer, ProposeError, ReadMode};
use state::Outcome;
use tokio::sync::oneshot;
use transport::Request;

use crate::{
    Server,
    asks::{Answer, Ask},
    leader::LeaderInput,
    nodes::{self, RegisterError},
    replica::is_of_node,
    server::{Inner, SubmitError, Submitted},
};

/// How long a change waits for the region to have a leader; an election takes a fraction of it. Nomad's RPCs are held as
/// long.
const LEADER_WAIT: Duration = Duration::from_secs(5);
/// Time between two tries, unless the leader changes before.
const RETRY_PAUSE: Duration = Duration::from_millis(25);
/// How long the leader may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long this server may take to apply what the leader has applied. One that is further behind says so.
const APPLY_WAIT: Duration = Duration::from_secs(5);

/// Whether something may be asked again when it is not known whether it happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Again {
    /// Twice is as good as once.
    Harmless,
    /// It would happen twice.
    Never,
}

impl Server {
    /// Serves a request of the RPC plane from this peer, unless it is for another part of the agent: then it is given
    /// back.
    pub async fn serve_rpc_request(&self, peer: &transport::Peer, request: Request) -> Option<Request> {
        let ask = match Ask::decode(&request.body) {
            None => return Some(request),
            Some(Err(error)) => {
                request.reply.fail(&error.to_string());
                return None;
            }
            Some(Ok(ask)) => ask,
        };
        let answer = match check(peer, &ask) {
            Ok(()) => self.inner.perform(ask).await,
            Err(reason) => {
                tracing::warn!(%peer, reason, "request of a peer was refused");
                Answer::failed(reason)
            }
        };
        // Whoever asked may be gone.
        let _ = request.reply.send(encode(&answer)).await;
        None
    }
}

/// A server may ask, and speak for itself; nobody else may.
fn check(peer: &transport::Peer, ask: &Ask) -> Result<(), &'static str> {
    let identity = peer.identity().filter(|identity| identity.role == transport::Role::Server);
    let identity = identity.ok_or("only servers of this region may ask that")?;
    let speaks_for = match ask {
        Ask::Report(report) => Some(report.server),
        Ask::Leave { raft_id } => Some(*raft_id),
        Ask::Submit { .. } | Ask::Register { .. } | Ask::Updates { .. } | Ask::Hello => None,
    };
    if speaks_for.is_some_and(|id| !is_of_node(id, identity.node_id)) {
        return Err("a server speaks for itself only");
    }
    Ok(())
}

impl Inner {
    /// Has a command agreed on and applied, by whichever server leads. Returns when this server has applied it too.
    pub async fn submit(self: &Arc<Self>, command: &Command) -> Result<Submitted, SubmitError> {
        settled(self.at_leader(Ask::Submit { command: encode(command) }, Again::Never).await?)
    }

    /// Has a command agreed on that does no harm when it is applied twice.
    pub async fn submit_harmless(self: &Arc<Self>, command: &Command) -> Result<Submitted, SubmitError> {
        settled(self.at_leader(Ask::Submit { command: encode(command) }, Again::Harmless).await?)
    }

    /// Has a command agreed on if this server leads.
    pub async fn propose(&self, command: Bytes) -> Result<(u64, Submitted), SubmitError> {
        if *self.raft.leadership().borrow() == raft::Leadership::Stopped {
            return Err(SubmitError::Unavailable("server is stopping".to_owned()));
        }
        match self.raft.propose(command).await {
            Ok((entry, Ok((index, outcome)))) => Ok((entry, Submitted { index, outcome })),
            Ok((_, Err(refusal))) => Err(SubmitError::Refused(refusal)),
            Err(ProposeError::NotLeader { .. }) => Err(SubmitError::NotLeader),
            // Who stops after it has sent an entry out does not know what the others make of it.
            Err(ProposeError::Unknown | ProposeError::Stopped { .. }) => Err(SubmitError::Unknown),
            Err(error @ ProposeError::TooLarge { .. }) => Err(SubmitError::Unavailable(error.to_string())),
        }
    }

    /// Does something where the leader is, and waits until this server has applied what came of it.
    pub async fn at_leader(self: &Arc<Self>, ask: Ask, again: Again) -> Result<Answer, SubmitError> {
        let mut leadership = self.raft.leadership();
        let mut deadline = self.env.now() + LEADER_WAIT;
        let mut failed_before = false;
        let mut body = None;
        let mut perhaps = false;
        loop {
            leadership.mark_unchanged();
            let answer = match self.raft.leader() {
                Some(leader) if leader.id == self.me.raft_id() => self.perform(ask.clone()).await,
                Some(leader) => {
                    let body = body.get_or_insert_with(|| ask.encode()).clone();
                    self.ask_leading(&leader, body).await
                }
                None => Answer::NotLeader,
            };
            match answer {
                Answer::NotLeader => {}
                Answer::Failed { perhaps: true, reason } => {
                    tracing::debug!(reason, "the leader's answer was lost");
                    perhaps = true;
                    if again == Again::Never {
                        return Err(SubmitError::Unknown);
                    }
                }
                Answer::Failed { perhaps: false, reason } => {
                    tracing::debug!(reason, "the leader could not be asked");
                }
                Answer::Done { entry, .. } => {
                    // Whoever was taken out is not told any more.
                    if !matches!(ask, Ask::Leave { .. }) {
                        self.wait_applied(entry).await;
                    }
                    return Ok(answer);
                }
                Answer::Refused(_) | Answer::Denied { .. } | Answer::Heard { .. } | Answer::Here => {
                    return Ok(answer);
                }
            }
            if !failed_before && again == Again::Harmless {
                // Waiting in line at a leader that is busy is no wait for a leader.
                deadline = self.env.now() + LEADER_WAIT;
            }
            failed_before = true;
            if self.env.now() >= deadline {
                return Err(if perhaps { SubmitError::Unknown } else { SubmitError::NotLeader });
            }
            tokio::select! {
                biased;
                changed = leadership.changed() => if changed.is_err() {
                    return Err(SubmitError::Unavailable("server is stopping".to_owned()));
                },
                () = self.env.sleep(RETRY_PAUSE) => {}
            }
        }
    }

    /// Asks the leader. Gives up early when another one leads than the one that was asked.
    pub async fn ask_leading(&self, server: &Peer, body: Bytes) -> Answer {
        let mut leadership = self.raft.leadership();
        let asked = server.id;
        let replaced = leadership.wait_for(move |current| match current {
            raft::Leadership::Leader { .. } => true,
            raft::Leadership::Follower { leader, .. } => leader.id != asked,
            raft::Leadership::Unknown { .. } => false,
            raft::Leadership::Stopped => true,
        });
        let answer = tokio::select! {
            biased;
            answer = self.peers.ask(server, body, ANSWER_TIMEOUT) => answer,
            _ = replaced => {
                let reason = format!("{server} leads no longer");
                return Answer::Failed { perhaps: true, reason };
            }
        };
        match answer {
            Ok(answer) => decode(&answer).unwrap_or_else(|error| Answer::Failed {
                perhaps: true,
                reason: format!("the answer can not be read: {error}"),
            }),
            Err(error) => {
                let reason = format!("{server}: {error}");
                Answer::Failed { perhaps: error.may_have_run(), reason }
            }
        }
    }

    /// Does here what was asked.
    pub async fn perform(self: &Arc<Self>, ask: Ask) -> Answer {
        match ask {
            Ask::Submit { command } => answer_of(self.propose(command).await),
            Ask::Register { node } => self.register_here(*node.0).await,
            Ask::Updates { updates } => match self.updates.commit(updates).await {
                Ok((entry, index)) => Answer::Done { entry, index, outcome: Outcome::Done },
                Err(error) => failed(error),
            },
            Ask::Report(report) => {
                let (reply, heard) = oneshot::channel();
                let sent = self.leader.send(LeaderInput::Report(report, reply)).await;
                match (sent, heard.await) {
                    (Ok(()), Ok(answer)) => answer,
                    // A server that does not lead drops it.
                    (Ok(()) | Err(_), _) => Answer::NotLeader,
                }
            }
            Ask::Hello => Answer::Here,
            Ask::Leave { raft_id } if raft_id == self.me.raft_id() => {
                Answer::Denied { reason: "a leader hands over before it leaves".into() }
            }
            Ask::Leave { raft_id } => match self.raft.remove(raft_id).await {
                Ok(entry) => Answer::Done { entry, index: 0, outcome: Outcome::Done },
                Err(raft::ChangeError::NotLeader { .. }) => Answer::NotLeader,
                Err(error) => Answer::failed(error),
            },
        }
    }

    /// Writes down what is news about a node, and makes sure that this server still leads: the answer tells the asker
    /// how far its own state has to be before it may speak to the node.
    async fn register_here(&self, node: model::Node) -> Answer {
        match nodes::register(self, node).await {
            Ok(()) => {}
            Err(RegisterError::Denied(reason)) => return Answer::Denied { reason: reason.to_owned() },
            Err(RegisterError::Submit(error)) => return failed(error),
        }
        match self.raft.barrier(ReadMode::Lease).await {
            Ok(entry) => Answer::Done { entry, index: self.hub.snapshot().index(), outcome: Outcome::Done },
            Err(raft::ReadError::NotLeader { .. }) => Answer::NotLeader,
            Err(error) => Answer::failed(error),
        }
    }

    /// Waits until this server has applied an entry. False when that takes too long.
    pub async fn wait_applied(&self, entry: u64) -> bool {
        let mut applied = self.raft.applied();
        tokio::select! {
            biased;
            reached = applied.wait_for(|at| at.is_some_and(|at| at >= entry)) => reached.is_ok(),
            () = self.env.sleep(APPLY_WAIT) => false,
        }
    }
}

fn answer_of(result: Result<(u64, Submitted), SubmitError>) -> Answer {
    match result {
        Ok((entry, Submitted { index, outcome })) => Answer::Done { entry, index, outcome },
        Err(error) => failed(error),
    }
}

fn failed(error: SubmitError) -> Answer {
    match error {
        SubmitError::Refused(refusal) => Answer::Refused(refusal),
        SubmitError::NotLeader => Answer::NotLeader,
        SubmitError::Unknown => Answer::Failed { perhaps: true, reason: error.to_string() },
        SubmitError::Unavailable(reason) => Answer::Failed { perhaps: false, reason },
    }
}

/// Reads the answer to a change.
pub(crate) fn settled(answer: Answer) -> Result<Submitted, SubmitError> {
    settled_at(answer).map(|(_, submitted)| submitted)
}

/// Reads the answer to a change, and tells which entry of the log it is.
pub(crate) fn settled_at(answer: Answer) -> Result<(u64, Submitted), SubmitError> {
    match answer {
        Answer::Done { entry, index, outcome } => Ok((entry, Submitted { index, outcome })),
        Answer::Refused(refusal) => Err(SubmitError::Refused(refusal)),
        Answer::NotLeader => Err(SubmitError::NotLeader),
        Answer::Failed { perhaps: true, .. } => Err(SubmitError::Unknown),
        Answer::Failed { perhaps: false, reason } | Answer::Denied { reason } => {
            Err(SubmitError::Unavailable(reason))
        }
        Answer::Heard { .. } | Answer::Here => {
            Err(SubmitError::Unavailable("the leader gave an answer to another question".to_owned()))
        }
    }
}
