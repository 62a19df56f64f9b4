//! The list of jobs that pages show: each with its allocations and its latest deployment.

use std::sync::Arc;

use api_types::{
    JobName, JobStatusAlloc, JobStatusDeployment, JobStatusHealth, JobStatusLine, JobStatusesRequest,
};
use model::{Job, JobKey};
use server::Watch;
use state::{Snapshot, Table};

use crate::{
    Api, Call, HttpError, Meta, Reply,
    paging::{Paging, Position},
};

/// Meta that a tool sets which makes jobs from templates.
const PACK_NAME: &str = "pack.name";

/// Answers `GET` and `PUT /v1/jobs/statuses`.
pub(super) async fn statuses(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let mut request = JobStatusesRequest::default();
    if !call.is_read() {
        call.require_put()?;
        request = call.json_of("structs.JobStatusesRequest")?;
        if request.jobs.is_empty() {
            return Err(HttpError::bad_request("no jobs in request"));
        }
    }
    let children = request.include_children || call.query.switch("include_children")?.unwrap_or(false);
    let paging = Paging::of(&call.query)?;
    let tables = [Table::Jobs, Table::Allocs, Table::Deployments];
    let (index, (lines, next_token)) = api
        .read(call, &tables.map(Watch::Table), |state| {
            let mut jobs = match request.jobs.is_empty() {
                true => all_jobs(state, call, children),
                false => named_jobs(state, &request.jobs),
            };
            jobs.sort_by_key(|job| (job.modify_index, job.key.clone()));
            // What changed last comes first, unless the reverse is asked for.
            let mut order = paging.clone();
            order.reverse = !paging.reverse;
            if order.reverse {
                jobs.reverse();
            }
            let position = |job: &Arc<Job>| Position::Modified(job.modify_index);
            let page = order.shapes(jobs.into_iter(), position, |job| line(state, job));
            Ok((state.last_index_of(&tables), page))
        })
        .await?;
    Reply::read(&lines, Meta { index, next_token })
}

fn all_jobs(state: &Snapshot, call: &Call, children: bool) -> Vec<Arc<Job>> {
    let prefix = call.query.text("prefix").unwrap_or_default();
    let jobs = super::jobs_in(state, call.list_namespace(), prefix);
    jobs.filter(|job| children || job.parent.is_none()).cloned().collect()
}

fn named_jobs(state: &Snapshot, names: &[JobName]) -> Vec<Arc<Job>> {
    let key = |name: &JobName| {
        let namespace = if name.namespace.is_empty() { "default" } else { name.namespace.as_str() };
        JobKey::new(namespace, name.id.as_str())
    };
    let mut keys: Vec<_> = names.iter().map(key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.iter().filter_map(|key| state.job(key).cloned()).collect()
}

fn line(state: &Snapshot, job: &Job) -> JobStatusLine {
    let mut allocs: Vec<_> = state
        .allocs_by_job(&job.key)
        .filter(|alloc| alloc.job.create_index == job.create_index)
        .map(|alloc| {
            let health = alloc.extra().health.unwrap_or_default();
            JobStatusAlloc {
                client_status: alloc.client_status.to_string(),
                deployment_status: JobStatusHealth { canary: health.canary, healthy: health.healthy },
                followup_eval_id: alloc.extra().followup_eval.map(|id| id.to_string()).unwrap_or_default(),
                group: alloc.task_group().name.to_string(),
                has_paused_task: false,
                id: alloc.id.to_string(),
                job_version: alloc.job.version,
                node_id: alloc.node_id.to_string(),
            }
        })
        .collect();
    allocs.sort_by(|left, right| left.id.cmp(&right.id));
    let launches = job.is_template();
    let child_statuses =
        launches.then(|| state.children(&job.key).map(|child| child.status.to_string()).collect());
    JobStatusLine {
        allocs,
        child_statuses,
        datacenters: job.spec.datacenters.iter().map(ToString::to_string).collect(),
        group_count_sum: job.spec.groups.iter().map(|group| u64::from(group.count)).sum(),
        id: job.key.id.to_string(),
        is_pack: job.spec.meta.contains_key(PACK_NAME),
        latest_deployment: state.latest_deployment(&job.key).map(|deployment| JobStatusDeployment {
            all_auto_promote: deployment.groups.values().all(|group| group.auto_promote),
            id: deployment.id.to_string(),
            is_active: deployment.status.is_active(),
            job_version: deployment.job_version,
            requires_promotion: deployment.requires_promotion(),
            status: deployment.status.to_string(),
            status_description: deployment.status_description.to_string(),
        }),
        modify_index: job.modify_index,
        name: job.spec.name.to_string(),
        namespace: job.key.namespace.to_string(),
        node_pool: job.spec.node_pool.to_string(),
        parent_id: job.parent.as_ref().map(|parent| parent.id.to_string()).unwrap_or_default(),
        priority: job.spec.priority,
        status: job.status.to_string(),
        stop: job.stop,
        submit_time: job.submit_time.0,
        kind: job.spec.kind.to_string(),
        version: job.version,
    }
}
