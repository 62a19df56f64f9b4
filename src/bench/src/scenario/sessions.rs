//! What sessions of nodes cost: memory at rest, processor time at rest, and all of them at once after every server was
//! killed and started again.

use std::time::Duration;

use anyhow::bail;
use sdk::{Query, types::Metrics};

use super::Run;
use crate::options::Kind;

/// Time for everything to come to rest, and time over which the rest is measured.
const REST: Duration = Duration::from_secs(10);
/// How long all nodes may take to have a session again.
const BACK_MAX: Duration = Duration::from_secs(180);
/// Time between two looks at who is back: looking costs the servers time as well.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The figure of each server that tells how many sessions it holds.
const SESSIONS: &str = "nomad.nomad.heartbeat.active";
/// Steps in which nodes are added.
const STEPS: usize = 2;

#[allow(clippy::cast_precision_loss)]
pub async fn run(run: &mut Run<'_>) -> anyhow::Result<()> {
    if !run.options.addresses.is_empty() {
        bail!("sessions kills servers that it has started itself, so it takes no -address");
    }
    let env = run.env;
    let nodes = run.wanted_nodes();
    let none = rest(run, "no sessions").await;
    for step in 1..=STEPS {
        let all = nodes * step;
        let started = env.now();
        run.cluster.start_nodes(env, nodes, Kind::Usual).await?;
        run.report.time(format!("{all} sessions: {nodes} more after"), started.elapsed());
        let with = rest(run, &format!("{all} sessions")).await;
        let grown = with.saturating_sub(none) as f64 / all as f64;
        run.report.add(format!("{all} sessions: all servers, for each"), grown, "KiB");
        if step == 1 {
            storm(run, nodes).await?;
        }
    }
    run.report.set("nodes", run.cluster.nodes());
    Ok(())
}

/// Lets everything come to rest, and says what servers take then. Returns the memory that is theirs alone or their part of
/// what is shared, of all together, in KiB.
#[allow(clippy::cast_precision_loss)]
async fn rest(run: &mut Run<'_>, name: &str) -> u64 {
    run.env.sleep(REST).await;
    run.cluster.begin_counting();
    run.env.sleep(REST).await;
    let mut all = 0;
    for server in run.cluster.servers() {
        let pss = run.cluster.proportional_kib(server);
        let cost = run.cluster.costs().swap_remove(server);
        let who = cost.name;
        run.report.add(format!("{name}: {who}, memory (PSS)"), pss as f64 / 1_024.0, "MiB");
        let share = cost.cpu_seconds / REST.as_secs_f64() * 100.0;
        run.report.add(format!("{name}: {who}, of a processor"), share, "%");
        all += pss;
    }
    all
}

/// Kills all servers at once, starts them again and waits until every node has a session.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
async fn storm(run: &mut Run<'_>, nodes: usize) -> anyhow::Result<()> {
    let env = run.env;
    run.cluster.restart_servers()?;
    run.cluster.begin_counting();
    let began = env.now();
    let servers = run.cluster.server_api()?;
    let mut led = None;
    let look = || async {
        let mut held = 0;
        for server in run.cluster.servers() {
            // A server that does not answer yet holds none.
            let asked = servers.agent(server).get::<Metrics>("/v1/metrics", &Query::default()).await;
            if let Ok((metrics, _)) = asked {
                let gauge = metrics.gauges.iter().find(|gauge| gauge.name == SESSIONS);
                held += gauge.map_or(0, |gauge| gauge.value.round() as usize);
            }
        }
        let leader = servers.agent(0).get::<String>("/v1/status/leader", &Query::default()).await;
        let is_led = leader.is_ok_and(|(leader, _)| !leader.is_empty());
        (held, is_led)
    };
    loop {
        let (held, is_led) = look().await;
        if is_led && led.is_none() {
            led = Some(began.elapsed());
        }
        if held >= nodes && is_led {
            break;
        }
        if began.elapsed() > BACK_MAX {
            bail!("{held} of {nodes} sessions are back after {} s", BACK_MAX.as_secs());
        }
        env.sleep(LOOK_EVERY).await;
    }
    run.report.time("all servers restarted: a leader after", led.unwrap_or_default());
    run.report.time(format!("all servers restarted: {nodes} sessions after"), began.elapsed());
    let costs = run.cluster.costs();
    let (servers, others) = costs.split_at(run.cluster.servers().len());
    for (who, costs) in [("servers", servers), ("nodes", others)] {
        let spent = costs.iter().map(|cost| cost.cpu_seconds).sum();
        run.report.add(format!("all servers restarted: processor time of {who}"), spent, "s");
    }
    Ok(())
}
