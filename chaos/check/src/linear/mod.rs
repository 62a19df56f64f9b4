//! Whether what users saw of each job can have happened one operation after the other.

mod register;
mod search;

use std::collections::BTreeMap;

use model::JobKey;

use self::search::Verdict;
use crate::{History, Operation, Outcome};

/// Steps of the search for one job, after which it gives up; about ten seconds. A history in which most outcomes are
/// known needs a few steps for each operation.
pub const STEPS_MAX: u64 = 5_000_000;

/// A history does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HistoryError {
    /// No order of the operations explains every answer.
    #[error(
        "job {key}: no order explains the answers; at most {explained} of {all} fit, these do not: {stuck}"
    )]
    NotLinearizable {
        /// The job.
        key: JobKey,
        /// Operations that the longest order explains.
        explained: usize,
        /// Operations whose answer came.
        all: usize,
        /// The first ones that it does not, with what they would have to fit.
        stuck: String,
    },
    /// The search took too long. That is a failure: it has not shown that the history holds.
    #[error("job {key}: gave up after {steps} steps over {operations} operations")]
    GaveUp {
        /// The job.
        key: JobKey,
        /// Steps taken.
        steps: u64,
        /// Operations of the job.
        operations: usize,
    },
}

/// Checks that the operations on each job are linearizable. Jobs are checked apart: a history holds if it holds for each
/// of them.
///
/// # Errors
///
/// For the first job whose operations do not hold, or for which `steps_max` steps do not tell.
pub fn check_history(history: &History, steps_max: u64) -> Result<(), HistoryError> {
    let mut by_key: BTreeMap<&JobKey, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations.iter().filter(|operation| operation.outcome != Outcome::Failed) {
        by_key.entry(&operation.key).or_default().push(operation);
    }
    for (key, operations) in by_key {
        let all = operations.iter().filter(|operation| operation.outcome != Outcome::Unknown).count();
        match search::search(&operations, steps_max) {
            Verdict::Linearizable => {}
            Verdict::Not { explained, stuck } => {
                return Err(HistoryError::NotLinearizable { key: key.clone(), explained, all, stuck });
            }
            Verdict::GaveUp => {
                return Err(HistoryError::GaveUp {
                    key: key.clone(),
                    steps: steps_max,
                    operations: operations.len(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
