use std::collections::{BTreeMap, BTreeSet};

use crate::{LogPoint, Observation, Property, RaftView, Role};

/// Entries that are remembered. A server that lags further behind is compared by its snapshot's state instead.
const REMEMBERED_MAX: usize = 20_000;

/// What is committed is on the disks of a quorum, in the log of every later leader, and never another entry.
#[derive(Default)]
pub struct CommittedStays {
    /// The entry at each committed index, and who said so first.
    committed: BTreeMap<u64, (LogPoint, u64, u64)>,
    /// What each server's log had of them when it was last looked at: the same entry need not be looked for again.
    known: BTreeMap<u64, Vec<(LogPoint, u64)>>,
    /// Up to where anyone knew entries to be committed.
    last: LogPoint,
    /// The voters that everyone agreed on at the last observation; none while that changes.
    voters: Option<BTreeSet<u64>>,
}

impl Property for CommittedStays {
    fn name(&self) -> &'static str {
        "I1 committed entries stay"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        let rafts: BTreeMap<u64, &RaftView> = seen
            .servers
            .iter()
            .filter_map(|server| server.raft.as_ref().map(|raft| (server.id, raft)))
            .collect();
        for (id, raft) in &rafts {
            self.remember(*id, raft)?;
        }
        self.check_leader(&rafts)?;
        self.check_quorum(&rafts)
    }
}

impl CommittedStays {
    fn remember(&mut self, id: u64, raft: &RaftView) -> Result<(), String> {
        let Some(committed) = raft.committed else { return Ok(()) };
        if committed.index > self.last.index {
            self.last = committed;
        }
        // A server knows of a commit before its disk has the entry, and has taken back what was there instead.
        if !raft.log.iter().any(|(point, _)| *point == committed) {
            return Ok(());
        }
        let committed = &raft.log[..raft.log.partition_point(|(point, _)| point.index <= committed.index)];
        let before = self.known.entry(id).or_default();
        let first = committed.first().map_or(0, |(point, _)| point.index);
        let passed = before.partition_point(|(point, _)| point.index < first);
        let same = before[passed..].iter().zip(committed).take_while(|(old, new)| old == new).count();
        for (point, hash) in &committed[same..] {
            let (known, known_hash, who) = *self.committed.entry(point.index).or_insert((*point, *hash, id));
            if (known, known_hash) != (*point, *hash) {
                return Err(format!(
                    "server {who} committed {known:?} ({known_hash:x}), server {id} has {point:?} ({hash:x}) there"
                ));
            }
        }
        before.clear();
        before.extend_from_slice(committed);
        while self.committed.len() > REMEMBERED_MAX {
            self.committed.pop_first();
        }
        Ok(())
    }

    /// Only the leader of the latest term counts: an older one may not know yet that it leads no more. What it wrote itself may
    /// be on the disks of a quorum before it is on its own; what was committed before, its disk had before its vote.
    fn check_leader(&self, rafts: &BTreeMap<u64, &RaftView>) -> Result<(), String> {
        let latest = rafts.values().map(|raft| raft.term).max().unwrap_or(0);
        for (id, raft) in rafts {
            let Some((last, _)) = raft.log.last() else { continue };
            let earlier = self.last.term < latest;
            if raft.role == Role::Leader && raft.term == latest && earlier && last.index < self.last.index {
                return Err(format!(
                    "server {id} leads term {latest} and ends at {}, but {} is committed",
                    last.index, self.last.index
                ));
            }
        }
        Ok(())
    }

    /// Counts the disks that have the last committed entry, when all voters' logs can be seen and nobody is changing who
    /// votes.
    fn check_quorum(&mut self, rafts: &BTreeMap<u64, &RaftView>) -> Result<(), String> {
        let voters = agreed_voters(rafts);
        let settled = voters.is_some() && voters == self.voters;
        self.voters = voters;
        let Some(voters) = self.voters.as_ref().filter(|_| settled && self.last.index > 0) else {
            return Ok(());
        };
        let logs: Vec<&RaftView> = voters.iter().filter_map(|id| rafts.get(id).copied()).collect();
        if logs.len() < voters.len() || logs.iter().any(|raft| raft.log.is_empty()) {
            return Ok(());
        }
        // What lies before a log's first entry is in the snapshot beside it.
        let has = |raft: &&&RaftView| {
            let first = raft.log[0].0.index;
            first > self.last.index || raft.log.iter().any(|(point, _)| *point == self.last)
        };
        let holders = logs.iter().filter(has).count();
        if holders * 2 <= voters.len() {
            return Err(format!("{:?} is committed and on {holders} of {} disks", self.last, voters.len()));
        }
        Ok(())
    }
}

fn agreed_voters(rafts: &BTreeMap<u64, &RaftView>) -> Option<BTreeSet<u64>> {
    let mut told = rafts.values().map(|raft| &raft.voters).filter(|voters| !voters.is_empty());
    let first = told.next()?;
    (first.len() == 1 && told.all(|voters| voters == first)).then(|| first[0].clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{breaks, holds, three_servers};

    fn raft(seen: &mut Observation, server: usize) -> &mut RaftView {
        seen.servers[server].raft.as_mut().expect("it is in Raft")
    }

    #[test]
    fn a_region_that_goes_on_is_fine() {
        holds::<CommittedStays>(&[three_servers(), three_servers()]);
    }

    #[test]
    fn another_entry_at_a_committed_index_is_seen() {
        let mut later = three_servers();
        raft(&mut later, 2).log[1].1 = 999;
        breaks::<CommittedStays>(&[three_servers(), later]);
    }

    #[test]
    fn a_leader_without_what_is_committed_is_seen() {
        let mut later = three_servers();
        raft(&mut later, 0).role = Role::Follower;
        let leader = raft(&mut later, 2);
        (leader.role, leader.term) = (Role::Leader, 3);
        leader.log.truncate(3);
        breaks::<CommittedStays>(&[three_servers(), later]);
    }

    #[test]
    fn what_a_slow_disk_has_not_taken_back_yet_is_fine() {
        let mut later = three_servers();
        let slow = raft(&mut later, 2);
        slow.committed = Some(LogPoint { term: 2, index: 4 });
        slow.log.truncate(3);
        slow.log.push((LogPoint { term: 1, index: 4 }, 999));
        holds::<CommittedStays>(&[three_servers(), later]);
    }

    #[test]
    fn a_leaders_own_entries_may_be_on_the_disks_of_others_first() {
        let mut later = three_servers();
        raft(&mut later, 0).log.truncate(3);
        holds::<CommittedStays>(&[three_servers(), later]);
    }

    #[test]
    fn a_commit_on_one_disk_of_three_is_seen() {
        let mut seen = three_servers();
        raft(&mut seen, 1).log.truncate(3);
        raft(&mut seen, 1).committed = Some(LogPoint { term: 2, index: 3 });
        raft(&mut seen, 2).log.truncate(3);
        let said = breaks::<CommittedStays>(&[three_servers(), seen]);
        assert!(said.contains("on 1 of 3 disks"), "{said}");
    }
}
