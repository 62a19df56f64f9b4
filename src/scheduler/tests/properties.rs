//! What must hold whatever happens: random jobs, updates, failures and losses on the real store.
//!
//! A small and obvious model of placing belongs beside this file: it would say which placements are possible at all.

mod fixture;

use std::collections::BTreeMap;

use fixture::*;
use model::*;
use proptest::prelude::*;
use protocol::{Command, Named};
use serde_json::{Value, json};

#[derive(Clone, Debug)]
enum Step {
    Run { job: u8, count: u32, memory: u32, version: u8, port: bool, distinct: bool },
    Stop { job: u8, purge: bool },
    Down { node: usize },
    Up { node: usize },
    Migrate { job: u8 },
    Clients,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u8, 0..9_u32, 1..12_u32, 0..3_u8, any::<bool>(), any::<bool>()).prop_map(
            |(job, count, memory, version, port, distinct)| Step::Run { job, count, memory: memory * 150, version, port, distinct }
        ),
        1 => (0..4_u8, any::<bool>()).prop_map(|(job, purge)| Step::Stop { job, purge }),
        1 => (0..5_usize).prop_map(|node| Step::Down { node }),
        2 => (0..5_usize).prop_map(|node| Step::Up { node }),
        1 => (0..4_u8).prop_map(|job| Step::Migrate { job }),
        3 => Just(Step::Clients),
    ]
}

fn id(job: u8) -> String {
    format!("job{job}")
}

fn random_job(job: u8, count: u32, memory: u32, version: u8, port: bool, distinct: bool) -> Value {
    let kind = ["service", "batch", "service", "system"][usize::from(job)];
    document(&id(job), kind, if kind == "system" { count.min(1) } else { count }, |document| {
        document["Priority"] = json!([50, 20, 70, 90][usize::from(job)]);
        document["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = json!(memory);
        document["TaskGroups"][0]["Tasks"][0]["Env"] = json!({"V": version.to_string()});
        if job == 2 {
            document["TaskGroups"][0]["Update"]["Canary"] = json!(1);
        }
        if port {
            document["TaskGroups"][0]["Networks"] =
                json!([{"ReservedPorts": [{"Label": "s", "Value": 9000}], "DynamicPorts": [{"Label": "d"}]}]);
        }
        if distinct {
            document["Constraints"] = json!([{"Operand": "distinct_hosts", "RTarget": "true"}]);
        }
    })
}

fn take(region: &mut Region, step: &Step) {
    match *step {
        Step::Run { job, count, memory, version, port, distinct } => {
            region.register(&random_job(job, count, memory, version, port, distinct));
        }
        Step::Stop { job, purge } => {
            if region.store.state().job(&key(&id(job))).is_some() {
                region.stop(&id(job), purge);
            }
        }
        Step::Down { node } => region.node_status(node, NodeStatus::Down),
        Step::Up { node } => region.node_status(node, NodeStatus::Ready),
        Step::Migrate { job } => {
            let ids: Vec<AllocId> = region.live(&id(job)).first().map(|alloc| alloc.id).into_iter().collect();
            if !ids.is_empty() && region.store.state().job(&key(&id(job))).is_some() {
                region.migrate(&ids);
            }
        }
        Step::Clients => _ = region.clients(),
    }
    // Every commit in here checks that no node is too full and no port has two owners.
    region.schedule();
    region.check();
    limits_are_kept(region);
}

/// No group has more than it wants, and no more new ones than its update lets under way at once.
fn limits_are_kept(region: &Region) {
    let state = region.store.state();
    for job in state.all_jobs().filter(|job| !job.stop) {
        let group = &job.spec.groups[0];
        let live = region.live(&job.key.id);
        let canaries = group.update.as_ref().map_or(0, |update| update.canary);
        let bound = match job.spec.kind {
            JobType::System | JobType::Sysbatch => state.node_count(),
            JobType::Service | JobType::Batch => (group.count + canaries) as usize,
        };
        assert!(live.len() <= bound, "{} has {} of {bound}", job.key.id, live.len());
        if job.spec.kind == JobType::System {
            let mut on_node: BTreeMap<NodeId, u32> = BTreeMap::new();
            live.iter().for_each(|alloc| *on_node.entry(alloc.node_id).or_default() += 1);
            assert!(on_node.values().all(|count| *count == 1), "a system job runs once a node");
        }
    }
}

/// Five nodes, and schedulers that may preempt or not.
fn region(seed: u64) -> Region {
    let mut region = Region::nodes(5).seed(seed);
    let may = |bit: u32| seed & (1 << bit) == 0;
    let config = SchedulerConfig {
        preempt_service: may(0),
        preempt_batch: may(1),
        preempt_system: may(2),
        ..SchedulerConfig::default()
    };
    region.apply(&Command::SetSchedulerConfig { config: Named(config), cas: None });
    region
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_oversubscribed_and_everything_comes_to_rest(seed: u64, steps in proptest::collection::vec(step(), 1..30)) {
        let mut region = region(seed);
        for step in &steps {
            take(&mut region, step);
        }
        let jobs: Vec<Text> = region.store.state().all_jobs().map(|job| job.key.id.clone()).collect();
        // What a user stopped of a system job comes back with the next look.
        jobs.iter().for_each(|job| region.enqueue(job, EvalTrigger::NodeUpdate));
        region.settle();
        // A second look at each job changes nothing.
        for job in jobs {
            let eval = region.eval(&job, EvalTrigger::NodeUpdate);
            let plan = region.plan(&eval);
            prop_assert!(plan.placements.is_empty() && plan.stops.is_empty() && plan.updates.is_empty(), "{job}: {plan:#?}");
        }
    }

    #[test]
    fn the_table_counts_what_the_store_counts(seed: u64, steps in proptest::collection::vec(step(), 1..20)) {
        let mut region = region(seed);
        for step in &steps {
            take(&mut region, step);
        }
        // A scheduler that followed every change and one that starts from the snapshot decide alike.
        let snapshot = region.snapshot();
        let probe = job_of(&document("probe", "batch", 200, |job| {
            job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = json!(100);
        }));
        let place = |scheduler: &mut scheduler::Scheduler| {
            let mut number = 0_u64;
            let mut chance = || { number += 1; number };
            let mut context = scheduler::Context { now: Timestamp(1), chance: &mut chance };
            scheduler.plan_job(&snapshot, &probe, &mut context).plan.placements.len()
        };
        let mut fresh = scheduler::Scheduler::new();
        fresh.rebuild(&snapshot);
        prop_assert_eq!(place(&mut region.scheduler), place(&mut fresh));
    }

    #[test]
    fn the_same_numbers_give_the_same_plans(seed: u64, steps in proptest::collection::vec(step(), 1..12)) {
        let run = || {
            let mut region = region(seed);
            steps.iter().for_each(|step| take(&mut region, step));
            region.store.content_hash()
        };
        prop_assert_eq!(run(), run());
    }
}
