//! Three servers in one process.

mod mesh;

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use mesh::{CLUSTER, Ledger, Mesh, found_alone, in_memory, on_disk, open, peer, propose, texts, until};
use raft::{ChangeError, ClusterMarker, Config, MemoryDisk, ProposeError, Raft, ReadMode};

struct Cluster {
    mesh: Mesh,
    disks: Vec<MemoryDisk>,
    servers: Vec<Raft<Ledger>>,
}

impl Cluster {
    async fn of_three(adapt: impl Fn(Config) -> Config) -> Self {
        let mesh = Mesh::default();
        let (mut disks, mut servers) = (Vec::new(), Vec::new());
        for id in 1..=3 {
            let disk = MemoryDisk::new();
            servers.push(open(adapt(in_memory(&disk)), id, &mesh).await.expect("an empty disk opens"));
            disks.push(disk);
        }
        let founders = [peer(1), peer(2), peer(3)];
        // Every founder does the same, as servers do that wait for each other.
        for server in &servers {
            // A founder that has voted for another one already has nothing left to found.
            let _ = server.bootstrap(&founders, CLUSTER).await;
        }
        let cluster = Self { mesh, disks, servers };
        cluster.leader_among(&[1, 2, 3]).await;
        cluster
    }

    fn server(&self, id: u64) -> &Raft<Ledger> {
        self.servers.iter().find(|server| server.me().id == id).expect("ids are 1 to 3")
    }

    async fn leader_among(&self, ids: &[u64]) -> u64 {
        let mut leader = None;
        until("there is a leader", || {
            leader = ids.iter().copied().find(|id| self.server(*id).is_leader());
            leader.is_some()
        })
        .await;
        leader.expect("it was just found")
    }

    async fn stop(&self) {
        for server in &self.servers {
            server.shutdown().await;
        }
    }
}

