use std::time::Duration;

use crate::{Observation, Property, Trial};

/// How much longer honest requests may take beside bad ones, and what counts as nothing.
const SLOWER_MAX: u32 = 2;
const NOTHING: Duration = Duration::from_millis(1);

/// What no honest peer or user sends changes no state, and honest requests take at most twice as long beside it.
#[derive(Default)]
pub struct BadInputChangesNothing;

impl Property for BadInputChangesNothing {
    fn name(&self) -> &'static str {
        "I17 bad input changes nothing"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        for trial in &seen.trials {
            match trial {
                Trial::BadInput { what, before, after } if before != after => {
                    return Err(format!("{what} changed the state"));
                }
                Trial::Honest { alone, beside_bad } if *beside_bad > (*alone).max(NOTHING) * SLOWER_MAX => {
                    return Err(format!("honest requests took {beside_bad:?} instead of {alone:?}"));
                }
                Trial::BadInput { .. }
                | Trial::Honest { .. }
                | Trial::Restore { .. }
                | Trial::Damage { .. }
                | Trial::Repeat { .. } => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{breaks, holds};

    fn tried(trial: Trial) -> [Observation; 1] {
        [Observation { trials: vec![trial], ..Observation::default() }]
    }

    #[test]
    fn a_changed_state_is_seen() {
        let sent = |after| tried(Trial::BadInput { what: "x".into(), before: [1; 32], after: [after; 32] });
        holds::<BadInputChangesNothing>(&sent(1));
        breaks::<BadInputChangesNothing>(&sent(2));
    }

    #[test]
    fn honest_requests_that_wait_are_seen() {
        let timed = |millis| {
            let beside_bad = Duration::from_millis(millis);
            tried(Trial::Honest { alone: Duration::from_millis(5), beside_bad })
        };
        holds::<BadInputChangesNothing>(&timed(10));
        breaks::<BadInputChangesNothing>(&timed(11));
    }
}
