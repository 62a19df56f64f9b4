//! How long rounds take: P2 and the burst of `performance.md`.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use divan::{Bencher, counter::ItemsCount};
use fixture::{Region, document, node};
use model::{EvalTrigger, Evaluation, Node};
use protocol::Plan;
use scheduler::{Budget, Context};
use serde_json::json;

fn main() {
    divan::main();
}

/// Large nodes on 25 racks, of five shapes.
fn large(at: usize, of: usize) -> Node {
    let mut node = node(at, of);
    node.meta.insert("rack".into(), format!("r{}", at % 25).into());
    node.computed_class = format!("v1:{}-{}", at % 25, u8::from(at < of.div_ceil(2))).into();
    node.resources.capacity.cpu_shares = 16_000 + 8_000 * (at % 5) as u64;
    node.resources.capacity.memory_mb = 64_000 + 16_000 * (at % 5) as u64;
    node
}

fn round(region: &mut Region, evals: &[Evaluation]) -> Vec<Plan> {
    let snapshot = region.snapshot();
    let mut seed = 1_u64;
    let mut chance = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed
    };
    let mut context = Context { now: region.now, chance: &mut chance };
    let plans = region.scheduler.round(&snapshot, evals, Budget { placements_max: usize::MAX }, &mut context);
    region.scheduler.abandon(&snapshot);
    plans
}

fn evals(region: &mut Region, ids: &[String]) -> Vec<Evaluation> {
    ids.iter().map(|id| region.eval(id, EvalTrigger::JobRegister)).collect()
}

/// One job of many on 10,000 nodes.
#[divan::bench(args = [1_000, 10_000])]
fn group_of(bencher: Bencher, count: u32) {
    let mut region = Region::of((0..10_000).map(|at| large(at, 10_000)));
    region.register(&document("many", "batch", count, |_| {}));
    let evals = evals(&mut region, &["many".to_owned()]);
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let plans = round(&mut region, &evals);
        assert_eq!(plans[0].placements.len(), count as usize);
    });
}

/// One job of many with ports on 10,000 nodes.
#[divan::bench(args = [10_000])]
fn group_with_ports_of(bencher: Bencher, count: u32) {
    let mut region = Region::of((0..10_000).map(|at| large(at, 10_000)));
    region.register(&document("many", "batch", count, |job| {
        job["TaskGroups"][0]["Networks"] = json!([{"DynamicPorts": [{"Label": "http"}, {"Label": "admin"}]}]);
    }));
    let evals = evals(&mut region, &["many".to_owned()]);
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let plans = round(&mut region, &evals);
        assert_eq!(plans[0].placements.len(), count as usize);
    });
}

/// One job of many on one node.
#[divan::bench(args = [10_000])]
fn one_node_with(bencher: Bencher, count: u32) {
    let mut only = large(0, 1);
    only.resources.capacity.cpu_shares = 10_000_000;
    only.resources.capacity.memory_mb = 10_000_000;
    let mut region = Region::of([only]);
    region.register(&document("many", "batch", count, |_| {}));
    let evals = evals(&mut region, &["many".to_owned()]);
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let plans = round(&mut region, &evals);
        assert_eq!(plans[0].placements.len(), count as usize);
    });
}

/// Many jobs of one, each with a constraint and a spread over 25 racks, on 10,000 nodes.
#[divan::bench(args = [1_000])]
fn unique_jobs(bencher: Bencher, count: usize) {
    let mut region = Region::of((0..10_000).map(|at| large(at, 10_000)));
    let ids: Vec<String> = (0..count).map(|at| format!("unique-{at}")).collect();
    for id in &ids {
        region.register(&document(id, "service", 1, |job| {
            job["Constraints"] =
                json!([{"LTarget": "${attr.kernel.name}", "Operand": "=", "RTarget": "linux"}]);
            job["Spreads"] = json!([{"Attribute": "${meta.rack}", "Weight": 100}]);
        }));
    }
    let evals = evals(&mut region, &ids);
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let plans = round(&mut region, &evals);
        assert!(plans.iter().all(|plan| plan.placements.len() == 1));
    });
}

/// A system job on 10,000 nodes.
#[divan::bench]
fn system_job(bencher: Bencher) {
    let mut region = Region::of((0..10_000).map(|at| large(at, 10_000)));
    region.register(&document("sys", "system", 1, |_| {}));
    let evals = evals(&mut region, &["sys".to_owned()]);
    bencher.counter(ItemsCount::new(10_000_u32)).bench_local(|| {
        let plans = round(&mut region, &evals);
        assert_eq!(plans[0].placements.len(), 10_000);
    });
}
