//! What there is to measure. Each scenario has a file; all begin and end here.

mod c2m;
mod footprint;
mod latency;
mod node_death;
mod packing;
mod sessions;
mod settle;
mod unique;

use runtime::Env;
use serde_json::Value;

use crate::{
    cluster::Cluster,
    drive::{Course, run_all},
    jobs::Shape,
    options::{Kind, Options},
    process::{Machine, load},
    report::Report,
};

/// A kind of measurement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scenario {
    /// 100 jobs of 100.
    Burst,
    /// Thousands of jobs that all differ.
    Unique,
    /// From a job to its running task.
    Latency,
    /// From the death of a node to the end of its effects.
    NodeDeath,
    /// What processes need.
    Footprint,
    /// How few nodes do.
    Packing,
    /// Two million allocations.
    C2m,
    /// A storm, and whether all is well after it.
    Settle,
    /// What sessions take, and all of them at once.
    Sessions,
}

impl Scenario {
    const ALL: [(&'static str, Self); 9] = [
        ("burst", Self::Burst),
        ("unique", Self::Unique),
        ("latency", Self::Latency),
        ("node-death", Self::NodeDeath),
        ("footprint", Self::Footprint),
        ("packing", Self::Packing),
        ("c2m", Self::C2m),
        ("settle", Self::Settle),
        ("sessions", Self::Sessions),
    ];

    /// Finds a scenario.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, scenario)| scenario)
    }

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// Simulated nodes that it has at scale 1.
    fn nodes(self) -> usize {
        match self {
            Self::Burst => 1_000,
            Self::Unique => 10_000,
            Self::Latency => 10,
            Self::Packing => 2_000,
            Self::C2m => 6_100,
            Self::Settle => 300,
            Self::Footprint | Self::Sessions => 1_000,
            // Real agents.
            Self::NodeDeath => 0,
        }
    }
}

/// A scenario on its way.
struct Run<'a> {
    env: &'a Env,
    options: &'a Options,
    cluster: Cluster,
    report: Report,
    /// What ids of this run's jobs begin with: a cluster that is there already may have others.
    prefix: String,
}

/// Runs a scenario, shows the table and writes the file.
///
/// # Errors
///
/// Says what went wrong; what was measured by then is lost.
pub async fn run(env: &Env, options: &Options) -> anyhow::Result<()> {
    let scenario = options.scenario;
    let mut report = Report::new(scenario.name());
    report.load_before = load();
    let cluster = Cluster::start(env, options).await?;
    let prefix = format!("bench-{:08x}-", env.random_u64() as u32);
    let mut run = Run { env, options, cluster, report, prefix };
    run.start_nodes().await?;
    let machine = Machine::look();
    run.cluster.begin_counting();
    match scenario {
        Scenario::Burst => run.burst().await?,
        Scenario::Unique => unique::run(&mut run).await?,
        Scenario::Latency => latency::run(&mut run).await?,
        Scenario::NodeDeath => node_death::run(&mut run).await?,
        Scenario::Footprint => footprint::run(&mut run).await?,
        Scenario::Packing => packing::run(&mut run).await?,
        Scenario::C2m => c2m::run(&mut run).await?,
        Scenario::Settle => settle::run(&mut run).await?,
        Scenario::Sessions => sessions::run(&mut run).await?,
    }
    let Run { cluster, mut report, .. } = run;
    report.processes = cluster.costs();
    report.machine_busy = Machine::look().busy_since(machine);
    report.load_after = load();
    print!("{}", report.table());
    if let Some(path) = &options.json {
        report.write(path)?;
    }
    Ok(())
}

impl Run<'_> {
    /// Starts the nodes that the scenario wants beforehand.
    async fn start_nodes(&mut self) -> anyhow::Result<()> {
        let scenario = self.options.scenario;
        // Three thirds of which one is lost; real agents; and two for whom memory is read before.
        let by_itself = matches!(
            scenario,
            Scenario::Settle | Scenario::NodeDeath | Scenario::Footprint | Scenario::Sessions
        );
        if self.options.addresses.is_empty() && !by_itself {
            let nodes = self.wanted_nodes();
            let started = self.env.now();
            let kind = if scenario == Scenario::Packing { Kind::Mixed } else { Kind::Usual };
            self.cluster.start_nodes(self.env, nodes, kind).await?;
            self.report.time("nodes ready after", started.elapsed());
        }
        self.report.set("servers", self.options.servers);
        self.report.set("nodes", self.cluster.nodes());
        Ok(())
    }

    fn wanted_nodes(&self) -> usize {
        let scenario = self.options.scenario;
        self.options.nodes.unwrap_or_else(|| self.options.scaled(scenario.nodes()))
    }

    /// Makes `count` jobs of one shape.
    fn jobs(&self, count: usize, shape: &Shape) -> Vec<Value> {
        (0..count).map(|number| shape.job(&format!("{}{number:05}", self.prefix))).collect()
    }

    /// Runs jobs until all of their allocations run.
    async fn run_all(&mut self, jobs: Vec<Value>, allocations: usize) -> anyhow::Result<Course> {
        self.report.set("jobs", jobs.len());
        self.report.set("allocations", allocations);
        let course = run_all(self.env, &self.cluster.api, &self.prefix, jobs, allocations).await?;
        self.report.curve.clone_from(&course.curve);
        Ok(course)
    }

    fn tell(&mut self, course: &Course, allocations: usize) {
        self.report.time("jobs registered after", course.registered);
        self.report.time("all placed after", course.placed);
        self.report.time("all running after", course.running);
        self.report.rate("placed", allocations, course.placed);
        self.report.rate("running", allocations, course.running);
    }

    async fn burst(&mut self) -> anyhow::Result<()> {
        const JOBS: usize = 100;
        const OF: usize = 100;
        let count = self.options.scaled(JOBS);
        let jobs = self.jobs(count, &Shape::small(OF));
        let course = self.run_all(jobs, count * OF).await?;
        self.tell(&course, count * OF);
        Ok(())
    }
}
