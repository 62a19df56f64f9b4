use std::{collections::BTreeMap, sync::Arc};

use model::{AllocMetric, EvalId, EvalTrigger, Evaluation, Job, PlanAnnotations, Text, Timestamp};
use protocol::Plan;
use state::Snapshot;

use crate::{
    Chance, Context, Scheduler,
    evaluate::{self, Subject},
};

/// What registering a job would do. Nothing of it happens.
#[derive(Clone, Debug)]
pub struct DryRun {
    /// The plan of the evaluation that the registration would cause.
    pub plan: Plan,
    /// What it does, by group.
    pub annotations: PlanAnnotations,
    /// Why some could not be placed, by group.
    pub failed_groups: BTreeMap<Text, AllocMetric>,
}

/// Finds out what registering a job would do, on any server: reads all nodes of the snapshot first.
///
/// The job's version and indexes are set as registration would set them.
pub fn plan_job(snapshot: &Snapshot, job: &Job, now: Timestamp, chance: &mut dyn Chance) -> DryRun {
    let mut scheduler = Scheduler::new();
    scheduler.rebuild(snapshot);
    scheduler.plan_job(snapshot, job, &mut Context { now, chance })
}

impl Scheduler {
    /// Finds out what registering a job would do; what is in flight counts, and the table stays as it was.
    pub fn plan_job(&mut self, snapshot: &Snapshot, job: &Job, context: &mut Context<'_>) -> DryRun {
        let job = Arc::new(as_registered(snapshot, job));
        let id = EvalId::from_random(context.chance.random_u128());
        let trigger = EvalTrigger::JobRegister;
        let mut eval =
            Evaluation::pending(id, job.key.clone(), job.spec.kind, job.spec.priority, trigger, context.now);
        eval.job_modify_index = job.modify_index;
        let plan = evaluate::evaluate(self, &Subject { snapshot, eval: &eval, job: Some(&job) }, context);
        self.withdraw(snapshot, [&plan]);
        DryRun {
            annotations: plan.eval.annotations.as_deref().cloned().unwrap_or_default(),
            failed_groups: plan.eval.failed_groups.clone(),
            plan,
        }
    }
}

fn as_registered(snapshot: &Snapshot, job: &Job) -> Job {
    let mut job = job.clone();
    job.stop = false;
    let next = snapshot.index() + 1;
    match snapshot.job(&job.key) {
        None => {
            job.version = 0;
            job.create_index = next;
            job.modify_index = next;
            job.job_modify_index = next;
        }
        Some(known) => {
            let same = !known.stop && known.spec.document() == job.spec.document();
            job.version = if same { known.version } else { known.version + 1 };
            job.create_index = known.create_index;
            job.modify_index = if same { known.modify_index } else { next };
            job.job_modify_index = if same { known.job_modify_index } else { next };
        }
    }
    job
}
