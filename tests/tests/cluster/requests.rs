//! Requests find who answers, wherever they arrive and whoever leads.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use tests::{Answer, Part, Region, http, job, wait};

const SERVER_HCL: (&str, &str) = ("server.hcl", include_str!("nomad/server.hcl"));
const SERVER_JSON: (&str, &str) = ("server.json", include_str!("nomad/server.json"));
const CLIENT_HCL: (&str, &str) = ("client.hcl", include_str!("nomad/client.hcl"));

fn register(region: &Region, member: usize, id: &str) -> Answer {
    region.ask(member, "PUT", "/v1/jobs", Some(&json!({ "Job": job::pretended(id, 1) })))
}

/// The same as a user does who tries again: what may have happened is not repeated by anybody else.
fn register_in_the_end(region: &Region, member: usize, id: &str) {
    wait::until("the job is registered", || (register(region, member, id).status == 200).then_some(()));
}

/// Waits for one change after the other until an answer has what is looked for; indexes only rise. Returns the last index.
fn follow(addr: SocketAddr, mut index: u64, wanted: &str) -> u64 {
    for _ in 0..100 {
        let path = format!("/v1/jobs?index={index}&wait=20s");
        let answer = http::request(addr, "GET", &path, None).expect("it is answered");
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.index() >= index, "{} after {index}", answer.index());
        index = answer.index();
        if answer.body.contains(wanted) {
            return index;
        }
    }
    panic!("{wanted} never came")
}

#[test]
fn requests_find_who_answers() {
    let _alone = crate::region::alone();
    let mut parts = [Part::Server].repeat(3);
    parts.extend([Part::Client].repeat(2));
    let Some(mut region) = Region::prepare([10, 99, 1], &parts) else { return };
    // What users of Nomad bring: the same region, written in both languages.
    let files = [SERVER_HCL, SERVER_JSON, SERVER_HCL, CLIENT_HCL, CLIENT_HCL];
    for (member, (name, text)) in files.into_iter().enumerate() {
        region.configure_as(member, name, text);
        region.launch(member);
    }
    region.wait_until_formed();
    the_files_were_taken_as_they_are(&region);
    any_agent_takes_any_request(&region);
    waiting_reads_and_the_event_stream_go_through_clients_and_followers(&region);
    a_copy_is_restored_on_every_server(&region);
    a_leader_that_dies_costs_no_read(&mut region);
}

fn the_files_were_taken_as_they_are(region: &Region) {
    for member in [0, 2] {
        assert!(region.log(member).contains("server.license_path belongs to the enterprise edition"));
    }
    let members = region.command(1, &["server", "members", "-all"]).worked();
    let words: Vec<&str> = members.split_whitespace().collect();
    let joined_by = |how: &str| words.iter().filter(|word| **word == how).count();
    assert_eq!(
        (joined_by("founder"), joined_by("key")),
        (1, 2),
        "servers know each other by the key:\n{members}"
    );
    let scheduler = region.ask(1, "GET", "/v1/operator/scheduler/configuration", None).json();
    assert_eq!(scheduler["SchedulerConfig"]["SchedulerAlgorithm"], "spread");
    let nodes = region.ask(0, "GET", "/v1/nodes", None).json();
    assert_eq!(nodes[0]["NodeClass"], "general");
}

fn any_agent_takes_any_request(region: &Region) {
    let leader = region.leader();
    for member in 0..region.members.len() {
        let id = format!("by-{}", region.members[member].name);
        let written = register(region, member, &id);
        assert_eq!(written.status, 200, "{id}: {}", written.body);
        // Whoever wrote reads what it wrote, by whichever agent.
        for reader in 0..region.members.len() {
            let read = region.ask(reader, "GET", &format!("/v1/job/{id}"), None);
            assert_eq!(read.status, 200, "{id} read by {}: {}", region.members[reader].name, read.body);
            assert_eq!(read.header("x-nomad-lastcontact"), Some("0"), "the leader answers");
        }
        let sure = region.ask(member, "GET", "/v1/jobs?consistent", None);
        assert_eq!(sure.status, 200, "{}", sure.body);
        let stale = region.ask(member, "GET", "/v1/jobs?stale", None);
        assert_eq!((stale.status, stale.header("x-nomad-knownleader")), (200, Some("true")));
        let nope = region.ask(member, "GET", "/v1/jobs?region=nope", None);
        assert_eq!((nope.status, nope.body.as_str()), (500, "No path to region"));
        let own = region.ask(member, "GET", "/v1/agent/self", None).json();
        assert_eq!(
            own["config"]["NodeName"],
            json!(region.members[member].name),
            "an agent speaks for itself"
        );
    }
    let leads = region.ask(4, "GET", "/v1/status/leader", None).json();
    assert_eq!(leads, json!(format!("{}:4647", region.members[leader].ip)));
}

fn waiting_reads_and_the_event_stream_go_through_clients_and_followers(region: &Region) {
    let client = 3;
    register_in_the_end(region, 0, "first");
    let index = region.ask(client, "GET", "/v1/jobs", None).index();
    let waiting: Vec<_> = (0..region.members.len())
        .map(|member| {
            let addr = region.addr(member);
            wait::beside(move || follow(addr, index, "\"second\""))
        })
        .collect();
    let events = {
        let addr = region.addr(client);
        wait::beside(move || {
            let stream = http::Stream::open(addr, "GET", "/v1/event/stream?topic=Job", None);
            let lines = stream.expect("the stream opens").lines();
            lines.into_iter().find(|line| line.contains("\"second\""))
        })
    };
    register_in_the_end(region, client, "second");
    for waiter in waiting {
        assert!(waiter.join().expect("the waiter ends") > index);
    }
    assert!(events.join().expect("the reader ends").is_some(), "the event came through the client");
}

fn a_leader_that_dies_costs_no_read(region: &mut Region) {
    let client = 3;
    register_in_the_end(region, client, "before");
    let index = region.ask(client, "GET", "/v1/jobs", None).index();
    let leader = region.leader();
    let addr = region.addr(client);
    let waiter = wait::beside(move || follow(addr, index, "\"after\""));
    wait::pass(Duration::from_millis(300));
    region.kill(leader);
    // Nobody told the client who leads: its requests wait for that.
    let read = region.ask(client, "GET", "/v1/job/before", None);
    assert_eq!(read.status, 200, "{}", read.body);
    register_in_the_end(region, client, "after");
    assert!(waiter.join().expect("the waiter ends") > index);
}

fn a_copy_is_restored_on_every_server(region: &Region) {
    register_in_the_end(region, 0, "kept");
    let file = region.path().join("state.snap").to_str().expect("a plain name").to_owned();
    region.command(3, &["operator", "snapshot", "save", &file]).worked();
    register_in_the_end(region, 1, "later");
    region.command(3, &["operator", "snapshot", "restore", &file]).worked();
    for member in 0..3 {
        wait::until("each server has the copy", || {
            let stale = |job: &str| region.ask(member, "GET", &format!("/v1/job/{job}?stale"), None).status;
            (stale("later") == 404 && stale("kept") == 200).then_some(())
        });
    }
    wait::until("the node is back", || {
        let nodes = region.ask(0, "GET", "/v1/nodes", None).json();
        (nodes[0]["Status"] == "ready").then_some(())
    });
    register_in_the_end(region, 2, "next");
}
