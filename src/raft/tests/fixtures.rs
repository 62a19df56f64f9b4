//! What older versions wrote must load. The files were written once and are never written again.

mod mesh;

use std::{fs, path::PathBuf};

use bytes::Bytes;
use mesh::{Mesh, on_disk, open, peer, texts};
use raft::{
    ChainHash, ClusterMarker, LogPoint, Mark, Members, Payload, Record, VoteRecord, check_snapshot,
    decode_entry, decode_mark, encode_entry, encode_mark,
};

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    fs::read(path).expect("fixtures are part of the source")
}

fn records() -> Vec<(&'static str, Record)> {
    let members = Members { voters: vec![[1, 2].into()], peers: [1, 2, 3].map(|id| (id, peer(id))).into() };
    let at = |index| LogPoint { term: 4, index };
    vec![
        ("entry-v1-blank.bin", Record { point: at(10), payload: Payload::Blank }),
        (
            "entry-v1-command.bin",
            Record { point: at(11), payload: Payload::Command(Bytes::from_static(b"register job web")) },
        ),
        ("entry-v1-members.bin", Record { point: at(12), payload: Payload::Members(members) }),
    ]
}

#[test]
fn entries_of_version_1_load_and_are_still_written_so() {
    for (name, record) in records() {
        let previous = ChainHash([7; 16]);
        assert_eq!(decode_entry(&fixture(name)), Ok((record.clone(), previous)), "{name}");
        assert_eq!(encode_entry(&record, previous), fixture(name), "{name}");
    }
}

#[test]
fn a_mark_of_version_1_loads_and_is_still_written_so() {
    let mark = Mark {
        sequence: 42,
        last: Some((LogPoint { term: 4, index: 12 }, ChainHash([9; 16]))),
        vote: Some((VoteRecord { term: 4, node: 2, committed: true }, 6)),
        cluster: Some(ClusterMarker(0xC1)),
    };
    assert_eq!(decode_mark(&fixture("mark-v1.bin")).expect("it is whole"), mark);
    assert_eq!(encode_mark(&mark).to_vec(), fixture("mark-v1.bin"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_version_1_starts_a_server() {
    let bytes = fixture("snapshot-v1.snapshot");
    let last = check_snapshot(&bytes[..]).expect("it is whole");
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("snapshots")).expect("a directory");
    fs::write(dir.path().join("snapshots/old.snapshot"), bytes).expect("it can be copied");
    let raft = open(on_disk(dir.path()), 1, &Mesh::default()).await.expect("a snapshot alone is enough");
    assert_eq!(texts(&raft), ["job 0", "job 1", "job 2"]);
    assert_eq!(raft.applied_index(), last.map(|last| last.index));
    assert!(raft.members().voter_ids().contains(&1));
    raft.shutdown().await;
}
