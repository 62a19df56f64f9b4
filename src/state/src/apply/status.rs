use std::sync::Arc;

use model::{
    Allocation, ClientStatus, Deployment, Evaluation, GroupSummary, Job, JobKey, JobStatus, JobSummary,
    JobType,
};

use super::Writer;
use crate::{JobCounts, JobEntry, State};

impl State {
    pub(crate) fn count_alloc(&mut self, before: Option<&Arc<Allocation>>, after: Option<&Arc<Allocation>>) {
        let Some(row) = before.or(after) else { return };
        let live = |row: Option<&Arc<Allocation>>| row.is_some_and(|alloc| !alloc.terminal());
        let (was, is) = ((before.is_some(), live(before)), (after.is_some(), live(after)));
        if was != is {
            self.jobs.count(&row.job.key, |counts| {
                shift(&mut counts.allocs, was.0, is.0);
                shift(&mut counts.live_allocs, was.1, is.1);
            });
        }
    }

    pub(crate) fn count_eval(&mut self, before: Option<&Arc<Evaluation>>, after: Option<&Arc<Evaluation>>) {
        let Some(row) = before.or(after) else { return };
        let open = |row: Option<&Arc<Evaluation>>| row.is_some_and(|eval| !eval.status.is_terminal());
        self.jobs.count(&row.job, |counts| {
            shift(&mut counts.evals, before.is_some(), after.is_some());
            shift(&mut counts.open_evals, open(before), open(after));
        });
    }

    pub(crate) fn count_deployment(
        &mut self,
        before: Option<&Arc<Deployment>>,
        after: Option<&Arc<Deployment>>,
    ) {
        let Some(row) = before.or(after) else { return };
        let active =
            |row: Option<&Arc<Deployment>>| row.is_some_and(|deployment| deployment.status.is_active());
        self.jobs.count(&row.job, |counts| {
            shift(&mut counts.deployments, before.is_some(), after.is_some());
            shift(&mut counts.active_deployments, active(before), active(after));
        });
    }
}

fn shift(count: &mut u32, was: bool, is: bool) {
    match (was, is) {
        (false, true) => *count += 1,
        (true, false) => *count -= 1,
        (true, true) | (false, false) => {}
    }
}

/// Decides what a job as a whole is doing.
fn status_of(job: &Job, counts: JobCounts) -> JobStatus {
    let by_itself = job.spec.kind == JobType::System || job.is_template();
    if by_itself {
        return if job.stop { JobStatus::Dead } else { JobStatus::Running };
    }
    // One that was over before stays so when its records are collected.
    let is_new = counts.evals == 0 && counts.allocs == 0 && job.status == JobStatus::Pending;
    if counts.live_allocs > 0 || counts.active_deployments > 0 {
        JobStatus::Running
    } else if counts.open_evals > 0 || (is_new && !job.stop) {
        JobStatus::Pending
    } else {
        JobStatus::Dead
    }
}

