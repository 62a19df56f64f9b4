//! What processes need when nothing happens: a server, a server for each connected node, a client agent.

use std::time::Duration;

use anyhow::bail;

use super::Run;
use crate::options::Kind;

/// Time for everything to come to rest, and time over which the rest is measured.
const REST: Duration = Duration::from_secs(10);

#[allow(clippy::cast_precision_loss)]
pub async fn run(run: &mut Run<'_>) -> anyhow::Result<()> {
    if !run.options.addresses.is_empty() {
        bail!("footprint reads the memory of processes that it has started itself, so it takes no -address");
    }
    let env = run.env;
    run.cluster.start_agents(env, 1).await?;
    env.sleep(REST).await;
    run.cluster.begin_counting();
    let first = run.cluster.usage();
    env.sleep(REST).await;
    let names = run.cluster.costs();
    for cost in &names {
        run.report.add(format!("{}: resident when idle", cost.name), cost.resident_mib, "MiB");
        let share = cost.cpu_seconds / REST.as_secs_f64() * 100.0;
        run.report.add(format!("{}: of a processor when idle", cost.name), share, "%");
    }
    let nodes = run.wanted_nodes();
    run.cluster.start_nodes(env, nodes, Kind::Usual).await?;
    run.report.set("nodes", run.cluster.nodes());
    env.sleep(REST).await;
    let then = run.cluster.usage();
    let servers = run.options.servers.min(first.len());
    let grown: u64 =
        (0..servers).map(|at| then[at].resident_kib.saturating_sub(first[at].resident_kib)).sum();
    // Each node is connected to one server, and all servers hold its record.
    run.report.add("all servers, for each node", grown as f64 / nodes as f64, "KiB");
    Ok(())
}
