//! Tasks of very uneven sizes on machines of five shapes: how many machines are used, against the fewest that could do.

use runtime::Env;

use super::Run;
use crate::{api::AllocRow, jobs::Shape, nodes::SHAPES};

const TASKS: usize = 12_000;

/// How uneven sizes are, and how much cpu and memory go together.
const SIGMA: f64 = 1.2;
const TOGETHER: f64 = 0.5;
/// Middle sizes: MHz and MiB.
const MIDDLE: (f64, f64) = (400.0, 900.0);

pub async fn run(run: &mut Run<'_>) -> anyhow::Result<()> {
    let count = run.options.scaled(TASKS);
    let sizes = sizes(run.env, count);
    let shape = |(cpu, memory_mb): &(u64, u64)| Shape { cpu: *cpu, memory_mb: *memory_mb, ..Shape::small(1) };
    let prefix = run.prefix.clone();
    let jobs = sizes.iter().enumerate().map(|(at, size)| shape(size).job(&format!("{prefix}{at:05}")));
    let jobs: Vec<_> = jobs.collect();
    let course = run.run_all(jobs, count).await?;
    run.tell(&course, count);
    let rows = run.cluster.api.allocations(&run.prefix).await?;
    let nodes = run.cluster.api.nodes().await?;
    let used = used(&rows, nodes.iter().map(|node| (node.id.as_str(), node.name.as_str())));
    let wanted = sizes.iter().fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
    let parts = (part(wanted.0, used.cpu), part(wanted.1, used.memory_mb));
    run.report.add("nodes used", count_of(used.nodes), "");
    run.report.add("cpu of used nodes in use", parts.0 * 100.0, "%");
    run.report.add("memory of used nodes in use", parts.1 * 100.0, "%");
    // On these very machines, whichever of the two is scarcer could not be put on fewer.
    run.report.add("used against the lower bound", 1.0 / parts.0.max(parts.1), "x");
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn part(of: u64, whole: u64) -> f64 {
    of as f64 / whole.max(1) as f64
}

#[allow(clippy::cast_precision_loss)]
fn count_of(count: usize) -> f64 {
    count as f64
}

#[derive(Debug, Default, PartialEq)]
struct Used {
    nodes: usize,
    cpu: u64,
    memory_mb: u64,
}

/// Adds up the machines that hold anything. A simulated node's number is in its name and says its shape.
fn used<'a>(rows: &[AllocRow], nodes: impl Iterator<Item = (&'a str, &'a str)>) -> Used {
    let holding: std::collections::BTreeSet<&str> = rows.iter().map(|row| row.node.as_str()).collect();
    let mut used = Used::default();
    for (_, name) in nodes.filter(|(id, _)| holding.contains(id)) {
        let number = name.strip_prefix("sim-").and_then(|number| number.parse::<usize>().ok());
        let Some(number) = number else { continue };
        let (cpu, memory_mb) = SHAPES[number % SHAPES.len()];
        used = Used { nodes: used.nodes + 1, cpu: used.cpu + cpu, memory_mb: used.memory_mb + memory_mb };
    }
    used
}

/// Draws sizes: logarithms of cpu and memory are normal, and correlated.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn sizes(env: &Env, count: usize) -> Vec<(u64, u64)> {
    // Even in (0, 1].
    let even = || ((env.random_u64() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
    let normal = || (-2.0 * even().ln()).sqrt() * (std::f64::consts::TAU * even()).cos();
    let size = |middle: f64, normal: f64, max: u64| {
        ((middle * (SIGMA * normal - SIGMA * SIGMA / 2.0).exp()) as u64).clamp(20, max)
    };
    let (smallest_cpu, smallest_memory) = SHAPES[0];
    (0..count)
        .map(|_| {
            let (shared, own) = (normal(), normal());
            let memory = TOGETHER * shared + (1.0 - TOGETHER * TOGETHER).sqrt() * own;
            (size(MIDDLE.0, shared, smallest_cpu), size(MIDDLE.1, memory, smallest_memory))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use runtime::Shutdown;

    use super::*;

    #[test]
    fn sizes_are_uneven_and_fit_every_machine() {
        let sizes = sizes(&Env::real(Shutdown::new()), 2_000);
        let (cpu, memory) = SHAPES[0];
        assert!(sizes.iter().all(|size| (20..=cpu).contains(&size.0) && (20..=memory).contains(&size.1)));
        let large = sizes.iter().filter(|size| size.0 > 800).count();
        assert!((20..600).contains(&large), "{large} of 2000 are larger than twice the middle");
    }
}
