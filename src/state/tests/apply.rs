//! What commands do to the state, one story each.

mod support;

use model::*;
use protocol::{Command, DeploymentUpdate, Named, NodeStatusUpdate};
use serde_json::json;
use state::{EventKind, Outcome, PlanRejection, Refusal, Store, Table};
use support::*;

#[test]
fn a_region_begins_with_its_namespace_and_pools() {
    let store = Store::new();
    let names: Vec<_> = store.state().node_pools().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["all", "default"]);
    assert!(store.state().namespace("default").is_some());
    assert_eq!(store.state().table_index(Table::NodePools), 1);
}

#[test]
fn a_job_version_counts_changes_of_its_specification_alone() {
    let mut region = Region::with_nodes(1);
    region.register(job("web", 1));
    let applied = region.register(job("web", 1));
    assert_eq!(applied.outcome, Outcome::Job { job_modify_index: 2, version: 0 });
    assert_eq!(applied.changes.jobs().count(), 0, "a job that did not change is not written");
    let applied = region.register(job("web", 2));
    assert_eq!(applied.outcome, Outcome::Job { job_modify_index: 4, version: 1 });
    assert_eq!(applied.changes.kind, Some(EventKind::JobRegistered));
    let versions: Vec<_> = region.state().job_versions(&key("web")).map(|job| job.version).collect();
    assert_eq!(versions, [1, 0]);
    let eval = region.state().evals_by_job(&key("web")).next_back().expect("it came with the job");
    assert_eq!((eval.job_modify_index, eval.create_index), (4, 4));
}

#[test]
fn six_versions_are_kept_beside_tagged_and_stable_ones() {
    let mut region = Region::with_nodes(1);
    region.register(job("web", 1));
    region.apply(tag("web", Some(0), "gold", Some("first")));
    region.register(job("web", 2));
    region.apply(Command::MarkJobStable { key: key("web"), version: 1, stable: true });
    for count in 3..12 {
        region.register(job("web", count));
    }
    let versions: Vec<_> = region.state().job_versions(&key("web")).map(|job| job.version).collect();
    assert_eq!(versions, [10, 9, 8, 7, 6, 1, 0]);
    assert!(region.state().submission(&key("web"), 5).is_none());
    assert!(region.state().submission(&key("web"), 1).is_some());
    let tagged = region.state().job_version_by_tag(&key("web"), "gold").expect("it was tagged");
    assert_eq!(tagged.version, 0);
}

#[test]
fn registrations_that_enforce_an_index_are_checked() {
    let mut region = Region::with_nodes(1);
    region.register(job("web", 1));
    let enforce = |id: &str, index| Command::RegisterJob {
        job: Box::new(job(id, 7)),
        submission: None,
        enforce_index: Some(index),
        eval: None,
        scaling: None,
        now: now(),
    };
    let before = region.store.content_hash();
    let texts = [("web", 0), ("web", 1), ("new", 5)]
        .map(|(id, index)| region.try_apply(enforce(id, index)).expect_err("it conflicts").to_string());
    assert_eq!(
        texts,
        [
            "Enforcing job modify index 0: job already exists",
            "Enforcing job modify index 1: job exists with conflicting job modify index: 2",
            "Enforcing job modify index 5: job does not exist",
        ]
    );
    assert_eq!(region.store.content_hash(), before, "what is refused changes nothing");
    region.apply(enforce("web", 2));
    region.apply(enforce("new", 0));
}

#[test]
fn a_tag_belongs_to_one_version() {
    let mut region = Region::with_nodes(1);
    region.register(job("web", 1));
    region.register(job("web", 2));
    region.apply(tag("web", Some(0), "gold", Some("")));
    let taken = region.try_apply(tag("web", None, "gold", Some(""))).expect_err("version 0 has it");
    assert_eq!(taken.to_string(), "tag \"gold\" already exists on a different version of job \"web\"");
    let missing = region.try_apply(tag("web", None, "nope", None)).expect_err("nobody has it");
    assert_eq!(missing.to_string(), "tag \"nope\" not found on job \"web\"");
    region.apply(tag("web", None, "gold", None));
    assert!(region.state().job_version_by_tag(&key("web"), "gold").is_none());
}

