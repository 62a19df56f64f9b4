use std::sync::Arc;

use imbl::OrdMap;
use model::{Job, JobKey};

/// Jobs with their versions, and how much of each job there is.
#[derive(Clone, Debug, Default)]
pub struct JobTable {
    rows: OrdMap<JobKey, JobEntry>,
    counts: OrdMap<JobKey, JobCounts>,
}

/// A job: its latest version and the older ones that are kept.
#[derive(Clone, Debug)]
pub struct JobEntry {
    /// The latest version.
    pub current: Arc<Job>,
    /// Older versions, newest first.
    pub older: Arc<[Arc<Job>]>,
}

/// How many rows belong to a job. Kept beside the rows, so that a job's status is known without looking at them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct JobCounts {
    /// Evaluations.
    pub evals: u32,
    /// Evaluations of which something may still come.
    pub open_evals: u32,
    /// Allocations.
    pub allocs: u32,
    /// Allocations that neither the servers nor their clients ended.
    pub live_allocs: u32,
    /// Deployments.
    pub deployments: u32,
    /// Deployments that may still move.
    pub active_deployments: u32,
}

impl JobEntry {
    /// Lists all versions, newest first.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<Job>> {
        std::iter::once(&self.current).chain(self.older.iter())
    }
}

impl JobTable {
    /// Returns the number of jobs.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Tells whether there are no jobs.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Finds a job with its versions.
    pub fn get(&self, key: &JobKey) -> Option<&JobEntry> {
        self.rows.get(key)
    }

    /// Lists the jobs in the order of (namespace, id).
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &JobEntry> {
        self.rows.iter().map(|(_, entry)| entry)
    }

    /// Lists the jobs from a key on, in the order of (namespace, id).
    pub fn iter_from<'a>(&'a self, key: &JobKey) -> impl Iterator<Item = &'a JobEntry> + use<'a> {
        self.rows.range(key.clone()..).map(|(_, entry)| entry)
    }

    /// Returns how many rows belong to a job, or once belonged to a job of this key.
    pub fn counts(&self, key: &JobKey) -> JobCounts {
        self.counts.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn insert(&mut self, entry: JobEntry) {
        self.rows.insert(entry.current.key.clone(), entry);
    }

    pub(crate) fn remove(&mut self, key: &JobKey) -> Option<JobEntry> {
        self.rows.remove(key)
    }

    pub(crate) fn count(&mut self, key: &JobKey, change: impl FnOnce(&mut JobCounts)) {
        let Some(counts) = self.counts.get_mut(key) else {
            let mut counts = JobCounts::default();
            change(&mut counts);
            self.counts.insert(key.clone(), counts);
            return;
        };
        change(counts);
        if *counts == JobCounts::default() {
            self.counts.remove(key);
        }
    }
}
