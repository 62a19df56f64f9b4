//! A storm: ten thousand jobs, then a third of the nodes is drained, then another third is lost without a word. Everything
//! must run again on what is left, with no evaluation left over; and when all is stopped and collected, nothing must have
//! grown. It is done twice, because the first round fills what is kept on purpose.

use std::time::Duration;

use anyhow::bail;

use super::Run;
use crate::{drive, jobs::Shape, options::Kind};

const JOBS: usize = 10_000;
/// How long each step may take; a third of the nodes that is lost counts as such only after half a minute.
const STEP_MAX: Duration = Duration::from_secs(300);
const ROUNDS: usize = 2;

pub async fn run(run: &mut Run<'_>) -> anyhow::Result<()> {
    if !run.options.addresses.is_empty() {
        bail!("settle ends nodes that it has started itself, so it takes no -address");
    }
    let mut resident = Vec::new();
    for round in 1..=ROUNDS {
        storm(run, round).await?;
        let usage = run.cluster.usage();
        resident
            .push(usage.iter().take(run.options.servers).map(|usage| usage.resident_kib).max().unwrap_or(0));
    }
    #[allow(clippy::cast_precision_loss)]
    let grown = resident[ROUNDS - 1] as f64 / resident[0].max(1) as f64;
    run.report.add("memory of a server after both rounds against one", grown, "x");
    Ok(())
}

async fn storm(run: &mut Run<'_>, round: usize) -> anyhow::Result<()> {
    let (env, third) = (run.env, run.wanted_nodes().div_ceil(3));
    let count = run.options.scaled(JOBS);
    let stay = run.cluster.start_nodes(env, third, Kind::Healthy).await?;
    let drained = run.cluster.start_nodes(env, third, Kind::Healthy).await?;
    let lost = run.cluster.start_nodes(env, third, Kind::Healthy).await?;
    run.report.set("nodes", third * 3);
    let api = run.cluster.api.clone();
    let prefix = format!("{}{round}-", run.prefix);
    let ids: Vec<String> = (0..count).map(|number| format!("{prefix}{number:05}")).collect();
    let jobs = ids.iter().map(|id| Shape::small(1).job(id)).collect();
    let course = drive::run_all(env, &api, &prefix, jobs, count).await?;
    run.report.set("jobs", count);
    run.report.time(format!("round {round}: all running after"), course.running);

    let first = (round - 1) * third * 3;
    let to_drain: Vec<String> = (first + third..first + 2 * third).map(|at| format!("sim-{at}")).collect();
    let nodes = api.nodes().await?;
    let ids_of_drained: Vec<String> =
        nodes.into_iter().filter(|node| to_drain.contains(&node.name)).map(|node| node.id).collect();
    for (number, node) in ids_of_drained.iter().enumerate() {
        api.drain(number, node).await?;
    }
    let settled = |gone: Vec<String>| {
        let (api, prefix) = (api.clone(), prefix.clone());
        move || {
            let (api, prefix, gone) = (api.clone(), prefix.clone(), gone.clone());
            async move {
                let rows = api.allocations(&prefix).await?;
                let live = rows.iter().filter(|row| row.client == "running" && row.desired == "run");
                let well = live.filter(|row| !gone.contains(&row.node)).count();
                let left = api.evaluations("pending").await? + api.evaluations("blocked").await?;
                anyhow::Ok((well == count && left == 0).then_some(()))
            }
        }
    };
    let (_, time) =
        drive::until(env, "the drained third is empty", STEP_MAX, settled(ids_of_drained.clone())).await?;
    run.report.time(format!("round {round}: drained after"), time);

    run.cluster.lose(lost, third)?;
    let mut gone = ids_of_drained;
    let lost_names: Vec<String> =
        (first + 2 * third..first + 3 * third).map(|at| format!("sim-{at}")).collect();
    let nodes = api.nodes().await?;
    gone.extend(nodes.into_iter().filter(|node| lost_names.contains(&node.name)).map(|node| node.id));
    let (_, time) = drive::until(env, "the lost third is replaced", STEP_MAX, settled(gone)).await?;
    run.report.time(format!("round {round}: replaced after"), time);

    drive::purge_all(&api, ids).await?;
    for process in [stay, drained] {
        run.cluster.lose(process, third)?;
    }
    let (_, time) = drive::until(env, "everything is collected", STEP_MAX, || async {
        api.collect().await?;
        let (rows, nodes) = (api.allocations(&prefix).await?.len(), api.nodes().await?.len());
        Ok((rows == 0 && nodes == 0).then_some(()))
    })
    .await?;
    run.report.time(format!("round {round}: collected after"), time);
    Ok(())
}
