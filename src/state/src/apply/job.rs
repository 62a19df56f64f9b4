use std::{collections::BTreeMap, sync::Arc};

use model::{
    Evaluation, Job, JobKey, JobStatus, JobSubmission, JobSummary, ScalingEvent, Text, Timestamp, VersionTag,
};

use super::Writer;
use crate::{ChangedRow, JobEntry, Outcome, Refusal};

/// Versions that are kept of a job, beside those that have a tag.
const JOB_VERSIONS_MAX: usize = 6;
/// Scaling events that are kept of each group.
const SCALING_EVENTS_MAX: usize = 20;

/// What comes with a registration beside the job.
#[derive(Clone, Copy, Default)]
pub(super) struct Extras<'a> {
    pub(super) submission: Option<&'a JobSubmission>,
    pub(super) scaling: Option<&'a (Text, ScalingEvent)>,
}

impl Writer<'_> {
    pub(super) fn register_job(
        &mut self,
        job: &Job,
        enforce_index: Option<u64>,
        extras: Extras<'_>,
        eval: Option<&Evaluation>,
        now: Timestamp,
    ) -> Result<Outcome, Refusal> {
        self.check_registration(job, enforce_index)?;
        let version = self.put_version(job, now);
        if let Some(submission) = extras.submission {
            self.put_submission(&job.key, version, submission);
        }
        if let Some((group, event)) = extras.scaling {
            self.put_scaling_event(&job.key, group, event);
        }
        Ok(self.outcome_with_eval(&job.key, eval))
    }

    fn check_registration(&self, job: &Job, enforce_index: Option<u64>) -> Result<(), Refusal> {
        let known = self.state.job(&job.key);
        match (enforce_index, known) {
            (None, _) | (Some(0), None) => {}
            (Some(0), Some(_)) => return Err(Refusal::JobExists),
            (Some(enforced), None) => return Err(Refusal::JobDoesNotExist { enforced }),
            (Some(enforced), Some(known))
                if enforced != known.job_modify_index && !mutants::on!("state-check-index-ignored") =>
            {
                return Err(Refusal::JobChanged { enforced, found: known.job_modify_index });
            }
            (Some(_), Some(_)) => {}
        }
        if !self.state.namespaces.contains_key(&job.key.namespace) {
            return Err(Refusal::NoSuchNamespace { name: job.key.namespace.clone() });
        }
        let pool = &job.spec.node_pool;
        if !pool.is_empty() && !self.state.node_pools.contains_key(pool) {
            return Err(Refusal::NoSuchNodePool { name: pool.clone() });
        }
        let Some(parent) = job.parent.as_ref().filter(|parent| !parent.idempotency_token.is_empty()) else {
            return Ok(());
        };
        let parent_key = JobKey { namespace: job.key.namespace.clone(), id: parent.id.clone() };
        let token = |child: &&Arc<Job>| {
            child.parent.as_ref().is_some_and(|found| found.idempotency_token == parent.idempotency_token)
        };
        match self.state.children(&parent_key).find(token) {
            Some(child) => Err(Refusal::DispatchRepeated { child: child.key.clone() }),
            None => Ok(()),
        }
    }

    /// Puts in a job and returns its version. The version counts changes of what the user asked for; without one,
    /// nothing is written.
    pub(super) fn put_version(&mut self, job: &Job, now: Timestamp) -> u64 {
        let mut job = job.clone();
        job.modify_index = self.index;
        job.job_modify_index = self.index;
        if job.submit_time.is_zero() {
            job.submit_time = now;
        }
        let Some(known) = self.state.jobs.get(&job.key).cloned() else {
            (job.create_index, job.version, job.status) = (self.index, 0, JobStatus::Pending);
            let key = job.key.clone();
            self.put_new_summary(&job);
            self.put_job(JobEntry { current: Arc::new(job), older: Arc::new([]) });
            self.count_child(&key, None, Some(JobStatus::Pending));
            return 0;
        };
        let current = &known.current;
        if current.spec.document() == job.spec.document() && current.stop == job.stop {
            return current.version;
        }
        job.create_index = current.create_index;
        job.version = current.version + 1;
        job.status = current.status;
        job.status_description = current.status_description.clone();
        (job.stable, job.version_tag) = (false, None);
        job.parent = current.parent.clone();
        let version = job.version;
        self.put_new_summary(&job);
        let older = self.keep_versions(&known);
        self.put_job(JobEntry { current: Arc::new(job), older });
        version
    }

    /// Chooses the versions that stay when another one comes: the latest, the latest stable one, and those with a tag.
    fn keep_versions(&mut self, known: &JobEntry) -> Arc<[Arc<Job>]> {
        let all: Vec<_> = known.versions().cloned().collect();
        let room = JOB_VERSIONS_MAX - 1;
        let last_stable = all.iter().find(|job| job.stable).map(|job| job.version);
        let (mut kept, mut dropped, mut untagged) = (Vec::new(), Vec::new(), 0);
        for job in all {
            if job.version_tag.is_some() {
                kept.push(job);
            } else if untagged < room {
                untagged += 1;
                kept.push(job);
            } else if last_stable == Some(job.version) {
                // It takes the place of the oldest one, for without it a failed deployment has nowhere to go back to.
                if let Some(at) = kept.iter().rposition(|job: &Arc<Job>| job.version_tag.is_none()) {
                    dropped.push(kept.remove(at));
                }
                kept.push(job);
            } else {
                dropped.push(job);
            }
        }
        dropped.into_iter().for_each(|job| self.take_submission(&job.key, job.version));
        kept.into()
    }

    /// Makes the summary of a new job, or adds the groups that a known one got.
    fn put_new_summary(&mut self, job: &Job) {
        let known = self.state.summary(&job.key);
        let mut summary = known.map_or_else(
            || JobSummary {
                job: job.key.clone(),
                groups: BTreeMap::new(),
                children: (0, 0, 0),
                create_index: job.create_index,
                modify_index: 0,
            },
            |known| JobSummary::clone(known),
        );
        let groups = summary.groups.len();
        for group in &job.spec.groups {
            summary.groups.entry(group.name.clone()).or_default();
        }
        if known.is_none() || summary.groups.len() != groups {
            self.put_summary(summary);
        }
    }

    pub(super) fn outcome_with_eval(&mut self, key: &JobKey, eval: Option<&Evaluation>) -> Outcome {
        let (job_modify_index, version) =
            self.state.job(key).map_or((self.index, 0), |job| (job.job_modify_index, job.version));
        if let Some(eval) = eval {
            self.put_eval(&Evaluation { job_modify_index, ..eval.clone() });
        }
        Outcome::Job { job_modify_index, version }
    }

    fn put_submission(&mut self, key: &JobKey, version: u64, submission: &JobSubmission) {
        let at = (key.clone(), version);
        if self.state.submissions.get(&at).is_some_and(|known| **known == *submission) {
            return;
        }
        self.state.submissions.insert(at, Arc::new(submission.clone()));
        self.note(ChangedRow::Submission(key.clone(), version));
    }

    fn take_submission(&mut self, key: &JobKey, version: u64) {
        if self.state.submissions.remove(&(key.clone(), version)).is_some() {
            self.note(ChangedRow::Submission(key.clone(), version));
        }
    }

    fn put_scaling_event(&mut self, key: &JobKey, group: &Text, event: &ScalingEvent) {
        let event = ScalingEvent { create_index: self.index, ..event.clone() };
        let known = self.state.scaling_events(key);
        let mut count = 1;
        let mut events = vec![(group.clone(), event)];
        for known in known {
            if known.0 == *group {
                count += 1;
                if count > SCALING_EVENTS_MAX {
                    continue;
                }
            }
            events.push(known.clone());
        }
        self.state.scaling_events.insert(key.clone(), events.into());
        self.note(ChangedRow::ScalingEvents(key.clone()));
    }

    pub(super) fn deregister_job(
        &mut self,
        key: &JobKey,
        purge: bool,
        no_shutdown_delay: bool,
        eval: Option<&Evaluation>,
        now: Timestamp,
    ) -> Result<Outcome, Refusal> {
        let job = self.state.job(key).ok_or(Refusal::JobNotFound)?.clone();
        if no_shutdown_delay {
            self.skip_shutdown_delays(key, now);
        }
        if purge {
            self.purge_job(key);
        } else {
            self.put_version(&Job { stop: true, ..Job::clone(&job) }, now);
            self.take_periodic_launch(key);
        }
        Ok(self.outcome_with_eval(key, eval))
    }

    fn skip_shutdown_delays(&mut self, key: &JobKey, now: Timestamp) {
        let live: Vec<_> =
            self.state.allocs_by_job(key).filter(|alloc| !alloc.terminal()).map(|alloc| alloc.id).collect();
        for id in live {
            self.edit_alloc(id, now, |alloc| alloc.extra_mut().transition.no_shutdown_delay = Some(true));
        }
    }

    /// Forgets a job with all that is known of it alone. Its evaluations, deployments and allocations stay.
    pub(super) fn purge_job(&mut self, key: &JobKey) {
        if let Some(job) = self.state.job(key).cloned() {
            self.count_child(key, Some(job.status), None);
        }
        self.take_job(key);
        let versions: Vec<_> = self
            .state
            .submissions
            .range((key.clone(), 0)..=(key.clone(), u64::MAX))
            .map(|((_, version), _)| *version)
            .collect();
        versions.into_iter().for_each(|version| self.take_submission(key, version));
        if self.state.summaries.remove(key).is_some() {
            self.note_summary(key);
        }
        if self.state.scaling_events.remove(key).is_some() {
            self.note(ChangedRow::ScalingEvents(key.clone()));
        }
        self.take_periodic_launch(key);
    }

    fn take_periodic_launch(&mut self, key: &JobKey) {
        if self.state.periodic_launches.remove(key).is_some() {
            self.note(ChangedRow::PeriodicLaunch(key.clone()));
        }
    }

    pub(super) fn mark_job_stable(
        &mut self,
        key: &JobKey,
        version: u64,
        stable: bool,
    ) -> Result<(), Refusal> {
        let known = self.state.job_version(key, version);
        let known = known.ok_or_else(|| Refusal::JobVersionNotFound { id: key.id.clone(), version })?;
        if known.stable != stable {
            self.edit_version(key, version, |job| job.stable = stable);
        }
        Ok(())
    }

    pub(super) fn tag_job_version(
        &mut self,
        key: &JobKey,
        version: Option<u64>,
        name: &Text,
        description: Option<&str>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let current = self.state.job(key).ok_or(Refusal::JobNotFound)?;
        let version = version.unwrap_or(current.version);
        let tagged = self.state.job_version_by_tag(key, name).map(|job| job.version);
        let Some(description) = description else {
            let tagged =
                tagged.ok_or_else(|| Refusal::TagNotFound { name: name.clone(), id: key.id.clone() })?;
            self.edit_version(key, tagged, |job| job.version_tag = None);
            return Ok(());
        };
        if tagged.is_some_and(|tagged| tagged != version) {
            return Err(Refusal::TagTaken { name: name.clone(), id: key.id.clone() });
        }
        if self.state.job_version(key, version).is_none() {
            return Err(Refusal::JobVersionNotFound { id: key.id.clone(), version });
        }
        let tag = VersionTag { name: name.clone(), description: description.to_owned(), tagged_time: now };
        self.edit_version(key, version, |job| job.version_tag = Some(Box::new(tag)));
        Ok(())
    }

    /// Changes a version of a job, the latest or an older one.
    fn edit_version(&mut self, key: &JobKey, version: u64, edit: impl FnOnce(&mut Job)) {
        let Some(entry) = self.state.jobs.get(key) else { return };
        if entry.current.version == version {
            return self.edit_job(key, edit);
        }
        let mut older = entry.older.to_vec();
        if let Some(job) = older.iter_mut().find(|job| job.version == version) {
            let job = Arc::make_mut(job);
            edit(job);
            job.modify_index = self.index;
        }
        let entry = JobEntry { current: entry.current.clone(), older: older.into() };
        self.state.jobs.insert(entry);
        self.note(ChangedRow::JobVersion { key: key.clone(), version });
    }
}
