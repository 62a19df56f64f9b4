//! What each command does to the state.

mod alloc;
mod cluster;
mod collect;
mod deployment;
mod eval;
mod job;
mod node;
mod plan;
mod rows;
mod status;
mod writer;

use protocol::Command;

use crate::{Outcome, Refusal};

pub(crate) use rows::encode_rows;
pub(crate) use writer::Writer;

/// Applies one command to the writer's state.
pub(crate) fn run(writer: &mut Writer<'_>, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::InitCluster { cluster_id, now } => return Ok(writer.init_cluster(*cluster_id, *now)),
        Command::UpsertNode { node, evals, now } => {
            writer.upsert_node(&node.0, *now);
            writer.put_evals(evals);
        }
        Command::UpdateNodeStatus { updates, evals, now } => {
            updates.iter().for_each(|update| writer.update_node_status(update, *now));
            writer.put_evals(evals);
        }
        Command::UpdateNodeEligibility { node_id, eligible, event, evals, now: _ } => {
            writer.update_node_eligibility(*node_id, *eligible, event.as_ref())?;
            writer.put_evals(evals);
        }
        Command::DrainNode { node_id, drain, mark_eligible, completed, meta, event, evals, now } => {
            let end = node::DrainEnd { mark_eligible: *mark_eligible, completed: *completed };
            writer.drain_node(*node_id, *drain, end, meta, event.as_ref(), *now)?;
            writer.put_evals(evals);
        }
        Command::DeregisterNodes { node_ids, evals, now: _ } => {
            node_ids.iter().for_each(|&id| writer.remove_node(id));
            writer.put_evals(evals);
        }
        Command::NoteNodeEvents { events } => {
            events.iter().for_each(|(id, event)| writer.note_node_event(*id, event));
        }
        Command::RegisterJob { job, submission, enforce_index, eval, scaling, now } => {
            let extras = job::Extras { submission: submission.as_deref(), scaling: scaling.as_deref() };
            return writer.register_job(job, *enforce_index, extras, eval.as_deref(), *now);
        }
        Command::DeregisterJob { key, purge, no_shutdown_delay, eval, now } => {
            return writer.deregister_job(key, *purge, *no_shutdown_delay, eval.as_deref(), *now);
        }
        Command::MarkJobStable { key, version, stable } => writer.mark_job_stable(key, *version, *stable)?,
        Command::TagJobVersion { key, version, name, description, now } => {
            writer.tag_job_version(key, *version, name, description.as_deref(), *now)?;
        }
        Command::UpsertEvals { evals } => writer.put_evals(evals),
        Command::ApplyPlans { plans, now } => return Ok(writer.apply_plans(plans, *now)),
        Command::UpdateAllocs { updates, evals, now } => {
            let dropped = writer.update_allocs(updates, *now);
            writer.put_evals(evals);
            return Ok(Outcome::AllocUpdates { dropped });
        }
        Command::UpdateTransitions { transitions, evals, now } => {
            transitions.iter().for_each(|(id, transition)| writer.update_transition(*id, *transition, *now));
            writer.put_evals(evals);
        }
        Command::UpdateDeployment { update, job, eval, now } => {
            writer.update_deployment(update, job.as_deref(), eval.as_deref(), *now)?;
        }
        Command::PromoteDeployment { id, groups, eval, now } => {
            writer.promote_deployment(*id, groups.as_deref(), *now)?;
            writer.put_evals(eval.as_deref());
        }
        Command::SetAllocHealth { id, healthy, unhealthy, update, job, eval, now } => {
            writer.set_alloc_health(*id, healthy, unhealthy, *now)?;
            match update {
                Some(update) => writer.update_deployment(update, job.as_deref(), eval.as_deref(), *now)?,
                None => writer.put_evals(eval.as_deref()),
            }
        }
        Command::SetSchedulerConfig { config, cas } => writer.set_scheduler_config(&config.0, *cas)?,
        Command::UpsertNamespaces { namespaces } => {
            namespaces.iter().for_each(|namespace| writer.upsert_namespace(&namespace.0));
        }
        Command::DeleteNamespaces { names } => {
            names.iter().try_for_each(|name| writer.delete_namespace(name))?
        }
        Command::UpsertNodePools { pools } => {
            pools.iter().try_for_each(|pool| writer.upsert_node_pool(&pool.0))?
        }
        Command::DeleteNodePools { names } => {
            names.iter().try_for_each(|name| writer.delete_node_pool(name))?
        }
        Command::Collect { evals, allocs, jobs, deployments, nodes } => {
            writer.collect(&collect::Garbage { evals, allocs, jobs, deployments, nodes });
        }
        Command::NotePeriodicLaunch { key, launch } => writer.note_periodic_launch(key, *launch),
        Command::ReconcileSummaries => writer.reconcile_summaries(),
    }
    Ok(Outcome::Done)
}
