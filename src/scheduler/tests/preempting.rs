//! Who makes room for more important jobs, and what becomes of it.

mod fixture;

use std::{collections::BTreeSet, sync::Arc};

use fixture::*;
use model::*;
use protocol::{Command, Named};
use serde_json::{Value, json};

/// A region whose schedulers of every kind may preempt.
fn preempting(nodes: usize) -> Region {
    let mut region = Region::nodes(nodes);
    allow(&mut region, |_| {});
    region
}

fn allow(region: &mut Region, change: impl FnOnce(&mut SchedulerConfig)) {
    let mut config = SchedulerConfig {
        preempt_service: true,
        preempt_batch: true,
        preempt_system: true,
        preempt_sysbatch: true,
        ..SchedulerConfig::default()
    };
    change(&mut config);
    region.apply(&Command::SetSchedulerConfig { config: Named(config), cas: None });
}

fn job(id: &str, kind: &str, count: u32, priority: u32, memory: u32) -> Value {
    document(id, kind, count, |job| {
        job["Priority"] = json!(priority);
        memory_of(job, memory);
    })
}

fn memory_of(job: &mut Value, memory: u32) {
    job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = json!(memory);
}

fn evicted(region: &Region, id: &str) -> Vec<Arc<Allocation>> {
    region.allocs(id).into_iter().filter(|alloc| alloc.desired == DesiredStatus::Evict).collect()
}

/// Makes the plan of a registered job's evaluation and commits it, without any client or other evaluation.
fn place(region: &mut Region, id: &str) -> protocol::Plan {
    let eval = region.eval(id, EvalTrigger::JobRegister);
    let plan = region.plan(&eval);
    region.commit(vec![plan.clone()]);
    plan
}

#[test]
fn a_more_important_job_takes_the_room_of_a_less_important_one() {
    let mut region = preempting(1);
    region.register(&job("low", "service", 3, 20, 1300));
    region.settle();
    region.register(&job("high", "service", 1, 70, 1300));
    region.schedule();
    let high = region.live("high")[0].clone();
    let gone = evicted(&region, "low");
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].desired_description, format!("Preempted by alloc ID {}", high.id));
    assert_eq!(gone[0].extra().preempted_by, Some(high.id));
    assert_eq!(high.extra().preempted, [gone[0].id]);
    let snapshot = region.snapshot();
    let eval = snapshot.evals_by_job(&key("low")).find(|eval| eval.trigger == EvalTrigger::Preemption);
    assert_eq!(eval.expect("the loser is looked at again").priority, 20, "with its own priority");
    let waiting = snapshot.evals_by_job(&key("low")).find(|eval| eval.status == EvalStatus::Blocked);
    assert_eq!(
        waiting.expect("the loser waits for room").failed_groups["g"].dimension_exhausted["memory"],
        1
    );
    let by = snapshot.eval(high.eval_id).expect("kept").clone();
    assert_eq!(by.annotations.as_ref().expect("told").groups["g"].preemptions, 1);
    let scores = &high.metrics.as_ref().expect("explained").scores[0].parts;
    let score = scores.iter().find(|(name, _)| name == "preemption").expect("the part is shown").1;
    assert!(score > 0.99, "{score}");
    region.settle();
    assert_eq!(region.live("high")[0].client_status, ClientStatus::Running);
    assert_eq!(region.live("low").len(), 2);
}

#[test]
fn the_room_counts_twice_until_it_is_given_up() {
    let mut region = preempting(1);
    region.register(&job("low", "service", 1, 20, 3000));
    region.settle();
    region.register(&job("high", "service", 1, 70, 2000));
    place(&mut region, "high");
    // The low one still runs: 3000 are held, and the 1000 beside them are all that is free.
    region.register(&job("small", "batch", 2, 50, 800));
    place(&mut region, "small");
    assert_eq!(region.live("small").len(), 1);
    let mut steps = 0;
    while region.live("high")[0].client_status == ClientStatus::Pending {
        let low = region.allocs("low")[0].clone();
        region.clients();
        steps += 1;
        assert!(steps < 5, "it never starts");
        if low.occupies() {
            assert_eq!(region.live("high")[0].client_status, ClientStatus::Pending, "it starts only then");
        }
    }
    region.settle();
    assert_eq!(region.live("small").len(), 2);
}

#[test]
fn only_jobs_ten_less_important_give_way_and_only_where_it_is_allowed() {
    let mut region = preempting(1);
    region.register(&job("low", "service", 1, 41, 3000));
    region.settle();
    region.register(&job("high", "service", 1, 50, 3000));
    region.schedule();
    assert!(region.live("high").is_empty());
    region.register(&job("higher", "service", 1, 51, 3000));
    region.schedule();
    assert_eq!(region.live("higher").len(), 1);

    for (kind, switch) in [
        ("service", (|config| config.preempt_service = false) as fn(&mut SchedulerConfig)),
        ("batch", |config| config.preempt_batch = false),
        ("system", |config| config.preempt_system = false),
        ("sysbatch", |config| config.preempt_sysbatch = false),
    ] {
        let mut region = preempting(1);
        region.register(&job("low", "service", 1, 1, 3000));
        region.settle();
        allow(&mut region, switch);
        region.register(&job("high", kind, 1, 100, 3000));
        region.schedule();
        assert!(region.live("high").is_empty(), "{kind} may not");
        allow(&mut region, |_| {});
        region.enqueue("high", EvalTrigger::NodeUpdate);
        region.schedule();
        assert_eq!(region.live("high").len(), 1, "{kind} may");
    }
}

