use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};

use crate::shape::or_null;

shape! {
    /// One line of a list of jobs.
    JobStub {
        create_index "CreateIndex": u64,
        #[serde(serialize_with = "or_null")]
        datacenters "Datacenters": Vec<String>,
        id "ID": String,
        job_modify_index "JobModifyIndex": u64,
        job_summary "JobSummary": Option<JobSummary>,
        #[serde(skip_serializing_if = "Option::is_none")]
        meta "Meta": Option<BTreeMap<String, String>>,
        modify_index "ModifyIndex": u64,
        multiregion "Multiregion": Option<Value>,
        name "Name": String,
        namespace "Namespace": String,
        node_pool "NodePool": String,
        parameterized_job "ParameterizedJob": bool,
        parent_id "ParentID": String,
        periodic "Periodic": bool,
        priority "Priority": i32,
        status "Status": String,
        status_description "StatusDescription": String,
        stop "Stop": bool,
        submit_time "SubmitTime": i64,
        kind "Type": String,
    }
    /// How many of a job's allocations are in which state.
    JobSummary {
        children "Children": Option<JobChildrenSummary>,
        create_index "CreateIndex": u64,
        job_id "JobID": String,
        modify_index "ModifyIndex": u64,
        namespace "Namespace": String,
        summary "Summary": BTreeMap<String, GroupSummary>,
    }
    /// How many children of a job are in which state.
    JobChildrenSummary {
        dead "Dead": u64,
        pending "Pending": u64,
        running "Running": u64,
    }
    /// How many of a group's allocations are in which state.
    GroupSummary {
        complete "Complete": u64,
        failed "Failed": u64,
        lost "Lost": u64,
        queued "Queued": u64,
        running "Running": u64,
        starting "Starting": u64,
        unknown "Unknown": u64,
    }
    /// What scaling sees of a job.
    JobScaleStatus {
        job_create_index "JobCreateIndex": u64,
        job_id "JobID": String,
        job_modify_index "JobModifyIndex": u64,
        job_stopped "JobStopped": bool,
        namespace "Namespace": String,
        #[serde(serialize_with = "or_null")]
        task_groups "TaskGroups": BTreeMap<String, GroupScaleStatus>,
    }
    /// What scaling sees of a group.
    GroupScaleStatus {
        desired "Desired": i64,
        #[serde(serialize_with = "or_null")]
        events "Events": Vec<ScalingEvent>,
        healthy "Healthy": i64,
        placed "Placed": i64,
        running "Running": i64,
        unhealthy "Unhealthy": i64,
    }
    /// A change of a group's count that someone asked for.
    ScalingEvent {
        count "Count": Option<i64>,
        create_index "CreateIndex": u64,
        error "Error": bool,
        eval_id "EvalID": Option<String>,
        message "Message": String,
        meta "Meta": Option<Value>,
        previous_count "PreviousCount": i64,
        time "Time": i64,
    }
    /// The text that a job was registered from.
    JobSubmission {
        format "Format": String,
        job_id "JobID": String,
        job_modify_index "JobModifyIndex": u64,
        namespace "Namespace": String,
        source "Source": String,
        #[serde(serialize_with = "or_null")]
        variable_flags "VariableFlags": BTreeMap<String, String>,
        variables "Variables": String,
        version "Version": u64,
    }
    /// A line of the job list that pages show.
    JobStatusLine {
        #[serde(serialize_with = "or_null")]
        allocs "Allocs": Vec<JobStatusAlloc>,
        child_statuses "ChildStatuses": Option<Vec<String>>,
        #[serde(serialize_with = "or_null")]
        datacenters "Datacenters": Vec<String>,
        group_count_sum "GroupCountSum": u64,
        id "ID": String,
        is_pack "IsPack": bool,
        latest_deployment "LatestDeployment": Option<JobStatusDeployment>,
        modify_index "ModifyIndex": u64,
        name "Name": String,
        namespace "Namespace": String,
        node_pool "NodePool": String,
        parent_id "ParentID": String,
        priority "Priority": i32,
        status "Status": String,
        stop "Stop": bool,
        submit_time "SubmitTime": i64,
        kind "Type": String,
        version "Version": u64,
    }
    /// An allocation in such a line.
    JobStatusAlloc {
        client_status "ClientStatus": String,
        deployment_status "DeploymentStatus": JobStatusHealth,
        followup_eval_id "FollowupEvalID": String,
        group "Group": String,
        has_paused_task "HasPausedTask": bool,
        id "ID": String,
        job_version "JobVersion": u64,
        node_id "NodeID": String,
    }
    /// An allocation's health in such a line.
    JobStatusHealth {
        canary "Canary": bool,
        healthy "Healthy": Option<bool>,
    }
    /// A deployment in such a line.
    JobStatusDeployment {
        all_auto_promote "AllAutoPromote": bool,
        id "ID": String,
        is_active "IsActive": bool,
        job_version "JobVersion": u64,
        requires_promotion "RequiresPromotion": bool,
        status "Status": String,
        status_description "StatusDescription": String,
    }
}

