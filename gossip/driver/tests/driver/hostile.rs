//! Packets from who should not be heard: they change nothing, and are counted.

use std::time::Duration;

use gossip_core::{LeavePrune, Status};
use gossip_driver::{Dropped, Event, Handle, PoolKind, Whom};
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, Start, addr, alive, id, status, statuses, until};

const REGION: PoolKind = PoolKind::Region;

/// Lets two agents that must not hear each other try for a while.
async fn strangers(seed: u64, one: Start, other: Start) -> (Handle, Handle) {
    let cluster = Cluster::new(seed);
    let addrs = [one.addr(), other.addr()];
    let (one, other) = (cluster.start(one), cluster.start(other));
    one.join(REGION, vec![addrs[1]]).await.expect("it is open");
    other.join(REGION, vec![addrs[0]]).await.expect("it is open");
    sleep(Duration::from_secs(30)).await;
    for agent in [&one, &other] {
        assert_eq!(agent.members(REGION).len(), 1, "it knows itself alone");
        assert!(agent.traffic().received > 0, "packets came");
        assert_eq!(agent.traffic().received, agent.traffic().dropped_in_all(), "all were dropped");
    }
    (one, other)
}

#[tokio::test(start_paused = true)]
async fn agents_with_different_keys_do_not_meet() {
    let (one, other) = strangers(30, Start::agent(1), Start { key: 2, ..Start::agent(2) }).await;
    for agent in [one, other] {
        assert!(agent.traffic().dropped(Dropped::UnknownKey) > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn agents_of_different_regions_do_not_meet_in_the_region_pool() {
    let (one, other) = strangers(31, Start::agent(1), Start { region: "europe", ..Start::agent(2) }).await;
    for agent in [one, other] {
        assert!(agent.traffic().dropped(Dropped::Region) > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn agents_of_different_clusters_do_not_meet() {
    let of = |number, cluster| Start { cluster: Some(cluster), ..Start::agent(number) };
    let (one, other) = strangers(32, of(1, 7), of(2, 8)).await;
    for agent in [one, other] {
        assert!(agent.traffic().dropped(Dropped::Cluster) > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn agents_that_learn_their_cluster_one_after_the_other_stay_together() {
    let cluster = Cluster::new(33);
    let agents = cluster.of(3, Start::agent).await;
    for agent in &agents {
        agent.set_cluster(Some(9)).await.expect("it runs");
        sleep(Duration::from_secs(10)).await;
    }
    assert!(agents.iter().all(|agent| alive(agent) == 3));
    assert!(agents.iter().all(|agent| agent.traffic().dropped(Dropped::Cluster) == 0));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_takes_our_id_is_found_out() {
    let cluster = Cluster::new(34);
    let first = cluster.start(Start::agent(1));
    let mut events = first.subscribe();
    sleep(Duration::from_secs(1)).await;
    let double = Start { port: 4_649, ..Start::agent(1) };
    let at = double.addr();
    let second = cluster.start(double);
    second.join(REGION, vec![addr(1)]).await.expect("it is open");
    first.join(REGION, vec![at]).await.expect("it is open");
    loop {
        let event = events.recv().await.expect("it runs");
        if let Event::Member { change: gossip_core::Event::Doubled { addr }, .. } = event {
            assert_eq!(addr, at);
            break;
        }
    }
    until("the second hears itself", || second.traffic().dropped(Dropped::Own) > 0).await;
    assert!([&first, &second].iter().all(|agent| agent.members(REGION).len() == 1));
}

#[tokio::test(start_paused = true)]
async fn joining_by_our_own_address_is_harmless() {
    let cluster = Cluster::new(38);
    let agents = cluster.of(2, Start::agent).await;
    agents[0].join(REGION, vec![addr(1), addr(2)]).await.expect("it is open");
    sleep(Duration::from_secs(30)).await;
    assert!(agents.iter().all(|agent| alive(agent) == 2 && agent.members(REGION).len() == 2));
}

#[tokio::test(start_paused = true)]
async fn changed_and_repeated_packets_change_nothing() {
    let cluster = Cluster::new(35);
    cluster.network.record();
    let agents = cluster.of(4, Start::agent).await;
    let recorded = cluster.network.recorded();
    assert!(recorded.len() > 20, "they talked");
    let before: Vec<_> = agents.iter().map(statuses).collect();
    let injected = recorded.len() as u64;
    for sent in &recorded {
        // Once as it was, once with a bit changed: in the header, in what is sealed, in the tag.
        cluster.network.inject(sent.from, sent.to, &sent.bytes);
        for at in [20, 52, sent.bytes.len() - 1] {
            let mut changed = sent.bytes.to_vec();
            changed[at] ^= 0x10;
            cluster.network.inject(sent.from, sent.to, &changed);
        }
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_secs(5)).await;
    let dropped = |reason| agents.iter().map(|agent| agent.traffic().dropped(reason)).sum::<u64>();
    assert_eq!(dropped(Dropped::Replayed) + dropped(Dropped::Forged) + dropped(Dropped::Own), 4 * injected);
    assert!(dropped(Dropped::Replayed) >= injected);
    assert_eq!(before, agents.iter().map(statuses).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn repeated_packets_bring_nobody_back() {
    let cluster = Cluster::new(36);
    cluster.network.record();
    let agents = cluster.of(3, Start::agent).await;
    sleep(Duration::from_secs(10)).await;
    let recorded = cluster.network.recorded();
    agents[2].stop().await;
    let replay = || {
        for sent in recorded.iter().filter(|sent| sent.from == addr(3)) {
            cluster.network.inject(sent.from, sent.to, &sent.bytes);
        }
    };
    let stay = &agents[..2];
    // All the time, so that an old sign of life comes at each step of finding out.
    for _tenth in 0..300 {
        replay();
        sleep(Duration::from_millis(100)).await;
    }
    assert!(stay.iter().all(|agent| status(agent, 3) == Some(Status::Failed)));
    let mut events = agents[0].subscribe();
    let whom = Whom::Id(id(3));
    assert_eq!(agents[0].force_leave(REGION, whom, LeavePrune::Prune).await, Ok(1));
    until("it is forgotten", || stay.iter().all(|agent| status(agent, 3).is_none())).await;
    for _second in 0..30 {
        replay();
        sleep(Duration::from_secs(1)).await;
    }
    assert!(stay.iter().all(|agent| status(agent, 3).is_none()));
    while let Ok(event) = events.try_recv() {
        let back = matches!(
            event,
            Event::Member { change: gossip_core::Event::Joined(_) | gossip_core::Event::Returned(_), .. }
        );
        assert!(!back, "{event:?}");
    }
    let dropped: u64 = stay.iter().map(|agent| agent.traffic().dropped(Dropped::Replayed)).sum();
    assert!(dropped > 0, "the packets came");
}

#[tokio::test(start_paused = true)]
async fn a_flood_keeps_nobody_from_talking() {
    let cluster = Cluster::new(37);
    cluster.network.record();
    let agents = cluster.of(3, Start::agent).await;
    let genuine =
        cluster.network.recorded().into_iter().find(|sent| sent.to == addr(1)).expect("they talked");
    let mut forged = genuine.bytes.to_vec();
    *forged.last_mut().expect("not empty") ^= 1;
    // A counter ahead of all others, so that each costs a decryption.
    forged[42..50].copy_from_slice(&(1_u64 << 40).to_be_bytes());
    let sent_before = agents[0].traffic().sent;
    let (start, mut injected) = (Instant::now(), 0_u64);
    while start.elapsed() < Duration::from_secs(15) {
        for _ in 0..40 {
            cluster.network.inject(genuine.from, addr(1), &forged);
            cluster.network.inject(([192, 0, 2, 1], 53).into(), addr(1), b"rubbish");
            injected += 2;
        }
        sleep(Duration::from_millis(40)).await;
    }
    let traffic = agents[0].traffic();
    assert!(agents.iter().all(|agent| alive(agent) == 3));
    assert_eq!(traffic.dropped(Dropped::Forged) + traffic.dropped(Dropped::Foreign), injected);
    assert!(traffic.sent - sent_before < 1_000, "bad packets are not answered");
}
