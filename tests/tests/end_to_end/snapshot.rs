//! Copies of the state: out, looked at, and in again.

use serde_json::json;
use tests::{Agent, Kind, job, wait};

#[test]
fn a_copy_brings_back_what_was_purged_and_its_work_goes_on() {
    let agent = Agent::start(Kind::Dev);
    agent.register(&job::pretended("kept", 2));
    assert_eq!(agent.wait_for_all("kept", "running", 2).len(), 2);
    let file = agent.path().join("state.snap").to_str().expect("a plain name").to_owned();
    let said = agent.command(&["operator", "snapshot", "save", &file]).worked();
    assert!(said.contains(&format!("State file written to {file}")), "{said}");
    let shown = agent.command(&["operator", "snapshot", "inspect", &file]).worked();
    assert!(shown.contains("Index") && shown.contains("jobs"), "{shown}");
    let meta: serde_json::Value =
        serde_json::from_str(&agent.command(&["operator", "snapshot", "inspect", "-json", &file]).worked())
            .expect("it is JSON");
    let saved = meta["Index"].as_u64().expect("an index");
    agent.command(&["job", "stop", "-purge", "-detach", "kept"]).worked();
    agent.register(&job::pretended("later", 1));
    assert_eq!(agent.wait_for_all("later", "running", 1).len(), 1);
    let before = agent.ask("GET", "/v1/jobs", None).index();
    let waiter = {
        let addr = agent.addr();
        let path = format!("/v1/jobs?index={before}&wait=30s");
        wait::beside(move || tests::http::request(addr, "GET", &path, None).expect("the agent answers"))
    };
    agent.command(&["operator", "snapshot", "restore", &file]).worked();
    let woken = waiter.join().expect("the waiter ends");
    assert!(woken.index() > before && before > saved, "indexes never fall");
    assert_eq!(agent.ask("GET", "/v1/job/later", None).status, 404);
    assert_eq!(agent.wait_for_all("kept", "running", 2).len(), 2);
    wait::until("the node is ready again", || {
        let nodes = agent.get("/v1/nodes");
        (nodes[0]["Status"] == "ready").then_some(())
    });
    // The region goes on: it takes jobs and places them.
    agent.register(&job::pretended("next", 1));
    assert_eq!(agent.wait_for_all("next", "running", 1).len(), 1);
    assert_eq!(agent.get("/v1/job/kept")["ID"], json!("kept"));
}

#[test]
fn what_is_no_copy_is_refused_and_changes_nothing() {
    let agent = Agent::start(Kind::Dev);
    agent.register(&job::pretended("there", 1));
    assert_eq!(agent.wait_for_all("there", "running", 1).len(), 1);
    let file = agent.path().join("state.snap").to_str().expect("a plain name").to_owned();
    agent.command(&["operator", "snapshot", "save", &file]).worked();
    let mut bytes = std::fs::read(&file).expect("it was just written");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&file, &bytes).expect("the file can be written");
    for name in [file, agent.file("text.snap", "job \"x\" {}")] {
        let ended = agent.command(&["operator", "snapshot", "restore", &name]);
        assert_eq!(ended.code, 1, "{}", ended.said());
        assert!(ended.err.contains("failed to restore from snapshot"), "{}", ended.err);
        let ended = agent.command(&["operator", "snapshot", "inspect", &name]);
        assert!(ended.code == 1 && ended.err.contains("Error inspecting snapshot"), "{}", ended.said());
    }
    assert_eq!(agent.ask("GET", "/v1/job/there", None).status, 200);
    let missing = agent.command(&["operator", "snapshot", "inspect", "nope.snap"]);
    assert!(missing.err.contains("open nope.snap: no such file or directory"), "{}", missing.err);
}