/// Makes the JSON of a job: what the user asked for and what the server set, keys in alphabetical order.
pub fn job_value(job: &model::Job) -> Value {
    let Value::Object(mut fields) = job.spec.document_value() else {
        unreachable!("a job document is an object: its typed view was read from one");
    };
    let parent = job.parent.as_deref();
    let dispatched = parent.is_some_and(|parent| parent.dispatched);
    if parent.is_some() && !dispatched {
        // A launched child shares its parent's specification and does not launch children itself.
        fields.insert("Periodic".to_owned(), Value::Null);
    }
    let payload = parent.map(|parent| parent.payload.as_slice()).filter(|payload| !payload.is_empty());
    let tag = job.version_tag.as_deref();
    let set = [
        ("CreateIndex", json!(job.create_index)),
        ("DispatchIdempotencyToken", json!(parent.map_or("", |parent| &parent.idempotency_token))),
        ("Dispatched", json!(dispatched)),
        ("ID", json!(job.key.id)),
        ("JobModifyIndex", json!(job.job_modify_index)),
        ("ModifyIndex", json!(job.modify_index)),
        ("Namespace", json!(job.key.namespace)),
        ("ParentID", json!(parent.map_or("", |parent| &parent.id))),
        ("Payload", json!(payload.map(|payload| BASE64.encode(payload)))),
        ("Stable", json!(job.stable)),
        ("Status", json!(job.status)),
        ("StatusDescription", json!(job.status_description)),
        ("Stop", json!(job.stop)),
        ("SubmitTime", json!(job.submit_time.0)),
        ("Version", json!(job.version)),
        (
            "VersionTag",
            tag.map_or(Value::Null, |tag| {
                json!({"Description": tag.description, "Name": tag.name, "TaggedTime": tag.tagged_time.0})
            }),
        ),
    ];
    fields.extend(set.map(|(key, value)| (key.to_owned(), value)));
    sorted(fields)
}

fn sorted(fields: Map<String, Value>) -> Value {
    let ordered: BTreeMap<String, Value> = fields.into_iter().collect();
    Value::Object(ordered.into_iter().collect())
}

impl JobStub {
    /// Makes a list line; `meta` is filled in on request only.
    pub fn of(job: &model::Job, summary: Option<&model::JobSummary>, meta: bool) -> Self {
        Self {
            create_index: job.create_index,
            datacenters: job.spec.datacenters.iter().map(ToString::to_string).collect(),
            id: job.key.id.to_string(),
            job_modify_index: job.job_modify_index,
            job_summary: summary.map(JobSummary::of),
            meta: meta.then(|| crate::shape::text_map(&job.spec.meta)),
            modify_index: job.modify_index,
            multiregion: None,
            name: job.spec.name.to_string(),
            namespace: job.key.namespace.to_string(),
            node_pool: job.spec.node_pool.to_string(),
            parameterized_job: job.is_parameterized(),
            parent_id: job.parent.as_ref().map(|parent| parent.id.to_string()).unwrap_or_default(),
            periodic: job.is_periodic(),
            priority: job.spec.priority,
            status: job.status.to_string(),
            status_description: job.status_description.to_string(),
            stop: job.stop,
            submit_time: job.submit_time.0,
            kind: job.spec.kind.to_string(),
        }
    }
}

impl JobSummary {
    /// Makes the shape of a job's summary.
    pub fn of(summary: &model::JobSummary) -> Self {
        let (pending, running, dead) = summary.children;
        let children =
            JobChildrenSummary { dead: dead.into(), pending: pending.into(), running: running.into() };
        Self {
            children: Some(children),
            create_index: summary.create_index,
            job_id: summary.job.id.to_string(),
            modify_index: summary.modify_index,
            namespace: summary.job.namespace.to_string(),
            summary: summary
                .groups
                .iter()
                .map(|(name, group)| (name.to_string(), GroupSummary::of(group)))
                .collect(),
        }
    }
}

impl GroupSummary {
    fn of(group: &model::GroupSummary) -> Self {
        Self {
            complete: group.complete.into(),
            failed: group.failed.into(),
            lost: group.lost.into(),
            queued: group.queued.into(),
            running: group.running.into(),
            starting: group.starting.into(),
            unknown: group.unknown.into(),
        }
    }
}

impl ScalingEvent {
    /// Makes the shape of a scaling event.
    pub fn of(event: &model::ScalingEvent) -> Self {
        Self {
            count: event.count,
            create_index: event.create_index,
            error: event.error,
            eval_id: event.eval_id.map(|id| id.to_string()),
            message: event.message.clone(),
            meta: serde_json::from_str(&event.meta).ok(),
            previous_count: event.previous_count,
            time: event.time.0,
        }
    }
}

impl JobSubmission {
    /// Makes the shape of a submission of this version of a job.
    pub fn of(job: &model::Job, submission: &model::JobSubmission) -> Self {
        let flags = submission.variable_flags.iter();
        Self {
            format: submission.format.to_string(),
            job_id: job.key.id.to_string(),
            job_modify_index: job.job_modify_index,
            namespace: job.key.namespace.to_string(),
            source: submission.source.clone(),
            variable_flags: flags.map(|(name, value)| (name.to_string(), value.clone())).collect(),
            variables: submission.variables.clone(),
            version: job.version,
        }
    }
}
