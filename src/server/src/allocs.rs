//! What clients say of their allocations: each server gathers what its sessions hear while the leader has its last word of
//! them, and the leader gathers what servers hand in while a commit is under way. So thousands of nodes that speak at once
//! are few messages and few entries of the log.

use std::{collections::BTreeMap, sync::Arc};

use model::{AllocId, Allocation, ClientStatus, EvalId, EvalTrigger, Evaluation, JobKey, JobType, Timestamp};
use protocol::{Command, encode, session::AllocUpdate};
use runtime::Env;
use state::Snapshot;
use tokio::sync::{mpsc, oneshot};

use crate::{
    asks::Ask,
    forward::{Again, settled_at},
    server::{Inner, SubmitError},
};

/// Batches of clients that wait for a commit. A client has one under way, so it fills only with thousands of clients
/// between two commits; then their sessions wait.
const QUEUE_MAX: usize = 1_024;

/// Updates in one command; more would make one entry of the log too large.
const UPDATES_MAX: usize = 8_192;

/// One client's batch, and where the index goes at which it was committed.
type Batch = (Vec<AllocUpdate>, oneshot::Sender<Result<(u64, u64), SubmitError>>);

/// Where clients' batches are handed in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Updates(mpsc::Sender<Batch>);

impl Updates {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Batch>) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        (Self(sender), queue)
    }

    /// Has a batch committed, if this server leads, and returns the entry of the log and the index of the state.
    ///
    /// # Errors
    ///
    /// As for [`crate::Server::submit`].
    pub async fn commit(&self, updates: Vec<AllocUpdate>) -> Result<(u64, u64), SubmitError> {
        let stopping = || SubmitError::Unavailable("server is stopping".to_owned());
        let (done, committed) = oneshot::channel();
        self.0.send((updates, done)).await.map_err(|_| stopping())?;
        committed.await.map_err(|_| stopping())?
    }
}

/// All that waits: the updates, and who wants to know what came of them.
struct Gathered {
    updates: Vec<AllocUpdate>,
    waiting: Vec<oneshot::Sender<Result<(u64, u64), SubmitError>>>,
}

impl Gathered {
    /// Waits for a first batch and takes what else there is. Nothing when the server stops.
    async fn next(inner: &Inner, queue: &mut mpsc::Receiver<Batch>) -> Option<Self> {
        let first = tokio::select! {
            biased;
            () = inner.env.shutdown().wait() => return None,
            first = queue.recv() => first?,
        };
        let mut gathered = Self { updates: first.0, waiting: vec![first.1] };
        while gathered.updates.len() < UPDATES_MAX
            && let Ok((more, done)) = queue.try_recv()
        {
            gathered.updates.extend(more);
            gathered.waiting.push(done);
        }
        Some(gathered)
    }
}

fn tell(
    waiting: Vec<oneshot::Sender<Result<(u64, u64), SubmitError>>>,
    result: &Result<(u64, u64), SubmitError>,
) {
    for done in waiting {
        let answer = match result {
            Ok(committed) => Ok(*committed),
            Err(SubmitError::NotLeader) => Err(SubmitError::NotLeader),
            Err(SubmitError::Unknown) => Err(SubmitError::Unknown),
            Err(error) => Err(SubmitError::Unavailable(error.to_string())),
        };
        // A session that broke meanwhile hands everything in again.
        let _ = done.send(answer);
    }
}

/// Has the leader commit what the sessions of this server hear, all that waits at once.
pub(crate) async fn relay(inner: Arc<Inner>, mut queue: mpsc::Receiver<Batch>) {
    while let Some(Gathered { updates, waiting }) = Gathered::next(&inner, &mut queue).await {
        let answer = inner.at_leader(Ask::Updates { updates }, Again::Harmless).await;
        let result = answer.and_then(settled_at);
        tell(waiting, &result.map(|(entry, submitted)| (entry, submitted.index)));
    }
}

/// Commits what servers hand in, all that waits at once.
pub(crate) async fn run(inner: Arc<Inner>, mut queue: mpsc::Receiver<Batch>) {
    while let Some(Gathered { updates, waiting }) = Gathered::next(&inner, &mut queue).await {
        let now = Timestamp(inner.env.wall());
        let evals = follow_ups(&inner.hub.snapshot(), &updates, now, &inner.env);
        let result = inner.propose(encode(&Command::UpdateAllocs { updates, evals, now })).await;
        tell(waiting, &result.map(|(entry, submitted)| (entry, submitted.index)));
    }
}

/// Makes an evaluation for each job of which an allocation newly failed and may be rescheduled.
fn follow_ups(snapshot: &Snapshot, updates: &[AllocUpdate], now: Timestamp, env: &Env) -> Vec<Evaluation> {
    let mut evals: BTreeMap<JobKey, Evaluation> = BTreeMap::new();
    if updates.iter().all(|update| update.client_status != ClientStatus::Failed) {
        return Vec::new();
    }
    let latest: BTreeMap<AllocId, &AllocUpdate> = updates.iter().map(|update| (update.id, update)).collect();
    for update in latest.into_values() {
        let Some(alloc) = snapshot.alloc(update.id) else { continue };
        if !needs_evaluation(alloc, update) || evals.contains_key(&alloc.job.key) {
            continue;
        }
        let Some(job) = snapshot.job(&alloc.job.key).filter(|job| !job.stop) else { continue };
        let id = EvalId::from_random(env.random_u128());
        let trigger = EvalTrigger::RetryFailedAlloc;
        let mut eval =
            Evaluation::pending(id, job.key.clone(), job.spec.kind, job.spec.priority, trigger, now);
        eval.job_modify_index = job.modify_index;
        evals.insert(job.key.clone(), eval);
    }
    evals.into_values().collect()
}

fn needs_evaluation(alloc: &Allocation, update: &AllocUpdate) -> bool {
    if alloc.client_status.is_terminal()
        || alloc.server_terminal()
        || update.client_status != ClientStatus::Failed
    {
        return false;
    }
    match alloc.job.spec.kind {
        JobType::Service | JobType::Batch => {
            alloc.extra().followup_eval.is_none() && control::may_be_replaced(alloc, &update.task_states)
        }
        // No policy says how often and after what wait they come again: at once and for ever would be the answer. They do
        // when their job or their node is looked at next.
        JobType::System | JobType::Sysbatch => false,
    }
}
