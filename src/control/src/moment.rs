use std::time::Duration;

use model::{DeploymentId, EvalId, Timestamp};

/// When something happens, and the chance that it takes: a machine has no other.
pub struct Moment<'a> {
    /// Monotonic time since any fixed point. What must be safe depends on this one alone.
    pub elapsed: Duration,
    /// Wall time, which may jump either way. For what users see and what they scheduled.
    pub wall: Timestamp,
    /// Draws 128 random bits.
    pub draw: &'a mut dyn FnMut() -> u128,
}

impl Moment<'_> {
    /// Draws the id of an evaluation.
    pub fn eval_id(&mut self) -> EvalId {
        EvalId::from_random((self.draw)())
    }

    /// Draws the id of a deployment.
    pub fn deployment_id(&mut self) -> DeploymentId {
        DeploymentId::from_random((self.draw)())
    }

    /// Draws a duration below `bound`.
    pub fn jitter(&mut self, bound: Duration) -> Duration {
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX).max(1);
        // The low half of the draw; the remainder's bias is far below what jitter is for.
        #[allow(clippy::cast_possible_truncation)]
        Duration::from_nanos((self.draw)() as u64 % nanos)
    }
}
