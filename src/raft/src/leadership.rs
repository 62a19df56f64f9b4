use std::sync::Arc;

use openraft::{RaftMetrics, ServerState, alias::WatchReceiverOf, async_runtime::WatchReceiver};
use runtime::Env;
use tokio::sync::watch;

use crate::{
    error::Fault,
    fault::FaultCell,
    types::{Peer, Types},
};

/// Who leads, as this server knows it. It may be out of date by the time it is read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Leadership {
    /// This server leads. The term is a token: work begun under one term must not go on under another. Before the
    /// server answers from its state it must pass [`crate::Raft::barrier`] once.
    Leader {
        /// The term it was elected in.
        term: u64,
    },
    /// Another server leads.
    Follower {
        /// Who.
        leader: Peer,
        /// The term it was elected in.
        term: u64,
    },
    /// Nobody is known to lead.
    Unknown {
        /// The latest term this server has seen.
        term: u64,
    },
    /// This server does not take part any more.
    Stopped,
}

impl Leadership {
    /// Tells whether this server leads.
    pub fn is_leader(&self) -> bool {
        matches!(self, Self::Leader { .. })
    }

    pub(crate) fn of(metrics: &RaftMetrics<Types>) -> Self {
        let term = metrics.current_term;
        match (metrics.state, metrics.current_leader) {
            (ServerState::Shutdown, _) => Self::Stopped,
            (ServerState::Leader, Some(leader)) if leader == metrics.id => Self::Leader { term },
            (_, Some(leader)) if leader != metrics.id => {
                match metrics.membership_config.membership().get_node(&leader) {
                    Some(peer) => Self::Follower { leader: peer.clone(), term },
                    None => Self::Unknown { term },
                }
            }
            (
                ServerState::Learner | ServerState::Follower | ServerState::Candidate | ServerState::Leader,
                _,
            ) => Self::Unknown { term },
        }
    }
}

/// Follows openraft's metrics and tells who leads whenever that changes; notices when openraft stops by itself.
pub(crate) fn follow(
    mut metrics: WatchReceiverOf<Types, RaftMetrics<Types>>,
    fault: FaultCell,
    env: &Env,
) -> Arc<watch::Sender<Leadership>> {
    let sender = Arc::new(watch::Sender::new(Leadership::of(&metrics.borrow_watched())));
    let leadership = sender.clone();
    env.spawn("raft-leadership", async move {
        loop {
            let (next, stopped) = {
                let current = metrics.borrow_watched();
                let stopped = current.running_state.as_ref().err().map(ToString::to_string);
                (Leadership::of(&current), stopped)
            };
            if let Some(reason) = stopped.filter(|reason| reason != "raft stopped") {
                // The returned error is for openraft, which is what stopped.
                let _ = fault.report(Fault::Internal { reason });
            }
            leadership.send_if_modified(|current| {
                let changed = *current != next;
                if changed {
                    *current = next;
                }
                changed
            });
            if metrics.changed().await.is_err() {
                leadership.send_replace(Leadership::Stopped);
                return;
            }
        }
    });
    sender
}
