//! What is known of jobs.

use std::{collections::BTreeMap, sync::Arc};

use api_types::{
    Deployment, GroupScaleStatus, JobAction, JobScaleStatus, JobStub, JobSubmission, JobSummary,
    JobVersionsResponse, ScalingEvent, ServiceRegistration, StubFields, job_value,
};
use model::{Allocation, ClientStatus, Job, JobKey, TaskGroup};
use serde_json::Value;
use server::Watch;
use state::{Snapshot, Table};

use crate::{
    Api, Call, HttpError, Meta, Reply,
    blocking::FIRST_INDEX,
    paging::{Paging, Position},
    routes::{allocations::write_list, exhausted},
};

fn meta(index: u64) -> Meta {
    Meta { index, next_token: None }
}

/// Answers `GET /v1/jobs`.
pub(super) async fn list(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let with_meta = call.query.switch("meta")?.unwrap_or(false);
    call.query.wait()?;
    let paging = Paging::of(&call.query)?;
    let tables = [Table::Jobs, Table::Summaries];
    let prefix = call.query.text("prefix").unwrap_or_default();
    let (index, (lines, next_token)) = api
        .read(call, &tables.map(Watch::Table), |state| {
            let jobs = super::jobs_in(state, call.list_namespace(), prefix);
            let position =
                |job: &&Arc<Job>| Position::Named(job.key.namespace.to_string(), job.key.id.to_string());
            let stub = |job: &&Arc<Job>| {
                let with_meta = with_meta && !job.spec.meta.is_empty();
                JobStub::of(job, state.summary(&job.key).map(Arc::as_ref), with_meta)
            };
            let mut lines = Vec::new();
            let row = |job: &&Arc<Job>, _: &crate::filter::Filter| filter_row(job, stub(job));
            let next = paging.select(jobs, position, row, |job| lines.push(stub(&job)));
            Ok((state.last_index_of(&tables).max(FIRST_INDEX), (lines, next)))
        })
        .await?;
    Reply::read(&lines, Meta { index, next_token })
}

/// A filter sees the whole job, and its summary.
fn filter_row(job: &Job, stub: JobStub) -> Value {
    let mut row = job_value(job);
    if let (Some(row), Ok(Value::Object(stub))) = (row.as_object_mut(), serde_json::to_value(stub)) {
        for (key, value) in stub {
            row.entry(key).or_insert(value);
        }
    }
    row
}

/// Answers `GET /v1/job/:id`.
pub(super) async fn job(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let (index, job) = find_job(api, call, &key, Clone::clone).await?;
    Reply::read(&job_value(&job), meta(index))
}

/// Finds a job and takes something from it, at the job's index.
async fn find_job<T>(
    api: &Api,
    call: &Call,
    key: &JobKey,
    take: impl Fn(&Arc<Job>) -> T,
) -> Result<(u64, T), HttpError> {
    api.find(call, &[Watch::Job(key.clone())], "job not found", |state| {
        let job = state.job(key);
        Ok((job.map_or(state.table_index(Table::Jobs), |job| job.modify_index), job.map(&take)))
    })
    .await
}

/// Answers `GET /v1/job/:id/allocations`.
pub(super) async fn allocations(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let all = call.query.switch("all")?.unwrap_or(false);
    let mut fields = StubFields::default();
    fields.task_states = call.query.switch("task_states")?.unwrap_or(fields.task_states);
    let (index, body) = api
        .read(call, &[Watch::JobAllocs(key.clone())], |state| {
            let current = state.job(&key).map(|job| job.create_index);
            let of_job =
                |alloc: &&Arc<Allocation>| all || current.is_none_or(|index| alloc.job.create_index == index);
            let mut allocs: Vec<_> = state.allocs_by_job(&key).filter(of_job).collect();
            allocs.sort_unstable_by_key(|alloc| alloc.id);
            Ok((state.table_index(Table::Allocs), write_list(state, allocs, fields)))
        })
        .await?;
    Ok(Reply::read_encoded(body, meta(index)))
}

