//! Two million allocations: 2,000 jobs of 1,000 on 6,100 nodes.

use std::time::Duration;

use super::Run;
use crate::{jobs::Shape, report::Point};

const JOBS: usize = 2_000;
const OF: usize = 1_000;

pub async fn run(run: &mut Run<'_>) -> anyhow::Result<()> {
    let count = run.options.scaled(JOBS);
    let jobs = run.jobs(count, &Shape::small(OF));
    let course = run.run_all(jobs, count * OF).await?;
    run.tell(&course, count * OF);
    let curve = &run.report.curve;
    let tenth = count * OF / 10;
    let times = (reached(curve, tenth), reached(curve, tenth * 9), reached(curve, tenth * 10));
    if let (Some(first), Some(ninth), Some(last)) = times
        && first > 0.0
    {
        run.report.time("the first tenth took", Duration::from_secs_f64(first));
        run.report.time("the last tenth took", Duration::from_secs_f64(last - ninth));
    }
    Ok(())
}

/// When so many were placed, between the looks before and after.
#[allow(clippy::cast_precision_loss)]
fn reached(curve: &[Point], wanted: usize) -> Option<f64> {
    let at = curve.iter().position(|point| point.placed >= wanted)?;
    let after = curve[at];
    let before = at.checked_sub(1).map_or(Point { at: 0.0, placed: 0, running: 0 }, |at| curve[at]);
    let part = (wanted - before.placed.min(wanted)) as f64 / (after.placed - before.placed).max(1) as f64;
    Some(before.at + (after.at - before.at) * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_between_two_looks_is_found() {
        let point = |at, placed| Point { at, placed, running: 0 };
        let curve = [point(1.0, 0), point(2.0, 100), point(4.0, 300)];
        assert_eq!(reached(&curve, 50), Some(1.5));
        assert_eq!(reached(&curve, 200), Some(3.0));
        assert_eq!(reached(&curve, 301), None);
    }
}
