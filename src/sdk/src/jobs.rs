use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    Client, Query, QueryMeta, RequestError,
    query::segment,
    types::{
        AllocLine, AllocStub, Deployment, Evaluation, JobAction, JobDeregisterResponse, JobDispatchRequest,
        JobDispatchResponse, JobEvaluateRequest, JobParseRequest, JobPlanRequest, JobPlanResponse,
        JobRegisterRequest, JobRegisterResponse, JobRevertRequest, JobScaleRequest, JobScaleStatus, JobStub,
        JobSubmission, JobSubmissionSource, JobSummary, JobTagRequest, JobTagResponse, JobValidateRequest,
        JobValidateResponse, JobVersionsResponse, PeriodicForceResponse, ServiceRegistration,
    },
};

type Answer<T> = Result<T, RequestError>;
type Listed<T> = Result<(T, QueryMeta), RequestError>;

/// How a job is registered.
#[derive(Clone, Debug, Default)]
pub struct RegisterOptions {
    /// Refuse unless the job has this modify index; 0 for "must not exist".
    pub enforce_index: Option<u64>,
    /// Keep the counts that the job has.
    pub preserve_counts: bool,
    /// Keep the resources that the job has.
    pub preserve_resources: bool,
    /// Override soft policies.
    pub policy_override: bool,
    /// Priority of the evaluation, when not the job's.
    pub eval_priority: i32,
    /// The text that it comes from.
    pub submission: Option<JobSubmissionSource>,
}

/// How a job is stopped.
#[derive(Clone, Debug, Default)]
pub struct DeregisterOptions {
    /// Forget it.
    pub purge: bool,
    /// In all regions.
    pub global: bool,
    /// Priority of the evaluation, when not the job's.
    pub eval_priority: i32,
    /// Without shutdown delays.
    pub no_shutdown_delay: bool,
}

/// Returns a job's text field.
fn text<'a>(job: &'a Value, field: &str) -> &'a str {
    job.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A request is for the job's own region and namespace, unless it says otherwise.
fn of_job(job: &Value) -> Query {
    let set = |field| Some(text(job, field).to_owned()).filter(|text| !text.is_empty());
    Query { namespace: set("Namespace"), region: set("Region"), ..Query::default() }
}

fn path(job: &str, rest: &str) -> String {
    format!("/v1/job/{}{rest}", segment(job))
}

/// Jobs.
impl Client {
    /// Lists jobs.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`], like all that follow.
    pub async fn jobs(&self, query: &Query) -> Listed<Vec<JobStub>> {
        self.get("/v1/jobs", query).await
    }

    /// Reads a job.
    pub async fn job(&self, id: &str, query: &Query) -> Listed<Value> {
        self.get(&path(id, ""), query).await
    }

    /// Registers a job.
    pub async fn register_job(&self, job: Value, options: RegisterOptions) -> Answer<JobRegisterResponse> {
        let query = of_job(&job);
        let request = JobRegisterRequest {
            enforce_index: options.enforce_index.is_some(),
            job_modify_index: options.enforce_index.unwrap_or(0),
            eval_priority: options.eval_priority,
            policy_override: options.policy_override,
            preserve_counts: options.preserve_counts,
            preserve_resources: options.preserve_resources,
            submission: options.submission,
            job: Some(job),
            ..JobRegisterRequest::default()
        };
        Ok(self.put("/v1/jobs", &request, &query).await?.0)
    }

    /// Asks what registering a job would do.
    pub async fn plan_job(&self, job: Value, diff: bool, policy_override: bool) -> Answer<JobPlanResponse> {
        let query = of_job(&job);
        let target = path(text(&job, "ID"), "/plan");
        let request = JobPlanRequest { diff, job: Some(job), policy_override, ..JobPlanRequest::default() };
        Ok(self.put(&target, &request, &query).await?.0)
    }

    /// Asks whether a job is valid.
    pub async fn validate_job(&self, job: Value) -> Answer<JobValidateResponse> {
        let query = of_job(&job);
        let request = JobValidateRequest { job: Some(job), ..JobValidateRequest::default() };
        Ok(self.put("/v1/validate/job", &request, &query).await?.0)
    }

    /// Asks for the JSON form of a job file.
    pub async fn parse_job(&self, request: &JobParseRequest) -> Answer<Value> {
        Ok(self.put("/v1/jobs/parse", request, &Query::default()).await?.0)
    }

    /// Stops a job.
    pub async fn deregister_job(
        &self,
        id: &str,
        options: &DeregisterOptions,
        query: &Query,
    ) -> Answer<JobDeregisterResponse> {
        let mut query =
            query.clone().with("purge", options.purge.to_string()).with("global", options.global.to_string());
        if options.eval_priority != 0 {
            query = query.with("eval_priority", options.eval_priority.to_string());
        }
        query = query.with("no_shutdown_delay", options.no_shutdown_delay.to_string());
        Ok(self.delete(&path(id, ""), &query).await?.0)
    }

    /// Lists the versions of a job, newest first.
    pub async fn job_versions(&self, id: &str, query: &Query) -> Answer<JobVersionsResponse> {
        Ok(self.get(&path(id, "/versions"), query).await?.0)
    }

