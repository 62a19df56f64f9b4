//! The people who work with the region while it is broken, and what they saw.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use chaos_check::{Action, History, JobSeen, Operation, Outcome, Reply, StaleRead, WatchSeen, Watched};
use model::{AllocId, DeploymentStatus, JobKey, NodeId, Text};
use parking_lot::Mutex;
use rand::{RngExt, rngs::SmallRng};
use runtime::Env;
use server::{
    Consistency, Deregister, Draft, DrainDeadline, DrainWish, Register, RequestError, Scale, Server,
    StopAlloc, SubmitError,
};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    faults::Agent,
    jobs,
    plan::{Work, pick},
    trace::Trace,
};

/// How long a user waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time that the last drain of a run has.
const LAST_DRAIN: Duration = Duration::from_secs(6);
/// The most of a group that anybody asks for.
const COUNT_MAX: u32 = 6;

/// What users and whoever looks at them share.
pub struct Users {
    /// The servers that run, by their number.
    pub servers: Mutex<BTreeMap<u8, (Server, Env, u32)>>,
    /// What was done.
    pub history: Mutex<History>,
    /// What followers were handed since it was last taken.
    pub watched: Mutex<Vec<WatchSeen>>,
    /// Allocations that somebody asked to stop.
    pub stopped: Mutex<BTreeSet<AllocId>>,
    trace: Trace,
    env: Env,
    clients: u8,
    work: Work,
    over: AtomicBool,
    markers: AtomicU64,
    /// Users who have not finished their last request.
    at_work: AtomicU64,
}

impl Users {
    /// Makes a region's users, who begin when they are told to.
    pub fn new(env: &Env, trace: Trace, clients: u8, work: Work) -> Arc<Self> {
        Arc::new(Self {
            servers: Mutex::default(),
            history: Mutex::default(),
            watched: Mutex::default(),
            stopped: Mutex::default(),
            trace,
            env: env.clone(),
            clients,
            work,
            over: AtomicBool::new(false),
            markers: AtomicU64::new(1),
            at_work: AtomicU64::new(0),
        })
    }