#[test]
fn system_jobs_preempt_unless_told_otherwise() {
    let mut region = Region::nodes(2);
    region.register(&job("low", "service", 2, 50, 3000));
    region.settle();
    region.register(&job("agent", "system", 1, 100, 3000));
    region.schedule();
    assert_eq!((region.live("agent").len(), evicted(&region, "low").len()), (2, 2));
    region.settle();
    assert!(region.live("agent").iter().all(|alloc| alloc.client_status == ClientStatus::Running));
    assert!(region.live("low").is_empty());
    region.register(&job("web", "service", 1, 100, 3000));
    region.schedule();
    assert!(region.live("web").is_empty(), "service jobs do not by default");
}

#[test]
fn the_least_important_give_way_first_and_the_nearest_in_size_among_them() {
    let mut region = preempting(1);
    region.register(&job("twenty", "service", 1, 20, 900));
    region.register(&job("ten-small", "service", 1, 10, 300));
    region.register(&job("ten-near", "service", 1, 10, 1000));
    region.register(&job("ten-large", "service", 1, 10, 1700));
    region.settle();
    region.register(&job("high", "service", 1, 70, 1050));
    place(&mut region, "high");
    assert_eq!(evicted(&region, "ten-near").len(), 1);
    for spared in ["twenty", "ten-small", "ten-large"] {
        assert!(evicted(&region, spared).is_empty(), "{spared} stays");
    }
    // Nearly all of the node: the least important do not suffice, and the twenty gives way too.
    region.settle();
    region.register(&job("huge", "service", 1, 60, 2900));
    place(&mut region, "huge");
    assert_eq!(evicted(&region, "twenty").len(), 1);
    assert!(evicted(&region, "high").is_empty());
}

#[test]
fn nobody_gives_way_needlessly() {
    let mut region = preempting(1);
    for at in 0..6 {
        region.register(&job(&format!("small{at}"), "service", 1, 10, 200));
    }
    region.register(&job("large", "service", 1, 20, 2700));
    region.settle();
    region.register(&job("high", "service", 1, 70, 2500));
    place(&mut region, "high");
    assert_eq!(evicted(&region, "large").len(), 1);
    let small: usize = (0..6).map(|at| evicted(&region, &format!("small{at}")).len()).sum();
    assert_eq!(small, 0, "the large one is enough");
}

#[test]
fn a_group_that_gave_way_as_often_as_it_may_move_is_spared() {
    let mut region = preempting(1);
    for id in ["web", "api"] {
        region.register(&document(id, "service", 2, |job| {
            job["Priority"] = json!(20);
            job["TaskGroups"][0]["Migrate"] = json!({"MaxParallel": 1, "HealthCheck": "task_states"});
            memory_of(job, 990);
        }));
    }
    region.settle();
    region.register(&job("high", "service", 2, 70, 990));
    place(&mut region, "high");
    assert_eq!((evicted(&region, "web").len(), evicted(&region, "api").len()), (1, 1));
}

#[test]
fn ports_cores_and_devices_are_made_room_for() {
    let gpu = NodeDevice {
        vendor: "acme".into(),
        kind: "gpu".into(),
        name: "one".into(),
        instances: vec![("g0".into(), true), ("g1".into(), true)],
        ..NodeDevice::default()
    };
    let mut only = node(0, 1);
    only.resources.devices.push(gpu);
    type Ask = fn(&mut Value);
    let asks: [(&str, Ask); 3] = [
        ("port", |group| group["Networks"] = json!([{"ReservedPorts": [{"Label": "http", "Value": 8080}]}])),
        ("cores", |group| group["Tasks"][0]["Resources"]["Cores"] = json!(3)),
        ("gpu", |group| group["Tasks"][0]["Resources"]["Devices"] = json!([{"Name": "gpu", "Count": 2}])),
    ];
    for (what, ask) in asks {
        let mut region = Region::of([only.clone()]);
        allow(&mut region, |_| {});
        let with = |id: &str, priority: u32| {
            document(id, "service", 1, |job| {
                job["Priority"] = json!(priority);
                ask(&mut job["TaskGroups"][0]);
            })
        };
        region.register(&job("other", "service", 1, 1, 100));
        region.register(&with("low", 20));
        region.settle();
        region.register(&with("high", 70));
        place(&mut region, "high");
        assert_eq!(region.live("high").len(), 1, "{what}");
        assert_eq!((evicted(&region, "low").len(), evicted(&region, "other").len()), (1, 0), "{what}");
        region.register(&with("same", 75));
        place(&mut region, "same");
        assert!(region.live("same").is_empty(), "{what}: ten more are needed");
    }
}

