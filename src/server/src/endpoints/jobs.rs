//! Jobs come, change and go.

use std::sync::Arc;

use control::for_job;
use model::{
    AllocId, DesiredTransition, EvalId, EvalTrigger, Evaluation, Job, JobKey, JobSpec, JobSubmission, Text,
    Timestamp,
};
use protocol::Command;
use serde_json::Value;
use state::Outcome;

use super::{Admitted, Draft, RequestError};
use crate::{Consistency, Server, Submitted};

/// What a change of a job came to.
#[derive(Clone, Debug, Default)]
pub struct JobChanged {
    /// The evaluation that it caused, if one.
    pub eval_id: Option<EvalId>,
    /// At which index.
    pub index: u64,
    /// The job's modify index, as later registrations enforce it.
    pub job_modify_index: u64,
    /// What its author should know.
    pub warnings: String,
}

/// A registration.
#[derive(Clone, Debug)]
pub struct Register {
    /// The job.
    pub draft: Draft,
    /// The text that it came from.
    pub submission: Option<JobSubmission>,
    /// Refuse unless the job has this modify index; 0 for "must not exist".
    pub enforce_index: Option<u64>,
    /// Keep the counts that groups have.
    pub preserve_counts: bool,
    /// Keep the resources that tasks have.
    pub preserve_resources: bool,
    /// Priority of the evaluation; that of the job when none.
    pub eval_priority: Option<i32>,
}

/// A stop.
#[derive(Clone, Debug)]
pub struct Deregister {
    /// The job.
    pub key: JobKey,
    /// Forget it.
    pub purge: bool,
    /// Its tasks stop at once.
    pub no_shutdown_delay: bool,
    /// Priority of the evaluation; that of the job when none.
    pub eval_priority: Option<i32>,
}

/// A return to an earlier version.
#[derive(Clone, Debug)]
pub struct Revert {
    /// The job.
    pub key: JobKey,
    /// The version to go back to.
    pub version: u64,
    /// Refuse unless this is the present version.
    pub enforce_prior: Option<u64>,
}

/// Priorities that an evaluation may be asked to have.
const EVAL_PRIORITIES: std::ops::RangeInclusive<i32> = 1..=100;

/// What of a task's resources is kept on request.
const PRESERVED_RESOURCES: [&str; 4] = ["CPU", "Cores", "MemoryMB", "MemoryMaxMB"];

impl Server {
    /// Registers a job, anew or in another version.
    ///
    /// # Errors
    ///
    /// When it breaks a rule, or the enforced index is not that of the job.
    pub async fn register_job(&self, mut request: Register) -> Result<JobChanged, RequestError> {
        self.require_registration()?;
        check_priority(request.eval_priority)?;
        if request.preserve_counts || request.preserve_resources {
            self.preserve(&mut request);
        }
        let Admitted { job, warnings } = self.admit(request.draft)?;
        if let Some(known) = self.snapshot().job(&job.key) {
            check_kind(known, &job)?;
        }
        let eval = self.eval_for(&job, EvalTrigger::JobRegister, request.eval_priority);
        let key = job.key.clone();
        let eval_id = eval.as_ref().map(|eval| eval.id);
        let command = Command::RegisterJob {
            job: Box::new(job),
            submission: request.submission.map(Box::new),
            enforce_index: request.enforce_index,
            eval: eval.map(Box::new),
            scaling: None,
            now: self.now(),
        };
        let submitted = self.submit(&command).await?;
        Ok(JobChanged { warnings, ..self.changed(&key, &submitted, eval_id) })
    }