#[test]
fn a_job_is_pending_then_running_then_dead() {
    let mut region = Region::with_nodes(1);
    region.register(job("web", 2));
    let status = |region: &Region| region.state().job(&key("web")).expect("it is there").status;
    assert_eq!(status(&region), JobStatus::Pending);
    region.place(&key("web"), region.node_id(0), 2);
    assert_eq!(status(&region), JobStatus::Running);
    let summary = region.state().summary(&key("web")).expect("every job has one").groups["web"];
    assert_eq!((summary.starting, summary.running), (2, 0));
    let updates: Vec<_> =
        region.state().allocs().map(|alloc| update_of(alloc, ClientStatus::Complete)).collect();
    region.apply(client_update(updates));
    let open: Vec<_> = region.state().evals().filter(|eval| !eval.status.is_terminal()).cloned().collect();
    let done = open.iter().map(|eval| Evaluation { status: EvalStatus::Complete, ..Evaluation::clone(eval) });
    region.apply(Command::UpsertEvals { evals: done.collect() });
    assert_eq!(status(&region), JobStatus::Dead);
    assert_eq!(region.state().summary(&key("web")).expect("every job has one").groups["web"].complete, 2);
}

#[test]
fn a_stopped_job_has_another_version_and_a_purged_one_is_gone() {
    let mut region = Region::with_nodes(1);
    region.register(job("web", 1));
    region.apply(deregister("web", false));
    let job = region.state().job(&key("web")).expect("it is stopped, not purged").clone();
    assert_eq!((job.stop, job.version), (true, 1));
    region.apply(deregister("web", true));
    assert!(region.state().job(&key("web")).is_none());
    assert!(region.state().summary(&key("web")).is_none());
    assert_eq!(region.try_apply(deregister("web", true)).expect_err("it is gone"), Refusal::JobNotFound);
}

#[test]
fn a_plan_that_does_not_fit_is_left_out_and_the_others_are_applied() {
    let mut region = Region::with_nodes(2);
    region.register(job("web", 50));
    let (full, free) = (region.node_id(0), region.node_id(1));
    let too_many = region.plan(&key("web"), full, 11, None);
    let eval = too_many.eval.id;
    let fine = region.plan(&key("web"), free, 10, None);
    let applied = region.apply(Command::ApplyPlans { plans: vec![too_many, fine], now: now() });
    let Outcome::Plans { rejected } = applied.outcome else { panic!("plans have an outcome of their own") };
    assert!(matches!(&rejected[..], [(0, PlanRejection::NodeFull { id, misfit })]
        if *id == full && misfit.to_string() == "cpu"));
    assert!(region.state().eval(eval).is_none(), "the evaluation of a rejected plan is as it was");
    assert_eq!(region.state().allocs_by_node(free).count(), 10);
    assert_eq!(region.state().allocs_by_node(full).count(), 0);
}

#[test]
fn a_port_has_one_owner_until_its_client_lets_go() {
    let mut region = Region::with_nodes(1);
    let node = region.node_id(0);
    region.register(job("web", 1));
    let first = region.plan(&key("web"), node, 1, Some(8080));
    let owner = first.placements[0].id;
    region.apply(apply_plan(first));
    let mut second = region.plan(&key("web"), node, 1, Some(8080));
    second.stops.push(stop(owner));
    let applied = region.apply(apply_plan(second.clone()));
    assert!(matches!(applied.outcome, Outcome::Plans { rejected } if rejected.len() == 1));
    // One that names it takes over: its client waits for the other to be gone.
    second.placements[0].links = links(owner);
    let applied = region.apply(apply_plan(second.clone()));
    assert_eq!(applied.outcome, Outcome::Plans { rejected: vec![] });
    assert_eq!(region.state().alloc(owner).expect("it is there").extra().next, Some(second.placements[0].id));
    let held_back = region.plan(&key("web"), node, 1, Some(22));
    let applied = region.apply(apply_plan(held_back));
    assert!(matches!(applied.outcome, Outcome::Plans { rejected } if rejected.len() == 1));
}

