//! A small part of the sweep, for every change.

use chaos_storage::{ClientFiles, ServerFiles, Verdict, sweep};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_damage_to_a_server_is_served_in_silence_or_needs_a_person() {
    let (dir, scratch) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let subject = ServerFiles::make(dir.path()).await.expect("an empty directory will do");
    let found = sweep(&subject, scratch.path(), 60, 7).await.expect("every trial ends");
    assert_eq!((found.count(Verdict::Silent), &found.silent), (0, &Vec::new()));
    assert_eq!((found.count(Verdict::Refused), &found.refused), (0, &Vec::new()));
    assert!(found.count(Verdict::Detected) > 10, "{:?}", found.counts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_damage_to_a_client_is_served_in_silence() {
    let (dir, scratch) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let subject = ClientFiles::make(dir.path()).await.expect("an empty directory will do");
    let found = sweep(&subject, scratch.path(), 200, 7).await.expect("every trial ends");
    assert_eq!((found.count(Verdict::Silent), &found.silent), (0, &Vec::new()));
    assert!(found.count(Verdict::Detected) > 50, "{:?}", found.counts);
}
