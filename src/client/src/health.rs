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
    /// How long after the beginning that is, in the group's words.
    pub healthy_deadline: Duration,
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
        /// Why, for the history of each task that is to blame, by its position.
        why: Vec<(usize, String)>,
    },
    /// Not decided; look again at this time at the latest.
    Open {
        /// When.
        again: Timestamp,
    },
}

/// What a task is to its allocation's health.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// It is meant to stay: a main task or a sidecar.
    Stays,
    /// It is meant to end well: what prepares, or runs once beside the main tasks.
    Ends,
    /// It does not count: it runs when all others are over.
    Apart,
}

impl Watch {
    /// Begins to watch. Being well before does not count: an allocation that was updated where it is proves itself anew.
    pub fn new(rule: Rule, begun: Timestamp) -> Self {
        Self { rule, begun, well_since: None }
    }

    /// Tells by when the allocation must be well.
    pub fn deadline(&self) -> Timestamp {
        self.rule.deadline
    }

    /// Looks at the allocation's tasks, in the order of its group.
    pub fn look(&mut self, tasks: &[(Part, &TaskState)], checks_passing: bool, now: Timestamp) -> Verdict {
        let of = |part: Part| tasks.iter().filter(move |(own, _)| *own == part).map(|(_, state)| *state);
        let dead = |state: &&TaskState| state.state == TaskRunState::Dead;
        let failed = of(Part::Stays).chain(of(Part::Ends)).filter(dead).any(|state| state.failed);
        if failed || of(Part::Stays).any(|state| dead(&state)) {
            return Verdict::Unhealthy { why: self.blame(tasks, now) };
        }
        let running = of(Part::Stays).all(|state| state.state == TaskRunState::Running);
        let well = running && (checks_passing || !self.rule.checks);
        // A restart begins the time anew, even when it was too quick to be seen as a break.
        let last_start =
            of(Part::Stays).map(|state| state.started_at.max(state.last_restart)).max().unwrap_or(now);
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
            return Verdict::Unhealthy { why: self.blame(tasks, now) };
        }
        Verdict::Open { again: done.unwrap_or(self.rule.deadline).min(self.rule.deadline) }
    }

    /// Says of each task that stands in the way what is wrong with it.
    fn blame(&self, tasks: &[(Part, &TaskState)], now: Timestamp) -> Vec<(usize, String)> {
        let least = model::duration_text(self.rule.min_healthy_time);
        let longest = model::duration_text(self.rule.healthy_deadline);
        let too_short = |state: &TaskState| {
            state.started_at.max(state.last_restart).max(self.begun).after(self.rule.min_healthy_time) > now
        };
        let why = |part: Part, state: &TaskState| match (part, state.state) {
            (Part::Apart, _) => None,
            (_, TaskRunState::Dead) if state.failed => Some("Unhealthy because of failed task".to_owned()),
            (Part::Stays, TaskRunState::Dead) => Some("Unhealthy because of dead task".to_owned()),
            (_, TaskRunState::Pending) => Some("Task not running by deadline".to_owned()),
            (Part::Stays, TaskRunState::Running) if too_short(state) => Some(format!(
                "Task not running for min_healthy_time of {least} by healthy_deadline of {longest}"
            )),
            (Part::Stays, TaskRunState::Running) if self.rule.checks => {
                Some("Services not healthy by deadline".to_owned())
            }
            (Part::Ends | Part::Stays, _) => None,
        };
        let blamed =
            tasks.iter().enumerate().filter_map(|(at, (part, state))| Some((at, why(*part, state)?)));
        blamed.collect()
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
        let healthy_deadline = Duration::from_secs(60);
        let rule = Rule { min_healthy_time, deadline: Timestamp(60 * SECOND), healthy_deadline, checks };
        Watch::new(rule, Timestamp(1))
    }

    #[test]
    fn a_task_that_runs_long_enough_is_healthy() {
        let mut watch = watch(false);
        let running = task(TaskRunState::Running, false, SECOND);
        let again = Timestamp(11 * SECOND);
        assert_eq!(
            watch.look(&[(Part::Stays, &running)], false, Timestamp(2 * SECOND)),
            Verdict::Open { again }
        );
        assert_eq!(watch.look(&[(Part::Stays, &running)], false, again), Verdict::Healthy);
    }

    #[test]
    fn what_ran_before_the_watch_began_proves_itself_anew() {
        let rule = Rule {
            min_healthy_time: Duration::from_secs(10),
            deadline: Timestamp(60 * SECOND),
            healthy_deadline: Duration::from_secs(60),
            checks: false,
        };
        let mut watch = Watch::new(rule, Timestamp(30 * SECOND));
        let running = task(TaskRunState::Running, false, SECOND);
        let again = Timestamp(40 * SECOND);
        assert_eq!(
            watch.look(&[(Part::Stays, &running)], false, Timestamp(30 * SECOND)),
            Verdict::Open { again }
        );
        assert_eq!(watch.look(&[(Part::Stays, &running)], false, again), Verdict::Healthy);
    }

    #[test]
    fn a_failed_task_is_unhealthy_at_once() {
        let dead = task(TaskRunState::Dead, true, SECOND);
        let killed = task(TaskRunState::Dead, false, SECOND);
        let ended = task(TaskRunState::Dead, false, SECOND);
        let why = vec![
            (0, "Unhealthy because of failed task".to_owned()),
            (1, "Unhealthy because of dead task".to_owned()),
        ];
        // What is meant to end and did is not to blame.
        let tasks = [(Part::Stays, &dead), (Part::Stays, &killed), (Part::Ends, &ended)];
        assert_eq!(watch(false).look(&tasks, false, Timestamp(2 * SECOND)), Verdict::Unhealthy { why });
    }

    #[test]
    fn what_restarts_too_often_is_told_both_times() {
        let restarted = task(TaskRunState::Running, false, 55 * SECOND);
        let why = "Task not running for min_healthy_time of 10s by healthy_deadline of 1m0s".to_owned();
        let verdict = watch(false).look(&[(Part::Stays, &restarted)], false, Timestamp(60 * SECOND));
        assert_eq!(verdict, Verdict::Unhealthy { why: vec![(0, why)] });
    }

    #[test]
    fn failing_checks_miss_the_deadline() {
        let mut watch = watch(true);
        let running = task(TaskRunState::Running, false, SECOND);
        assert!(matches!(
            watch.look(&[(Part::Stays, &running)], false, Timestamp(30 * SECOND)),
            Verdict::Open { .. }
        ));
        assert!(matches!(
            watch.look(&[(Part::Stays, &running)], false, Timestamp(60 * SECOND)),
            Verdict::Unhealthy { .. }
        ));
    }
}