#[test]
fn a_stopping_allocation_lends_no_more_than_its_heir_needs() {
    let mut region = Region::with_nodes(1);
    let node = region.node_id(0);
    region.register(job("web", 1));
    let mut large = region.plan(&key("web"), node, 1, Some(8080));
    let mut held = resources(Some(8080));
    held.tasks[0].cpu_shares = 800;
    large.resources[0] = std::sync::Arc::new(held);
    let lender = large.placements[0].id;
    region.apply(apply_plan(large));
    let mut small = region.plan(&key("web"), node, 1, None);
    small.stops.push(stop(lender));
    small.placements[0].links = links(lender);
    region.apply(apply_plan(small));
    let row = region.state().node(node).expect("it is there");
    let used = state::fits(row, region.state().allocs_by_node(node).map(|alloc| &**alloc)).expect("they fit");
    assert_eq!((used.cpu_shares, used.memory_mb), (800, 64), "the larger of the two, while both are there");
    let stranger = region.plan(&key("web"), node, 3, None);
    let applied = region.apply(apply_plan(stranger));
    assert!(matches!(applied.outcome, Outcome::Plans { rejected } if rejected.len() == 1));
    let same_port = region.plan(&key("web"), node, 1, Some(8080));
    let applied = region.apply(apply_plan(same_port));
    assert!(
        matches!(applied.outcome, Outcome::Plans { rejected } if rejected.len() == 1),
        "it still listens there"
    );
}

#[test]
fn a_plan_applied_twice_places_once() {
    let mut region = Region::with_nodes(1);
    region.register(job("web", 1));
    let plan = region.plan(&key("web"), region.node_id(0), 1, Some(8080));
    region.apply(apply_plan(plan.clone()));
    let applied = region.apply(apply_plan(plan));
    assert_eq!(applied.outcome, Outcome::Plans { rejected: vec![] });
    assert_eq!(region.state().allocs().count(), 1);
    assert_eq!(region.state().summary(&key("web")).expect("every job has one").groups["web"].starting, 1);
}

#[test]
fn nothing_is_placed_on_a_node_that_is_not_ready() {
    let mut region = Region::with_nodes(1);
    let node_id = region.node_id(0);
    region.register(job("web", 1));
    region.apply(Command::UpdateNodeEligibility {
        node_id,
        eligible: false,
        event: None,
        evals: vec![],
        now: now(),
    });
    let applied = region.place(&key("web"), node_id, 1);
    assert!(matches!(applied.outcome, Outcome::Plans { rejected }
        if rejected == [(0, PlanRejection::NodeNotReady { id: node_id })]));
}

#[test]
fn a_client_does_not_undo_what_the_servers_decided() {
    let mut region = Region::with_nodes(2);
    region.register(job("web", 1));
    region.place(&key("web"), region.node_id(0), 1);
    let alloc = region.state().alloc(region.alloc_id(0)).expect("it was placed").clone();
    let mut lost = region.plan(&key("web"), region.node_id(0), 0, None);
    lost.stops.push(protocol::Stop { client_status: Some(ClientStatus::Lost), ..stop(alloc.id) });
    region.apply(apply_plan(lost));
    region.apply(client_update(vec![update_of(&alloc, ClientStatus::Running)]));
    let row = region.state().alloc(alloc.id).expect("it is there").clone();
    assert_eq!((row.desired, row.client_status), (DesiredStatus::Stop, ClientStatus::Lost));
    assert_eq!(row.task_states.len(), 1, "what its tasks did is worth knowing");
    region.apply(client_update(vec![update_of(&alloc, ClientStatus::Complete)]));
    assert_eq!(region.state().alloc(alloc.id).expect("it is there").client_status, ClientStatus::Complete);
    let stranger = protocol::session::AllocUpdate {
        node_id: region.node_id(1),
        ..update_of(&alloc, ClientStatus::Failed)
    };
    let applied = region.apply(client_update(vec![stranger]));
    assert_eq!(applied.outcome, Outcome::AllocUpdates { dropped: vec![alloc.id] });
}

#[test]
fn a_deployment_counts_health_and_its_success_makes_the_version_stable() {
    let (mut region, id) = with_canary();
    let canary = region.alloc_id(0);
    let promote = Command::PromoteDeployment { id, groups: None, eval: None, now: now() };
    let early = region.try_apply(promote.clone()).expect_err("the canary is not healthy");
    assert_eq!(
        early.to_string(),
        "1 error occurred:\n\t* Task group \"web\" has 0/1 healthy allocations\n\n"
    );
    let alloc = region.state().alloc(canary).expect("it was placed").clone();
    let mut update = update_of(&alloc, ClientStatus::Running);
    update.health = Some(AllocHealth { healthy: Some(true), timestamp: now(), ..AllocHealth::default() });
    region.apply(client_update(vec![update.clone()]));
    region.apply(client_update(vec![update]));
    let group = region.state().deployment(id).expect("it is there").groups["web"].clone();
    assert_eq!((group.placed, group.healthy, group.placed_canaries.len()), (1, 1, 1));
    assert!(!group.require_progress_by.is_zero());
    region.apply(promote);
    assert_eq!(
        region.state().alloc(canary).expect("it is there").extra().health.map(|health| health.canary),
        Some(false)
    );
    assert_eq!(
        region.state().deployment(id).expect("it is there").status_description,
        "Deployment is running"
    );
    region.apply(deployment_status(id, DeploymentStatus::Successful));
    assert!(region.state().job(&key("web")).expect("it is there").stable);
    let over = region.try_apply(deployment_status(id, DeploymentStatus::Failed)).expect_err("it is over");
    assert_eq!(over.to_string(), "can't fail terminal deployment");
}