    /// Stops a job, and forgets it if asked to. A job that is not there is no error, and nothing comes of it.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn deregister_job(&self, request: Deregister) -> Result<JobChanged, RequestError> {
        check_priority(request.eval_priority)?;
        let Some(job) = self.job_to_deregister(&request.key).await? else { return Ok(JobChanged::default()) };
        let eval = self.eval_for(&job, EvalTrigger::JobDeregister, request.eval_priority);
        let eval_id = eval.as_ref().map(|eval| eval.id);
        let command = Command::DeregisterJob {
            key: request.key.clone(),
            purge: request.purge,
            no_shutdown_delay: request.no_shutdown_delay,
            eval: eval.map(Box::new),
            now: self.now(),
        };
        let submitted = self.submit(&command).await?;
        Ok(self.changed(&request.key, &submitted, eval_id))
    }

    /// Finds a job. That there is none is said only after a majority has confirmed this leader: one of the past would call
    /// a job gone that it never heard of.
    async fn job_to_deregister(&self, key: &JobKey) -> Result<Option<Arc<Job>>, RequestError> {
        let known = self.snapshot().job(key).cloned();
        if known.is_some() {
            return Ok(known);
        }
        self.ready_to_read(Consistency::Consistent).await?;
        Ok(self.snapshot().job(key).cloned())
    }

    /// Registers an earlier version of a job again.
    ///
    /// # Errors
    ///
    /// When there is no such version, or it is the present one, or the present one is not the enforced one.
    pub async fn revert_job(&self, request: Revert) -> Result<JobChanged, RequestError> {
        let Revert { key, version, enforce_prior } = request;
        self.catch_up().await?;
        let snapshot = self.snapshot();
        let Some(current) = snapshot.job(&key) else {
            let JobKey { namespace, id } = &key;
            return Err(RequestError::Failed(format!("job {id:?} in namespace {namespace:?} not found")));
        };
        if version == current.version {
            return Err(RequestError::failed("can't revert to current version"));
        }
        let Some(earlier) = snapshot.job_version(&key, version) else {
            let JobKey { namespace, id } = &key;
            let text = format!("job {id:?} in namespace {namespace:?} at version {version} not found");
            return Err(RequestError::Failed(text));
        };
        if let Some(prior) = enforce_prior.filter(|prior| *prior != current.version) {
            let text = format!("Current job has version {}; enforcing version {prior}", current.version);
            return Err(RequestError::Failed(text));
        }
        let draft = Draft { document: earlier.spec.document_value(), namespace: key.namespace.to_string() };
        let request = Register {
            draft,
            submission: snapshot.submission(&key, version).map(|submission| JobSubmission::clone(submission)),
            // The version that was looked at must be the one that is replaced.
            enforce_index: Some(current.job_modify_index),
            preserve_counts: false,
            preserve_resources: false,
            eval_priority: None,
        };
        self.register_job(request).await
    }

    /// Marks a version of a job as one that works, or not, and returns the index.
    ///
    /// # Errors
    ///
    /// When there is no such job or version.
    pub async fn mark_job_stable(
        &self,
        key: JobKey,
        version: u64,
        stable: bool,
    ) -> Result<u64, RequestError> {
        Ok(self.submit(&Command::MarkJobStable { key, version, stable }).await?.index)
    }

    /// Names a version of a job, or with no description takes the name away. Returns the index and the time.
    ///
    /// # Errors
    ///
    /// When there is no such version, or the name is another version's.
    pub async fn tag_job_version(
        &self,
        key: JobKey,
        version: Option<u64>,
        name: Text,
        description: Option<String>,
    ) -> Result<(u64, Timestamp), RequestError> {
        let now = self.now();
        let command = Command::TagJobVersion { key, version, name, description, now };
        Ok((self.submit(&command).await?.index, now))
    }

    /// Has the scheduler look at a job again; with `force`, it replaces what failed whatever the policy says.
    ///
    /// # Errors
    ///
    /// When there is no such job, or it is only a template for others.
    pub async fn evaluate_job(&self, key: &JobKey, force: bool) -> Result<JobChanged, RequestError> {
        let job = self.require_job(key).await?;
        if job.is_periodic() {
            return Err(RequestError::failed("can't evaluate periodic job"));
        }
        if job.is_parameterized() {
            return Err(RequestError::failed("can't evaluate parameterized job"));
        }
        let eval = self.with_moment(|moment| for_job(&job, EvalTrigger::JobRegister, moment));
        let eval_id = eval.id;
        let transitions: Vec<(AllocId, DesiredTransition)> = match force {
            true => self.failed_allocs(&job),
            false => Vec::new(),
        };
        let command = match transitions.is_empty() {
            true => Command::UpsertEvals { evals: vec![eval] },
            false => Command::UpdateTransitions { transitions, evals: vec![eval], now: self.now() },
        };
        let submitted = self.submit(&command).await?;
        let job_modify_index = job.modify_index;
        Ok(JobChanged {
            eval_id: Some(eval_id),
            index: submitted.index,
            job_modify_index,
            warnings: String::new(),
        })
    }

    /// Makes the evaluation that a change of a job causes; none for jobs that only launch others.
    pub(super) fn eval_for(
        &self,
        job: &Job,
        trigger: EvalTrigger,
        priority: Option<i32>,
    ) -> Option<Evaluation> {
        if job.is_template() {
            return None;
        }
        let mut eval = self.with_moment(|moment| for_job(job, trigger, moment));
        eval.priority = priority.unwrap_or(eval.priority);
        Some(eval)
    }

    pub(super) fn changed(&self, key: &JobKey, submitted: &Submitted, eval_id: Option<EvalId>) -> JobChanged {
        let job_modify_index = match &submitted.outcome {
            Outcome::Job { job_modify_index, .. } => *job_modify_index,
            _ => self.snapshot().job(key).map_or(submitted.index, |job| job.job_modify_index),
        };
        JobChanged { eval_id, index: submitted.index, job_modify_index, warnings: String::new() }
    }

    fn failed_allocs(&self, job: &Job) -> Vec<(AllocId, DesiredTransition)> {
        let asks = DesiredTransition { force_reschedule: Some(true), ..DesiredTransition::default() };
        self.snapshot()
            .allocs_by_job(&job.key)
            .filter(|alloc| alloc.client_status == model::ClientStatus::Failed && !alloc.server_terminal())
            .filter(|alloc| alloc.extra().next.is_none())
            .map(|alloc| (alloc.id, asks))
            .collect()
    }

    /// Puts counts and resources of the registered job in the place of those that came.
    fn preserve(&self, request: &mut Register) {
        let id = request.draft.document.get("ID").and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = JobKey::new(request.draft.namespace.as_str(), id);
        let Some(known) =
            self.snapshot().job(&key).filter(|job| !job.stop).map(|job| job.spec.document_value())
        else {
            return;
        };
        for group in children_mut(&mut request.draft.document, "TaskGroups") {
            let Some(before) = named(&known, "TaskGroups", group) else { continue };
            if request.preserve_counts
                && let Some(count) = before.get("Count")
            {
                group["Count"] = count.clone();
            }
            if !request.preserve_resources {
                continue;
            }
            for task in children_mut(group, "Tasks") {
                let Some(before) = named(before, "Tasks", task).and_then(|task| task.get("Resources")) else {
                    continue;
                };
                if !task.get("Resources").is_some_and(Value::is_object) {
                    task["Resources"] = Value::Object(serde_json::Map::new());
                }
                for kept in PRESERVED_RESOURCES {
                    task["Resources"][kept] = before.get(kept).cloned().unwrap_or_default();
                }
            }
        }
    }
}

