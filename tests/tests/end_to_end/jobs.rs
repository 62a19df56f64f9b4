//! The life of a job: it runs, writes, ends, fails and is started again, waits for room, and stops.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Agent, Kind, agent::text, http, job, machine, process, wait};

/// A client that holds exactly this much, whatever the machine has.
const SMALL_CLIENT: &str = "client {\n  memory_total_mb = 512\n  cpu_total_compute = 2000\n}\n";

#[test]
fn a_service_runs_and_its_output_can_be_read() {
    let agent = Agent::start(Kind::Dev);
    agent.register(&job::service("web", "echo from the task; echo aside >&2; exec sleep 600"));
    let alloc = agent.wait_for("web", "running");
    let out = wait::until("the task's output is there", || {
        let out = agent.output_of(&alloc, "t");
        (!out.is_empty()).then_some(out)
    });
    assert_eq!(out, "from the task\n");
    assert_eq!(alloc["Name"], "web.g[0]");
    assert_eq!(types_of(&alloc), ["Received", "Task Setup", "Started"]);
}

#[test]
fn a_port_that_the_scheduler_picked_answers() {
    let Some(busybox) = machine::busybox() else { return machine::lacks("busybox") };
    let agent = Agent::start(Kind::Dev);
    let script = "echo page > local/index.html; exec \"$0\" httpd -f -p \"$NOMAD_ADDR_http\" -h local";
    let task = job::task("t", "raw_exec", json!({ "command": "/bin/sh", "args": ["-c", script, busybox] }));
    let mut web = job::of("web", "service", &task);
    web["TaskGroups"][0]["Networks"] = json!([{ "DynamicPorts": [{ "Label": "http" }] }]);
    web["TaskGroups"][0]["Count"] = json!(2);
    agent.register(&web);
    let allocs = agent.wait_for_all("web", "running", 2);
    let mut ports: Vec<u16> = allocs.iter().map(port_of).collect();
    for port in &ports {
        let page = wait::until("the port answers", || {
            http::request(([127, 0, 0, 1], *port).into(), "GET", "/", None).ok()
        });
        assert_eq!((page.status, page.body.as_str()), (200, "page\n"));
    }
    ports.dedup();
    assert_eq!(ports.len(), 2, "no port has two owners");
}

#[test]
fn work_ends_once_it_is_done() {
    let agent = Agent::start(Kind::Dev);
    agent.register(&job::batch("fine", "echo done"));
    agent.register(&job::batch("sad", "exit 3"));
    let fine = agent.wait_for("fine", "complete");
    assert_eq!(fine["TaskStates"]["t"]["Failed"], false);
    let sad = agent.wait_for("sad", "failed");
    assert_eq!(exit_code_of(&sad), 3);
    wait::until("both jobs are over", || {
        let is_dead = |id: &str| agent.get(&format!("/v1/job/{id}"))["Status"] == "dead";
        (is_dead("fine") && is_dead("sad")).then_some(())
    });
    assert_eq!(agent.get("/v1/job/fine/summary")["Summary"]["g"]["Complete"], 1);
    assert_eq!(agent.get("/v1/job/sad/summary")["Summary"]["g"]["Failed"], 1);
}

#[test]
fn a_killed_task_is_started_again_by_its_policy() {
    let agent = Agent::start(Kind::Dev);
    let mut web = job::service("web", "echo $$; exec sleep 600");
    web["TaskGroups"][0]["RestartPolicy"] =
        json!({ "Attempts": 1, "Delay": 100_000_000, "Interval": 600_000_000_000_u64, "Mode": "fail" });
    web["TaskGroups"][0]["ReschedulePolicy"] = json!({ "Attempts": 0, "Unlimited": false });
    agent.register(&web);
    let alloc = agent.wait_for("web", "running");
    let first = pids_of(&agent, &alloc, 1)[0];
    process::kill_now(first);
    let second = pids_of(&agent, &alloc, 2)[1];
    assert_ne!(first, second);
    wait::until("the restart is told", || {
        let alloc = agent.wait_for("web", "running");
        (alloc["TaskStates"]["t"]["Restarts"] == 1).then_some(())
    });
    let alloc = agent.wait_for("web", "running");
    assert_eq!(
        types_of(&alloc),
        ["Received", "Task Setup", "Started", "Terminated", "Restarting", "Started"]
    );

    process::kill_now(second);
    let alloc = agent.wait_for("web", "failed");
    // That its allocation is unhealthy may follow.
    let types = types_of(&alloc);
    assert!(types.iter().any(|kind| kind == "Not Restarting"), "the policy allows one restart: {types:?}");
}

