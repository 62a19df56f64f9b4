use crate::{History, Observation, Property, STEPS_MAX, check_history};

/// What users were told of each job can have happened one operation after the other: no acknowledged write is lost, no
/// read is older than an answer before it, no two writes pass the same check.
#[derive(Default)]
pub struct HistoryLinearizable;

impl Property for HistoryLinearizable {
    fn name(&self) -> &'static str {
        "I6 history is linearizable"
    }

    fn end(&self, _last: &Observation, history: &History) -> Result<(), String> {
        check_history(history, STEPS_MAX).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Action, Operation, Outcome, Reply,
        fixture::{key, seconds},
    };

    #[test]
    fn a_lost_write_is_seen() {
        let operation = |start, action, job_index| Operation {
            user: 0,
            key: key(),
            action,
            start: seconds(start),
            end: seconds(start + 1),
            outcome: Outcome::Done(Reply { job_index, seen: None }),
        };
        let write = operation(0, Action::Register { marker: 1, count: 1, check_index: None }, Some(5));
        let mut history = History { operations: vec![write], stale_reads: Vec::new() };
        assert_eq!(HistoryLinearizable.end(&Observation::default(), &history), Ok(()));
        history.operations.push(operation(2, Action::Read, None));
        HistoryLinearizable.end(&Observation::default(), &history).expect_err("the job is gone");
    }
}
