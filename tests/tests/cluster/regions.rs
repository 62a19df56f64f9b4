//! Two regions that trust each other are one place to ask, from any agent.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Agent, Kind, agent::text, binary, http, job, wait};

use crate::region::{self, client, server};

/// Time for regions to form and to meet, on a machine that is busy.
const MET_WITHIN: Duration = Duration::from_secs(90);

/// Time in which a request for a region that is gone is answered. It may wait for a server that does not answer, and again.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);

const SPEAKS: &str = "echo hello from afar; while true; do sleep 0.2; done";

fn prepare(config: &str, region: &str) -> Agent {
    Agent::prepare(binary::path(), Kind::Member, &format!("{config}region = {region:?}\n"))
}

/// A region's servers and a client. Whoever comes after the first joins it.
fn start(name: &str, servers: usize) -> Vec<Agent> {
    let mut agents: Vec<Agent> = Vec::new();
    for at in 0..=servers {
        let joins = agents.first().map(Agent::gossip_addr);
        let called = format!("{name}{at}");
        let config = if at < servers { server(&called, servers, joins, "") } else { client(&called, joins) };
        let mut agent = prepare(&config, name);
        agent.launch();
        agents.push(agent);
    }
    agents
}

fn wait_until_led(agents: &[Agent]) {
    for agent in agents {
        wait::until_within(MET_WITHIN, "the agent knows a leader", || region::leader_of(agent));
    }
    wait::until_within(MET_WITHIN, "the node is ready", || {
        let nodes = http::request(agents[0].addr(), "GET", "/v1/nodes", None).ok()?;
        (nodes.status == 200 && nodes.json().get(0)?["Status"] == "ready").then_some(())
    });
}

/// Waits until an agent gets answers from a region.
fn wait_until_reached(agent: &Agent, region: &str) {
    wait::until_within(MET_WITHIN, "the agent reaches the other region", || {
        let known = http::request(agent.addr(), "GET", "/v1/regions", None).ok()?;
        let both = known.status == 200 && known.json() == json!(["east", "west"]);
        let path = format!("/v1/jobs?region={region}");
        let answer = http::request(agent.addr(), "GET", &path, None).ok()?;
        (both && answer.status == 200).then_some(())
    });
}

fn register(agent: &Agent, path: &str, job: &Value) {
    let answer = agent.ask("PUT", path, Some(&json!({ "Job": job })));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn two_regions_are_one_place_to_ask() {
    let _alone = region::alone();
    let (west, mut east) = (start("west", 2), start("east", 2));
    wait_until_led(&west);
    wait_until_led(&east);
    let nowhere = west[2].ask("GET", "/v1/jobs?region=east", None);
    assert_eq!((nowhere.status, nowhere.body.as_str()), (500, "No path to region"));
    // One server of the one joins one of the other; all others hear of it.
    let joined = west[1].command(&["server", "join", &east[0].gossip_addr().to_string()]);
    assert!(joined.worked().contains("Joined 1"), "{}", west[1].log());
    west.iter().for_each(|agent| wait_until_reached(agent, "east"));
    east.iter().for_each(|agent| wait_until_reached(agent, "west"));
    let members = west[0].command(&["server", "members"]).worked();
    for name in ["west0", "west1", "east0", "east1"] {
        assert!(members.contains(name), "{members}");
    }
    requests_reach_the_other_region(&west, &east);
    // A server that comes later is told by its own region.
    let joins = Some(east[0].gossip_addr());
    let mut late = prepare(&server("east9", 0, joins, ""), "east");
    late.launch();
    wait_until_reached(&late, "west");
    drop(late);
    east.clear();
    let refused = wait::until_within(REFUSED_WITHIN, "the region is known to be gone", || {
        let answer = west[2].ask("GET", "/v1/jobs?region=east", None);
        (answer.status == 500 && answer.body.starts_with("No path to region")).then_some(answer.body)
    });
    assert!(refused.starts_with("No path to region"), "{refused}");
    assert_eq!(west[2].ask("GET", "/v1/jobs", None).status, 200, "the own region is as it was");
}

fn requests_reach_the_other_region(west: &[Agent], east: &[Agent]) {
    // By the request's region from a client, by the job's region from a follower or the leader.
    register(&west[2], "/v1/jobs?region=east", &job::service("web", SPEAKS));
    for (at, agent) in west.iter().enumerate() {
        let mut job = job::pretended(&format!("named-{at}"), 0);
        job["Region"] = json!("east");
        register(agent, "/v1/jobs", &job);
        assert_eq!(east[0].ask("GET", &format!("/v1/job/named-{at}"), None).status, 200);
        assert_eq!(west[0].ask("GET", &format!("/v1/job/named-{at}"), None).status, 404);
    }
    let alloc = east[0].wait_for("web", "running");
    let id = text(&alloc["ID"]).to_owned();
    let asked = &west[2];
    let logs = wait::until("the task's words come", || {
        let ended = asked.command(&["alloc", "logs", "-region", "east", &id]);
        ended.out.contains("hello from afar").then_some(ended.out)
    });
    assert!(logs.contains("hello from afar"));
    let run = ["alloc", "exec", "-region", "east", "-i=false", "-t=false", &id, "echo", "done", "there"];
    assert_eq!(asked.command(&run).worked().trim(), "done there");
    // Whoever waits there is woken by what happens there.
    let index = asked.ask("GET", "/v1/job/web?region=east", None).index();
    let addr = asked.addr();
    let waiter = wait::beside(move || {
        let path = format!("/v1/job/web?region=east&index={index}&wait=50s");
        http::request(addr, "GET", &path, None).expect("it is answered").index()
    });
    let stream = http::Stream::open(addr, "GET", "/v1/event/stream?region=east&topic=Job:late", None);
    let stream = stream.expect("the stream begins");
    assert_eq!(stream.status, 200);
    register(&east[1], "/v1/jobs", &job::pretended("late", 0));
    assert!(stream.lines().any(|line| line.contains("\"late\"")), "the event comes through");
    assert_eq!(asked.ask("DELETE", "/v1/job/web?region=east", None).status, 200);
    assert!(waiter.join().expect("the waiter ends") > index);
}

#[test]
fn a_configuration_joins_two_regions() {
    let _alone = region::alone();
    let west = start("west", 1);
    wait_until_led(&west);
    let config = server("east0", 1, Some(west[0].gossip_addr()), "");
    let mut east = prepare(&config, "east");
    east.launch();
    wait_until_reached(&east, "west");
    wait_until_reached(&west[0], "east");
    // What they know of each other outlives both.
    east.kill();
    east.launch();
    wait_until_reached(&east, "west");
    wait_until_reached(&west[0], "east");
    // Keys change on one side; the other goes on to understand it.
    let key = "cg8StVXbQJ0gPvMd9o7yrpg0a1Cq3Lk5u5n6m7p8q9s=";
    for change in ["install", "use"] {
        west[0].command(&["operator", "gossip", "keyring", change, key]).worked();
    }
    let mut later = prepare(&server("east1", 0, Some(east.gossip_addr()), ""), "east");
    later.launch();
    wait_until_reached(&later, "west");
    wait::until_within(MET_WITHIN, "the server with the changed key hears of the late one", || {
        let members = west[0].command(&["server", "members"]).said();
        members.lines().find(|line| line.starts_with("east1"))?.contains("alive").then_some(())
    });
}
