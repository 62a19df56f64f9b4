use std::time::Duration;

use runtime::Instant;

/// Failures in a row after which the engine is left alone for a while. One or two happen when it restarts.
const FAILURES_MAX: u32 = 3;
/// The first pause. A restart of the engine takes about this long.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest pause: what a user waits at most after the engine is back.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Keeps callers from queueing before an engine that does not answer. Pure: time goes in.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
    reason: String,
}

impl Breaker {
    /// Tells whether to ask. While open, one caller is let through each time a pause is over.
    ///
    /// # Errors
    ///
    /// Why the engine is left alone.
    pub fn permit(&mut self, now: Instant) -> Result<(), String> {
        match &mut self.open {
            Some(open) if now < open.until => Err(open.reason.clone()),
            Some(open) => {
                open.pause = (open.pause * 2).min(PAUSE_MAX);
                open.until = now + open.pause;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The engine answered, whatever it said.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// The engine did not answer.
    pub fn failed(&mut self, now: Instant, reason: &str) {
        self.failures = self.failures.saturating_add(1);
        match &mut self.open {
            Some(open) => reason.clone_into(&mut open.reason),
            None if self.failures >= FAILURES_MAX => {
                let (until, reason) = (now + PAUSE_FIRST, reason.to_owned());
                self.open = Some(Open { until, pause: PAUSE_FIRST, reason });
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_engine_is_asked_ever_less_often() {
        let env = runtime::Env::with(runtime::WallClock::System, 1, runtime::Shutdown::new());
        let start = env.now();
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES_MAX {
            assert!(breaker.permit(start).is_ok());
            breaker.failed(start, "no answer");
        }
        assert_eq!(breaker.permit(start), Err("no answer".to_owned()));
        let later = start + PAUSE_FIRST;
        assert!(breaker.permit(later).is_ok(), "one is let through");
        assert!(breaker.permit(later).is_err(), "but only one");
        breaker.failed(later, "still none");
        assert!(breaker.permit(later + PAUSE_FIRST).is_err(), "the pause grew");
        assert!(breaker.permit(later + PAUSE_FIRST * 2).is_ok());
        breaker.answered();
        assert!(breaker.permit(later).is_ok());
    }
}
