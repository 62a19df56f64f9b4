use std::cmp::Ordering;

use crate::{LogPoint, Observation, Property};

/// Where two logs have an entry of one term at one index, the entries and all before them are the same.
#[derive(Default)]
pub struct LogsAgree;

impl Property for LogsAgree {
    fn name(&self) -> &'static str {
        "I1 logs agree"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        let logs: Vec<(u64, &[Entry])> = seen
            .servers
            .iter()
            .filter_map(|server| server.raft.as_ref().map(|raft| (server.id, raft.log.as_slice())))
            .collect();
        for (at, (left_id, left)) in logs.iter().enumerate() {
            for (right_id, right) in &logs[at + 1..] {
                if let Some((one, other)) = first_conflict(left, right) {
                    return Err(format!(
                        "servers {left_id} and {right_id} agree on a later entry, but at {} they have \
                         {one:?} and {other:?}",
                        one.0.index
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The place of an entry and what it says.
type Entry = (LogPoint, u64);

/// Finds the first entries at one index that differ though both logs have the same place there or later.
fn first_conflict(left: &[Entry], right: &[Entry]) -> Option<(Entry, Entry)> {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut differ = None;
    while let (Some(one), Some(other)) = (left.peek(), right.peek()) {
        match one.0.index.cmp(&other.0.index) {
            Ordering::Less => left.next(),
            Ordering::Greater => right.next(),
            Ordering::Equal => {
                if differ.is_none() && one != other {
                    differ = Some((**one, **other));
                }
                if differ.is_some() && one.0 == other.0 {
                    return differ;
                }
                left.next();
                right.next()
            }
        };
    }
    None
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
