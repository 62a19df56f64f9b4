//! What the clock launches.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc, time::Duration};

use jiff::tz::TimeZone;
use model::{EvalTrigger, Job, JobKey, JobSpec, JobStatus, Parent, Timestamp};
use protocol::Command;
use state::{ChangedRow, Changes, State};

use crate::{
    Moment,
    cron::{self, Cron},
    for_job,
};

/// Why a job can not be launched by the clock, or at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PeriodicError {
    /// There is no such job.
    #[error("job not found")]
    NoSuchJob,
    /// The job is not launched by the clock.
    #[error("can't force periodic launch of non-periodic job {id:?}")]
    NotPeriodic {
        /// Its id.
        id: model::Text,
    },
    /// The job has no expression.
    #[error("Must specify a spec")]
    NoSpec,
    /// An expression can not be read.
    #[error("Invalid cron spec {spec:?}: {source}")]
    BadSpec {
        /// The expression.
        spec: model::Text,
        /// What is wrong with it.
        source: cron::CronError,
    },
    /// The time zone is not known.
    #[error(transparent)]
    BadZone(#[from] cron::UnknownZone),
}

/// When a periodic job is launched.
#[derive(Clone, Debug)]
pub struct Schedule {
    crons: Vec<Cron>,
    zone: TimeZone,
}

impl Schedule {
    /// Reads the schedule of a job.
    ///
    /// # Errors
    ///
    /// When the job has none, or one that can not be read.
    pub fn of(job: &Job) -> Result<Self, PeriodicError> {
        let periodic = job
            .spec
            .periodic
            .as_ref()
            .ok_or_else(|| PeriodicError::NotPeriodic { id: job.key.id.clone() })?;
        let specs =
            if periodic.specs.is_empty() { vec![&periodic.spec] } else { periodic.specs.iter().collect() };
        let specs: Vec<_> = specs.into_iter().filter(|spec| !spec.is_empty()).collect();
        if specs.is_empty() {
            return Err(PeriodicError::NoSpec);
        }
        let read = |spec: &&model::Text| {
            spec.parse().map_err(|source| PeriodicError::BadSpec { spec: (*spec).clone(), source })
        };
        Ok(Self {
            crons: specs.iter().map(read).collect::<Result<_, _>>()?,
            zone: cron::zone(&periodic.time_zone)?,
        })
    }

    /// Returns the first launch after a time.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.crons.iter().filter_map(|cron| cron.next_after(after, &self.zone)).min()
    }
}

/// Periodic jobs and their next launches.
#[derive(Debug, Default)]
pub struct Periodic {
    jobs: BTreeMap<JobKey, Tracked>,
    due: BTreeSet<(Timestamp, JobKey)>,
}

#[derive(Debug)]
struct Tracked {
    schedule: Schedule,
    next: Option<Timestamp>,
    modify_index: u64,
}

impl Periodic {
    /// Makes the machine of the periodic jobs in a state. A launch that was missed meanwhile is made up for, once.
    pub fn new(state: &State, now: &Moment<'_>) -> Self {
        let mut periodic = Self::default();
        for job in state.all_jobs() {
            // Without a record of a launch there is none to be missed.
            let after = state.periodic_launch(&job.key).unwrap_or(now.wall);
            periodic.track(job, after);
        }
        periodic
    }

    /// Takes in what a command touched.
    pub fn applied(&mut self, changes: &Changes, now: &Moment<'_>) {
        for row in &changes.rows {
            match row {
                ChangedRow::Job { after: Some(job), .. } => self.track(job, now.wall),
                ChangedRow::Job { before: Some(job), after: None } => self.forget(&job.key),
                _ => {}
            }
        }
    }

    /// Returns the launches that are due.
    pub fn tick(&mut self, state: &State, now: &mut Moment<'_>) -> Vec<Command> {
        let mut commands = Vec::new();
        while let Some((launch, key)) = self.due.first().filter(|(at, _)| *at <= now.wall).cloned() {
            self.due.pop_first();
            if let Some(tracked) = self.jobs.get_mut(&key) {
                // Of several that were missed, one is made up for.
                tracked.next = tracked.schedule.next_after(now.wall.max(launch));
                self.due.extend(tracked.next.map(|next| (next, key.clone())));
            }
            let Some(job) = state.job(&key) else { continue };
            let overlaps = job.spec.periodic.as_ref().is_some_and(|periodic| periodic.prohibit_overlap)
                && state.children(&key).any(|child| child.status != JobStatus::Dead);
            if !overlaps {
                commands.extend(launch_commands(job, launch, now));
            }
        }
        commands
    }

    /// Launches a job, whatever its schedule says.
    ///
    /// # Errors
    ///
    /// When there is no such job, or the clock does not launch it.
    pub fn force(state: &State, key: &JobKey, now: &mut Moment<'_>) -> Result<[Command; 2], PeriodicError> {
        let job = state.job(key).ok_or(PeriodicError::NoSuchJob)?;
        if !job.is_periodic() {
            return Err(PeriodicError::NotPeriodic { id: key.id.clone() });
        }
        let launch = now.wall;
        Ok(launch_commands(job, launch, now))
    }

    /// Returns the wait until [`Periodic::tick`] is due; none when nothing is launched by the clock.
    pub fn next_tick(&self, now: &Moment<'_>) -> Option<Duration> {
        self.due.first().map(|(at, _)| at.since(now.wall))
    }

