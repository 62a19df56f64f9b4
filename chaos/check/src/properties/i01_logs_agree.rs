use std::collections::BTreeMap;

use crate::{LogPoint, Observation, Property};

/// Where two logs have an entry of one term at one index, the entries and all before them are the same.
#[derive(Default)]
pub struct LogsAgree;

impl Property for LogsAgree {
    fn name(&self) -> &'static str {
        "I1 logs agree"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        let logs: Vec<(u64, Log)> = seen
            .servers
            .iter()
            .filter_map(|server| server.raft.as_ref().map(|raft| (server.id, &raft.log)))
            .map(|(id, log)| (id, log.iter().map(|(point, hash)| (point.index, (*point, *hash))).collect()))
            .collect();
        for (at, (left_id, left)) in logs.iter().enumerate() {
            for (right_id, right) in &logs[at + 1..] {
                if let Some(index) = first_conflict(left, right) {
                    let (one, other) = (left[&index], right[&index]);
                    return Err(format!(
                        "servers {left_id} and {right_id} agree on a later entry, but at {index} they have \
                         {one:?} and {other:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Entries by index: the place of each and what it says.
type Log = BTreeMap<u64, (LogPoint, u64)>;

/// Finds an index at which they differ though they have the same place there or later.
fn first_conflict(left: &Log, right: &Log) -> Option<u64> {
    let same_place = |index: &&u64| right.get(index).is_some_and(|other| other.0 == left[index].0);
    let last = *left.keys().rev().find(same_place)?;
    left.range(..=last).find_map(|(index, entry)| {
        let other = right.get(index)?;
        (other != entry).then_some(*index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{breaks, holds, log, three_servers};

    #[test]
    fn a_tail_of_another_term_is_fine() {
        let mut seen = three_servers();
        let log = &mut seen.servers[2].raft.as_mut().expect("it is in Raft").log;
        log.truncate(3);
        log.push((LogPoint { term: 1, index: 4 }, 999));
        holds::<LogsAgree>(&[seen]);
    }

    #[test]
    fn one_place_with_two_entries_is_seen() {
        let mut seen = three_servers();
        seen.servers[2].raft.as_mut().expect("it is in Raft").log[4].1 = 999;
        breaks::<LogsAgree>(&[seen]);
    }

    #[test]
    fn a_difference_before_an_equal_entry_is_seen() {
        let mut seen = three_servers();
        let raft = seen.servers[1].raft.as_mut().expect("it is in Raft");
        raft.log = log(2, 5);
        raft.log[1] = (LogPoint { term: 1, index: 2 }, 999);
        breaks::<LogsAgree>(&[seen]);
    }
}
