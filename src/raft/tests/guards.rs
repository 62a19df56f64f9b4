//! A log that lost something does not open, and a store that fails stops the server.

mod mesh;

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use mesh::{Ledger, Mesh, copy_dir, found_alone, in_memory, open, propose, texts, until, used_length};
use raft::{
    ClusterMarker, Fault, FjallLog, LogPoint, LogStore, MarkSync, MemoryDisk, OpenError, Payload,
    ProposeError, Record, Settled, VoteRecord, wipe,
};

const VOTE: VoteRecord = VoteRecord { term: 1, node: 1, committed: true };

fn record(index: u64, text: &str) -> Record {
    Record {
        point: LogPoint { term: 1, index },
        payload: Payload::Command(Bytes::copy_from_slice(text.as_bytes())),
    }
}

/// Writes a log of `count` entries in groups, as a server does, and closes it.
fn write_log(dir: &Path, count: u64) {
    let mut log = FjallLog::open(dir, MarkSync::Behind).expect("an empty directory opens");
    log.save_cluster(ClusterMarker(7)).expect("the disk works");
    log.save_vote(VOTE).expect("the disk works");
    for index in 0..count {
        log.append(&[record(index, &format!("command number {index}"))], None).expect("the disk works");
    }
    log.settle().expect("the disk works");
}

fn journal(dir: &Path) -> PathBuf {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir.join("log")).expect("the log is there") {
        let path = entry.expect("the directory can be read").path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            found.push(path);
        }
    }
    found.pop().expect("fjall keeps a journal")
}

fn used(path: &Path) -> u64 {
    let bytes = fs::read(path).expect("the journal can be read");
    used_length(&bytes) as u64
}

fn flip(path: &Path, at: u64, bit: u8) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("the file is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("the place is inside");
    file.write_all_at(&[byte[0] ^ (1 << bit)], at).expect("the place can be written");
}

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    copy_dir(dir, copy.path());
    copy
}

#[test]
fn a_flipped_bit_anywhere_in_the_journal_never_loses_entries_in_silence() {
    const ENTRIES: u64 = 40;
    let dir = tempfile::tempdir().expect("a directory");
    write_log(dir.path(), ENTRIES);
    let length = used(&journal(dir.path()));
    let (mut refused, mut harmless) = (0, 0);
    // A step that is no multiple of anything in the format, so that every field is met somewhere.
    for (n, at) in (0..length).step_by(47).enumerate() {
        let copy = copy_of(dir.path());
        flip(&journal(copy.path()), at, u8::try_from(n % 8).expect("less than eight"));
        match FjallLog::open(copy.path(), MarkSync::Behind) {
            Err(error) => {
                assert!(error.must_rejoin(), "{error}");
                refused += 1;
            }
            Ok(log) => {
                let found = log.found();
                assert_eq!(found.last, Some(LogPoint { term: 1, index: ENTRIES - 1 }), "byte {at}");
                assert_eq!(found.vote, Some(VOTE), "byte {at}");
                let read = log.reader().read(0, ENTRIES).expect("what opens can be read");
                assert_eq!(read.len() as u64, ENTRIES);
                assert_eq!(read[17], record(17, "command number 17"));
                harmless += 1;
            }
        }
    }
    assert!(refused > 30, "{refused} refused, {harmless} harmless");
}

#[test]
fn a_journal_cut_short_is_a_loss() {
    let dir = tempfile::tempdir().expect("a directory");
    write_log(dir.path(), 40);
    let length = used(&journal(dir.path()));
    for cut in [length / 4, length / 2, length - 20] {
        let copy = copy_of(dir.path());
        let file =
            fs::OpenOptions::new().write(true).open(journal(copy.path())).expect("the journal is there");
        file.set_len(cut).expect("it can be cut");
        drop(file);
        let Err(OpenError::LostEntries(loss)) = FjallLog::open(copy.path(), MarkSync::Behind) else {
            panic!("a cut at {cut} of {length} was not noticed as a loss");
        };
        assert_eq!(loss.acknowledged, Some(LogPoint { term: 1, index: 39 }));
        assert!(loss.found < loss.acknowledged);
        assert_eq!((loss.vote, loss.cluster), (Some(VOTE), Some(ClusterMarker(7))));
    }
}

