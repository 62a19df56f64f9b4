use std::time::Duration;

use model::EvalStatus;

use crate::{History, Observation, Property};

/// How long after the last fault an evaluation may still be undecided.
const DECIDED_WITHIN: Duration = Duration::from_secs(60);

/// Every evaluation is decided within a minute of the last fault. One that waits for room says for what, and not for a
/// job that is gone; one that waits for its time has a time.
#[derive(Default)]
pub struct EvaluationsEnd {
    /// The evaluation that is undecided since the longest, and since when it did not change.
    looked_at: Option<(u64, Duration)>,
}

impl Property for EvaluationsEnd {
    fn name(&self) -> &'static str {
        "I7 evaluations end"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        let (Some(rows), Some(calm)) = (seen.newest_rows(), seen.calm_for()) else {
            self.looked_at = None;
            return Ok(());
        };
        let undecided = rows
            .evals
            .values()
            .filter(|eval| eval.status == EvalStatus::Pending && eval.wait_until.is_zero());
        // What came later than the last fault has its own minute.
        let Some(oldest) = undecided.map(|eval| eval.modify_index).min() else {
            self.looked_at = None;
            return Ok(());
        };
        let (index, since) = *self.looked_at.get_or_insert((oldest, seen.at));
        if index != oldest {
            self.looked_at = Some((oldest, seen.at));
        } else if calm > DECIDED_WITHIN && seen.at.saturating_sub(since) > DECIDED_WITHIN {
            return Err(format!("the evaluation of index {index} is undecided since {since:?}"));
        }
        Ok(())
    }

    fn end(&self, last: &Observation, _history: &History) -> Result<(), String> {
        let Some(rows) = last.newest_rows() else { return Ok(()) };
        for (id, eval) in &rows.evals {
            let fault = match eval.status {
                EvalStatus::Complete | EvalStatus::Failed | EvalStatus::Canceled => None,
                EvalStatus::Pending if eval.wait_until.is_zero() => Some("is undecided"),
                EvalStatus::Pending => None,
                EvalStatus::Blocked => match rows.jobs.get(&eval.job) {
                    None => Some("waits for room for a job that is gone"),
                    Some(job) if job.stopped => Some("waits for room for a job that is stopped"),
                    Some(_) if eval.queued == 0 => Some("waits for room for nothing"),
                    Some(_) => None,
                },
            };
            if let Some(fault) = fault {
                return Err(format!("evaluation {id} of {} {fault}", eval.job));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;
    use crate::{
        EvalRow, Phase,
        fixture::{breaks, calm, change, end, eval_id, holds, key, rows, seconds},
    };

    fn with_eval(change_eval: impl FnOnce(&mut EvalRow)) -> Observation {
        let mut seen = calm(rows());
        change(&mut seen, |rows| change_eval(rows.evals.get_mut(&eval_id(1)).expect("it is there")));
        seen
    }

    #[test]
    fn one_that_stays_undecided_is_seen() {
        let first = with_eval(|eval| eval.status = EvalStatus::Pending);
        let mut later = first.clone();
        later.at += seconds(61);
        let mut among_faults = later.clone();
        among_faults.phase = Phase::Faults;
        holds::<EvaluationsEnd>(&[first.clone(), among_faults]);
        breaks::<EvaluationsEnd>(&[first.clone(), later]);
        end::<EvaluationsEnd>(&first).expect_err("it is undecided");
    }

    #[test]
    fn waiting_has_a_reason() {
        let delayed = with_eval(|eval| (eval.status, eval.wait_until) = (EvalStatus::Pending, Timestamp(9)));
        assert_eq!(end::<EvaluationsEnd>(&delayed), Ok(()));
        let blocked = with_eval(|eval| (eval.status, eval.queued) = (EvalStatus::Blocked, 2));
        assert_eq!(end::<EvaluationsEnd>(&blocked), Ok(()));
        let for_nothing = with_eval(|eval| eval.status = EvalStatus::Blocked);
        end::<EvaluationsEnd>(&for_nothing).expect_err("nothing is queued");
        let mut stopped = blocked;
        change(&mut stopped, |rows| rows.jobs.get_mut(&key()).expect("the job").stopped = true);
        end::<EvaluationsEnd>(&stopped).expect_err("the job is stopped");
    }
}
