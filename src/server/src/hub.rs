//! Where the latest state is, and who wants to know when it changes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use model::{AllocId, DeploymentId, EvalId, JobKey, NodeId};
use parking_lot::Mutex;
use state::{ChangedRow, Changes, Snapshot, Table};
use tokio::sync::{Notify, broadcast};

/// Commands that a follower of all changes may be behind. One that is further behind starts from the state.
const CHANGES_MAX: usize = 4_096;

/// What can be waited for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Watch {
    /// Anything in a table.
    Table(Table),
    /// One node.
    Node(NodeId),
    /// One job, its versions or its counts.
    Job(JobKey),
    /// One allocation.
    Alloc(AllocId),
    /// One evaluation.
    Eval(EvalId),
    /// One deployment.
    Deployment(DeploymentId),
    /// Allocations of a job.
    JobAllocs(JobKey),
    /// Evaluations of a job.
    JobEvals(JobKey),
    /// Deployments of a job.
    JobDeployments(JobKey),
    /// Allocations of a node.
    NodeAllocs(NodeId),
}

/// The latest state and those who wait for another.
#[derive(Debug)]
pub struct Hub {
    current: ArcSwap<Snapshot>,
    changes: broadcast::Sender<Arc<Changes>>,
    waiters: Mutex<BTreeMap<Watch, Vec<Weak<Notify>>>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            current: ArcSwap::from_pointee(Snapshot::default()),
            changes: broadcast::Sender::new(CHANGES_MAX),
            waiters: Mutex::default(),
        }
    }
}

/// Wakes when something that it watches changed after it was made.
#[derive(Debug)]
pub struct Waiter {
    notify: Arc<Notify>,
}

impl Waiter {
    /// Waits for the first change.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Hub {
    /// Returns the latest state.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::clone(&self.current.load())
    }

    /// Follows all changes, in order. A follower that falls behind is told so and starts from the state.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Changes>> {
        self.changes.subscribe()
    }

    /// Waits for any of these to change from here on. Make the waiter first, then look at the state.
    pub fn wait_for(&self, watched: &[Watch]) -> Waiter {
        let notify = Arc::new(Notify::new());
        let mut waiters = self.waiters.lock();
        for watch in watched {
            let list = waiters.entry(watch.clone()).or_default();
            // Those who stopped waiting are dropped when the list has grown to twice what it was.
            if list.len() == list.capacity() {
                list.retain(|waiter| waiter.strong_count() > 0);
            }
            list.push(Arc::downgrade(&notify));
        }
        Waiter { notify }
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
    }

    pub(crate) fn tell(&self, changes: Arc<Changes>) {
        {
            let mut waiters = self.waiters.lock();
            // A command may touch thousands of rows and seldom any that someone waits for.
            if !waiters.is_empty() {
                for_each_watch(&changes, |watch| {
                    let missed = mutants::on!("watch-misses-jobs")
                        && matches!(watch, Watch::Job(_) | Watch::Table(Table::Jobs));
                    if let Some(list) = waiters.remove(&watch).filter(|_| !missed) {
                        wake(list);
                    }
                });
            }
        }
        // Nobody may be following, e.g. while a server starts.
        let _ = self.changes.send(changes);
    }

    /// Wakes everyone: the state was replaced as a whole.
    pub(crate) fn wake_all(&self) {
        let all = std::mem::take(&mut *self.waiters.lock());
        for list in all.into_values() {
            wake(list);
        }
    }
}

fn wake(list: Vec<Weak<Notify>>) {
    for waiter in list {
        if let Some(waiter) = waiter.upgrade() {
            waiter.notify_one();
        }
    }
}

/// Names everything that the changes touch; some of it more than once.
fn for_each_watch(changes: &Changes, mut touch: impl FnMut(Watch)) {
    changes.tables().into_iter().for_each(|table| touch(Watch::Table(table)));
    for row in &changes.rows {
        match row {
            ChangedRow::Node { before, after } => {
                after.iter().chain(before).take(1).for_each(|node| touch(Watch::Node(node.id)));
            }
            ChangedRow::Job { before, after } => {
                after.iter().chain(before).take(1).for_each(|job| touch(Watch::Job(job.key.clone())));
            }
            ChangedRow::JobVersion { key, .. }
            | ChangedRow::Summary(key)
            | ChangedRow::Submission(key, _)
            | ChangedRow::PeriodicLaunch(key)
            | ChangedRow::ScalingEvents(key) => touch(Watch::Job(key.clone())),
            ChangedRow::Alloc { before, after } => {
                if let Some(alloc) = after.as_ref().or(before.as_ref()) {
                    touch(Watch::Alloc(alloc.id));
                    touch(Watch::NodeAllocs(alloc.node_id));
                    touch(Watch::JobAllocs(alloc.job.key.clone()));
                }
            }
            ChangedRow::Eval { before, after } => {
                if let Some(eval) = after.as_ref().or(before.as_ref()) {
                    touch(Watch::Eval(eval.id));
                    touch(Watch::JobEvals(eval.job.clone()));
                }
            }
            ChangedRow::Deployment { before, after } => {
                if let Some(deployment) = after.as_ref().or(before.as_ref()) {
                    touch(Watch::Deployment(deployment.id));
                    touch(Watch::JobDeployments(deployment.job.clone()));
                }
            }
            ChangedRow::Cluster
            | ChangedRow::Namespace(_)
            | ChangedRow::NodePool { .. }
            | ChangedRow::SchedulerConfig
            | ChangedRow::JoinToken(_)
            | ChangedRow::JoinSettings
            | ChangedRow::Region(_)
            | ChangedRow::Restore { .. }
            | ChangedRow::AutopilotConfig
            | ChangedRow::RootKey(_) => {}
        }
    }
}
