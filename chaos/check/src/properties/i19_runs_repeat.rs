use crate::{Observation, Property, Trial};

/// The same seed and the same build give the same trace.
#[derive(Default)]
pub struct RunsRepeat;

impl Property for RunsRepeat {
    fn name(&self) -> &'static str {
        "I19 runs repeat"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        let repeated = seen.trials.iter().find_map(|trial| match trial {
            Trial::Repeat { seed, first, second } if first != second => Some((seed, first, second)),
            Trial::BadInput { .. }
            | Trial::Honest { .. }
            | Trial::Restore { .. }
            | Trial::Damage { .. }
            | Trial::Repeat { .. } => None,
        });
        match repeated {
            None => Ok(()),
            Some((seed, first, second)) => Err(format!("seed {seed} gave {first:016x}, then {second:016x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{breaks, holds};

    #[test]
    fn another_trace_is_seen() {
        let run = |second| {
            let trials = vec![Trial::Repeat { seed: 1, first: 5, second }];
            [Observation { trials, ..Observation::default() }]
        };
        holds::<RunsRepeat>(&run(5));
        breaks::<RunsRepeat>(&run(6));
    }
}