impl Writer<'_> {
    /// Computes the status of each job that was stirred, and what its parent counts of it.
    pub(super) fn settle_job_statuses(&mut self) {
        for key in self.take_stirred() {
            let Some(entry) = self.state.jobs.get(&key) else { continue };
            let status = status_of(&entry.current, self.state.jobs.counts(&key));
            let was = entry.current.status;
            if status != was {
                self.set_status(&key, status);
                self.count_child(&key, Some(was), Some(status));
            }
        }
    }

    fn set_status(&mut self, key: &JobKey, status: JobStatus) {
        let Some(entry) = self.state.jobs.get(key) else { return };
        let job = Job { status, modify_index: self.index, ..Job::clone(&entry.current) };
        let entry = JobEntry { current: Arc::new(job), older: entry.older.clone() };
        self.put_job(entry);
    }

    /// Counts a child in its parent's summary: from one status to another, from none when it comes, to none when it
    /// goes.
    pub(super) fn count_child(&mut self, child: &JobKey, was: Option<JobStatus>, is: Option<JobStatus>) {
        let parent = self.state.job(child).and_then(|job| job.parent.as_ref());
        let Some(parent) =
            parent.map(|parent| JobKey { namespace: child.namespace.clone(), id: parent.id.clone() })
        else {
            return;
        };
        self.edit_summary(&parent, |summary| {
            if let Some(was) = was {
                let count = children(summary, was);
                *count = count.saturating_sub(1);
            }
            if let Some(is) = is {
                *children(summary, is) += 1;
            }
        });
    }

    /// Counts an allocation in its job's summary.
    pub(super) fn summarise_alloc(&mut self, before: Option<&Allocation>, after: &Allocation) {
        let was = before.map(|alloc| (alloc.client_status, alloc.group, alloc.job.version));
        if was == Some((after.client_status, after.group, after.job.version)) {
            return;
        }
        let Some(summary) = self.state.summaries.get(&after.job.key) else { return };
        if summary.create_index != after.job.create_index {
            return;
        }
        self.edit_summary(&after.job.key, |summary| {
            let was = before.and_then(|alloc| {
                Some(clients(summary.groups.get_mut(&alloc.task_group().name)?, alloc.client_status))
            });
            if let Some(count) = was {
                *count = count.saturating_sub(1);
            }
            let group = summary.groups.entry(after.task_group().name.clone()).or_default();
            *clients(group, after.client_status) += 1;
            if before.is_none() {
                group.queued = group.queued.saturating_sub(1);
            }
        });
    }

    /// Makes every summary anew from the rows. What is queued is known to evaluations alone and stays.
    pub(super) fn reconcile_summaries(&mut self) {
        let keys: Vec<_> = self.state.all_jobs().map(|job| job.key.clone()).collect();
        for key in keys {
            let Some(summary) = self.state.recompute_summary(&key) else { continue };
            if self.state.summary(&key).is_none_or(|kept| **kept != summary) {
                self.put_summary(summary);
            }
        }
    }
}

impl State {
    /// Counts a job's allocations and children from the rows; none when the job does not exist.
    ///
    /// What is queued is known to evaluations alone: it is taken from the summary that is kept.
    pub fn recompute_summary(&self, key: &JobKey) -> Option<JobSummary> {
        let job = self.job(key)?;
        let mut summary = JobSummary {
            job: key.clone(),
            groups: job
                .spec
                .groups
                .iter()
                .map(|group| (group.name.clone(), GroupSummary::default()))
                .collect(),
            children: (0, 0, 0),
            create_index: job.create_index,
            modify_index: job.create_index,
        };
        if let Some(kept) = self.summary(key) {
            summary.modify_index = kept.modify_index;
            for (name, group) in &kept.groups {
                summary.groups.entry(name.clone()).or_default().queued = group.queued;
            }
        }
        for alloc in self.allocs_by_job(key).filter(|alloc| alloc.job.create_index == job.create_index) {
            *clients(
                summary.groups.entry(alloc.task_group().name.clone()).or_default(),
                alloc.client_status,
            ) += 1;
        }
        for child in self.children(key) {
            *children(&mut summary, child.status) += 1;
        }
        Some(summary)
    }
}

fn clients(group: &mut GroupSummary, status: ClientStatus) -> &mut u32 {
    match status {
        ClientStatus::Pending => &mut group.starting,
        ClientStatus::Running => &mut group.running,
        ClientStatus::Complete => &mut group.complete,
        ClientStatus::Failed => &mut group.failed,
        ClientStatus::Lost => &mut group.lost,
        ClientStatus::Unknown => &mut group.unknown,
    }
}

fn children(summary: &mut JobSummary, status: JobStatus) -> &mut u32 {
    match status {
        JobStatus::Pending => &mut summary.children.0,
        JobStatus::Running => &mut summary.children.1,
        JobStatus::Dead => &mut summary.children.2,
    }
}
