//! What each command does to the state.

mod alloc;
mod cluster;
mod collect;
mod deployment;
mod eval;
mod job;
mod join;
mod node;
mod plan;
mod restore;
mod rows;
mod status;
mod writer;

use model::Evaluation;
use protocol::Command;

use crate::{Outcome, Refusal};

pub(crate) use rows::encode_rows;
pub(crate) use writer::Writer;

/// Applies one command to the writer's state.
pub(crate) fn run(writer: &mut Writer<'_>, command: &Command) -> Result<Outcome, Refusal> {
    let mut outcome = Outcome::Done;
    match command {
        Command::InitCluster { cluster_id, now } => outcome = writer.init_cluster(*cluster_id, *now),
        Command::UpsertNode { node, now, .. } => writer.upsert_node(&node.0, *now),
        Command::UpdateNodeStatus { updates, now, .. } => {
            updates.iter().for_each(|update| writer.update_node_status(update, *now));
        }
        Command::UpdateNodeEligibility { node_id, eligible, event, .. } => {
            writer.update_node_eligibility(*node_id, *eligible, event.as_ref())?;
        }
        Command::DrainNode { node_id, drain, mark_eligible, completed, meta, event, now, .. } => {
            let end = node::DrainEnd { mark_eligible: *mark_eligible, completed: *completed };
            writer.drain_node(*node_id, *drain, end, meta, event.as_ref(), *now)?;
        }
        Command::DeregisterNodes { node_ids, .. } => node_ids.iter().for_each(|&id| writer.remove_node(id)),
        Command::NoteNodeEvents { events } => writer.note_node_events(events),
        Command::RegisterJob { job, submission, enforce_index, eval, scaling, now } => {
            let extras = job::Extras { submission: submission.as_deref(), scaling: scaling.as_deref() };
            outcome = writer.register_job(job, *enforce_index, extras, eval.as_deref(), *now)?;
        }
        Command::DeregisterJob { key, purge, no_shutdown_delay, eval, now } => {
            outcome = writer.deregister_job(key, *purge, *no_shutdown_delay, eval.as_deref(), *now)?;
        }
        Command::MarkJobStable { key, version, stable } => writer.mark_job_stable(key, *version, *stable)?,
        Command::TagJobVersion { key, version, name, description, now } => {
            writer.tag_job_version(key, *version, name, description.as_deref(), *now)?;
        }
        Command::UpsertEvals { .. } => {}
        Command::ApplyPlans { plans, now } => outcome = writer.apply_plans(plans, *now),
        Command::UpdateAllocs { updates, now, .. } => {
            outcome = Outcome::AllocUpdates { dropped: writer.update_allocs(updates, *now) };
        }
        Command::UpdateTransitions { transitions, now, .. } => writer.update_transitions(transitions, *now),
        Command::UpdateDeployment { update, job, eval, now } => {
            writer.update_deployment(update, job.as_deref(), eval.as_deref(), *now)?;
        }
        Command::PromoteDeployment { id, groups, now, .. } => {
            writer.promote_deployment(*id, groups.as_deref(), *now)?
        }
        Command::SetAllocHealth { id, healthy, unhealthy, update, job, eval, now } => {
            writer.set_alloc_health(*id, healthy, unhealthy, *now)?;
            writer.follow_health(update.as_ref(), job.as_deref(), eval.as_deref(), *now)?;
        }
        Command::SetSchedulerConfig { config, cas } => writer.set_scheduler_config(&config.0, *cas)?,
        Command::UpsertNamespaces { namespaces } => writer.upsert_namespaces(namespaces),
        Command::DeleteNamespaces { names } => writer.delete_namespaces(names)?,
        Command::UpsertNodePools { pools } => writer.upsert_node_pools(pools)?,
        Command::DeleteNodePools { names } => writer.delete_node_pools(names)?,
        Command::Collect { evals, allocs, jobs, deployments, nodes } => {
            writer.collect(&collect::Garbage { evals, allocs, jobs, deployments, nodes });
        }
        Command::NotePeriodicLaunch { key, launch } => writer.note_periodic_launch(key, *launch),
        Command::ReconcileSummaries => writer.reconcile_summaries(),
        Command::CreateJoinToken { token } => writer.create_join_token(&token.0)?,
        Command::UseJoinToken { secret_hash, role, used } => {
            writer.use_join_token(secret_hash, *role, used)?
        }
        Command::RevokeJoinTokens { accessors } => writer.revoke_join_tokens(accessors),
        Command::SetJoinSettings { require_token } => writer.set_join_settings(*require_token),
        Command::TrustRegion { region } => writer.trust_region(&region.0),
        Command::ForgetRegion { name } => writer.forget_region(name)?,
        Command::Restore(step) => writer.restore(step)?,
        Command::AddRootKey { key, first } => writer.add_root_key(&key.0, *first),
        Command::DeleteRootKey { id } => writer.delete_root_key(*id)?,
        Command::SetAutopilotConfig { config, cas } => writer.set_autopilot_config(&config.0, *cas)?,
    }
    writer.put_evals(evals_beside(command));
    Ok(outcome)
}

/// Returns the evaluations that come with a command and need nothing of what it does; they are put in after it.
fn evals_beside(command: &Command) -> &[Evaluation] {
    match command {
        Command::UpsertNode { evals, .. }
        | Command::UpdateNodeStatus { evals, .. }
        | Command::UpdateNodeEligibility { evals, .. }
        | Command::DrainNode { evals, .. }
        | Command::DeregisterNodes { evals, .. }
        | Command::UpsertEvals { evals }
        | Command::UpdateAllocs { evals, .. }
        | Command::UpdateTransitions { evals, .. } => evals,
        Command::PromoteDeployment { eval, .. } => {
            eval.as_deref().map(std::slice::from_ref).unwrap_or_default()
        }
        Command::InitCluster { .. }
        | Command::NoteNodeEvents { .. }
        | Command::RegisterJob { .. }
        | Command::DeregisterJob { .. }
        | Command::MarkJobStable { .. }
        | Command::TagJobVersion { .. }
        | Command::ApplyPlans { .. }
        | Command::UpdateDeployment { .. }
        | Command::SetAllocHealth { .. }
        | Command::SetSchedulerConfig { .. }
        | Command::UpsertNamespaces { .. }
        | Command::DeleteNamespaces { .. }
        | Command::UpsertNodePools { .. }
        | Command::DeleteNodePools { .. }
        | Command::Collect { .. }
        | Command::NotePeriodicLaunch { .. }
        | Command::ReconcileSummaries
        | Command::CreateJoinToken { .. }
        | Command::UseJoinToken { .. }
        | Command::RevokeJoinTokens { .. }
        | Command::SetJoinSettings { .. }
        | Command::TrustRegion { .. }
        | Command::ForgetRegion { .. }
        | Command::Restore(_)
        | Command::SetAutopilotConfig { .. }
        | Command::AddRootKey { .. }
        | Command::DeleteRootKey { .. } => &[],
    }
}
