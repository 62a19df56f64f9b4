use model::{
    AllocExtra, AllocId, Allocation, ClientStatus, DesiredStatus, EvalId, NodeId, TaskState, Text, Timestamp,
};
use protocol::Named;
use serde::Serialize;

use crate::{ChangedRow, State, image::content_hash};

/// Encodes touched rows for the hash chain.
pub(crate) fn encode_rows(state: &State, rows: &[ChangedRow]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * 128);
    for row in rows {
        out.push(row.table() as u8);
        match row {
            ChangedRow::Cluster => push(&mut out, &state.cluster.get()),
            ChangedRow::Node { before, after } => {
                push(&mut out, &before.as_ref().map(|node| node.id));
                push(&mut out, &after.clone().map(Named));
            }
            ChangedRow::Job { before, after } => {
                push(&mut out, &before.as_ref().map(|job| &job.key));
                push(&mut out, after);
            }
            ChangedRow::JobVersion { key, version } => push(&mut out, &state.job_version(key, *version)),
            ChangedRow::Alloc { before, after } => {
                push(&mut out, &before.as_ref().map(|alloc| alloc.id));
                push(&mut out, &after.as_deref().map(HashedAlloc::of));
            }
            ChangedRow::Eval { before, after } => {
                push(&mut out, &before.as_ref().map(|eval| eval.id));
                push(&mut out, after);
            }
            ChangedRow::Deployment { before, after } => {
                push(&mut out, &before.as_ref().map(|deployment| deployment.id));
                push(&mut out, after);
            }
            ChangedRow::Summary(key) => push(&mut out, &(key, state.summary(key))),
            ChangedRow::Submission(key, version) => {
                push(&mut out, &(key, version, state.submission(key, *version)))
            }
            ChangedRow::PeriodicLaunch(key) => push(&mut out, &(key, state.periodic_launch(key))),
            ChangedRow::ScalingEvents(key) => push(&mut out, &(key, state.scaling_events(key))),
            ChangedRow::Namespace(name) => push(&mut out, &(name, state.namespace(name).cloned().map(Named))),
            ChangedRow::NodePool { name, after } => push(&mut out, &(name, after.clone().map(Named))),
            ChangedRow::SchedulerConfig => push(&mut out, &state.scheduler_config()),
            ChangedRow::JoinToken(id) => push(&mut out, &(id, state.join_token(*id))),
            ChangedRow::JoinSettings => push(&mut out, &state.join_settings()),
            ChangedRow::Region(name) => push(&mut out, &(name, state.trusted_region(name))),
            ChangedRow::Restore { installed: true } => push(&mut out, &content_hash(state)),
            // The command is hashed too, and it holds the part.
            ChangedRow::Restore { installed: false } => push(&mut out, &state.staged_parts()),
            ChangedRow::RootKey(id) => push(&mut out, &(id, state.root_keys.get(id).cloned().map(Named))),
            ChangedRow::AutopilotConfig => push(&mut out, &state.autopilot_config()),
        }
    }
    out
}

fn push<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    let start = std::mem::take(out);
    *out = postcard::to_extend(value, start).expect("our rows hold nothing that postcard can not write");
}

/// An allocation without what its command carries anyway and its siblings share: the command is hashed too.
#[derive(Serialize)]
struct HashedAlloc<'a> {
    id: AllocId,
    eval_id: EvalId,
    node_id: NodeId,
    job: (u64, u64, u16, u32),
    desired: DesiredStatus,
    client_status: ClientStatus,
    descriptions: (&'a Text, &'a Text),
    task_states: &'a [TaskState],
    extra: Option<&'a AllocExtra>,
    indexes: (u64, u64, u64),
    times: (Timestamp, Timestamp),
}

impl<'a> HashedAlloc<'a> {
    fn of(alloc: &'a Allocation) -> Self {
        Self {
            id: alloc.id,
            eval_id: alloc.eval_id,
            node_id: alloc.node_id,
            job: (alloc.job.create_index, alloc.job.version, alloc.group, alloc.index),
            desired: alloc.desired,
            client_status: alloc.client_status,
            descriptions: (&alloc.desired_description, &alloc.client_description),
            task_states: &alloc.task_states,
            extra: alloc.extra.as_deref(),
            indexes: (alloc.create_index, alloc.modify_index, alloc.alloc_modify_index),
            times: (alloc.create_time, alloc.modify_time),
        }
    }
}