    /// Reads the text that a version was registered from.
    pub async fn job_submission(&self, id: &str, version: u64, query: &Query) -> Answer<JobSubmission> {
        let query = query.clone().with("version", version.to_string());
        Ok(self.get(&path(id, "/submission"), &query).await?.0)
    }

    /// Counts a job's allocations.
    pub async fn job_summary(&self, id: &str, query: &Query) -> Answer<JobSummary> {
        Ok(self.get(&path(id, "/summary"), query).await?.0)
    }

    /// Lists a job's allocations; with those of earlier jobs of that name when `all`.
    pub async fn job_allocations(&self, id: &str, all: bool, query: &Query) -> Listed<Vec<AllocStub>> {
        let query = query.clone().with("all", all.to_string());
        self.get(&path(id, "/allocations"), &query).await
    }

    /// Lists a job's allocations as [`Client::job_allocations`] does, with what tables show of them only.
    pub async fn job_allocation_lines(&self, id: &str, all: bool, query: &Query) -> Listed<Vec<AllocLine>> {
        let query = query.clone().with("all", all.to_string()).with("task_states", "false");
        self.get_exact(&path(id, "/allocations"), &query).await
    }

    /// Lists a job's evaluations.
    pub async fn job_evaluations(&self, id: &str, query: &Query) -> Answer<Vec<Evaluation>> {
        Ok(self.get(&path(id, "/evaluations"), query).await?.0)
    }

    /// Lists a job's deployments.
    pub async fn job_deployments(&self, id: &str, all: bool, query: &Query) -> Answer<Vec<Deployment>> {
        let query = query.clone().with("all", all.to_string());
        Ok(self.get(&path(id, "/deployments"), &query).await?.0)
    }

    /// Reads a job's latest deployment.
    pub async fn latest_deployment(&self, id: &str, query: &Query) -> Answer<Option<Deployment>> {
        Ok(self.get(&path(id, "/deployment"), query).await?.0)
    }

    /// Goes back to an earlier version.
    pub async fn revert_job(&self, request: &JobRevertRequest, query: &Query) -> Answer<JobRegisterResponse> {
        Ok(self.put(&path(&request.job_id, "/revert"), request, query).await?.0)
    }

    /// Asks for an evaluation.
    pub async fn evaluate_job(
        &self,
        request: &JobEvaluateRequest,
        query: &Query,
    ) -> Answer<JobRegisterResponse> {
        Ok(self.put(&path(&request.job_id, "/evaluate"), request, query).await?.0)
    }

    /// Launches a parameterized job.
    pub async fn dispatch_job(
        &self,
        request: &JobDispatchRequest,
        idempotency_token: &str,
        query: &Query,
    ) -> Answer<JobDispatchResponse> {
        let mut query = query.clone();
        if !idempotency_token.is_empty() {
            query = query.with("idempotency_token", idempotency_token);
        }
        Ok(self.put(&path(&request.job_id, "/dispatch"), request, &query).await?.0)
    }

    /// Launches a periodic job now.
    pub async fn force_periodic(&self, id: &str, query: &Query) -> Answer<PeriodicForceResponse> {
        Ok(self.put_empty(&path(id, "/periodic/force"), query).await?.0)
    }

    /// Changes a group's count.
    pub async fn scale_job(
        &self,
        id: &str,
        group: &str,
        count: i64,
        message: &str,
        query: &Query,
    ) -> Answer<JobRegisterResponse> {
        let target =
            BTreeMap::from([("Group".to_owned(), group.to_owned()), ("Job".to_owned(), id.to_owned())]);
        let request = JobScaleRequest {
            count: Some(count),
            message: message.to_owned(),
            target,
            ..JobScaleRequest::default()
        };
        Ok(self.put(&path(id, "/scale"), &request, query).await?.0)
    }

    /// Reads what scaling sees of a job.
    pub async fn job_scale_status(&self, id: &str, query: &Query) -> Answer<JobScaleStatus> {
        Ok(self.get(&path(id, "/scale"), query).await?.0)
    }

    /// Lists the actions that a job offers.
    pub async fn job_actions(&self, id: &str, query: &Query) -> Answer<Vec<JobAction>> {
        Ok(self.get(&path(id, "/actions"), query).await?.0)
    }

    /// Lists the instances of a job's services.
    pub async fn job_services(&self, id: &str, query: &Query) -> Answer<Vec<ServiceRegistration>> {
        Ok(self.get(&path(id, "/services"), query).await?.0)
    }

    /// Names a version.
    pub async fn tag_job_version(
        &self,
        id: &str,
        tag: &str,
        request: &JobTagRequest,
        query: &Query,
    ) -> Answer<JobTagResponse> {
        Ok(self.put(&path(id, &format!("/versions/{}/tag", segment(tag))), request, query).await?.0)
    }

    /// Takes the name off a version.
    pub async fn untag_job_version(&self, id: &str, tag: &str, query: &Query) -> Answer<JobTagResponse> {
        Ok(self.delete(&path(id, &format!("/versions/{}/tag", segment(tag))), query).await?.0)
    }

    /// Marks a version as good or not.
    pub async fn mark_job_stable(
        &self,
        id: &str,
        version: u64,
        stable: bool,
        query: &Query,
    ) -> Answer<Value> {
        let request = json!({"JobID": id, "JobVersion": version, "Stable": stable});
        Ok(self.put(&path(id, "/stable"), &request, query).await?.0)
    }
}
