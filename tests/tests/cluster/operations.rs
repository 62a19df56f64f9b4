//! What operators do to a region: keys, damage, servers that join, leave or are given up, copies of the state.

use std::{fs, path::Path};

use serde_json::json;
use tests::{Agent, Kind, binary, http, job, wait};

use crate::region::{self, Region, client, server};

const OLD_KEY: &str = "cg8StVXbQJ0gPvMd9o7yrpg0a1Cq3Lk5u5n6m7p8q9s=";
/// Newcomers vote after ten seconds unless told otherwise, which tests need not wait for.
const QUICK: &str = "autopilot {\n  server_stabilization_time = \"1s\"\n}\n";

const NEW_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn launch(config: &str) -> Agent {
    let mut agent = Agent::prepare(binary::path(), Kind::Member, config);
    agent.launch();
    agent
}

/// Waits until the members that an agent sees are as wanted.
fn wait_for_member(agent: &Agent, name: &str, status: &str) {
    wait::until_within(region::FORMED_WITHIN, "a member is as it should be", || {
        let members = agent.command(&["server", "members", "-all"]).said();
        let line = members.lines().find(|line| line.starts_with(&format!("{name}.")))?;
        line.contains(status).then_some(())
    });
}

/// Waits until a region has so many voters.
fn wait_for_voters(agent: &Agent, count: usize) {
    wait::until_within(region::FORMED_WITHIN, "the region has as many voters as it should", || {
        let peers = agent.command(&["operator", "raft", "list-peers"]);
        (peers.code == 0 && peers.out.matches("true").count() == count).then_some(())
    });
}

#[test]
fn keys_change_while_agents_come_and_go() {
    let _alone = region::alone();
    let keyed = format!("  encrypt = {OLD_KEY:?}\n");
    let mut first = launch(&server("s0", 1, None, &keyed));
    wait::until_within(region::FORMED_WITHIN, "the first server leads", || region::leader_of(&first));
    let joins = Some(first.gossip_addr());
    let mut second = launch(&server("s1", 0, joins, &keyed));
    let mut away = launch(&client("c0", joins));
    for name in ["s1", "c0"] {
        wait_for_member(&first, name, "alive");
    }
    let change = |agent: &Agent, words: &str, key: &str| {
        agent.command(&["operator", "gossip", "keyring", words, key]).worked();
    };
    change(&first, "install", NEW_KEY);
    // One agent is away for all of the change, another restarts in the middle of it.
    away.kill();
    second.kill();
    second.launch();
    wait_for_member(&first, "s1", "alive");
    wait::until("the server that restarted has both keys", || {
        let listed = second.command(&["operator", "gossip", "keyring", "list"]).said();
        (listed.contains(OLD_KEY) && listed.contains(NEW_KEY)).then_some(())
    });
    change(&second, "use", NEW_KEY);
    // The other server hears of the new primary key a moment later, and until then keeps the old one.
    wait::until("the old key may go", || {
        let removed = first.command(&["operator", "gossip", "keyring", "remove", OLD_KEY]);
        (removed.code == 0).then_some(())
    });
    let listed = first.command(&["operator", "gossip", "keyring", "list"]).worked();
    assert!(listed.contains(NEW_KEY) && !listed.contains(OLD_KEY), "{listed}");
    let primary = first.command(&["operator", "gossip", "keyring", "remove", NEW_KEY]);
    assert_ne!(primary.code, 0, "the key that seals stays: {}", primary.said());
    away.launch();
    wait_for_member(&first, "c0", "alive");
    // What is kept is the new key: the one of the configuration is not taken up again.
    first.kill();
    first.launch();
    wait_for_member(&second, "s0", "alive");
    wait_for_member(&first, "c0", "alive");
    let listed = first.command(&["operator", "gossip", "keyring", "list"]).worked();
    assert!(!listed.contains(OLD_KEY), "{listed}");
}

#[test]
fn a_server_whose_log_was_damaged_is_whole_again_by_itself() {
    let mut region = Region::start(3, 0);
    for number in 0..20 {
        region.register_somewhere(&job::pretended(&format!("before-{number}"), 0));
    }
    let broken = (region.leader() + 1) % 3;
    region.servers[broken].kill();
    cut_short(&region.servers[broken].data_dir().join("server/raft"));
    region.register_somewhere(&job::pretended("meanwhile", 0));
    region.servers[broken].launch();
    let server = &region.servers[broken];
    wait::until_within(region::FORMED_WITHIN, "the server has everything again", || {
        let stale = |id: &str| {
            let path = format!("/v1/job/{id}?stale");
            http::request(server.addr(), "GET", &path, None).map(|answer| answer.status)
        };
        (stale("before-0").ok()? == 200 && stale("meanwhile").ok()? == 200).then_some(())
    });
    assert!(server.log().contains("damaged"), "it says why:\n{}", server.log());
    wait_for_voters(server, 3);
    // A server whose state differed from the leader's would stop itself.
    region.register_somewhere(&job::pretended("after", 0));
    for agent in &region.servers {
        wait::until("each server has what came last", || {
            let answer = http::request(agent.addr(), "GET", "/v1/job/after?stale", None).ok()?;
            (answer.status == 200).then_some(())
        });
    }
}

