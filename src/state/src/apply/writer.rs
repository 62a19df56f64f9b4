use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{
    AllocId, Allocation, Deployment, DeploymentId, EvalId, Evaluation, Job, JobKey, JobSummary, Node, NodeId,
    Timestamp,
};

use crate::{ChangedRow, JobEntry, State};

/// Changes the state for one command and remembers what it touched.
///
/// Every change of a row goes through a `put_` or `remove_` here: it keeps the counts beside the rows right.
pub(crate) struct Writer<'a> {
    pub(super) state: &'a mut State,
    pub(super) index: u64,
    rows: Vec<ChangedRow>,
    /// Positions in `rows`, so that a row that is touched twice appears once.
    seen: BTreeMap<RowKey, usize>,
    /// Jobs whose status may have changed.
    stirred: BTreeSet<JobKey>,
    /// The job whose summary was noted last: allocations of one job come together.
    summarised: Option<JobKey>,
}

/// Where an allocation goes. To look for an id among millions costs as much as all else that is done with its row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    /// No other one has its id.
    New {
        /// Its number among the rows of this commit, if they do not come in the order of their ids.
        ordinal: Option<u64>,
    },
    /// In the place of the one with its id, at this position.
    At(u64),
}

#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum RowKey {
    Node(NodeId),
    Job(JobKey),
    Alloc(AllocId),
    Eval(EvalId),
    Deployment(DeploymentId),
    Summary(JobKey),
}

/// Notes a change of a row with two forms: keeps the first form that was there and the last that is.
macro_rules! note {
    ($writer:ident, $variant:ident, $key:expr, $before:expr, $after:expr) => {{
        let (key, before, after) = ($key, $before, $after);
        match $writer.seen.entry(RowKey::$variant(key)) {
            std::collections::btree_map::Entry::Occupied(at) => {
                if let ChangedRow::$variant { after: last, .. } = &mut $writer.rows[*at.get()] {
                    *last = after;
                }
            }
            std::collections::btree_map::Entry::Vacant(at) => {
                at.insert($writer.rows.len());
                $writer.rows.push(ChangedRow::$variant { before, after });
            }
        }
    }};
}

impl<'a> Writer<'a> {
    pub(crate) fn new(state: &'a mut State, index: u64) -> Self {
        Self {
            state,
            index,
            rows: Vec::new(),
            seen: BTreeMap::new(),
            stirred: BTreeSet::new(),
            summarised: None,
        }
    }

    /// Brings what follows from the changes up to date and returns what was touched.
    pub(crate) fn finish(mut self) -> Vec<ChangedRow> {
        self.settle_job_statuses();
        for row in &self.rows {
            self.state.table_indexes[row.table() as usize] = self.index;
        }
        self.rows
    }

    pub(super) fn take_stirred(&mut self) -> BTreeSet<JobKey> {
        std::mem::take(&mut self.stirred)
    }

    /// Notes a change of a row that has no forms to show.
    pub(super) fn note(&mut self, row: ChangedRow) {
        self.rows.push(row);
    }

    pub(super) fn put_node(&mut self, mut node: Node) {
        node.modify_index = self.index;
        let node = Arc::new(node);
        let before = self.state.nodes.insert(node.id, node.clone());
        note!(self, Node, node.id, before, Some(node));
    }

    pub(super) fn take_node(&mut self, id: NodeId) {
        if let Some(before) = self.state.nodes.remove(&id) {
            note!(self, Node, id, Some(before), None);
        }
    }

    /// Puts in a job; its status is settled at the end.
    pub(super) fn put_job(&mut self, entry: JobEntry) {
        let key = entry.current.key.clone();
        let before = self.state.jobs.get(&key).map(|entry| entry.current.clone());
        let after = entry.current.clone();
        self.state.jobs.insert(entry);
        self.stirred.insert(key.clone());
        note!(self, Job, key, before, Some(after));
    }

    /// Changes the latest version of a job.
    pub(super) fn edit_job(&mut self, key: &JobKey, edit: impl FnOnce(&mut Job)) {
        let Some(entry) = self.state.jobs.get(key) else { return };
        let mut job = Job::clone(&entry.current);
        edit(&mut job);
        job.modify_index = self.index;
        let entry = JobEntry { current: Arc::new(job), older: entry.older.clone() };
        self.put_job(entry);
    }

    pub(super) fn take_job(&mut self, key: &JobKey) -> Option<JobEntry> {
        let entry = self.state.jobs.remove(key)?;
        note!(self, Job, key.clone(), Some(entry.current.clone()), None);
        Some(entry)
    }

