//! Allocations that someone wants gone, and evaluations that someone wants forgotten.

use model::{AllocId, DesiredTransition, EvalId, EvalTrigger};
use protocol::Command;

use super::RequestError;
use crate::Server;

/// A stop of one allocation, which is replaced.
#[derive(Clone, Copy, Debug)]
pub struct StopAlloc {
    /// Which.
    pub id: AllocId,
    /// Its tasks stop at once.
    pub no_shutdown_delay: bool,
    /// It is rescheduled instead of moved.
    pub reschedule: bool,
}

/// What it came to.
#[derive(Clone, Copy, Debug)]
pub struct Stopped {
    /// The evaluation that it caused.
    pub eval_id: EvalId,
    /// At which index.
    pub index: u64,
}

impl Server {
    /// Stops an allocation; its job's scheduler replaces it.
    ///
    /// # Errors
    ///
    /// When there is no such allocation.
    pub async fn stop_alloc(&self, request: StopAlloc) -> Result<Stopped, RequestError> {
        self.catch_up().await?;
        let not_found = || RequestError::NotFound("allocation not found".to_owned());
        let alloc = self.snapshot().alloc(request.id).cloned().ok_or_else(not_found)?;
        let job = self.snapshot().job(&alloc.job.key).cloned().unwrap_or_else(|| alloc.job.clone());
        let trigger = if request.reschedule { EvalTrigger::AllocReschedule } else { EvalTrigger::AllocStop };
        let eval = self.new_eval(&job, trigger);
        let eval_id = eval.id;
        let asks = DesiredTransition {
            migrate: Some(!request.reschedule),
            reschedule: Some(request.reschedule),
            // Without it, only what failed is rescheduled.
            force_reschedule: request.reschedule.then_some(true),
            no_shutdown_delay: Some(request.no_shutdown_delay),
            ..DesiredTransition::default()
        };
        let transitions = vec![(request.id, asks)];
        let command = Command::UpdateTransitions { transitions, evals: vec![eval], now: self.now() };
        let submitted = self.submit(&command).await?;
        Ok(Stopped { eval_id, index: submitted.index })
    }

    /// Forgets evaluations with their allocations that are over, and returns how many and at which index.
    ///
    /// # Errors
    ///
    /// When the broker is not paused, or one of them still has something to do.
    pub async fn delete_evals(&self, ids: Vec<EvalId>) -> Result<(usize, u64), RequestError> {
        let snapshot = self.snapshot();
        if !snapshot.scheduler_config().pause_eval_broker {
            return Err(RequestError::failed(
                "eval broker is enabled; eval broker must be paused to delete evals",
            ));
        }
        let mut allocs = Vec::new();
        for id in &ids {
            let eval = snapshot.eval(*id).ok_or_else(|| RequestError::failed("eval not found"))?;
            let of_eval: Vec<_> = snapshot.allocs_by_eval(*id).collect();
            let over = |job: Option<&std::sync::Arc<model::Job>>| job.is_none_or(|job| job.stop);
            if of_eval.iter().any(|alloc| !alloc.terminal()) && !over(snapshot.job(&eval.job)) {
                return Err(RequestError::Failed(format!("eval {id} has non-terminal allocations")));
            }
            allocs.extend(of_eval.into_iter().filter(|alloc| alloc.terminal()).map(|alloc| alloc.id));
        }
        let count = ids.len();
        let command =
            Command::Collect { evals: ids, allocs, jobs: vec![], deployments: vec![], nodes: vec![] };
        Ok((count, self.submit(&command).await?.index))
    }
}
