use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use model::{AllocId, ClientStatus, DesiredStatus, DrainStrategy, JobKey, JobType, NodeId, Text, Timestamp};

use crate::{AllocRow, Observation, Property, Rows};

/// How near to its end a drain counts as over: what happens then may have been decided on either side of it.
const END_NEAR: Duration = Duration::from_secs(1);
/// How long after its time a drain may still go on: what runs has its own time to stop.
const OVER_WITHIN: Duration = Duration::from_secs(40);

/// Before its time is over, a drain asks services to leave only while enough of them stay healthy, batch work not at all, and
/// system jobs when all others have left. A drained node is empty, and a drain whose time is over ends.
#[derive(Default)]
pub struct DrainsInTurn {
    before: Option<Arc<Rows>>,
}

impl Property for DrainsInTurn {
    fn name(&self) -> &'static str {
        "I3 drains go on in turn"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        let Some(rows) = seen.newest_rows() else { return Ok(()) };
        drains_end(seen, rows)
    }

    fn changed(&mut self, seen: &Observation, rows: &Arc<Rows>) -> Result<(), String> {
        let Some(before) = self.before.replace(rows.clone()) else { return Ok(()) };
        Step { before: &before, rows, wall: seen.wall, by_hand: &seen.stopped_by_hand }.check()
    }
}

/// After the last fault, a drain ends soon after its time.
fn drains_end(seen: &Observation, rows: &Rows) -> Result<(), String> {
    let (Some(wall), Some(calm)) = (seen.wall, seen.calm_for()) else { return Ok(()) };
    for (id, node) in rows.nodes.iter().filter(|_| calm > OVER_WITHIN) {
        let over = |drain: &DrainStrategy| {
            !drain.force_deadline.is_zero() && drain.force_deadline.after(OVER_WITHIN) < wall
        };
        if node.drain.as_ref().is_some_and(over) {
            return Err(format!("node {id} is still being emptied long after the time for it was over"));
        }
    }
    Ok(())
}

/// What happened between two observations, in whatever order.
struct Step<'a> {
    before: &'a Rows,
    rows: &'a Rows,
    wall: Option<Timestamp>,
    by_hand: &'a BTreeSet<AllocId>,
}

