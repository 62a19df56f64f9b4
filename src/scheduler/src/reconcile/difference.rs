//! Whether moving an allocation to another version of its job needs a new one.

use model::{Job, Network, Task, TaskGroup};
use serde_json::Value;

/// Parts of a task that only the job's document has, and that a running task can not take over.
const TASK_KEYS: [&str; 8] =
    ["Vault", "Consul", "Identity", "Identities", "Secrets", "CSIPluginConfig", "Kind", "ScalingPolicies"];

/// Tells whether allocations of a group must be replaced to run another version of it.
pub(crate) fn needs_replacement(old: (&Job, &TaskGroup), new: (&Job, &TaskGroup)) -> bool {
    let ((old_job, old_group), (new_job, new_group)) = (old, new);
    if std::sync::Arc::ptr_eq(&old_job.spec, &new_job.spec) {
        return false;
    }
    old_group.ephemeral_disk != new_group.ephemeral_disk
        || old_group.volumes != new_group.volumes
        || networks_differ(&old_group.networks, &new_group.networks)
        || old_job.spec.affinities != new_job.spec.affinities
        || old_group.affinities != new_group.affinities
        || old_job.spec.spreads != new_job.spec.spreads
        || old_group.spreads != new_group.spreads
        || old_group.tasks.len() != new_group.tasks.len()
        || old_group.tasks.iter().any(|old_task| {
            match new_group.tasks.iter().find(|task| task.name == old_task.name) {
                None => true,
                Some(new_task) => {
                    task_differs(old_task, new_task)
                        || meta(old_job, old_group, old_task) != meta(new_job, new_group, new_task)
                }
            }
        })
        || documents_differ(old, new)
}

fn task_differs(old: &Task, new: &Task) -> bool {
    old.driver != new.driver
        || old.user != new.user
        || old.config != new.config
        || old.env != new.env
        || old.artifacts != new.artifacts
        || old.templates != new.templates
        || old.affinities != new.affinities
        || old.lifecycle != new.lifecycle
        || old.leader != new.leader
        || old.volume_mounts != new.volume_mounts
        || old.dispatch_payload != new.dispatch_payload
        || old.log_config.disabled != new.log_config.disabled
        || resources_differ(old, new)
}

fn resources_differ(old: &Task, new: &Task) -> bool {
    let (old, new) = (&old.resources, &new.resources);
    old.cpu != new.cpu
        || old.cores != new.cores
        || old.memory_mb != new.memory_mb
        || old.memory_max_mb != new.memory_max_mb
        || old.secrets_mb != new.secrets_mb
        || old.devices != new.devices
        || networks_differ(&old.networks, &new.networks)
}

fn networks_differ(old: &[Network], new: &[Network]) -> bool {
    old != new
}

fn meta<'a>(
    job: &'a Job,
    group: &'a TaskGroup,
    task: &'a Task,
) -> std::collections::BTreeMap<&'a str, &'a str> {
    let all = job.spec.meta.iter().chain(&group.meta).chain(&task.meta);
    all.map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// Compares what is not in the typed view.
fn documents_differ(
    (old_job, old_group): (&Job, &TaskGroup),
    (new_job, new_group): (&Job, &TaskGroup),
) -> bool {
    if old_job.spec.document() == new_job.spec.document() {
        return false;
    }
    let (old, new) = (old_job.spec.document_value(), new_job.spec.document_value());
    let (old, new) = (find(&old, "TaskGroups", &old_group.name), find(&new, "TaskGroups", &new_group.name));
    if connect(old) != connect(new) || part(old, "Consul") != part(new, "Consul") {
        return true;
    }
    old_group.tasks.iter().any(|task| {
        let (old, new) = (find(old, "Tasks", &task.name), find(new, "Tasks", &task.name));
        TASK_KEYS.iter().any(|key| part(old, key) != part(new, key))
    })
}

fn find<'a>(within: &'a Value, list: &str, name: &str) -> &'a Value {
    let items = within.get(list).and_then(Value::as_array);
    items
        .and_then(|items| items.iter().find(|item| item.get("Name").and_then(Value::as_str) == Some(name)))
        .unwrap_or(&Value::Null)
}

fn part<'a>(within: &'a Value, key: &str) -> &'a Value {
    within.get(key).unwrap_or(&Value::Null)
}

fn connect(group: &Value) -> Vec<&Value> {
    let services = part(group, "Services").as_array();
    services
        .into_iter()
        .flatten()
        .map(|service| part(service, "Connect"))
        .filter(|found| !found.is_null())
        .collect()
}
