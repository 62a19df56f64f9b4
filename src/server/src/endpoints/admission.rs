//! A submitted job made whole and checked against the region that it comes to.

use std::sync::Arc;

use jobspec::{Limits, ServerDefaults, Validation};
use model::{Job, JobKey, JobSpec, JobStatus, Namespace, Text, Timestamp};
use serde_json::{Map, Value, json};
use state::State;

use super::RequestError;
use crate::Server;

/// A job as someone sent it.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The job in the API's JSON form, with keys as the API spells them.
    pub document: Value,
    /// The namespace that it is registered in.
    pub namespace: String,
}

/// A job that may be stored.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The job; its version and indexes are set when it is registered.
    pub job: Job,
    /// What its author should know, as one text.
    pub warnings: String,
}

/// Returns what stands in a document in the place of what servers set by themselves: two documents are equal when users
/// asked for the same. Nothing for fields that users set.
fn unset_by_servers(field: &str) -> Option<Value> {
    match field {
        "CreateIndex" | "JobModifyIndex" | "ModifyIndex" | "SubmitTime" | "Version" => Some(json!(0)),
        "DispatchIdempotencyToken" | "NomadTokenID" | "ParentID" | "Status" | "StatusDescription" => {
            Some(json!(""))
        }
        "Dispatched" | "Stable" | "Stop" => Some(json!(false)),
        "Payload" | "VersionTag" => Some(Value::Null),
        _ => None,
    }
}

impl Server {
    /// Makes a submitted job whole and checks it.
    ///
    /// # Errors
    ///
    /// When it is malformed or breaks a rule.
    pub fn admit(&self, draft: Draft) -> Result<Admitted, RequestError> {
        if let Some(refusal) = jobspec::refusal(&draft.document) {
            return Err(RequestError::Wrong(refusal));
        }
        let (admitted, validation) = self.check(draft)?;
        match validation.errors.is_empty() {
            true => Ok(admitted),
            false => Err(RequestError::Failed(validation.error_text())),
        }
    }

    /// Checks a submitted job.
    ///
    /// # Errors
    ///
    /// When it can not even be looked at.
    pub fn validate(&self, draft: Draft) -> Result<Validation, RequestError> {
        let state = self.snapshot();
        let (document, _) = self.complete(draft);
        Ok(validate(&state, &document))
    }

    fn complete(&self, draft: Draft) -> (Value, bool) {
        let defaults = ServerDefaults {
            region: self.config().region.clone(),
            namespace: draft.namespace.clone(),
            ..ServerDefaults::default()
        };
        let mut document = draft.document;
        let stop = document.get("Stop").and_then(Value::as_bool).unwrap_or(false);
        if let Some(fields) = document.as_object_mut() {
            fields.insert("Namespace".to_owned(), draft.namespace.into());
            // A job that names the default region means the one that it is sent to.
            if matches!(fields.get("Region").and_then(Value::as_str), Some("" | "global")) {
                fields.insert("Region".to_owned(), defaults.region.as_str().into());
            }
        }
        jobspec::admit(&mut document, &defaults);
        if let Some(fields) = document.as_object_mut() {
            clear_set_by_servers(fields);
        }
        (document, stop)
    }

    fn check(&self, draft: Draft) -> Result<(Admitted, Validation), RequestError> {
        let state = self.snapshot();
        let (document, stop) = self.complete(draft);
        let validation = validate(&state, &document);
        if !validation.errors.is_empty() {
            return Err(RequestError::Failed(validation.error_text()));
        }
        let spec = JobSpec::from_document(&document).map_err(|error| RequestError::Failed(chain(&error)))?;
        let text = |key: &str| Text::from(document.get(key).and_then(Value::as_str).unwrap_or_default());
        let key = JobKey { namespace: text("Namespace"), id: text("ID") };
        let admitted =
            Admitted { job: new_job(key, spec, self.now(), stop), warnings: validation.warning_text() };
        Ok((admitted, validation))
    }
}

/// Makes a job of a specification, with nothing set that registering it sets.
pub(super) fn new_job(key: JobKey, spec: JobSpec, now: Timestamp, stop: bool) -> Job {
    Job {
        key,
        spec: Arc::new(spec),
        version: 0,
        stop,
        stable: false,
        status: JobStatus::Pending,
        status_description: Text::default(),
        submit_time: now,
        create_index: 0,
        modify_index: 0,
        job_modify_index: 0,
        version_tag: None,
        parent: None,
    }
}

/// Writes an error with what caused it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn clear_set_by_servers(fields: &mut Map<String, Value>) {
    for (field, value) in fields.iter_mut() {
        if let Some(unset) = unset_by_servers(field) {
            *value = unset;
        }
    }
}

fn validate(state: &State, document: &Value) -> Validation {
    let limits = Limits {
        memory_oversubscription: state.scheduler_config().memory_oversubscription,
        ..Limits::default()
    };
    let mut validation = jobspec::validate(document, &limits);
    let mut place = place_errors(state, document);
    place.append(&mut validation.errors);
    validation.errors = place;
    validation
}

/// Says what is wrong with the namespace and the node pool of a job.
fn place_errors(state: &State, document: &Value) -> Vec<String> {
    let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default();
    let (id, namespace, pool) = (text("ID"), text("Namespace"), text("NodePool"));
    let Some(found) = state.namespace(namespace) else {
        return vec![format!("job {id:?} is in nonexistent namespace {namespace:?}")];
    };
    let mut errors = driver_errors(found, document);
    if !pool.is_empty() && state.node_pool(pool).is_none() {
        errors.push(format!("job {id:?} is in nonexistent node pool {pool:?}"));
    }
    errors
}

fn driver_errors(namespace: &Namespace, document: &Value) -> Vec<String> {
    let items =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut used: Vec<String> = items(document, "TaskGroups")
        .iter()
        .flat_map(|group| items(group, "Tasks"))
        .filter_map(|task| task.get("Driver").and_then(Value::as_str).map(str::to_owned))
        .filter(|driver| {
            let enabled = &namespace.enabled_drivers;
            let allowed = enabled.is_empty() || enabled.iter().any(|name| name == driver);
            !allowed || namespace.disabled_drivers.iter().any(|name| name == driver)
        })
        .collect();
    used.sort_unstable();
    used.dedup();
    let name = &namespace.name;
    match &used[..] {
        [] => Vec::new(),
        [one] => vec![format!("used task driver {one:?} is not allowed in namespace {name:?}")],
        many => {
            let list: Vec<_> = many.iter().map(|driver| format!("{driver:?}")).collect();
            vec![format!("used task drivers [{}] are not allowed in namespace {name:?}", list.join(" "))]
        }
    }
}
