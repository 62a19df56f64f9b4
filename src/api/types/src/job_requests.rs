//! What is sent to change jobs, and what comes back.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{AllocMetric, Evaluation, PlanAnnotations, Time, shape::or_null};

shape! {
    /// Registers a job.
    JobRegisterRequest {
        enforce_index "EnforceIndex": bool,
        eval_priority "EvalPriority": i32,
        job "Job": Option<Value>,
        job_modify_index "JobModifyIndex": u64,
        namespace "Namespace": String,
        policy_override "PolicyOverride": bool,
        preserve_counts "PreserveCounts": bool,
        preserve_resources "PreserveResources": bool,
        region "Region": String,
        secret_id "SecretID": String,
        submission "Submission": Option<JobSubmissionSource>,
    }
    /// The text that a job comes from.
    JobSubmissionSource {
        format "Format": String,
        source "Source": String,
        variable_flags "VariableFlags": BTreeMap<String, String>,
        variables "Variables": String,
    }
    /// What registering, reverting, evaluating and scaling a job answer.
    JobRegisterResponse {
        eval_create_index "EvalCreateIndex": u64,
        eval_id "EvalID": String,
        index "Index": u64,
        job_modify_index "JobModifyIndex": u64,
        known_leader "KnownLeader": bool,
        last_contact "LastContact": u64,
        next_token "NextToken": String,
        warnings "Warnings": String,
    }
    /// What stopping a job answers.
    JobDeregisterResponse {
        eval_create_index "EvalCreateIndex": u64,
        eval_id "EvalID": String,
        index "Index": u64,
        job_modify_index "JobModifyIndex": u64,
        known_leader "KnownLeader": bool,
        last_contact "LastContact": u64,
        next_token "NextToken": String,
        volume_eval_id "VolumeEvalID": String,
        volume_eval_index "VolumeEvalIndex": u64,
    }
    /// Asks what registering a job would do.
    JobPlanRequest {
        diff "Diff": bool,
        job "Job": Option<Value>,
        namespace "Namespace": String,
        policy_override "PolicyOverride": bool,
        region "Region": String,
        secret_id "SecretID": String,
    }
    /// What registering a job would do. `Diff` is made and printed elsewhere.
    JobPlanResponse {
        annotations "Annotations": Option<PlanAnnotations>,
        #[serde(serialize_with = "or_null")]
        created_evals "CreatedEvals": Vec<Evaluation>,
        diff "Diff": Option<Value>,
        #[serde(serialize_with = "or_null")]
        failed_tg_allocs "FailedTGAllocs": BTreeMap<String, AllocMetric>,
        index "Index": u64,
        job_modify_index "JobModifyIndex": u64,
        next_periodic_launch "NextPeriodicLaunch": Time,
        warnings "Warnings": String,
    }
    /// Asks whether a job is valid.
    JobValidateRequest {
        job "Job": Option<Value>,
        namespace "Namespace": String,
        region "Region": String,
        secret_id "SecretID": String,
    }
    /// Whether a job is valid.
    JobValidateResponse {
        driver_config_validated "DriverConfigValidated": bool,
        error "Error": String,
        #[serde(serialize_with = "or_null")]
        validation_errors "ValidationErrors": Vec<String>,
        warnings "Warnings": String,
    }
    /// Asks for the JSON form of a job file.
    JobParseRequest {
        canonicalize "Canonicalize": bool,
        job_hcl "JobHCL": String,
        variables "Variables": String,
    }
    /// The versions of a job, newest first.
    JobVersionsResponse {
        diffs "Diffs": Option<Vec<Value>>,
        index "Index": u64,
        known_leader "KnownLeader": bool,
        last_contact "LastContact": u64,
        next_token "NextToken": String,
        versions "Versions": Vec<Value>,
    }
    /// Goes back to an earlier version.
    JobRevertRequest {
        consul_token "ConsulToken": String,
        enforce_prior_version "EnforcePriorVersion": Option<u64>,
        job_id "JobID": String,
        job_version "JobVersion": u64,
        vault_token "VaultToken": String,
    }
    /// Marks a version as good or not.
    JobStableRequest {
        job_id "JobID": String,
        job_version "JobVersion": u64,
        stable "Stable": bool,
    }
    /// Names a version.
    JobTagRequest {
        description "Description": String,
        version "Version": Option<u64>,
    }
    /// What naming a version answers.
    JobTagResponse {
        description "Description": String,
        index "Index": u64,
        known_leader "KnownLeader": bool,
        last_contact "LastContact": u64,
        name "Name": String,
        next_token "NextToken": String,
        tagged_time "TaggedTime": i64,
    }
    /// Asks for an evaluation.
    JobEvaluateRequest {
        eval_options "EvalOptions": EvalOptions,
        job_id "JobID": String,
    }
    /// How an evaluation that was asked for goes.
    EvalOptions { force_reschedule "ForceReschedule": bool, }
    /// Launches a parameterized job.
    JobDispatchRequest {
        id_prefix_template "IdPrefixTemplate": String,
        job_id "JobID": String,
        meta "Meta": BTreeMap<String, String>,
        #[serde(with = "crate::files::base64_bytes")]
        payload "Payload": Vec<u8>,
        priority "Priority": i32,
    }
    /// What a dispatch answers.
    JobDispatchResponse {
        dispatched_job_id "DispatchedJobID": String,
        eval_create_index "EvalCreateIndex": u64,
        eval_id "EvalID": String,
        index "Index": u64,
        job_create_index "JobCreateIndex": u64,
    }
    /// What forcing a periodic launch answers.
    PeriodicForceResponse {
        eval_create_index "EvalCreateIndex": u64,
        eval_id "EvalID": String,
        index "Index": u64,
    }
    /// Changes a group's count.
    JobScaleRequest {
        count "Count": Option<i64>,
        error "Error": bool,
        job_modify_index "JobModifyIndex": u64,
        #[serde(serialize_with = "or_null")]
        message "Message": String,
        meta "Meta": Option<Value>,
        policy_override "PolicyOverride": bool,
        target "Target": BTreeMap<String, String>,
    }
    /// Asks for the status of some jobs.
    JobStatusesRequest {
        include_children "IncludeChildren": bool,
        jobs "Jobs": Vec<JobName>,
    }
    /// A job by name.
    JobName {
        id "ID": String,
        namespace "Namespace": String,
    }
    /// A command that a job offers to run in its tasks.
    JobAction {
        args "Args": Vec<String>,
        command "Command": String,
        name "Name": String,
        task_group_name "TaskGroupName": String,
        task_name "TaskName": String,
    }
}
