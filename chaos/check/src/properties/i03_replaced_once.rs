use std::{collections::BTreeMap, sync::Arc, time::Duration};

use model::{AllocId, ClientStatus, DesiredStatus};

use crate::{AllocRow, Observation, Property, Rows};

/// How much sooner than its policy says a failed allocation may be replaced: those that are due within five seconds of each
/// other share an evaluation, and what is due within a second is done at once.
const SOONER_MAX: Duration = Duration::from_millis(6_500);

/// An allocation is replaced once: the two know each other, nobody else was placed for it, and it is not wanted any more,
/// unless its node was out of reach. One that failed is replaced no sooner and no more often than its policy allows.
#[derive(Default)]
pub struct ReplacedOnce {
    /// Clocks were wrong at some time: times in the rows say nothing.
    clocks_were_off: bool,
}

impl Property for ReplacedOnce {
    fn name(&self) -> &'static str {
        "I3 what ends is replaced once"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        self.clocks_were_off |= seen.wall.is_none();
        Ok(())
    }

    fn changed(&mut self, _seen: &Observation, rows: &Arc<Rows>) -> Result<(), String> {
        let mut successors: BTreeMap<AllocId, AllocId> = BTreeMap::new();
        for (id, row) in &rows.allocs {
            is_given_up(rows, *id, row)?;
            let Some(previous) = row.story.previous else { continue };
            let Some(before) = rows.allocs.get(&previous) else { continue };
            know_each_other(rows, (*id, row), (previous, before))?;
            if let Some(other) = successors.insert(previous, *id).filter(|_| !before.was_unknown) {
                return Err(format!("both {other} and {id} of {} were placed for {previous}", row.job));
            }
            if !self.clocks_were_off {
                in_its_time(rows, *id, row)?;
            }
        }
        Ok(())
    }
}

/// What somebody took the place of is wanted no more; what is out of reach may come back.
fn is_given_up(rows: &Rows, id: AllocId, row: &AllocRow) -> Result<(), String> {
    let Some(next) = row.story.next else { return Ok(()) };
    if row.wanted() && !row.was_unknown {
        return Err(format!(
            "{next} was placed for {id} of {}, which is still wanted at index {}",
            row.job, rows.index
        ));
    }
    Ok(())
}

fn know_each_other(
    rows: &Rows,
    (id, row): (AllocId, &AllocRow),
    (previous, before): (AllocId, &AllocRow),
) -> Result<(), String> {
    let follows = before.story.next.and_then(|next| Some((next, rows.allocs.get(&next)?)));
    let knows = match (before.story.next, follows) {
        (None, _) => false,
        // The one that was placed last may be collected already.
        (Some(_), None) => true,
        (Some(_), Some((next, last))) => next == id || last.story.previous == Some(previous),
    };
    let same = row.job == before.job && row.group == before.group;
    if !knows || !same || row.create_index <= before.create_index {
        return Err(format!(
            "{id} of {} says that it was placed for {previous} of {}, whose next is {:?}",
            row.job, before.job, before.story.next
        ));
    }
    Ok(())
}

/// Finds the failed allocation that this one was placed for, and for no other reason than that it failed.
fn failed_before<'a>(rows: &'a Rows, id: AllocId, row: &AllocRow) -> Option<(AllocId, &'a AllocRow)> {
    let previous = row.story.previous?;
    let before = rows.allocs.get(&previous)?;
    let rescheduled = before.client == ClientStatus::Failed
        && before.desired == DesiredStatus::Stop
        && before.story.why.is_empty()
        && !before.story.forced
        && !before.story.migrates;
    (rescheduled && before.story.next == Some(id)).then_some((previous, before))
}