#[test]
fn an_allocation_that_was_given_up_proves_nothing_to_its_deployment() {
    let (mut region, id) = with_canary();
    let alloc = region.state().alloc(region.alloc_id(0)).expect("it was placed").clone();
    let mut lost = region.plan(&key("web"), region.node_id(0), 0, None);
    lost.stops.push(protocol::Stop { client_status: Some(ClientStatus::Lost), ..stop(alloc.id) });
    region.apply(apply_plan(lost));
    for status in [ClientStatus::Running, ClientStatus::Complete, ClientStatus::Complete] {
        let mut update = update_of(&alloc, status);
        update.health = Some(AllocHealth { healthy: Some(true), timestamp: now(), ..AllocHealth::default() });
        region.apply(client_update(vec![update]));
    }
    let group = region.state().deployment(id).expect("it is there").groups["web"].clone();
    assert_eq!((group.placed, group.healthy), (1, 0));
}

#[test]
fn a_plan_does_not_undo_a_pause() {
    let (mut region, id) = with_canary();
    region.apply(deployment_status(id, DeploymentStatus::Paused));
    let mut plan = region.plan(&key("web"), region.node_id(0), 0, None);
    let mut planned = region.deployment(&key("web"), id);
    planned.groups.get_mut("web").expect("it has one group").desired_total = 9;
    plan.deployment = Some(planned);
    region.apply(apply_plan(plan));
    let deployment = region.state().deployment(id).expect("it is there");
    let group = &deployment.groups["web"];
    assert_eq!(deployment.status, DeploymentStatus::Paused);
    assert_eq!((group.desired_total, group.placed, group.placed_canaries.len()), (9, 1, 1));
}