fn others(of: u64) -> Vec<u64> {
    (1..=3).filter(|id| *id != of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_outlives_its_leader() {
    let cluster = Cluster::of_three(|config| config).await;
    let first = cluster.leader_among(&[1, 2, 3]).await;
    for n in 0..20 {
        propose(cluster.server(first), &format!("before {n}")).await;
    }
    cluster.mesh.isolate(first);
    let rest = others(first);
    let second = cluster.leader_among(&rest).await;
    for n in 0..20 {
        propose(cluster.server(second), &format!("after {n}")).await;
    }
    assert!(cluster.server(first).barrier(ReadMode::Quorum).await.is_err());
    cluster.mesh.heal();
    until("the old leader follows", || cluster.server(first).leader() == Some(peer(second))).await;
    for id in 1..=3 {
        until("everyone has everything", || texts(cluster.server(id)).len() == 40).await;
        assert_eq!(texts(cluster.server(id)), texts(cluster.server(second)));
    }
    let refused = cluster.server(first).propose(Bytes::from_static(b"elsewhere")).await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(peer(second)) }));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lags_far_behind_gets_a_snapshot() {
    let cluster = Cluster::of_three(|config| Config { trailing_logs: 5, ..config }).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let behind = others(leader)[0];
    propose(cluster.server(leader), "together").await;
    cluster.mesh.isolate(behind);
    for n in 0..600 {
        propose(cluster.server(leader), &format!("alone {n}")).await;
    }
    cluster.server(leader).snapshot().await.expect("it runs");
    until("the log is purged", || cluster.server(leader).status().purged.is_some_and(|at| at.index > 300))
        .await;
    cluster.mesh.heal();
    until("it has caught up", || texts(cluster.server(behind)).len() == 601).await;
    assert_eq!(texts(cluster.server(behind)), texts(cluster.server(leader)));
    until("it says so", || cluster.server(behind).status().snapshot.is_some()).await;

    // What arrived is also what the next start finds.
    cluster.mesh.leave(behind);
    cluster.server(behind).shutdown().await;
    let disk = &cluster.disks[usize::try_from(behind).expect("a small number") - 1];
    disk.crash();
    let again = open(in_memory(disk), behind, &cluster.mesh).await.expect("a whole disk opens");
    until("it has everything again", || texts(&again).len() == 601).await;
    again.shutdown().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_on_request() {
    let cluster = Cluster::of_three(|config| config).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let next = others(leader)[1];
    propose(cluster.server(leader), "first").await;
    let refused = cluster.server(next).transfer_leader(leader).await;
    assert!(matches!(refused, Err(ChangeError::NotLeader { .. })), "{refused:?}");
    until("it is up to date", || texts(cluster.server(next)).len() == 1).await;
    cluster.server(leader).transfer_leader(next).await.expect("it leads and the target votes");
    until("the other one leads", || cluster.server(next).is_leader()).await;
    propose(cluster.server(next), "second").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_and_shrinks_on_disk() {
    let (home, new) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let mesh = Mesh::default();
    let first = open(on_disk(home.path()), 1, &mesh).await.expect("an empty directory opens");
    first.bootstrap(&[peer(1)], CLUSTER).await.expect("it is empty");
    until("it leads", || first.is_leader()).await;
    propose(&first, "alone").await;

    let second = open(on_disk(new.path()), 2, &mesh).await.expect("an empty directory opens");
    first.add_learner(peer(2), true).await.expect("it can be reached");
    assert_eq!(second.cluster(), Some(CLUSTER));
    assert_eq!(first.members().learner_ids(), BTreeSet::from([2]));
    first.promote(BTreeSet::from([2])).await.expect("it has caught up");
    assert_eq!(first.members().voter_ids(), BTreeSet::from([1, 2]));
    propose(&first, "together").await;
    until("both have it", || texts(&second) == ["alone", "together"]).await;

    first.remove(2).await.expect("one is left");
    assert_eq!(first.members().peers.len(), 1);
    propose(&first, "alone again").await;
    let unknown = first.promote(BTreeSet::from([9])).await;
    assert!(matches!(unknown, Err(ChangeError::Refused { .. })), "{unknown:?}");
    second.shutdown().await;
    first.shutdown().await;
}

/// Two steps make a change of the voters, and whoever asked for it may be gone after the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_given_up_on_can_be_brought_to_its_end() {
    let cluster = Cluster::of_three(|config| config).await;
    let leader = cluster.server(cluster.leader_among(&[1, 2, 3]).await);
    propose(leader, "first").await;
    let refused = leader.finish_change().await;
    assert!(matches!(refused, Err(ChangeError::Refused { .. })), "{refused:?}");

    let gone = others(leader.me().id)[0];
    let begun = tokio::time::timeout(Duration::ZERO, leader.remove(gone)).await;
    assert!(begun.is_err(), "it is given up on at once");
    until("both sets of voters count", || leader.members().voters.len() == 2).await;
    let begun_at = leader.status().members_index;
    until("the first step is committed, as it has to be before the second", || {
        leader.status().committed.is_some_and(|committed| committed.index >= begun_at)
    })
    .await;
    leader.finish_change().await.expect("the others answer");
    let members = leader.members();
    assert_eq!(members.voters.len(), 1);
    assert!(!members.peers.contains_key(&gone), "{members:?}");
    propose(leader, "second").await;
    cluster.stop().await;
}

/// Alone a leader rests; in company it must give signs of life again, or the others would depose it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_rested_alone_keeps_its_followers() {
    let disks: [MemoryDisk; 3] = std::array::from_fn(|_| MemoryDisk::new());
    let mesh = Mesh::default();
    let mut servers = Vec::new();
    for (disk, id) in disks.iter().zip(1..) {
        servers.push(open(in_memory(disk), id, &mesh).await.expect("an empty disk opens"));
    }
    let first = &servers[0];
    first.bootstrap(&[peer(1)], CLUSTER).await.expect("it is empty");
    until("it leads", || first.is_leader()).await;
    let long = in_memory(&disks[0]).election_max * 4;
    mesh::env().sleep(long).await;
    for _ in 0..2 {
        for id in [2, 3] {
            first.add_learner(peer(id), true).await.expect("it can be reached");
        }
        first.promote(BTreeSet::from([2, 3])).await.expect("they have caught up");
        propose(first, "together").await;
        let led = first.status().leadership;
        mesh::env().sleep(long).await;
        assert_eq!(first.status().leadership, led, "nobody missed a sign of life");
        assert!(first.barrier(ReadMode::Lease).await.is_ok());
        first.change_membership(BTreeSet::from([1])).await.expect("it leads");
        mesh::env().sleep(long).await;
        propose(first, "alone").await;
    }
    for id in [2, 3] {
        first.add_learner(peer(id), true).await.expect("it can be reached");
    }
    first.promote(BTreeSet::from([2, 3])).await.expect("they have caught up");
    mesh.isolate(1);
    until("another one leads", || servers[1].is_leader() || servers[2].is_leader()).await;
    for server in &servers {
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_two_clusters_do_not_mix() {
    let mesh = Mesh::default();
    let mut servers = Vec::new();
    for (id, cluster) in [(1, CLUSTER), (2, ClusterMarker(0xC2))] {
        let server = open(in_memory(&MemoryDisk::new()), id, &mesh).await.expect("an empty disk opens");
        server.bootstrap(&[peer(id)], cluster).await.expect("it is empty");
        until("it leads", || server.is_leader()).await;
        servers.push(server);
    }
    propose(&servers[1], "theirs").await;
    servers[0].add_learner(peer(2), false).await.expect("the entry is committed by one voter");
    propose(&servers[0], "ours").await;
    // The stranger refuses every message, so it keeps its own leader and its own state.
    propose(&servers[1], "still theirs").await;
    assert_eq!(texts(&servers[1]), ["theirs", "still theirs"]);
    assert!(servers[1].is_leader());
    for server in &servers {
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_under_way_share_syncs() {
    const PROPOSALS: u64 = 2000;
    let dir = tempfile::tempdir().expect("a directory");
    let raft = found_alone(on_disk(dir.path())).await;
    // The entry that opens the term is durable before this one.
    propose(&raft, "first").await;
    let before = raft.log_counts();
    let proposals = (0..PROPOSALS).map(|n| {
        let raft = raft.clone();
        async move { propose(&raft, &format!("job {n}")).await }
    });
    let indexes: BTreeSet<u64> = futures_util::future::join_all(proposals).await.into_iter().collect();
    let after = raft.log_counts();
    assert_eq!(indexes.len() as u64, PROPOSALS);
    assert_eq!(after.entries - before.entries, PROPOSALS);
    let syncs = after.log_syncs - before.log_syncs + after.mark_syncs - before.mark_syncs;
    assert!(syncs * 20 < PROPOSALS, "{syncs} syncs for {PROPOSALS} proposals");
    let too_large = Bytes::from(vec![0; (64 << 20) + 1]);
    assert!(matches!(raft.propose(too_large).await, Err(ProposeError::TooLarge { .. })));
    assert_eq!(raft.stats().get("state").map(String::as_str), Some("Leader"));
    raft.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_a_lone_leader_need_no_network() {
    let raft = found_alone(in_memory(&MemoryDisk::new())).await;
    let written = propose(&raft, "job").await;
    assert!(raft.barrier(ReadMode::Quorum).await.expect("it is its own quorum") >= written);
    assert!(raft.barrier(ReadMode::Lease).await.expect("its lease is fresh") >= written);
    raft.shutdown().await;
}