#[test]
fn an_older_log_put_in_place_is_a_loss() {
    let dir = tempfile::tempdir().expect("a directory");
    write_log(dir.path(), 10);
    let old = copy_of(dir.path());
    let mut log = FjallLog::open(dir.path(), MarkSync::Behind).expect("a whole log opens");
    log.append(&[record(10, "later")], None).expect("the disk works");
    drop(log);
    fs::remove_dir_all(dir.path().join("log")).expect("the log can go");
    copy_dir(&old.path().join("log"), &dir.path().join("log"));
    assert!(matches!(FjallLog::open(dir.path(), MarkSync::Behind), Err(OpenError::LostEntries(_))));
}

#[test]
fn a_vote_that_vanished_is_a_loss() {
    let dir = tempfile::tempdir().expect("a directory");
    write_log(dir.path(), 3);
    let old = copy_of(dir.path());
    let mut log = FjallLog::open(dir.path(), MarkSync::Behind).expect("a whole log opens");
    log.save_vote(VoteRecord { term: 2, node: 3, committed: false }).expect("the disk works");
    drop(log);
    fs::copy(dir.path().join("mark"), old.path().join("mark")).expect("the mark can be copied");
    let Err(OpenError::LostEntries(loss)) = FjallLog::open(old.path(), MarkSync::Behind) else {
        panic!("a vote was lost in silence");
    };
    assert_eq!(loss.vote.map(|vote| (vote.term, vote.node)), Some((2, 3)));
}

#[test]
fn a_log_without_its_mark_does_not_open() {
    let dir = tempfile::tempdir().expect("a directory");
    write_log(dir.path(), 5);
    let mark = dir.path().join("mark");
    let bytes = fs::read(&mark).expect("the mark is there");
    fs::remove_file(&mark).expect("the mark can go");
    assert!(matches!(FjallLog::open(dir.path(), MarkSync::Behind), Err(OpenError::MarkMissing { .. })));
    fs::write(&mark, vec![0xAA; bytes.len()]).expect("the mark can be written");
    assert!(matches!(FjallLog::open(dir.path(), MarkSync::Behind), Err(OpenError::Mark { .. })));
    fs::write(&mark, bytes).expect("the mark can be written");
    FjallLog::open(dir.path(), MarkSync::Behind).expect("with its mark it opens");
}

#[test]
fn one_damaged_slot_of_the_mark_is_survived() {
    for slot in [0, 4096] {
        let dir = tempfile::tempdir().expect("a directory");
        write_log(dir.path(), 5);
        flip(&dir.path().join("mark"), slot + 20, 3);
        let log = FjallLog::open(dir.path(), MarkSync::Behind).expect("the other slot is whole");
        assert_eq!(log.found().last, Some(LogPoint { term: 1, index: 4 }));
        assert_eq!(log.found().vote, Some(VOTE));
    }
}

#[test]
fn a_log_put_aside_leaves_room_for_an_empty_one() {
    let dir = tempfile::tempdir().expect("a directory");
    write_log(dir.path(), 5);
    fs::remove_dir_all(dir.path().join("log")).expect("the log can go");
    assert!(matches!(FjallLog::open(dir.path(), MarkSync::Behind), Err(OpenError::LostEntries(_))));
    wipe(dir.path()).expect("it can be put aside");
    let log = FjallLog::open(dir.path(), MarkSync::Behind).expect("an empty directory opens");
    assert!(log.found().is_empty());
}

#[test]
fn a_log_that_ends_the_process_each_time_it_is_opened_is_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    write_log(dir.path(), 5);
    let opening = dir.path().join("opening");
    assert!(!opening.exists(), "an attempt that ended well leaves nothing");
    // What three processes leave that ended while they opened it.
    fs::write(&opening, [3]).expect("it can be written");
    assert!(matches!(FjallLog::open(dir.path(), MarkSync::Behind), Err(OpenError::Damaged { .. })));
    wipe(dir.path()).expect("it can be put aside");
    let log = FjallLog::open(dir.path(), MarkSync::Behind).expect("an empty directory opens");
    assert!(log.found().is_empty() && !opening.exists());
}

