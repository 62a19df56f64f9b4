//! Users of the region: they write, read and wait through any agent while it is broken, and note what they did and saw.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use chaos_check::{Action, JobSeen, Operation, Outcome, Reply, WatchSeen, Watched};
use model::JobKey;
use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    clock,
    cluster::Cluster,
    http::{self, Answer, NoAnswer},
    layout::Agent,
};

/// How long a user waits for an answer: longer than agents hold a request while nobody leads.
const ANSWER_MAX: Duration = Duration::from_secs(12);

/// Between two requests of one user, in runs that are short.
const THINK_MS: (u64, u64) = (20, 120);

/// Requests of one user in a whole run, about: in a long one users think for longer, so that what they did can still be
/// judged, and the lists of the region still be read each second.
const REQUESTS_MAX: u64 = 15_000;

/// The jobs that users quarrel about at a time.
const SHARED_JOBS: u32 = 4;

/// They quarrel about other ones after this long: what became of requests without an answer makes long histories of one job
/// too hard to judge.
const QUARREL_MS: u64 = 30_000;

/// New jobs that are kept; older ones are looked for once more and removed.
const NEW_JOBS_MAX: usize = 1_000;

/// The key under which a specification carries its marker.
const MARKER: &str = "marker";

/// One write that was tried until it was acknowledged.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Write {
    /// When it was first tried.
    pub start_ms: u64,
    /// When it was acknowledged.
    pub end_ms: u64,
    /// How often it was tried.
    pub tries: u32,
}

/// What users note.
#[derive(Default)]
struct Notes {
    operations: Mutex<Vec<Operation>>,
    writes: Mutex<Vec<Write>>,
    watched: Mutex<Vec<WatchSeen>>,
    markers: AtomicU64,
    over: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Users at work, until they are told to stop.
pub struct Users {
    notes: Arc<Notes>,
    threads: Vec<JoinHandle<()>>,
}

impl Users {
    /// Lets them begin: one who only writes new jobs, some who quarrel about the same, one for each agent who waits.
    #[must_use]
    pub fn start(cluster: &Arc<Cluster>, seed: u64, quarrelling: u32, length: Duration) -> Self {
        let notes = Arc::new(Notes::default());
        let least = u64::try_from(length.as_millis()).expect("runs are bounded") / REQUESTS_MAX;
        let think_ms = (THINK_MS.0.max(least / 2), THINK_MS.1.max(least + least / 2));
        let mut threads = Vec::new();
        let mut add = |number: u32, work: fn(&mut User)| {
            let rng = SmallRng::seed_from_u64(seed ^ (u64::from(number) << 32));
            let mut user = User { number, cluster: cluster.clone(), notes: notes.clone(), rng, think_ms };
            threads.push(clock::beside(move || work(&mut user)));
        };
        add(0, User::write_on);
        (1..=quarrelling).for_each(|number| add(number, User::quarrel));
        for agent in cluster.layout.members() {
            add(1_000 + u32::from(agent.0), User::watch);
        }
        Self { notes, threads }
    }

    /// What they saw since this was last asked.
    #[must_use]
    pub fn take_watched(&self) -> Vec<WatchSeen> {
        mem::take(&mut lock(&self.notes.watched))
    }

    /// Lets them end and returns all that they did.
    #[must_use]
    pub fn stop(self) -> (Vec<Operation>, Vec<Write>) {
        self.notes.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            if thread.join().is_err() {
                eprintln!("a user ended in a panic");
            }
        }
        let operations = mem::take(&mut *lock(&self.notes.operations));
        let writes = mem::take(&mut *lock(&self.notes.writes));
        (operations, writes)
    }
}

/// Reads every job that users wrote, once more, when all is calm: what was acknowledged and is not there shows.
#[must_use]
pub fn read_all(cluster: &Arc<Cluster>, through: Agent, operations: &[Operation]) -> Vec<Operation> {
    let notes = Arc::new(Notes::default());
    let rng = SmallRng::seed_from_u64(0);
    let (cluster, notes_of) = (cluster.clone(), notes.clone());
    let user = User { number: u32::MAX, cluster, notes: notes_of, rng, think_ms: THINK_MS };
    let keys: std::collections::BTreeSet<&JobKey> =
        operations.iter().map(|operation| &operation.key).collect();
    for key in keys {
        user.act(through, key, Action::Read);
    }
    mem::take(&mut *lock(&notes.operations))
}

struct User {
    number: u32,
    cluster: Arc<Cluster>,
    notes: Arc<Notes>,
    rng: SmallRng,
    think_ms: (u64, u64),
}

