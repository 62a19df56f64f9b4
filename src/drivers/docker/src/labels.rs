//! The labels of containers: what programs expect, and our own marks.

use std::collections::HashMap;

use driver::{TaskConfig, TaskId};

/// What programs look containers up by.
pub(crate) const ALLOC_ID: &str = "com.hashicorp.nomad.alloc_id";
/// Our mark: the launch. Only a container that carries it is ever touched.
pub(crate) const TASK: &str = "io.wayfarer.task";
/// Our mark: the node that made the container.
pub(crate) const NODE: &str = "io.wayfarer.node";
/// Our mark on a container that holds the network of an allocation open.
pub(crate) const NETWORK: &str = "io.wayfarer.network";

/// Labels that an operator may ask for by short name.
fn extra(task: &TaskConfig) -> [(&'static str, &str); 7] {
    [
        ("job_name", &task.job_name),
        ("job_id", &task.job_id),
        ("task_group_name", &task.group),
        ("task_name", task.task()),
        ("namespace", &task.namespace),
        ("node_name", &task.node_name),
        ("node_id", &task.node_id),
    ]
}

/// Decides the labels of a task's container. Labels of the job come first, so that they cannot hide ours.
pub(crate) fn of_task<'a>(
    task: &TaskConfig,
    wanted: &[String],
    own: impl Iterator<Item = (&'a String, &'a String)>,
) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> =
        own.map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, value) in extra(task) {
        if wanted.iter().any(|pattern| matches(pattern, name)) {
            labels.insert(format!("com.hashicorp.nomad.{name}"), value.to_owned());
        }
    }
    labels.insert(ALLOC_ID.to_owned(), task.alloc_id().to_owned());
    labels.insert(TASK.to_owned(), task.id.as_str().to_owned());
    labels.insert(NODE.to_owned(), task.node_id.clone());
    labels
}

/// Reads our mark.
pub(crate) fn task_id(labels: &HashMap<String, String>) -> Option<TaskId> {
    let text = labels.get(TASK)?;
    let (alloc_id, rest) = text.split_once('/')?;
    let (task, launch) = rest.rsplit_once('/')?;
    Some(TaskId::new(alloc_id, task, launch))
}

/// Tells whether a name fits a pattern in which `*` stands for any letters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(tail) = name.strip_prefix(head) else { return false };
    (0..=tail.len()).filter(|n| tail.is_char_boundary(*n)).any(|n| matches(rest, &tail[n..]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_job_cannot_hide_our_marks() {
        let task = crate::request::fixture(&serde_json::json!({"image": "x"}));
        let own = BTreeMap::from([(TASK.to_owned(), "mine".to_owned()), ("app".to_owned(), "x".to_owned())]);
        let labels = of_task(&task, &["task*".to_owned(), "job_id".to_owned()], own.iter());
        assert_eq!(labels["app"], "x");
        assert_eq!(labels[ALLOC_ID], task.alloc_id());
        assert_eq!(task_id(&labels), Some(task.id.clone()));
        assert_eq!(labels["com.hashicorp.nomad.task_group_name"], "grp");
        assert_eq!(labels["com.hashicorp.nomad.job_id"], "job");
        assert!(!labels.contains_key("com.hashicorp.nomad.namespace"));
    }
}
