//! What registering a job would do.

use control::periodic::Schedule;
use model::{Job, Timestamp};
use scheduler::{Chance, DryRun};

use super::{Admitted, Draft, RequestError};
use crate::Server;

/// What registering a job would do. Nothing of it happened.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The job as it would be registered.
    pub job: Job,
    /// The job as it is.
    pub current: Option<std::sync::Arc<Job>>,
    /// What the scheduler would do; none for jobs that only launch others.
    pub run: Option<DryRun>,
    /// When it would be launched next, if by the clock.
    pub next_launch: Timestamp,
    /// What its author should know.
    pub warnings: String,
}

struct Draws(runtime::Env);

impl Chance for Draws {
    fn random_u64(&mut self) -> u64 {
        self.0.random_u64()
    }
}

impl Server {
    /// Finds out what registering a job would do.
    ///
    /// # Errors
    ///
    /// When the job breaks a rule.
    pub async fn plan_job(&self, draft: Draft) -> Result<Planned, RequestError> {
        let Admitted { job, warnings } = self.admit(draft)?;
        let snapshot = self.snapshot();
        let now = self.now();
        let current = snapshot.job(&job.key).cloned();
        if job.is_template() {
            let next_launch = Schedule::of(&job).ok().and_then(|schedule| schedule.next_after(now));
            let next_launch = next_launch.filter(|_| job.is_periodic()).unwrap_or_default();
            return Ok(Planned { job, current, run: None, next_launch, warnings });
        }
        let mut chance = Draws(self.env().clone());
        let subject = job.clone();
        // A dry run looks at every node; in a large region that is too long for a thread that serves connections.
        let run =
            self.env().spawn_blocking(move || scheduler::plan_job(&snapshot, &subject, now, &mut chance));
        let run = run.await.map_err(|_| RequestError::failed("the dry run did not end"))?;
        Ok(Planned { job, current, run: Some(run), next_launch: Timestamp::ZERO, warnings })
    }
}
