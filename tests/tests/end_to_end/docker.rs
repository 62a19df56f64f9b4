//! Tasks as containers, on the engine that `WAYFARER_TEST_DOCKER` names.

use serde_json::json;
use tests::{Agent, Kind, agent::text, http, job, machine, wait};

/// An agent that uses the engine of the tests.
fn start(kind: Kind, engine: &str) -> Agent {
    let config = format!(
        "plugin \"docker\" {{\n  config {{\n    endpoint = \"{engine}\"\n    volumes {{\n      enabled = true\n    }}\n  }}\n}}\n"
    );
    let agent = Agent::start_with(kind, &config);
    wait::until("the engine is found", || {
        let id = agent.get("/v1/nodes")[0]["ID"].clone();
        let node = agent.get(&format!("/v1/node/{}", text(&id)));
        (node["Drivers"]["docker"]["Healthy"] == true).then_some(())
    });
    agent
}

/// A service of one container that runs a line of shell.
fn container(id: &str, script: &str) -> serde_json::Value {
    let config = json!({ "image": "busybox:local", "command": "/bin/sh", "args": ["-c", script] });
    job::of(id, "service", &job::task("t", "docker", config))
}

#[test]
fn a_web_server_in_a_container_answers_on_its_port() {
    let Some(engine) = machine::engine() else { return machine::lacks("WAYFARER_TEST_DOCKER") };
    let agent = start(Kind::Dev, &engine);
    let mut web = container("web", "echo page > /local/index.html; exec httpd -f -p 8080 -h /local");
    web["TaskGroups"][0]["Tasks"][0]["Config"]["ports"] = json!(["http"]);
    web["TaskGroups"][0]["Networks"] = json!([{ "DynamicPorts": [{ "Label": "http", "To": 8080 }] }]);
    web["TaskGroups"][0]["Count"] = json!(3);
    agent.register(&web);
    for alloc in agent.wait_for_all("web", "running", 3) {
        let port = &alloc["AllocatedResources"]["Shared"]["Ports"][0];
        let addr = format!("{}:{}", text(&port["HostIP"]), port["Value"]).parse().expect("an address");
        let page = wait::until("the port answers", || http::request(addr, "GET", "/", None).ok());
        assert_eq!((page.status, page.body.as_str()), (200, "page\n"));
    }
}

#[test]
fn a_container_lives_through_a_kill_of_the_agent() {
    let Some(engine) = machine::engine() else { return machine::lacks("WAYFARER_TEST_DOCKER") };
    let mut agent = start(Kind::Lasting, &engine);
    agent.register(&container("count", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.1; done"));
    let before = agent.wait_for("count", "running");
    wait::until("it counts", || agent.output_of(&before, "t").contains("\n5\n").then_some(()));
    agent.kill();
    agent.revive();
    let after = agent.wait_for("count", "running");
    assert_eq!((&after["ID"], &after["TaskStates"]["t"]["Restarts"]), (&before["ID"], &json!(0)));
    let seen = agent.output_of(&after, "t").lines().count();
    let out = wait::until("it goes on", || {
        let out = agent.output_of(&after, "t");
        (out.lines().count() > seen + 5).then_some(out)
    });
    let numbers: Vec<usize> = out.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] < pair[1]),
        "the container was not started again: {numbers:?}"
    );
    assert_eq!(agent.ask("DELETE", "/v1/job/count", None).status, 200);
    assert_eq!(agent.wait_for("count", "complete")["ID"], before["ID"]);
}

#[test]
fn commands_signals_and_exit_codes_pass_through_a_container() {
    let Some(engine) = machine::engine() else { return machine::lacks("WAYFARER_TEST_DOCKER") };
    let agent = start(Kind::Dev, &engine);
    agent.register(&container("web", "trap 'echo got it' USR1; while true; do sleep 0.1; done"));
    let alloc = agent.wait_for("web", "running");
    let id = text(&alloc["ID"]);
    let exec =
        agent.command(&["alloc", "exec", "-i=false", "-t=false", id, "/bin/sh", "-c", "echo in; exit 4"]);
    assert_eq!((exec.code, exec.out.as_str()), (4, "in\n"), "{}", exec.err);
    agent.command(&["alloc", "signal", "-s", "SIGUSR1", id]).worked();
    wait::until("the signal arrived", || agent.output_of(&alloc, "t").contains("got it").then_some(()));
}

#[test]
fn an_image_that_is_not_there_is_named() {
    let Some(engine) = machine::engine() else { return machine::lacks("WAYFARER_TEST_DOCKER") };
    let agent = start(Kind::Dev, &engine);
    let mut job = container("web", "true");
    job["Type"] = json!("batch");
    job["TaskGroups"][0]["Tasks"][0]["Config"]["image"] = json!("nowhere.invalid/none:1");
    job["TaskGroups"][0]["RestartPolicy"] = json!({ "Attempts": 0, "Mode": "fail" });
    job["TaskGroups"][0]["ReschedulePolicy"] = json!({ "Attempts": 0, "Unlimited": false });
    agent.register(&job);
    let alloc = agent.wait_for("web", "failed");
    let events = alloc["TaskStates"]["t"]["Events"].to_string();
    assert!(events.contains("nowhere.invalid/none:1"), "{events}");
}
