//! The disk under the data directory fills up: the agent says so and stops, and nothing acknowledged is lost.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use tests::{Agent, Kind, binary, http, job, machine, wait};

/// Exit code of an agent whose disk is full, by which a supervisor can tell (`docs/raft.md`).
const EXIT_DISK_FULL: i32 = 70;

/// A small file system of its own, gone with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(dir: &Path) -> Option<Self> {
        fs::create_dir_all(dir).expect("the directory is the test's own");
        let options = ["-t", "tmpfs", "-o", "size=256m", "tests"];
        let status = Command::new("mount").args(options).arg(dir).status().ok()?;
        status.success().then(|| Self(dir.to_owned()))
    }

    /// Writes until nothing fits any more.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("the disk has room for a name");
        for block in [1 << 20, 1 << 12, 1] {
            let bytes = vec![1; block];
            while file.write_all(&bytes).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A directory that stays mounted would be seen by whoever looks at mounts next, so it is at least said.
        match Command::new("umount").arg("-l").arg(&self.0).status() {
            Ok(status) if status.success() => {}
            failed => eprintln!("{} stays mounted: {failed:?}", self.0.display()),
        }
    }
}

#[test]
fn a_full_disk_stops_the_agent_and_loses_nothing() {
    if !machine::is_root() {
        return machine::lacks("the right to mount");
    }
    let mut agent = Agent::prepare(binary::path(), Kind::Lasting, "");
    let Some(disk) = SmallDisk::mount(&agent.data_dir()) else { return machine::lacks("tmpfs") };
    agent.launch();
    agent.wait_until_ready();
    let mut acknowledged = Vec::new();
    let register = |agent: &Agent, id: &str| {
        let body = json!({ "Job": job::pretended(id, 1) }).to_string();
        http::request(agent.addr(), "PUT", "/v1/jobs", Some(&body))
    };
    for number in 0..5 {
        let id = format!("before-{number}");
        assert_eq!(register(&agent, &id).expect("the agent answers").status, 200);
        acknowledged.push(id);
    }
    let filler = disk.fill();

    // What still fits into preallocated files may be acknowledged; what does not must be refused, not left hanging.
    let mut number = 0;
    let code = wait::until_within(wait::PATIENCE * 2, "the agent stops or refuses", || {
        number += 1;
        let id = format!("after-{number}");
        match register(&agent, &id) {
            Ok(answer) if answer.status == 200 => acknowledged.push(id),
            Ok(answer) => assert!(!answer.body.trim().is_empty(), "{} without a word", answer.status),
            Err(_) => {}
        }
        agent.ended()
    });
    assert_eq!(code, EXIT_DISK_FULL, "{}", agent.log());
    assert!(agent.log().to_lowercase().contains("no space left"), "{}", agent.log());

    fs::remove_file(filler).expect("the filler is the test's own");
    agent.revive();
    let jobs = agent.get("/v1/jobs");
    let jobs = jobs.as_array().expect("a list");
    for id in &acknowledged {
        assert!(jobs.iter().any(|job| job["ID"] == id.as_str()), "{id} was acknowledged and is lost");
    }
    assert_eq!(agent.interrupt(), 0);
    drop(disk);
}
