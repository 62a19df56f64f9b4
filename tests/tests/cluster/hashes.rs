//! Whether servers agree on everything that they applied, whatever happened to them meanwhile.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::json;
use tests::{Agent, http, job, wait};

use crate::region::{self, Region};

/// Writes of each part of the test. A server keeps the hashes of its last 1,024 commands, so nothing of it is forgotten.
const WRITES: usize = 30;

/// For each index, the hash that each server named, by the server's number.
type Seen = BTreeMap<u64, BTreeMap<usize, String>>;

/// Asks a server for the hashes of its state; one that is down has none.
fn look(number: usize, server: &Agent, seen: &mut Seen) -> Option<u64> {
    let answer = http::request(server.addr(), "GET", "/v1/operator/raft/hashes", None).ok()?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    let hashes = answer["Hashes"].as_array().expect("a list");
    for one in hashes {
        let index = one["Index"].as_u64().expect("an index");
        let hash = one["Hash"].as_str().expect("a hash").to_owned();
        let before = seen.entry(index).or_default().insert(number, hash.clone());
        // A server that was killed applies what it has once more.
        assert!(before.is_none_or(|before| before == hash), "server {number} changed its mind at {index}");
    }
    hashes.last()?["Index"].as_u64()
}

/// Registers jobs with whoever takes them, and looks at all servers meanwhile.
fn write(region: &Region, part: &str, seen: &mut Seen) {
    for number in 0..WRITES {
        region.register_somewhere(&job::pretended(&format!("{part}-{number}"), 0));
        if number % 10 == 0 {
            look_at_all(region, seen);
        }
    }
}

fn look_at_all(region: &Region, seen: &mut Seen) {
    for (number, server) in region.servers.iter().enumerate() {
        look(number, server, seen);
    }
}

#[test]
fn servers_agree_on_every_index_that_two_of_them_have() {
    let mut region = Region::start(3, 1);
    let mut seen = Seen::new();
    write(&region, "before", &mut seen);
    // A follower and then the leader end without a word while others write, and come back.
    for part in ["follower", "leader"] {
        let away = if part == "leader" { region.leader() } else { (region.leader() + 1) % 3 };
        kill_under_load(&mut region, away);
        write(&region, part, &mut seen);
        region.servers[away].launch();
        region.wait_until_settled();
    }
    write(&region, "after", &mut seen);
    let last = wait::until_within(region::FORMED_WITHIN, "all servers are at the same index", || {
        let mut now = Seen::new();
        let at: Vec<_> = region.servers.iter().enumerate().map(|(at, one)| look(at, one, &mut now)).collect();
        (at[0].is_some() && at.iter().all(|one| *one == at[0])).then_some(at[0])?
    });
    look_at_all(&region, &mut seen);
    for (index, hashes) in &seen {
        let first = hashes.values().next();
        assert!(hashes.values().all(|hash| Some(hash) == first), "servers differ at {index}: {hashes:?}");
    }
    let shared = seen.range(..=last).filter(|(_, hashes)| hashes.len() == 3).count();
    assert!(shared >= 4 * WRITES, "{shared} of {} indexes were compared among all three", seen.len());
    let compared = region.clients[0].command(&["operator", "raft", "compare"]).worked();
    assert_eq!(compared.matches("equal").count(), 3, "{compared}");
}

/// Kills a server in the midst of writes.
fn kill_under_load(region: &mut Region, away: usize) {
    let asked: Vec<_> = region.servers.iter().map(Agent::addr).collect();
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        for (writer, addr) in asked.iter().enumerate() {
            let enough = &enough;
            scope.spawn(move || {
                for number in 0.. {
                    let id = format!("busy-{away}-{writer}-{number}");
                    let body = json!({ "Job": job::pretended(&id, 0) }).to_string();
                    // Whether it was taken does not matter here: servers must agree about it.
                    let written = http::request(*addr, "PUT", "/v1/jobs", Some(&body));
                    if written.is_err() || number == WRITES || enough.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        wait::until("the writers write", || {
            let path = format!("/v1/job/busy-{away}-{away}-3?stale");
            let answer = http::request(asked[away], "GET", &path, None).ok()?;
            (answer.status == 200).then_some(())
        });
        region.servers[away].kill();
        enough.store(true, Ordering::Relaxed);
    });
}
