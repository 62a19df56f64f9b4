//! Launches of jobs that wait to be launched.

use std::collections::BTreeMap;

use control::{for_job, periodic::Periodic};
use model::{EvalId, EvalTrigger, JobKey, Parent, Text};
use protocol::Command;
use serde_json::{Map, Value};
use state::Refusal;

use super::{RequestError, admission::new_job, jobs::spec_of};
use crate::{Server, SubmitError};

/// Largest payload of a dispatch, in bytes.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024;

/// A launch of a parameterized job.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// The parameterized job.
    pub key: JobKey,
    /// What the child gets in a file.
    pub payload: Vec<u8>,
    /// Meta of the child, beside that of its parent.
    pub meta: BTreeMap<String, String>,
    /// Stands in the child's id.
    pub id_prefix: String,
    /// Makes a repeated dispatch harmless; empty for none.
    pub idempotency_token: String,
    /// Priority of the child; that of its parent when none.
    pub priority: Option<i32>,
}

/// What a launch came to.
#[derive(Clone, Debug)]
pub struct Dispatched {
    /// The child.
    pub child: JobKey,
    /// The evaluation that was made; none when the child was there already.
    pub eval_id: Option<EvalId>,
    /// The child's create index.
    pub create_index: u64,
    /// At which index.
    pub index: u64,
}

impl Server {
    /// Launches a parameterized job.
    ///
    /// # Errors
    ///
    /// When the job is none, is stopped, or does not take what the launch brings.
    pub async fn dispatch_job(&self, request: Dispatch) -> Result<Dispatched, RequestError> {
        self.require_registration()?;
        self.catch_up().await?;
        let not_found = || RequestError::failed("parameterized job not found");
        let parent = self.snapshot().job(&request.key).cloned().ok_or_else(not_found)?;
        let Some(accepted) = parent.spec.parameterized.as_ref().filter(|_| parent.is_parameterized()) else {
            let id = &parent.key.id;
            return Err(RequestError::Failed(format!("Specified job {id:?} is not a parameterized job")));
        };
        if parent.stop {
            let id = &parent.key.id;
            return Err(RequestError::Failed(format!("Specified job {id:?} is stopped")));
        }
        check_payload(&request, &accepted.payload)?;
        check_meta(&request, &accepted.meta_required, &accepted.meta_optional)?;
        let now = self.now();
        let prefix = match request.id_prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}-"),
        };
        let random = format!("{:016x}", self.env().random_u64());
        let id = format!("{}/dispatch-{prefix}{}-{}", parent.key.id, now.seconds(), &random[..8]);
        let mut document = parent.spec.document_value();
        set_child_fields(&mut document, &id, &request);
        let key = JobKey::new(parent.key.namespace.clone(), id);
        let mut child = new_job(key, spec_of(&document)?, now, false);
        child.parent = Some(Box::new(Parent {
            id: parent.key.id.clone(),
            dispatched: true,
            idempotency_token: request.idempotency_token.into(),
            payload: request.payload,
        }));
        let eval = self.eval_for(&child, EvalTrigger::JobRegister, None);
        let (eval_id, child_key) = (eval.as_ref().map(|eval| eval.id), child.key.clone());
        let command = Command::RegisterJob {
            job: Box::new(child),
            submission: None,
            enforce_index: None,
            eval: eval.map(Box::new),
            scaling: None,
            now,
        };
        match self.submit(&command).await {
            Ok(submitted) => {
                let index = submitted.index;
                Ok(Dispatched { child: child_key, eval_id, create_index: index, index })
            }
            Err(SubmitError::Refused(Refusal::DispatchRepeated { child })) => {
                let create_index = self.snapshot().job(&child).map_or(0, |job| job.create_index);
                Ok(Dispatched { child, eval_id: None, create_index, index: create_index })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Launches a periodic job at once.
    ///
    /// # Errors
    ///
    /// When there is no such job, or it is not periodic.
    pub async fn force_periodic(&self, key: &JobKey) -> Result<Dispatched, RequestError> {
        self.require_registration()?;
        let job = self.require_job(key).await?;
        if !job.is_periodic() {
            return Err(RequestError::failed("can't force launch non-periodic job"));
        }
        let state = self.snapshot();
        let commands = self.with_moment(|moment| Periodic::force(&state, key, moment));
        let [register, note] = commands.map_err(|error| RequestError::Failed(error.to_string()))?;
        let (child, eval_id) = match &register {
            Command::RegisterJob { job, eval, .. } => (job.key.clone(), eval.as_ref().map(|eval| eval.id)),
            _ => (key.clone(), None),
        };
        let submitted = self.submit(&register).await?;
        // The launch is made; that its note is lost could only make it be made up for, under the same id.
        if let Err(error) = self.submit(&note).await {
            tracing::warn!(%error, job = %key, "launch of a periodic job could not be noted");
        }
        let index = submitted.index;
        Ok(Dispatched { child, eval_id, create_index: index, index })
    }

    /// Makes an evaluation of a job; for callers that have the job at hand.
    pub fn new_eval(&self, job: &model::Job, trigger: EvalTrigger) -> model::Evaluation {
        self.with_moment(|moment| for_job(job, trigger, moment))
    }
}

fn check_payload(request: &Dispatch, rule: &str) -> Result<(), RequestError> {
    let size = request.payload.len();
    if rule == "required" && size == 0 {
        return Err(RequestError::failed("Payload is not provided but required by parameterized job"));
    }
    if rule == "forbidden" && size > 0 {
        return Err(RequestError::failed("Payload provided but forbidden by parameterized job"));
    }
    if size > PAYLOAD_BYTES_MAX {
        return Err(RequestError::Failed(format!(
            "Payload exceeds maximum size; {size} > {PAYLOAD_BYTES_MAX}"
        )));
    }
    Ok(())
}

fn check_meta(request: &Dispatch, required: &[Text], optional: &[Text]) -> Result<(), RequestError> {
    let known = |key: &&String| required.iter().chain(optional).any(|name| name == key.as_str());
    let unknown: Vec<_> = request.meta.keys().filter(|key| !known(key)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let text = format!("Dispatch request included unpermitted metadata keys: [{}]", unknown.join(" "));
        return Err(RequestError::Failed(text));
    }
    let missing: Vec<_> =
        required.iter().filter(|name| !request.meta.contains_key(name.as_str())).map(Text::as_str).collect();
    if !missing.is_empty() {
        let text = format!("Dispatch did not provide required meta keys: [{}]", missing.join(" "));
        return Err(RequestError::Failed(text));
    }
    Ok(())
}

fn set_child_fields(document: &mut Value, id: &str, request: &Dispatch) {
    document["ID"] = id.into();
    document["Name"] = id.into();
    if let Some(priority) = request.priority {
        document["Priority"] = priority.into();
    }
    if request.meta.is_empty() {
        return;
    }
    if !document["Meta"].is_object() {
        document["Meta"] = Value::Object(Map::new());
    }
    for (key, value) in &request.meta {
        document["Meta"][key] = value.as_str().into();
    }
}
