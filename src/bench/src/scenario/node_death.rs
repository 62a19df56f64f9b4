//! Two of five real client agents are killed. Simulated nodes would not do: they do not gossip, and gossip is half of how
//! a death is noticed.

use std::time::Duration;

use anyhow::{Context, bail};

use super::Run;
use crate::{drive, jobs::Shape};

const AGENTS: usize = 5;
const KILLED: [&str; 2] = ["client 1", "client 2"];
const ALLOCATIONS: usize = 50;
/// How long it may take until all runs elsewhere.
const REPLACED_MAX: Duration = Duration::from_secs(300);

pub async fn run(run: &mut Run<'_>) -> anyhow::Result<()> {
    if !run.options.addresses.is_empty() {
        bail!("node-death kills agents that it has started itself, so it takes no -address");
    }
    let env = run.env;
    run.cluster.start_agents(env, AGENTS).await?;
    run.report.set("nodes", AGENTS);
    let jobs = run.jobs(1, &Shape { cpu: 200, ..Shape::small(ALLOCATIONS) });
    run.run_all(jobs, ALLOCATIONS).await?;
    let api = run.cluster.api.clone();
    let dying: Vec<String> = {
        let nodes = api.nodes().await?;
        let names = ["client-1", "client-2"];
        nodes.into_iter().filter(|node| names.contains(&node.name.as_str())).map(|node| node.id).collect()
    };
    let on_dying = |rows: &[crate::api::AllocRow]| {
        rows.iter().filter(|row| dying.contains(&row.node) && row.client == "running").count()
    };
    let lost = on_dying(&api.allocations(&run.prefix).await?);
    run.report.set("allocations on the killed nodes", lost);
    for name in KILLED {
        let process = run.cluster.process(name).with_context(|| format!("there is no {name}"))?;
        run.cluster.kill(process)?;
    }
    let (_, down) = drive::until(env, "both nodes are down", REPLACED_MAX, || async {
        let nodes = api.nodes().await?;
        let down = nodes.iter().filter(|node| dying.contains(&node.id) && node.status == "down").count();
        Ok((down == dying.len()).then_some(()))
    })
    .await?;
    run.report.time("both down after", down);
    let (_, rest) = drive::until(env, "all runs elsewhere", REPLACED_MAX, || async {
        let rows = api.allocations(&run.prefix).await?;
        let running = rows.iter().filter(|row| row.client == "running" && row.desired == "run").count();
        Ok((running == ALLOCATIONS && on_dying(&rows) == 0).then_some(()))
    })
    .await?;
    run.report.time("all running elsewhere after", down + rest);
    Ok(())
}
