//! What was acknowledged is there after any kind of stop.

mod mesh;

use std::time::Duration;

use mesh::{CLUSTER, Mesh, copy_dir, found_alone, in_memory, on_disk, open, peer, propose, texts, until};
use raft::{BootstrapError, Config, MemoryDisk, OpenError, ReadMode};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_voter_restarts_with_everything_and_leads_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let raft = found_alone(on_disk(dir.path())).await;
    for n in 0..50 {
        propose(&raft, &format!("job {n}")).await;
    }
    let before = (texts(&raft), raft.applied_index());
    raft.shutdown().await;

    let raft = open(on_disk(dir.path()), 1, &Mesh::default()).await.expect("a whole log opens");
    until("it leads again", || raft.is_leader()).await;
    raft.barrier(ReadMode::Quorum).await.expect("a single voter is its own quorum");
    assert_eq!(texts(&raft), before.0);
    assert!(raft.applied_index() > before.1);
    assert_eq!(raft.cluster(), Some(CLUSTER));
    propose(&raft, "one more").await;
    raft.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_keeps_what_it_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let raft = found_alone(on_disk(dir.path())).await;
    for n in 0..40 {
        propose(&raft, &format!("job {n}")).await;
        if n % 10 == 9 {
            let left = tempfile::tempdir().expect("a directory");
            copy_dir(dir.path(), left.path());
            let again =
                open(on_disk(left.path()), 1, &Mesh::default()).await.expect("what a kill leaves opens");
            until("it leads", || again.is_leader()).await;
            again.barrier(ReadMode::Quorum).await.expect("a single voter is its own quorum");
            assert_eq!(texts(&again).len(), n + 1);
            again.shutdown().await;
        }
    }
    raft.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_takes_the_place_of_the_log_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { trailing_logs: 10, ..on_disk(dir.path()) };
    let raft = found_alone(config.clone()).await;
    for round in 0..3 {
        for n in 0..400 {
            propose(&raft, &format!("job {round}/{n}")).await;
        }
        let applied = raft.applied_index();
        raft.snapshot().await.expect("it runs");
        until("the snapshot is there", || raft.status().snapshot.map(|at| at.index) == applied).await;
    }
    until("the log is shorter", || raft.status().purged.is_some_and(|at| at.index > 400)).await;
    propose(&raft, "after").await;
    let before = texts(&raft);
    raft.shutdown().await;
    let kept = std::fs::read_dir(dir.path().join("snapshots")).expect("the directory exists").count();
    assert_eq!(kept, 2);

    let raft = open(config.clone(), 1, &Mesh::default()).await.expect("a whole store opens");
    until("it leads", || raft.is_leader()).await;
    raft.barrier(ReadMode::Quorum).await.expect("a single voter is its own quorum");
    assert_eq!(texts(&raft), before);
    raft.shutdown().await;

    std::fs::remove_dir_all(dir.path().join("snapshots")).expect("the snapshots can go");
    let refused = open(config, 1, &Mesh::default()).await.err();
    assert!(matches!(refused, Some(OpenError::SnapshotMissing { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_come_by_themselves_when_enough_was_written() {
    let disk = MemoryDisk::new();
    let config =
        Config { snapshot_threshold: 20, snapshot_interval: Duration::from_millis(50), ..in_memory(&disk) };
    let raft = found_alone(config).await;
    for n in 0..30 {
        propose(&raft, &format!("job {n}")).await;
    }
    until("a snapshot is taken", || raft.status().snapshot.is_some()).await;
    raft.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_data_never_founds_a_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let raft = found_alone(on_disk(dir.path())).await;
    assert_eq!(raft.bootstrap(&[peer(1)], CLUSTER).await, Err(BootstrapError::NotEmpty));
    raft.shutdown().await;
    let raft = open(on_disk(dir.path()), 1, &Mesh::default()).await.expect("a whole log opens");
    assert!(raft.has_state());
    assert_eq!(raft.bootstrap(&[peer(1), peer(2)], CLUSTER).await, Err(BootstrapError::NotEmpty));
    raft.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let raft = found_alone(on_disk(dir.path())).await;
    let refused = open(on_disk(dir.path()), 1, &Mesh::default()).await.err();
    assert!(matches!(refused, Some(OpenError::InUse { .. })), "{refused:?}");
    raft.shutdown().await;
}
