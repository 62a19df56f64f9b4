//! What is allowed and still worth a word.

use super::{Errors, Limits};
use crate::object::{self, Object};

pub(super) fn collect(job: &Object, limits: &Limits) -> Vec<String> {
    let mut warnings = Vec::new();
    for group in object::children(job, "TaskGroups") {
        let found = group_warnings(group);
        if !found.0.is_empty() {
            warnings.push(format!(
                "Group {:?} has warnings: {}",
                object::text(group, "Name"),
                found.render()
            ));
        }
    }
    let promotes = |group: &Object| {
        object::child(group, "Update").is_some_and(|update| object::truth(update, "AutoPromote"))
    };
    let groups = object::list(job, "TaskGroups").len();
    let promoted = object::children(job, "TaskGroups").filter(|group| promotes(group)).count();
    if promoted > 0 && promoted < groups {
        warnings.push("auto_promote must be true for all groups to enable automatic promotion".into());
    }
    if object::child(job, "Periodic").is_some_and(|periodic| !object::text(periodic, "Spec").is_empty()) {
        warnings.push("cron is deprecated and may be removed in a future release. Use crons instead".into());
    }
    if !limits.memory_oversubscription {
        warnings.extend(memory_warnings(job));
    }
    warnings.extend(object::children(job, "TaskGroups").filter_map(shutdown_warning));
    warnings
}

fn memory_warnings(job: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    for group in object::children(job, "TaskGroups") {
        for task in object::children(group, "Tasks") {
            let asks = object::child(task, "Resources")
                .is_some_and(|resources| object::int(resources, "MemoryMaxMB") != 0);
            if asks {
                let name = format!("{}.{}", object::text(group, "Name"), object::text(task, "Name"));
                warnings.push(format!(
                    "Memory oversubscription is not enabled; Task {name:?} memory_max value will be ignored. Update the \
                     Scheduler Configuration to allow oversubscription."
                ));
            }
        }
    }
    warnings
}

/// A service that leaves the catalogue only when its task stops is still being called while it stops.
fn shutdown_warning(group: &Object) -> Option<String> {
    let waits = |holder: &Object| object::int(holder, "ShutdownDelay") > 0;
    let serves = |holder: &Object| !object::list(holder, "Services").is_empty();
    let served = serves(group) || object::children(group, "Tasks").any(serves);
    let waited = waits(group) || object::children(group, "Tasks").any(waits);
    (served && !waited).then(|| {
        let name = object::text(group, "Name");
        format!("group {name:?} defines services, but neither the group nor any of its tasks have shutdown_delay set")
    })
}

fn group_warnings(group: &Object) -> Errors {
    let mut warnings = Errors::default();
    if let Some(update) = object::child(group, "Update") {
        let (parallel, count) = (object::int(update, "MaxParallel"), object::int(group, "Count"));
        warnings.when(parallel > count && count > 1, || {
            format!(
                "Update max parallel count is greater than task group count ({parallel} > {count}). A destructive change \
                 would result in the simultaneous replacement of all allocations."
            )
        });
    }
    for task in object::children(group, "Tasks") {
        let found = task_warnings(task);
        warnings.nest(|| format!("Task {:?} has warnings", object::text(task, "Name")), found);
    }
    warnings
}

fn task_warnings(task: &Object) -> Errors {
    let mut warnings = Errors::default();
    let networked = |resources: &Object| !object::list(resources, "Networks").is_empty();
    warnings.when(object::child(task, "Resources").is_some_and(networked), || {
        "task network resources have been deprecated as of Nomad 0.12.0. Please configure networking via group network \
         block."
            .into()
    });
    for identity in object::children(task, "Identities") {
        let mut found = Errors::default();
        let name = object::text(identity, "Name");
        found.when(object::list(identity, "Audience").is_empty(), || {
            format!("Identity[{name}] identities without an audience are insecure")
        });
        found.when(object::int(identity, "TTL") == 0, || {
            format!("Identity[{name}] identities without an expiration are insecure")
        });
        warnings.group(found);
    }
    warnings
}
