//! Reconciling held against a small and slow model of it: random histories of one service, one evaluation at a time.
//!
//! The model counts and knows no names, nodes or scores. It is written apart from the product and says in the plainest
//! words what one evaluation has to do; where there is room for everything, as here, that is what the plan does.

mod fixture;

use std::sync::Arc;

use fixture::*;
use model::*;
use proptest::prelude::*;
use protocol::{Command, DeploymentUpdate, Plan};
use serde_json::{Value, json};

#[derive(Clone, Debug)]
enum Step {
    Run { count: u32, parallel: u32, version: u8 },
    Stop,
    Node { at: usize, up: bool },
    Migrate { at: usize },
    Clients { choices: u64 },
    FailDeployment,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..7_u32, 1..4_u32, 0..3_u8)
            .prop_map(|(count, parallel, version)| Step::Run { count, parallel, version }),
        1 => Just(Step::Stop),
        // The first node stays: whatever is missing has a place.
        2 => (1..5_usize, any::<bool>()).prop_map(|(at, up)| Step::Node { at, up }),
        2 => (0..7_usize).prop_map(|at| Step::Migrate { at }),
        8 => any::<u64>().prop_map(|choices| Step::Clients { choices }),
        1 => Just(Step::FailDeployment),
    ]
}

fn job(count: u32, parallel: u32, version: u8) -> Value {
    document("web", "service", count, |job| {
        job["TaskGroups"][0]["Update"]["MaxParallel"] = json!(parallel);
        job["TaskGroups"][0]["Tasks"][0]["Env"] = json!({"V": version.to_string()});
    })
}

fn take(region: &mut Region, step: &Step) {
    match *step {
        Step::Run { count, parallel, version } => region.register(&job(count, parallel, version)),
        Step::Stop if region.store.state().job(&key("web")).is_some() => region.stop("web", false),
        Step::Stop => {}
        Step::Node { at, up } => {
            region.node_status(at, if up { NodeStatus::Ready } else { NodeStatus::Down });
        }
        Step::Migrate { at } => {
            let ids: Vec<AllocId> = region.live("web").get(at).map(|alloc| alloc.id).into_iter().collect();
            if !ids.is_empty() {
                region.migrate(&ids);
            }
        }
        Step::Clients { choices } => clients(region, choices),
        Step::FailDeployment => fail_deployment(region),
    }
    look_at_all(region);
}

/// Lets each client do one thing, or nothing: three bits say which.
fn clients(region: &mut Region, mut choices: u64) {
    let (snapshot, mut updates) = (region.snapshot(), Vec::new());
    for alloc in snapshot.allocs().filter(|alloc| !alloc.client_status.is_terminal()) {
        let choice = choices & 7;
        choices = choices.rotate_right(3);
        let ready = snapshot.node(alloc.node_id).is_some_and(|node| node.status == NodeStatus::Ready);
        let before = alloc.extra().previous.and_then(|id| snapshot.alloc(id));
        let waits = before.is_some_and(|before| before.node_id == alloc.node_id && before.occupies());
        if !ready || (waits && !alloc.server_terminal()) {
            continue;
        }
        let known = alloc.extra().health.and_then(|health| health.healthy);
        let judged = |healthy: bool| known.is_none().then_some(healthy);
        let (status, healthy) = match (alloc.client_status, choice) {
            _ if alloc.server_terminal() => (ClientStatus::Complete, None),
            (ClientStatus::Pending, 0..=5) => (ClientStatus::Running, None),
            (ClientStatus::Running, 0..=4) if known.is_none() => (ClientStatus::Running, Some(true)),
            (ClientStatus::Running, 5) if known.is_none() => (ClientStatus::Running, Some(false)),
            (ClientStatus::Running, 6) => (ClientStatus::Failed, judged(false)),
            _ => continue,
        };
        updates.push(region.update(alloc, status, healthy));
    }
    let (evals, now) = (vec![region.eval("web", EvalTrigger::DeploymentWatcher)], region.now);
    region.apply(&Command::UpdateAllocs { updates, evals, now });
}

