use std::collections::BTreeMap;

use crate::{LogPoint, Observation, Property, RaftView, Vote};

/// A server's term and vote never go back, not even over a restart; what it knows to be committed or has applied never
/// goes back while it runs.
#[derive(Default)]
pub struct TermsNeverFall {
    servers: BTreeMap<u64, Before>,
}

struct Before {
    boot: u32,
    term: u64,
    vote: Option<Vote>,
    committed: Option<LogPoint>,
    applied: Option<LogPoint>,
}

impl Property for TermsNeverFall {
    fn name(&self) -> &'static str {
        "I1 terms, votes and commits never go back"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        for server in &seen.servers {
            let Some(raft) = &server.raft else { continue };
            if let Some(before) = self.servers.get(&server.id) {
                before.compare(server.boot, raft).map_err(|what| format!("server {}: {what}", server.id))?;
            }
            let vote = raft.vote.or_else(|| self.servers.get(&server.id).and_then(|before| before.vote));
            let RaftView { term, committed, applied, .. } = *raft;
            self.servers.insert(server.id, Before { boot: server.boot, term, vote, committed, applied });
        }
        Ok(())
    }
}

impl Before {
    fn compare(&self, boot: u32, raft: &RaftView) -> Result<(), String> {
        if raft.term < self.term {
            return Err(format!("its term went from {} to {}", self.term, raft.term));
        }
        if let (Some(before), Some(vote)) = (self.vote, raft.vote) {
            if vote.term < before.term {
                return Err(format!("its vote went from {before:?} to {vote:?}"));
            }
            if vote.term == before.term && vote.server != before.server && (before.elected || !vote.elected) {
                return Err(format!(
                    "it voted for both {} and {} in term {}",
                    before.server, vote.server, vote.term
                ));
            }
        }
        if boot == self.boot && raft.committed < self.committed {
            return Err(format!("its commit went from {:?} to {:?}", self.committed, raft.committed));
        }
        if boot == self.boot && raft.applied < self.applied {
            return Err(format!("what it applied went from {:?} to {:?}", self.applied, raft.applied));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{breaks, holds, three_servers};

    fn changed(change: impl FnOnce(&mut RaftView), boot: u32) -> Observation {
        let mut seen = three_servers();
        seen.servers[0].boot = boot;
        change(seen.servers[0].raft.as_mut().expect("it is in Raft"));
        seen
    }

    #[test]
    fn a_restart_may_forget_the_commit_and_nothing_else() {
        let forgot = changed(|raft| (raft.committed, raft.applied) = (None, None), 1);
        holds::<TermsNeverFall>(&[three_servers(), forgot]);
        breaks::<TermsNeverFall>(&[three_servers(), changed(|raft| raft.term = 1, 1)]);
    }

    #[test]
    fn a_commit_that_goes_back_is_seen() {
        let back = LogPoint { term: 2, index: 2 };
        breaks::<TermsNeverFall>(&[three_servers(), changed(|raft| raft.committed = Some(back), 0)]);
        breaks::<TermsNeverFall>(&[three_servers(), changed(|raft| raft.applied = Some(back), 0)]);
    }

    #[test]
    fn two_votes_in_a_term_are_seen() {
        let vote =
            |server, elected, boot| changed(|raft| raft.vote = Some(Vote { term: 2, server, elected }), boot);
        let voted = |server, boot| vote(server, false, boot);
        holds::<TermsNeverFall>(&[voted(1, 0), changed(|_| (), 1), voted(1, 2)]);
        breaks::<TermsNeverFall>(&[voted(1, 0), changed(|_| (), 1), voted(3, 2)]);
        // One that stood itself and lost takes the winner's word.
        holds::<TermsNeverFall>(&[voted(1, 0), vote(3, true, 0)]);
        breaks::<TermsNeverFall>(&[vote(3, true, 0), vote(1, true, 1)]);
        breaks::<TermsNeverFall>(&[vote(3, true, 0), voted(1, 1)]);
    }
}
