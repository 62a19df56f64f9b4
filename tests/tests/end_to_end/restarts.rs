//! An agent dies in every way and comes back on its data: tasks live, nothing acknowledged is lost.

use std::{sync::mpsc, time::Duration};

use serde_json::{Value, json};
use tests::{Agent, Kind, agent::text, http, job, process, wait};

/// A line every twentieth of a second, numbered, so that a gap or a repetition shows.
const COUNTING: &str = "echo $$; i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done";

#[test]
fn tasks_live_through_a_kill_of_the_agent() {
    let mut agent = Agent::start(Kind::Lasting);
    agent.register(&job::service("count", COUNTING));
    agent.register(&job::pretended("pretend", 3));
    let before = agent.wait_for("count", "running");
    let pretended = ids(&agent.wait_for_all("pretend", "running", 3));
    let pid = pid_of(&agent, &before);
    let index = agent.get("/v1/job/count")["JobModifyIndex"].clone();

    agent.kill();
    assert!(process::is_alive(pid), "the task does not need its agent");
    wait::pass(Duration::from_millis(500));
    agent.revive();

    let after = agent.wait_for("count", "running");
    assert_eq!(after["ID"], before["ID"]);
    assert_eq!(after["TaskStates"]["t"]["Restarts"], 0);
    assert_eq!(ids(&agent.wait_for_all("pretend", "running", 3)), pretended);
    assert!(process::is_alive(pid), "the same process");
    assert_eq!(agent.get("/v1/job/count")["JobModifyIndex"], index);

    let seen = numbers(&agent, &after).len();
    let all = wait::until("the task goes on writing", || {
        let all = numbers(&agent, &after);
        (all.len() > seen + 5).then_some(all)
    });
    let expected: Vec<u64> = (1..=all.len() as u64).collect();
    assert_eq!(all, expected, "no line was lost or written twice");

    assert_eq!(agent.ask("DELETE", "/v1/job/count", None).status, 200);
    assert_eq!(agent.wait_for("count", "complete")["ID"], before["ID"]);
    assert!(!process::is_alive(pid), "the revived agent stops what the killed one started");
}

#[test]
fn the_end_of_a_task_is_told_though_no_agent_saw_it() {
    let mut agent = Agent::start(Kind::Lasting);
    agent.register(&job::batch("brief", "echo $$; while [ ! -e local/go ]; do sleep 0.05; done; exit 7"));
    let alloc = agent.wait_for("brief", "running");
    let pid = pid_of(&agent, &alloc);
    agent.kill();
    let go = format!("/proc/{pid}/cwd/local/go");
    std::fs::write(&go, "").expect("the task's directory can be written");
    wait::until("the task ends", || (!process::is_alive(pid)).then_some(()));
    agent.revive();
    let alloc = agent.wait_for("brief", "failed");
    let events = alloc["TaskStates"]["t"]["Events"].as_array().expect("a list");
    let ended = events.iter().find(|event| event["Type"] == "Terminated").expect("its end is told");
    assert_eq!(ended["ExitCode"], 7);
}

#[test]
fn an_interrupted_agent_leaves_its_tasks_running() {
    let mut agent = Agent::start(Kind::Lasting);
    agent.register(&job::service("count", COUNTING));
    let before = agent.wait_for("count", "running");
    let pid = pid_of(&agent, &before);
    assert_eq!(agent.interrupt(), 0);
    assert!(process::is_alive(pid));
    agent.revive();
    assert_eq!(agent.wait_for("count", "running")["ID"], before["ID"]);
    assert!(process::is_alive(pid));
}