    /// Lets so many users begin.
    pub fn begin(self: &Arc<Self>, users: u32) {
        for number in 0..users {
            self.at_work.fetch_add(1, Ordering::Relaxed);
            let (this, rng) = (self.clone(), self.env.rng());
            self.env.spawn("sim-user", async move {
                this.work(number, rng).await;
                this.at_work.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    /// Lets nobody begin anything further.
    pub fn send_home(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether everybody has gone.
    pub fn gone(&self) -> bool {
        self.at_work.load(Ordering::Relaxed) == 0
    }

    /// Follows the jobs that a server has for as long as it lives.
    pub fn follow(self: &Arc<Self>, agent: Agent, server: &Server, env: &Env, boot: u32) {
        let (this, server) = (self.clone(), server.clone());
        env.spawn("sim-follower", async move {
            let id = server.replica().raft_id();
            let mut told: BTreeMap<JobKey, u64> = BTreeMap::new();
            loop {
                let waiter = server.wait_for(&[server::Watch::Table(state::Table::Jobs)]);
                let snapshot = server.snapshot();
                let index = snapshot.table_index(state::Table::Jobs);
                let jobs: BTreeMap<JobKey, u64> =
                    snapshot.all_jobs().map(|job| (job.key.clone(), job.job_modify_index)).collect();
                let gone = told.keys().filter(|key| !jobs.contains_key(*key)).map(|key| (key, 0));
                let news = jobs.iter().map(|(key, index)| (key, *index)).chain(gone);
                let news = news.filter(|(key, index)| told.get(*key) != Some(index));
                let mut seen = vec![Watched::Index { index }];
                seen.extend(news.map(|(key, job_index)| Watched::Job { index, key: key.clone(), job_index }));
                told = jobs;
                let handed = |seen| WatchSeen { watcher: follower(agent, boot), server: id, seen };
                this.watched.lock().extend(seen.into_iter().map(handed));
                waiter.changed().await;
            }
        });
    }

    /// Takes in that a server's process ended, and its follower with it.
    pub fn lose(&self, number: u8) {
        let Some((_, _, boot)) = self.servers.lock().remove(&number) else { return };
        let watcher = follower(Agent::Server(number), boot);
        self.watched.lock().push(WatchSeen { watcher, server: 0, seen: Watched::Ended });
    }

    async fn work(&self, user: u32, mut rng: SmallRng) {
        loop {
            self.env.sleep(Duration::from_millis(rng.random_range(100..2_500))).await;
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let job = rng.random_range(0..jobs::many(self.work));
            match rng.random_range(0..100) {
                0..35 if jobs::is_slow(job) && rng.random_bool(0.7) => {}
                31..35 if self.work == Work::Demanding => self.work_on_a_deployment(&mut rng).await,
                0..35 => self.register(user, job, &mut rng).await,
                35..60 => self.read(user, job, &mut rng).await,
                60..75 if jobs::scales(job) => self.scale(user, job, &mut rng).await,
                60..82 => self.deregister(user, job, rng.random_bool(0.5), &mut rng).await,
                82..90 => self.read_stale(user, &mut rng),
                90..95 => self.stop_some_alloc(&mut rng).await,
                _ => self.work_on_a_node(&mut rng).await,
            }
        }
    }

    /// The server that a user's request ends at: any server passes it on to the leader that it knows.
    fn leader(&self, rng: &mut SmallRng) -> Option<(Server, Env)> {
        let servers = self.servers.lock();
        let all: Vec<&(Server, Env, u32)> = servers.values().collect();
        if all.is_empty() {
            return None;
        }
        let (asked, env, _) = pick(rng, &all);
        if asked.is_leader() {
            return Some((asked.clone(), env.clone()));
        }
        let leader = asked.raft().leader()?;
        let of = |(server, ..): &&&(Server, Env, u32)| server.replica().raft_id() == leader.id;
        all.iter().find(of).map(|(server, env, _)| (server.clone(), env.clone()))
    }

    /// Asks a server for something within its process; no answer when it dies or takes too long.
    async fn ask<T, F>(&self, env: &Env, work: F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        env.spawn("sim-request", async move {
            // A user who gave up does not mind.
            let _ = tell.send(work.await);
        });
        tokio::time::timeout(PATIENCE, told).await.ok()?.ok()
    }

    /// Notes an operation from its beginning to its end.
    async fn operate<T, F>(
        &self,
        user: u32,
        key: JobKey,
        action: Action,
        rng: &mut SmallRng,
        work: impl FnOnce(Server) -> F,
        judge: impl FnOnce(T) -> Outcome,
    ) where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let start = self.trace.now();
        let Some((server, env)) = self.leader(rng) else { return };
        let outcome = self.ask(&env, work(server)).await.map_or(Outcome::Unknown, judge);
        let end = self.trace.now();
        let took = (end - start).as_secs_f64();
        self.trace.note(format_args!("user {user}: {action:?} {}: {outcome:?} after {took:.3} s", key.id));
        if jobs::is_register_key(&key) {
            self.history.lock().operations.push(Operation { user, key, action, start, end, outcome });
        }
    }

    async fn register(&self, user: u32, job: u8, rng: &mut SmallRng) {
        let marker = self.markers.fetch_add(1, Ordering::Relaxed);
        let count = if jobs::scales(job) { rng.random_range(1..=COUNT_MAX) } else { 1 };
        let key = jobs::key(job);
        let check_index = if rng.random_bool(0.3) { self.some_index_of(&key, rng) } else { None };
        let action = Action::Register { marker, count, check_index };
        let draft = Draft {
            document: jobs::document(job, marker, count, self.work),
            namespace: "default".to_owned(),
        };
        let request = Register {
            draft,
            submission: None,
            enforce_index: check_index,
            preserve_counts: false,
            preserve_resources: false,
            eval_priority: None,
        };
        let work = |server: Server| async move { server.register_job(request).await };
        self.operate(user, key, action, rng, work, |done| {
            self.outcome(done.map(|changed| Reply { job_index: Some(changed.job_modify_index), seen: None }))
        })
        .await;
    }

    /// The index of a job as some server has it: the right one most of the time.
    fn some_index_of(&self, key: &JobKey, rng: &mut SmallRng) -> Option<u64> {
        let servers = self.servers.lock();
        let all: Vec<&Server> = servers.values().map(|(server, ..)| server).collect();
        if all.is_empty() {
            return None;
        }
        Some(pick(rng, &all).snapshot().job(key).map_or(0, |job| job.job_modify_index))
    }

    async fn scale(&self, user: u32, job: u8, rng: &mut SmallRng) {
        let count = rng.random_range(1..=COUNT_MAX);
        let request = Scale {
            key: jobs::key(job),
            group: "group".into(),
            count: Some(i64::from(count)),
            message: String::new(),
            error: false,
            meta: String::new(),
            enforce_index: None,
        };
        let work = |server: Server| async move { server.scale_job(request).await };
        self.operate(user, jobs::key(job), Action::Scale { count }, rng, work, |done| {
            self.outcome(done.map(|_| Reply::default()))
        })
        .await;
    }

    async fn deregister(&self, user: u32, job: u8, purge: bool, rng: &mut SmallRng) {
        let key = jobs::key(job);
        let request = Deregister { key: key.clone(), purge, no_shutdown_delay: false, eval_priority: None };
        let work = |server: Server| async move { server.deregister_job(request).await };
        self.operate(user, key, Action::Deregister { purge }, rng, work, |done| {
            self.outcome(done.map(|_| Reply::default()))
        })
        .await;
    }

    async fn read(&self, user: u32, job: u8, rng: &mut SmallRng) {
        let (key, consistency) =
            (jobs::key(job), *pick(rng, &[Consistency::Default, Consistency::Consistent]));
        let wanted = key.clone();
        let work = |server: Server| async move {
            server.ready_to_read(consistency).await?;
            Ok(server.snapshot().job(&wanted).map(|job| JobSeen {
                job_index: job.job_modify_index,
                marker: jobs::marker(job),
                count: jobs::count(job),
                stopped: job.stop,
            }))
        };
        self.operate(user, key, Action::Read, rng, work, |read: Result<_, SubmitError>| match read {
            Ok(seen) => Outcome::Done(Reply { job_index: None, seen }),
            // A read changes nothing, whatever became of it.
            Err(_) => Outcome::Failed,
        })
        .await;
    }

    fn read_stale(&self, user: u32, rng: &mut SmallRng) {
        let servers = self.servers.lock();
        let all: Vec<(&u8, &(Server, Env, u32))> = servers.iter().collect();
        if all.is_empty() {
            return;
        }
        let (number, (server, _, boot)) = *pick(rng, &all);
        let session = format!("user {user} at server-{number}, start {boot}").into();
        let (index, id) = (server.snapshot().index(), server.replica().raft_id());
        let read = StaleRead { session, server: id, index, at: self.trace.now() };
        self.history.lock().stale_reads.push(read);
    }

    async fn stop_some_alloc(&self, rng: &mut SmallRng) {
        let Some((server, env)) = self.leader(rng) else { return };
        let ids: Vec<_> = server.snapshot().allocs().map(|alloc| alloc.id).collect();
        if ids.is_empty() {
            return;
        }
        let request = StopAlloc { id: *pick(rng, &ids), no_shutdown_delay: false, reschedule: false };
        self.stopped.lock().insert(request.id);
        let stopped = self.ask(&env, async move { server.stop_alloc(request).await.is_ok() }).await;
        self.trace.note(format_args!("stop of allocation {}: {stopped:?}", request.id));
    }

    /// Takes canaries over, holds a deployment up for a while, or gives it up.
    async fn work_on_a_deployment(&self, rng: &mut SmallRng) {
        let Some((server, env)) = self.leader(rng) else { return };
        let snapshot = server.snapshot();
        let active: Vec<_> = snapshot.deployments().filter(|it| it.status.is_active()).collect();
        if active.is_empty() {
            return;
        }
        let deployment = pick(rng, &active);
        let (id, paused) = (deployment.id, deployment.status == DeploymentStatus::Paused);
        let what = if paused { 2 } else { rng.random_range(0..10) };
        let done = self.ask(&env, async move {
            match what {
                0 => server.fail_deployment(id).await.is_ok(),
                1 => server.pause_deployment(id, true).await.is_ok(),
                2 => server.pause_deployment(id, false).await.is_ok(),
                _ => server.promote_deployment(id, None).await.is_ok(),
            }
        });
        let what = ["fail", "pause", "resume", "promote"][what.min(3)];
        let done = done.await;
        self.trace.note(format_args!("deployment {id} {what}: {done:?}"));
    }

    /// Empties a node or takes it out of scheduling, or takes either back.
    async fn work_on_a_node(&self, rng: &mut SmallRng) {
        let client = Agent::Client(rng.random_range(1..=self.clients));
        let Some((server, env)) = self.leader(rng) else { return };
        let node = NodeId(Uuid::from_bytes(client.node_id()));
        let what = rng.random_range(0..4);
        let seconds = if self.work == Work::Demanding { *pick(rng, &[5, 10, 20]) } else { 10 };
        let done = self.ask(&env, async move {
            match what {
                0 => {
                    let deadline = DrainDeadline::After(Duration::from_secs(seconds));
                    let wish = DrainWish { deadline, ignore_system_jobs: false };
                    server.drain_node(node, Some(wish), false, Vec::new()).await.is_ok()
                }
                1 => server.set_node_eligibility(node, false).await.is_ok(),
                _ => server.drain_node(node, None, true, Vec::new()).await.is_ok(),
            }
        });
        let what = ["drain", "ineligible", "eligible", "eligible"][what];
        let done = done.await;
        self.trace.note(format_args!("{client} {what}: {done:?}"));
    }

    /// Lets deployments that somebody held up go on; tells whether none is held up.
    pub async fn resume_deployments(&self, rng: &mut SmallRng) -> bool {
        let Some((server, env)) = self.leader(rng) else { return false };
        let done = self.ask(&env, async move {
            let snapshot = server.snapshot();
            for deployment in snapshot.deployments().filter(|it| it.status == DeploymentStatus::Paused) {
                if server.pause_deployment(deployment.id, false).await.is_err() {
                    return false;
                }
            }
            true
        });
        done.await.unwrap_or(false)
    }

    /// Has a node emptied; tells whether that was taken in.
    pub async fn drain(&self, client: Agent, rng: &mut SmallRng) -> bool {
        let Some((server, env)) = self.leader(rng) else { return false };
        let node = NodeId(Uuid::from_bytes(client.node_id()));
        let deadline = DrainDeadline::After(LAST_DRAIN);
        let wish = DrainWish { deadline, ignore_system_jobs: false };
        let done = self
            .ask(&env, async move { server.drain_node(node, Some(wish), false, Vec::new()).await.is_ok() });
        done.await.unwrap_or(false)
    }

    /// Tells whether any node is being emptied, as the leader has it.
    pub fn somebody_drains(&self, rng: &mut SmallRng) -> bool {
        let leader = self.leader(rng);
        leader.is_none_or(|(server, _)| server.snapshot().nodes().any(|node| node.drain.is_some()))
    }

    /// Gives every node back to the scheduler, once; tells whether all of it was done.
    pub async fn give_back_nodes(&self, rng: &mut SmallRng) -> bool {
        let Some((server, env)) = self.leader(rng) else { return false };
        let clients = self.clients;
        let done = self.ask(&env, async move {
            for number in 1..=clients {
                let node = NodeId(Uuid::from_bytes(Agent::Client(number).node_id()));
                let known = server.snapshot().node(node).cloned();
                let Some(known) = known else { return false };
                if (known.drain.is_some() || !known.eligible)
                    && server.drain_node(node, None, true, Vec::new()).await.is_err()
                {
                    return false;
                }
            }
            true
        });
        done.await.unwrap_or(false)
    }

    fn outcome(&self, done: Result<Reply, RequestError>) -> Outcome {
        match done {
            Ok(reply) => Outcome::Done(reply),
            Err(RequestError::Submit(SubmitError::Refused(_))) => Outcome::Refused,
            Err(RequestError::Submit(SubmitError::Unknown)) => Outcome::Unknown,
            // What a server refuses before it asks the region says nothing: it may have been the leader of the past.
            Err(error) => {
                self.trace.note(format_args!("request failed: {error}"));
                Outcome::Failed
            }
        }
    }
}

/// The name of whoever follows one process of a server.
fn follower(agent: Agent, boot: u32) -> Text {
    format!("{agent}, start {boot}").into()
}