fn children_mut<'a>(value: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    value.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter(|item| item.is_object())
}

/// Finds the item of a list with the name of another.
fn named<'a>(holder: &'a Value, key: &str, like: &Value) -> Option<&'a Value> {
    let items = holder.get(key)?.as_array()?;
    items.iter().find(|item| item.get("Name") == like.get("Name"))
}

/// Refuses to make another kind of job of one that is there, stopped or not: what runs of it is kept by other rules.
fn check_kind(known: &Job, job: &Job) -> Result<(), RequestError> {
    let (before, after) = (known.spec.kind, job.spec.kind);
    let text = if before != after {
        format!("cannot update job from type {:?} to {:?}", before.as_str(), after.as_str())
    } else if known.is_periodic() != job.is_periodic() {
        turned("periodic", job.is_periodic())
    } else if known.is_parameterized() != job.is_parameterized() {
        turned("parameterized", job.is_parameterized())
    } else {
        return Ok(());
    };
    Err(RequestError::Failed(text))
}

fn turned(kind: &str, is: bool) -> String {
    match is {
        true => format!("cannot update non-{kind} job to being {kind}"),
        false => format!("cannot update {kind} job to being non-{kind}"),
    }
}

fn check_priority(priority: Option<i32>) -> Result<(), RequestError> {
    match priority {
        Some(priority) if !EVAL_PRIORITIES.contains(&priority) => {
            Err(RequestError::Wrong("eval priority must be between 1 and 100 inclusively".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Reads a document that was changed here and was good before.
pub(super) fn spec_of(document: &Value) -> Result<JobSpec, RequestError> {
    JobSpec::from_document(document).map_err(|error| RequestError::Failed(super::admission::chain(&error)))
}