#[test]
fn a_task_that_ignores_its_signal_is_killed_in_time() {
    let agent = Agent::start(Kind::Dev);
    let mut deaf = job::service("deaf", "trap '' INT TERM; echo $$; while true; do sleep 1; done");
    deaf["TaskGroups"][0]["Tasks"][0]["KillTimeout"] = json!(1_000_000_000);
    agent.register(&deaf);
    let alloc = agent.wait_for("deaf", "running");
    let pid = pids_of(&agent, &alloc, 1)[0];
    let (_, took) = wait::timed(|| {
        assert_eq!(agent.ask("DELETE", "/v1/job/deaf", None).status, 200);
        agent.wait_for("deaf", "complete")
    });
    assert!(took >= Duration::from_millis(900), "it had its second: {took:?}");
    assert!(!process::is_alive(pid));
}

#[test]
fn a_job_without_room_waits_and_runs_when_there_is_some() {
    let agent = Agent::start_with(Kind::Dev, SMALL_CLIENT);
    let big = |id: &str| {
        let mut job = job::pretended(id, 1);
        job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = json!(400);
        job
    };
    agent.register(&big("first"));
    assert_eq!(agent.wait_for("first", "running")["ClientStatus"], "running");
    let second = agent.register(&big("second"));
    let eval = wait::until("the evaluation is over", || {
        let eval = agent.get(&format!("/v1/evaluation/{}", text(&second["EvalID"])));
        (eval["Status"] == "complete").then_some(eval)
    });
    let why = &eval["FailedTGAllocs"]["g"];
    assert_eq!(why["DimensionExhausted"]["memory"], 1, "{why}");
    assert!(agent.allocations("second").is_empty());
    let blocked = agent.get(&format!("/v1/evaluation/{}", text(&eval["BlockedEval"])));
    assert_eq!(blocked["Status"], "blocked");

    assert_eq!(agent.ask("DELETE", "/v1/job/first", None).status, 200);
    assert_eq!(agent.wait_for("second", "running")["JobID"], "second");
}

#[test]
fn a_constraint_that_no_node_meets_is_named() {
    let agent = Agent::start(Kind::Dev);
    let mut odd = job::service("odd", "exec sleep 600");
    odd["Constraints"] = json!([{ "LTarget": "${attr.kernel.name}", "RTarget": "plan9", "Operand": "=" }]);
    let answer = agent.register(&odd);
    let eval = wait::until("the evaluation is over", || {
        let eval = agent.get(&format!("/v1/evaluation/{}", text(&answer["EvalID"])));
        (eval["Status"] == "complete").then_some(eval)
    });
    let filtered = &eval["FailedTGAllocs"]["g"]["ConstraintFiltered"];
    assert_eq!(filtered["${attr.kernel.name} = plan9"], 1, "{eval}");
}

#[test]
fn a_prestart_task_ends_before_the_others_begin() {
    let agent = Agent::start(Kind::Dev);
    let sh = |name: &str, script: &str| {
        job::task(name, "raw_exec", json!({ "command": "/bin/sh", "args": ["-c", script] }))
    };
    let mut before = sh("before", "sleep 0.5; echo ready > \"$NOMAD_ALLOC_DIR/mark\"");
    before["Lifecycle"] = json!({ "Hook": "prestart", "Sidecar": false });
    let mut pair = job::of("pair", "service", &before);
    let main = sh("main", "cat \"$NOMAD_ALLOC_DIR/mark\"; exec sleep 600");
    pair["TaskGroups"][0]["Tasks"].as_array_mut().expect("a list").push(main);
    agent.register(&pair);
    let alloc = wait::until("both tasks are where they should be", || {
        let alloc = agent.allocations("pair").pop()?;
        let state = |task: &str| alloc["TaskStates"][task]["State"].clone();
        (state("before") == "dead" && state("main") == "running").then_some(alloc)
    });
    assert_eq!(alloc["TaskStates"]["before"]["Failed"], false);
    let out = wait::until("the main task has read the mark", || {
        let out = agent.output_of(&alloc, "main");
        (!out.is_empty()).then_some(out)
    });
    assert_eq!(out, "ready\n");
}