    /// Returns when a job is launched next.
    pub fn next_launch(&self, key: &JobKey) -> Option<Timestamp> {
        self.jobs.get(key)?.next
    }

    fn track(&mut self, job: &Job, after: Timestamp) {
        let enabled = job.is_periodic() && !job.stop && job.spec.periodic.as_ref().is_some_and(|p| p.enabled);
        if self.jobs.get(&job.key).is_some_and(|known| enabled && known.modify_index == job.job_modify_index)
        {
            return;
        }
        self.forget(&job.key);
        // One that can not be read was refused at its registration; it is launched never, not wrongly.
        let Some(schedule) = enabled.then(|| Schedule::of(job).ok()).flatten() else { return };
        let next = schedule.next_after(after);
        self.due.extend(next.map(|next| (next, job.key.clone())));
        self.jobs.insert(job.key.clone(), Tracked { schedule, next, modify_index: job.job_modify_index });
    }

    fn forget(&mut self, key: &JobKey) {
        if let Some(next) = self.jobs.remove(key).and_then(|tracked| tracked.next) {
            self.due.remove(&(next, key.clone()));
        }
    }
}

/// Makes the commands of one launch: the child, and the note of when it was due.
///
/// The child's id says when it was due, so a launch that is proposed twice makes one child.
fn launch_commands(job: &Job, launch: Timestamp, now: &mut Moment<'_>) -> [Command; 2] {
    let id = format!("{}/periodic-{}", job.key.id, launch.seconds());
    let child = Job {
        spec: child_spec(job, &id),
        key: JobKey::new(job.key.namespace.clone(), id),
        version: 0,
        stable: false,
        status: JobStatus::Pending,
        submit_time: now.wall,
        version_tag: None,
        parent: Some(Box::new(Parent {
            id: job.key.id.clone(),
            dispatched: false,
            idempotency_token: model::Text::default(),
            payload: Vec::new(),
        })),
        ..job.clone()
    };
    let eval = for_job(&child, EvalTrigger::PeriodicJob, now);
    let register = Command::RegisterJob {
        job: Box::new(child),
        submission: None,
        enforce_index: None,
        eval: Some(Box::new(eval)),
        scaling: None,
        now: now.wall,
    };
    [register, Command::NotePeriodicLaunch { key: job.key.clone(), launch }]
}

/// A child is the same job under a name of its own.
fn child_spec(job: &Job, id: &str) -> Arc<JobSpec> {
    let mut document = job.spec.document_value();
    document["ID"] = id.into();
    document["Name"] = id.into();
    JobSpec::from_document(&document).map_or_else(|_| job.spec.clone(), Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Clock, Region, document, job_from, key};
    use serde_json::json;

    fn hourly(prohibit_overlap: bool) -> Job {
        let mut document = document("report", "batch", 50);
        document["Periodic"] = json!({
            "Enabled": true, "Spec": "0 * * * *", "TimeZone": "UTC", "ProhibitOverlap": prohibit_overlap
        });
        job_from("report", &document)
    }

    #[test]
    fn a_job_is_launched_when_its_time_comes() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(hourly(false));
        let mut periodic = Periodic::new(region.state(), &clock.moment());
        let wait = periodic.next_tick(&clock.moment()).expect("it is launched every hour");
        assert!(wait <= Duration::from_secs(3600));
        assert!(periodic.tick(region.state(), &mut clock.moment()).is_empty());
        clock.pass(wait);
        for command in periodic.tick(region.state(), &mut clock.moment()) {
            region.apply(command);
        }
        let children: Vec<_> = region.state().children(&key("report")).cloned().collect();
        assert_eq!(children.len(), 1);
        assert_eq!(children[0].key.id, format!("report/periodic-{}", clock.wall().seconds()));
        assert_eq!(region.state().periodic_launch(&key("report")), Some(clock.wall()));
        assert_eq!(region.state().evals_by_job(&children[0].key).count(), 1);
        assert_eq!(periodic.next_tick(&clock.moment()), Some(Duration::from_secs(3600)));
    }

    #[test]
    fn a_launch_is_left_out_while_the_one_before_runs_if_the_job_says_so() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(hourly(true));
        let mut periodic = Periodic::new(region.state(), &clock.moment());
        for _ in 0..3 {
            clock.pass(Duration::from_secs(3600));
            for command in periodic.tick(region.state(), &mut clock.moment()) {
                region.apply(command);
            }
        }
        assert_eq!(region.state().children(&key("report")).count(), 1);
    }

    #[test]
    fn a_new_leader_makes_up_for_a_missed_launch_once() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(hourly(false));
        region.apply(Command::NotePeriodicLaunch { key: key("report"), launch: clock.wall() });
        clock.pass(Duration::from_secs(5 * 3600));
        let mut periodic = Periodic::new(region.state(), &clock.moment());
        assert_eq!(periodic.tick(region.state(), &mut clock.moment()).len(), 2, "a child and a note");
        assert!(periodic.tick(region.state(), &mut clock.moment()).is_empty());
    }

    #[test]
    fn a_stopped_job_is_not_launched() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(hourly(false));
        let mut periodic = Periodic::new(region.state(), &clock.moment());
        region.deregister("report", false);
        periodic.applied(region.last_changes(), &clock.moment());
        assert_eq!(periodic.next_tick(&clock.moment()), None);
    }
}
