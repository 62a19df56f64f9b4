//! Whether an allocation counts as healthy in its deployment: pure.

use std::time::Duration;

use model::{TaskRunState, TaskState, Timestamp};

/// What an allocation must do to count as healthy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rule {
    /// How long it must be well without a break.
    pub min_healthy_time: Duration,
    /// By when.
    pub deadline: Timestamp,
    /// Whether its checks count, beside its tasks.
    pub checks: bool,
}

/// Watches one allocation until its health is known.
#[derive(Clone, Debug)]
pub struct Watch {
    rule: Rule,
    begun: Timestamp,
    well_since: Option<Timestamp>,
}

/// What is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is well, and was for long enough.
    Healthy,
    /// It is not.
    Unhealthy {
        /// Why, for the history of its tasks.
        why: String,
    },
    /// Not decided; look again at this time at the latest.
    Open {
        /// When.
        again: Timestamp,
    },
}

impl Watch {
    /// Begins to watch. Being well before does not count: an allocation that was updated where it is proves itself anew.
    pub fn new(rule: Rule, begun: Timestamp) -> Self {
        Self { rule, begun, well_since: None }
    }

    /// Looks at the allocation. `main` are the tasks that are meant to stay, `others` those that are meant to end.
    pub fn look(
        &mut self,
        main: &[&TaskState],
        others: &[&TaskState],
        checks_passing: bool,
        now: Timestamp,
    ) -> Verdict {
        let failed = main.iter().chain(others).any(|state| state.state == TaskRunState::Dead && state.failed);
        if failed {
            return Verdict::Unhealthy { why: "Unhealthy because of failed task".to_owned() };
        }
        if main.iter().any(|state| state.state == TaskRunState::Dead) {
            return Verdict::Unhealthy { why: "Unhealthy because of dead task".to_owned() };
        }
        let running = main.iter().all(|state| state.state == TaskRunState::Running);
        let well = running && (checks_passing || !self.rule.checks);
        // A restart begins the time anew, even when it was too quick to be seen as a break.
        let last_start =
            main.iter().map(|state| state.started_at.max(state.last_restart)).max().unwrap_or(now);
        self.well_since = match (well, self.well_since) {
            (false, _) => None,
            (true, Some(since)) => Some(since.max(last_start)),
            (true, None) if self.rule.checks => Some(now),
            (true, None) => Some(last_start.max(self.begun)),
        };
        let done = self.well_since.map(|since| since.after(self.rule.min_healthy_time));
        if done.is_some_and(|done| done <= now) {
            return Verdict::Healthy;
        }
        if now >= self.rule.deadline {
            return Verdict::Unhealthy { why: self.missed(running) };
        }
        Verdict::Open { again: done.unwrap_or(self.rule.deadline).min(self.rule.deadline) }
    }

    fn missed(&self, running: bool) -> String {
        let least = model::duration_text(self.rule.min_healthy_time);
        if !running {
            "Task not running by deadline".to_owned()
        } else if self.rule.checks {
            "Services not healthy by deadline".to_owned()
        } else {
            format!("Task not running for min_healthy_time of {least} by healthy_deadline")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn task(state: TaskRunState, failed: bool, started: i64) -> TaskState {
        TaskState {
            name: "t".into(),
            state,
            failed,
            restarts: 0,
            last_restart: Timestamp::ZERO,
            started_at: Timestamp(started),
            finished_at: Timestamp::ZERO,
            events: Box::new([]),
        }
    }

    fn watch(checks: bool) -> Watch {
        let min_healthy_time = Duration::from_secs(10);
        Watch::new(Rule { min_healthy_time, deadline: Timestamp(60 * SECOND), checks }, Timestamp(1))
    }

    #[test]
    fn a_task_that_runs_long_enough_is_healthy() {
        let mut watch = watch(false);
        let running = task(TaskRunState::Running, false, SECOND);
        let again = Timestamp(11 * SECOND);
        assert_eq!(watch.look(&[&running], &[], false, Timestamp(2 * SECOND)), Verdict::Open { again });
        assert_eq!(watch.look(&[&running], &[], false, again), Verdict::Healthy);
    }

    #[test]
    fn what_ran_before_the_watch_began_proves_itself_anew() {
        let rule = Rule {
            min_healthy_time: Duration::from_secs(10),
            deadline: Timestamp(60 * SECOND),
            checks: false,
        };
        let mut watch = Watch::new(rule, Timestamp(30 * SECOND));
        let running = task(TaskRunState::Running, false, SECOND);
        let again = Timestamp(40 * SECOND);
        assert_eq!(watch.look(&[&running], &[], false, Timestamp(30 * SECOND)), Verdict::Open { again });
        assert_eq!(watch.look(&[&running], &[], false, again), Verdict::Healthy);
    }

    #[test]
    fn a_failed_task_is_unhealthy_at_once() {
        let dead = task(TaskRunState::Dead, true, SECOND);
        let why = "Unhealthy because of failed task".to_owned();
        assert_eq!(
            watch(false).look(&[&dead], &[], false, Timestamp(2 * SECOND)),
            Verdict::Unhealthy { why }
        );
    }

    #[test]
    fn failing_checks_miss_the_deadline() {
        let mut watch = watch(true);
        let running = task(TaskRunState::Running, false, SECOND);
        assert!(matches!(watch.look(&[&running], &[], false, Timestamp(30 * SECOND)), Verdict::Open { .. }));
        assert!(matches!(
            watch.look(&[&running], &[], false, Timestamp(60 * SECOND)),
            Verdict::Unhealthy { .. }
        ));
    }
}