fn fail_deployment(region: &mut Region) {
    let latest = region.store.state().deployments_by_job(&key("web")).next_back().cloned();
    let Some(active) = latest.filter(|deployment| deployment.status.is_active()) else { return };
    let update =
        DeploymentUpdate { id: active.id, status: DeploymentStatus::Failed, description: "by hand".into() };
    let (eval, now) = (region.eval("web", EvalTrigger::DeploymentWatcher), region.now);
    region.apply(&Command::UpdateDeployment { update, job: None, eval: Some(Box::new(eval)), now });
}

/// Makes and commits the plan of each pending evaluation, and holds each against the model.
fn look_at_all(region: &mut Region) {
    loop {
        let now = region.now;
        let snapshot = region.snapshot();
        let due = snapshot.evals().find(|eval| eval.status == EvalStatus::Pending && eval.wait_until <= now);
        let Some(eval) = due.cloned() else { return };
        let mut wanted = Expected::of(region);
        wanted.lost += unheard(region);
        let plan = region.plan(&eval);
        assert_eq!(Expected::read(&plan), wanted, "{}\n{plan:#?}", region.rows("web").join("\n"));
        region.commit(vec![plan]);
        let state = region.store.state();
        let count = state.job(&key("web")).filter(|job| !job.stop).map_or(0, |job| job.spec.groups[0].count);
        let live = region.live("web").len();
        assert!(live <= count as usize, "{live} run and {count} are wanted");
    }
}

/// Counts what was told to stop and can not say that it did, for its node is gone.
fn unheard(region: &Region) -> usize {
    let state = region.store.state();
    let gone = |alloc: &Allocation| state.node(alloc.node_id).is_none_or(|node| node.is_down());
    let told = |alloc: &Allocation| alloc.desired != DesiredStatus::Run && !alloc.client_status.is_terminal();
    region.allocs("web").iter().filter(|alloc| told(alloc) && gone(alloc)).count()
}

/// What one evaluation does, counted.
#[derive(Debug, Default, Eq, PartialEq)]
struct Expected {
    placed: usize,
    not_needed: usize,
    lost: usize,
    migrated: usize,
    updated: usize,
    updated_in_place: usize,
}

impl Expected {
    /// Counts what a plan does.
    fn read(plan: &Plan) -> Self {
        let stops = |text: &str| {
            let stopped = plan.stops.iter().filter(|stop| stop.desired == DesiredStatus::Stop);
            stopped.filter(|stop| stop.description == text).count()
        };
        Self {
            placed: plan.placements.len(),
            not_needed: stops("alloc not needed due to job update"),
            lost: stops("alloc is lost since its node is down"),
            migrated: stops("alloc is being migrated"),
            updated: stops("alloc is being updated due to job update"),
            updated_in_place: plan.updates.len(),
        }
    }

