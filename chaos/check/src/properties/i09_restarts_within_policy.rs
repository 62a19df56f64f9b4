use std::{sync::Arc, time::Duration};

use crate::{AllocRow, Observation, Property, Rows};

/// Policies whose interval is longer than any run: all restarts of an allocation count.
const INTERVAL_MIN: Duration = Duration::from_secs(600);

/// A task is started again no more often than its policy allows.
#[derive(Default)]
pub struct RestartsWithinPolicy {
    /// Clocks were wrong at some time: an interval may have seemed to be over.
    clocks_were_off: bool,
}

impl Property for RestartsWithinPolicy {
    fn name(&self) -> &'static str {
        "I9 restarts keep to their policy"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        self.clocks_were_off |= seen.wall.is_none();
        Ok(())
    }

    fn changed(&mut self, _seen: &Observation, rows: &Arc<Rows>) -> Result<(), String> {
        if self.clocks_were_off {
            return Ok(());
        }
        for (id, row) in &rows.allocs {
            if let Some((task, restarts, most)) = too_often(row) {
                return Err(format!(
                    "task {task} of {id} of {} was started again {restarts} times, {most} may be",
                    row.job
                ));
            }
        }
        Ok(())
    }
}

fn too_often(row: &AllocRow) -> Option<(&str, u32, u32)> {
    let group = row.terms()?;
    for task in &group.tasks {
        let policy = task.restart.as_ref().unwrap_or(&group.restart);
        if policy.mode != "fail" || policy.interval < INTERVAL_MIN {
            continue;
        }
        let restarts = row.restarts.get(&task.name).copied().unwrap_or(0);
        if restarts > policy.attempts {
            return Some((&task.name, restarts, policy.attempts));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture::{alloc_id, at, breaks, calm, change, holds, rows_of};

    fn restarted(times: u32, mode: &str) -> Observation {
        let policy = json!({"Attempts": 2, "Interval": 3_600_000_000_000_u64, "Delay": 0, "Mode": mode});
        let mut seen = calm(rows_of(&json!({"RestartPolicy": policy})));
        seen.wall = Some(at(1_000));
        change(&mut seen, |rows| {
            let row = rows.allocs.get_mut(&alloc_id(1)).expect("it is there");
            row.restarts.insert("main".into(), times);
        });
        seen
    }

    #[test]
    fn one_restart_too_many_is_seen() {
        holds::<RestartsWithinPolicy>(&[restarted(2, "fail"), restarted(9, "delay")]);
        breaks::<RestartsWithinPolicy>(&[restarted(3, "fail")]);
        let mut off = restarted(3, "fail");
        off.wall = None;
        holds::<RestartsWithinPolicy>(&[off, restarted(3, "fail")]);
    }
}