#[test]
fn after_a_power_cut_the_same_jobs_run_again() {
    let mut agent = Agent::start(Kind::Lasting);
    agent.register(&job::service("one", COUNTING));
    agent.register(&job::service("two", COUNTING));
    let before = agent.wait_for("one", "running");
    assert_eq!(agent.wait_for("two", "running")["JobID"], "two");
    let jobs = jobs_of(&agent);
    let index = agent.ask("GET", "/v1/jobs", None).index();
    let pid = pid_of(&agent, &before);

    agent.power_cut();
    assert!(!process::is_alive(pid), "nothing outlives a power cut");
    agent.revive();

    assert_eq!(jobs_of(&agent), jobs, "same jobs, same versions, same indexes");
    assert!(agent.ask("GET", "/v1/jobs", None).index() >= index);
    for job in ["one", "two"] {
        wait::until("the job runs again", || {
            let alloc =
                agent.allocations(job).into_iter().find(|alloc| alloc["ClientStatus"] == "running")?;
            process::is_alive(last_pid_of(&agent, &alloc)?).then_some(())
        });
    }
}

#[test]
fn what_was_acknowledged_is_there_after_any_kill() {
    let mut agent = Agent::start(Kind::Lasting);
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let addr = agent.addr();
        let (sender, answers) = mpsc::channel();
        let writer = wait::beside(move || {
            for number in 0.. {
                let id = format!("job-{round}-{number}");
                let body = json!({ "Job": job::pretended(&id, 1) }).to_string();
                match http::request(addr, "PUT", "/v1/jobs", Some(&body)) {
                    Ok(answer) if answer.status == 200 => {
                        if sender.send((id, answer.json()["JobModifyIndex"].clone())).is_err() {
                            return;
                        }
                    }
                    Ok(_) | Err(_) => return,
                }
            }
        });
        // Each round dies after another number of writes, in the middle of the next one.
        for _ in 0..(5 + 7 * round) {
            acknowledged.push(answers.recv_timeout(wait::PATIENCE).expect("the agent takes jobs"));
        }
        agent.kill();
        acknowledged.extend(answers.try_iter());
        drop(answers);
        writer.join().expect("the writer ends by itself");
        agent.revive();
        let jobs = agent.get("/v1/jobs");
        let jobs = jobs.as_array().expect("a list");
        for (id, index) in &acknowledged {
            let job = jobs.iter().find(|job| job["ID"] == id.as_str());
            let job = job.unwrap_or_else(|| panic!("{id} was acknowledged and is lost after kill {round}"));
            assert_eq!(job["JobModifyIndex"], *index, "{id}");
        }
    }
}

#[test]
fn a_second_agent_on_the_same_data_is_refused() {
    let agent = Agent::start(Kind::Lasting);
    let ended =
        agent.command(&["agent", "-config", agent.path().join("agent.hcl").to_str().expect("a plain name")]);
    assert_ne!(ended.code, 0);
    assert!(!ended.said().contains("panicked"), "{}", ended.said());
    assert_eq!(agent.get("/v1/nodes")[0]["Status"], "ready", "the first one goes on");
}

/// Id, version and index of each job.
fn jobs_of(agent: &Agent) -> Vec<Value> {
    let jobs = agent.get("/v1/jobs");
    let jobs = jobs.as_array().expect("a list").iter();
    jobs.map(|job| json!([job["ID"], job["Version"], job["CreateIndex"], job["JobModifyIndex"]])).collect()
}

fn ids(allocs: &[Value]) -> Vec<String> {
    let mut ids: Vec<String> = allocs.iter().map(|alloc| text(&alloc["ID"]).to_owned()).collect();
    ids.sort();
    ids
}

/// The first line of a counting task is its process id.
fn pid_of(agent: &Agent, alloc: &Value) -> u32 {
    wait::until("the task printed its pid", || agent.output_of(alloc, "t").lines().next()?.parse().ok())
}

/// The process id of the last launch, wherever its output begins: the number before a `1`.
fn last_pid_of(agent: &Agent, alloc: &Value) -> Option<u32> {
    let out = agent.output_of(alloc, "t");
    let lines: Vec<&str> = out.lines().collect();
    let first = lines.iter().rposition(|line| *line == "1")?;
    lines.get(first.checked_sub(1)?)?.parse().ok()
}

/// What a counting task counted, whole lines only.
fn numbers(agent: &Agent, alloc: &Value) -> Vec<u64> {
    let out = agent.output_of(alloc, "t");
    let whole = out.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().skip(1).map(|line| line.parse().expect("a number a line")).collect()
}