/// Cuts the journal of a log short, as a disk does that lost what it had promised to keep.
fn cut_short(dir: &Path) {
    let mut waiting = vec![dir.to_owned()];
    let mut journals = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("it can be read");
            waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|end| end == "jnl") {
            journals.push(path);
        }
    }
    let [journal] = &journals[..] else { panic!("one journal, not {journals:?}") };
    let bytes = fs::read(journal).expect("it can be read");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("there is something in it");
    let file = fs::OpenOptions::new().write(true).open(journal).expect("it can be opened");
    file.set_len(u64::try_from(used / 2).expect("a length")).expect("it can be cut");
}

#[test]
fn servers_join_by_command_and_are_given_up_by_command() {
    let _alone = region::alone();
    let first = launch(&(server("s0", 1, None, "") + QUICK));
    wait::until_within(region::FORMED_WITHIN, "the first server leads", || region::leader_of(&first));
    let mut second = launch(&server("s1", 0, None, ""));
    wait::until("the second one answers", || {
        http::request(second.addr(), "GET", "/v1/agent/self", None).ok()
    });
    let joined = second.command(&["server", "join", &first.gossip_addr().to_string()]);
    assert!(joined.worked().contains("Joined 1 servers successfully"));
    wait_for_voters(&first, 2);
    let node = launch(&client("c0", Some(first.gossip_addr())));
    wait_for_member(&first, "c0", "alive");
    // The other way round, a server that waits to be told is asked to join.
    let third = launch(&server("s2", 0, None, ""));
    wait::until_within(region::FORMED_WITHIN, "the waiting server joins who asks it", || {
        let joined = first.command(&["server", "join", &third.gossip_addr().to_string()]);
        (joined.code == 0).then_some(())
    });
    wait_for_voters(&first, 3);
    second.kill();
    wait_for_member(&first, "s1", "failed");
    first.command(&["server", "force-leave", "s1.global"]).worked();
    wait_for_member(&first, "s1", "left");
    drop(node);
}

#[test]
fn a_signal_makes_an_agent_leave_where_it_is_told_to() {
    let _alone = region::alone();
    let settings = "leave_on_terminate = true\n";
    let first = launch(&(server("s0", 1, None, "") + settings + QUICK));
    wait::until_within(region::FORMED_WITHIN, "the first server leads", || region::leader_of(&first));
    let joins = Some(first.gossip_addr());
    let mut second = launch(&(server("s1", 0, joins, "") + settings));
    let mut third = launch(&(server("s2", 0, joins, "") + settings));
    wait_for_voters(&first, 3);
    assert_eq!(second.terminate(), 0);
    wait_for_member(&first, "s1", "left");
    wait_for_voters(&first, 2);
    // The other signal only ends it: it is expected back.
    assert_eq!(third.interrupt(), 0);
    wait_for_member(&first, "s2", "failed");
    third.launch();
    wait_for_member(&first, "s2", "alive");
    wait_for_voters(&first, 2);
}

#[test]
fn a_copy_of_the_state_is_restored_on_every_server() {
    let region = Region::start(3, 1);
    region.register_somewhere(&job::pretended("kept", 0));
    let follower = &region.servers[(region.leader() + 1) % 3];
    follower.command(&["operator", "snapshot", "save", "state.snap"]).worked();
    region.register_somewhere(&job::pretended("later", 0));
    follower.command(&["operator", "snapshot", "restore", "state.snap"]).worked();
    for agent in &region.servers {
        wait::until("each server has the copy", || {
            let stale = |id: &str| {
                let path = format!("/v1/job/{id}?stale");
                http::request(agent.addr(), "GET", &path, None).map(|answer| answer.status)
            };
            (stale("later").ok()? == 404 && stale("kept").ok()? == 200).then_some(())
        });
    }
    wait::until("the node is back", || (region.ready_nodes() == 1).then_some(()));
    region.register_somewhere(&job::pretended("next", 0));
}

#[test]
fn two_clusters_that_are_pointed_at_each_other_stay_two() {
    let _alone = region::alone();
    let one = launch(&server("one", 1, None, ""));
    let other = launch(&server("other", 1, None, ""));
    for agent in [&one, &other] {
        wait::until_within(region::FORMED_WITHIN, "each is a cluster", || region::leader_of(agent));
    }
    let refused = one.command(&["server", "join", &other.gossip_addr().to_string()]);
    assert_ne!(refused.code, 0, "{}", refused.said());
    assert!(refused.said().contains("another cluster"), "{}", refused.said());
    // Nor by a configuration that is changed afterwards.
    let answer = one.ask("PUT", "/v1/jobs", Some(&json!({ "Job": job::pretended("mine", 0) })));
    assert_eq!(answer.status, 200, "{}", answer.body);
    for (agent, stranger) in [(&one, "other"), (&other, "one")] {
        let members = agent.command(&["server", "members", "-all"]).worked();
        assert!(!members.lines().any(|line| line.starts_with(&format!("{stranger}."))), "{members}");
        wait_for_voters(agent, 1);
    }
    assert_eq!(other.ask("GET", "/v1/job/mine", None).status, 404);
}
