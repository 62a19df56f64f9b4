use std::collections::{BTreeMap, BTreeSet};

use model::{JobKey, Text};

use crate::{History, Observation, Property, Watched};

/// What one follower is handed by one server never goes back, events come once and in order, and whoever follows a job
/// is handed its last change.
#[derive(Default)]
pub struct IndexesNeverFall {
    /// By follower and server.
    indexes: BTreeMap<(Text, u64), u64>,
    events: BTreeMap<Text, u64>,
    jobs: BTreeMap<(Text, JobKey), u64>,
    ended: BTreeSet<Text>,
    /// The index of each server's state, by its boot.
    states: BTreeMap<(u64, u32), u64>,
}

impl Property for IndexesNeverFall {
    fn name(&self) -> &'static str {
        "I12 indexes never go back"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        for server in &seen.servers {
            let Some(rows) = &server.rows else { continue };
            let last = self.states.insert((server.id, server.boot), rows.index).unwrap_or(0);
            if rows.index < last {
                return Err(format!("server {} went from index {last} to {}", server.id, rows.index));
            }
        }
        for watched in &seen.watched {
            let who = &watched.watcher;
            let index = match &watched.seen {
                Watched::Ended => {
                    self.ended.insert(who.clone());
                    continue;
                }
                Watched::Index { index } => *index,
                Watched::Job { index, key, job_index } => {
                    self.jobs.insert((who.clone(), key.clone()), *job_index);
                    *index
                }
                Watched::Events { index, .. } => {
                    let last = self.events.insert(who.clone(), *index).unwrap_or(0);
                    if *index <= last {
                        return Err(format!("{who} was handed events of index {index} after {last}"));
                    }
                    continue;
                }
            };
            let last = self.indexes.insert((who.clone(), watched.server), index).unwrap_or(0);
            if index < last {
                return Err(format!("{who} was answered index {index} after {last} by {}", watched.server));
            }
        }
        Ok(())
    }

    fn end(&self, last: &Observation, _history: &History) -> Result<(), String> {
        let Some(rows) = last.newest_rows() else { return Ok(()) };
        for ((who, key), told) in self.jobs.iter().filter(|((who, _), _)| !self.ended.contains(who)) {
            let real = rows.jobs.get(key).map_or(0, |job| job.job_index);
            if real != *told {
                return Err(format!("{who} follows {key}, was last told index {told}, and it is at {real}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        WatchSeen,
        fixture::{breaks, calm, change, holds, key, rows},
    };

    fn told(server: u64, seen: Watched) -> Observation {
        let mut observation = calm(rows());
        observation.watched = vec![WatchSeen { watcher: "w".into(), server, seen }];
        observation
    }

    #[test]
    fn an_index_that_goes_back_is_seen() {
        let index = |server, index| told(server, Watched::Index { index });
        holds::<IndexesNeverFall>(&[index(1, 5), index(2, 3), index(1, 5), index(1, 6)]);
        breaks::<IndexesNeverFall>(&[index(1, 5), index(1, 4)]);
    }

    #[test]
    fn a_state_that_goes_back_is_seen_unless_the_server_started_again() {
        let mut older = calm(rows());
        change(&mut older, |rows| rows.index = 19);
        breaks::<IndexesNeverFall>(&[calm(rows()), older.clone()]);
        older.servers[0].boot = 1;
        holds::<IndexesNeverFall>(&[calm(rows()), older]);
    }

    #[test]
    fn events_that_come_twice_are_seen() {
        let events = |index| told(1, Watched::Events { index, count: 1 });
        holds::<IndexesNeverFall>(&[events(5), events(7)]);
        breaks::<IndexesNeverFall>(&[events(5), events(5)]);
    }

    #[test]
    fn a_change_that_was_missed_is_seen() {
        let job = |job_index| told(1, Watched::Job { index: 10, key: key(), job_index });
        let (old, new) = (job(9), job(10));
        let property: IndexesNeverFall = holds(std::slice::from_ref(&old));
        property.end(&old, &History::default()).expect_err("the job is at 10");
        let property: IndexesNeverFall = holds(&[old.clone(), told(1, Watched::Ended)]);
        assert_eq!(property.end(&old, &History::default()), Ok(()));
        let property: IndexesNeverFall = holds(&[old, new.clone()]);
        assert_eq!(property.end(&new, &History::default()), Ok(()));
    }
}
