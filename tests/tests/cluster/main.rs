//! Regions of several agents, each the built binary: they find each other, agree, and go on when some of them die.

mod certificates;
mod hashes;
mod operations;
mod recorded;
mod region;
mod regions;
mod requests;

use std::time::Duration;

use serde_json::json;
use tests::{Agent, Kind, agent::text, job, process, wait};

use region::{Region, client, server};

/// Nodes that are gone are replaced within seconds; machines that run tests are slow.
const REPLACED_WITHIN: Duration = Duration::from_secs(25);

const FOREVER: &str = "echo $$; while true; do sleep 0.2; done";

#[test]
fn a_region_forms_by_one_address_and_works_for_whoever_asks() {
    let region = Region::start(3, 2);
    // The second client was told of the first one only.
    let asked = &region.clients[1];
    let mut web = job::service("web", FOREVER);
    web["TaskGroups"][0]["Count"] = json!(2);
    asked.register(&web);
    let running = asked.wait_for_all("web", "running", 2);
    for agent in region.agents() {
        assert_eq!(agent.allocations("web").len(), running.len(), "any agent answers");
    }
    running.iter().for_each(|alloc| assert!(region.pid_of(alloc) > 0));
    // One server alone holds the session of a node; whoever is asked finds it.
    for agent in region.agents() {
        for alloc in &running {
            let id = text(&alloc["ID"]);
            let said = agent.command(&["alloc", "exec", "-task", "t", id, "echo", "heard"]);
            assert_eq!(said.worked().trim(), "heard", "{} asked {}", agent.addr(), alloc["NodeName"]);
            let logs = agent.command(&["alloc", "logs", id]).worked();
            assert!(logs.trim().parse::<u32>().is_ok(), "the task's number: {logs}");
        }
    }
    let members = asked.command(&["server", "members", "-all"]).worked();
    for name in ["s0", "s1", "s2", "c0", "c1"] {
        assert!(members.contains(name), "{members}");
    }
    let peers = region.servers[0].command(&["operator", "raft", "list-peers"]).worked();
    assert_eq!(peers.matches("true").count(), 3, "three voters:\n{peers}");
    let log = region.servers[1].log();
    assert!(log.contains("trust"), "what is not authenticated is said");
}

#[test]
fn a_dead_leader_costs_no_task_and_no_write() {
    let mut region = Region::start(3, 1);
    region.clients[0].register(&job::service("web", FOREVER));
    let before = region.clients[0].wait_for("web", "running");
    let pid = region.pid_of(&before);
    for round in 0..3 {
        let id = format!("before-{round}");
        region.register_somewhere(&job::pretended(&id, 0));
        let leader = region.leader();
        region.servers[leader].kill();
        let late = format!("after-{round}");
        region.register_somewhere(&job::pretended(&late, 0));
        region.servers[leader].launch();
        region.wait_until_settled();
        for known in [id, late] {
            assert_eq!(region.servers[leader].ask("GET", &format!("/v1/job/{known}"), None).status, 200);
        }
    }
    let after = region.clients[0].wait_for("web", "running");
    assert_eq!((&after["ID"], &after["TaskStates"]["t"]["Restarts"]), (&before["ID"], &json!(0)));
    assert!(process::is_alive(pid), "the same process");
}

#[test]
fn a_dead_node_is_replaced_within_seconds_and_comes_back_clean() {
    let mut region = Region::start(1, 2);
    region.servers[0].register(&job::service("web", FOREVER));
    let first = region.servers[0].wait_for("web", "running");
    let at = region.client_of(&first);
    region.clients[at].power_cut();
    let second = wait::until_within(REPLACED_WITHIN, "the work runs elsewhere", || {
        let all = region.servers[0].allocations("web");
        all.into_iter().find(|alloc| alloc["ClientStatus"] == "running" && alloc["ID"] != first["ID"])
    });
    assert_ne!(second["NodeID"], first["NodeID"]);
    region.clients[at].launch();
    wait::until("the node is ready again", || (region.ready_nodes() == 2).then_some(()));
    wait::until("one allocation is left", || {
        let all = region.servers[0].allocations("web");
        let running = all.iter().filter(|alloc| alloc["ClientStatus"] == "running").count();
        (running == 1).then_some(())
    });
}

