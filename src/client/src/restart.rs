//! Whether and when a task is started again: pure, one tracker a task.

use std::time::Duration;

use model::{JobType, Lifecycle, RestartPolicy, Timestamp, duration_text};
use serde::{Deserialize, Serialize};

/// A quarter of the delay is added at random at most, so that tasks that failed together do not come back together.
const JITTER: f64 = 0.25;

/// Counts a task's restarts within its policy's window. Survives restarts of the agent.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Tracker {
    count: u32,
    window_start: Timestamp,
}

/// What made the question necessary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The task ended by itself.
    Exited {
        /// Whether it did what it should.
        successful: bool,
    },
    /// It could not be started, or prepared.
    StartFailed {
        /// Whether trying again here may help.
        recoverable: bool,
    },
    /// Someone asked for a restart.
    Asked,
}

/// What a task is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// It serves: its end, even a good one, is a reason to start it again.
    Lasting,
    /// It does a piece of work: once that succeeded it is over.
    Ending,
}

impl Purpose {
    /// The purpose of a task by the kind of its job, or by its own place in the allocation's life: a task that prepares
    /// or tidies up ends, whatever the job, and a sidecar lasts.
    pub fn of(kind: JobType, lifecycle: Option<Lifecycle>) -> Self {
        let lasts = match lifecycle {
            Some(lifecycle) => lifecycle.sidecar,
            None => matches!(kind, JobType::Service | JobType::System),
        };
        if lasts { Self::Lasting } else { Self::Ending }
    }
}

/// What to do with a task that is not running.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Start it again.
    Restart {
        /// After this time.
        delay: Duration,
        /// Why, for its history; empty when someone asked.
        reason: &'static str,
    },
    /// It is over, and well.
    Done,
    /// It is over, and not well.
    Fail {
        /// Why, for its history.
        reason: String,
    },
}

/// The ordinary reason of a restart.
pub const WITHIN_POLICY: &str = "Restart within policy";

impl Tracker {
    /// Decides about a task that is not running. `jitter` is drawn evenly from 0 to 1.
    pub fn decide(
        &mut self,
        policy: &RestartPolicy,
        purpose: Purpose,
        cause: Cause,
        now: Timestamp,
        jitter: f64,
    ) -> Decision {
        match cause {
            Cause::Asked => return Decision::Restart { delay: Duration::ZERO, reason: "" },
            Cause::StartFailed { recoverable: false } if policy.attempts > 0 => {
                return Decision::Fail { reason: "Error was unrecoverable".to_owned() };
            }
            Cause::Exited { successful: true } if purpose == Purpose::Ending => return Decision::Done,
            Cause::StartFailed { .. } | Cause::Exited { .. } => {}
        }
        // Whatever the mode: there is no window to wait for.
        if policy.attempts == 0 {
            return Decision::Fail { reason: "Policy allows no restarts".to_owned() };
        }
        if now.since(self.window_start) > policy.interval || self.window_start.is_zero() {
            self.count = 0;
            self.window_start = now;
        }
        self.count += 1;
        if self.count <= policy.attempts + u32::from(mutants::on!("client-restarts-once-more")) {
            let delay = policy.delay + policy.delay.mul_f64(JITTER * jitter);
            return Decision::Restart { delay, reason: WITHIN_POLICY };
        }
        if policy.mode == "delay" {
            let end = self.window_start.after(policy.interval);
            return Decision::Restart {
                delay: end.since(now),
                reason: "Exceeded allowed attempts, applying a delay",
            };
        }
        let interval = duration_text(policy.interval);
        Decision::Fail {
            reason: format!(
                "Exceeded allowed attempts {} in interval {interval} and mode is \"{}\"",
                policy.attempts, policy.mode
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(attempts: u32, mode: &str) -> RestartPolicy {
        RestartPolicy {
            attempts,
            interval: Duration::from_secs(1_800),
            delay: Duration::from_secs(15),
            mode: mode.into(),
            render_templates: false,
        }
    }

    const FAILED: Cause = Cause::Exited { successful: false };

    #[test]
    fn a_task_is_restarted_within_its_policy_and_then_fails() {
        let mut tracker = Tracker::default();
        let now = Timestamp(1_000_000_000);
        let two = policy(2, "fail");
        for _ in 0..2 {
            let decision = tracker.decide(&two, Purpose::Lasting, FAILED, now, 0.0);
            assert_eq!(decision, Decision::Restart { delay: Duration::from_secs(15), reason: WITHIN_POLICY });
        }
        let reason = "Exceeded allowed attempts 2 in interval 30m0s and mode is \"fail\"".to_owned();
        assert_eq!(tracker.decide(&two, Purpose::Lasting, FAILED, now, 0.0), Decision::Fail { reason });
    }

    #[test]
    fn a_batch_task_that_succeeded_is_done_and_a_service_is_not() {
        let cause = Cause::Exited { successful: true };
        let now = Timestamp(1_000_000_000);
        let three = policy(3, "fail");
        assert_eq!(Tracker::default().decide(&three, Purpose::Ending, cause, now, 0.0), Decision::Done);
        let service = Tracker::default().decide(&three, Purpose::Lasting, cause, now, 0.0);
        assert!(matches!(service, Decision::Restart { .. }));
    }

    #[test]
    fn without_attempts_what_is_to_last_fails_however_it_ends() {
        let now = Timestamp(1_000_000_000);
        let ended = Cause::Exited { successful: true };
        for mode in ["fail", "delay"] {
            let none = policy(0, mode);
            for cause in [ended, FAILED] {
                let reason = "Policy allows no restarts".to_owned();
                assert_eq!(
                    Tracker::default().decide(&none, Purpose::Lasting, cause, now, 0.0),
                    Decision::Fail { reason }
                );
            }
            assert_eq!(Tracker::default().decide(&none, Purpose::Ending, ended, now, 0.0), Decision::Done);
        }
    }

    #[test]
    fn what_prepares_a_service_ends_and_its_sidecars_last() {
        let hook = |sidecar| Some(Lifecycle { hook: model::LifecycleHook::Prestart, sidecar });
        assert_eq!(Purpose::of(JobType::Service, None), Purpose::Lasting);
        assert_eq!(Purpose::of(JobType::Batch, None), Purpose::Ending);
        assert_eq!(Purpose::of(JobType::Service, hook(false)), Purpose::Ending);
        assert_eq!(Purpose::of(JobType::Batch, hook(true)), Purpose::Lasting);
    }

    #[test]
    fn a_new_window_forgets_old_restarts() {
        let mut tracker = Tracker::default();
        let one = policy(1, "fail");
        let first = Timestamp(1_000_000_000);
        assert!(matches!(
            tracker.decide(&one, Purpose::Lasting, FAILED, first, 0.0),
            Decision::Restart { .. }
        ));
        let later = first.after(Duration::from_secs(1_801));
        assert!(matches!(
            tracker.decide(&one, Purpose::Lasting, FAILED, later, 0.0),
            Decision::Restart { .. }
        ));
    }

    #[test]
    fn mode_delay_waits_for_the_next_window() {
        let mut tracker = Tracker::default();
        let one = policy(1, "delay");
        let first = Timestamp(1_000_000_000);
        tracker.decide(&one, Purpose::Lasting, FAILED, first, 0.0);
        let now = first.after(Duration::from_secs(800));
        let decision = tracker.decide(&one, Purpose::Lasting, FAILED, now, 0.0);
        let delay = Duration::from_secs(1_000);
        assert_eq!(
            decision,
            Decision::Restart { delay, reason: "Exceeded allowed attempts, applying a delay" }
        );
    }
}
