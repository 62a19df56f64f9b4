//! From the moment at which a job is handed in to the moment at which someone who watches it sees it running: one job
//! at a time on an idle cluster, then a steady stream of them.

use std::{pin::pin, time::Duration};

use anyhow::bail;
use futures_util::{StreamExt, stream::FuturesUnordered};
use runtime::Env;
use sdk::Query;
use serde_json::Value;

use super::Run;
use crate::{api::Api, jobs::Shape};

const JOBS: usize = 500;
/// Time between two jobs of the stream.
const STREAM_EVERY: Duration = Duration::from_millis(50);
/// How long one job may take.
const JOB_MAX: Duration = Duration::from_secs(60);

pub async fn run(run: &mut Run<'_>) -> anyhow::Result<()> {
    let count = run.options.scaled(JOBS);
    run.report.set("jobs", count);
    let jobs = run.jobs(count * 2, &Shape::small(1));
    let (first, second) = jobs.split_at(count);
    let mut alone = Vec::new();
    for job in first {
        alone.push(one(run.env, &run.cluster.api, job).await?);
    }
    run.report.spread("one at a time:", alone);
    let mut under_way = FuturesUnordered::new();
    let mut streamed = Vec::new();
    let started = run.env.now();
    for (number, job) in (0_u32..).zip(second) {
        let mut due = pin!(run.env.sleep_until(started + STREAM_EVERY * number));
        loop {
            tokio::select! {
                biased;
                Some(time) = under_way.next() => streamed.push(time?),
                () = &mut due => break,
            }
        }
        under_way.push(one(run.env, &run.cluster.api, job));
    }
    while let Some(time) = under_way.next().await {
        streamed.push(time?);
    }
    run.report.spread("20 a second:", streamed);
    Ok(())
}

/// Registers a job and waits, as a watcher does, until its allocation runs.
async fn one(env: &Env, api: &Api, job: &Value) -> anyhow::Result<Duration> {
    let started = env.now();
    api.register(0, job).await?;
    let path = format!("/v1/job/{}/allocations", job["ID"].as_str().unwrap_or_default());
    let mut query = Query { wait: JOB_MAX, ..Query::default() };
    loop {
        let (allocations, meta) = api.agent(0).get::<Vec<Value>>(&path, &query).await?;
        if allocations.iter().any(|alloc| alloc["ClientStatus"] == "running") {
            return Ok(started.elapsed());
        }
        if started.elapsed() > JOB_MAX {
            bail!("{path} shows nothing that runs: {allocations:?}");
        }
        query.index = meta.index;
    }
}
