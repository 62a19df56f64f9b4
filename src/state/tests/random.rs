//! Random commands: what must hold after each of them, and after a snapshot.

mod support;

use model::*;
use proptest::prelude::*;
use protocol::{Command, DeploymentUpdate, NodeStatusUpdate};
use state::{State, Store, Table, fits};
use support::*;

#[derive(Clone, Debug)]
enum Step {
    Register { job: u8, count: u8 },
    Deregister { job: u8, purge: bool },
    Place { job: u8, node: u8, count: u8, port: Option<u16>, replace: bool },
    Client { alloc: u8, status: u8, healthy: Option<bool> },
    Stop { alloc: u8, status: Option<u8> },
    Node { node: u8, status: u8 },
    Eligible { node: u8, eligible: bool },
    EndEval { eval: u8, status: u8 },
    Deploy { deployment: u8, status: u8 },
    Tag { job: u8, version: u8, remove: bool },
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    let port = proptest::option::of(8000_u16..8003);
    prop_oneof![
        3 => (0_u8..3, 1_u8..4).prop_map(|(job, count)| Step::Register { job, count }),
        1 => (0_u8..3, any::<bool>()).prop_map(|(job, purge)| Step::Deregister { job, purge }),
        6 => (0_u8..3, 0_u8..3, 1_u8..7, port, any::<bool>())
            .prop_map(|(job, node, count, port, replace)| Step::Place { job, node, count, port, replace }),
        8 => (any::<u8>(), 0_u8..5, any::<Option<bool>>())
            .prop_map(|(alloc, status, healthy)| Step::Client { alloc, status, healthy }),
        2 => (any::<u8>(), proptest::option::of(3_u8..6)).prop_map(|(alloc, status)| Step::Stop { alloc, status }),
        1 => (0_u8..3, 0_u8..4).prop_map(|(node, status)| Step::Node { node, status }),
        1 => (0_u8..3, any::<bool>()).prop_map(|(node, eligible)| Step::Eligible { node, eligible }),
        3 => (any::<u8>(), 0_u8..5).prop_map(|(eval, status)| Step::EndEval { eval, status }),
        1 => (any::<u8>(), 0_u8..5).prop_map(|(deployment, status)| Step::Deploy { deployment, status }),
        1 => (0_u8..3, 0_u8..3, any::<bool>()).prop_map(|(job, version, remove)| Step::Tag { job, version, remove }),
        1 => Just(Step::Collect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_after_every_command(steps in proptest::collection::vec(step(), 1..60)) {
        let mut region = Region::with_nodes(3);
        let mut indexes = [0; Table::ALL.len()];
        for step in steps {
            let before = region.store.content_hash();
            let Some(command) = command_of(&mut region, step) else { continue };
            match region.try_apply(command) {
                Ok(_) => check_invariants(region.state()),
                Err(_) => prop_assert_eq!(region.store.content_hash(), before),
            }
            for &table in Table::ALL {
                let index = region.state().table_index(table);
                prop_assert!(index >= indexes[table as usize] && index <= region.store.index());
                indexes[table as usize] = index;
            }
        }
        check_restore(&region);
        check_replay(&region);
    }
}

/// I4, I5 and the counts that are kept beside the rows.
fn check_invariants(state: &State) {
    for node in state.nodes() {
        let room = fits(node, state.allocs_by_node(node.id).map(|alloc| &**alloc));
        assert!(room.is_ok(), "node {} is oversubscribed: {room:?}", node.id);
    }
    for job in state.all_jobs() {
        let kept = state.summary(&job.key).map(|summary| &**summary);
        assert_eq!(kept, state.recompute_summary(&job.key).as_ref(), "summary of {}", job.key);
        let counts = state.job_counts(&job.key);
        let live = state.allocs_by_job(&job.key).filter(|alloc| !alloc.terminal()).count();
        let open = state.evals_by_job(&job.key).filter(|eval| !eval.status.is_terminal()).count();
        assert_eq!((counts.live_allocs as usize, counts.open_evals as usize), (live, open));
        assert!(
            live == 0 || job.status == JobStatus::Running,
            "{} is {} with {live} allocations",
            job.key,
            job.status
        );
        let untagged = state.job_versions(&job.key).filter(|job| job.version_tag.is_none()).count();
        assert!(untagged <= 6, "{untagged} versions of {}", job.key);
    }
    for alloc in state.allocs() {
        if let Some(next) = alloc.extra().next.and_then(|id| state.alloc(id)) {
            assert_eq!(next.extra().previous, Some(alloc.id));
        }
    }
}

/// I18, and: a server that was restored goes on like one that was not.
fn check_restore(region: &Region) {
    let mut bytes = Vec::new();
    region.store.capture().write(&mut bytes).expect("a vector takes everything");
    let mut restored = Store::restore(&mut bytes.as_slice()).expect("it was just written");
    assert_eq!(restored.content_hash(), region.store.content_hash());
    assert_eq!(restored.chain(), region.store.chain());
    assert_eq!(restored.index(), region.store.index());
    check_invariants(restored.state());
    let mut original = region.clone();
    let command = register(job("another", 1), None);
    let index = original.store.index() + 1;
    let hash = restored.apply(index, &command).map(|applied| applied.hash);
    assert_eq!(hash, original.try_apply(command).map(|applied| applied.hash));
}

/// I11: the same log makes the same hashes.
fn check_replay(region: &Region) {
    let mut replayed = Store::new();
    for (at, command) in region.log.iter().enumerate() {
        let encoded = protocol::encode(command);
        let command: Command = protocol::decode(&encoded).expect("it was just written");
        // A refusal is an outcome like any other; the hash tells whether it was the same one.
        let _ = replayed.apply(at as u64 + 1, &command);
    }
    assert_eq!(replayed.chain(), region.store.chain());
    assert_eq!(replayed.content_hash(), region.store.content_hash());
}

fn command_of(region: &mut Region, step: Step) -> Option<Command> {
    let name = |job: u8| format!("job-{job}");
    Some(match step {
        Step::Register { job, count } => {
            let id = name(job);
            let eval = region.eval(&key(&id));
            register(job_from(&id, &document(&id, count.into(), true)), Some(eval))
        }
        Step::Deregister { job, purge } => {
            let eval = region.eval(&key(&name(job)));
            let (key, eval) = (key(&name(job)), Some(Box::new(eval)));
            Command::DeregisterJob { key, purge, no_shutdown_delay: purge, eval, now: now() }
        }
        Step::Place { job, node, count, port, replace } => {
            place(region, &name(job), node, count, port, replace)?
        }
        Step::Client { alloc, status, healthy } => {
            let alloc = pick(region.state().allocs(), alloc)?;
            let mut update = update_of(alloc, ClientStatus::ALL[usize::from(status)]);
            update.health =
                healthy.map(|healthy| AllocHealth { healthy: Some(healthy), ..AllocHealth::default() });
            client_update(vec![update])
        }
        Step::Stop { alloc, status } => {
            let alloc = pick(region.state().allocs(), alloc)?.clone();
            let mut plan = region.plan(&alloc.job.key, alloc.node_id, 0, None);
            let client_status = status.map(|status| ClientStatus::ALL[usize::from(status)]);
            plan.stops.push(protocol::Stop { client_status, ..stop(alloc.id) });
            apply_plan(plan)
        }
        Step::Node { node, status } => {
            let status = NodeStatus::ALL[usize::from(status)];
            let update = NodeStatusUpdate { node_id: region.node_id(node.into()), status, event: None };
            Command::UpdateNodeStatus { updates: vec![update], evals: vec![], now: now() }
        }
        Step::Eligible { node, eligible } => {
            let node_id = region.node_id(node.into());
            Command::UpdateNodeEligibility { node_id, eligible, event: None, evals: vec![], now: now() }
        }
        Step::EndEval { eval, status } => {
            let eval = Evaluation::clone(pick(region.state().evals(), eval)?);
            Command::UpsertEvals {
                evals: vec![Evaluation { status: EvalStatus::ALL[usize::from(status)], ..eval }],
            }
        }
        Step::Deploy { deployment, status } => {
            let id = pick(region.state().deployments(), deployment)?.id;
            let status = DeploymentStatus::ALL[usize::from(status)];
            let update = DeploymentUpdate { id, status, description: "x".into() };
            Command::UpdateDeployment { update, job: None, eval: None, now: now() }
        }
        Step::Tag { job, version, remove } => Command::TagJobVersion {
            key: key(&name(job)),
            version: Some(version.into()),
            name: "gold".into(),
            description: (!remove).then(String::new),
            now: now(),
        },
        // Allocations stay: their job's summary keeps what they came to, and could not be made from the rows again.
        Step::Collect => Command::Collect {
            evals: region.state().evals().map(|eval| eval.id).collect(),
            allocs: vec![],
            jobs: region.state().all_jobs().map(|job| job.key.clone()).collect(),
            deployments: region.state().deployments().map(|deployment| deployment.id).collect(),
            nodes: vec![],
        },
    })
}

fn place(
    region: &mut Region,
    job: &str,
    node: u8,
    count: u8,
    port: Option<u16>,
    replace: bool,
) -> Option<Command> {
    let (key, node) = (key(job), region.node_id(node.into()));
    region.state().job(&key)?;
    let mut plan = region.plan(&key, node, if port.is_some() { 1 } else { count.into() }, port);
    if replace {
        let old = region.state().allocs_by_job(&key).find(|alloc| !alloc.terminal()).map(|alloc| alloc.id)?;
        plan.stops.push(stop(old));
        plan.placements[0].links = links(old);
    }
    if count == 6 {
        let id = DeploymentId::from_random(region.next_id());
        plan.deployment = Some(region.deployment(&key, id));
        for placement in &mut plan.placements {
            placement.links.get_or_insert_default().deployment = Some(id);
        }
    }
    plan.eval.queued.insert("web".into(), u32::from(count) % 3);
    Some(apply_plan(plan))
}

fn pick<T>(rows: impl Iterator<Item = T>, at: u8) -> Option<T> {
    let mut rows: Vec<_> = rows.collect();
    let at = usize::from(at) % rows.len().max(1);
    (at < rows.len()).then(|| rows.swap_remove(at))
}