    /// Says what has to be done, from what is there.
    fn of(region: &Region) -> Self {
        let state = region.store.state();
        let job = state.job(&key("web")).expect("a job is registered first").clone();
        let is_up = |alloc: &Allocation| state.node(alloc.node_id).is_some_and(|node| !node.is_down());
        let wanted = |alloc: &Arc<Allocation>| alloc.desired == DesiredStatus::Run;
        let all: Vec<_> = region.allocs("web").into_iter().filter(wanted).collect();
        let live = |alloc: &&Arc<Allocation>| !alloc.client_status.is_terminal();
        let mut is = Self::default();
        if job.stop {
            let (here, gone): (Vec<_>, Vec<_>) = all.iter().filter(live).partition(|alloc| is_up(alloc));
            return Self { not_needed: here.len(), lost: gone.len(), ..is };
        }
        // One that failed waits for its time and counts until then.
        let counts = |alloc: &&Arc<Allocation>| {
            live(alloc) || (alloc.client_status == ClientStatus::Failed && alloc.extra().next.is_none())
        };
        let counted: Vec<_> = all.iter().filter(counts).collect();
        let moves = |alloc: &&Arc<Allocation>| alloc.extra().transition.migrate == Some(true);
        let (gone, here): (Vec<_>, Vec<_>) =
            counted.into_iter().partition(|alloc| live(alloc) && !is_up(alloc));
        let (mut moving, mut stay): (Vec<_>, Vec<_>) =
            here.into_iter().partition(|alloc| live(alloc) && moves(alloc));
        let count = job.spec.groups[0].count as usize;
        is.lost = gone.len();
        is.not_needed = (moving.len() + stay.len()).saturating_sub(count);
        // What moves is given up first, then what failed, then the highest number.
        moving.sort_by_key(|alloc| alloc.index);
        stay.sort_by_key(|alloc| {
            (
                alloc.client_status == ClientStatus::Failed,
                alloc.index,
                std::cmp::Reverse((alloc.job.version, alloc.id)),
            )
        });
        for _ in 0..is.not_needed {
            _ = moving.pop().or_else(|| stay.pop());
        }
        is.migrated = moving.len();
        let old = |alloc: &&&Arc<Allocation>| alloc.job.version != job.version;
        let differs =
            |alloc: &&&Arc<Allocation>| alloc.task_group().tasks[0].env != job.spec.groups[0].tasks[0].env;
        let outdated = stay.iter().filter(old).filter(differs).count();
        is.updated_in_place = stay.iter().filter(old).filter(|alloc| !differs(alloc) && live(alloc)).count();
        let rollout = Rollout::of(region, &job);
        let have = moving.len() + stay.len();
        let again = gone.len().min(count - have);
        let fresh = if rollout == Rollout::Failed { 0 } else { count - have - again };
        is.updated = rollout.room(&job, &stay).saturating_sub(again + fresh).min(outdated);
        is.placed = again + fresh + is.migrated + is.updated;
        is
    }
}

/// How far the roll-out of the job's version is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rollout {
    None,
    Active(DeploymentId),
    Failed,
}

impl Rollout {
    fn of(region: &Region, job: &Job) -> Self {
        let latest = region.store.state().deployments_by_job(&key("web")).next_back().cloned();
        match latest.filter(|deployment| deployment.job_version == job.version) {
            Some(deployment) if deployment.status == DeploymentStatus::Failed => Self::Failed,
            Some(deployment) if deployment.status.is_active() => Self::Active(deployment.id),
            _ => Self::None,
        }
    }

    /// How many more may be under way: none once one is unhealthy, and no more than are not known to be healthy.
    fn room(self, job: &Job, stay: &[&Arc<Allocation>]) -> usize {
        let parallel = job.spec.groups[0].update.as_ref().map_or(0, |update| update.max_parallel as usize);
        let id = match self {
            Self::None => return parallel,
            Self::Failed => return 0,
            Self::Active(id) => id,
        };
        let health: Vec<Option<bool>> = stay
            .iter()
            .filter(|alloc| alloc.extra().deployment == Some(id))
            .map(|alloc| alloc.extra().health.and_then(|health| health.healthy))
            .collect();
        if health.contains(&Some(false)) {
            return 0;
        }
        parallel.saturating_sub(health.iter().filter(|healthy| healthy.is_none()).count())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_evaluation_does_what_the_model_says_and_all_comes_to_rest(
        seed: u64,
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut region = Region::nodes(5).seed(seed);
        region.register(&job(3, 1, 9));
        look_at_all(&mut region);
        for step in &steps {
            take(&mut region, step);
        }
        // Another version, all nodes and clients that do well: everything is replaced, and nothing is left to do.
        for at in 1..5 {
            region.node_status(at, NodeStatus::Ready);
        }
        region.register(&job(4, 2, 10));
        region.settle();
        let live = region.live("web");
        let current = live.iter().filter(|alloc| {
            alloc.client_status == ClientStatus::Running && alloc.task_group().tasks[0].env.values().any(|v| v == "10")
        });
        prop_assert_eq!((live.len(), current.count()), (4, 4), "{}", region.rows("web").join("\n"));
        prop_assert_eq!(region.deployment("web").status, DeploymentStatus::Successful);
        let eval = region.eval("web", EvalTrigger::NodeUpdate);
        let plan = region.plan(&eval);
        prop_assert!(plan.placements.is_empty() && plan.stops.is_empty() && plan.updates.is_empty(), "{plan:#?}");
    }
}
