use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{JobKey, JobSpec, Text, Timestamp, named::named_enum};

named_enum! {
    /// Which scheduler places a job.
    JobType {
        /// Long-running; replaced when it fails or its node is lost.
        Service = "service",
        /// Runs until it ends successfully.
        Batch = "batch",
        /// One instance on every feasible node.
        System = "system",
        /// Runs to its end once on every feasible node.
        Sysbatch = "sysbatch",
    }
}

named_enum! {
    /// What a job as a whole is doing; computed when the state changes.
    JobStatus {
        /// Has evaluations to come and nothing placed yet.
        Pending = "pending",
        /// Has something that runs, or waits for its launches.
        Running = "running",
        /// Has nothing that runs and nothing to come.
        Dead = "dead",
    }
}

/// One version of a job, as the state keeps it.
///
/// The specification is shared between the rows that differ only in what the server sets.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Job {
    /// Namespace and id.
    pub key: JobKey,
    /// What the user asked for.
    pub spec: Arc<JobSpec>,
    /// Counts changes of the specification, from 0.
    pub version: u64,
    /// Whether the user stopped the job.
    pub stop: bool,
    /// Whether a deployment of this version succeeded.
    pub stable: bool,
    /// What the job as a whole is doing.
    pub status: JobStatus,
    /// Why it is so, when that is worth saying.
    pub status_description: Text,
    /// When this version was submitted.
    pub submit_time: Timestamp,
    /// The index at which a job of this key was first registered.
    pub create_index: u64,
    /// The index of the last change of this row.
    pub modify_index: u64,
    /// The index of the last change of the specification.
    pub job_modify_index: u64,
    /// A name that the user gave to this version.
    pub version_tag: Option<Box<VersionTag>>,
    /// Set on the children of parameterized and periodic jobs.
    pub parent: Option<Box<Parent>>,
}

/// A name given to a job version, which keeps it from being collected.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct VersionTag {
    /// Unique among the job's versions.
    pub name: Text,
    /// Free text.
    pub description: String,
    /// When the tag was set.
    pub tagged_time: Timestamp,
}

/// What ties a child to the job that it was launched or dispatched from.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Parent {
    /// Id of the parent, in the same namespace.
    pub id: Text,
    /// Whether the child was dispatched from a parameterized job.
    pub dispatched: bool,
    /// The token that makes a repeated dispatch harmless.
    pub idempotency_token: Text,
    /// What the dispatch carried.
    pub payload: Vec<u8>,
}

/// The text that a job was registered from, kept to be shown again.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct JobSubmission {
    /// The original text.
    pub source: String,
    /// `hcl2` or `json`.
    pub format: Text,
    /// Values given by `-var`.
    pub variable_flags: Vec<(Text, String)>,
    /// Contents of the variable files.
    pub variables: String,
}

impl Job {
    /// Tells whether the job only launches children and is never placed itself.
    pub fn is_template(&self) -> bool {
        self.is_parameterized() || self.is_periodic()
    }

    /// Tells whether the job waits to be dispatched; a dispatched child does not.
    pub fn is_parameterized(&self) -> bool {
        self.spec.parameterized.is_some() && !self.parent.as_ref().is_some_and(|parent| parent.dispatched)
    }

    /// Tells whether the job launches children by the clock; a child does not.
    pub fn is_periodic(&self) -> bool {
        self.spec.periodic.is_some() && self.parent.is_none()
    }

    /// Finds a task group by name.
    pub fn group(&self, name: &str) -> Option<(usize, &crate::TaskGroup)> {
        self.spec.groups.iter().enumerate().find(|(_, group)| group.name == name)
    }
}
