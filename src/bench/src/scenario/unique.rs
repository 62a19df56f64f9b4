//! Jobs of one allocation each, with constraints and a spread: the scheduler shares no work between them. They are
//! registered while the broker is paused, so that what is measured is placing and committing, not the reading of JSON.

use super::Run;
use crate::{drive, jobs::Shape};

const JOBS: usize = 5_000;

pub async fn run(run: &mut Run<'_>) -> anyhow::Result<()> {
    let count = run.options.scaled(JOBS);
    let jobs = run.jobs(count, &Shape { picky: true, ..Shape::small(1) });
    run.report.set("jobs", count);
    let (env, api) = (run.env, run.cluster.api.clone());
    api.pause_scheduling(true).await?;
    let started = env.now();
    drive::register_all(&api, jobs.into_iter()).await?;
    let registered = started.elapsed();
    run.report.time("jobs registered after", registered);
    run.report.rate("registered", count, registered);
    let (started, wall) = (env.now(), env.wall());
    api.pause_scheduling(false).await?;
    let course = drive::watch(env, &api, &run.prefix, count, started).await?;
    let rows = api.allocations(&run.prefix).await?;
    let mut created: Vec<i64> = rows.iter().map(|row| row.created() - wall).collect();
    created.sort_unstable();
    let after = |at: usize| {
        let nanos = created.get(at).copied().unwrap_or(0);
        std::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    };
    let placed = after(count.saturating_sub(1));
    run.report.time("first placed after", after(0));
    run.report.time("all placed after", placed);
    run.report.rate("placed", count, placed);
    let running = drive::since(wall, &rows).running;
    run.report.time("all running after", running);
    run.report.curve = course.curve;
    Ok(())
}
