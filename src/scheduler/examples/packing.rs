//! How many machines the scheduler needs where the work would just fit if it could be cut at will (P10).
//!
//! Twelve thousand tasks with correlated lognormal cpu and memory (sigma 1.2) arrive one after the other, each a job of
//! its own. The fleet has machines of five shapes by turns. The lower bound is the smallest fleet with as much cpu and as
//! much memory as all tasks together; needed is the smallest fleet on which the scheduler finds room for every one.
//!
//! `cargo run --release -p scheduler --example packing` prints both for three seeds; it fails above the goal.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::process::ExitCode;

use fixture::{Region, document, node};
use model::{EvalTrigger, Evaluation, Node};
use scheduler::{Budget, Context};
use serde_json::json;

/// Tasks of a run.
const TASKS: usize = 12_000;

/// Machines by turns: MHz, MiB.
const SHAPES: [(u64, u64); 5] =
    [(16_000, 32_768), (16_000, 65_536), (32_000, 65_536), (32_000, 131_072), (64_000, 131_072)];

/// Medians of what a task asks for: MHz, MiB.
const MEDIANS: (f64, f64) = (1_000.0, 2_000.0);

/// Spread of the logarithms, and how much cpu and memory have in common.
const SIGMA: f64 = 1.2;
const CORRELATION: f64 = 0.6;

/// How many times the lower bound may be needed.
const GOAL: f64 = 1.05;

/// Machines added at a time in the search: a quarter of a percent of the fleet.
const STEP: usize = 2;

fn main() -> ExitCode {
    let mut worst = 0.0_f64;
    for seed in 1..=3 {
        let tasks = tasks(seed);
        let bound = lower_bound(&tasks);
        let needed = (bound..)
            .step_by(STEP)
            .find(|&fleet| all_fit(&tasks, fleet))
            .expect("some fleet is large enough");
        let ratio = needed as f64 / bound as f64;
        println!("seed {seed}: {needed} machines needed, lower bound {bound}: {ratio:.4}");
        worst = worst.max(ratio);
    }
    println!("worst {worst:.4}, goal {GOAL}");
    if worst <= GOAL { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Numbers from a seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The normal distribution, after Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// Draws what each task asks for: no more than the smallest machine has.
fn tasks(seed: u64) -> Vec<(u64, u64)> {
    let mut numbers = Numbers(seed);
    let amount = |median: f64, normal: f64, most: u64| {
        ((median * (SIGMA * normal).exp()).round() as u64).clamp(20, most)
    };
    (0..TASKS)
        .map(|_| {
            let cpu = numbers.normal();
            let other = numbers.normal();
            let memory = CORRELATION * cpu + (1.0 - CORRELATION * CORRELATION).sqrt() * other;
            (amount(MEDIANS.0, cpu, SHAPES[0].0), amount(MEDIANS.1, memory, SHAPES[0].1))
        })
        .collect()
}

fn lower_bound(tasks: &[(u64, u64)]) -> usize {
    let wanted = tasks.iter().fold((0, 0), |sum, task| (sum.0 + task.0, sum.1 + task.1));
    let (mut has, mut machines) = ((0, 0), 0);
    while has.0 < wanted.0 || has.1 < wanted.1 {
        let shape = SHAPES[machines % SHAPES.len()];
        has = (has.0 + shape.0, has.1 + shape.1);
        machines += 1;
    }
    machines
}

fn machine(at: usize, of: usize) -> Node {
    let mut node = node(at, of);
    let shape = SHAPES[at % SHAPES.len()];
    node.resources.capacity.cpu_shares = shape.0;
    node.resources.capacity.memory_mb = shape.1;
    node.resources.capacity.disk_mb = 10_000_000;
    node
}

/// Places every task on a fleet, in one round.
fn all_fit(tasks: &[(u64, u64)], fleet: usize) -> bool {
    let mut region = Region::of((0..fleet).map(|at| machine(at, fleet)));
    let mut evals: Vec<Evaluation> = Vec::with_capacity(tasks.len());
    for (at, (cpu, memory)) in tasks.iter().enumerate() {
        let id = format!("task-{at}");
        region.register(&document(&id, "batch", 1, |job| {
            let resources = &mut job["TaskGroups"][0]["Tasks"][0]["Resources"];
            resources["CPU"] = json!(cpu);
            resources["MemoryMB"] = json!(memory);
        }));
        evals.push(region.eval(&id, EvalTrigger::JobRegister));
    }
    let snapshot = region.snapshot();
    let mut numbers = Numbers(fleet as u64);
    let mut chance = || numbers.next();
    let mut context = Context { now: region.now, chance: &mut chance };
    let plans =
        region.scheduler.round(&snapshot, &evals, Budget { placements_max: usize::MAX }, &mut context);
    plans.iter().all(|plan| plan.placements.len() == 1)
}