#[test]
fn a_shortened_and_rewritten_log_opens_with_its_last_content() {
    let dir = tempfile::tempdir().expect("a directory");
    for step in 0..3 {
        let dir = copy_of(dir.path());
        let mut log = FjallLog::open(dir.path(), MarkSync::BeforeAck).expect("it opens");
        let records: Vec<Record> = (0..20).map(|index| record(index, "first")).collect();
        log.append(&records, None).expect("the disk works");
        log.truncate_after(Some(9)).expect("the disk works");
        if step > 0 {
            let records: Vec<Record> = (10..15).map(|index| record(index, "second")).collect();
            log.append(&records, None).expect("the disk works");
        }
        if step > 1 {
            log.purge(LogPoint { term: 1, index: 12 }).expect("the disk works");
        }
        let before = log.found();
        drop(log);
        let log = FjallLog::open(dir.path(), MarkSync::Behind).expect("nothing was lost");
        assert_eq!(log.found(), before);
        assert_eq!(before.last.map(|last| last.index), Some(if step == 0 { 9 } else { 14 }));
    }
}

#[test]
fn purged_entries_give_their_space_back_even_after_a_crash() {
    let dir = tempfile::tempdir().expect("a directory");
    write_log(dir.path(), 30);
    let mut log = FjallLog::open(dir.path(), MarkSync::Behind).expect("a whole log opens");
    log.purge(LogPoint { term: 1, index: 19 }).expect("the disk works");
    assert_eq!(log.reader().read(0, 100).expect("it can be read").len(), 10);
    drop(log);
    let mut log = FjallLog::open(dir.path(), MarkSync::Behind).expect("nothing was lost");
    assert_eq!(log.found().first, 20);
    assert_eq!(log.settle().expect("the disk works"), Settled::More);
    assert_eq!(log.settle().expect("the disk works"), Settled::Done);
    log.append(&[record(30, "goes on")], None).expect("the disk works");
    assert_eq!(log.reader().read(0, 100).expect("it can be read").len(), 11);
}

#[test]
fn a_purge_past_the_end_starts_a_log_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    write_log(dir.path(), 5);
    let mut log = FjallLog::open(dir.path(), MarkSync::Behind).expect("a whole log opens");
    log.purge(LogPoint { term: 1, index: 100 }).expect("the disk works");
    log.append(&[record(101, "first behind the snapshot")], None).expect("the disk works");
    drop(log);
    let log = FjallLog::open(dir.path(), MarkSync::Behind).expect("nothing was lost");
    assert_eq!(log.found().purged, Some(LogPoint { term: 1, index: 100 }));
    assert_eq!(log.reader().read(0, 200).expect("it can be read").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_stops_the_server_for_good() {
    let disk = MemoryDisk::new();
    let raft = found_alone(in_memory(&disk)).await;
    propose(&raft, "kept").await;
    disk.fail_syncs(1);
    let refused = raft.propose(Bytes::from_static(b"lost")).await;
    assert!(matches!(refused, Err(ProposeError::Stopped { .. })), "{refused:?}");
    let fault = raft.fault().borrow().clone();
    assert!(matches!(fault, Some(Fault::Disk { .. })), "{fault:?}");
    assert_eq!(fault.map(|fault| fault.exit_code()), Some(71));
    assert!(raft.propose(Bytes::from_static(b"later")).await.is_err());
    raft.shutdown().await;

    disk.crash();
    let raft = open(in_memory(&disk), 1, &Mesh::default()).await.expect("what was acknowledged is there");
    until("it leads", || raft.is_leader()).await;
    propose(&raft, "goes on").await;
    assert_eq!(texts(&raft), ["kept", "goes on"]);
    raft.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_lies_is_found_out() {
    let disk = MemoryDisk::new();
    let raft = found_alone(in_memory(&disk)).await;
    propose(&raft, "kept").await;
    raft.shutdown().await;
    disk.lose_synced(1);
    let refused = open(in_memory(&disk), 1, &Mesh::default()).await.err();
    assert!(matches!(refused, Some(OpenError::LostEntries(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_machine_that_can_not_go_on_stops_the_server() {
    let raft = found_alone(in_memory(&MemoryDisk::new())).await;
    let refused = raft.propose(Bytes::from_static(b"halt")).await;
    assert!(matches!(refused, Err(ProposeError::Stopped { .. })), "{refused:?}");
    let fault = raft.fault().borrow().clone();
    assert!(matches!(fault, Some(Fault::StateMachine { .. })), "{fault:?}");
    assert_eq!(raft.with_state(|ledger: &Ledger| ledger.0.len()), 0);
    raft.shutdown().await;
}
