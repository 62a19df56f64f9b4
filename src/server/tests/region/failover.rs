//! Servers come, go and fail; what was acknowledged stays, and all of them agree.

use std::time::Duration;

use harness::{Cluster, Net, has, hashes, namespace, until};
use model::JobKey;
use raft::RawConfig;
use runtime::{Env, Shutdown};
use serde_json::json;
use server::{Consistency, Deregister, Draft, Register, RequestError, Scale, Server, SubmitError};
use state::Table;

use crate::harness;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_takes_changes_and_shows_them_at_once() {
    for net in [Net::memory(), Net::quic()] {
        let cluster = Cluster::of_three(net).await;
        for number in cluster.followers().await {
            let name = format!("by-{number}");
            let follower = cluster.server(number);
            let submitted = follower.submit(&namespace(&name)).await.expect("the leader takes it");
            assert!(has(follower, &name), "its own write is in its own state");
            assert!(follower.snapshot().index() >= submitted.index);
            let forbidden = protocol::Command::DeleteNamespaces { names: vec!["none".into()] };
            assert!(matches!(
                follower.submit(&forbidden).await,
                Err(SubmitError::Refused(state::Refusal::NamespaceNotFound))
            ));
        }
        assert_eq!(cluster.server(1).cluster(), Some(harness::MARKER));
        assert_eq!(cluster.server(3).snapshot().cluster_id().map(|id| id.as_u128()), Some(harness::MARKER.0));
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_outlive_leaders_and_all_servers_agree() {
    let mut cluster = Cluster::of_three(Net::memory()).await;
    let mut written = Vec::new();
    for round in 0..4 {
        let leader = cluster.leader().await;
        let follower = cluster.followers().await[0];
        let (server, name) = (cluster.server(follower).clone(), format!("before-{round}"));
        server.submit(&namespace(&name)).await.expect("there is a leader");
        written.push(name);
        cluster.kill(leader).await;
        let name = format!("after-{round}");
        // Whoever asks while nobody leads is made to wait, and is told the truth.
        match server.submit(&namespace(&name)).await {
            Ok(_) => written.push(name),
            Err(SubmitError::Unknown) => {}
            Err(error) => panic!("{error}"),
        }
        cluster.start(leader).await.expect("a killed server starts");
    }
    let wanted = written.clone();
    for number in 1..=3 {
        let server = cluster.server(number).clone();
        until("every server has everything", || wanted.iter().all(|name| has(&server, name))).await;
    }
    agree(&cluster).await;
    cluster.stop().await;
}

/// Servers have the same hash at every index that they share.
async fn agree(cluster: &Cluster) {
    let one = hashes(cluster.server(1));
    for number in 2..=3 {
        let other = hashes(cluster.server(number));
        let shared: Vec<u64> = one.keys().copied().filter(|index| other.contains_key(index)).collect();
        assert!(!shared.is_empty());
        for index in shared {
            assert_eq!(one[&index], other[&index], "servers 1 and {number} at {index}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_see_indexes_in_order_while_leaders_die() {
    let mut cluster = Cluster::of_three(Net::memory()).await;
    let watching = cluster.followers().await[1];
    let notes = harness::Notes::<u64>::default();
    let (server, seen) = (cluster.server(watching).clone(), notes.clone());
    let env = Env::real(Shutdown::new());
    env.spawn("watcher", async move {
        loop {
            let waiter = server.wait_for(&[server::Watch::Table(Table::Namespaces)]);
            let index = server.snapshot().table_index(Table::Namespaces);
            seen.lock().expect("nobody panics").push(index);
            waiter.changed().await;
        }
    });
    for round in 0..3 {
        let leader = cluster.leader().await;
        for n in 0..10 {
            let change = namespace(&format!("watched-{round}-{n}"));
            cluster.server(watching).submit(&change).await.expect("there is a leader");
        }
        if leader != watching {
            cluster.kill(leader).await;
            cluster.leader().await;
            cluster.start(leader).await.expect("it starts");
        }
    }
    let last = cluster.server(watching).snapshot().table_index(Table::Namespaces);
    until("the watcher has seen the last", || notes.lock().expect("nobody panics").last() == Some(&last))
        .await;
    let seen = notes.lock().expect("nobody panics").clone();
    assert!(seen.is_sorted(), "{seen:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_for_long_gets_a_snapshot() {
    let raw = RawConfig { trailing_logs: Some(5), ..harness::patient() };
    let mut cluster = Cluster::empty(Net::memory(), raw);
    for number in 1..=3 {
        cluster.start(number).await.expect("an empty server starts");
    }
    cluster.found(&[1, 2, 3]).await;
    let away = cluster.followers().await[0];
    cluster.kill(away).await;
    let leader = cluster.leader().await;
    for n in 0..400 {
        cluster.server(leader).submit(&namespace(&format!("n-{n}"))).await.expect("two of three are there");
    }
    cluster.server(leader).raft().snapshot().await.expect("it runs");
    let status = || cluster.server(leader).raft().status();
    until("the log is purged", || status().purged.is_some_and(|at| at.index > 200)).await;
    cluster.start(away).await.expect("it starts");
    let server = cluster.server(away).clone();
    until("it has caught up", || has(&server, "n-399")).await;
    until("it says that it was a snapshot", || server.raft().status().snapshot.is_some()).await;
    server.submit(&namespace("after")).await.expect("it takes part");
    agree(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_does_not_answer_as_leader() {
    let cluster = Cluster::of_three(Net::memory()).await;
    let leader = cluster.leader().await;
    let old = cluster.server(leader).clone();
    for consistency in [Consistency::Default, Consistency::Consistent] {
        old.ready_to_read(consistency).await.expect("it leads");
    }
    assert_eq!(old.last_contact(), Some(Duration::ZERO));
    let follower = cluster.server(cluster.followers().await[0]).clone();
    assert!(matches!(follower.ready_to_read(Consistency::Default).await, Err(SubmitError::NotLeader)));
    follower.ready_to_read(Consistency::Stale).await.expect("stale reads never wait");
    until("the follower hears its leader", || {
        follower.known_leader() && follower.last_contact().is_some_and(|ago| ago < Duration::from_secs(2))
    })
    .await;
    let Net::Memory(_, links) = &cluster.net else { panic!("it is in memory") };
    for other in cluster.followers().await {
        links.part(cluster.addr(leader), cluster.addr(other));
    }
    let others: Vec<Server> =
        (1..=3).filter(|n| *n != leader).map(|number| cluster.server(number).clone()).collect();
    until("another one leads", || others.iter().any(Server::is_leader)).await;
    for consistency in [Consistency::Default, Consistency::Consistent] {
        let read = tokio::time::timeout(Duration::from_secs(8), old.ready_to_read(consistency)).await;
        assert!(!matches!(read, Ok(Ok(()))), "{consistency:?} was answered by a leader of the past");
    }
    others[0].submit(&namespace("meanwhile")).await.expect("the others go on");
    let unknown = Deregister {
        key: JobKey::new("default", "unknown"),
        purge: true,
        no_shutdown_delay: false,
        eval_priority: None,
    };
    let gone = tokio::time::timeout(Duration::from_secs(8), old.deregister_job(unknown)).await;
    assert!(!matches!(gone, Ok(Ok(_))), "a leader of the past called a job gone that it can not know");
    links.heal();
    until("the old leader follows", || has(&old, "meanwhile") && !old.is_leader()).await;
    cluster.stop().await;
}

/// The entry may have reached the others before the disk failed: "not made" would be a lie, and a second try could make it twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_under_way_when_the_disk_is_full_is_not_called_refused() {
    let cluster = Cluster::of_three(Net::memory()).await;
    let leader = cluster.leader().await;
    cluster.fill_disk(leader);
    let written = cluster.server(leader).submit(&namespace("doubtful")).await;
    assert!(matches!(written, Err(SubmitError::Unknown)), "{written:?}");
    until("another one leads", || {
        cluster.running.iter().any(|(number, one)| *number != leader && one.server.is_leader())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_scale_a_job_at_once_both_succeed() {
    let cluster = Cluster::of_three(Net::memory()).await;
    let server = cluster.server(cluster.leader().await);
    let registered = server.register_job(batch_job("scaled")).await.expect("it is a sound job");
    // Both look at the job before either has changed it.
    let (one, other) =
        tokio::join!(server.scale_job(count_of("scaled", 2)), server.scale_job(count_of("scaled", 3)));
    one.expect("nobody asked for an index");
    other.expect("nobody asked for an index");
    let enforce_index = Some(registered.job_modify_index);
    let late = server.scale_job(Scale { enforce_index, ..count_of("scaled", 4) }).await;
    assert!(late.is_err(), "whoever asks for an index is told that it has passed");
    cluster.stop().await;
}

/// A batch job: nobody may scale a service while a deployment is under way.
fn batch_job(id: &str) -> Register {
    let document = json!({
        "ID": id, "Name": id, "Type": "batch", "Datacenters": ["dc1"],
        "TaskGroups": [{"Name": "group", "Count": 1, "Tasks": [{"Name": "main", "Driver": "mock_driver"}]}],
    });
    Register {
        draft: Draft { document, namespace: "default".to_owned() },
        submission: None,
        enforce_index: None,
        preserve_counts: false,
        preserve_resources: false,
        eval_priority: None,
    }
}

fn count_of(id: &str, count: i64) -> Scale {
    Scale {
        key: JobKey::new("default", id),
        group: "group".into(),
        count: Some(count),
        message: String::new(),
        error: false,
        meta: String::new(),
        enforce_index: None,
    }
}

/// A new leader has not applied everything yet that the one before acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_acknowledged_the_next_one_does_not_call_unknown() {
    let mut cluster = Cluster::of_three(Net::memory()).await;
    for round in 0..4 {
        let id = format!("new-{round}");
        let leader = cluster.leader().await;
        cluster.server(leader).register_job(batch_job(&id)).await.expect("it is a sound job");
        cluster.kill(leader).await;
        let next = cluster.leader().await;
        let scaled = cluster.server(next).scale_job(count_of(&id, 2)).await;
        assert!(matches!(scaled, Ok(_) | Err(RequestError::Submit(_))), "round {round}: {scaled:?}");
        cluster.start(leader).await.expect("it starts");
    }
    cluster.stop().await;
}

/// Prints how long writes are away when a leader dies, over real QUIC.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_back_soon_after_a_leader_dies() {
    let mut cluster = Cluster::of_three_with(Net::quic(), RawConfig::default()).await;
    let env = Env::real(Shutdown::new());
    let (mut elected, mut away) = (Vec::new(), Vec::new());
    for round in 0..8 {
        let leader = cluster.leader().await;
        let follower = cluster.followers().await[0];
        let server = cluster.server(follower).clone();
        server.submit(&namespace(&format!("warm-{round}"))).await.expect("there is a leader");
        let killed = env.now();
        cluster.kill(leader).await;
        cluster.leader().await;
        elected.push(env.now().saturating_duration_since(killed));
        let mut tries = 0;
        while server.submit(&namespace(&format!("back-{round}-{tries}"))).await.is_err() {
            tries += 1;
            assert!(tries < 100, "writes do not come back");
        }
        away.push(env.now().saturating_duration_since(killed));
        cluster.start(leader).await.expect("it starts");
        let back = cluster.server(leader).clone();
        until("it has caught up", || has(&back, &format!("back-{round}-{tries}"))).await;
    }
    away.sort_unstable();
    elected.sort_unstable();
    println!("another led after {elected:?}, writes were away for {away:?}");
    assert!(away[away.len() - 1] < Duration::from_secs(20), "{away:?}");
    cluster.stop().await;
}