    /// Puts in an allocation and counts it for its job.
    pub(super) fn put_alloc(&mut self, mut alloc: Allocation, spot: Spot) {
        alloc.modify_index = self.index;
        let (after, before) = match spot {
            Spot::New { ordinal } => (self.state.allocs.add(alloc, ordinal), None),
            Spot::At(position) => {
                let (after, before) = self.state.allocs.replace(position, alloc);
                (after, Some(before))
            }
        };
        self.state.count_alloc(before.as_ref(), Some(&after));
        self.summarise_alloc(before.as_deref(), &after);
        self.stir_alloc(before.as_deref(), Some(&after));
        note!(self, Alloc, after.id, before, Some(after));
    }

    /// Changes an allocation in the name of the servers.
    pub(super) fn edit_alloc(&mut self, id: AllocId, now: Timestamp, edit: impl FnOnce(&mut Allocation)) {
        let Some(position) = self.state.allocs.position(id) else { return };
        let row = self.state.allocs.at(position);
        let mut alloc = Allocation::clone(row);
        edit(&mut alloc);
        if alloc == **row {
            return;
        }
        alloc.alloc_modify_index = self.index;
        alloc.modify_time = now;
        self.put_alloc(alloc, Spot::At(position));
    }

    pub(super) fn take_alloc(&mut self, id: AllocId) {
        if let Some(before) = self.state.allocs.remove(id) {
            self.state.count_alloc(Some(&before), None);
            self.stir_alloc(Some(&before), None);
            note!(self, Alloc, id, Some(before), None);
        }
    }

    pub(super) fn put_eval_row(&mut self, eval: Evaluation) {
        let eval = Arc::new(eval);
        let before = self.state.evals.insert(eval.clone());
        self.state.count_eval(before.as_ref(), Some(&eval));
        self.stirred.insert(eval.job.clone());
        note!(self, Eval, eval.id, before, Some(eval));
    }

    pub(super) fn take_eval(&mut self, id: EvalId) {
        if let Some((_, before)) = self.state.evals.remove(id) {
            self.state.count_eval(Some(&before), None);
            self.stirred.insert(before.job.clone());
            note!(self, Eval, id, Some(before), None);
        }
    }

    pub(super) fn put_deployment(&mut self, mut deployment: Deployment) {
        deployment.modify_index = self.index;
        let deployment = Arc::new(deployment);
        let before = self.state.deployments.insert(deployment.clone());
        self.state.count_deployment(before.as_ref(), Some(&deployment));
        self.stirred.insert(deployment.job.clone());
        note!(self, Deployment, deployment.id, before, Some(deployment));
    }

    /// Changes a deployment, if it is there.
    pub(super) fn edit_deployment(
        &mut self,
        id: DeploymentId,
        now: Timestamp,
        edit: impl FnOnce(&mut Deployment),
    ) {
        let Some(row) = self.state.deployment(id) else { return };
        let mut deployment = Deployment::clone(row);
        edit(&mut deployment);
        if deployment != **row {
            deployment.modify_time = now;
            self.put_deployment(deployment);
        }
    }

    pub(super) fn take_deployment(&mut self, id: DeploymentId) {
        if let Some((_, before)) = self.state.deployments.remove(id) {
            self.state.count_deployment(Some(&before), None);
            self.stirred.insert(before.job.clone());
            note!(self, Deployment, id, Some(before), None);
        }
    }

    pub(super) fn put_summary(&mut self, mut summary: JobSummary) {
        summary.modify_index = self.index;
        self.note_summary(&summary.job);
        self.state.summaries.insert(summary.job.clone(), Arc::new(summary));
    }

    /// Changes a summary, if it is there. In place where nobody else holds the row.
    pub(super) fn edit_summary(&mut self, key: &JobKey, edit: impl FnOnce(&mut JobSummary)) {
        let Some(row) = self.state.summaries.get_mut(key) else { return };
        let summary = Arc::make_mut(row);
        edit(summary);
        summary.modify_index = self.index;
        self.note_summary(key);
    }

    pub(super) fn note_summary(&mut self, key: &JobKey) {
        if self.summarised.as_ref() == Some(key) {
            return;
        }
        self.summarised = Some(key.clone());
        if self.seen.insert(RowKey::Summary(key.clone()), usize::MAX).is_none() {
            self.note(ChangedRow::Summary(key.clone()));
        }
    }

    fn stir_alloc(&mut self, before: Option<&Allocation>, after: Option<&Allocation>) {
        let live = |alloc: Option<&Allocation>| alloc.is_some_and(|alloc| !alloc.terminal());
        let moved = before.is_some() != after.is_some() || live(before) != live(after);
        let Some(alloc) = before.or(after).filter(|_| moved) else { return };
        if !self.stirred.contains(&alloc.job.key) {
            self.stirred.insert(alloc.job.key.clone());
        }
    }
}
