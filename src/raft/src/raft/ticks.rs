//! When openraft needs a clock.
//!
//! Its ticks start elections and send signs of life. A leader with nobody to speak to needs neither, and the hundred
//! ticks a second would be most of what an idle server does.

use std::sync::Arc;

use openraft::{RaftMetrics, ServerState, async_runtime::WatchReceiver};

use super::Raft;
use crate::{machine::StateMachine, types::Types};

impl<S: StateMachine> Raft<S> {
    /// Stops the ticks while this server leads itself alone, and lets them go on when that changes. A member that is
    /// added shows in the figures as soon as its entry is in the log, long before it could miss a sign of life.
    pub(super) fn watch_ticks(&self) {
        let shared = Arc::downgrade(&self.shared);
        let mut metrics = self.shared.raft.metrics();
        self.shared.env.spawn("raft-ticks", async move {
            let mut ticking = true;
            loop {
                let needed = needs_ticks(&metrics.borrow_watched());
                if needed != ticking {
                    let Some(shared) = shared.upgrade() else { return };
                    shared.raft.runtime_config().tick(needed);
                    ticking = needed;
                }
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        });
    }
}

/// False only for a leader that is the one member, and whose being so is committed.
fn needs_ticks(metrics: &RaftMetrics<Types>) -> bool {
    let members = &metrics.membership_config;
    let alone = members.voter_ids().eq([metrics.id]) && members.membership().nodes().count() == 1;
    let settled = members == &metrics.committed_membership_config;
    !(metrics.state == ServerState::Leader && alone && settled)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::types::{LogPoint, Members, Peer, StoredMembership, log_id};

    fn members(voters: &[&[u64]], all: &[u64], index: u64) -> Arc<StoredMembership> {
        let members = Members {
            voters: voters.iter().map(|set| BTreeSet::from_iter(set.iter().copied())).collect(),
            peers: all
                .iter()
                .map(|id| (*id, Peer { id: *id, ..Peer::default() }))
                .collect::<BTreeMap<_, _>>(),
        };
        let membership = members.into_raft().expect("voters are members");
        Arc::new(StoredMembership::new(Some(log_id(LogPoint { term: 1, index })), membership))
    }

    #[test]
    fn only_a_settled_leader_without_company_goes_without_ticks() {
        let mut metrics = RaftMetrics::<Types>::new_initial(1);
        let alone = members(&[&[1]], &[1], 3);
        metrics.membership_config = alone.clone();
        metrics.committed_membership_config = alone.clone();
        assert!(needs_ticks(&metrics), "it does not lead");
        metrics.state = ServerState::Leader;
        assert!(!needs_ticks(&metrics));
        for company in
            [members(&[&[1]], &[1, 2], 4), members(&[&[1], &[1, 2]], &[1, 2], 5), members(&[&[2]], &[2], 6)]
        {
            metrics.membership_config = company;
            assert!(needs_ticks(&metrics), "{:?}", metrics.membership_config);
        }
        metrics.membership_config = alone;
        metrics.committed_membership_config = members(&[&[1, 2]], &[1, 2], 2);
        assert!(needs_ticks(&metrics), "the other one may not know yet that it is out");
    }
}