/// Follows the line of failures back and counts those within the policy's interval.
fn in_its_time(rows: &Rows, id: AllocId, row: &AllocRow) -> Result<(), String> {
    let Some((_, before)) = failed_before(rows, id, row) else { return Ok(()) };
    let Some(policy) = row.terms().and_then(|terms| terms.reschedule.as_ref()) else { return Ok(()) };
    let waited = row.story.placed_at.since(before.story.ended_at);
    if policy.delay_function == "constant"
        && !before.story.ended_at.is_zero()
        && waited + SOONER_MAX < policy.delay
    {
        return Err(format!(
            "{id} of {} was placed {waited:?} after the failure of the one before it; {:?} were asked for",
            row.job, policy.delay
        ));
    }
    if policy.unlimited {
        return Ok(());
    }
    let (mut attempts, mut current) = (0, (id, row));
    while let Some(earlier) = failed_before(rows, current.0, current.1) {
        let ago = row.story.placed_at.since(current.1.story.placed_at);
        if policy.interval.is_zero() || ago < policy.interval {
            attempts += 1;
        }
        current = earlier;
    }
    if attempts > policy.attempts {
        return Err(format!(
            "{id} of {} is attempt {attempts} within {:?}, {} may be",
            row.job, policy.interval, policy.attempts
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture::{alloc, alloc_id, at, breaks, calm, change, holds, rows_of};

    const SECOND: u64 = 1_000_000_000;

    /// Allocation 1 failed at 100 s and 11 took its place at 110 s.
    fn replaced() -> Observation {
        let policy = json!({"Attempts": 1, "Interval": 3_600 * SECOND, "Delay": 10 * SECOND,
            "DelayFunction": "constant", "Unlimited": false});
        let mut seen = calm(rows_of(&json!({"ReschedulePolicy": policy})));
        seen.wall = Some(at(1_000));
        change(&mut seen, |rows| fail(rows, 1, 100));
        seen
    }

    fn fail(rows: &mut Rows, number: u128, second: i64) {
        let before = rows.allocs.get_mut(&alloc_id(number)).expect("it is there");
        (before.desired, before.client) = (DesiredStatus::Stop, ClientStatus::Failed);
        (before.story.next, before.story.ended_at) = (Some(alloc_id(number + 10)), at(second));
        let mut next = alloc(1, 0);
        (next.spec, next.create_index) = (before.spec.clone(), before.create_index + 5);
        (next.story.previous, next.story.placed_at) = (Some(alloc_id(number)), at(second + 10));
        rows.allocs.insert(alloc_id(number + 10), next);
    }

    fn spoiled(spoil: impl FnOnce(&mut Rows)) -> Observation {
        let mut seen = replaced();
        change(&mut seen, spoil);
        seen
    }

    fn row(rows: &mut Rows, number: u128) -> &mut AllocRow {
        rows.allocs.get_mut(&alloc_id(number)).expect("it is there")
    }

    #[test]
    fn what_is_replaced_and_still_wanted_is_seen() {
        holds::<ReplacedOnce>(&[replaced()]);
        let wanted = |rows: &mut Rows| {
            (row(rows, 1).desired, row(rows, 1).client) = (DesiredStatus::Run, ClientStatus::Running);
        };
        breaks::<ReplacedOnce>(&[spoiled(wanted)]);
        holds::<ReplacedOnce>(&[spoiled(|rows| {
            wanted(rows);
            row(rows, 1).was_unknown = true;
        })]);
    }

    #[test]
    fn two_that_take_one_place_are_seen() {
        let two = |rows: &mut Rows| {
            let twin = row(rows, 11).clone();
            rows.allocs.insert(alloc_id(12), twin);
        };
        let said = breaks::<ReplacedOnce>(&[spoiled(two)]);
        assert!(said.contains("were placed for"), "{said}");
    }

    #[test]
    fn a_line_that_does_not_hang_together_is_seen() {
        breaks::<ReplacedOnce>(&[spoiled(|rows| row(rows, 1).story.next = None)]);
        breaks::<ReplacedOnce>(&[spoiled(|rows| row(rows, 11).group = "other".into())]);
        breaks::<ReplacedOnce>(&[spoiled(|rows| row(rows, 11).create_index = 3)]);
    }

    #[test]
    fn one_attempt_too_many_is_seen() {
        let again = |rows: &mut Rows| fail(rows, 11, 200);
        let said = breaks::<ReplacedOnce>(&[spoiled(again)]);
        assert!(said.contains("attempt 2"), "{said}");
        // The first of them was before the interval began.
        holds::<ReplacedOnce>(&[spoiled(|rows| fail(rows, 11, 3_800))]);
        // It did not fail: its node was emptied.
        holds::<ReplacedOnce>(&[spoiled(|rows| {
            fail(rows, 11, 200);
            row(rows, 1).story.why = "alloc is being migrated".into();
        })]);
        let mut off = spoiled(again);
        off.wall = None;
        holds::<ReplacedOnce>(&[off]);
    }

    #[test]
    fn a_replacement_before_its_time_is_seen() {
        let said = breaks::<ReplacedOnce>(&[spoiled(|rows| row(rows, 11).story.placed_at = at(101))]);
        assert!(said.contains("were asked for"), "{said}");
    }
}