/// Answers `GET /v1/job/:id/evaluations`.
pub(super) async fn evaluations(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let (index, evals) = api
        .read(call, &[Watch::JobEvals(key.clone())], |state| {
            let mut evals: Vec<_> = state.evals_by_job(&key).cloned().collect();
            evals.sort_unstable_by_key(|eval| eval.id);
            let evals: Vec<_> = evals.iter().map(|eval| exhausted::shape(state, eval)).collect();
            Ok((state.table_index(Table::Evals), evals))
        })
        .await?;
    Reply::read(&evals, meta(index))
}

/// Answers `GET /v1/job/:id/summary`.
pub(super) async fn summary(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let (index, summary) = api
        .find(call, &[Watch::Job(key.clone())], "job not found", |state| {
            let summary = state.summary(&key).cloned();
            let table = state.table_index(Table::Summaries);
            Ok((summary.as_ref().map_or(table.max(FIRST_INDEX), |found| found.modify_index), summary))
        })
        .await?;
    Reply::read(&JobSummary::of(&summary), meta(index))
}

/// Answers `GET /v1/job/:id/versions`.
pub(super) async fn versions(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let with_diffs = call.query.switch("diffs")?.unwrap_or(false);
    let compared_version = call.query.number::<u64>("diff_version")?;
    let (index, versions) = api
        .find(call, &[Watch::Job(key.clone())], "job versions not found", |state| {
            let versions: Vec<_> = state.job_versions(&key).cloned().collect();
            let index = versions.first().map_or(state.table_index(Table::Jobs), |job| job.modify_index);
            Ok((index, Some(versions).filter(|versions| !versions.is_empty())))
        })
        .await?;
    let compared = match (compared_version, call.query.text("diff_tag")) {
        (Some(version), _) => Some(versions.iter().find(|job| job.version == version).ok_or_else(|| {
            HttpError::internal(format!("version {version} of job {:?} not found", key.id))
        })?),
        (None, Some(tag)) => Some(
            versions
                .iter()
                .find(|job| has_tag(job, tag))
                .ok_or_else(|| HttpError::internal(format!("tag {tag:?} not found on job {:?}", key.id)))?,
        ),
        (None, None) => None,
    };
    let values: Vec<_> = versions.iter().map(|job| job_value(job)).collect();
    let mut diffs = Vec::new();
    if with_diffs {
        let base = compared.map(|job| job_value(job));
        for (at, pair) in values.windows(2).enumerate() {
            let old = base.as_ref().unwrap_or(&pair[1]);
            let diff = jobspec::diff(Some(old), Some(&values[at]), true);
            diffs.push(serde_json::to_value(diff).map_err(|error| HttpError::internal(error.to_string()))?);
        }
    }
    let response = JobVersionsResponse {
        diffs: Some(diffs).filter(|diffs| !diffs.is_empty()),
        index,
        known_leader: true,
        versions: values,
        ..JobVersionsResponse::default()
    };
    Reply::read(&response, meta(index))
}

fn has_tag(job: &Job, tag: &str) -> bool {
    job.version_tag.as_ref().is_some_and(|found| found.name == tag)
}

/// Answers `GET /v1/job/:id/deployments`.
pub(super) async fn deployments(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let all = call.query.switch("all")?.unwrap_or(false);
    let (index, deployments) = api
        .read(call, &[Watch::JobDeployments(key.clone())], |state| {
            let current = state.job(&key).map(|job| job.create_index);
            let of_job = state.deployments_by_job(&key);
            let mut deployments: Vec<_> = of_job
                .filter(|found| all || current.is_none_or(|index| found.job_create_index == index))
                .cloned()
                .collect();
            deployments.sort_unstable_by_key(|deployment| deployment.id);
            Ok((state.table_index(Table::Deployments), deployments))
        })
        .await?;
    let deployments: Vec<_> = deployments.iter().map(|deployment| Deployment::of(deployment)).collect();
    Reply::read(&deployments, meta(index))
}

/// Answers `GET /v1/job/:id/deployment`: the latest one, or `null`.
pub(super) async fn latest_deployment(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let (index, deployment) = api
        .read(call, &[Watch::JobDeployments(key.clone())], |state| {
            let deployment = state.latest_deployment(&key).cloned();
            let table = state.table_index(Table::Deployments);
            Ok((deployment.as_ref().map_or(table, |deployment| deployment.modify_index), deployment))
        })
        .await?;
    Reply::read(&deployment.as_deref().map(Deployment::of), meta(index))
}

