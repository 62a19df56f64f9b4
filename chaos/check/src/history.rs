use model::{JobKey, Text};

use crate::observation::Moment;

/// Everything that users did in a run.
///
/// Only jobs that nothing else writes belong in it: no automatic revert, no periodic parent, no dispatched child.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Writes and consistent reads, in any order.
    pub operations: Vec<Operation>,
    /// Reads that may be old, in the order in which each session was answered.
    pub stale_reads: Vec<StaleRead>,
}

/// One thing that a user did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Operation {
    /// Who, for the report.
    pub user: u32,
    /// With which job.
    pub key: JobKey,
    /// What.
    pub action: Action,
    /// When the request was sent.
    pub start: Moment,
    /// When the answer came; with an unknown outcome, when the user gave up, which bounds nothing.
    pub end: Moment,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a user did with a job.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Action {
    /// Registered it. The marker tells this specification from every other of the run; it travels in the job's meta.
    Register {
        /// What tells the specification.
        marker: u64,
        /// The group's count.
        count: u32,
        /// The index that the job had to have (`EnforceIndex` with `JobModifyIndex`): 0 for "no such job".
        check_index: Option<u64>,
    },
    /// Stopped it, or took it out altogether.
    Deregister {
        /// Altogether.
        purge: bool,
    },
    /// Set its group's count.
    Scale {
        /// To this.
        count: u32,
    },
    /// Read it, from the leader.
    Read,
}

/// What came of an operation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was done.
    Done(Reply),
    /// The region refused it because of the job as it stood: the index was another one, there was no such job, it was
    /// stopped. Nothing changed.
    Refused,
    /// It certainly did nothing, and that says nothing about the job: the request was never sent, or no server took it.
    Failed,
    /// Nobody knows: no answer came. It may take effect at any later time, or never.
    Unknown,
}

impl Outcome {
    /// Whether it was acknowledged.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

/// What an answer says about the job.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reply {
    /// The job's modify index of the specification after a write (`JobModifyIndex`), when the answer tells it.
    pub job_index: Option<u64>,
    /// What a read saw; none for no such job.
    pub seen: Option<JobSeen>,
}

/// A job, as a read sees it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct JobSeen {
    /// The index of the specification (`JobModifyIndex`).
    pub job_index: u64,
    /// What tells its specification.
    pub marker: u64,
    /// The group's count.
    pub count: u32,
    /// It was stopped.
    pub stopped: bool,
}

/// A read that any server may answer from what it has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StaleRead {
    /// Who asked; one name for one uninterrupted session.
    pub session: Text,
    /// Who answered.
    pub server: u64,
    /// The index of the answer.
    pub index: u64,
    /// When.
    pub at: Moment,
}
