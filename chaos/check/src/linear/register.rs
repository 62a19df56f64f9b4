use crate::{Action, JobSeen, Outcome, Reply};

/// Stands for every marker that nobody was ever told: two registrations that have it are different ones all the same.
pub(super) const NEVER_SEEN: u64 = u64::MAX;

/// One job as the sequential model has it, and how far the indexes are.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Register {
    job: Option<Job>,
    /// No later write can have this index or a smaller one.
    floor: u64,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Job {
    index: Index,
    marker: u64,
    count: u32,
    stopped: bool,
}

/// The index of a job's specification. A write whose answer never came has one that nobody was told.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Index {
    Known(u64),
    AtLeast(u64),
}

impl Index {
    fn can_be(self, index: u64) -> bool {
        match self {
            Self::Known(known) => known == index,
            Self::AtLeast(least) => index >= least,
        }
    }

    /// Tells whether it can be anything but this.
    fn can_differ(self, index: u64) -> bool {
        match self {
            Self::Known(known) => known != index,
            Self::AtLeast(_) => true,
        }
    }
}

impl Register {
    /// Applies an operation with what came of it; none when that outcome is impossible here.
    pub(super) fn step(self, action: Action, outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Done(reply) => self.done(action, *reply),
            Outcome::Refused => self.can_refuse(action).then_some(self),
            Outcome::Unknown => self.done(action, Reply::default()),
            // It is no part of the history.
            Outcome::Failed => Some(self),
        }
    }

    /// Takes it apart: the job, and the index below which no later write can be.
    pub(super) fn apart(self) -> (Self, u64) {
        (Self { floor: 0, ..self }, self.floor)
    }

    fn done(self, action: Action, reply: Reply) -> Option<Self> {
        match action {
            Action::Read => self.read(reply.seen),
            Action::Register { marker, count, check_index } => {
                let checked = self.pass(check_index)?;
                let unchanged =
                    checked.job.filter(|job| !job.stopped && job.marker == marker && job.count == count);
                let unchanged = unchanged.filter(|_| marker != NEVER_SEEN);
                match unchanged {
                    // The same specification again writes nothing.
                    Some(job) => checked.fits_reply(job, reply),
                    None => checked.write(marker, count, false, reply),
                }
            }
            Action::Deregister { purge } => {
                let Some(job) = self.job else { return Some(self) };
                if purge {
                    let floor = self.next_floor(None)?;
                    return Some(Self { job: None, floor });
                }
                if job.stopped { Some(self) } else { self.write(job.marker, job.count, true, reply) }
            }
            Action::Scale { count } => {
                let job = self.job.filter(|job| !job.stopped)?;
                if job.count == count { Some(self) } else { self.write(job.marker, count, false, reply) }
            }
        }
    }

    fn can_refuse(self, action: Action) -> bool {
        match action {
            Action::Register { check_index: None, .. } | Action::Read => false,
            Action::Register { check_index: Some(0), .. } => self.job.is_some(),
            Action::Register { check_index: Some(wanted), .. } => {
                self.job.is_none_or(|job| job.index.can_differ(wanted))
            }
            Action::Deregister { .. } => self.job.is_none(),
            Action::Scale { .. } => self.job.is_none_or(|job| job.stopped),
        }
    }

    /// Passes the check of a registration. What passed tells which index the job had.
    fn pass(self, check_index: Option<u64>) -> Option<Self> {
        match (check_index, self.job) {
            (None, _) | (Some(0), None) => Some(self),
            (Some(0), Some(_)) | (Some(_), None) => None,
            (Some(wanted), Some(job)) => self.bind(job, wanted),
        }
    }

    fn bind(self, job: Job, index: u64) -> Option<Self> {
        if !job.index.can_be(index) {
            return None;
        }
        let job = Job { index: Index::Known(index), ..job };
        Some(Self { job: Some(job), floor: self.floor.max(index) })
    }

    fn fits_reply(self, job: Job, reply: Reply) -> Option<Self> {
        match reply.job_index {
            None => Some(self),
            Some(index) => self.bind(job, index),
        }
    }

    fn read(self, seen: Option<JobSeen>) -> Option<Self> {
        match (seen, self.job) {
            (None, None) => Some(self),
            (None, Some(_)) | (Some(_), None) => None,
            (Some(seen), Some(job)) => {
                let same =
                    seen.marker == job.marker && seen.count == job.count && seen.stopped == job.stopped;
                if same { self.bind(job, seen.job_index) } else { None }
            }
        }
    }

    fn write(self, marker: u64, count: u32, stopped: bool, reply: Reply) -> Option<Self> {
        let floor = self.next_floor(reply.job_index)?;
        let index = reply.job_index.map_or(Index::AtLeast(floor), Index::Known);
        Some(Self { job: Some(Job { index, marker, count, stopped }), floor })
    }

    /// Every write has a greater index than all before it.
    fn next_floor(self, index: Option<u64>) -> Option<u64> {
        match index {
            None => Some(self.floor + 1),
            Some(index) => (index > self.floor).then_some(index),
        }
    }

    /// What a read sees here; an index that nobody was told counts as `otherwise`.
    #[cfg(test)]
    pub(super) fn seen(self, otherwise: u64) -> Option<JobSeen> {
        let Job { index, marker, count, stopped } = self.job?;
        let job_index = match index {
            Index::Known(index) => index,
            Index::AtLeast(_) => otherwise,
        };
        Some(JobSeen { job_index, marker, count, stopped })
    }
}