/// Answers `GET /v1/job/:id/services`; there is no catalogue of services yet.
pub(super) async fn services(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let (index, ()) = find_job(api, call, &key, |_| ()).await?;
    Reply::read(&Vec::<ServiceRegistration>::new(), meta(index))
}

/// Answers `GET /v1/job/:id/submission`.
pub(super) async fn submission(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let wrong = || HttpError::bad_request("Unable to parse job submission version parameter");
    let version: u64 = call.query.get("version").and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
    let (index, submission) = api
        .find(call, &[Watch::Job(key.clone())], "job source not found", |state| {
            let job = state.job_version(&key, version);
            let found = job.and_then(|job| Some(JobSubmission::of(job, state.submission(&key, version)?)));
            Ok((found.as_ref().map_or(0, |found| found.job_modify_index), found))
        })
        .await?;
    Reply::read(&submission, meta(index))
}

/// Answers `GET /v1/job/:id/actions`.
pub(super) async fn actions(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let unknown = || HttpError::internal(format!("Unknown job {:?}", key.id));
    let (_, job) = find_job(api, call, &key, Clone::clone).await.map_err(|_| unknown())?;
    let document = job.spec.document_value();
    let items =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut actions = Vec::new();
    for group in items(&document, "TaskGroups") {
        for task in items(&group, "Tasks") {
            actions.extend(items(&task, "Actions").iter().map(|action| JobAction {
                args: items(action, "Args").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                command: text(action, "Command"),
                name: text(action, "Name"),
                task_group_name: text(&group, "Name"),
                task_name: text(&task, "Name"),
            }));
        }
    }
    Reply::read(&actions, meta(0))
}

/// Answers `GET /v1/job/:id/scale`.
pub(super) async fn scale_status(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let watched = [Watch::Job(key.clone()), Watch::JobAllocs(key.clone())];
    let (index, status) = api
        .find(call, &watched, "job not found", |state| {
            let events = state.scaling_events(&key).first().map_or(0, |(_, event)| event.create_index);
            let Some(job) = state.job(&key) else {
                return Ok((state.table_index(Table::Jobs).max(FIRST_INDEX), None));
            };
            Ok((events.max(job.modify_index), Some(scale_of(state, job))))
        })
        .await?;
    Reply::read(&status, meta(index))
}

fn scale_of(state: &Snapshot, job: &Job) -> JobScaleStatus {
    let allocs: Vec<_> =
        state.allocs_by_job(&job.key).filter(|alloc| alloc.job.create_index == job.create_index).collect();
    let deployment = state.latest_deployment(&job.key).map(|deployment| deployment.id);
    let group_of = |group: &TaskGroup| {
        let live: Vec<_> = allocs
            .iter()
            .filter(|alloc| alloc.task_group().name == group.name && !alloc.terminal())
            .collect();
        let healthy = |wanted: bool| {
            let of_deployment =
                |alloc: &&&&Arc<Allocation>| deployment.is_some() && alloc.extra().deployment == deployment;
            let healths = live.iter().filter(of_deployment).filter_map(|alloc| alloc.extra().health?.healthy);
            i64::try_from(healths.filter(|health| *health == wanted).count()).unwrap_or(i64::MAX)
        };
        let running = live.iter().filter(|alloc| alloc.client_status == ClientStatus::Running).count();
        let events = state.scaling_events(&job.key).iter().filter(|(name, _)| *name == group.name);
        GroupScaleStatus {
            desired: i64::from(group.count),
            events: events.map(|(_, event)| ScalingEvent::of(event)).collect(),
            healthy: healthy(true),
            placed: i64::try_from(live.len()).unwrap_or(i64::MAX),
            running: i64::try_from(running).unwrap_or(i64::MAX),
            unhealthy: healthy(false),
        }
    };
    let groups: BTreeMap<_, _> =
        job.spec.groups.iter().map(|group| (group.name.to_string(), group_of(group))).collect();
    JobScaleStatus {
        job_create_index: job.create_index,
        job_id: job.key.id.to_string(),
        job_modify_index: job.modify_index,
        job_stopped: job.stop,
        namespace: job.key.namespace.to_string(),
        task_groups: groups,
    }
}