#[test]
fn a_stopped_job_leaves_no_process_and_a_purged_one_no_record() {
    let agent = Agent::start(Kind::Dev);
    agent.register(&job::service("web", "echo $$; sleep 601 & echo $!; exec sleep 600"));
    let alloc = agent.wait_for("web", "running");
    let pids = pids_of(&agent, &alloc, 2);
    assert_eq!(agent.ask("DELETE", "/v1/job/web", None).status, 200);
    assert_eq!(agent.wait_for("web", "complete")["DesiredStatus"], "stop");
    assert!(pids.iter().all(|pid| !process::is_alive(*pid)), "children of a task end with it");
    let stopped = agent.get("/v1/job/web");
    assert_eq!((&stopped["Stop"], &stopped["Status"]), (&json!(true), &json!("dead")));

    assert_eq!(agent.ask("DELETE", "/v1/job/web?purge=true", None).status, 200);
    wait::until("the job is gone", || (agent.ask("GET", "/v1/job/web", None).status == 404).then_some(()));
}

#[test]
fn a_changed_job_replaces_its_allocation_and_a_changed_count_does_not() {
    let agent = Agent::start(Kind::Dev);
    let mut web = job::pretended("web", 2);
    agent.register(&web);
    let before = agent.wait_for_all("web", "running", 2);
    web["TaskGroups"][0]["Count"] = json!(3);
    agent.register(&web);
    let more = agent.wait_for_all("web", "running", 3);
    for alloc in &before {
        assert!(more.iter().any(|other| other["ID"] == alloc["ID"]), "those that ran go on");
    }
    web["TaskGroups"][0]["Tasks"][0]["Env"] = json!({ "VERSION": "2" });
    agent.register(&web);
    wait::until("all are of the third version", || {
        let allocs = agent.allocations("web");
        let running: Vec<_> = allocs.iter().filter(|alloc| alloc["ClientStatus"] == "running").collect();
        (running.len() == 3 && running.iter().all(|alloc| alloc["Job"]["Version"] == 2)).then_some(())
    });
    let versions = agent.get("/v1/job/web/versions");
    assert_eq!(versions["Versions"].as_array().map(Vec::len), Some(3));
}

#[test]
fn ten_thousand_pretended_tasks_would_not_each_need_a_process() {
    let agent = Agent::start_with(
        Kind::Dev,
        "client {\n  cpu_total_compute = 100000\n  memory_total_mb = 100000\n}\n",
    );
    agent.register(&job::pretended("many", 500));
    wait::until("all run", || {
        (agent.get("/v1/job/many/summary")["Summary"]["g"]["Running"] == 500).then_some(())
    });
    let processes = process::of_directory(agent.path());
    assert_eq!(processes, [agent.pid()], "a pretended task is no process");
}

/// The types of a task's events, in order.
fn types_of(alloc: &Value) -> Vec<String> {
    let events = alloc["TaskStates"]["t"]["Events"].as_array().expect("a task has events");
    events.iter().map(|event| text(&event["Type"]).to_owned()).collect()
}

fn exit_code_of(alloc: &Value) -> i64 {
    let events = alloc["TaskStates"]["t"]["Events"].as_array().expect("a task has events");
    let ended = events.iter().rfind(|event| event["Type"] == "Terminated").expect("the task has ended");
    ended["ExitCode"].as_i64().expect("a number")
}

fn port_of(alloc: &Value) -> u16 {
    let port =
        alloc["AllocatedResources"]["Shared"]["Ports"][0]["Value"].as_u64().expect("the group has a port");
    u16::try_from(port).expect("a port")
}

/// The process ids that the task `t` printed, once there are `count`.
fn pids_of(agent: &Agent, alloc: &Value, count: usize) -> Vec<u32> {
    wait::until("the task printed its pid", || {
        let out = agent.output_of(alloc, "t");
        let pids: Vec<u32> = out.lines().filter_map(|line| line.parse().ok()).collect();
        (pids.len() >= count).then_some(pids)
    })
}