impl User {
    fn is_over(&self) -> bool {
        self.notes.over.load(Ordering::Relaxed)
    }

    fn think(&mut self) {
        clock::pass(Duration::from_millis(self.rng.random_range(self.think_ms.0..=self.think_ms.1)));
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.cluster.began.elapsed().as_millis()).expect("runs are bounded")
    }

    fn any_agent(&mut self) -> Agent {
        let all: Vec<Agent> = self.cluster.layout.members().collect();
        *all.choose(&mut self.rng).expect("a region has agents")
    }

    /// Registers one new job after the other through the clients in turn, as a user with a list of addresses would.
    fn write_on(&mut self) {
        let clients: Vec<Agent> = self.cluster.layout.clients().collect();
        let (mut number, mut turn) = (0_u64, 0_usize);
        let mut kept: VecDeque<JobKey> = VecDeque::new();
        while !self.is_over() {
            let (start_ms, mut tries) = (self.now_ms(), 0);
            while !self.is_over() {
                number += 1;
                turn += 1;
                tries += 1;
                // A try that fails may have happened all the same, so that the next one is another job.
                let key = JobKey::new("default", format!("new-{number}"));
                let action = self.register(None);
                if self.act(clients[turn % clients.len()], &key, action).is_done() {
                    lock(&self.notes.writes).push(Write { start_ms, end_ms: self.now_ms(), tries });
                    kept.push_back(key);
                    break;
                }
                clock::pass(Duration::from_millis(10));
            }
            if kept.len() > NEW_JOBS_MAX
                && let Some(oldest) = kept.pop_front()
            {
                // The history of the job tells whether it was still there.
                self.act(clients[turn % clients.len()], &oldest, Action::Read);
                self.act(clients[turn % clients.len()], &oldest, Action::Deregister { purge: true });
            }
            self.think();
        }
    }

    /// Writes and reads the same few jobs as others do.
    fn quarrel(&mut self) {
        let mut known: BTreeMap<JobKey, u64> = BTreeMap::new();
        let mut known_of = 0;
        while !self.is_over() {
            let time = self.now_ms() / QUARREL_MS;
            if mem::replace(&mut known_of, time) != time {
                known.clear();
            }
            let job = self.rng.random_range(0..SHARED_JOBS);
            let key = JobKey::new("default", format!("shared-{time}-{job}"));
            let agent = self.any_agent();
            let index = known.get(&key).copied().unwrap_or(0);
            let action = match self.rng.random_range(0..10) {
                0..=1 => self.register(None),
                2..=4 => self.register(Some(index)),
                5 => Action::Deregister { purge: self.rng.random_bool(0.5) },
                6 => Action::Scale { count: 0 },
                _ => Action::Read,
            };
            let outcome = self.act(agent, &key, action);
            if let (Action::Read, Outcome::Done(reply)) = (action, outcome) {
                known.insert(key, reply.seen.map_or(0, |seen| seen.job_index));
            }
            self.think();
        }
    }

    fn register(&self, check_index: Option<u64>) -> Action {
        let marker = self.notes.markers.fetch_add(1, Ordering::Relaxed) + 1;
        Action::Register { marker, count: 0, check_index }
    }

    /// Waits for changes through one agent, again and again.
    fn watch(&mut self) {
        let agent = Agent(u8::try_from(self.number - 1_000).expect("there are few agents"));
        let mut index = 0;
        while !self.is_over() {
            let path = format!("/v1/jobs?index={index}&wait=2s&per_page=1");
            match http::request(self.cluster.address(agent), "GET", &path, None, ANSWER_MAX) {
                Ok(Answer { status: 200, index: Some(seen), .. }) => {
                    index = seen;
                    // Watchers read through whoever leads, so that one name is one region, whoever answers.
                    let seen = Watched::Index { index };
                    let watcher = format!("through {agent}").into();
                    lock(&self.notes.watched).push(WatchSeen { watcher, server: 0, seen });
                }
                Ok(_) | Err(_) => self.think(),
            }
        }
    }

    /// Does one thing, notes it, and tells what came of it.
    fn act(&self, agent: Agent, key: &JobKey, action: Action) -> Outcome {
        let (method, path, body) = request_of(key, action);
        let start = self.cluster.began.elapsed();
        let answer = http::request(self.cluster.address(agent), method, &path, body.as_ref(), ANSWER_MAX);
        let end = self.cluster.began.elapsed();
        let outcome = outcome_of(action, answer);
        let (key, told) = (key.clone(), outcome.clone());
        lock(&self.notes.operations).push(Operation { user: self.number, key, action, start, end, outcome });
        told
    }
}

