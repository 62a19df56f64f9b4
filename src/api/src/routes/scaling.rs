//! `/v1/scaling/policies` and `/v1/scaling/policy/:id`: the bounds that groups set for their counts.

use std::{collections::BTreeMap, sync::Arc};

use api_types::{ScalingPolicy, ScalingPolicyStub};
use model::{Job, Scaling};
use serde_json::Value;
use server::Watch;
use sha2::{Digest, Sha256};
use state::Table;

use crate::{
    Api, Call, HttpError, Meta, Reply,
    blocking::FIRST_INDEX,
    paging::{Paging, Position},
};

const KIND: &str = "horizontal";

/// Answers `GET /v1/scaling/policies`.
pub(crate) async fn list(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.require_read()?;
    let paging = Paging::of(&call.query)?;
    let (job, kind) = (call.query.text("job"), call.query.text("type"));
    let (index, (lines, next_token)) = api
        .read(call, &[Watch::Table(Table::Jobs)], |state| {
            let jobs =
                state.jobs(call.list_namespace()).filter(|row| job.is_none_or(|job| row.key.id == job));
            let mut policies: Vec<_> = jobs.flat_map(policies_of).collect();
            policies.retain(|policy| kind.is_none_or(|kind| policy.kind == kind));
            policies.sort_by(|left, right| left.id.cmp(&right.id));
            if paging.reverse {
                policies.reverse();
            }
            let position = |policy: &ScalingPolicy| Position::Id(policy.id.clone());
            Ok((
                state.table_index(Table::Jobs).max(FIRST_INDEX),
                paging.shapes(policies.into_iter(), position, stub),
            ))
        })
        .await?;
    Reply::read(&lines, Meta { index, next_token })
}

/// Answers `GET /v1/scaling/policy/:id`.
pub(crate) async fn single(api: &Api, call: &Call, id: &str) -> Result<Reply, HttpError> {
    call.require_read()?;
    let (index, policy) = api
        .find(call, &[Watch::Table(Table::Jobs)], "policy not found", |state| {
            let policy = state.all_jobs().flat_map(policies_of).find(|policy| policy.id == id);
            let table = state.table_index(Table::Jobs).max(FIRST_INDEX);
            Ok((policy.as_ref().map_or(table, |policy| policy.modify_index), policy))
        })
        .await?;
    Reply::read(&policy, Meta { index, next_token: None })
}

fn stub(policy: &ScalingPolicy) -> ScalingPolicyStub {
    ScalingPolicyStub {
        create_index: policy.create_index,
        enabled: policy.enabled,
        id: policy.id.clone(),
        modify_index: policy.modify_index,
        target: policy.target.clone(),
        kind: policy.kind.clone(),
    }
}

/// Lists the policies of a job; a stopped job has none.
pub(crate) fn policies_of(job: &Arc<Job>) -> Vec<ScalingPolicy> {
    if job.stop || job.spec.groups.iter().all(|group| group.scaling.is_none()) {
        return Vec::new();
    }
    let document = job.spec.document_value();
    let groups = job.spec.groups.iter().enumerate();
    groups
        .filter_map(|(at, group)| {
            let written = &document["TaskGroups"][at]["Scaling"]["Policy"];
            Some(policy(job, &group.name, group.scaling.as_ref()?, written))
        })
        .collect()
}

fn policy(job: &Job, group: &str, scaling: &Scaling, written: &Value) -> ScalingPolicy {
    let target = [("Namespace", job.key.namespace.as_str()), ("Job", job.key.id.as_str()), ("Group", group)];
    ScalingPolicy {
        create_index: job.create_index,
        enabled: scaling.enabled,
        id: policy_id(job, group),
        max: scaling.max.unwrap_or(0),
        min: scaling.min.unwrap_or(0),
        modify_index: job.job_modify_index,
        policy: Some(written.clone()).filter(|policy| !policy.is_null()),
        target: target
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>(),
        kind: KIND.to_owned(),
    }
}

/// Returns the id of a group's policy: the same on every server, as long as the job is there.
fn policy_id(job: &Job, group: &str) -> String {
    let text = format!("{}\0{}\0{group}\0{}", job.key.namespace, job.key.id, job.create_index);
    let hash = Sha256::digest(text);
    let mut bits = [0; 16];
    bits.copy_from_slice(&hash[..16]);
    model::EvalId::from_random(u128::from_be_bytes(bits)).to_string()
}
