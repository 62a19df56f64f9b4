use crate::{Observation, Property, Trial};

/// A state that is written and read back is the same, and a damaged file is noticed or makes no difference.
#[derive(Default)]
pub struct DamageIsSeen;

impl Property for DamageIsSeen {
    fn name(&self) -> &'static str {
        "I18 damage is seen"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        for trial in &seen.trials {
            match trial {
                Trial::Restore { what, before, after } if before != after => {
                    return Err(format!("{what} came back as another state"));
                }
                Trial::Damage { place, served_silently: true } => {
                    return Err(format!("{place} was served and nobody said a word"));
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
    fn another_state_is_seen() {
        let restored =
            |after| tried(Trial::Restore { what: "x".into(), before: [1; 32], after: [after; 32] });
        holds::<DamageIsSeen>(&restored(1));
        breaks::<DamageIsSeen>(&restored(2));
    }

    #[test]
    fn silence_is_seen() {
        let damaged = |served_silently| tried(Trial::Damage { place: "x".into(), served_silently });
        holds::<DamageIsSeen>(&damaged(false));
        breaks::<DamageIsSeen>(&damaged(true));
    }
}