fn request_of(key: &JobKey, action: Action) -> (&'static str, String, Option<Value>) {
    let id = &key.id;
    match action {
        Action::Register { marker, count, check_index } => {
            let mut body = json!({ "Job": spec(id, marker, count) });
            if let Some(index) = check_index {
                body["EnforceIndex"] = json!(true);
                body["JobModifyIndex"] = json!(index);
            }
            ("PUT", "/v1/jobs".to_owned(), Some(body))
        }
        Action::Deregister { purge } => ("DELETE", format!("/v1/job/{id}?purge={purge}"), None),
        Action::Scale { count } => {
            let body = json!({ "Count": count, "Target": { "Group": "g" }, "Message": "by a test" });
            ("PUT", format!("/v1/job/{id}/scale"), Some(body))
        }
        Action::Read => ("GET", format!("/v1/job/{id}?consistent"), None),
    }
}

/// A job that nothing is placed for, unless its count says so.
fn spec(id: &str, marker: u64, count: u32) -> Value {
    let task = json!({ "Name": "t", "Driver": "mock_driver", "Config": { "run_for": "1h" },
        "Resources": { "CPU": 10, "MemoryMB": 10 } });
    json!({ "ID": id, "Name": id, "Type": "service", "Datacenters": ["dc1"],
        "Meta": { MARKER: marker.to_string() },
        "TaskGroups": [{ "Name": "g", "Count": count, "Tasks": [task] }] })
}

fn outcome_of(action: Action, answer: Result<Answer, NoAnswer>) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        Err(NoAnswer::Unreached(_)) => return Outcome::Failed,
        Err(NoAnswer::Unknown(_)) => return Outcome::Unknown,
    };
    match (answer.status, action) {
        (200, Action::Read) => Outcome::Done(Reply { job_index: None, seen: seen_of(&answer.json()) }),
        (404, Action::Read) => Outcome::Done(Reply { job_index: None, seen: None }),
        // The other writes answer with the index of the job as well, under the same name.
        (200, _) => Outcome::Done(Reply {
            job_index: answer.json()["JobModifyIndex"].as_u64().filter(|i| *i > 0),
            seen: None,
        }),
        // A read changes nothing, whatever became of it.
        (_, Action::Read) => Outcome::Failed,
        (400 | 404, _) => Outcome::Refused,
        (_, Action::Register { .. }) if answer.body.contains("Enforcing job modify index") => {
            Outcome::Refused
        }
        (_, Action::Deregister { .. } | Action::Scale { .. }) if answer.body.contains("not found") => {
            Outcome::Refused
        }
        (_, _) => Outcome::Unknown,
    }
}

fn seen_of(job: &Value) -> Option<JobSeen> {
    Some(JobSeen {
        job_index: job["JobModifyIndex"].as_u64()?,
        marker: job["Meta"][MARKER].as_str()?.parse().ok()?,
        count: u32::try_from(job["TaskGroups"][0]["Count"].as_u64()?).ok()?,
        stopped: job["Stop"].as_bool()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Answer, NoAnswer> {
        Ok(Answer { status, index: None, body: body.to_owned() })
    }

    const REGISTER: Action = Action::Register { marker: 1, count: 0, check_index: Some(4) };

    #[test]
    fn what_is_not_known_is_not_taken_for_failed() {
        let broken = Err(NoAnswer::Unknown(std::io::Error::other("broke off")));
        assert_eq!(outcome_of(REGISTER, broken), Outcome::Unknown);
        assert_eq!(outcome_of(REGISTER, answer(500, "No cluster leader")), Outcome::Unknown);
        let unreached = Err(NoAnswer::Unreached(std::io::Error::other("nobody")));
        assert_eq!(outcome_of(REGISTER, unreached), Outcome::Failed);
        let refused =
            answer(500, "Enforcing job modify index 4: job exists with conflicting job modify index: 9");
        assert_eq!(outcome_of(REGISTER, refused), Outcome::Refused);
    }

    #[test]
    fn a_read_sees_the_marker_that_was_written() {
        let mut job = spec("x", 77, 3);
        job["JobModifyIndex"] = json!(12);
        job["Stop"] = json!(false);
        let seen = JobSeen { job_index: 12, marker: 77, count: 3, stopped: false };
        assert_eq!(
            outcome_of(Action::Read, answer(200, &job.to_string())),
            Outcome::Done(Reply { job_index: None, seen: Some(seen) })
        );
        assert_eq!(outcome_of(Action::Read, answer(404, "job not found")), Outcome::Done(Reply::default()));
    }
}
