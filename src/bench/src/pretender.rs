//! A simulated node: the product's session speaks for it, and what it is given to run it only says it runs.

use std::{collections::BTreeMap, sync::Arc};

use client::{Outbox, SessionNode, UnknownJob};
use model::{
    AllocHealth, AllocId, AllocRecord, ClientStatus, DesiredStatus, Job, Node, TaskEvent, TaskEventKind,
    TaskRunState, TaskState, Timestamp,
};
use parking_lot::Mutex;
use protocol::session::{AllocUpdate, Assignments};
use runtime::Env;
use tokio::sync::watch;

/// A node that pretends. Cheap to clone.
#[derive(Clone)]
pub struct Pretender {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    node: Arc<Node>,
    /// It says that what runs is healthy.
    healthy: bool,
    outbox: Outbox,
    allocs: Mutex<Allocs>,
    jobs: Arc<Jobs>,
    leaving: watch::Sender<bool>,
    welcomed: watch::Sender<bool>,
}

/// Names of the tasks of each group of a job version.
type JobRef = (model::JobKey, u64, u64);

#[derive(Default)]
struct Allocs {
    /// What is pretended of each: its status and its tasks, which siblings of one message share.
    known: BTreeMap<AllocId, (ClientStatus, Arc<[TaskState]>)>,
}

/// What all nodes of a process know of the jobs that any of them was given: thousands of copies would be most of its memory.
#[derive(Default)]
pub struct Jobs(Mutex<BTreeMap<JobRef, Vec<Vec<model::Text>>>>);

impl Jobs {
    fn learn(&self, job: &Job) {
        let key = (job.key.clone(), job.create_index, job.version);
        self.0.lock().entry(key).or_insert_with(|| groups_of(job));
    }

    fn tasks(&self, key: &JobRef, group: u16) -> Vec<model::Text> {
        let jobs = self.0.lock();
        let names = jobs.get(key).and_then(|groups| groups.get(usize::from(group)));
        names.cloned().unwrap_or_default()
    }
}

impl Pretender {
    /// Makes a node that runs nothing yet.
    pub fn new(env: &Env, node: Node, healthy: bool, jobs: Arc<Jobs>) -> Self {
        let inner = Inner {
            env: env.clone(),
            node: Arc::new(node),
            healthy,
            outbox: Outbox::default(),
            allocs: Mutex::default(),
            jobs,
            leaving: watch::Sender::new(false),
            welcomed: watch::Sender::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Turns true when a server has taken this node for the first time.
    pub fn welcomed(&self) -> watch::Receiver<bool> {
        self.inner.welcomed.subscribe()
    }

    fn update(&self, id: AllocId, status: ClientStatus, tasks: Arc<[TaskState]>) -> AllocUpdate {
        let healthy = self.inner.healthy && status == ClientStatus::Running;
        AllocUpdate {
            id,
            node_id: self.inner.node.id,
            client_status: status,
            client_description: description(status).into(),
            task_states: tasks,
            health: healthy.then(|| AllocHealth { healthy: Some(true), ..AllocHealth::default() }),
            network: None,
        }
    }

    /// Takes in one allocation, and returns what there is to say of it.
    fn take(&self, allocs: &mut Allocs, alloc: &AllocRecord, made: &mut Made) -> Option<AllocUpdate> {
        let known = allocs.known.get(&alloc.id).map(|(status, _)| *status);
        let wanted = alloc.desired == DesiredStatus::Run;
        let status = match (known, wanted) {
            (None, _) if alloc.client_status.is_terminal() => return None,
            (None, true) => ClientStatus::Running,
            (None | Some(ClientStatus::Running), false) => ClientStatus::Complete,
            (Some(_), _) => return None,
        };
        let key = (alloc.job.clone(), alloc.job_create_index, alloc.job_version);
        let (group, now) = (alloc.group, Timestamp(self.inner.env.wall()));
        let tasks = made.entry((key.clone(), group, status)).or_insert_with(|| {
            let names = self.inner.jobs.tasks(&key, group);
            names.into_iter().map(|name| task_state(name, status, now)).collect()
        });
        let tasks = tasks.clone();
        allocs.known.insert(alloc.id, (status, tasks.clone()));
        Some(self.update(alloc.id, status, tasks))
    }
}

/// Task states that were made for one message.
type Made = BTreeMap<(JobRef, u16, ClientStatus), Arc<[TaskState]>>;

fn description(status: ClientStatus) -> &'static str {
    match status {
        ClientStatus::Running => "Tasks are running",
        ClientStatus::Complete => "All tasks have completed",
        ClientStatus::Pending | ClientStatus::Failed | ClientStatus::Lost | ClientStatus::Unknown => "",
    }
}

/// What a real client tells of a task: as many events, with as many words.
fn task_state(name: model::Text, status: ClientStatus, now: Timestamp) -> TaskState {
    let event = |kind| TaskEvent::new(kind, now);
    let mut events = vec![
        event(TaskEventKind::Received),
        event(TaskEventKind::TaskSetup).saying("Building Task Directory"),
        event(TaskEventKind::Started),
    ];
    let over = status == ClientStatus::Complete;
    if over {
        events.push(event(TaskEventKind::Killed));
    }
    TaskState {
        name,
        state: if over { TaskRunState::Dead } else { TaskRunState::Running },
        failed: false,
        restarts: 0,
        last_restart: Timestamp::ZERO,
        started_at: now,
        finished_at: if over { now } else { Timestamp::ZERO },
        events: events.into(),
    }
}

fn groups_of(job: &Job) -> Vec<Vec<model::Text>> {
    let names = |group: &model::TaskGroup| group.tasks.iter().map(|task| task.name.clone()).collect();
    job.spec.groups.iter().map(names).collect()
}

impl SessionNode for Pretender {
    fn env(&self) -> &Env {
        &self.inner.env
    }