#[test]
fn node_events_are_bounded_and_a_drain_leaves_a_record() {
    let mut region = Region::with_nodes(1);
    let node_id = region.node_id(0);
    let event = |message: &str| NodeEvent { message: message.into(), ..NodeEvent::default() };
    let drain = |drain, completed| Command::DrainNode {
        node_id,
        drain,
        mark_eligible: false,
        completed,
        meta: vec![],
        event: None,
        evals: vec![],
        now: now(),
    };
    region.apply(drain(Some(DrainStrategy::default()), false));
    assert!(!region.state().node(node_id).expect("it is there").eligible);
    let eligible =
        Command::UpdateNodeEligibility { node_id, eligible: true, event: None, evals: vec![], now: now() };
    assert_eq!(region.try_apply(eligible).expect_err("it drains"), Refusal::NodeDrains);
    region.apply(drain(None, true));
    let last = region.state().node(node_id).and_then(|node| node.last_drain.clone()).expect("it was drained");
    assert_eq!(last.status, "complete");
    for n in 0..12 {
        region.apply(Command::NoteNodeEvents { events: vec![(node_id, event(&n.to_string()))] });
    }
    let node = region.state().node(node_id).expect("it is there");
    let messages: Vec<_> = node.events.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(messages, ["2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]);
}

#[test]
fn a_node_that_registers_again_keeps_what_the_servers_decided() {
    let mut region = Region::with_nodes(1);
    let id = region.node_id(0);
    let down = NodeStatusUpdate { node_id: id, status: NodeStatus::Down, event: None };
    region.apply(Command::UpdateNodeStatus { updates: vec![down], evals: vec![], now: now() });
    let applied = region.apply(upsert_node(Node { node_pool: "gpu".into(), ..node(id) }));
    let found = region.state().node(id).expect("it is there");
    assert_eq!((found.status, found.create_index), (NodeStatus::Down, 1));
    assert_eq!(found.events.last().expect("it has events").message, "Node re-registered");
    assert!(region.state().node_pool("gpu").is_some(), "a pool comes with its first node");
    assert!(applied.changes.tables().contains(&Table::NodePools));
}

#[test]
fn a_repeated_dispatch_makes_one_child_and_the_parent_counts_it() {
    let mut region = Region::with_nodes(1);
    let mut parameterized = document("batch", 1, false);
    parameterized["Type"] = json!("batch");
    parameterized["ParameterizedJob"] = json!({"Payload": "optional"});
    region.register(job_from("batch", &parameterized));
    assert_eq!(region.state().job(&key("batch")).expect("it is there").status, JobStatus::Running);
    let child = |id: &str| {
        let parent = Parent {
            id: "batch".into(),
            dispatched: true,
            idempotency_token: "once".into(),
            payload: vec![1],
        };
        Job { parent: Some(Box::new(parent)), ..job_from(id, &parameterized) }
    };
    let first = region.eval(&key("batch/dispatch-1"));
    region.apply(register(child("batch/dispatch-1"), Some(first)));
    let repeated =
        region.try_apply(register(child("batch/dispatch-2"), None)).expect_err("the token is used");
    assert_eq!(repeated, Refusal::DispatchRepeated { child: key("batch/dispatch-1") });
    assert_eq!(region.state().summary(&key("batch")).expect("every job has one").children, (1, 0, 0));
    region.place(&key("batch/dispatch-1"), region.node_id(0), 1);
    assert_eq!(region.state().summary(&key("batch")).expect("every job has one").children, (0, 1, 0));
    region.apply(deregister("batch/dispatch-1", true));
    assert_eq!(region.state().summary(&key("batch")).expect("every job has one").children, (0, 0, 0));
}

#[test]
fn a_success_ends_the_blocked_evaluations_of_its_job() {
    let mut region = Region::with_nodes(1);
    region.register(job("web", 1));
    let blocked = Evaluation {
        status: EvalStatus::Blocked,
        queued: [("web".into(), 3)].into(),
        ..region.eval(&key("web"))
    };
    region.apply(Command::UpsertEvals { evals: vec![blocked.clone()] });
    assert_eq!(region.state().summary(&key("web")).expect("every job has one").groups["web"].queued, 3);
    let done = Evaluation {
        status: EvalStatus::Complete,
        queued: [("web".into(), 0)].into(),
        ..region.eval(&key("web"))
    };
    region.apply(Command::UpsertEvals { evals: vec![done.clone()] });
    let row = region.state().eval(blocked.id).expect("it is there");
    assert_eq!(row.status, EvalStatus::Canceled);
    assert_eq!(row.status_description, format!("evaluation \"{}\" successful", done.id));
    assert_eq!(region.state().summary(&key("web")).expect("every job has one").groups["web"].queued, 0);
}

#[test]
fn namespaces_and_pools_in_use_stay() {
    let mut region = Region::with_nodes(1);
    let team = Namespace { name: "team".into(), ..Namespace::default() };
    region.apply(Command::UpsertNamespaces { namespaces: vec![Named(team)] });
    let inside = Job { key: JobKey::new("team", "web"), ..job("web", 1) };
    region.apply(register(inside, None));
    let delete = |name: &str| Command::DeleteNamespaces { names: vec![name.into()] };
    assert!(matches!(region.try_apply(delete("team")), Err(Refusal::NamespaceInUse { .. })));
    assert_eq!(
        region.try_apply(delete("default")).expect_err("built in").to_string(),
        "can not delete default namespace"
    );
    assert_eq!(region.try_apply(delete("nope")).expect_err("missing").to_string(), "namespace not found");
    let pool = |name: &str| Command::DeleteNodePools { names: vec![name.into()] };
    assert_eq!(
        region.try_apply(pool("all")).expect_err("built in").to_string(),
        "deleting node pool \"all\" is not allowed"
    );
    assert_eq!(region.try_apply(pool("nope")).expect_err("missing").to_string(), "node pool nope not found");
    let outside = Job { key: JobKey::new("nowhere", "web"), ..job("web", 1) };
    assert!(matches!(region.try_apply(register(outside, None)), Err(Refusal::NoSuchNamespace { .. })));
}

#[test]
fn the_scheduler_settings_are_set_by_check_and_set() {
    let mut region = Region::default();
    let set = |cas| Command::SetSchedulerConfig {
        config: Named(SchedulerConfig { preempt_service: true, ..SchedulerConfig::default() }),
        cas,
    };
    assert!(matches!(region.try_apply(set(Some(7))), Err(Refusal::SchedulerConfigChanged { found: 0, .. })));
    region.apply(set(Some(0)));
    assert!(region.state().scheduler_config().preempt_service);
    assert_eq!(region.state().scheduler_config().modify_index, 2);
}

#[test]
fn rows_are_listed_by_create_index_and_id() {
    let mut region = Region::with_nodes(2);
    region.register(job("web", 1));
    region.place(&key("web"), region.node_id(0), 5);
    region.place(&key("web"), region.node_id(1), 5);
    let listed: Vec<_> = region.state().allocs().map(|alloc| (alloc.create_index, alloc.id)).collect();
    assert!(listed.is_sorted());
    let (index, id) = listed[6];
    let table = region.state().alloc_table();
    let from: Vec<_> = table.iter_from(index, id).map(|alloc| (alloc.create_index, alloc.id)).collect();
    assert_eq!(from, listed[6..]);
    let back: Vec<_> = table.iter_back_from(index, id).map(|alloc| (alloc.create_index, alloc.id)).collect();
    assert_eq!(back, listed[..=6].iter().rev().copied().collect::<Vec<_>>());
    let gone = AllocId::from_random(listed[6].1.0.as_u128() - 1);
    let from: Vec<_> = table.iter_from(index, gone).map(|alloc| (alloc.create_index, alloc.id)).collect();
    assert_eq!(from, listed[6..]);
    let prefix = id.to_string()[..9].parse().expect("an id begins like itself");
    assert_eq!(table.iter_by_prefix(&prefix).map(|alloc| alloc.id).collect::<Vec<_>>(), [id]);
}

#[test]
fn an_older_snapshot_does_not_see_what_came_later() {
    let mut region = Region::with_nodes(1);
    let before = region.store.snapshot();
    region.register(job("web", 1));
    assert!(before.job(&key("web")).is_none());
    assert_eq!((before.index(), region.store.snapshot().index()), (1, 2));
    assert_eq!(region.state().table_index(Table::Jobs), 2);
    assert_eq!(region.state().table_index(Table::Nodes), 1);
}

#[test]
fn what_is_needed_is_not_collected() {
    let mut region = Region::with_nodes(1);
    region.register(job("web", 1));
    region.place(&key("web"), region.node_id(0), 1);
    let everything = |region: &Region| Command::Collect {
        evals: region.state().evals().map(|eval| eval.id).collect(),
        allocs: region.state().allocs().map(|alloc| alloc.id).collect(),
        jobs: vec![key("web")],
        deployments: vec![],
        nodes: vec![region.node_id(0)],
    };
    region.apply(everything(&region));
    assert_eq!(
        (region.state().allocs().count(), region.state().job_count(), region.state().node_count()),
        (1, 1, 1)
    );
    assert_eq!(region.state().evals().count(), 1, "the open one");
}

fn tag(id: &str, version: Option<u64>, name: &str, description: Option<&str>) -> Command {
    Command::TagJobVersion {
        key: key(id),
        version,
        name: name.into(),
        description: description.map(str::to_owned),
        now: now(),
    }
}

fn deregister(id: &str, purge: bool) -> Command {
    Command::DeregisterJob { key: key(id), purge, no_shutdown_delay: false, eval: None, now: now() }
}

fn deployment_status(id: DeploymentId, status: DeploymentStatus) -> Command {
    let update = DeploymentUpdate { id, status, description: "for a test".into() };
    Command::UpdateDeployment { update, job: None, eval: None, now: now() }
}

/// A job with a deployment that placed one canary.
fn with_canary() -> (Region, DeploymentId) {
    let mut region = Region::with_nodes(1);
    region.register(job_from("web", &document("web", 1, true)));
    let mut plan = region.plan(&key("web"), region.node_id(0), 1, None);
    let id = DeploymentId::from_random(region.next_id());
    plan.deployment = Some(region.deployment(&key("web"), id));
    plan.placements[0].links = Some(Box::new(protocol::PlacementLinks {
        deployment: Some(id),
        canary: true,
        ..protocol::PlacementLinks::default()
    }));
    region.apply(apply_plan(plan));
    (region, id)
}
