//! Waiting for changes: blocking queries and the event stream.

use std::time::Duration;

use serde_json::Value;
use tests::{
    Agent, Kind,
    http::{self, Stream},
    job, wait,
};

#[test]
fn a_blocking_query_answers_when_something_changed() {
    let agent = Agent::start(Kind::Dev);
    agent.register(&job::pretended("early", 1));
    assert_eq!(agent.wait_for("early", "running")["JobID"], "early");
    // What follows from the start of a job is over after a moment.
    wait::pass(Duration::from_millis(500));
    let before = agent.ask("GET", "/v1/jobs", None);
    let (addr, index) = (agent.addr(), before.index());
    let path = format!("/v1/jobs?index={index}&wait=30s");
    let waiting = wait::beside(move || wait::timed(|| http::request(addr, "GET", &path, None)));
    wait::pass(Duration::from_millis(300));
    assert!(!waiting.is_finished(), "nothing changed yet");
    agent.register(&job::pretended("web", 1));
    let (answer, took) = waiting.join().expect("the query ends");
    let answer = answer.expect("the agent answers");
    assert!(answer.index() > index);
    assert_eq!(answer.json()[1]["ID"], "web");
    assert!(took < Duration::from_secs(20), "it was woken, not timed out: {took:?}");
}

#[test]
fn a_blocking_query_ends_after_its_time() {
    let agent = Agent::start(Kind::Dev);
    let (answer, took) = wait::timed(|| agent.ask("GET", "/v1/jobs?index=999999&wait=300ms", None));
    assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_query_about_one_job_sleeps_while_others_change() {
    let agent = Agent::start(Kind::Dev);
    agent.register(&job::pretended("quiet", 1));
    assert_eq!(agent.wait_for("quiet", "running")["JobID"], "quiet");
    wait::pass(Duration::from_millis(500));
    let index = agent.ask("GET", "/v1/job/quiet/allocations", None).index();
    let (addr, path) = (agent.addr(), format!("/v1/job/quiet/allocations?index={index}&wait=1s"));
    let waiting = wait::beside(move || wait::timed(|| http::request(addr, "GET", &path, None)));
    agent.register(&job::pretended("loud", 1));
    let (answer, took) = waiting.join().expect("the query ends");
    assert_eq!(answer.expect("the agent answers").json().as_array().map(Vec::len), Some(1));
    assert!(took >= Duration::from_secs(1), "another job's changes do not wake it: {took:?}");
}

#[test]
fn the_event_stream_tells_a_job_s_life_in_order() {
    let agent = Agent::start(Kind::Dev);
    let stream =
        Stream::open(agent.addr(), "GET", "/v1/event/stream?topic=*", None).expect("the stream opens");
    assert_eq!(stream.status, 200);
    let mut lines = stream.lines();
    agent.register(&job::pretended("web", 1));
    let mut last_index = 0;
    let mut told: Vec<String> = Vec::new();
    wait::until("the stream told of the running allocation", || {
        let line = lines.next().expect("the stream goes on");
        let batch: Value = serde_json::from_str(&line).expect("a line is JSON");
        if let Some(index) = batch["Index"].as_u64() {
            assert!(index >= last_index, "indexes only rise: {last_index} then {index}");
            last_index = index;
        }
        let events = batch["Events"].as_array().cloned().unwrap_or_default();
        let of_job = events.iter().filter(|event| is_about(event, "web"));
        told.extend(
            of_job.clone().map(|event| format!("{}/{}", plain(&event["Topic"]), plain(&event["Type"]))),
        );
        let runs = |event: &&Value| event["Payload"]["Allocation"]["ClientStatus"] == "running";
        of_job.filter(runs).count().gt(&0).then_some(())
    });
    let at = |what: &str| told.iter().position(|event| event == what);
    let (job, alloc) = (at("Job/JobRegistered"), at("Allocation/PlanResult"));
    assert!(job.is_some() && job < alloc, "{told:?}");
    assert!(told.iter().any(|event| event == "Allocation/AllocationUpdated"), "{told:?}");
}

#[test]
fn the_event_stream_keeps_to_its_topics() {
    let agent = Agent::start(Kind::Dev);
    let path = "/v1/event/stream?topic=Job:wanted";
    let stream = Stream::open(agent.addr(), "GET", path, None).expect("the stream opens");
    let mut lines = stream.lines();
    agent.register(&job::pretended("other", 1));
    agent.register(&job::pretended("wanted", 1));
    let first = wait::until("an event comes", || {
        let batch: Value =
            serde_json::from_str(&lines.next().expect("the stream goes on")).expect("a line is JSON");
        batch["Events"].get(0).cloned()
    });
    assert_eq!((&first["Topic"], &first["Key"]), (&Value::from("Job"), &Value::from("wanted")));
}

fn is_about(event: &Value, job: &str) -> bool {
    let payload = &event["Payload"];
    ["Job", "Evaluation", "Allocation"]
        .iter()
        .any(|kind| payload[kind]["JobID"] == job || payload[kind]["ID"] == job)
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