#[test]
fn a_region_that_was_off_comes_back_without_being_told_whom_to_join() {
    let mut region = Region::start(3, 1);
    region.clients[0].register(&job::service("web", FOREVER));
    let before = region.clients[0].wait_for("web", "running");
    let pid = region.pid_of(&before);
    region.kill_all();
    assert!(process::is_alive(pid), "tasks need no region");
    region.forget_addresses();
    region.launch_all();
    region.wait_until_settled();
    let after = region.clients[0].wait_for("web", "running");
    assert_eq!((&after["ID"], &after["TaskStates"]["t"]["Restarts"]), (&before["ID"], &json!(0)));
    assert!(process::is_alive(pid), "the same process");
}

#[test]
fn where_tokens_are_demanded_only_they_open_the_door() {
    let _alone = region::alone();
    let mut founder = Agent::prepare(
        tests::binary::path(),
        Kind::Member,
        &server("s0", 1, None, "  require_join_token = true\n"),
    );
    founder.launch();
    wait::until("the founder leads", || region::leader_of(&founder));
    let joins = Some(founder.gossip_addr());
    let mut stranger = Agent::prepare(tests::binary::path(), Kind::Member, &client("c0", joins));
    stranger.launch();
    wait::until("the stranger is told why", || stranger.log().contains("token").then_some(()));
    assert_eq!(founder.get("/v1/nodes"), json!([]));

    let made = founder.command(&["server", "token", "create", "-role", "client"]).worked();
    let token = made.split_whitespace().find(|word| word.len() > 80).expect("the token is printed");
    let config = format!("{}join_token = \"{token}\"\n", client("c1", joins));
    let mut guest = Agent::prepare(tests::binary::path(), Kind::Member, &config);
    guest.launch();
    wait::until("the guest is a node", || {
        let nodes = founder.get("/v1/nodes");
        (nodes.get(0)?["Name"] == "c1" && nodes[0]["Status"] == "ready").then_some(())
    });
    assert!(!guest.log().contains(token), "a token is in no log");
    // A token is good once.
    let config = format!("{}join_token = \"{token}\"\n", client("c2", joins));
    let mut second = Agent::prepare(tests::binary::path(), Kind::Member, &config);
    second.launch();
    let code = wait::until("the second user of a token ends", || second.ended());
    assert_eq!(code, 1);
    assert!(second.log().contains("token was refused"), "{}", second.log());
}

#[test]
fn agents_with_another_gossip_key_are_not_let_in() {
    let _alone = region::alone();
    let key = "  encrypt = \"cg8StVXbQJ0gPvMd9o7yrpg0a1Cq3Lk5u5n6m7p8q9s=\"\n";
    let other = "  encrypt = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n";
    let mut founder = Agent::prepare(tests::binary::path(), Kind::Member, &server("s0", 1, None, key));
    founder.launch();
    wait::until("the founder leads", || region::leader_of(&founder));
    let joins = Some(founder.gossip_addr());
    let mut stranger = Agent::prepare(tests::binary::path(), Kind::Member, &server("s1", 0, joins, other));
    let mut friend = Agent::prepare(tests::binary::path(), Kind::Member, &server("s2", 0, joins, key));
    stranger.launch();
    friend.launch();
    wait::until("the friend is a member", || {
        let members = founder.command(&["server", "members", "-all"]).said();
        let line = members.lines().find(|line| line.starts_with("s2"))?.to_owned();
        line.contains("key").then_some(())
    });
    wait::until("the stranger is told why", || stranger.log().contains("could not join").then_some(()));
    let members = founder.command(&["server", "members", "-all"]).worked();
    assert!(!members.contains("s1"), "{members}");
}

#[test]
fn a_server_that_leaves_is_not_counted_any_more() {
    let mut region = Region::start_with(3, 0, "leave_on_interrupt = true\n");
    let leaver = region.leader();
    let name = text(&region.servers[leaver].get("/v1/agent/self")["member"]["Name"]).to_owned();
    assert_eq!(region.servers[leaver].interrupt(), 0);
    let other = (leaver + 1) % 3;
    wait::until("two servers are left", || {
        let peers = region.servers[other].command(&["operator", "raft", "list-peers"]);
        (peers.code == 0 && !peers.out.contains(&name) && peers.out.matches("true").count() == 2)
            .then_some(())
    });
}
