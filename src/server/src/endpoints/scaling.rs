//! Counts that someone changes.

use model::{EvalTrigger, JobKey, ScalingEvent, Text, Timestamp};
use protocol::Command;
use serde_json::Value;

use state::Refusal;

use super::{JobChanged, RequestError, jobs::spec_of};
use crate::{Consistency, Server, SubmitError};

/// Tries of a change of a count that others overtake. Each failure is another's success, so there is always progress.
const TRIES_MAX: usize = 16;

/// A change of a group's count, or a note about it.
#[derive(Clone, Debug)]
pub struct Scale {
    /// The job.
    pub key: JobKey,
    /// The group.
    pub group: Text,
    /// The new count; none for a note alone.
    pub count: Option<i64>,
    /// Why.
    pub message: String,
    /// It reports an error.
    pub error: bool,
    /// More about it, as JSON text; empty for nothing.
    pub meta: String,
    /// Refuse unless the job has this modify index.
    pub enforce_index: Option<u64>,
}

impl Server {
    /// Changes a group's count, or notes something about it.
    ///
    /// # Errors
    ///
    /// When there is no such job or group, or its policy does not allow the count.
    pub async fn scale_job(&self, request: Scale) -> Result<JobChanged, RequestError> {
        self.require_registration()?;
        self.catch_up().await?;
        for _ in 1..TRIES_MAX {
            match self.try_to_scale(&request).await {
                // Nobody asked for that index: the job changed between our look and our change.
                Err(RequestError::Submit(SubmitError::Refused(
                    Refusal::JobChanged { .. } | Refusal::JobDoesNotExist { .. },
                ))) if request.enforce_index.is_none() => {
                    // This server may have looked at a state of long ago.
                    self.ready_to_read(Consistency::Consistent).await?;
                }
                result => return result,
            }
        }
        self.try_to_scale(&request).await
    }

    async fn try_to_scale(&self, request: &Scale) -> Result<JobChanged, RequestError> {
        let Scale { key, group, count, .. } = request;
        if count.is_some_and(|count| count < 0) {
            return Err(RequestError::Wrong("scaling action count can't be negative".to_owned()));
        }
        if request.error && count.is_some() {
            return Err(RequestError::Wrong(
                "scaling action should not contain count if error is true".to_owned(),
            ));
        }
        let not_found = || RequestError::NotFound(format!("job {:?} not found", key.id));
        let current = self.snapshot().job(key).cloned().ok_or_else(not_found)?;
        let Some((at, known)) = current.group(group) else {
            let text = format!("task group {group:?} specified for scaling does not exist in job");
            return Err(RequestError::Wrong(text));
        };
        if let Some(count) = *count {
            check_bounds(count, known.scaling.as_ref())?;
            if current.stop {
                return Err(RequestError::Wrong(format!("job {:?} is stopped", key.id)));
            }
            // A change of the count amid a deployment would start another one over it.
            if self.snapshot().latest_deployment(key).is_some_and(|latest| latest.status.is_active()) {
                return Err(RequestError::Wrong("job scaling blocked due to active deployment".to_owned()));
            }
        }
        let mut job = model::Job::clone(&current);
        if let Some(count) = *count {
            let mut document = current.spec.document_value();
            document["TaskGroups"][at]["Count"] = Value::from(count);
            job.spec = std::sync::Arc::new(spec_of(&document)?);
            job.submit_time = Timestamp::ZERO;
        }
        let eval = count.and_then(|_| self.eval_for(&job, EvalTrigger::JobScaling, None));
        let eval_id = eval.as_ref().map(|eval| eval.id);
        let event = ScalingEvent {
            time: self.now(),
            count: *count,
            previous_count: i64::from(known.count),
            message: request.message.clone(),
            error: request.error,
            meta: request.meta.clone(),
            eval_id,
            create_index: 0,
        };
        let command = Command::RegisterJob {
            job: Box::new(job),
            submission: None,
            // Two who scale at once must not undo each other.
            enforce_index: Some(request.enforce_index.unwrap_or(current.job_modify_index)),
            eval: eval.map(Box::new),
            scaling: Some(Box::new((group.clone(), event))),
            now: self.now(),
        };
        let submitted = self.submit(&command).await?;
        Ok(self.changed(key, &submitted, eval_id))
    }
}

fn check_bounds(count: i64, policy: Option<&model::Scaling>) -> Result<(), RequestError> {
    let Some(policy) = policy else { return Ok(()) };
    if let Some(max) = policy.max.filter(|max| count > *max) {
        let text = format!("group count was greater than scaling policy maximum: {count} > {max}");
        return Err(RequestError::Wrong(text));
    }
    if let Some(min) = policy.min.filter(|min| count < *min) {
        let text = format!("group count was less than scaling policy minimum: {count} < {min}");
        return Err(RequestError::Wrong(text));
    }
    Ok(())
}