    fn node(&self) -> Arc<Node> {
        self.inner.node.clone()
    }

    async fn node_changed(&self) {
        // Nothing about it ever changes.
        std::future::pending().await
    }

    fn outbox(&self) -> &Outbox {
        &self.inner.outbox
    }

    fn told(&self) -> Vec<AllocUpdate> {
        let allocs = self.inner.allocs.lock();
        allocs.known.iter().map(|(id, (status, tasks))| self.update(*id, *status, tasks.clone())).collect()
    }

    async fn apply(&self, assignments: Assignments) -> Result<(), UnknownJob> {
        let mut allocs = self.inner.allocs.lock();
        assignments.jobs.iter().for_each(|job| self.inner.jobs.learn(job));
        let mut made = Made::new();
        for alloc in &assignments.allocs {
            if let Some(update) = self.take(&mut allocs, alloc, &mut made) {
                self.inner.outbox.put(update);
            }
        }
        for id in &assignments.removed {
            allocs.known.remove(id);
            self.inner.outbox.forget(*id);
        }
        Ok(())
    }

    fn leaving(&self) -> watch::Receiver<bool> {
        self.inner.leaving.subscribe()
    }

    fn set_contact(&self, held: bool) {
        if held {
            self.inner.welcomed.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Job, JobKey, JobSpec, JobStatus};
    use runtime::Shutdown;

    use super::*;
    use crate::{jobs::Shape, nodes};

    fn record(id: u128, desired: DesiredStatus) -> AllocRecord {
        AllocRecord {
            id: AllocId::from_random(id),
            eval_id: model::EvalId::from_random(1),
            node_id: model::NodeId::from_random(1),
            job: JobKey::new("default", "a"),
            job_create_index: 5,
            job_version: 0,
            group: 0,
            index: 0,
            desired,
            client_status: ClientStatus::Pending,
            desired_description: "".into(),
            client_description: "".into(),
            resources: Arc::default(),
            metrics: None,
            task_states: Arc::new([]),
            extra: None,
            create_index: 5,
            modify_index: 5,
            alloc_modify_index: 5,
            create_time: Timestamp::ZERO,
            modify_time: Timestamp::ZERO,
        }
    }

    #[tokio::test]
    async fn it_says_once_that_what_it_is_given_runs_and_once_that_it_is_over() {
        let env = Env::real(Shutdown::new());
        let node = Pretender::new(&env, nodes::node(0, false, uuid::Uuid::nil()), false, Arc::default());
        let told = || node.outbox().take(10).0.iter().map(|update| update.client_status).collect::<Vec<_>>();
        let give = |desired| Assignments { allocs: vec![record(1, desired)], ..Assignments::default() };
        node.apply(give(DesiredStatus::Run)).await.expect("its jobs are known");
        assert_eq!(told(), [ClientStatus::Running]);
        node.apply(give(DesiredStatus::Run)).await.expect("its jobs are known");
        assert_eq!(told(), []);
        assert_eq!(node.told().len(), 1, "a session that begins anew tells it again");
        node.apply(give(DesiredStatus::Stop)).await.expect("its jobs are known");
        node.apply(give(DesiredStatus::Stop)).await.expect("its jobs are known");
        assert_eq!(told(), [ClientStatus::Complete]);
        let removed = vec![AllocId::from_random(1)];
        node.apply(Assignments { removed, ..Assignments::default() }).await.expect("its jobs are known");
        assert!(node.told().is_empty());
    }

    #[tokio::test]
    async fn it_tells_of_every_task_of_the_group() {
        let env = Env::real(Shutdown::new());
        let node = Pretender::new(&env, nodes::node(0, false, uuid::Uuid::nil()), false, Arc::default());
        let spec = JobSpec::from_document(&Shape::small(1).job("a")).expect("scenarios' jobs can be read");
        let job = Job {
            key: JobKey::new("default", "a"),
            spec: Arc::new(spec),
            version: 0,
            stop: false,
            stable: false,
            status: JobStatus::Pending,
            status_description: "".into(),
            submit_time: Timestamp::ZERO,
            create_index: 5,
            modify_index: 5,
            job_modify_index: 5,
            version_tag: None,
            parent: None,
        };
        let allocs = vec![record(1, DesiredStatus::Run)];
        node.apply(Assignments { jobs: vec![Arc::new(job)], allocs, ..Assignments::default() })
            .await
            .expect("its jobs are known");
        let (updates, _) = node.outbox().take(10);
        let tasks = &updates[0].task_states;
        assert_eq!((tasks.len(), tasks[0].name.as_str()), (1, "task"));
        assert_eq!(tasks[0].events.len(), 3);
    }
}
