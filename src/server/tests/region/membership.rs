//! Who is in the group.

use std::time::Duration;

use bytes::Bytes;
use harness::{Cluster, Net, has, namespace, until};
use runtime::{Env, Shutdown};
use server::{Life, MemberStatus, StartError};
use transport::{Expect, Plane, Role};

use crate::harness;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_gossip_shows_learns_votes_and_leaves() {
    let mut cluster = Cluster::of_three(Net::memory()).await;
    cluster.server(1).submit(&namespace("early")).await.expect("there is a leader");
    cluster.start(4).await.expect("an empty server starts");
    assert!(!cluster.server(4).has_state());
    let newcomer = cluster.server(4).clone();
    until("it has what was there before it", || has(&newcomer, "early")).await;
    let leader = cluster.server(cluster.leader().await).clone();
    let voters = || leader.group().0.iter().filter(|server| server.voter).count();
    until("it votes", || voters() == 4).await;
    assert_eq!(newcomer.cluster(), Some(harness::MARKER));
    until("everyone is well", || leader.autopilot_health().is_some_and(|health| health.healthy)).await;
    let health = leader.autopilot_health().expect("it leads");
    assert_eq!((health.servers.len(), health.failure_tolerance), (4, 1));
    newcomer.leave().await.expect("the others agree");
    until("it is out", || leader.group().0.len() == 3).await;
    cluster.say(4, MemberStatus::Left);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_leaves_hands_over_first() {
    let mut cluster = Cluster::of_three(Net::memory()).await;
    let leader = cluster.leader().await;
    cluster.server(leader).leave().await.expect("the others agree");
    cluster.say(leader, MemberStatus::Left);
    let rest = cluster.running.keys().copied().find(|number| *number != leader).expect("two are left");
    let server = cluster.server(rest).clone();
    until("two are left", || server.group().0.len() == 2).await;
    server.submit(&namespace("after")).await.expect("the rest goes on");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_server_is_replaced_by_another_and_operators_may_remove_and_transfer() {
    let mut cluster = Cluster::of_three(Net::memory()).await;
    let dead = cluster.followers().await[0];
    cluster.kill(dead).await;
    cluster.say(dead, MemberStatus::Failed);
    cluster.start(4).await.expect("an empty server starts");
    let leader = cluster.server(cluster.leader().await).clone();
    let dead_id = cluster.replica(dead).raft_id();
    let group = || leader.group().0;
    until("the dead one is out, another votes", || {
        let group = group();
        group.len() == 3 && group.iter().all(|server| server.voter && server.raft_id != dead_id)
    })
    .await;
    let to = leader.transfer_leadership(None).await.expect("another takes over");
    let number = (1..=4).find(|number| cluster.replica(*number).raft_id() == to).expect("it is one of ours");
    let next = cluster.server(number).clone();
    until("it leads", || next.group().0.iter().any(|server| server.leader && server.raft_id == to)).await;
    let victim = next.group().0.iter().find(|server| !server.leader).expect("there are others").raft_id;
    // Gossip would bring it back, so it goes there first.
    let number = (1..=4).find(|number| *number != dead && cluster.replica(*number).raft_id() == victim);
    cluster.say(number.expect("it is one of ours"), MemberStatus::Failed);
    // One change of the group is made at a time; this waits for those that autopilot is at.
    let env = Env::real(Shutdown::new());
    while let Err(error) = next.remove_server(victim).await {
        assert!(matches!(error, server::GroupError::Refused(_)), "{error}");
        env.sleep(Duration::from_millis(20)).await;
    }
    until("it is out", || next.group().0.len() == 2).await;
    assert!(next.remove_server(victim).await.is_err(), "it is not there any more");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_moved_is_found_where_it_is() {
    let mut cluster = Cluster::of_three(Net::memory()).await;
    let moved = cluster.followers().await[0];
    cluster.kill(moved).await;
    cluster.move_to(moved, "127.0.0.1:29999".parse().expect("an address"));
    cluster.start(moved).await.expect("it starts");
    let leader = cluster.server(cluster.leader().await).clone();
    let name = "after the move";
    leader.submit(&namespace(name)).await.expect("there is a quorum");
    let server = cluster.server(moved).clone();
    until("it hears of it", || has(&server, name)).await;
    let replica = cluster.replica(moved);
    until("the record says so", || {
        leader.group().0.iter().any(|server| server.replica.as_ref() == Some(&replica))
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_log_was_damaged_begins_another_life() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, life) = (dir.path().join("raft"), dir.path().join("life"));
    let mut cluster = Cluster::empty(Net::memory(), harness::patient());
    cluster.keep_on_disk(3, log.clone());
    cluster.set_life(3, Life::keep(&life, &log).expect("it is made"));
    for number in 1..=3 {
        cluster.start(number).await.expect("an empty server starts");
    }
    cluster.found(&[1, 2, 3]).await;
    for n in 0..20 {
        cluster.server(1).submit(&namespace(&format!("n-{n}"))).await.expect("there is a leader");
    }
    let third = cluster.server(3).clone();
    until("the third has it all", || has(&third, "n-19")).await;
    let old = cluster.replica(3).raft_id();
    cluster.kill(3).await;
    std::fs::remove_dir_all(log.join("log")).expect("the log is there");
    let Err(StartError::Open(error)) = cluster.start(3).await else { panic!("it votes with half a log") };
    assert!(error.must_rejoin(), "{error}");
    let next = Life::begin_anew(&life, &log).expect("the disk works");
    cluster.set_life(3, next);
    cluster.start(3).await.expect("an empty log opens");
    let third = cluster.server(3).clone();
    until("it is whole again", || has(&third, "n-19")).await;
    let leader = cluster.server(cluster.leader().await).clone();
    until("it votes as another, and the old one is out", || {
        let group = leader.group().0;
        group.len() == 3 && group.iter().all(|server| server.voter && server.raft_id != old)
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_speaks_for_another_server_changes_nothing() {
    let cluster = Cluster::of_three(Net::quic()).await;
    let leader = cluster.leader().await;
    let before = cluster.server(leader).raft().status().leadership;
    let any = "127.0.0.1:0".parse().expect("an address");
    let env = Env::real(Shutdown::new());
    let until = env.now() + Duration::from_secs(5);
    let (stranger, _acceptor) = cluster.net.attach(Role::Client, 8, 1, any);
    let refused = stranger.dial(cluster.addr(leader), Plane::Raft, Expect::Admitted).await;
    assert!(refused.is_err(), "a client has no business there");
    let (imposter, _acceptor) = cluster.net.attach(Role::Server, 9, 1, any);
    let opened =
        imposter.dial(cluster.addr(leader), Plane::Raft, Expect::Admitted).await.expect("it is a server");
    // A vote for a later term, from server 1: kind, version, target, sender.
    let mut message = vec![3, 1];
    for id in [cluster.replica(leader).raft_id(), cluster.replica(1).raft_id()] {
        message.extend(varint(id));
    }
    message.extend([0; 16]);
    let answer = opened.connection.request(Bytes::from(message), until).await.expect("it is answered");
    assert_eq!(answer[0], 1, "it is refused");
    assert!(String::from_utf8_lossy(&answer).contains("is not node"));
    assert_eq!(cluster.server(leader).raft().status().leadership, before);
    imposter.close().await;
    stranger.close().await;
    cluster.stop().await;
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("seven bits"));
    bytes
}
