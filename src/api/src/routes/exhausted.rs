//! What tasks asked for that no node had: the account of a failed placement says it, and the job knows it.

use std::collections::BTreeMap;

use api_types::{Evaluation, Resources};
use serde_json::Value;
use state::Snapshot;

/// Makes the shape of an evaluation, and fills in what its failed placements asked for.
pub(super) fn shape(state: &Snapshot, eval: &model::Evaluation) -> Evaluation {
    let mut shape = Evaluation::of(eval);
    for (group, account) in &mut shape.failed_tg_allocs {
        if !account.dimension_exhausted.is_empty() {
            account.resources_exhausted = asked_for(state, eval, group);
        }
    }
    shape
}

/// What each task of a group asks for; nothing when the job is gone.
fn asked_for(state: &Snapshot, eval: &model::Evaluation, group: &str) -> BTreeMap<String, Resources> {
    let Some(job) = state.job(&eval.job) else { return BTreeMap::new() };
    let document = job.spec.document_value();
    let list =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |value: &Value| value.get("Name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let groups = list(&document, "TaskGroups");
    let Some(group) = groups.into_iter().find(|found| name(found) == group) else { return BTreeMap::new() };
    let resources = |task: &Value| api_types::from_value(task.get("Resources")?.clone()).ok();
    list(&group, "Tasks").iter().filter_map(|task| Some((name(task), resources(task)?))).collect()
}
