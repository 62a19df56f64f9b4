//! One property a file, named by what it claims. The number is the invariant's in `docs/chaos.md`.

mod i01_committed_stays;
mod i01_logs_agree;
mod i01_one_leader_per_term;
mod i01_terms_never_fall;
mod i01_voters_are_kept;
mod i02_one_cluster_id;
mod i03_drains_in_turn;
mod i03_group_within_count;
mod i03_health_takes_time;
mod i03_names_are_unique;
mod i03_over_stays_over;
mod i03_replaced_once;
mod i03_task_runs_once;
mod i03_updates_in_turn;
mod i04_constraints_are_met;
mod i04_no_node_oversubscribed;
mod i04_placed_on_ready_nodes;
mod i05_no_port_shared;
mod i06_history_linearizable;
mod i06_stale_reads_monotonic;
mod i07_deployments_end;
mod i07_evaluations_end;
mod i07_room_is_used;
mod i08_allocations_settle;
mod i08_jobs_run_everywhere;
mod i09_restarts_within_policy;
mod i09_tasks_survive_agents;
mod i10_nothing_left_behind;
mod i11_states_equal;
mod i12_indexes_never_fall;
mod i13_members_agree;
mod i13_nodes_are_not_given_up;
mod i16_processes_stay_sound;
mod i17_bad_input_changes_nothing;
mod i18_damage_is_seen;
mod i19_runs_repeat;

use crate::Property;

/// The properties that hold whatever is looked at, a simulated region or real processes, as they stand before a run.
pub fn all() -> Vec<Box<dyn Property>> {
    vec![
        Box::<i01_committed_stays::CommittedStays>::default(),
        Box::<i01_logs_agree::LogsAgree>::default(),
        Box::<i01_one_leader_per_term::OneLeaderPerTerm>::default(),
        Box::<i01_terms_never_fall::TermsNeverFall>::default(),
        Box::<i02_one_cluster_id::OneClusterId>::default(),
        Box::<i03_group_within_count::GroupWithinCount>::default(),
        Box::<i03_task_runs_once::TaskRunsOnce>::default(),
        Box::<i04_no_node_oversubscribed::NoNodeOversubscribed>::default(),
        Box::<i05_no_port_shared::NoPortShared>::default(),
        Box::<i06_history_linearizable::HistoryLinearizable>::default(),
        Box::<i06_stale_reads_monotonic::StaleReadsMonotonic>::default(),
        Box::<i07_evaluations_end::EvaluationsEnd>::default(),
        Box::<i08_allocations_settle::AllocationsSettle>::default(),
        Box::<i09_tasks_survive_agents::TasksSurviveAgents>::default(),
        Box::<i10_nothing_left_behind::NothingLeftBehind>::default(),
        Box::<i11_states_equal::StatesEqual>::default(),
        Box::<i12_indexes_never_fall::IndexesNeverFall>::default(),
        Box::<i13_members_agree::MembersAgree>::default(),
        Box::<i16_processes_stay_sound::ProcessesStaySound>::default(),
        Box::<i17_bad_input_changes_nothing::BadInputChangesNothing>::default(),
        Box::<i18_damage_is_seen::DamageIsSeen>::default(),
        Box::<i19_runs_repeat::RunsRepeat>::default(),
    ]
}

/// These and the ones that know the limits of updates, drains, replacements and restarts, as they stand before a run. They
/// need every row whole and exact clocks, which the simulation alone has.
pub fn strict() -> Vec<Box<dyn Property>> {
    let mut properties = all();
    let stricter: Vec<Box<dyn Property>> = vec![
        Box::<i01_voters_are_kept::VotersAreKept>::default(),
        Box::<i03_drains_in_turn::DrainsInTurn>::default(),
        Box::<i03_health_takes_time::HealthTakesTime>::default(),
        Box::<i03_names_are_unique::NamesAreUnique>::default(),
        Box::<i03_over_stays_over::OverStaysOver>::default(),
        Box::<i03_replaced_once::ReplacedOnce>::default(),
        Box::<i03_updates_in_turn::UpdatesInTurn>::default(),
        Box::<i04_constraints_are_met::ConstraintsAreMet>::default(),
        Box::<i04_placed_on_ready_nodes::PlacedOnReadyNodes>::default(),
        Box::<i07_deployments_end::DeploymentsEnd>::default(),
        Box::<i07_room_is_used::RoomIsUsed>::default(),
        Box::<i08_jobs_run_everywhere::JobsRunEverywhere>::default(),
        Box::<i09_restarts_within_policy::RestartsWithinPolicy>::default(),
        Box::<i13_nodes_are_not_given_up::NodesAreNotGivenUp>::default(),
    ];
    properties.extend(stricter);
    properties
}
