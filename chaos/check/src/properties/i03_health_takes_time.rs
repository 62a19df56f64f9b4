use std::{sync::Arc, time::Duration};

use model::JobType;

use crate::{AllocRow, Observation, Property, Rows};

/// Clocks that are right still differ by what a message takes.
const TOLERANCE: Duration = Duration::from_millis(100);

/// An allocation does not count as healthy before it can have run for as long as its group asks for.
#[derive(Default)]
pub struct HealthTakesTime {
    /// Clocks were wrong at some time: times in the rows say nothing.
    clocks_were_off: bool,
}

impl Property for HealthTakesTime {
    fn name(&self) -> &'static str {
        "I3 health takes its time"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        self.clocks_were_off |= seen.wall.is_none();
        Ok(())
    }

    fn changed(&mut self, _seen: &Observation, rows: &Arc<Rows>) -> Result<(), String> {
        if self.clocks_were_off {
            return Ok(());
        }
        for (id, row) in rows.allocs.iter().filter(|(_, row)| row.story.healthy == Some(true)) {
            let Some(least) = least(row).filter(|_| row.kind == JobType::Service) else { continue };
            let took = row.story.healthy_at.since(row.story.placed_at);
            if !row.story.healthy_at.is_zero() && took + TOLERANCE < least {
                return Err(format!(
                    "{id} of {} counts as healthy {took:?} after it was placed; {least:?} are asked for",
                    row.job
                ));
            }
        }
        Ok(())
    }
}

/// How long an allocation has to be well.
fn least(row: &AllocRow) -> Option<Duration> {
    let terms = row.terms()?;
    match row.story.deployment {
        Some(_) => terms.update.as_ref().map(|update| update.min_healthy_time),
        None => terms.migrate.as_ref().map(|migrate| migrate.min_healthy_time),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture::{alloc_id, at, breaks, calm, change, holds, rows_of};

    fn healthy(second: i64) -> Observation {
        let mut seen = calm(rows_of(&json!({"Migrate": {"MinHealthyTime": 10_000_000_000_u64}})));
        seen.wall = Some(at(1_000));
        change(&mut seen, |rows| {
            rows.allocs.get_mut(&alloc_id(1)).expect("it is there").story.healthy_at = at(second);
        });
        seen
    }

    #[test]
    fn health_before_its_time_is_seen() {
        // It was placed at 11 s.
        holds::<HealthTakesTime>(&[healthy(21)]);
        breaks::<HealthTakesTime>(&[healthy(20)]);
        let mut off = healthy(20);
        off.wall = None;
        holds::<HealthTakesTime>(&[off]);
    }
}