#[test]
fn a_node_that_is_full_of_allocations_makes_room_for_one() {
    let mut region = Region::of([Node { max_allocs: 2, ..node(0, 1) }]);
    allow(&mut region, |_| {});
    region.register(&job("low", "service", 2, 20, 100));
    region.settle();
    region.register(&job("high", "service", 1, 70, 100));
    place(&mut region, "high");
    assert_eq!((region.live("high").len(), evicted(&region, "low").len()), (1, 1));
}

#[test]
fn the_cheapest_node_is_taken() {
    let mut region = preempting(2);
    let on = |id: &str, priority: u32, host: &str| {
        document(id, "service", 1, |job| {
            job["Priority"] = json!(priority);
            job["Constraints"] =
                json!([{"LTarget": "${attr.unique.hostname}", "Operand": "=", "RTarget": host}]);
            memory_of(job, 3500);
        })
    };
    region.register(&on("fifty", 50, "c1"));
    region.register(&on("five", 5, "c2"));
    region.settle();
    region.register(&job("high", "service", 1, 70, 3500));
    place(&mut region, "high");
    assert_eq!((evicted(&region, "five").len(), evicted(&region, "fifty").len()), (1, 0));
}

#[test]
fn what_makes_room_already_is_not_asked_again() {
    let mut region = preempting(1);
    region.register(&job("low", "service", 1, 20, 3900));
    region.settle();
    region.register(&job("first", "service", 1, 70, 3900));
    region.register(&job("second", "service", 1, 70, 3900));
    region.register(&document("low", "service", 1, |job| {
        job["Priority"] = json!(20);
        job["TaskGroups"][0]["Tasks"][0]["Env"] = json!({"V": "1"});
        memory_of(job, 3900);
    }));
    // All three are planned before any of it is committed.
    let plans: Vec<_> = ["first", "second", "low"]
        .map(|id| {
            let eval = region.eval(id, EvalTrigger::JobRegister);
            region.plan(&eval)
        })
        .into();
    assert_eq!(plans.iter().map(|plan| plan.placements.len()).collect::<Vec<_>>(), [1, 0, 0]);
    region.commit(plans);
    // Who waits for the room itself has none to give.
    region.register(&job("third", "service", 1, 90, 3900));
    place(&mut region, "third");
    assert!(region.live("third").is_empty());
    region.settle();
    assert_eq!(region.live("third").len(), 1);
}

#[test]
fn a_preempted_batch_job_runs_again() {
    let mut region = preempting(1);
    region.register(&job("low", "batch", 1, 20, 3000));
    region.settle();
    region.register(&job("high", "service", 1, 70, 3000));
    region.settle();
    assert!(region.live("low").is_empty());
    region.stop("high", false);
    region.settle();
    assert_eq!(region.live("low").len(), 1, "it takes the room back");
    let eval = region.eval("low", EvalTrigger::NodeUpdate);
    assert!(region.plan(&eval).is_quiet());
}

#[test]
fn an_update_that_grows_preempts_beside_its_own_room() {
    let mut region = preempting(1);
    region.register(&job("low", "service", 1, 20, 2000));
    region.register(&job("high", "service", 1, 70, 1900));
    region.settle();
    region.register(&job("high", "service", 1, 70, 3500));
    region.settle();
    let live = region.live("high");
    assert_eq!((live.len(), live[0].job.version), (1, 1));
    assert_eq!(live[0].extra().preempted.len(), 1);
    assert!(live[0].extra().previous.is_some());
    assert!(region.live("low").is_empty());
}

#[test]
fn all_or_nothing_preempts_nobody_for_nothing() {
    let mut region = preempting(1);
    region.register(&job("low", "service", 1, 20, 1500));
    region.settle();
    region.register(&document("all", "batch", 3, |job| {
        job["Priority"] = json!(70);
        job["AllAtOnce"] = json!(true);
        memory_of(job, 2000);
    }));
    let plan = place(&mut region, "all");
    assert!(plan.placements.is_empty() && plan.stops.is_empty());
    assert!(plan.new_evals.iter().all(|eval| eval.trigger != EvalTrigger::Preemption));
}

#[test]
fn a_dry_run_says_who_would_make_room() {
    let mut region = preempting(2);
    region.register(&job("low", "service", 2, 20, 3000));
    region.settle();
    let snapshot = region.snapshot();
    let mut number = 0_u64;
    let mut chance = || {
        number += 1;
        number
    };
    let high = job_of(&job("high", "service", 2, 70, 3000));
    let run = scheduler::plan_job(&snapshot, &high, region.now, &mut chance);
    assert_eq!(run.annotations.groups["g"].preemptions, 2);
    let low: BTreeSet<AllocId> = region.live("low").iter().map(|alloc| alloc.id).collect();
    let named: BTreeSet<AllocId> =
        run.plan.stops.iter().filter(|stop| stop.preempted_by.is_some()).map(|stop| stop.id).collect();
    assert_eq!(named, low);
}