impl Step<'_> {
    fn check(&self) -> Result<(), String> {
        self.drained_nodes_are_empty()?;
        let mut leaving: BTreeMap<(&JobKey, &Text), Vec<&AllocRow>> = BTreeMap::new();
        for (id, row) in self.rows.allocs.iter().filter(|(id, row)| self.is_asked(**id, row)) {
            match row.kind {
                JobType::Batch => {
                    return Err(format!(
                        "batch allocation {id} has to leave before the drain's time is over"
                    ));
                }
                JobType::System | JobType::Sysbatch => self.others_have_left(*id, row)?,
                JobType::Service => {
                    leaving.entry((&row.job, &row.group)).or_default().push(row);
                }
            }
        }
        leaving.iter().try_for_each(|((key, group), rows)| self.enough_stay(key, group, rows))
    }

    /// Tells whether an allocation was asked to leave by a drain that had time left.
    fn is_asked(&self, id: AllocId, row: &AllocRow) -> bool {
        let known = self.before.allocs.get(&id);
        let news = row.story.migrates && known.is_some_and(|known| !known.story.migrates);
        news && !self.by_hand.contains(&id) && self.has_time(row.node)
    }

    /// Tells whether a node is emptied by one drain all the time or since it began meanwhile, and that has time left.
    fn has_time(&self, id: NodeId) -> bool {
        let drain = |rows: &Rows| rows.nodes.get(&id).and_then(|node| node.drain);
        let (Some(wall), Some(drain), before) = (self.wall, drain(self.rows), drain(self.before)) else {
            return false;
        };
        let goes_on = before.is_none_or(|before| before == drain);
        let over =
            drain.force || (!drain.force_deadline.is_zero() && drain.force_deadline <= wall.after(END_NEAR));
        goes_on && !over
    }

    fn others_have_left(&self, id: AllocId, row: &AllocRow) -> Result<(), String> {
        let stays = |(other, old): &(&AllocId, &AllocRow)| {
            let there = self.rows.allocs.get(*other).is_some_and(|now| !now.client.is_terminal());
            let lasts = matches!(old.kind, JobType::Service | JobType::Batch);
            there && lasts && old.node == row.node && !old.client.is_terminal()
        };
        match self.before.allocs.iter().find(stays) {
            Some((other, _)) => {
                Err(format!("system allocation {id} has to leave node {} before {other} has", row.node))
            }
            None => Ok(()),
        }
    }

    /// Each may leave only while more than `count - max_parallel` are healthy and stay, so however the step went, no more
    /// healthy ones were asked than were healthy, or became so, beyond that. One that is not healthy takes nothing from those
    /// that stay.
    fn enough_stay(&self, key: &JobKey, group: &Text, leaving: &[&AllocRow]) -> Result<(), String> {
        let of_group = |row: &AllocRow| row.job == *key && row.group == *group;
        let counts = |row: &AllocRow| {
            let runs = row.desired == DesiredStatus::Run && row.client == ClientStatus::Running;
            runs && row.story.healthy == Some(true) && !row.story.migrates
        };
        let healthy = self.before.allocs.values().filter(|row| of_group(row) && counts(row)).count();
        let recovered = |(id, row): &(&AllocId, &AllocRow)| {
            let counted = self.before.allocs.get(*id).is_some_and(counts);
            of_group(row) && row.story.healthy == Some(true) && !counted
        };
        let recovered = self.rows.allocs.iter().filter(recovered).count();
        // The specification may have changed in between: whichever allows more.
        let (mut stay, mut pace) = (usize::MAX, 1);
        let olds = self.before.allocs.values().filter(|row| of_group(row));
        for row in olds.chain(leaving.iter().copied()) {
            let Some(terms) = row.terms() else { return Ok(()) };
            stay = stay.min(usize::try_from(terms.count).unwrap_or(usize::MAX));
            let parallel = terms.migrate.as_ref().map_or(1, |migrate| migrate.max_parallel.max(1));
            pace = pace.max(usize::try_from(parallel).unwrap_or(usize::MAX));
        }
        let most = (healthy + recovered).saturating_sub(stay.saturating_sub(pace));
        let sound = leaving.iter().filter(|row| row.story.healthy == Some(true)).count();
        if sound > most || most == 0 {
            return Err(format!(
                "{} of {key} group {group} have to leave draining nodes at once, {most} may: {healthy} were healthy, \
                 {recovered} became so, {} of {stay} have to stay",
                leaving.len(),
                stay.saturating_sub(pace)
            ));
        }
        Ok(())
    }

    fn drained_nodes_are_empty(&self) -> Result<(), String> {
        for (id, node) in &self.rows.nodes {
            let Some(old) = self.before.nodes.get(id) else { continue };
            let Some(drain) = old.drain.filter(|_| node.drain.is_none() && node.drained && !old.drained)
            else {
                continue;
            };
            let is_left = |(alloc, row): &(&AllocId, &AllocRow)| {
                let old = self.before.allocs.get(*alloc).is_some_and(|old| !old.client.is_terminal());
                let spared =
                    drain.ignore_system_jobs && matches!(row.kind, JobType::System | JobType::Sysbatch);
                row.node == *id && old && !row.client.is_terminal() && !spared
            };
            if let Some((alloc, row)) = self.rows.allocs.iter().find(is_left) {
                return Err(format!("node {id} counts as drained and {alloc} of {} is still on it", row.job));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        Phase,
        fixture::{alloc_id, at, breaks, calm, change, holds, node_id, rows_of},
    };

    /// Node 1 is being emptied until 2000 s; it is 1000 s.
    fn draining() -> Observation {
        let mut seen = calm(rows_of(&json!({"Migrate": {"MaxParallel": 1}})));
        seen.wall = Some(at(1_000));
        change(&mut seen, |rows| {
            let node = rows.nodes.get_mut(&node_id(1)).expect("it is there");
            node.drain = Some(DrainStrategy { force_deadline: at(2_000), ..DrainStrategy::default() });
        });
        seen
    }

    fn later(seen: &Observation, spoil: impl FnOnce(&mut Rows)) -> Observation {
        let mut later = seen.clone();
        change(&mut later, |rows| {
            rows.index += 1;
            spoil(rows);
        });
        later
    }

    fn leave(rows: &mut Rows, numbers: &[u128]) {
        for number in numbers {
            rows.allocs.get_mut(&alloc_id(*number)).expect("it is there").story.migrates = true;
        }
    }

    #[test]
    fn one_at_a_time_is_fine_and_two_are_seen() {
        let first = draining();
        holds::<DrainsInTurn>(&[first.clone(), later(&first, |rows| leave(rows, &[1]))]);
        let both = later(&first, |rows| leave(rows, &[1, 2]));
        let said = breaks::<DrainsInTurn>(&[first.clone(), both.clone()]);
        assert!(said.contains("2 of default/web") || said.contains("have to leave"), "{said}");
        let mut by_hand = both.clone();
        by_hand.stopped_by_hand.insert(alloc_id(2));
        holds::<DrainsInTurn>(&[first.clone(), by_hand]);
        let mut over = both;
        over.wall = Some(at(2_000));
        holds::<DrainsInTurn>(&[first, over]);
    }

    #[test]
    fn nothing_leaves_while_another_is_not_healthy_yet() {
        let mut first = draining();
        change(&mut first, |rows| {
            rows.allocs.get_mut(&alloc_id(3)).expect("it is there").story.healthy = None;
        });
        breaks::<DrainsInTurn>(&[first.clone(), later(&first, |rows| leave(rows, &[1]))]);
        let well = later(&first, |rows| {
            rows.allocs.get_mut(&alloc_id(3)).expect("it is there").story.healthy = Some(true);
            leave(rows, &[1]);
        });
        holds::<DrainsInTurn>(&[first, well]);
    }

    #[test]
    fn what_has_to_leave_the_moment_that_a_drain_begins_is_looked_at() {
        let (mut before, first) = (draining(), draining());
        change(&mut before, |rows| rows.nodes.get_mut(&node_id(1)).expect("it is there").drain = None);
        breaks::<DrainsInTurn>(&[before.clone(), later(&first, |rows| leave(rows, &[1, 2]))]);
        holds::<DrainsInTurn>(&[before, later(&first, |rows| leave(rows, &[1]))]);
    }

    #[test]
    fn batch_work_is_not_stopped_before_its_time() {
        let mut first = draining();
        change(&mut first, |rows| {
            rows.allocs.get_mut(&alloc_id(1)).expect("it is there").kind = JobType::Batch;
        });
        breaks::<DrainsInTurn>(&[first.clone(), later(&first, |rows| leave(rows, &[1]))]);
    }

    #[test]
    fn system_jobs_leave_last() {
        let mut first = draining();
        change(&mut first, |rows| {
            rows.allocs.get_mut(&alloc_id(1)).expect("it is there").kind = JobType::System;
        });
        breaks::<DrainsInTurn>(&[first.clone(), later(&first, |rows| leave(rows, &[1]))]);
        let alone = later(&first, |rows| {
            leave(rows, &[1]);
            rows.allocs.get_mut(&alloc_id(2)).expect("it is there").client = ClientStatus::Complete;
        });
        holds::<DrainsInTurn>(&[first, alone]);
    }

    #[test]
    fn a_drained_node_with_something_on_it_is_seen() {
        let first = draining();
        let drained = |rows: &mut Rows| {
            let node = rows.nodes.get_mut(&node_id(1)).expect("it is there");
            (node.drain, node.drained) = (None, true);
        };
        breaks::<DrainsInTurn>(&[first.clone(), later(&first, drained)]);
        let empty = later(&first, |rows| {
            drained(rows);
            rows.allocs.retain(|_, row| row.node != node_id(1));
        });
        holds::<DrainsInTurn>(&[first, empty]);
    }

    #[test]
    fn a_drain_that_never_ends_is_seen() {
        let mut late = draining();
        late.wall = Some(at(2_100));
        breaks::<DrainsInTurn>(&[draining(), late.clone()]);
        late.phase = Phase::Faults;
        holds::<DrainsInTurn>(&[draining(), late]);
    }
}
